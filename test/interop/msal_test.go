package interop

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/storage/record"
)

// TestMSALNode signs in with Microsoft's library for Node.js. It accepts only https, and adds a
// query parameter to the token endpoint's URL.
func TestMSALNode(t *testing.T) {
	node := need(t, "node")
	dir := installNode(t, "msal")
	w := newHTTPSWorld(t, plainSecret, record.AccessTokenJWT)
	authorities := filepath.Join(t.TempDir(), "authorities.pem")
	if err := os.WriteFile(authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.certificate.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NODE_EXTRA_CA_CERTS", authorities)
	got := runScript(t, w, node, filepath.Join(dir, "signin.mjs"))
	if got.Subject == "" {
		t.Error("the ID token has no subject")
	}
	want := report{
		Subject: got.Subject, API: got.Subject, Rotated: true, APIRefreshed: got.Subject, APIService: serviceID,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the report (-want +got):\n%s", diff)
	}
}
