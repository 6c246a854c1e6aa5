package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey"
)

const reloadHead = "issuer: http://127.0.0.1:8080\ndatabase: \"sqlite::memory:\"\n"

const (
	clientA = "  - {client_id: a, redirect_uris: [\"http://127.0.0.1/cb\"]}\n"
	clientB = "  - {client_id: b, redirect_uris: [\"http://127.0.0.1/cb\"]}\n"
	bothOf  = reloadHead + "clients:\n" + clientA + clientB
)

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.text.Reset()
	return b.text.String()
}

// reloadWorld is a server that watches a file, in a synctest bubble with fake time.
type reloadWorld struct {
	*testing.T
	path   string
	server *valetkey.Server
	log    safeBuffer
	hangup chan os.Signal
	level  slog.LevelVar
}

// withReload runs a server with a file of two clients.
func withReload(t *testing.T, text string, test func(w *reloadWorld)) {
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &reloadWorld{T: t, path: filepath.Join(folder, "valetkey.yaml"), hangup: make(chan os.Signal, 1)}
		w.write(text)
		command := serveCommand{Config: w.path}
		config, before, err := command.read()
		if err != nil {
			t.Fatal(err)
		}
		command.running = config
		log := slog.New(slog.NewTextHandler(&w.log, nil))
		w.server, err = valetkey.New(valetkey.Config{Configuration: config, Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			command.reload(ctx, before, w.hangup, nil, w.server, log, &w.level)
			close(ended)
		}()
		synctest.Wait()
		w.log.take()
		test(w)
		cancel()
		<-ended
		if err := w.server.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (w *reloadWorld) write(text string) {
	w.Helper()
	if err := os.WriteFile(w.path, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// known returns which of the clients a and b the server knows: "a", "b", "ab" or "".
func (w *reloadWorld) known() string {
	w.Helper()
	var known string
	for _, id := range []string{"a", "b"} {
		query := url.Values{"client_id": {id}, "redirect_uri": {"http://127.0.0.1/cb"}, "response_type": {"code"}, "code_challenge": {strings.Repeat("a", 43)}, "code_challenge_method": {"S256"}}
		recorder := httptest.NewRecorder()
		w.server.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8080/authorize?"+query.Encode(), nil))
		if recorder.Code == http.StatusSeeOther {
			known += id
		}
	}
	return known
}

func (w *reloadWorld) readyz() string {
	w.Helper()
	recorder := httptest.NewRecorder()
	w.server.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8080/readyz", nil))
	if recorder.Code != http.StatusOK {
		w.Errorf("/readyz returns %d", recorder.Code)
	}
	return recorder.Body.String()
}

// settled waits until a change must have been applied.
func settled() {
	time.Sleep(settleTime + 3*lookEvery + time.Second)
	synctest.Wait()
}

// refused checks that both clients are known, and that log and readiness report the reason.
func (w *reloadWorld) refused(detail, logged string) {
	w.Helper()
	settled()
	log := w.log.take()
	if known := w.known(); known != "ab" || !strings.Contains(log, "the previous configuration stays in force") || !strings.Contains(log, "ERROR") || !strings.Contains(log, logged) {
		w.Errorf("known: %q, the log:\n%s\nwithout %q", known, log, logged)
	}
	if ready := w.readyz(); !strings.HasPrefix(ready, "ready\n") || !strings.Contains(ready, "configuration: ") || !strings.Contains(ready, detail) {
		w.Errorf("/readyz says\n%swithout %q", ready, detail)
	}
}

// applied checks which clients are known, and that readiness reports no problem.
func (w *reloadWorld) applied(want string) {
	w.Helper()
	settled()
	if known := w.known(); known != want {
		w.Errorf("known: %q, not %q; the log:\n%s", known, want, w.log.take())
	}
	if ready := w.readyz(); ready != "ready\n" {
		w.Errorf("/readyz says\n%s", ready)
	}
}

func TestOP01_AFileThatMustNotBeAppliedChangesNothing(t *testing.T) {
	withReload(t, bothOf, func(w *reloadWorld) {
		for _, test := range []struct{ text, detail, logged string }{
			{"", "is empty", "contains only comments"},
			{"\n\n# clients:\n", "is empty", "contains only comments"},
			{"clients: [", "has an error", "valetkey.yaml:2"},
			{bothOf + "nonsense: true\n", "has an error", "unknown key"},
			{strings.Replace(bothOf, "http://127.0.0.1/cb", "http://app.example.com/cb", 1), "has an error", "valetkey.yaml:4"},
			{"issuer: http://127.0.0.1:8080\nlog: {format: json}\ndatabase: \"sqlite::memory:\"\nclients:\n" + clientA, "need a restart", "log"},
			{strings.TrimSuffix(bothOf, "\n"), "looks incomplete", "newline"},
			{bothOf[:len(reloadHead)+len("clients:\n"+clientA)-1], "looks incomplete", "newline"},
			{reloadHead, "looks incomplete", "the section clients is missing"},
			{reloadHead + "clients:\n", "looks incomplete", "the section clients is missing"},
		} {
			w.write(test.text)
			w.refused(test.detail, test.logged)
		}
		w.write(bothOf)
		w.applied("ab")
	})
}

// The log level is the one setting that a running server takes from the file.
func TestTheLogLevelIsReloaded(t *testing.T) {
	withReload(t, bothOf, func(w *reloadWorld) {
		if w.level.Level() != slog.LevelInfo {
			t.Errorf("the level is %v", w.level.Level())
		}
		w.write("log: {level: debug}\n" + bothOf)
		w.applied("ab")
		if w.level.Level() != slog.LevelDebug {
			t.Errorf("the level is %v after the change", w.level.Level())
		}
		w.write("log: {level: nonsense}\n" + bothOf)
		w.refused("has an error", "log.level")
		w.write("log: {level: error, format: json}\n" + bothOf)
		w.refused("need a restart", "log")
		if w.level.Level() != slog.LevelDebug {
			t.Errorf("the level is %v after a file that was refused", w.level.Level())
		}
		w.write(bothOf)
		w.applied("ab")
		if w.level.Level() != slog.LevelInfo {
			t.Errorf("the level is %v when the file names none", w.level.Level())
		}
	})
}

func TestOP01_TheFirstHalfOfAFileIsNeverApplied(t *testing.T) {
	withReload(t, bothOf, func(w *reloadWorld) {
		half := reloadHead + "clients:\n" + clientB
		for range 3 {
			w.write(half)
			for range 10 { // a second, looked at all the time
				time.Sleep(100 * time.Millisecond)
				if known := w.known(); known != "ab" {
					t.Fatalf("while the file is written, the server knows %q", known)
				}
			}
			file, err := os.OpenFile(w.path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteString(clientA); err != nil {
				t.Fatal(err)
			}
			file.Close()
		}
		w.applied("ab")
		if log := w.log.take(); strings.Contains(log, "ERROR") {
			t.Errorf("the log says\n%s", log)
		}
	})
}

func TestOP01_AFileThatKeepsChangingIsNotApplied(t *testing.T) {
	withReload(t, bothOf, func(w *reloadWorld) {
		text := reloadHead + "clients:\n" + clientA
		for range 70 {
			text += "# more\n"
			w.write(text)
			time.Sleep(time.Second)
		}
		if log, ready := w.log.take(), w.readyz(); w.known() != "ab" || strings.Count(log, "keeps changing") != 1 || !strings.Contains(ready, "keeps changing") {
			t.Errorf("known: %q, the log:\n%s/readyz:\n%s", w.known(), log, ready)
		}
		w.applied("a")
	})
}

// Editors and tools replace files in different ways.
func TestOP01_WaysToReplaceAFile(t *testing.T) {
	onlyB := reloadHead + "clients:\n" + clientB
	for name, replace := range map[string]func(w *reloadWorld){
		"truncated and written": func(w *reloadWorld) { w.write(onlyB) },
		"sops -d into it": func(w *reloadWorld) {
			w.write("")
			time.Sleep(1500 * time.Millisecond)
			w.write(onlyB)
		},
		"vim: renamed to a backup, written, backup removed": func(w *reloadWorld) {
			w.do(os.Rename(w.path, w.path+"~"))
			time.Sleep(300 * time.Millisecond)
			w.write(onlyB)
			w.do(os.Remove(w.path + "~"))
		},
		"written elsewhere and renamed": func(w *reloadWorld) {
			w.do(os.WriteFile(w.path+".new", []byte(onlyB), 0o600))
			w.do(os.Rename(w.path+".new", w.path))
		},
		"renamed, with the size and times of the old one": func(w *reloadWorld) {
			info, err := os.Stat(w.path)
			w.do(err)
			text := onlyB + strings.Repeat("#", int(info.Size())-len(onlyB)-1) + "\n"
			w.do(os.WriteFile(w.path+".new", []byte(text), 0o600))
			w.do(os.Chtimes(w.path+".new", info.ModTime(), info.ModTime()))
			w.do(os.Rename(w.path+".new", w.path))
		},
		"gone for a second": func(w *reloadWorld) {
			w.do(os.Remove(w.path))
			time.Sleep(time.Second)
			w.write(onlyB)
		},
		"gone for longer": func(w *reloadWorld) {
			w.do(os.Remove(w.path))
			w.refused("cannot be read", "no such file")
			w.write(onlyB)
		},
		"unreadable for a while": func(w *reloadWorld) {
			w.do(os.Remove(w.path))
			w.do(os.Symlink(w.path, w.path)) // root reads everything else
			w.refused("cannot be read", "too many levels")
			w.do(os.Remove(w.path))
			w.write(onlyB)
		},
	} {
		t.Run(name, func(t *testing.T) {
			withReload(t, bothOf, func(w *reloadWorld) {
				replace(w)
				w.applied("b")
			})
		})
	}
}

func (w *reloadWorld) do(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// Kubernetes replaces the link ..data with one to another directory, and removes the old
// directory.
func TestOP01_AConfigMapIsSwapped(t *testing.T) {
	withReload(t, bothOf, func(w *reloadWorld) {
		folder := filepath.Dir(w.path)
		version := func(name, text string) {
			w.do(os.Mkdir(filepath.Join(folder, name), 0o755))
			w.do(os.WriteFile(filepath.Join(folder, name, "valetkey.yaml"), []byte(text), 0o600))
			w.do(os.Symlink(name, filepath.Join(folder, "..data_tmp")))
			w.do(os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")))
		}
		version("..2026_1", bothOf)
		w.do(os.Remove(w.path))
		w.do(os.Symlink("..data/valetkey.yaml", w.path))
		w.applied("ab")
		version("..2026_2", reloadHead+"clients:\n"+clientA)
		w.do(os.RemoveAll(filepath.Join(folder, "..2026_1")))
		w.applied("a")
	})
}

func TestSIGHUPAppliesAFileThatLooksIncomplete(t *testing.T) {
	withReload(t, bothOf, func(w *reloadWorld) {
		w.write(strings.TrimSuffix(reloadHead+"clients:\n"+clientB, "\n"))
		w.refused("looks incomplete", "send SIGHUP")
		w.hangup <- syscall.SIGHUP
		w.applied("b")
		if log := w.log.take(); !strings.Contains(log, "configuration reloaded") {
			t.Errorf("the log says\n%s", log)
		}
		// It does not apply an invalid file.
		w.write("")
		settled()
		w.log.take()
		w.hangup <- syscall.SIGHUP
		settled()
		if known := w.known(); known != "b" {
			t.Errorf("after SIGHUP with an empty file, the server knows %q", known)
		}
	})
}

// A file that contains a secret is part of the configuration.
func TestAChangedSecretFileIsApplied(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("a", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := reloadHead + "clients:\n  - {client_id: a, redirect_uris: [\"http://127.0.0.1/cb\"], client_secret_file: " + secret + "}\n"
	withReload(t, file, func(w *reloadWorld) {
		authenticates := func(secret string) bool {
			r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8080/introspect", strings.NewReader("token=x"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.SetBasicAuth("a", secret)
			recorder := httptest.NewRecorder()
			w.server.ServeHTTP(recorder, r)
			return recorder.Code == http.StatusOK
		}
		for _, letter := range []string{"b", "c"} {
			w.do(os.WriteFile(secret, []byte(strings.Repeat(letter, 32)+"\n"), 0o600))
			w.applied("a")
			if !authenticates(strings.Repeat(letter, 32)) || authenticates(strings.Repeat("a", 32)) {
				t.Errorf("with %s in the file, the log says\n%s", letter, w.log.take())
			}
		}
		w.do(os.WriteFile(secret, nil, 0o600))
		settled()
		if log := w.log.take(); !strings.Contains(log, "is empty") || !authenticates(strings.Repeat("c", 32)) {
			t.Errorf("with an empty file, the log says\n%s", log)
		}
		// A missing secret file is watched as well.
		w.write(strings.ReplaceAll(file, secret, secret+"2"))
		settled()
		settled()
		w.do(os.WriteFile(secret+"2", []byte(strings.Repeat("d", 32)), 0o600))
		w.applied("a")
		if !authenticates(strings.Repeat("d", 32)) {
			t.Errorf("the log says\n%s", w.log.take())
		}
	})
}

// Opening a pipe blocks until a program writes to it, and no later change would be applied.
func TestOP01_APipeThatReplacesTheFileDoesNotBlock(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "valetkey.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := readStable(pipe, stampOf(pipe))
		read <- err
	}()
	select {
	case err := <-read:
		if !errors.Is(err, errNotRegular) {
			t.Errorf("the error is %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the server waits for the pipe")
	}
}

// The file was never applied, so only its modification time shows that it is older.
func TestOP04_AFileModifiedEarlierIsOlderAtStart(t *testing.T) {
	folder := t.TempDir()
	head := "issuer: http://127.0.0.1:8080\ndatabase: \"sqlite:" + filepath.Join(folder, "db") + "\"\nclients:\n"
	now := time.Now()
	for _, node := range []struct {
		text, known string
		modified    time.Time
	}{
		{clientA, "a", now.Add(-time.Hour)},
		{clientB, "a", now.Add(-2 * time.Hour)},
		{clientB, "b", now.Add(-time.Minute)},
	} {
		path := filepath.Join(folder, "valetkey.yaml")
		if err := errors.Join(os.WriteFile(path, []byte(head+node.text), 0o600), os.Chtimes(path, node.modified, node.modified)); err != nil {
			t.Fatal(err)
		}
		config, _, err := (&serveCommand{Config: path}).read()
		if err != nil {
			t.Fatal(err)
		}
		w := reloadWorld{T: t}
		if w.server, err = valetkey.New(valetkey.Config{Configuration: config, Logger: slog.New(slog.DiscardHandler)}); err != nil {
			t.Fatal(err)
		}
		if known := w.known(); known != node.known {
			t.Errorf("with a file of %v, the server knows %q, not %q", node.modified, known, node.known)
		}
		if err := w.server.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOP01_StartWaitsOnlyForTheRestOfTheSettleTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "valetkey.yaml")
	if err := os.WriteFile(path, []byte(bothOf), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		for age, most := range map[time.Duration]time.Duration{
			0: settleTime + lookEvery, 1500 * time.Millisecond: 500*time.Millisecond + lookEvery, settleTime: 0,
			-time.Hour: settleTime + lookEvery, // by another machine's clock
		} {
			began := time.Now()
			if err := os.Chtimes(path, began, began.Add(-age)); err != nil {
				t.Fatal(err)
			}
			if err := waitSettled(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began); waited > most || age > 0 && waited+age < settleTime {
				t.Errorf("%v after the file was modified, the start waits %v", age, waited)
			}
		}
		now := time.Now()
		if err := os.Chtimes(path, now, now); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() {
			if err := os.Chtimes(path, time.Now(), time.Now()); err != nil {
				t.Error(err)
			}
		})
		if err := waitSettled(t.Context(), path); err != nil || time.Since(now) < time.Second+settleTime {
			t.Errorf("a file that keeps changing is read after %v, %v", time.Since(now), err)
		}
	})
}

func TestAPipeThatNamesSecretFilesIsReadOnce(t *testing.T) {
	folder := t.TempDir()
	secret, pipe := filepath.Join(folder, "secret"), filepath.Join(folder, "pipe")
	if err := os.WriteFile(secret, []byte(strings.Repeat("a", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		config, _, err := (&serveCommand{Config: pipe}).read()
		if err == nil && len(config.Clients) != 1 {
			err = errors.New("it has no client")
		}
		read <- err
	}()
	file, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteString(reloadHead + "clients:\n  - {client_id: a, redirect_uris: [\"http://127.0.0.1/cb\"], client_secret_file: " + secret + "}\n")
	if closeErr := file.Close(); err != nil || closeErr != nil {
		t.Fatal(err, closeErr)
	}
	select {
	case err := <-read:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the pipe is read a second time")
	}
}

func TestAnEmptyListIsComplete(t *testing.T) {
	withReload(t, bothOf, func(w *reloadWorld) {
		w.write(reloadHead + "clients: []\n")
		w.applied("")
	})
}
