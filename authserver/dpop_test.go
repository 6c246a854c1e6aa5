package authserver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// PROOF, with claims as the body: a client signs a DPoP proof. A time such as "-60s" is relative to
// now. "PROOF other" signs with another key.
func (s *scene) verbProof(w http.ResponseWriter, r *http.Request, words []string) error {
	var claims map[string]any
	if err := json.NewDecoder(r.Body).Decode(&claims); err != nil {
		return fmt.Errorf("read the claims: %w", err)
	}
	proof, err := s.proof(strings.Join(words, " "), oauth.TypDPoPProof, claims)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, proof)
	return err
}

// proof signs a DPoP proof with the key of a name.
func (s *scene) proof(keyName, typ string, claims map[string]any) (string, error) {
	key, err := s.proofKey(keyName)
	if err != nil {
		return "", err
	}
	if text, ok := claims["iat"].(string); ok {
		d, err := time.ParseDuration(text)
		if err != nil {
			return "", fmt.Errorf("iat: %w", err)
		}
		claims["iat"] = time.Now().Add(d).Unix()
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	return key.Sign(typ, payload)
}

func (s *scene) proofKey(name string) (*jose.Signer, error) {
	if s.proofKeys == nil {
		s.proofKeys = map[string]*jose.Signer{}
	}
	if s.proofKeys[name] == nil {
		private, err := jose.GenerateKey(jose.ES256)
		if err != nil {
			return nil, err
		}
		if s.proofKeys[name], err = jose.NewEmbeddingSigner(jose.ES256, private); err != nil {
			return nil, err
		}
	}
	return s.proofKeys[name], nil
}

var proofCount atomic.Int64

// newProof returns a proof for the token endpoint. changes replace claims, or remove them if they are
// nil.
func (s *scene) newProof(keyName string, changes map[string]any) string {
	s.t.Helper()
	claims := map[string]any{"jti": fmt.Sprint("proof ", proofCount.Add(1)), "htm": "POST", "htu": scriptIssuer + "/token", "iat": time.Now().Unix()}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	proof, err := s.proof(keyName, oauth.TypDPoPProof, claims)
	if err != nil {
		s.t.Fatal(err)
	}
	return proof
}

// thumbprint returns the thumbprint of the key of a name.
func (s *scene) thumbprint(keyName string) string {
	s.newProof(keyName, nil)
	return s.proofKeys[keyName].Public().Thumbprint()
}

// postProof is post with the header DPoP. If client ends with "?", it is public.
func (s *scene) postProof(proof, client string, form ...string) apiResponse {
	s.t.Helper()
	values := url.Values{}
	for i := 0; i+1 < len(form); i += 2 {
		values.Add(form[i], form[i+1])
	}
	public, isPublic := strings.CutSuffix(client, "?")
	if isPublic {
		values.Set("client_id", public)
	}
	r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if !isPublic {
		r.SetBasicAuth(client, testSecret)
	}
	if proof != "" {
		r.Header.Set("DPoP", proof)
	}
	return s.do(r)
}

func (s *scene) redeemWithProof(proof, client, code string) apiResponse {
	s.t.Helper()
	return s.postProof(proof, client, "grant_type", "authorization_code", "code", code, "redirect_uri", testCallback, "code_verifier", testVerifier)
}

func (s *scene) refreshWithProof(proof, client, token string) apiResponse {
	s.t.Helper()
	return s.postProof(proof, client, "grant_type", "refresh_token", "refresh_token", token)
}

// userinfoWithProof calls UserInfo with a scheme, and with a proof for the token if keyName is not
// "".
func (s *scene) userinfoWithProof(scheme, token, keyName string, changes map[string]any) apiResponse {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/userinfo", nil)
	r.Header.Set("Authorization", scheme+" "+token)
	if keyName != "" {
		claims := map[string]any{"htm": "GET", "htu": scriptIssuer + "/userinfo", "ath": oauth.S256Challenge(token)}
		maps.Copy(claims, changes)
		r.Header.Set("DPoP", s.newProof(keyName, claims))
	}
	return s.do(r)
}

// cnf returns the jkt of a token according to introspection, with the token_type.
func (s *scene) cnf(client, token string) (jkt, tokenType string) {
	s.t.Helper()
	var found oauth.Introspection
	if err := json.Unmarshal([]byte(s.post("/introspect", client, "token", token).body), &found); err != nil {
		s.t.Fatal(err)
	}
	if found.Confirmation != nil {
		jkt = found.Confirmation.JWKThumbprint
	}
	return jkt, found.TokenType
}

func publicClient(id string, change ...func(*record.Client)) testClient {
	c := confidential(id, change...)
	c.Secret, c.TokenEndpointAuthMethod = "", oauth.AuthMethodNone
	c.GrantTypes = []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken}
	return c
}

func dpopScene(t testing.TB, change ...func(*authserver.Config)) *scene {
	return newSceneOn(t, dpopSetup(), memory.New(), func(c *authserver.Config) {
		for _, f := range change {
			f(c)
		}
	})
}

func dpopSetup() scriptSetup {
	return scriptSetup{
		Clients: []testClient{
			confidential("app"), publicClient("spa"),
			confidential("bound", func(c *record.Client) { c.DPoPBoundAccessTokens = true }),
			confidential("nonce", func(c *record.Client) { c.RequireDPoPNonce = true }),
			{Client: record.Client{ID: "signed", ClientMetadata: oauth.ClientMetadata{
				GrantTypes: []string{oauth.GrantTypeClientCredentials}, TokenEndpointAuthMethod: oauth.AuthMethodPrivateKeyJWT, JWKS: []byte(`"$key"`),
			}, ClientSettings: record.ClientSettings{RequireDPoPNonce: true}}},
		},
		Resources: []record.Resource{{Identifier: "https://opaque.example.com", AccessTokenFormat: record.AccessTokenOpaque, IntrospectionClients: []string{"app"}}},
	}
}

func TestPP01_PP03_PP10_InvalidProofsAreRefusedAtTheTokenEndpoint(t *testing.T) {
	s := dpopScene(t)
	for name, test := range map[string]struct {
		changes map[string]any
		want    string // of the error
	}{
		"valid":              {nil, ""},
		"htm":                {map[string]any{"htm": "GET"}, "htm"},
		"htu":                {map[string]any{"htu": scriptIssuer + "/par"}, "htu"},
		"htu with query":     {map[string]any{"htu": scriptIssuer + "/token?a=b"}, ""},
		"htu with port":      {map[string]any{"htu": scriptIssuer + ":443/token"}, ""},
		"htu with http":      {map[string]any{"htu": "http://server.example.com/token"}, "htu"},
		"iat 10 s ago":       {map[string]any{"iat": time.Now().Unix() - 10}, ""},
		"iat 10 s ahead":     {map[string]any{"iat": time.Now().Unix() + 10}, ""},
		"iat 5 minutes ago":  {map[string]any{"iat": time.Now().Unix() - 300}, "iat"},
		"iat 5 minutes away": {map[string]any{"iat": time.Now().Unix() + 300}, "iat"},
		"jti":                {map[string]any{"jti": nil}, "jti"},
	} {
		a := s.postProof(s.newProof("key", test.changes), "app", "grant_type", "client_credentials")
		if test.want == "" {
			if a.status != http.StatusOK || a.TokenType != "DPoP" {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
			continue
		}
		if a.want(t, http.StatusBadRequest, oauth.InvalidDPoPProof); !strings.Contains(a.Description, test.want) {
			t.Errorf("%s: %s", name, a.Description)
		}
	}
	other, err := s.proof("key", "JWT", map[string]any{"jti": "1", "htm": "POST", "htu": scriptIssuer + "/token", "iat": time.Now().Unix()})
	if err != nil {
		t.Fatal(err)
	}
	s.postProof(other, "app", "grant_type", "client_credentials").want(t, http.StatusBadRequest, oauth.InvalidDPoPProof)

	// The Host header does not change the expected htu (OR-04).
	r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader("grant_type=client_credentials"))
	r.Host = "evil.example.com"
	r.Header.Set("X-Forwarded-Host", "evil.example.com")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("app", testSecret)
	r.Header.Set("DPoP", s.newProof("key", map[string]any{"htu": "https://evil.example.com/token"}))
	s.do(r).want(t, http.StatusBadRequest, oauth.InvalidDPoPProof)
	r = httptest.NewRequest(http.MethodPost, "/token", strings.NewReader("grant_type=client_credentials"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("app", testSecret)
	r.Header.Add("DPoP", s.newProof("key", nil))
	r.Header.Add("DPoP", s.newProof("key", nil))
	s.do(r).want(t, http.StatusBadRequest, oauth.InvalidDPoPProof)
}

// Two nodes of one server: a proof that one of them has accepted is refused by both, and after a
// restart.
func TestPP02_AReplayedProofIsRefusedOnEveryNode(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, dpopSetup(), store, nil)
		node, err := authserver.New(s.config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(node.Close)
		s.thumbprint("key") // both use the same keys
		other := *s
		other.server = node
		// client_credentials stores nothing but the proof.
		proof := s.newProof("key", nil)
		if a := s.postProof(proof, "app", "grant_type", "client_credentials"); a.status != http.StatusOK {
			t.Fatal(a.body)
		}
		s.postProof(proof, "app", "grant_type", "client_credentials").want(t, http.StatusBadRequest, oauth.InvalidDPoPProof)
		other.postProof(proof, "app", "grant_type", "client_credentials").want(t, http.StatusBadRequest, oauth.InvalidDPoPProof)

		// A proof of the code exchange is stored with the tokens, and that of a refresh with the
		// new refresh token.
		proof = s.newProof("key", nil)
		tokens := s.redeemWithProof(proof, "spa?", s.code("ada", "spa", "scope", "openid"))
		if tokens.status != http.StatusOK {
			t.Fatal(tokens.body)
		}
		other.refreshWithProof(proof, "spa?", tokens.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidDPoPProof)
		proof = s.newProof("key", nil)
		refreshed := other.refreshWithProof(proof, "spa?", tokens.RefreshToken)
		if refreshed.status != http.StatusOK {
			t.Fatal(refreshed.body)
		}
		s.refreshWithProof(proof, "spa?", refreshed.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidDPoPProof)

		// At UserInfo.
		claims := map[string]any{"jti": "once"}
		if a := s.userinfoWithProof("DPoP", refreshed.AccessToken, "key", claims); a.status != http.StatusOK {
			t.Fatal(a.body)
		}
		other.userinfoWithProof("DPoP", refreshed.AccessToken, "key", claims).want(t, http.StatusUnauthorized, oauth.InvalidDPoPProof)
		// Of many at the same time, one is accepted.
		proof = s.newProof("key", nil)
		var accepted atomic.Int64
		race(20, func(i int) {
			scene := []*scene{s, &other}[i%2]
			if a := scene.postProof(proof, "app", "grant_type", "client_credentials"); a.status == http.StatusOK {
				accepted.Add(1)
			} else if a.Error != string(oauth.InvalidDPoPProof) {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
		if accepted.Load() != 1 {
			t.Errorf("one proof was accepted %d times", accepted.Load())
		}
	})
}

func TestPP04_NoncesAreRequiredAndRotated(t *testing.T) {
	s := dpopScene(t, func(c *authserver.Config) { c.DPoP.RequireNonce = true })
	a := s.postProof(s.newProof("key", nil), "app", "grant_type", "client_credentials")
	a.want(t, http.StatusBadRequest, oauth.UseDPoPNonce)
	nonce := a.header.Get("DPoP-Nonce")
	if nonce == "" || strings.Contains(a.body, "ref ") {
		t.Fatalf("%v %s", a.header, a.body)
	}
	a = s.postProof(s.newProof("key", map[string]any{"nonce": nonce}), "app", "grant_type", "client_credentials")
	if a.status != http.StatusOK || a.header.Get("DPoP-Nonce") == "" {
		t.Errorf("%d %s: %v", a.status, a.body, a.header)
	}
	other, err := dpop.NewNonces(bytes.Repeat([]byte("x"), 32))
	if err != nil {
		t.Fatal(err)
	}
	tenant := dpopScene(t, func(c *authserver.Config) { c.Issuer = "https://tenant.example.com" })
	foreign := tenant.postProof(tenant.newProof("key", map[string]any{"htu": "https://tenant.example.com/token"}), "app", "grant_type", "client_credentials").header.Get("DPoP-Nonce")
	for name, forged := range map[string]string{"garbage": "x", "of another key": other.Current(time.Now()), "of another tenant": foreign} {
		a := s.postProof(s.newProof("key", map[string]any{"nonce": forged}), "app", "grant_type", "client_credentials")
		if a.want(t, http.StatusBadRequest, oauth.UseDPoPNonce); forged == "" {
			t.Errorf("%s: no nonce", name)
		}
	}
	// At UserInfo, with 401 and a challenge.
	tokens := s.redeemWithProof(s.newProof("key", map[string]any{"nonce": nonce}), "app", s.code("ada", "app", "scope", "openid"))
	a = s.userinfoWithProof("DPoP", tokens.AccessToken, "key", nil)
	a.want(t, http.StatusUnauthorized, oauth.UseDPoPNonce)
	challenges := oauth.ParseChallenges(a.header.Get("WWW-Authenticate"))
	if len(challenges) != 1 || challenges[0].Scheme != "DPoP" || challenges[0].Param("error") != "use_dpop_nonce" || !strings.Contains(challenges[0].Param("algs"), "ES256") {
		t.Errorf("WWW-Authenticate: %s", a.header.Get("WWW-Authenticate"))
	}
	a = s.userinfoWithProof("DPoP", tokens.AccessToken, "key", map[string]any{"nonce": a.header.Get("DPoP-Nonce")})
	if a.status != http.StatusOK || a.header.Get("DPoP-Nonce") == "" {
		t.Errorf("%d %s: %v", a.status, a.body, a.header)
	}
	// Without a proof, nothing changes.
	if a := s.post("/token", "app", "grant_type", "client_credentials"); a.status != http.StatusOK || a.header.Get("DPoP-Nonce") != "" {
		t.Errorf("bearer: %d %v", a.status, a.header)
	}
}

func TestPP04_ExpiredNonceIsReplaced(t *testing.T) {
	synctestScene(t, dpopSetup(), func(t *testing.T, s *scene) {
		a := s.postProof(s.newProof("key", nil), "nonce", "grant_type", "client_credentials")
		a.want(t, http.StatusBadRequest, oauth.UseDPoPNonce)
		nonce := a.header.Get("DPoP-Nonce")
		time.Sleep(90 * time.Second) // the previous nonces are accepted for a while
		a = s.postProof(s.newProof("key", map[string]any{"nonce": nonce}), "nonce", "grant_type", "client_credentials")
		if a.status != http.StatusOK || a.header.Get("DPoP-Nonce") == nonce {
			t.Errorf("%d %s, nonce %s", a.status, a.body, a.header.Get("DPoP-Nonce"))
		}
		time.Sleep(3 * time.Minute)
		s.postProof(s.newProof("key", map[string]any{"nonce": nonce}), "nonce", "grant_type", "client_credentials").want(t, http.StatusBadRequest, oauth.UseDPoPNonce)
		// A client that does not need one may leave it out, but not send an expired one.
		if a := s.postProof(s.newProof("key", nil), "app", "grant_type", "client_credentials"); a.status != http.StatusOK {
			t.Error(a.body)
		}
		s.postProof(s.newProof("key", map[string]any{"nonce": nonce}), "app", "grant_type", "client_credentials").want(t, http.StatusBadRequest, oauth.UseDPoPNonce)
	})
}

// Clients repeat the request with the same assertion and a new proof.
func TestPP04_NonceIsCheckedBeforeTheAssertionIsSpent(t *testing.T) {
	s := dpopScene(t)
	assertion, err := s.sign(jose.ES256, oauth.TypClientAuthentication, "", map[string]any{"iss": "signed", "sub": "signed", "aud": scriptIssuer, "jti": "1", "exp": "60s"})
	if err != nil {
		t.Fatal(err)
	}
	send := func(proof string) apiResponse {
		r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(url.Values{
			"grant_type": {"client_credentials"}, "client_assertion": {assertion}, "client_assertion_type": {oauth.ClientAssertionTypeJWTBearer},
		}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("DPoP", proof)
		return s.do(r)
	}
	a := send(s.newProof("key", nil))
	a.want(t, http.StatusBadRequest, oauth.UseDPoPNonce)
	proof := s.newProof("key", map[string]any{"nonce": a.header.Get("DPoP-Nonce")})
	if a := send(proof); a.status != http.StatusOK || a.TokenType != "DPoP" {
		t.Errorf("the same assertion with a nonce: %d %s", a.status, a.body)
	}
	// The proof and the assertion were stored in one operation; now each of them is refused.
	if assertion, err = s.sign(jose.ES256, oauth.TypClientAuthentication, "", map[string]any{"iss": "signed", "sub": "signed", "aud": scriptIssuer, "jti": "2", "exp": "60s"}); err != nil {
		t.Fatal(err)
	}
	send(proof).want(t, http.StatusBadRequest, oauth.InvalidDPoPProof)
	fresh := map[string]any{"nonce": a.header.Get("DPoP-Nonce")}
	if a := send(s.newProof("key", fresh)); a.status != http.StatusOK {
		t.Errorf("the assertion was spent with a replayed proof: %d %s", a.status, a.body)
	}
	send(s.newProof("key", fresh)).want(t, http.StatusUnauthorized, oauth.InvalidClient)
}

func TestPP05_PP06_BoundTokensNeedAProofAtUserInfo(t *testing.T) {
	s := dpopScene(t)
	bound := s.redeemWithProof(s.newProof("key", nil), "app", s.code("ada", "app", "scope", "openid")).AccessToken
	bearer := s.tokens("ada", "app", "openid").AccessToken
	if a := s.userinfoWithProof("DPoP", bound, "key", nil); a.status != http.StatusOK {
		t.Errorf("with a proof: %d %s", a.status, a.body)
	}
	if a := s.userinfoWithProof("dpop", bound, "key", nil); a.status != http.StatusOK {
		t.Errorf("the scheme in lower case: %d %s", a.status, a.body)
	}
	for name, test := range map[string]struct {
		scheme, token, key string
		changes            map[string]any
		want               oauth.ErrorCode
	}{
		"bound token as bearer token":      {"Bearer", bound, "", nil, oauth.InvalidToken},
		"as bearer token with a proof":     {"Bearer", bound, "key", nil, oauth.InvalidToken},
		"without a proof":                  {"DPoP", bound, "", nil, oauth.InvalidDPoPProof},
		"another key":                      {"DPoP", bound, "thief", nil, oauth.InvalidToken},
		"without ath":                      {"DPoP", bound, "key", map[string]any{"ath": nil}, oauth.InvalidDPoPProof},
		"ath of another token":             {"DPoP", bound, "key", map[string]any{"ath": oauth.S256Challenge(bearer)}, oauth.InvalidDPoPProof},
		"bearer token with a proof":        {"DPoP", bearer, "key", nil, oauth.InvalidToken},
		"proof for another endpoint":       {"DPoP", bound, "key", map[string]any{"htu": scriptIssuer + "/token"}, oauth.InvalidDPoPProof},
		"proof for another method":         {"DPoP", bound, "key", map[string]any{"htm": "POST"}, oauth.InvalidDPoPProof},
		"bearer token as DPoP, no proof":   {"DPoP", bearer, "", nil, oauth.InvalidDPoPProof},
		"unknown token with a valid proof": {"DPoP", "x", "key", nil, oauth.InvalidToken},
	} {
		a := s.userinfoWithProof(test.scheme, test.token, test.key, test.changes)
		if a.status != http.StatusUnauthorized || a.Error != string(test.want) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		found := false
		for _, value := range a.header.Values("WWW-Authenticate") {
			for _, challenge := range oauth.ParseChallenges(value) {
				found = found || challenge.Scheme == "DPoP" && challenge.Param("algs") != ""
			}
		}
		if !found {
			t.Errorf("%s: no challenge for DPoP: %q", name, a.header.Values("WWW-Authenticate"))
		}
	}
	if a := s.userinfo(bearer); a.status != http.StatusOK {
		t.Errorf("bearer token: %d %s", a.status, a.body)
	}
}

func TestPP07_RT05_RefreshTokenOfAPublicClientIsBound(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, dpopSetup(), store, nil)
		first := s.redeemWithProof(s.newProof("key", nil), "spa?", s.code("ada", "spa", "scope", "openid"))
		if first.status != http.StatusOK || first.TokenType != "DPoP" {
			t.Fatal(first.body)
		}
		s.refreshWithProof("", "spa?", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.refreshWithProof(s.newProof("thief", nil), "spa?", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		second := s.refreshWithProof(s.newProof("key", nil), "spa?", first.RefreshToken)
		if second.status != http.StatusOK || second.TokenType != "DPoP" {
			t.Fatal(second.body)
		}
		// In the time in which a lost response is repeated, only the key gets it. A thief with
		// the old token cannot end the authorization either.
		s.refreshWithProof("", "spa?", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.refreshWithProof(s.newProof("thief", nil), "spa?", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		if again := s.refreshWithProof(s.newProof("key", nil), "spa?", first.RefreshToken); again.RefreshToken != second.RefreshToken {
			t.Errorf("repeated: %d %s", again.status, again.body)
		}
		third := s.refreshWithProof(s.newProof("key", nil), "spa?", second.RefreshToken)
		if third.status != http.StatusOK {
			t.Fatal(third.body)
		}
		s.refreshWithProof(s.newProof("thief", nil), "spa?", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		if a := s.userinfoWithProof("DPoP", third.AccessToken, "key", nil); a.status != http.StatusOK {
			t.Errorf("the thief ended the authorization: %s", a.body)
		}
	})
}

// The refresh token of a confidential client is bound to the client, which authenticates. Its access
// tokens are bound to the key of each request.
func TestPP07_ConfidentialClientMayChangeItsKey(t *testing.T) {
	s := dpopScene(t)
	first := s.redeemWithProof(s.newProof("key", nil), "app", s.code("ada", "app", "scope", "openid"))
	second := s.refreshWithProof(s.newProof("new key", nil), "app", first.RefreshToken)
	if jkt, tokenType := s.cnf("app", second.AccessToken); jkt != s.thumbprint("new key") || tokenType != "DPoP" {
		t.Errorf("%s %s", jkt, tokenType)
	}
	if jkt, tokenType := s.cnf("app", first.AccessToken); jkt != s.thumbprint("key") || tokenType != "DPoP" {
		t.Errorf("%s %s", jkt, tokenType)
	}
}

func TestPP08_CodeIsBoundToDPoPJKT(t *testing.T) {
	s := dpopScene(t)
	code := func() string { return s.code("ada", "spa", "scope", "openid", "dpop_jkt", s.thumbprint("key")) }
	s.redeemWithProof("", "spa?", code()).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	s.redeemWithProof(s.newProof("thief", nil), "spa?", code()).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	if a := s.redeemWithProof(s.newProof("key", nil), "spa?", code()); a.status != http.StatusOK || a.TokenType != "DPoP" {
		t.Errorf("%d %s", a.status, a.body)
	}
	response := s.authorize("ada", query("spa", "dpop_jkt", "short"))
	if location := response.Header.Get("Location"); !strings.Contains(location, "error=invalid_request") {
		t.Errorf("malformed dpop_jkt: %d %s", response.StatusCode, location)
	}
}

// The proof with which a request is pushed binds the code, also if the request is a request object.
func TestPP08_PushedRequestIsBoundToItsProof(t *testing.T) {
	setup := dpopSetup()
	setup.Clients = append(setup.Clients, confidential("pushes", func(c *record.Client) {
		c.JWKS, c.RequestObjectSigningAlg = []byte(`"$key"`), "ES256"
	}))
	s := newSceneOn(t, setup, memory.New(), nil)
	push := func(proof string, changes ...string) apiResponse {
		values, err := url.ParseQuery(query("pushes", changes...))
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "/par", strings.NewReader(values.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth("pushes", testSecret)
		r.Header.Set("DPoP", proof)
		return s.do(r)
	}
	proof := func(keyName string) string { return s.newProof(keyName, map[string]any{"htu": scriptIssuer + "/par"}) }
	object, err := s.sign(jose.ES256, oauth.TypRequestObject, "", map[string]any{
		"iss": "pushes", "aud": scriptIssuer, "exp": "60s", "client_id": "pushes", "response_type": "code", "redirect_uri": testCallback,
		"scope": "openid", "code_challenge": oauth.S256Challenge(testVerifier), "code_challenge_method": "S256",
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, changes := range map[string][]string{
		"parameters": {"scope", "openid"}, "with dpop_jkt": {"scope", "openid", "dpop_jkt", s.thumbprint("key")},
		"request object": {"request", object, "response_type", "", "redirect_uri", "", "state", "", "code_challenge", "", "code_challenge_method", ""},
	} {
		code := func() string {
			t.Helper()
			a := push(proof("key"), changes...)
			var pushed oauth.PushedAuthorizationResponse
			if err := json.Unmarshal([]byte(a.body), &pushed); err != nil || a.status != http.StatusCreated || a.header.Get("DPoP-Nonce") == "" {
				t.Fatalf("%s: %d %s", name, a.status, a.body)
			}
			location, err := s.authorize("ada", url.Values{"client_id": {"pushes"}, "request_uri": {pushed.RequestURI}}.Encode()).Location()
			if err != nil {
				t.Fatal(err)
			}
			return location.Query().Get("code")
		}
		s.redeem("pushes", code()).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.redeemWithProof(s.newProof("thief", nil), "pushes", code()).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		if a := s.redeemWithProof(s.newProof("key", nil), "pushes", code()); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	push(proof("key"), "scope", "openid", "dpop_jkt", s.thumbprint("thief")).want(t, http.StatusBadRequest, oauth.InvalidDPoPProof)
	push(s.newProof("key", nil), "scope", "openid").want(t, http.StatusBadRequest, oauth.InvalidDPoPProof) // htu of the token endpoint
	once := proof("key")
	if a := push(once, "scope", "openid"); a.status != http.StatusCreated {
		t.Error(a.body)
	}
	push(once, "scope", "openid").want(t, http.StatusBadRequest, oauth.InvalidDPoPProof)
}

func TestPP11_ClientWithBoundTokensGetsNoBearerToken(t *testing.T) {
	s := dpopScene(t)
	a := s.post("/token", "bound", "grant_type", "client_credentials")
	if a.want(t, http.StatusBadRequest, oauth.InvalidDPoPProof); a.header.Get("DPoP-Nonce") == "" {
		t.Errorf("no nonce: %v", a.header)
	}
	s.redeem("bound", s.code("ada", "bound", "scope", "openid")).want(t, http.StatusBadRequest, oauth.InvalidDPoPProof)
	if a := s.postProof(s.newProof("key", nil), "bound", "grant_type", "client_credentials"); a.status != http.StatusOK || a.TokenType != "DPoP" {
		t.Errorf("%d %s", a.status, a.body)
	}
	client := confidential("front", func(c *record.Client) {
		c.DPoPBoundAccessTokens, c.ResponseTypes = true, []string{"code", "id_token token"}
		c.GrantTypes, c.Secrets = []string{"authorization_code", "implicit"}, []string{testSecret}
	}).Client
	if problems := authserver.CheckClient(client); len(problems) != 1 || problems[0].Member != "response_types[1]" {
		t.Errorf("a client that gets tokens in the front channel: %v", problems)
	}
}

func TestPP14_IntrospectionHasTheKey(t *testing.T) {
	s := dpopScene(t)
	for name, form := range map[string][]string{
		"JWT":    {"grant_type", "client_credentials"},
		"opaque": {"grant_type", "client_credentials", "resource", "https://opaque.example.com"},
	} {
		a := s.postProof(s.newProof("key", nil), "app", form...)
		if jkt, tokenType := s.cnf("app", a.AccessToken); jkt != s.thumbprint("key") || tokenType != "DPoP" {
			t.Errorf("%s: %q %q", name, jkt, tokenType)
		}
		if jkt, tokenType := s.cnf("app", s.post("/token", "app", form...).AccessToken); jkt != "" || tokenType != "Bearer" {
			t.Errorf("%s, not bound: %q %q", name, jkt, tokenType)
		}
	}
}

func TestPP15_MetadataHasOnlyAsymmetricAlgorithms(t *testing.T) {
	s := dpopScene(t)
	var m oauth.ServerMetadata
	if err := json.Unmarshal([]byte(s.do(httptest.NewRequest(http.MethodGet, oauth.WellKnownAuthorizationServer, nil)).body), &m); err != nil {
		t.Fatal(err)
	}
	if len(m.DPoPSigningAlgValuesSupported) == 0 {
		t.Error("dpop_signing_alg_values_supported is missing")
	}
	for _, alg := range m.DPoPSigningAlgValuesSupported {
		if alg == "none" || strings.HasPrefix(alg, "HS") {
			t.Errorf("%s is listed", alg)
		}
	}
}

func TestTX09_ExchangedTokensStayBound(t *testing.T) {
	setup := dpopSetup()
	setup.Clients = append(setup.Clients, confidential("api", func(c *record.Client) {
		c.GrantTypes = append(c.GrantTypes, oauth.GrantTypeTokenExchange)
	}), confidential("owner", func(c *record.Client) {
		c.GrantTypes = append(c.GrantTypes, oauth.GrantTypeTokenExchange)
	}))
	setup.Resources = append(setup.Resources,
		record.Resource{Identifier: "https://api.example.com", IntrospectionClients: []string{"api"}},
		record.Resource{Identifier: "https://next.example.com"})
	setup.TokenExchange = []authserver.TokenExchangeRule{{
		Clients: []string{"api", "owner"}, Resources: []string{"https://next.example.com"}, Impersonation: true,
		RequestedTokenTypes: []string{oauth.TokenTypeAccessToken, oauth.TokenTypeIDToken},
	}}
	s := newSceneOn(t, setup, memory.New(), nil)
	code := s.code("ada", "owner", "scope", "openid", "resource", "https://api.example.com")
	subject := s.redeemWithProof(s.newProof("key", nil), "owner", code).AccessToken
	exchange := func(proof, client string, more ...string) apiResponse {
		return s.postProof(proof, client, append([]string{
			"grant_type", oauth.GrantTypeTokenExchange, "subject_token", subject, "subject_token_type", oauth.TokenTypeAccessToken,
		}, more...)...)
	}
	exchange("", "api").want(t, http.StatusBadRequest, oauth.InvalidRequest)
	a := exchange(s.newProof("key of the API", nil), "api")
	if jkt, _ := s.cnf("api", a.AccessToken); a.status != http.StatusOK || a.TokenType != "DPoP" || jkt != s.thumbprint("key of the API") {
		t.Errorf("%d %s, %s", a.status, a.body, jkt)
	}
	// The client that the token was issued to proves possession of its key.
	exchange(s.newProof("another key", nil), "owner").want(t, http.StatusBadRequest, oauth.InvalidRequest)
	if a := exchange(s.newProof("key", nil), "owner"); a.status != http.StatusOK || a.TokenType != "DPoP" {
		t.Errorf("%d %s", a.status, a.body)
	}
	// Nothing that is not bound is issued for a bound token.
	exchange(s.newProof("key", nil), "owner", "requested_token_type", oauth.TokenTypeIDToken).want(t, http.StatusBadRequest, oauth.InvalidRequest)
}

// Every grant binds its tokens, and the refresh token of a public client.
func TestPP07_TokensOfADeviceAreBound(t *testing.T) {
	setup := dpopSetup()
	setup.Clients = append(setup.Clients, publicClient("tv", func(c *record.Client) { c.RedirectURIs = nil }))
	tv := &setup.Clients[len(setup.Clients)-1]
	tv.GrantTypes, tv.ResponseTypes = []string{oauth.GrantTypeDeviceCode, oauth.GrantTypeRefreshToken}, []string{}
	s := newSceneOn(t, setup, memory.New(), nil)
	var codes oauth.DeviceAuthorizationResponse
	if err := json.Unmarshal([]byte(s.post("/device_authorization", "", "client_id", "tv", "scope", "openid").body), &codes); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.signIn(w, "ada")
	r := httptest.NewRequest(http.MethodGet, "/device", nil)
	r.AddCookie(w.Result().Cookies()[0])
	w = httptest.NewRecorder()
	if err := s.server.BeginDevice(w, r, codes.UserCode); err != nil {
		t.Fatal(err)
	}
	for _, cookie := range w.Result().Cookies() {
		r.AddCookie(cookie)
	}
	w2 := httptest.NewRecorder()
	s.server.Consented(w2, r, interactionOf(w.Header().Get("Location")), authserver.ConsentAnswer{Scope: oauth.Scope{"openid"}, Subject: "ada"})
	a := s.postProof(s.newProof("key", nil), "tv?", "grant_type", oauth.GrantTypeDeviceCode, "device_code", codes.DeviceCode)
	if a.status != http.StatusOK || a.TokenType != "DPoP" {
		t.Fatalf("%d %s (%d %s)", a.status, a.body, w2.Code, w2.Body)
	}
	s.userinfo(a.AccessToken).want(t, http.StatusUnauthorized, oauth.InvalidToken)
	s.refreshWithProof("", "tv?", a.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	if a := s.refreshWithProof(s.newProof("key", nil), "tv?", a.RefreshToken); a.status != http.StatusOK {
		t.Error(a.body)
	}
}

// An ID-JAG that is bound to a key needs a proof of that key.
func TestPP06_BoundAssertionNeedsAProof(t *testing.T) {
	setup := dpopSetup()
	setup.Clients = append(setup.Clients, confidential("chat", func(c *record.Client) { c.GrantTypes = []string{oauth.GrantTypeJWTBearer} }))
	setup.TrustedIssuers = []authserver.TrustedIssuer{{
		Issuer: "https://idp.example.com", JWKS: []byte(`"$key"`), Uses: []string{authserver.UseIdentityAssertion}, Clients: []string{"chat"}, Scopes: oauth.Scope{"openid"},
		Subjects: map[string]string{"ada": "ada"},
	}}
	s := newSceneOn(t, setup, memory.New(), nil)
	present := func(proof string, cnf any) apiResponse {
		t.Helper()
		assertion, err := s.sign(jose.ES256, oauth.TypIDJAG, "", map[string]any{
			"iss": "https://idp.example.com", "sub": "ada", "aud": scriptIssuer, "client_id": "chat", "iat": "0s", "exp": "60s",
			"jti": fmt.Sprint(proofCount.Add(1)), "cnf": cnf,
		})
		if err != nil {
			t.Fatal(err)
		}
		return s.postProof(proof, "chat", "grant_type", oauth.GrantTypeJWTBearer, "assertion", assertion)
	}
	jkt := map[string]string{"jkt": s.thumbprint("key")}
	present("", jkt).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	present(s.newProof("thief", nil), jkt).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	present(s.newProof("key", nil), map[string]string{"kid": "x"}).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	present(s.newProof("key", nil), "x").want(t, http.StatusBadRequest, oauth.InvalidGrant)
	if a := present(s.newProof("key", nil), jkt); a.status != http.StatusOK || a.TokenType != "DPoP" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// The code of a first-party application is bound to the key of its challenge.
func TestPP08_CodeOfAFirstPartyApplicationIsBound(t *testing.T) {
	s := newScene(t, firstPartySetup())
	challenge := func(proof string) apiResponse {
		form, err := url.ParseQuery(query("app", "redirect_uri", "", "state", "", "username", "ada", "password", "engine", "scope", "openid"))
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, challengePath, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth("app", testSecret)
		r.Header.Set("DPoP", proof)
		return s.do(r)
	}
	proof := func() string { return s.newProof("key", map[string]any{"htu": scriptIssuer + challengePath}) }
	for _, test := range []struct {
		proof string
		want  int
	}{{"", http.StatusBadRequest}, {s.newProof("thief", nil), http.StatusBadRequest}, {s.newProof("key", nil), http.StatusOK}} {
		a := challenge(proof())
		_, code := a.challenged(t)
		if code == "" {
			t.Fatal(a.body)
		}
		a = s.postProof(test.proof, "app", "grant_type", "authorization_code", "code", code, "code_verifier", testVerifier)
		if a.status != test.want {
			t.Errorf("%d %s, want %d", a.status, a.body, test.want)
		}
	}
	once := proof()
	if a := challenge(once); a.status != http.StatusOK {
		t.Error(a.body)
	}
	challenge(once).want(t, http.StatusBadRequest, oauth.InvalidDPoPProof)
}

// Security tools may send a bound token to revoke everything of a user.
func TestPP06_GlobalRevocationAcceptsBoundTokens(t *testing.T) {
	setup := dpopSetup()
	setup.Clients = append(setup.Clients, confidential("tool", func(c *record.Client) {
		c.GlobalTokenRevocation, c.Scope = true, authserver.ScopeGlobalTokenRevocation
	}))
	setup.Scopes = []record.Scope{{Name: authserver.ScopeGlobalTokenRevocation}}
	s := newSceneOn(t, setup, memory.New(), nil)
	token := s.postProof(s.newProof("key", nil), "tool", "grant_type", "client_credentials").AccessToken
	revoke := func(scheme, keyName string) apiResponse {
		r := httptest.NewRequest(http.MethodPost, "/global-token-revocation", strings.NewReader(`{"sub_id": {"format": "opaque", "id": "ada"}}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", scheme+" "+token)
		if keyName != "" {
			r.Header.Set("DPoP", s.newProof(keyName, map[string]any{"htu": scriptIssuer + "/global-token-revocation", "ath": oauth.S256Challenge(token)}))
		}
		return s.do(r)
	}
	revoke("Bearer", "").want(t, http.StatusUnauthorized, oauth.InvalidToken)
	revoke("DPoP", "").want(t, http.StatusUnauthorized, oauth.InvalidDPoPProof)
	revoke("DPoP", "thief").want(t, http.StatusUnauthorized, oauth.InvalidToken)
	if a := revoke("DPoP", "key"); a.status != http.StatusNoContent {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A client with a certificate uses the mtls_endpoint_aliases, which proofs then name.
func TestPP10_ProofsMayNameTheAliasOfTheEndpoint(t *testing.T) {
	s := dpopScene(t, func(c *authserver.Config) { c.MutualTLS = &authserver.MutualTLS{Host: "mtls.example.com"} })
	for htu, want := range map[string]int{
		"https://mtls.example.com/token": http.StatusOK, scriptIssuer + "/token": http.StatusOK, "https://mtls.example.com/par": http.StatusBadRequest,
	} {
		if a := s.postProof(s.newProof("key", map[string]any{"htu": htu}), "app", "grant_type", "client_credentials"); a.status != want {
			t.Errorf("%s: %d %s", htu, a.status, a.body)
		}
	}
}
