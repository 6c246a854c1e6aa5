package authserver_test

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// profiled returns a client of a profile that signs assertions with the key of the test.
func profiled(id, profile string, change ...func(*record.Client)) testClient {
	return asserting(id, append([]func(*record.Client){func(c *record.Client) { c.Profile = profile }}, change...)...)
}

// withRSA gives a client an RSA key in addition.
func withRSA(t *testing.T) func(*record.Client) {
	signer, err := jose.NewSigner(jose.PS256, "rsa", rsaKey())
	if err != nil {
		t.Fatal(err)
	}
	key := signer.Public().WithAlgorithm("")
	keys, err := json.Marshal(jose.KeySet{Keys: []jose.JWK{key}})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *record.Client) { c.JWKS = keys }
}

// signRSA signs claims with the key of withRSA.
func signRSA(t *testing.T, alg jose.Algorithm, typ string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(alg, "rsa", rsaKey())
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign(typ, payload)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// send posts a form as a client that signs an assertion, with a DPoP proof of the key k unless proof
// is "".
func (s *scene) send(path, client, proof string, form ...string) apiResponse {
	s.t.Helper()
	values := url.Values{
		"client_assertion_type": {oauth.ClientAssertionTypeJWTBearer},
		"client_assertion":      {s.assertion(client, oauth.TypClientAuthentication, nil)},
	}
	for i := 0; i+1 < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if proof != "" {
		r.Header.Set("DPoP", proof)
	}
	return s.do(r)
}

// pushed returns the parameters of an authorization request. changes replace parameters.
func pushed(changes ...string) []string {
	form := []string{
		"response_type", "code", "redirect_uri", testCallback, "state", "xyz",
		"code_challenge", oauth.S256Challenge(testVerifier), "code_challenge_method", "S256",
	}
	return append(form, changes...)
}

// requestObject returns the claims of a request object with the parameters of pushed, and a scope.
func requestObject(client string, changes map[string]any) map[string]any {
	claims := map[string]any{"iss": client, "client_id": client, "aud": scriptIssuer, "nbf": "0s", "exp": "5m"}
	form := pushed("scope", "email")
	for i := 0; i+1 < len(form); i += 2 {
		claims[form[i]] = form[i+1]
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return claims
}

func TestFAPI2_TheCodeFlow(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{profiled("bank", authserver.ProfileFAPI2)}, Lifetimes: authserver.Lifetimes{PushedAuthorizationRequest: time.Hour}})
	a := s.send("/par", "bank", "", pushed()...)
	var response struct {
		ExpiresIn int `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(a.body), &response); err != nil || a.status != http.StatusCreated || response.ExpiresIn >= 600 {
		t.Fatalf("PAR: %d %s: expires_in must be less than 600 seconds", a.status, a.body)
	}
	location := s.authorize("ada", url.Values{"client_id": {"bank"}, "request_uri": {a.RequestURI}}.Encode()).Header.Get("Location")
	returned, err := url.Parse(location)
	if err != nil || returned.Query().Get("code") == "" || returned.Query().Get("iss") != scriptIssuer {
		t.Fatalf("authorization response %s: %v", location, err)
	}
	redeem := []string{"grant_type", "authorization_code", "code", returned.Query().Get("code"), "redirect_uri", testCallback, "code_verifier", testVerifier}
	if a := s.send("/token", "bank", "", redeem...); a.status != http.StatusBadRequest || a.Error != "invalid_request" {
		t.Errorf("without a proof: %d %s", a.status, a.body)
	}
	a = s.send("/token", "bank", s.newProof("k", nil), redeem...)
	if a.status != http.StatusOK || a.TokenType != "DPoP" {
		t.Fatalf("with a proof: %d %s", a.status, a.body)
	}
	refreshed := s.send("/token", "bank", s.newProof("k", nil), "grant_type", "refresh_token", "refresh_token", a.RefreshToken)
	if refreshed.status != http.StatusOK || refreshed.RefreshToken != "" && refreshed.RefreshToken != a.RefreshToken {
		t.Errorf("refresh: %d: the refresh token must not be rotated", refreshed.status)
	}
}

func TestFAPI2_AuthorizationRequestsAreRefused(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{profiled("bank", authserver.ProfileFAPI2)}})
	for name, changes := range map[string][]string{
		"no PKCE":                    {"code_challenge", "", "code_challenge_method", ""},
		"plain PKCE":                 {"code_challenge_method", "plain"},
		"no redirect_uri":            {"redirect_uri", ""},
		"response_type id_token":     {"response_type", "code id_token", "scope", "openid", "nonce", "n"},
		"no PKCE, but a nonce":       {"code_challenge", "", "code_challenge_method", "", "scope", "openid", "nonce", "n"},
		"response_type token":        {"response_type", "token"},
		"a redirect URI of others":   {"redirect_uri", "https://attacker.example/cb"},
		"an unsigned request object": {"request", "eyJhbGciOiJub25lIn0.e30."},
	} {
		form := pushed(changes...)
		for i := 0; i+1 < len(changes); i += 2 {
			if changes[i+1] != "" {
				continue
			}
			form = slices.Concat(form[:slices.Index(form, changes[i])], form[slices.Index(form, changes[i])+2:])
			form = slices.Concat(form[:slices.Index(form, changes[i])], form[slices.Index(form, changes[i])+2:])
		}
		if a := s.send("/par", "bank", "", form...); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if location := s.authorize("ada", query("bank")).Header.Get("Location"); strings.Contains(location, "code=") {
		t.Errorf("a request that was not pushed is accepted: %s", location)
	}
}

// The audience of an assertion is the issuer, as a string: FAPI 2.0 Security Profile, section
// 5.3.2.1, clause 8.
func TestFAPI2_ClientAssertions(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{profiled("bank", authserver.ProfileFAPI2, func(c *record.Client) { c.GrantTypes = []string{"client_credentials", "authorization_code"} })}})
	for _, test := range []struct {
		name     string
		changes  map[string]any
		accepted bool
	}{
		{"the issuer", nil, true},
		{"an array with the issuer", map[string]any{"aud": []string{scriptIssuer}}, false},
		{"the PAR endpoint", map[string]any{"aud": scriptIssuer + "/par"}, false},
		{"an array with the PAR endpoint", map[string]any{"aud": []string{scriptIssuer, scriptIssuer + "/par"}}, false},
		{"the token endpoint", map[string]any{"aud": scriptIssuer + "/token"}, false},
		{"nbf and iat 8 s ahead", map[string]any{"nbf": "8s", "iat": "8s"}, true},
		{"nbf over 60 s ahead", map[string]any{"nbf": "65s", "exp": "140s"}, false},
		{"iat over 60 s ahead", map[string]any{"iat": "65s", "exp": "140s"}, false},
		{"over 60 minutes", map[string]any{"exp": "61m"}, false},
		{"no sub", map[string]any{"sub": nil}, false},
	} {
		assertion := s.assertion("bank", "JWT", test.changes)
		if a := s.send("/par", "bank", "", pushed("client_assertion", assertion)...); (a.status == http.StatusCreated) != test.accepted {
			t.Errorf("%s: %d %s", test.name, a.status, a.body)
		}
	}
}

func TestFAPI2_AlgorithmsWithPKCS1AreRefused(t *testing.T) {
	bank := profiled("bank", authserver.ProfileFAPI2, withRSA(t), func(c *record.Client) { c.GrantTypes = []string{"client_credentials", "authorization_code"} })
	any21 := profiled("other", "", withRSA(t), func(c *record.Client) { c.GrantTypes = []string{"client_credentials", "authorization_code"} })
	s := newScene(t, scriptSetup{Clients: []testClient{bank, any21}})
	for client, want := range map[string]bool{"bank": false, "other": true} {
		now := time.Now().Unix()
		assertion := func(alg jose.Algorithm) string {
			return signRSA(t, alg, oauth.TypClientAuthentication, map[string]any{"iss": client, "sub": client, "aud": scriptIssuer, "jti": rand.Text(), "iat": now, "exp": now + 60})
		}
		if a := s.send("/par", client, "", pushed("client_assertion", assertion(jose.RS256))...); (a.status == http.StatusCreated) != want {
			t.Errorf("%s: an assertion: %d %s", client, a.status, a.body)
		}
		if a := s.send("/par", client, "", pushed("client_assertion", assertion(jose.PS256))...); a.status != http.StatusCreated {
			t.Errorf("%s: an assertion with PS256: %d %s", client, a.status, a.body)
		}
		object := func(alg jose.Algorithm) string {
			claims := requestObject(client, map[string]any{"nbf": now, "exp": now + 60})
			return signRSA(t, alg, oauth.TypRequestObject, claims)
		}
		if a := s.send("/par", client, "", "client_assertion", assertion(jose.PS256), "request", object(jose.RS256)); (a.status == http.StatusCreated) != want {
			t.Errorf("%s: a request object: %d %s", client, a.status, a.body)
		}
		if a := s.send("/par", client, "", "client_assertion", assertion(jose.PS256), "request", object(jose.PS256)); a.status != http.StatusCreated {
			t.Errorf("%s: a request object with PS256: %d %s", client, a.status, a.body)
		}
		proof := func(alg jose.Algorithm) string {
			signer, err := jose.NewEmbeddingSigner(alg, rsaKey())
			if err != nil {
				t.Fatal(err)
			}
			payload, _ := json.Marshal(map[string]any{"jti": rand.Text(), "htm": "POST", "htu": scriptIssuer + "/token", "iat": now})
			token, err := signer.Sign(oauth.TypDPoPProof, payload)
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		if a := s.send("/token", client, proof(jose.RS256), "client_assertion", assertion(jose.PS256), "grant_type", "client_credentials"); (a.status == http.StatusOK) != want {
			t.Errorf("%s: a proof: %d %s", client, a.status, a.body)
		}
		if a := s.send("/token", client, proof(jose.PS256), "client_assertion", assertion(jose.PS256), "grant_type", "client_credentials"); a.status != http.StatusOK {
			t.Errorf("%s: a proof with PS256: %d %s", client, a.status, a.body)
		}
	}
}

func TestFAPI2_DPoPProofsTenSecondsOff(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{profiled("bank", authserver.ProfileFAPI2, func(c *record.Client) { c.GrantTypes = []string{"client_credentials"} })}})
	for offset, want := range map[time.Duration]bool{-10 * time.Second: true, 10 * time.Second: true, 65 * time.Second: false, -65 * time.Second: false} {
		proof := s.newProof("k", map[string]any{"iat": time.Now().Add(offset).Unix()})
		if a := s.send("/token", "bank", proof, "grant_type", "client_credentials"); (a.status == http.StatusOK) != want {
			t.Errorf("iat %v: %d %s", offset, a.status, a.body)
		}
	}
}

func TestFAPI2_MessageSigning(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{profiled("bank", authserver.ProfileFAPI2MessageSigning)}})
	for _, test := range []struct {
		name     string
		changes  map[string]any
		accepted bool
	}{
		{"signed, response_mode jwt", nil, true},
		{"aud is an array with the issuer", map[string]any{"aud": []string{"https://other.example.com", scriptIssuer}}, true},
		{"nbf 8 s ahead", map[string]any{"nbf": "8s"}, true},
		{"nbf 8 s ahead, exp 60 minutes later", map[string]any{"nbf": "8s", "exp": "3607s"}, true},
		{"no nbf", map[string]any{"nbf": nil}, false},
		{"no exp", map[string]any{"exp": nil}, false},
		{"nbf over 60 minutes ago", map[string]any{"nbf": "-61m"}, false},
		{"exp over 60 minutes after nbf", map[string]any{"nbf": "-1m", "exp": "60m"}, false},
		{"expired", map[string]any{"nbf": "-5m", "exp": "-1m"}, false},
		{"another audience", map[string]any{"aud": "https://other.example.com"}, false},
		{"no response_mode", map[string]any{"response_mode": nil}, false},
		{"response_mode query", map[string]any{"response_mode": "query"}, false},
		{"response_mode query.jwt", map[string]any{"response_mode": "query.jwt"}, true},
		{"no redirect_uri", map[string]any{"redirect_uri": nil}, false},
	} {
		claims := map[string]any{"response_mode": "jwt"}
		maps.Copy(claims, test.changes)
		object, err := s.sign(jose.ES256, oauth.TypRequestObject, "", requestObject("bank", claims))
		if err != nil {
			t.Fatal(err)
		}
		if a := s.send("/par", "bank", "", "request", object); (a.status == http.StatusCreated) != test.accepted {
			t.Errorf("%s: %d %s", test.name, a.status, a.body)
		}
	}
	if a := s.send("/par", "bank", "", pushed("response_mode", "jwt")...); a.status != http.StatusBadRequest {
		t.Errorf("an unsigned request: %d %s", a.status, a.body)
	}
}

func TestFAPI1_AuthorizationRequests(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{profiled("bank", authserver.ProfileFAPI1Advanced, func(c *record.Client) {
		c.ResponseTypes, c.GrantTypes = []string{"code", "code id_token"}, []string{"authorization_code", "implicit", "refresh_token"}
	})}})
	for _, test := range []struct {
		name     string
		changes  map[string]any
		accepted bool
	}{
		{"code in a JWT", map[string]any{"response_mode": "jwt"}, true},
		{"code in a query", map[string]any{"response_mode": nil}, false},
		{"code id_token", map[string]any{"response_type": "code id_token", "scope": "openid", "nonce": "n"}, true},
		{"no nonce", map[string]any{"response_type": "code", "response_mode": "jwt", "scope": "openid"}, false},
		{"no state", map[string]any{"response_mode": "jwt", "state": nil}, false},
		{"no nbf", map[string]any{"response_mode": "jwt", "nbf": nil}, false},
		{"no redirect_uri", map[string]any{"response_mode": "jwt", "redirect_uri": nil}, false},
		{"no scope", map[string]any{"response_mode": "jwt", "scope": nil}, false},
	} {
		claims := requestObject("bank", test.changes)
		object, err := s.sign(jose.ES256, oauth.TypRequestObject, "", claims)
		if err != nil {
			t.Fatal(err)
		}
		w := s.authorize("ada", url.Values{"client_id": {"bank"}, "request": {object}, "response_type": {"code"}, "scope": {"openid"}}.Encode())
		location := w.Header.Get("Location")
		returned := location != "" && !strings.Contains(location, "error=") && (strings.Contains(location, "response=") || strings.Contains(location, "code="))
		if returned && strings.Contains(location, "response=") {
			_, claims, err := decodeJWT(location)
			returned = err == nil && claims["code"] != nil
		}
		if returned != test.accepted {
			t.Errorf("%s: %d %s", test.name, w.StatusCode, location)
		}
		delete(claims, "code_challenge")
		delete(claims, "code_challenge_method")
		if object, err = s.sign(jose.ES256, oauth.TypRequestObject, "", claims); err != nil {
			t.Fatal(err)
		}
		if a := s.send("/par", "bank", "", "request", object); a.status == http.StatusCreated {
			t.Errorf("%s: pushed without PKCE: %s", test.name, a.body)
		}
	}
	if location := s.authorize("ada", query("bank", "response_mode", "jwt")).Header.Get("Location"); strings.Contains(location, "code=") {
		t.Errorf("an unsigned request is accepted: %s", location)
	}
}

// A client that may only get JWTs gets an error as a JWT too, if the request object with the response
// mode is not valid, or if it is registered for no other mode. Otherwise, a request without a response
// mode gets its error as plain parameters.
func TestErrorsOfClientsWithJWTsOnly(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{
		profiled("bank", authserver.ProfileFAPI1Advanced),
		confidential("registered", func(c *record.Client) { c.ResponseModes = []string{"jwt", "query.jwt"} }),
		confidential("both", func(c *record.Client) { c.ResponseModes = []string{"query", "jwt"} }),
	}})
	signed := func(changes map[string]any) url.Values {
		object, err := s.sign(jose.ES256, oauth.TypRequestObject, "", requestObject("bank", changes))
		if err != nil {
			t.Fatal(err)
		}
		return url.Values{"request": {object}}
	}
	for _, test := range []struct {
		client  string
		request url.Values
		asJWT   bool
		code    string
	}{
		{"bank", signed(map[string]any{"exp": nil, "response_mode": "jwt"}), true, "invalid_request_object"},
		{"bank", signed(map[string]any{"response_mode": nil}), false, "invalid_request"},
		{"registered", nil, true, "invalid_request"},
		{"both", url.Values{"prompt": {"none login"}}, false, "invalid_request"},
	} {
		client := test.client
		query := url.Values{"client_id": {client}, "response_type": {"code"}, "redirect_uri": {testCallback}, "state": {"xyz"},
			"code_challenge": {oauth.S256Challenge(testVerifier)}, "code_challenge_method": {"S256"}}
		maps.Copy(query, test.request)
		location := s.authorize("ada", query.Encode()).Header.Get("Location")
		u, err := url.Parse(location)
		if err != nil {
			t.Fatal(err)
		}
		got := u.Query().Get("error")
		if test.asJWT {
			_, claims, err := decodeJWT(location)
			if err != nil || u.Query().Has("error") {
				t.Errorf("%s: %s: %v", client, location, err)
				continue
			}
			got, _ = claims["error"].(string)
		}
		if got != test.code {
			t.Errorf("%s: error %q, want %q: %s", client, got, test.code, location)
		}
	}
}

// decodeJWT returns the claims of the JWT in the parameter response.
func decodeJWT(location string) (header, claims map[string]any, err error) {
	u, err := url.Parse(location)
	if err != nil {
		return nil, nil, err
	}
	token := u.Query().Get("response")
	if token == "" {
		fragment, _ := url.ParseQuery(u.Fragment)
		token = fragment.Get("response")
	}
	payload, err := jose.UnverifiedPayload(token)
	if err != nil {
		return nil, nil, err
	}
	return nil, claims, json.Unmarshal(payload, &claims)
}

func TestFAPI1_StateHash(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{profiled("bank", authserver.ProfileFAPI1Advanced, func(c *record.Client) {
		c.ResponseTypes, c.GrantTypes = []string{"code id_token"}, []string{"authorization_code", "implicit"}
	})}})
	object, err := s.sign(jose.ES256, oauth.TypRequestObject, "", requestObject("bank", map[string]any{"response_type": "code id_token", "scope": "openid", "nonce": "n"}))
	if err != nil {
		t.Fatal(err)
	}
	location := s.authorize("ada", url.Values{"client_id": {"bank"}, "request": {object}}.Encode()).Header.Get("Location")
	_, fragment, _ := strings.Cut(location, "#")
	response, err := url.ParseQuery(fragment)
	if err != nil {
		t.Fatal(err)
	}
	header, err := jose.ParseHeader(response.Get("id_token"))
	if err != nil {
		t.Fatalf("%s: %v", location, err)
	}
	payload, _ := jose.UnverifiedPayload(response.Get("id_token"))
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	if header.Algorithm != jose.ES256 || claims["s_hash"] != jose.LeftHash(jose.ES256, "xyz") {
		t.Errorf("the ID token has alg %s and s_hash %v", header.Algorithm, claims["s_hash"])
	}
}

// A client that does not meet its profile, or has one that is weaker than the server's, is refused
// by every endpoint, even if it was stored before the profile was set.
func TestProfile_ClientsThatDoNotMeetIt(t *testing.T) {
	clients := []testClient{
		asserting("good"),
		confidential("secret"),
		asserting("weaker", func(c *record.Client) { c.Profile = authserver.ProfileOAuth20 }),
		confidential("exception", func(c *record.Client) { c.Profile, c.InsecureWeakerProfile = authserver.ProfileOAuth21, true }),
		asserting("http", func(c *record.Client) { c.RedirectURIs = []string{"http://localhost/cb"} }),
		asserting("rs256", func(c *record.Client) { c.IDTokenSignedResponseAlg = "RS256" }),
		asserting("insecure", func(c *record.Client) { c.InsecureAssertionAudience = true }),
		asserting("unknown", func(c *record.Client) { c.Profile = "fapi3" }),
	}
	s := newSceneOn(t, scriptSetup{Clients: clients}, memory.New(), func(config *authserver.Config) { config.Profile = authserver.ProfileFAPI2 })
	for _, c := range clients {
		var a apiResponse
		if c.Secret != "" {
			a = s.post("/token", c.ID, "grant_type", "client_credentials")
		} else {
			a = s.send("/token", c.ID, s.newProof("k", nil), "grant_type", "client_credentials")
		}
		want := http.StatusBadRequest
		if c.ID == "good" || c.ID == "exception" {
			want = http.StatusOK
		}
		if a.status != want || want != http.StatusOK && a.Error != "unauthorized_client" {
			t.Errorf("%s: %d %s", c.ID, a.status, a.body)
		}
	}
	for client, want := range map[string]bool{"secret": false, "exception": true} {
		if location := s.authorize("ada", query(client)).Header.Get("Location"); strings.Contains(location, "code=") != want {
			t.Errorf("%s at the authorization endpoint: %s", client, location)
		}
	}
}

func TestProfile_CheckClient(t *testing.T) {
	good := record.Client{ID: "c", ClientMetadata: oauth.ClientMetadata{
		TokenEndpointAuthMethod: "private_key_jwt", JWKSURI: "https://client.example.com/jwks", RedirectURIs: []string{testCallback},
		GrantTypes: []string{"authorization_code", "refresh_token"},
	}, ClientSettings: record.ClientSettings{Profile: authserver.ProfileFAPI2}}
	if problems := authserver.CheckClient(good); problems != nil {
		t.Errorf("a client that meets FAPI 2.0: %v", problems)
	}
	for member, change := range map[string]func(*record.Client){
		"token_endpoint_auth_method": func(c *record.Client) {
			c.TokenEndpointAuthMethod, c.Secrets = "client_secret_basic", []string{testSecret}
		},
		"grant_types":                       func(c *record.Client) { c.GrantTypes = append(c.GrantTypes, "password") },
		"response_types":                    func(c *record.Client) { c.ResponseTypes = []string{"code", "code id_token"} },
		"redirect_uris":                     func(c *record.Client) { c.RedirectURIs = []string{"http://localhost/cb"} },
		"id_token_signed_response_alg":      func(c *record.Client) { c.IDTokenSignedResponseAlg = "RS256" },
		"request_object_signing_alg":        func(c *record.Client) { c.RequestObjectSigningAlg = "none" },
		"token_endpoint_auth_signing_alg":   func(c *record.Client) { c.TokenEndpointAuthSigningAlg = "RS512" },
		"userinfo_signed_response_alg":      func(c *record.Client) { c.UserinfoSignedResponseAlg = "RS256" },
		"access_token_signed_response_alg":  func(c *record.Client) { c.AccessTokenSignedResponseAlg = "RS256" },
		"authorization_signed_response_alg": func(c *record.Client) { c.AuthorizationSignedResponseAlg = "ES512" },
		"insecure_no_code_challenge":        func(c *record.Client) { c.InsecureNoCodeChallenge = true },
		"insecure_assertion_audience":       func(c *record.Client) { c.InsecureAssertionAudience = true },
		"profile":                           func(c *record.Client) { c.Profile = "FAPI" },
	} {
		client := good
		client.GrantTypes, client.RedirectURIs = slices.Clone(good.GrantTypes), slices.Clone(good.RedirectURIs)
		change(&client)
		problems := authserver.CheckClient(client)
		if !slices.ContainsFunc(problems, func(p authserver.ClientProblem) bool {
			return p.Member == member && (member == "profile" || strings.Contains(p.Message, "FAPI 2.0 Security Profile, section "))
		}) {
			t.Errorf("%s: %v", member, problems)
		}
	}
}

func TestProfile_OAuth20(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{
		confidential("older", func(c *record.Client) { c.Profile = authserver.ProfileOAuth20 }), confidential("newer"),
		profiled("signing", authserver.ProfileOAuth20, func(c *record.Client) { c.GrantTypes = []string{"client_credentials"} }),
	}})
	for client, want := range map[string]bool{"older": true, "newer": false} {
		location := s.authorize("ada", query(client, "code_challenge", "", "code_challenge_method", "")).Header.Get("Location")
		if strings.Contains(location, "code=") != want {
			t.Errorf("%s without PKCE: %s", client, location)
		}
	}
	if !s.present("/token", s.assertion("signing", "JWT", map[string]any{"aud": scriptIssuer + "/token"})) {
		t.Error("an assertion for the token endpoint is refused")
	}
}

func TestProfile_ServerMetadata(t *testing.T) {
	s := newSceneOn(t, scriptSetup{}, memory.New(), func(config *authserver.Config) { config.Profile = authserver.ProfileFAPI2MessageSigning })
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/.well-known/oauth-authorization-server", nil))
	var m oauth.ServerMetadata
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	if !m.RequirePushedAuthorizationRequests || !m.RequireSignedRequestObject || !slices.Equal(m.ResponseTypesSupported, []string{"code"}) ||
		!slices.Equal(m.TokenEndpointAuthMethodsSupported, []string{"private_key_jwt"}) || slices.Contains(m.ResponseModesSupported, "query") {
		t.Errorf("%s", w.Body)
	}
	for _, algorithms := range [][]string{
		m.DPoPSigningAlgValuesSupported, m.IDTokenSigningAlgValuesSupported, m.TokenEndpointAuthSigningAlgValuesSupported,
		m.RequestObjectSigningAlgValuesSupported, m.AuthorizationSigningAlgValuesSupported, m.UserinfoSigningAlgValuesSupported,
	} {
		if !slices.Contains(algorithms, "ES256") || slices.ContainsFunc(algorithms, func(alg string) bool {
			return !slices.Contains([]string{"PS256", "ES256", "EdDSA", "Ed25519"}, alg)
		}) {
			t.Errorf("algorithms %v", algorithms)
		}
	}
}
