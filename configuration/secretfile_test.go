package configuration

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretsAreReadFromFiles(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"secret": "0123456789abcdef0123456789abcdef\n", "next": "fedcba9876543210fedcba9876543210\r\n",
		"password": " engine no. 1 ", "database": "sqlite::memory:\n", "empty": "\n", "lines": "a\nb\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil { // a mounted secret
			t.Fatal(err)
		}
	}
	file := strings.NewReplacer("DIR", folder).Replace("database_file: DIR/database\nclients:\n" +
		"  - {client_id: a, redirect_uris: [https://a.example/cb], client_secret_file: DIR/secret, client_secret_next_file: DIR/next}\n" +
		"users:\n  - {username: ada, password_file: DIR/password}\n")
	c, err := parse("v.yaml", []byte(file), true)
	if err != nil {
		t.Fatal(err)
	}
	if c.Database != "sqlite::memory:" || c.Clients[0].Secret != "0123456789abcdef0123456789abcdef" ||
		c.Clients[0].SecretNext != "fedcba9876543210fedcba9876543210" || c.Users[0].Password != " engine no. 1 " {
		t.Errorf("the files are read as %q, %q, %q and %q", c.Database, c.Clients[0].Secret, c.Clients[0].SecretNext, c.Users[0].Password)
	}
	if client := c.Clients[0].record(); client.Public() {
		t.Error("a client whose secret is in a file is public")
	}
	for from, want := range map[string]string{
		"DIR/secret": "v.yaml:3: clients[0].client_secret_file: open DIR/nothing: no such file",
	} {
		text := strings.ReplaceAll(file, strings.ReplaceAll(from, "DIR", folder), folder+"/nothing")
		expectError(t, text, strings.ReplaceAll(want, "DIR", folder))
	}
	for content, want := range map[string]string{"empty": "is empty", "lines": "has more than one line", ".": "is a directory"} {
		expectError(t, strings.ReplaceAll(file, folder+"/password", folder+"/"+content), "v.yaml:5: users[0].password_file: ")
		expectError(t, strings.ReplaceAll(file, folder+"/password", folder+"/"+content), want)
	}
	expectError(t, strings.ReplaceAll(file, "client_secret_file:", "client_secret: 0123456789abcdeX, client_secret_file:"), "set either this or the member without _file")
	expectError(t, file+"database: \"sqlite:other.db\"\n", "v.yaml:1: database_file: set either this")
}

func expectError(t *testing.T, file, want string) {
	t.Helper()
	if _, err := parse("v.yaml", []byte(file), true); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the error is\n%v\nwithout\n%s", err, want)
	}
}

// The table in the guide has the variables that the code reads, with their members.
func TestEveryEnvironmentVariableIsInTheGuide(t *testing.T) {
	guide, err := os.ReadFile("../docs/guides/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows int
	for line := range strings.Lines(string(guide)) {
		if strings.HasPrefix(line, "| `VALETKEY_") || strings.HasPrefix(line, "| `OTEL_") {
			rows++
		}
	}
	if variables := EnvironmentVariables(); rows != len(variables) {
		t.Errorf("the guide has %d variables, the code %d", rows, len(variables))
	}
	for _, variable := range EnvironmentVariables() {
		row := "| `" + variable.Name + "` | "
		if variable.Member != "" {
			row += "`" + variable.Member + "`"
		} else {
			row += "–"
		}
		if !strings.Contains(string(guide), row+" |") {
			t.Errorf("the guide does not have the row %s", row)
		}
	}
	// Nothing else in the program reads the environment, but $BROWSER and the variables of systemd,
	// which are not ours.
	known := func(text string) (n int) {
		for _, read := range []string{"os.Getenv(configuration.MasterKeyVariable)", "os.Getenv(configuration.PreviousMasterKeyVariable)", "os.Getenv(configuration.ClientSecretVariable)", "os.Getenv(configuration.ServerVariable)", "os.Getenv(configuration.APIVariable)", "os.Getenv(configuration.ClientIDVariable)", `os.Getenv("BROWSER")`, `os.Getenv("NOTIFY_SOCKET")`, `os.Getenv("WATCHDOG_`, `os.Getenv("LISTEN_`, `os.Getenv("CREDENTIALS_DIRECTORY")`, ".overlay(os.LookupEnv)", "os.LookupEnv(name)"} {
			n += strings.Count(text, read)
		}
		return n
	}
	forTests := map[string]bool{"pgtest": true, "chromium": true}
	for _, pattern := range []string{"../*.go", "*.go", "../cmd/*/*.go", "../internal/*/*.go", "../authserver/*.go", "../identity/*.go", "../ui/*.go", "../storage/*/*.go", "../oauth/*.go", "../oauth/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(name, "_test.go") || name == "environment.go" || forTests[filepath.Base(filepath.Dir(name))] {
				continue
			}
			if bytes.HasPrefix(text, []byte("//go:build profile\n")) { // only in builds for measurements
				continue
			}
			reads := strings.Count(string(text), "os.Getenv(") + strings.Count(string(text), "os.LookupEnv") + strings.Count(string(text), "os.Environ(")
			if strings.Contains(string(text), `"VALETKEY_`) || reads > known(string(text)) {
				t.Errorf("%s reads the environment: add the variable to environment.go", name)
			}
		}
	}
}
