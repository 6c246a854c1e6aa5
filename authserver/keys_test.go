package authserver_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
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

// verifier is an API that caches the JWKS for as long as the response allows.
type verifier struct {
	s       *scene
	keys    *jose.KeySet
	fetched time.Time
	maxAge  time.Duration
}

func (v *verifier) verify(token string) error {
	if v.keys == nil || time.Since(v.fetched) >= v.maxAge {
		a := v.s.do(httptest.NewRequest(http.MethodGet, "/jwks", nil))
		keys, err := jose.ParseKeySet([]byte(a.body))
		if err != nil {
			return err
		}
		age, _ := strings.CutPrefix(a.header.Get("Cache-Control"), "public, max-age=")
		if v.maxAge, err = time.ParseDuration(age + "s"); err != nil {
			return err
		}
		v.keys, v.fetched = keys, time.Now()
	}
	_, _, err := jose.Verify(token, v.keys, jose.Expected{Algorithms: []jose.Algorithm{jose.ES256, jose.RS256}, Types: []string{oauth.TypAccessToken, oauth.TypIDToken}})
	return err
}

// A key is published before it signs, and kept until all tokens that it signed have expired. A
// verifier that respects max-age never sees an unknown kid.
func TestRE17_TokensVerifyDuringRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, memory.New(), func(c *authserver.Config) {
			c.Lifetimes = authserver.Lifetimes{KeyRotation: 2 * time.Hour, KeyPublishAhead: 20 * time.Minute}
		})
		v := &verifier{s: s}
		type issued struct {
			token   string
			expires time.Time
		}
		var live []issued
		kids := map[string]bool{}
		for range 24 * 60 { // a day, minute by minute
			if err := s.server.RotateKeys(t.Context()); err != nil {
				t.Fatal(err)
			}
			a := s.post("/token", "app", "grant_type", "client_credentials")
			if a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
			header, err := jose.ParseHeader(a.AccessToken)
			if err != nil {
				t.Fatal(err)
			}
			kids[header.KeyID] = true
			live = append(live, issued{a.AccessToken, time.Now().Add(time.Duration(a.ExpiresIn) * time.Second)})
			if time.Now().After(live[0].expires) {
				live = live[1:]
			}
			for _, token := range live {
				if err := v.verify(token.token); err != nil {
					t.Fatalf("after %s: %v", time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), err)
				}
			}
			time.Sleep(time.Minute)
		}
		if len(kids) < 10 {
			t.Errorf("%d keys signed in a day", len(kids))
		}
		keys, err := s.store.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// Keys are kept for a day, the longest lifetime that a client may have.
		if len(keys) > 2*15 {
			t.Errorf("%d keys of two algorithms are kept", len(keys))
		}
	})
}

// A node learns of a new key up to a second later than another. Meanwhile it accepts what the other
// signs with it.
func TestRE17_NodesAcceptEachOthersNewKeysAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
		other, err := authserver.New(s.config)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		userinfo := func(token string) int {
			r, w := httptest.NewRequest(http.MethodGet, s.config.Issuer+"/userinfo", nil), httptest.NewRecorder()
			r.Header.Set("Authorization", "Bearer "+token)
			other.ServeHTTP(w, r)
			return w.Code
		}
		first := s.tokens("ada", "app", "openid")
		time.Sleep(500 * time.Millisecond)
		if status := userinfo(first.AccessToken); status != http.StatusOK {
			t.Fatalf("before the rotation: %d", status)
		}
		if _, err := authserver.RotateKeys(t.Context(), s.store, time.Now(), authserver.KeyRotation{Now: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond) // one node reads the keys now, the other half a second later
		second := s.tokens("ada", "app", "openid")
		before, err := jose.ParseHeader(first.AccessToken)
		if err != nil {
			t.Fatal(err)
		}
		after, err := jose.ParseHeader(second.AccessToken)
		if err != nil || after.KeyID == before.KeyID {
			t.Fatalf("the new key does not sign (%v)", err)
		}
		if status := userinfo(second.AccessToken); status != http.StatusOK {
			t.Errorf("a token of the new key at the other node: %d", status)
		}
	})
}

// An operator rotates keys after a leak, or when a conformance test needs a new key immediately.
func TestRE17_RotationByTheOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
		kid := func(a apiResponse) string {
			header, err := jose.ParseHeader(a.AccessToken)
			if err != nil {
				t.Fatal(err)
			}
			return header.KeyID
		}
		rotate := func(r authserver.KeyRotation) string {
			added, err := authserver.RotateKeys(t.Context(), s.store, time.Now(), r)
			added = slices.DeleteFunc(added, func(k record.Key) bool { return k.Algorithm != jose.ES256 })
			if err != nil || len(added) != 1 {
				t.Fatalf("%d keys: %v", len(added), err)
			}
			time.Sleep(time.Second) // until the server reads the version
			return added[0].ID
		}
		first := s.tokens("ada", "app", "openid")
		second := rotate(authserver.KeyRotation{})
		if a := s.tokens("ada", "app", "openid"); kid(a) != kid(first) {
			t.Error("a key signs before its publication period is over")
		}
		if jwks := s.do(httptest.NewRequest(http.MethodGet, "/jwks", nil)).body; !strings.Contains(jwks, second) {
			t.Error("the next key is not published")
		}
		third := rotate(authserver.KeyRotation{Now: true})
		if a := s.tokens("ada", "app", "openid"); kid(a) != third {
			t.Errorf("%s signs, want %s", kid(a), third)
		}
		if a := s.userinfo(first.AccessToken); a.status != http.StatusOK {
			t.Errorf("a token signed with the old key: %d", a.status)
		}
		fourth := rotate(authserver.KeyRotation{Revoke: true})
		if a := s.userinfo(first.AccessToken); a.status != http.StatusUnauthorized {
			t.Errorf("a token signed with a revoked key: %d", a.status)
		}
		if a := s.tokens("ada", "app", "openid"); kid(a) != fourth {
			t.Errorf("%s signs, want %s", kid(a), fourth)
		}
		keys, err := s.store.Keys(t.Context())
		if err != nil || len(keys) != 2 {
			t.Errorf("%d keys of two algorithms remain (%v)", len(keys), err)
		}
		if _, err := authserver.RotateKeys(t.Context(), s.store, time.Now(), authserver.KeyRotation{Algorithm: "HS256"}); !errors.Is(err, authserver.ErrKeyAlgorithm) {
			t.Errorf("HS256: %v", err)
		}
	})
}

func TestRE18_ConcurrentRotationCreatesOneKey(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
		race(20, func(int) {
			if err := s.server.RotateKeys(t.Context()); err != nil {
				t.Error(err)
			}
		})
		keys, err := store.Keys(t.Context())
		if err != nil || len(keys) != 2 { // the other one is for RS256 and existed before
			t.Errorf("%d keys (%v)", len(keys), err)
		}
	})
}

func TestJW15_TheJWKSHasNoPrivateMembers(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app"), confidential("rsa", func(c *record.Client) { c.IDTokenSignedResponseAlg = "RS256" })}})
	s.tokens("ada", "app", "openid")
	s.tokens("ada", "rsa", "openid")
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal([]byte(s.do(httptest.NewRequest(http.MethodGet, "/jwks", nil)).body), &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 2 {
		t.Errorf("there are %d keys", len(set.Keys))
	}
	for _, key := range set.Keys {
		for _, member := range []string{"d", "p", "q", "dp", "dq", "qi", "k", "oth"} {
			if _, ok := key[member]; ok {
				t.Errorf("the key %v has %q", key["kid"], member)
			}
		}
	}
}

func TestJW27_TokensAreSignedWithTheRegisteredAlgorithm(t *testing.T) {
	for _, alg := range []jose.Algorithm{jose.ES256, jose.PS256, jose.PS384, jose.RS512, jose.ES384, jose.ES512, jose.EdDSA, jose.Ed25519} {
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) {
			c.IDTokenSignedResponseAlg, c.AccessTokenSignedResponseAlg = string(alg), string(alg)
		})}})
		a := s.tokens("ada", "app", "openid")
		for _, token := range []string{a.IDToken, a.AccessToken} {
			if header, err := jose.ParseHeader(token); err != nil || header.Algorithm != alg {
				t.Errorf("registered %s, signed with %s (%v)", alg, header.Algorithm, err)
			}
		}
		if got := s.userinfo(a.AccessToken); got.status != http.StatusOK {
			t.Errorf("%s: UserInfo responds %d %s", alg, got.status, got.body)
		}
	}
}

// An unsigned ID token is issued only by the token endpoint and only to a client that is registered
// for it. It is not accepted as a hint (OpenID Connect Core, section 2; RFC 8725, section 3.2).
func TestJW27_AlgNoneRequiresRegistration(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) { c.IDTokenSignedResponseAlg = "none" })}})
	a := s.tokens("ada", "app", "openid")
	header, err := jose.ParseHeader(a.IDToken)
	if err != nil || header.Algorithm != "none" || !strings.HasSuffix(a.IDToken, ".") {
		t.Errorf("%s: %+v, %v", a.IDToken, header, err)
	}
	if header, err := jose.ParseHeader(a.AccessToken); err != nil || header.Algorithm != jose.ES256 {
		t.Errorf("the access token has alg %s (%v)", header.Algorithm, err)
	}
	query := url.Values{"client_id": {"app"}, "response_type": {"code"}, "scope": {"openid"}, "nonce": {"n"}, "redirect_uri": {testCallback}, "prompt": {"none"}, "id_token_hint": {a.IDToken}}
	if location := s.authorize("ada", query.Encode()).Header.Get("Location"); !strings.Contains(location, "error=invalid_request") {
		t.Errorf("an unsigned ID token is accepted as a hint: %s", location)
	}
	for member, change := range map[string]func(*record.Client){
		"id_token_signed_response_alg": func(c *record.Client) {
			c.IDTokenSignedResponseAlg, c.ResponseTypes = "none", []string{"code id_token"}
			c.GrantTypes = []string{"authorization_code", "implicit"}
		},
		"userinfo_signed_response_alg": func(c *record.Client) { c.UserinfoSignedResponseAlg = "none" },
	} {
		problems := authserver.CheckClient(confidential("app", change).Client)
		if !slices.ContainsFunc(problems, func(p authserver.ClientProblem) bool { return p.Member == member }) {
			t.Errorf("%s: %v", member, problems)
		}
	}
}

func TestJW25_UserClaimsCannotReplaceProtocolClaims(t *testing.T) {
	claims := oauth.Claims{"name": "Ada"}
	requested := map[string]any{"name": nil}
	for _, name := range oauth.ProtocolClaims {
		claims[name], requested[name] = "evil", nil
	}
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}, Users: map[string]oauth.Claims{"ada": claims}})
	request, err := json.Marshal(map[string]any{"id_token": requested, "userinfo": requested})
	if err != nil {
		t.Fatal(err)
	}
	a := s.redeem("app", s.code("ada", "app", "scope", "openid", "claims", string(request)))
	payload, err := jose.UnverifiedPayload(a.IDToken)
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"ID token": string(payload), "UserInfo": s.userinfo(a.AccessToken).body} {
		if strings.Contains(text, "evil") || !strings.Contains(text, "Ada") {
			t.Errorf("%s: %s", where, text)
		}
	}
}

// publishedKey contains the members of a JWK that the tests compare.
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

// declare replaces the declared clients.
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
	time.Sleep(2 * time.Second) // until the server reads the version
}

// checkStrictly checks a key set as strictly as the most widely used PHP library, which refuses the
// whole set if one key has no alg or an unknown curve.
func checkStrictly(t *testing.T, keys []publishedKey) {
	t.Helper()
	for _, key := range keys {
		curve := key.Kty == "RSA" || key.Kty == "EC" && (key.Crv == "P-256" || key.Crv == "P-384") || key.Kty == "OKP" && key.Crv == "Ed25519"
		if !curve || key.Alg == "" || key.Alg == "Ed25519" || key.Use == "" || key.Kid == "" {
			t.Errorf("a strict parser refuses a key set with %+v", key)
		}
	}
}

// The first key has the default algorithm of ID tokens, because some libraries always use the first
// key. A new server publishes it at the first request.
func TestKeySetOfANewServer(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	if err := s.store.UpdateKeys(t.Context(), func([]record.Key) ([]record.Key, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		keys := s.keySet()
		if got := algorithmsOf(keys); !slices.Equal(got, []string{"sig RS256", "sig ES256"}) {
			t.Errorf("published: %v", got)
		}
		checkStrictly(t, keys)
		s.prepareKeys()
	}
}

// A key is published as soon as a client needs it, even if another node declared the client, and is
// withdrawn when the tokens that it signed have expired.
func TestKeysAreCreatedWhenClientsNeedThem(t *testing.T) {
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
			t.Error("KeysDue does not report missing keys")
		}
		s.prepareKeys()
		keys := s.keySet()
		if got := algorithmsOf(keys); !slices.Equal(got, []string{"sig RS256", "sig ES256", "sig PS256", "enc ECDH-ES+A128KW"}) {
			t.Fatalf("published before the first use: %v", got)
		}
		checkStrictly(t, keys)
		if got := s.metadata().RequestObjectEncryptionAlgValuesSupported; !slices.Contains(got, "ECDH-ES+A128KW") || slices.Contains(got, "RSA-OAEP") {
			t.Errorf("announced for request objects: %v", got)
		}
		token := s.tokens("ada", "app", "openid").IDToken
		if header, err := jose.ParseHeader(token); err != nil || header.KeyID != keys[2].Kid {
			t.Errorf("signed with %q, want %q (%v)", header.KeyID, keys[2].Kid, err)
		}

		s.declare(signs("ES256"))
		s.prepareKeys()
		if got := algorithmsOf(s.keySet()); !slices.Equal(got, []string{"sig RS256", "sig ES256", "sig PS256"}) {
			t.Errorf("published while tokens are valid: %v", got)
		}
		time.Sleep(time.Hour)
		s.declare(signs("PS256")) // needed again, so the key is kept
		if header, err := jose.ParseHeader(s.tokens("ada", "app", "openid").IDToken); err != nil || header.KeyID != keys[2].Kid {
			t.Errorf("signed with %q, want %q (%v)", header.KeyID, keys[2].Kid, err)
		}
		time.Sleep(48 * time.Hour)
		s.prepareKeys()
		if !slices.Contains(s.keySet(), keys[2]) {
			t.Error("a key in use was withdrawn")
		}

		s.declare(signs("ES256"))
		s.prepareKeys()
		time.Sleep(48 * time.Hour)
		s.prepareKeys()
		if got := algorithmsOf(s.keySet()); !slices.Equal(got, []string{"sig RS256", "sig ES256"}) {
			t.Errorf("published after no client needs PS256: %v", got)
		}
		if left, err := s.store.Keys(t.Context()); err != nil || len(left) != 2 {
			t.Errorf("%d keys are kept (%v)", len(left), err)
		}
	})
}

// Registration publishes the key that the client needs. It refuses algorithms that would break the
// key set for other clients.
func TestRegistrationPublishesTheRequiredKey(t *testing.T) {
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
	checkStrictly(t, s.keySet())
	s.prepareKeys()
	if got := len(s.keySet()); got != 5 {
		t.Errorf("%d keys are published after PrepareKeys", got)
	}
}

// The metadata lists insecure features only if a client may use them.
func TestMetadataOmitsUnusedInsecureFeatures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
		m := s.metadata()
		if !slices.Equal(m.ResponseTypesSupported, []string{"code"}) || slices.Contains(m.GrantTypesSupported, "implicit") ||
			slices.Contains(m.IDTokenSigningAlgValuesSupported, "none") || slices.Contains(m.RequestObjectSigningAlgValuesSupported, "none") {
			t.Errorf("announced: %v %v %v %v", m.ResponseTypesSupported, m.GrantTypesSupported, m.IDTokenSigningAlgValuesSupported, m.RequestObjectSigningAlgValuesSupported)
		}
		s.declare(confidential("hybrid", func(c *record.Client) {
			c.ResponseTypes, c.GrantTypes = []string{"id_token code"}, []string{"authorization_code", "implicit"}
			c.RequestObjectSigningAlg = "none"
		}), confidential("unsigned", func(c *record.Client) { c.IDTokenSignedResponseAlg = "none" }))
		m = s.metadata()
		if !slices.Equal(m.ResponseTypesSupported, []string{"code", "code id_token"}) || !slices.Contains(m.GrantTypesSupported, "implicit") ||
			!slices.Contains(m.IDTokenSigningAlgValuesSupported, "none") || !slices.Contains(m.RequestObjectSigningAlgValuesSupported, "none") {
			t.Errorf("announced: %v %v %v %v", m.ResponseTypesSupported, m.GrantTypesSupported, m.IDTokenSigningAlgValuesSupported, m.RequestObjectSigningAlgValuesSupported)
		}
	})
}

// Older databases have a key for every algorithm. The unused ones are withdrawn.
func TestUnusedKeysAreWithdrawn(t *testing.T) {
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

// Revoking all keys also deletes those that are being withdrawn.
func TestRE17_RevocationDeletesWithdrawnKeys(t *testing.T) {
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

func (s *scene) postJSON(path, body string) apiResponse {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return s.do(r)
}
