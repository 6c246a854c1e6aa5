package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/configuration"
)

// A systemd credential has the mode 0440, because of an ACL, and is read by the user of its unit alone.
func TestASystemdCredentialIsNotReadableByOthers(t *testing.T) {
	directory := t.TempDir()
	credential := filepath.Join(directory, "valetkey.master_key")
	if err := os.WriteFile(credential, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	findings := func(mode os.FileMode) int {
		t.Helper()
		if err := os.Chmod(credential, mode); err != nil {
			t.Fatal(err)
		}
		r := &run{options: Options{Configuration: &configuration.Configuration{Database: "postgres://127.0.0.1/valetkey", MasterKeyFile: credential}}, replace: strings.NewReplacer(), report: &Report{}}
		r.checkFiles(t.Context())
		return len(r.report.Findings)
	}
	if findings(0o440) == 0 {
		t.Error("a file of mode 0440 elsewhere is not found")
	}
	t.Setenv("CREDENTIALS_DIRECTORY", directory)
	if findings(0o440) != 0 {
		t.Error("the credential is called readable by others")
	}
	if findings(0o444) == 0 || findings(0o460) == 0 {
		t.Error("a credential that others can use is not found")
	}
}
