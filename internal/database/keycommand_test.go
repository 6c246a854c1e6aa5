package database

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/configuration"
)

var keyInText = base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))

func TestMasterKeyFromACommand(t *testing.T) {
	t.Setenv(configuration.MasterKeyVariable, "")
	c := &configuration.Configuration{Database: "postgres://127.0.0.1/valetkey", MasterKeyCommand: []string{"printf", "%s\n", keyInText}}
	key, create, err := findMasterKey(c)
	if err != nil || create != "" || string(key) != "0123456789abcdef0123456789abcdef" {
		t.Errorf("key %q, %q, %v", key, create, err)
	}
	for name, test := range map[string]struct {
		command []string
		want    string
	}{
		"missing":        {[]string{"/nonexistent/age"}, "/nonexistent/age"},
		"fails":          {[]string{"sh", "-c", "echo " + keyInText + "; echo no identity matched >&2; exit 3"}, "exit status 3: no identity matched"},
		"not a key":      {[]string{"echo", "hunter2-hunter2"}, "32 bytes in base64"},
		"prints a lot":   {[]string{"head", "-c", "2000000", "/dev/zero"}, "more than a key"},
		"prints nothing": {[]string{"true"}, "32 bytes in base64"},
	} {
		c.MasterKeyCommand = test.command
		_, _, err := findMasterKey(c)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), keyInText) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: the error contains what the command printed: %v", name, err)
		}
	}
}

func TestMasterKeyFromASystemdCredential(t *testing.T) {
	t.Setenv(configuration.MasterKeyVariable, "")
	directory := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", directory)
	c := &configuration.Configuration{Database: "postgres://127.0.0.1/valetkey"}
	if _, _, err := findMasterKey(c); err == nil || !strings.Contains(err.Error(), "PostgreSQL requires a master key") {
		t.Errorf("without the credential: %v", err)
	}
	if err := os.WriteFile(filepath.Join(directory, masterKeyCredential), []byte(keyInText+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	if key, _, err := findMasterKey(c); err != nil || string(key) != "0123456789abcdef0123456789abcdef" {
		t.Errorf("key %q, %v", key, err)
	}
	// systemd 254 and later: the user of the unit has access by an ACL, which looks like access of the group.
	credential := filepath.Join(directory, masterKeyCredential)
	if err := os.Chmod(credential, 0o440); err != nil {
		t.Fatal(err)
	}
	if key, _, err := findMasterKey(c); err != nil || string(key) != "0123456789abcdef0123456789abcdef" {
		t.Errorf("mode 0440: key %q, %v", key, err)
	}
	// A unit can also pass the path of the credential.
	named := &configuration.Configuration{Database: c.Database, MasterKeyFile: credential}
	if _, _, err := findMasterKey(named); err != nil {
		t.Errorf("mode 0440, by its path: %v", err)
	}
	for _, mode := range []os.FileMode{0o444, 0o460, 0o404} {
		if err := os.Chmod(credential, mode); err != nil {
			t.Fatal(err)
		}
		if _, _, err := findMasterKey(c); err == nil || !strings.Contains(err.Error(), "readable by other users") {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	// A setting of Valetkey comes first.
	c.MasterKeyCommand = []string{"echo", base64.StdEncoding.EncodeToString(make([]byte, 32))}
	if key, _, err := findMasterKey(c); err != nil || string(key) != string(make([]byte, 32)) {
		t.Errorf("key %q, %v", key, err)
	}
}
