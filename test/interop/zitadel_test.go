package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/storage/record"
)

// TestZitadelOIDC uses the relying party and the resource server of zitadel/oidc with one declared
// client that has no token_endpoint_auth_method.
func TestZitadelOIDC(t *testing.T) {
	program := filepath.Join(t.TempDir(), "zitadel")
	// It is a separate module, so that its dependencies are not the server's.
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = "zitadel"
	build.Env = append(os.Environ(), "GOWORK=off")
	if err := run(build); err != nil {
		unavailable(t, "zitadel/oidc cannot be built: %v", err)
	}
	w := newWorld(t, oddSecret, record.AccessTokenOpaque)
	got := runScript(t, w, program)
	if got.Subject == "" {
		t.Error("the ID token has no subject")
	}
	want := report{
		Subject: got.Subject, Name: "Alice Example", Email: "alice@example.com", API: got.Subject, Rotated: true,
		APIRefreshed: got.Subject, ActiveBefore: true, ActiveAfter: false, APIAfter: 401, Refusal: "invalid_grant",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the report (-want +got):\n%s", diff)
	}
}
