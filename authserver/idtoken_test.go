package authserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// encryptionKey returns the decryption key of a client, and the jwks with its public key.
func encryptionKey(t *testing.T) (*jose.Decrypter, json.RawMessage) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jose.NewDecrypter("e", private)
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(jose.KeySet{Keys: []jose.JWK{key.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	return key, document
}

func (s *scene) publicKeys() *jose.KeySet {
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, scriptIssuer+"/jwks", nil))
	keys, err := jose.ParseKeySet(w.Body.Bytes())
	if err != nil {
		s.t.Fatal(err)
	}
	return keys
}

// encrypt encrypts a JWT for the server.
func (s *scene) encrypt(token string, alg jose.Algorithm, enc jose.Encryption) (string, error) {
	key, ok := s.publicKeys().Recipient(alg)
	if !ok {
		s.t.Fatalf("the server publishes no key for %s", alg)
	}
	return jose.Encrypt(alg, enc, key, jose.Message{ContentType: "JWT", Payload: []byte(token)})
}

func (s *scene) rawUserinfo(token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, scriptIssuer+"/userinfo", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, r)
	return w
}

// ID tokens and UserInfo responses are signed first, then encrypted (OpenID Connect Core, sections 2
// and 5.3.2).
func TestIDTokensAndUserinfoAreEncryptedForTheClient(t *testing.T) {
	key, jwks := encryptionKey(t)
	decryptWithKey := func(token string) ([]byte, error) {
		payload, _, err := jose.Decrypt(token, []*jose.Decrypter{key}, jose.PublicKeyEncryptionAlgorithms())
		return payload, err
	}
	decryptWithSecret := func(token string) ([]byte, error) {
		payload, _, err := jose.DecryptSecret(token, jose.SharedSecret(testSecret), jose.SecretEncryptionAlgorithms())
		return payload, err
	}
	for name, test := range map[string]struct {
		decrypt func(string) ([]byte, error)
		change  func(*record.Client)
	}{
		"with a public key": {decryptWithKey, func(c *record.Client) {
			c.JWKS = jwks
			c.IDTokenEncryptedResponseAlg, c.UserinfoEncryptedResponseAlg, c.UserinfoSignedResponseAlg = "ECDH-ES", "ECDH-ES+A256KW", "ES256"
			c.UserinfoEncryptedResponseEnc = "A256GCM"
		}},
		"with the client secret": {decryptWithSecret, func(c *record.Client) {
			c.IDTokenEncryptedResponseAlg, c.UserinfoEncryptedResponseAlg, c.UserinfoSignedResponseAlg = "dir", "A128KW", "ES256"
			c.IDTokenEncryptedResponseEnc = "A256CBC-HS512"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, scriptSetup{Clients: []testClient{confidential("app", test.change)}, Users: map[string]oauth.Claims{"ada": {"name": "Ada"}}})
			tokens := s.redeem("app", s.code("ada", "app", "scope", "openid profile", "nonce", "n"))
			for what, token := range map[string]string{"ID token": tokens.IDToken, "UserInfo": s.rawUserinfo(tokens.AccessToken).Body.String()} {
				inner, err := test.decrypt(token)
				if err != nil {
					t.Errorf("%s: %v: %.60s", what, err, token)
					continue
				}
				payload, _, err := jose.Verify(string(inner), s.publicKeys(), jose.Expected{Algorithms: []jose.Algorithm{map[string]jose.Algorithm{"ID token": jose.RS256, "UserInfo": jose.ES256}[what]}})
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
				claims, err := jose.ParseClaims(payload, nil)
				if err != nil || claims.Issuer != scriptIssuer || claims.Subject != "ada" || claims.Audience[0] != "app" {
					t.Errorf("%s: %s, %v", what, payload, err)
				}
			}
		})
	}
}

func TestUserinfoAsAJWT(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{
		confidential("app", func(c *record.Client) { c.UserinfoSignedResponseAlg = "HS256" }),
	}, Users: map[string]oauth.Claims{"ada": {"name": "Ada", "iss": "https://evil.example"}}})
	tokens := s.redeem("app", s.code("ada", "app", "scope", "openid profile", "nonce", "n"))
	w := s.rawUserinfo(tokens.AccessToken)
	if contentType := w.Header().Get("Content-Type"); contentType != "application/jwt" {
		t.Errorf("Content-Type: %s", contentType)
	}
	payload, _, err := jose.VerifySecret(w.Body.String(), []byte(testSecret), jose.Expected{Algorithms: []jose.Algorithm{jose.HS256}})
	if err != nil || !strings.Contains(string(payload), `"name":"Ada"`) || !strings.Contains(string(payload), `"iss":"`+scriptIssuer) {
		t.Errorf("%s, %v", payload, err)
	}
}

// An ID token that is signed with the client's secret, or that the client encrypted for this
// server, is a valid hint (OpenID Connect Core, section 3.1.2.1).
func TestHMACAndEncryptedIDTokenHints(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{
		confidential("app", func(c *record.Client) { c.IDTokenSignedResponseAlg = "HS256" }), confidential("other"),
		confidential("encrypts", func(c *record.Client) { c.RequestObjectEncryptionAlg = "RSA-OAEP-256" }),
	}})
	if err := s.server.PrepareKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	hint := s.redeem("app", s.code("ada", "app", "scope", "openid", "nonce", "n")).IDToken
	encrypted, err := s.encrypt(hint, jose.RSAOAEP256, jose.A128GCM)
	if err != nil {
		t.Fatal(err)
	}
	authorize := func(hint string) string {
		query := url.Values{
			"client_id": {"app"}, "response_type": {"code"}, "scope": {"openid"}, "nonce": {"n"}, "redirect_uri": {testCallback},
			"prompt": {"none"}, "id_token_hint": {hint},
		}
		r := httptest.NewRequest(http.MethodGet, scriptIssuer+"/authorize?"+query.Encode(), nil)
		r.AddCookie(&http.Cookie{Name: sessionCookie, Value: s.signIn(httptest.NewRecorder(), "ada").Session})
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, r)
		return w.Header().Get("Location")
	}
	for _, good := range []string{hint, encrypted} {
		if location := authorize(good); !strings.Contains(location, "code=") {
			t.Errorf("%.40s…: %s", good, location)
		}
	}
	forged, err := s.sign(jose.HS256, "JWT", "00000000000000000000000000000000", map[string]any{"iss": scriptIssuer, "aud": "app", "sub": "ada"})
	if err != nil {
		t.Fatal(err)
	}
	otherAudience, err := s.sign(jose.HS256, "JWT", testSecret, map[string]any{"iss": scriptIssuer, "aud": "other", "sub": "ada"})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{forged, otherAudience, encrypted[:len(encrypted)-4] + "AAAA"} {
		if location := authorize(bad); !strings.Contains(location, "error=invalid_request") {
			t.Errorf("%.40s…: %s", bad, location)
		}
	}
}

// Request objects are signed, then encrypted for this server with the registered algorithms (RFC
// 9101, section 6.1).
func TestEncryptedRequestObjects(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{
		confidential("app", func(c *record.Client) {
			c.JWKS, c.RequestObjectEncryptionAlg, c.RequestObjectEncryptionEnc = []byte(`"$key"`), "ECDH-ES", "A256GCM"
		}),
	}})
	if err := s.server.PrepareKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	object, err := s.sign(jose.ES256, "oauth-authz-req+jwt", "", map[string]any{
		"iss": "app", "aud": scriptIssuer, "exp": time.Now().Add(time.Minute).Unix(), "state": "inside",
	})
	if err != nil {
		t.Fatal(err)
	}
	for enc, want := range map[jose.Encryption]string{"A256GCM": "state=inside", "A128GCM": "error=invalid_request_object"} {
		encrypted, err := s.encrypt(object, jose.ECDHES, enc)
		if err != nil {
			t.Fatal(err)
		}
		query := url.Values{"client_id": {"app"}, "response_type": {"code"}, "scope": {"openid"}, "nonce": {"n"}, "redirect_uri": {testCallback}, "request": {encrypted}}
		r := httptest.NewRequest(http.MethodGet, scriptIssuer+"/authorize?"+query.Encode(), nil)
		r.AddCookie(&http.Cookie{Name: sessionCookie, Value: s.signIn(httptest.NewRecorder(), "ada").Session})
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, r)
		if location := w.Header().Get("Location"); !strings.Contains(location, want) {
			t.Errorf("%s: %s", enc, location)
		}
	}
}

// A replaced encryption key is no longer published, but decrypts for another day (OpenID Connect
// Core, section 10.2.1).
func TestEncryptionKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app"), confidential("encrypts", func(c *record.Client) { c.RequestObjectEncryptionAlg = "ECDH-ES" })}})
		if err := s.server.PrepareKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		hint := s.tokens("ada", "app", "openid").IDToken
		encrypted, err := s.encrypt(hint, jose.ECDHES, jose.A256GCM)
		if err != nil {
			t.Fatal(err)
		}
		before, _ := s.publicKeys().Recipient(jose.ECDHES)
		if _, err := authserver.RotateKeys(t.Context(), s.store, time.Now(), authserver.KeyRotation{Algorithm: "ECDH-ES"}); err != nil {
			t.Fatal(err)
		}
		accepted := func() bool {
			query := url.Values{"client_id": {"app"}, "response_type": {"code"}, "scope": {"openid"}, "nonce": {"n"}, "redirect_uri": {testCallback}, "prompt": {"none"}, "id_token_hint": {encrypted}}
			return strings.Contains(s.authorize("ada", query.Encode()).Header.Get("Location"), "code=")
		}
		time.Sleep(2 * time.Second) // until the server reads the version
		published := 0
		for _, key := range s.publicKeys().Keys {
			if key.KeyID() == before.KeyID() {
				published++
			}
		}
		if after, ok := s.publicKeys().Recipient(jose.ECDHES); !ok || after.KeyID() == before.KeyID() || published > 0 {
			t.Errorf("after the rotation, %s is published", after.KeyID())
		}
		time.Sleep(time.Hour)
		if err := s.server.RotateKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !accepted() {
			t.Error("the replaced key does not decrypt")
		}
		time.Sleep(25 * time.Hour)
		if err := s.server.RotateKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		if accepted() {
			t.Error("the replaced key still decrypts after a day")
		}
	})
}

// During secret rotation, the client may sign and encrypt with either secret.
func TestRequestObjectsWithEitherSecret(t *testing.T) {
	const next = "another secret of 32 bytes or more, for later"
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) {
		c.RequestObjectSigningAlg, c.RequestObjectEncryptionAlg = "HS256", "A128GCMKW"
	})}})
	client, err := s.store.Client(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	client.Secrets = []string{testSecret, next}
	if err := s.store.Declare(t.Context(), time.Now(), "test", memory.Declaration{Clients: []record.Client{*client}}); err != nil {
		t.Fatal(err)
	}
	for secret, want := range map[string]string{testSecret: "state=inside", next: "state=inside", "an unknown secret of 32 bytes, or more": "error=invalid_request_object"} {
		object, err := s.sign(jose.HS256, "oauth-authz-req+jwt", secret, map[string]any{"iss": "app", "aud": scriptIssuer, "exp": time.Now().Add(time.Minute).Unix(), "state": "inside"})
		if err != nil {
			t.Fatal(err)
		}
		encrypted, err := jose.EncryptSecret(jose.A128GCMKW, jose.A256GCM, jose.SharedSecret(secret), jose.Message{ContentType: "JWT", Payload: []byte(object)})
		if err != nil {
			t.Fatal(err)
		}
		query := url.Values{"client_id": {"app"}, "response_type": {"code"}, "scope": {"openid"}, "nonce": {"n"}, "redirect_uri": {testCallback}, "request": {encrypted}}
		if location := s.authorize("ada", query.Encode()).Header.Get("Location"); !strings.Contains(location, want) {
			t.Errorf("%.20s…: %s", secret, location)
		}
	}
}

// Registration issues a secret that is long enough for every algorithm that uses it.
func TestRegisteredSecretsAreLongEnough(t *testing.T) {
	s := newScene(t, scriptSetup{Registration: authserver.RegistrationPolicy{Mode: authserver.RegistrationOpen}})
	for member, alg := range map[string]string{
		"id_token_signed_response_alg": "HS512", "userinfo_signed_response_alg": "HS384",
		"id_token_encrypted_response_alg": "dir", "userinfo_encrypted_response_alg": "A256GCMKW",
	} {
		r := httptest.NewRequest(http.MethodPost, "/register", strings.NewReader(`{"redirect_uris": ["https://c.example/cb"], "`+member+`": "`+alg+`"}`))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, r)
		var information map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &information); err != nil || w.Code != http.StatusCreated || information["client_secret"] == nil {
			t.Errorf("%s %s: %d %s", member, alg, w.Code, w.Body)
		}
		if strings.Contains(member, "encrypted") && information[strings.TrimSuffix(member, "alg")+"enc"] != "A128CBC-HS256" {
			t.Errorf("%s: the response does not contain the default enc: %s", member, w.Body)
		}
	}
}
