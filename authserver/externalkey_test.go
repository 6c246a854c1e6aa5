package authserver_test

import (
	"crypto"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// elsewhere is a signer whose type says nothing about its key, as that of an HSM.
type elsewhere struct {
	private crypto.Signer
	calls   atomic.Int64
	fail    atomic.Pointer[error]
	hang    atomic.Pointer[chan struct{}]
}

func newElsewhere(t *testing.T, alg jose.Algorithm) *elsewhere {
	t.Helper()
	private, err := jose.GenerateKey(alg)
	if err != nil {
		t.Fatal(err)
	}
	return &elsewhere{private: private}
}

func (e *elsewhere) Public() crypto.PublicKey { return e.private.Public() }

func (e *elsewhere) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	e.calls.Add(1)
	if hang := e.hang.Load(); hang != nil {
		<-*hang
	}
	if err := e.fail.Load(); err != nil {
		return nil, *err
	}
	return e.private.Sign(rand, digest, opts)
}

// verifyExternal returns the kid of a token that verifies with the published key set.
func verifyExternal(t *testing.T, s *scene, token string, alg jose.Algorithm) string {
	t.Helper()
	keys, err := jose.ParseKeySet([]byte(s.do(httptest.NewRequest(http.MethodGet, "/jwks", nil)).body))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := jose.Verify(token, keys, jose.Expected{Algorithms: []jose.Algorithm{alg}, Types: []string{oauth.TypAccessToken}}); err != nil {
		t.Errorf("%s: %v", alg, err)
	}
	header, err := jose.ParseHeader(token)
	if err != nil {
		t.Fatal(err)
	}
	return header.KeyID
}

// Tokens of every algorithm are signed with the external key, which is published, and no stored key is left
// to sign.
func TestExternalKeysOfAllAlgorithms(t *testing.T) {
	algorithms := []jose.Algorithm{
		jose.RS256, jose.ES256, jose.PS256, jose.ES384, jose.ES512, jose.RS384, jose.RS512, jose.PS384, jose.PS512, jose.EdDSA, jose.Ed25519,
	}
	rsa := newElsewhere(t, jose.RS256) // slow to generate
	var external []authserver.ExternalKey
	var clients []testClient
	for _, alg := range algorithms {
		signer := rsa
		if !strings.HasPrefix(string(alg), "RS") && !strings.HasPrefix(string(alg), "PS") {
			signer = newElsewhere(t, alg)
		}
		external = append(external, authserver.ExternalKey{ID: "hsm " + string(alg), Algorithm: alg, Signer: signer})
		clients = append(clients, confidential(string(alg), func(c *record.Client) { c.AccessTokenSignedResponseAlg = string(alg) }))
	}
	store := memory.New()
	s := newSceneOn(t, scriptSetup{Clients: clients}, store, func(c *authserver.Config) { c.ExternalKeys = external })
	if err := s.server.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, alg := range algorithms {
		a := s.post("/token", string(alg), "grant_type", "client_credentials")
		if a.status != http.StatusOK {
			t.Errorf("%s: %d %s", alg, a.status, a.body)
			continue
		}
		if kid := verifyExternal(t, s, a.AccessToken, alg); kid != "hsm "+string(alg) {
			t.Errorf("%s: the kid is %q", alg, kid)
		}
		if in := s.post("/introspect", string(alg), "token", a.AccessToken); !in.Active {
			t.Errorf("%s: the server does not accept the token: %s", alg, in.body)
		}
	}
	keys, err := store.Keys(t.Context())
	if err != nil || slices.ContainsFunc(keys, func(k record.Key) bool { return !k.Decrypts() && k.PublishedUntil.IsZero() }) {
		t.Errorf("the store has keys that sign: %v, %v", keys, err)
	}
}

// A signer that fails, hangs or panics makes requests fail in time, and the server says so; it never signs
// with a key of its own instead. When the signer works again, so does the server.
func TestExternalSignerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer := newElsewhere(t, jose.ES256)
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, memory.New(), func(c *authserver.Config) {
			c.ExternalKeys = []authserver.ExternalKey{{ID: "hsm", Algorithm: jose.ES256, Signer: signer}}
		})
		request := func() apiResponse { return s.post("/token", "app", "grant_type", "client_credentials") }
		wantUnavailable := func(what string) {
			t.Helper()
			a := request()
			if a.status != http.StatusServiceUnavailable || a.Error != "temporarily_unavailable" || a.header.Get("Retry-After") == "" {
				t.Errorf("%s: %d %v %s", what, a.status, a.header, a.body)
			}
			if strings.Contains(a.body, "secret of the vendor") {
				t.Errorf("%s: the client sees the error of the signer", what)
			}
			if failing := s.server.FailingKeys(); !slices.Equal(failing, []string{"hsm"}) {
				t.Errorf("%s: failing keys %v", what, failing)
			}
		}
		wantWorking := func() {
			t.Helper()
			if a := request(); a.status != http.StatusOK || verifyExternal(t, s, a.AccessToken, jose.ES256) != "hsm" {
				t.Errorf("%d %s", a.status, a.body)
			}
			if failing := s.server.FailingKeys(); len(failing) > 0 {
				t.Errorf("failing keys %v", failing)
			}
		}
		wantWorking()
		failure := errors.New("secret of the vendor")
		signer.fail.Store(&failure)
		wantUnavailable("fails")
		signer.fail.Store(nil)
		wantWorking()

		hang := make(chan struct{})
		signer.hang.Store(&hang)
		began := time.Now()
		wantUnavailable("hangs")
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("the request took %v", took)
		}
		// However many wait, the signer is not called more than 32 times at once.
		calls := signer.calls.Load()
		for range 40 {
			go request()
		}
		synctest.Wait()
		if more := signer.calls.Load() - calls; more != 31 {
			t.Errorf("%d calls besides the one that hangs", more)
		}
		time.Sleep(5 * time.Second)
		wantUnavailable("all places are taken")
		signer.hang.Store(nil)
		close(hang)
		synctest.Wait()
		wantWorking()
	})
}

// An external key takes over from the stored key: it is published before it signs, and the stored key is
// removed when everything that it signed has expired. Then a second external key takes over.
func TestExternalKeyTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		setup := scriptSetup{Clients: []testClient{confidential("app")}}
		kid := func(s *scene) string {
			t.Helper()
			a := s.post("/token", "app", "grant_type", "client_credentials")
			if a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
			return verifyExternal(t, s, a.AccessToken, jose.ES256)
		}
		published := func(s *scene) string {
			return s.do(httptest.NewRequest(http.MethodGet, "/jwks", nil)).body
		}
		stored := kid(newSceneOn(t, setup, store, nil))
		begins := time.Now().Add(2 * time.Hour)
		first := authserver.ExternalKey{ID: "first", Algorithm: jose.ES256, Signer: newElsewhere(t, jose.ES256), SignsFrom: begins}
		s := newSceneOn(t, setup, store, func(c *authserver.Config) { c.ExternalKeys = []authserver.ExternalKey{first} })
		if got := kid(s); got != stored || !strings.Contains(published(s), `"first"`) {
			t.Errorf("before: signed by %s, published %s", got, published(s))
		}
		time.Sleep(3 * time.Hour)
		if err := s.server.RotateKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if got := kid(s); got != "first" || !strings.Contains(published(s), stored) {
			t.Errorf("after: signed by %s, published %s", got, published(s))
		}
		time.Sleep(200 * 24 * time.Hour) // longer than a stored key signs
		if err := s.server.RotateKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if keys, err := store.Keys(t.Context()); err != nil || slices.ContainsFunc(keys, func(k record.Key) bool { return k.Algorithm == jose.ES256 }) {
			t.Errorf("stored keys %v, %v", keys, err)
		}
		if strings.Contains(published(s), stored) {
			t.Error("the stored key is still published")
		}

		first.PublishedUntil = time.Now().Add(48 * time.Hour)
		second := authserver.ExternalKey{ID: "second", Algorithm: jose.ES256, Signer: newElsewhere(t, jose.ES256), SignsFrom: time.Now().Add(time.Hour)}
		s = newSceneOn(t, setup, store, func(c *authserver.Config) { c.ExternalKeys = []authserver.ExternalKey{second, first} })
		if got := kid(s); got != "first" || !strings.Contains(published(s), `"second"`) {
			t.Errorf("signed by %s, published %s", got, published(s))
		}
		time.Sleep(2 * time.Hour)
		if got := kid(s); got != "second" {
			t.Errorf("signed by %s", got)
		}
	})
}

func TestExternalKeysThatCannotWork(t *testing.T) {
	es256 := newElsewhere(t, jose.ES256)
	for name, keys := range map[string][]authserver.ExternalKey{
		"is missing":             {{Algorithm: jose.ES256, Signer: es256}},
		"not a supported":        {{ID: "a", Algorithm: jose.RSAOAEP256, Signer: es256}},
		"cannot be used with":    {{ID: "a", Algorithm: jose.RS256, Signer: es256}},
		"private key is missing": {{ID: "a", Algorithm: jose.RS256}},
		"same ID":                {{ID: "a", Algorithm: jose.ES256, Signer: es256}, {ID: "a", Algorithm: jose.ES256, Signer: es256}},
		"without PublishedUntil": {{ID: "a", Algorithm: jose.ES256, Signer: es256, PublishedUntil: time.Now()}},
	} {
		s := newScene(t, scriptSetup{})
		_, err := authserver.New(authserver.Config{Issuer: "https://login.example.com", Store: memory.New(), Secret: make([]byte, 32), Users: s, ExternalKeys: keys})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
