package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/storage/record"
)

// keyPlaces are where a process may find other master keys while it runs. The paths are relative to the
// directory of the test.
var keyPlaces = map[string]struct{ present, previous, members, environment string }{
	"next to the database": {present: "data/v.db.key", previous: "data/v.db.key.previous"},
	"files":                {present: "etc/present", previous: "etc/previous", members: "master_key_file: DIR/etc/present\n"},
	"systemd credentials":  {present: "credentials/valetkey.master_key", previous: "credentials/valetkey.previous_master_key", environment: "CREDENTIALS_DIRECTORY=DIR/credentials"},
}

// A server that runs, in its sandbox, gets the new and the previous master key by SIGHUP. Then the master key
// is rotated, and the server reads clients that are sealed with the new key; at another SIGHUP it forgets
// the previous one.
func TestSIGHUPReloadsMasterKeys(t *testing.T) {
	for name, place := range keyPlaces {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, directory := range []string{"data", "etc", "credentials"} {
				if err := os.Mkdir(filepath.Join(dir, directory), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			write := func(file, text string) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			first, second := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("1", 32))), base64.StdEncoding.EncodeToString([]byte(strings.Repeat("2", 32)))
			for file, key := range map[string]string{"first": first, "second": second, place.present: first} {
				write(file, key)
			}
			s := startProgram(t, dir, place.members, place.environment)
			// open opens the database as a command on the same machine does, with keys of its own.
			open := func(key, previous string) *database.Database {
				t.Helper()
				c := &configuration.Configuration{Database: "sqlite:" + filepath.Join(dir, "data", "v.db"), MasterKeyFile: filepath.Join(dir, key)}
				if previous != "" {
					c.PreviousMasterKeyFile = filepath.Join(dir, previous)
				}
				d, err := database.Open(t.Context(), c, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { d.Close() })
				return d
			}
			// works checks that the server reads the secret of a new client, sealed with the key in force.
			works := func(d *database.Database, id string) {
				t.Helper()
				secret := strings.Repeat("s", 32)
				client := &record.Client{ID: id, Secrets: []string{secret}}
				client.GrantTypes, client.Scope = []string{"client_credentials"}, "photos"
				if err := d.CreateClient(t.Context(), client); err != nil {
					t.Fatal(err)
				}
				s.wantToken(id, secret)
			}
			works(open("first", ""), "before")

			write(place.present, second)
			write(place.previous, first)
			if place.members != "" {
				s.configure(place.members + "previous_master_key_file: DIR/" + place.previous + "\n")
			}
			s.hangUp()
			both := open("second", "first")
			works(both, "with both keys")
			if _, err := both.RotateMasterKey(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			works(both, "rotated")

			if err := os.Remove(filepath.Join(dir, place.previous)); err != nil {
				t.Fatal(err)
			}
			if place.members != "" {
				s.configure(place.members)
			}
			s.hangUp()
			works(open("second", ""), "with the new key")
			// A key that opens nothing is not taken.
			write(place.present, base64.StdEncoding.EncodeToString([]byte(strings.Repeat("3", 32))))
			s.hangUp()
			if !strings.Contains(s.log.String(), "the server keeps its master keys") {
				t.Errorf("the log has no warning:\n%s", s.log)
			}
			works(open("second", ""), "with a wrong key in its place")
			for _, key := range []string{first, second, strings.TrimRight(first, "=")} {
				if strings.Contains(s.log.String(), key) {
					t.Error("the log contains a master key")
				}
			}
		})
	}
}

// program is a server in a process of its own.
type program struct {
	*testing.T
	dir, issuer string
	command     *exec.Cmd
	log         *sharedLog
	reloads     int
}

// startProgram starts a server with the database data/v.db in dir; DIR stands for dir.
func startProgram(t *testing.T, dir, members, environment string) *program {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &program{T: t, dir: dir, issuer: "http://" + listener.Addr().String(), log: &sharedLog{}}
	listener.Close()
	path := filepath.Join(dir, "valetkey") // TestMain runs the command of this name
	if err := os.Symlink(os.Args[0], path); err != nil {
		t.Fatal(err)
	}
	s.configure(members)
	s.command = exec.Command(path, "serve", "--config", filepath.Join(dir, "etc", "valetkey.yaml"))
	s.command.Env = append(os.Environ(), "VALETKEY_MASTER_KEY=", strings.ReplaceAll(environment, "DIR/", dir+"/"))
	s.command.Stdout, s.command.Stderr = s.log, s.log
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := s.command.Wait(); err != nil {
			t.Errorf("the server ended with %v\n%s", err, s.log)
		}
	})
	s.await("the server does not listen", func() bool { return strings.Contains(s.log.String(), "listening on") })
	return s
}

// configure writes the configuration.
func (s *program) configure(members string) {
	s.Helper()
	text := fmt.Sprintf("issuer: %s\nlisten: %s\ndatabase: sqlite:DIR/data/v.db\nscopes: [{name: photos}]\nresources: [{identifier: 'https://photos.example', scopes: [photos]}]\n%s",
		s.issuer, strings.TrimPrefix(s.issuer, "http://"), members)
	if err := os.WriteFile(filepath.Join(s.dir, "etc", "valetkey.yaml"), []byte(strings.ReplaceAll(text, "DIR/", s.dir+"/")), 0o600); err != nil {
		s.Fatal(err)
	}
}

// hangUp sends SIGHUP, and waits for the result.
func (s *program) hangUp() {
	s.Helper()
	if err := s.command.Process.Signal(syscall.SIGHUP); err != nil {
		s.Fatal(err)
	}
	s.reloads++
	s.await("the configuration is not read again", func() bool {
		return strings.Count(s.log.String(), "configuration reloaded") >= s.reloads
	})
}

func (s *program) await(what string, done func() bool) {
	s.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("%s\n%s", what, s.log)
		}
	}
}

// wantToken waits until the server knows a client, and gives it a token.
func (s *program) wantToken(client, secret string) {
	s.Helper()
	s.await(client+" gets no token", func() bool {
		request, err := http.NewRequest(http.MethodPost, s.issuer+"/token", strings.NewReader("grant_type=client_credentials&scope=photos"))
		if err != nil {
			s.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.SetBasicAuth(url.QueryEscape(client), url.QueryEscape(secret))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			s.Fatalf("%v\n%s", err, s.log)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return err == nil && response.StatusCode == http.StatusOK && strings.Contains(string(text), "access_token")
	})
}
