package ldap

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity/directory"
)

// fromGuide returns a directory of docs/guides/ldap.md, with the addresses and files of a test.
func fromGuide(t *testing.T, heading, password string, replace ...string) directory.Config {
	t.Helper()
	guide, err := os.ReadFile("../../docs/guides/ldap.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(guide), "\n## "+heading+"\n")
	_, block, isYAML := strings.Cut(section, "```yaml\n")
	if !found || !isYAML {
		t.Fatalf("the guide has no configuration for %s", heading)
	}
	block, _, _ = strings.Cut(block, "```")
	folder := t.TempDir()
	secret := filepath.Join(folder, "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	replace = append(replace, "/etc/valetkey/corp.password", secret, "/etc/valetkey/office.password", secret)
	file := filepath.Join(folder, "valetkey.yaml")
	if err := os.WriteFile(file, []byte("issuer: http://127.0.0.1:8080\n"+strings.NewReplacer(replace...).Replace(block)), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := configuration.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return config.Directories[0]
}

func TestGuide(t *testing.T) {
	s := startSlapd(t)
	config := fromGuide(t, "OpenLDAP", "service-7f3a91c4", "ldap://ldap.corp.example", s.plain, "/etc/valetkey/corp-ca.pem", s.authority)
	if !signedIn(t, serve(t, []directory.Config{config}, nil), "alice", userPassword) {
		t.Error("the configuration of the guide does not work")
	}
}

// The steps of a test name everything but secrets, and say where a sign-in ends.
func TestTrace(t *testing.T) {
	s := startSlapd(t)
	directories, err := directory.New([]directory.Config{openLDAP(s)}, directory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer directories.Close()
	at := directories.Directory("corp")
	trace, err := at.Test(t.Context(), "alice", userPassword)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, step := range trace.Steps {
		names = append(names, step.Name)
		if strings.Contains(step.Detail, userPassword) || strings.Contains(step.Detail, "service-7f3a91c4") {
			t.Errorf("a secret in %v", step)
		}
	}
	if got := strings.Join(names, " "); got != "connect bind search user connect bind groups claims rule" {
		t.Errorf("steps: %s", got)
	}
	for name, password := range map[string]string{"nobody": "", "alice": "wrong"} {
		if _, err := at.Test(t.Context(), name, password); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
