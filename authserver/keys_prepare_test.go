package authserver_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// publishedKey is what readers of a key set look at.
type publishedKey struct{ Kty, Crv, Alg, Use, Kid string }

func (s *scene) keySet() []publishedKey {
	s.t.Helper()
	var set struct{ Keys []publishedKey }
	if err := json.Unmarshal([]byte(s.do(httptest.NewRequest(http.MethodGet, "/jwks", nil)).body), &set); err != nil {
		s.t.Fatal(err)
	}
	return set.Keys
}

func algorithmsOf(keys []publishedKey) []string {
	var names []string
	for _, key := range keys {
		names = append(names, key.Use+" "+key.Alg)
	}
	return names
}

func (s *scene) prepareKeys() {
	s.t.Helper()
	if err := s.server.PrepareKeys(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) metadata() oauth.ServerMetadata {
	s.t.Helper()
	var m oauth.ServerMetadata
	if err := json.Unmarshal([]byte(s.do(httptest.NewRequest(http.MethodGet, oauth.WellKnownOpenIDConfiguration, nil)).body), &m); err != nil {
		s.t.Fatal(err)
	}
	return m
}

// declare puts clients in the place of those of the test.
func (s *scene) declare(clients ...testClient) {
	s.t.Helper()
	d := memory.Declaration{}
	for _, c := range clients {
		c.Secrets = []string{c.Secret}
		d.Clients = append(d.Clients, c.Client)
	}
	if err := s.store.Declare(s.t.Context(), time.Now(), "test", d); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // until the server asks for the version
}

// strictlyReadable holds a key set to what the most widely used library of PHP demands:
// it refuses the whole set for one key without alg, or on a curve that it does not know.
func strictlyReadable(t *testing.T, keys []publishedKey) {
	t.Helper()
	for _, key := range keys {
		curve := key.Kty == "RSA" || key.Kty == "EC" && (key.Crv == "P-256" || key.Crv == "P-384") || key.Kty == "OKP" && key.Crv == "Ed25519"
		if !curve || key.Alg == "" || key.Alg == "Ed25519" || key.Use == "" || key.Kid == "" {
			t.Errorf("a strict reader refuses the key set for %+v", key)
		}
	}
}

// The key set of a server whose clients name no algorithm: the default of ID tokens first,
// because some readers take the first, and from the first request on.
func TestKeySetOfAFreshServer(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	if err := s.store.UpdateKeys(t.Context(), func([]record.Key) ([]record.Key, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		keys := s.keySet()
		if got := algorithmsOf(keys); !slices.Equal(got, []string{"sig RS256", "sig ES256"}) {
			t.Errorf("published: %v", got)
		}
		strictlyReadable(t, keys)
		s.prepareKeys()
	}
}

// A key is published from the moment a client may need it, which may be declared on another
// node, and withdrawn when what it signed has expired.
func TestKeysFollowWhatClientsNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signs := func(alg string) testClient {
			return confidential("app", func(c *record.Client) { c.IDTokenSignedResponseAlg = alg })
		}
		encrypts := confidential("encrypts", func(c *record.Client) { c.RequestObjectEncryptionAlg = "ECDH-ES+A128KW" })
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
		s.keySet()
		s.declare(signs("PS256"), encrypts)
		s.metadata()
		select {
		case <-s.server.KeysDue():
		default:
			t.Error("nobody is told that keys are missing")
		}
		s.prepareKeys()
		keys := s.keySet()
		if got := algorithmsOf(keys); !slices.Equal(got, []string{"sig RS256", "sig ES256", "sig PS256", "enc ECDH-ES+A128KW"}) {
			t.Fatalf("published before its first use: %v", got)
		}
		strictlyReadable(t, keys)
		if got := s.metadata().RequestObjectEncryptionAlgValuesSupported; !slices.Contains(got, "ECDH-ES+A128KW") || slices.Contains(got, "RSA-OAEP") {
			t.Errorf("offered for request objects: %v", got)
		}
		token := s.tokens("ada", "app", "openid").IDToken
		if header, err := jose.ParseHeader(token); err != nil || header.KeyID != keys[2].Kid {
			t.Errorf("signed by %q, want %q (%v)", header.KeyID, keys[2].Kid, err)
		}

		s.declare(signs("ES256"))
		s.prepareKeys()
		if got := algorithmsOf(s.keySet()); !slices.Equal(got, []string{"sig RS256", "sig ES256", "sig PS256"}) {
			t.Errorf("what was signed is still good: %v", got)
		}
		time.Sleep(time.Hour)
		s.declare(signs("PS256")) // needed again: the key goes on
		if header, err := jose.ParseHeader(s.tokens("ada", "app", "openid").IDToken); err != nil || header.KeyID != keys[2].Kid {
			t.Errorf("signed by %q, want %q (%v)", header.KeyID, keys[2].Kid, err)
		}
		time.Sleep(48 * time.Hour)
		s.prepareKeys()
		if !slices.Contains(s.keySet(), keys[2]) {
			t.Error("a key that is in use was withdrawn")
		}

		s.declare(signs("ES256"))
		s.prepareKeys()
		time.Sleep(48 * time.Hour)
		s.prepareKeys()
		if got := algorithmsOf(s.keySet()); !slices.Equal(got, []string{"sig RS256", "sig ES256"}) {
			t.Errorf("published when nobody needs it any more: %v", got)
		}
		if left, err := s.store.Keys(t.Context()); err != nil || len(left) != 2 {
			t.Errorf("%d keys are kept (%v)", len(left), err)
		}
	})
}

// A client that registers itself finds its key published, and cannot have one that breaks the
// key set for other readers.
func TestRegistrationPublishesItsKey(t *testing.T) {
	s := newScene(t, scriptSetup{Registration: authserver.RegistrationPolicy{Mode: authserver.RegistrationOpen}})
	register := func(alg string) int {
		return s.postJSON("/register", `{"redirect_uris": ["https://app.example.com/cb"], "id_token_signed_response_alg": "`+alg+`"}`).status
	}
	for alg, want := range map[string]int{"PS256": 201, "ES384": 201, "EdDSA": 201, "ES512": 400, "Ed25519": 400} {
		if got := register(alg); got != want {
			t.Errorf("registration for %s: %d, want %d", alg, got, want)
		}
		if published := slices.Contains(algorithmsOf(s.keySet()), "sig "+alg); published != (want == 201) {
			t.Errorf("published for %s: %v", alg, published)
		}
	}
	strictlyReadable(t, s.keySet())
	s.prepareKeys()
	if got := len(s.keySet()); got != 5 {
		t.Errorf("%d keys are published after the next look", got)
	}
}

// The unsafe is advertised only while a client may use it.
func TestMetadataOfWhatNoClientMayUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
		m := s.metadata()
		if !slices.Equal(m.ResponseTypesSupported, []string{"code"}) || slices.Contains(m.GrantTypesSupported, "implicit") ||
			slices.Contains(m.IDTokenSigningAlgValuesSupported, "none") || slices.Contains(m.RequestObjectSigningAlgValuesSupported, "none") {
			t.Errorf("advertised: %v %v %v %v", m.ResponseTypesSupported, m.GrantTypesSupported, m.IDTokenSigningAlgValuesSupported, m.RequestObjectSigningAlgValuesSupported)
		}
		s.declare(confidential("hybrid", func(c *record.Client) {
			c.ResponseTypes, c.GrantTypes = []string{"id_token code"}, []string{"authorization_code", "implicit"}
			c.RequestObjectSigningAlg = "none"
		}), confidential("unsigned", func(c *record.Client) { c.IDTokenSignedResponseAlg = "none" }))
		m = s.metadata()
		if !slices.Equal(m.ResponseTypesSupported, []string{"code", "code id_token"}) || !slices.Contains(m.GrantTypesSupported, "implicit") ||
			!slices.Contains(m.IDTokenSigningAlgValuesSupported, "none") || !slices.Contains(m.RequestObjectSigningAlgValuesSupported, "none") {
			t.Errorf("advertised: %v %v %v %v", m.ResponseTypesSupported, m.GrantTypesSupported, m.IDTokenSigningAlgValuesSupported, m.RequestObjectSigningAlgValuesSupported)
		}
	})
}

// A database from before has keys of every algorithm; those that nobody needs go.
func TestKeysThatNobodyNeedsAreWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
		old := []jose.Algorithm{jose.ES512, jose.Ed25519, jose.ECDHES}
		err := s.store.UpdateKeys(t.Context(), func(keys []record.Key) ([]record.Key, error) {
			for _, alg := range old {
				private, err := jose.GenerateKey(alg)
				if err != nil {
					return nil, err
				}
				keys = append(keys, record.Key{ID: storage.NewID(), Algorithm: alg, Private: private, CreatedAt: time.Now(), SignsFrom: time.Now()})
			}
			return keys, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		s.prepareKeys()
		time.Sleep(48 * time.Hour)
		s.prepareKeys()
		if got := algorithmsOf(s.keySet()); !slices.Equal(got, []string{"sig RS256", "sig ES256"}) {
			t.Errorf("published: %v", got)
		}
	})
}

// RE-17: revoking every key forgets those too that were about to go by themselves.
func TestRE17_RevocationOfWithdrawnKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) { c.IDTokenSignedResponseAlg = "ES384" })}})
		s.prepareKeys()
		s.declare(confidential("app"))
		s.prepareKeys()
		if got := algorithmsOf(s.keySet()); !slices.Contains(got, "sig ES384") {
			t.Fatalf("published: %v", got)
		}
		if _, err := authserver.RotateKeys(t.Context(), s.store, time.Now(), authserver.KeyRotation{Revoke: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if got := algorithmsOf(s.keySet()); slices.Contains(got, "sig ES384") {
			t.Errorf("published: %v", got)
		}
	})
}

func (s *scene) postJSON(path, body string) answer {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return s.do(r)
}
