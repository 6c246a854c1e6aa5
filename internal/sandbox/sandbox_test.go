package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/configuration"
)

// deeds is what the restricted process tries, by name. The first part of a name is the outcome.
func deeds(dir string) map[string]func() error {
	in := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	read := func(path string) func() error {
		return func() error { _, err := os.ReadFile(path); return err }
	}
	write := func(path string) func() error {
		return func() error { return os.WriteFile(path, []byte("x"), 0o600) }
	}
	return map[string]func() error{
		"allowed: read the configuration":             read(in("etc", "valetkey.yaml")),
		"allowed: read a replaced configuration":      replaced(in("etc", "valetkey.yaml")),
		"allowed: read a certificate through a link":  read(in("live", "cert.pem")),
		"allowed: read what the link points to later": relinked(in("live", "cert.pem"), in("archive", "cert2.pem")),
		"allowed: create a file next to the database": write(in("data", "v.db-wal")),
		"allowed: remove it":                          func() error { return os.Remove(in("data", "v.db-wal")) },
		"allowed: write a temporary file": func() error {
			f, err := os.CreateTemp("", "x")
			return errors.Join(err, f.Close(), os.Remove(f.Name()))
		},
		"allowed: read a further directory": read(in("more", "file")),
		"allowed: resolve names":            read("/etc/hosts"),
		"allowed: connect": func() error {
			c, err := net.Dial("tcp", os.Getenv("SANDBOX_TEST_ADDRESS"))
			return errors.Join(err, c.Close())
		},
		"forbidden: read another directory":            read(in("home", "file")),
		"forbidden: write to another directory":        write(in("home", "new")),
		"forbidden: change the configuration":          write(in("etc", "valetkey.yaml")),
		"forbidden: write to the system":               write("/etc/valetkey-sandbox-test"),
		"forbidden: run a program":                     func() error { return exec.Command("/bin/true").Run() },
		"forbidden: link to a secret in a further one": func() error { return os.Symlink(in("home", "file"), in("data", "link")) },
	}
}

// replaced waits for nothing: the parent has replaced the file after the restriction.
func replaced(path string) func() error {
	return func() error {
		text, err := os.ReadFile(path)
		if err == nil && string(text) != "new" {
			return fmt.Errorf("the file is %q", text)
		}
		return err
	}
}

func relinked(path, target string) func() error {
	return func() error {
		text, err := os.ReadFile(path)
		if want, _ := filepath.EvalSymlinks(path); want != target {
			return fmt.Errorf("the link points to %s", want)
		}
		if err == nil && string(text) != "renewed" {
			return fmt.Errorf("the file is %q", text)
		}
		return err
	}
}

// TestRestrict runs this test as a process that restricts itself.
func TestRestrict(t *testing.T) {
	if dir := os.Getenv("SANDBOX_TEST_DIR"); dir != "" {
		child(t, dir)
		return
	}
	// Temporary directories are allowed, so this one must be elsewhere.
	working, err := os.Getwd()
	if slices.ContainsFunc(temporaryDirectories(), func(d string) bool { return strings.HasPrefix(working, d+"/") }) {
		working, err = os.UserHomeDir() // a clone in a temporary directory
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(working, "testdata-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for path, text := range map[string]string{
		"etc/valetkey.yaml": "old", "archive/cert1.pem": "certificate", "archive/cert2.pem": "renewed", "data/v.db": "", "more/file": "x", "home/file": "secret", "live/key.pem": "",
	} {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "live", "cert.pem")
	if err := os.Symlink("../archive/cert1.pem", link); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	command := exec.Command(os.Args[0], "-test.run=^TestRestrict$", "-test.v")
	command.Env = append(os.Environ(), "SANDBOX_TEST_DIR="+dir, "SANDBOX_TEST_ADDRESS="+listener.Addr().String())
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	// The child says when it is restricted. Then files are replaced, as editors and certbot do.
	output := make([]byte, 1000)
	n, err := out.Read(output)
	for err == nil && !strings.Contains(string(output[:n]), "level") {
		var more int
		more, err = out.Read(output[n:])
		n += more
	}
	if strings.Contains(string(output[:n]), "level none") {
		in.Close()
		t.Log("this kernel has no Landlock: only that it is no error was tested")
		if err := command.Wait(); err != nil {
			t.Error(err)
		}
		return
	}
	replacement := filepath.Join(dir, "etc", "replacement")
	second := filepath.Join(dir, "live", "second")
	if err := errors.Join(os.WriteFile(replacement, []byte("new"), 0o600), os.Rename(replacement, filepath.Join(dir, "etc", "valetkey.yaml")),
		os.Symlink("../archive/cert2.pem", second), os.Rename(second, link)); err != nil {
		t.Fatal(err)
	}
	in.Close()
	rest := make([]byte, 10_000)
	count := 0
	for err == nil {
		var more int
		more, err = out.Read(rest[count:])
		count += more
	}
	if err := command.Wait(); err != nil {
		t.Errorf("%v\n%s%s", err, output[:n], rest[:count])
	}
}

func child(t *testing.T, dir string) {
	c := &configuration.Configuration{
		Database: "sqlite:" + filepath.Join(dir, "data", "v.db"),
		TLS:      &configuration.TLS{Certificate: filepath.Join(dir, "live", "cert.pem"), Key: filepath.Join(dir, "live", "key.pem")},
		Sandbox:  configuration.Sandbox{Read: []string{filepath.Join(dir, "more"), "/nonexistent"}},
	}
	level, err := Restrict(PolicyOf(c, filepath.Join(dir, "etc", "valetkey.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("level", level)
	os.Stdin.Read(make([]byte, 1)) // until the parent has replaced the files
	if level == 0 {
		return
	}
	names := make([]string, 0)
	all := deeds(dir)
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		err := all[name]()
		switch {
		case strings.HasPrefix(name, "allowed: ") && err != nil:
			t.Errorf("%s: %v", name, err)
		case strings.HasPrefix(name, "forbidden: ") && !errors.Is(err, fs.ErrPermission):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPolicyOf(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "secrets", "smtp")
	if err := errors.Join(os.MkdirAll(filepath.Dir(key), 0o700), os.WriteFile(key, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	c := &configuration.Configuration{
		Issuer: "https://login.example.com", Database: "sqlite:" + filepath.Join(dir, "data.db"),
		Mail: &configuration.Mail{SMTP: &configuration.SMTP{Host: "/", PasswordFile: key}},
	}
	p := PolicyOf(c, "")
	if !slices.Contains(p.Read, filepath.Dir(key)) {
		t.Errorf("the password of the mail server cannot be read: %v", p.Read)
	}
	if slices.Contains(existing(p.Read), "/") {
		t.Error("everything can be read")
	}
	if !slices.Contains(p.Write, dir) {
		t.Errorf("the database cannot be written: %v", p.Write)
	}
}
