package console_test

import (
	"crypto"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/doctor"
	"github.com/valetkey/valetkey/oauth/jose"
)

// hsm is a signer elsewhere, which can fail and hang.
type hsm struct {
	crypto.Signer
	fails atomic.Bool
	hangs atomic.Pointer[chan struct{}]
}

func newHSM(t *testing.T, alg jose.Algorithm) *hsm {
	t.Helper()
	private, err := jose.GenerateKey(alg)
	if err != nil {
		t.Fatal(err)
	}
	return &hsm{Signer: private}
}

func (h *hsm) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if hangs := h.hangs.Load(); hangs != nil {
		<-*hangs
	}
	if h.fails.Load() {
		return nil, errors.New("secret of the vendor")
	}
	return h.Signer.Sign(rand, digest, opts)
}

// What operators see of external signers that work, fail and hang: in the console, in the management API, at
// /readyz, and as findings of doctor.
func TestExternalKeysAreShown(t *testing.T) {
	rsa, ec := newHSM(t, jose.RS256), newHSM(t, jose.ES256)
	w := startWith(t, []authserver.ExternalKey{{ID: "hsm-rsa", Algorithm: jose.RS256, Signer: rsa}, {ID: "hsm-ec", Algorithm: jose.ES256, Signer: ec}})
	config := w.configuration
	config.Listen = strings.TrimPrefix(w.url, "http://")
	diagnose := func() (found []string) {
		t.Helper()
		report, err := doctor.Run(t.Context(), doctor.Options{Issuer: w.url, Configuration: &config})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range report.Findings {
			if strings.HasPrefix(f.Name, "signing.") || strings.HasPrefix(f.Name, "server.") {
				found = append(found, f.Name+": "+f.Seen)
			}
		}
		return found
	}
	failing := func() (ids []string) {
		t.Helper()
		list, err := w.root.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range list.Keys {
			if key.External != strings.HasPrefix(key.ID, "hsm") {
				t.Errorf("key %+v", key)
			}
			if key.Failing {
				ids = append(ids, key.ID)
			}
		}
		return ids
	}
	// check checks what is shown everywhere. id is the key that fails; "" for none.
	check := func(when, id string, findings ...string) {
		t.Helper()
		if found := diagnose(); !slices.Equal(found, findings) {
			t.Errorf("%s: doctor finds %q, want %q", when, found, findings)
		}
		var want []string
		if id != "" {
			want = []string{id}
		}
		for deadline := time.Now().Add(time.Minute); !slices.Equal(failing(), want); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the API has the failing keys %q, want %q", when, failing(), want)
			}
		}
		page := w.admin.get("/console/keys").want(http.StatusOK, "External")
		if shown := strings.Count(page.body, ">Fails<"); shown != len(want) {
			t.Errorf("%s: the console shows %d keys that fail", when, shown)
		}
		ready := w.admin.get("/readyz").want(http.StatusOK, "ready")
		if strings.Contains(ready.body, "signing: the external signer fails") != (id != "") {
			t.Errorf("%s: /readyz says\n%s", when, ready.body)
		}
		if strings.Contains(page.body+ready.body, "secret of the vendor") {
			t.Errorf("%s: the error of the signer is shown", when)
		}
	}
	check("works", "")
	rsa.fails.Store(true)
	check("fails", "hsm-rsa", "signing.external_failed: the last signature with hsm-rsa failed")
	rsa.fails.Store(false)
	check("works again", "")
	hang := make(chan struct{})
	ec.hangs.Store(&hang)
	// Nobody has noticed yet, and doctor does not wait until the server calls it failing.
	check("hangs", "hsm-ec", "signing.failed: the server cannot sign; its log has the reason")
	check("hangs still", "hsm-ec", "signing.external_failed: the last signature with hsm-ec failed")
	ec.hangs.Store(nil)
	close(hang)
	check("works at last", "")
}
