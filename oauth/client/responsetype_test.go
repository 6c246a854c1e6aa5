package client_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
)

// frontChannel returns the response of the authorization endpoint for the requested response
// type, with changed claims of the ID token.
func (p *provider) frontChannel(t *testing.T, address string, change func(map[string]any)) url.Values {
	t.Helper()
	response := p.authorize(t, address)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	asked, ok := oauth.ParseResponseType(u.Query().Get("response_type"))
	if !ok {
		t.Fatalf("response_type is %q", u.Query().Get("response_type"))
	}
	now := time.Now()
	claims := map[string]any{
		"iss": p.issuer, "sub": "alice", "aud": clientID, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"auth_time": p.signedInAt.Unix(), "nonce": u.Query().Get("nonce"),
	}
	half := func(value string) string {
		sum := sha256.Sum256([]byte(value))
		return encode(sum[:16])
	}
	if asked.Token {
		response.Set("access_token", rand.Text())
		response.Set("token_type", "bearer")
		response.Set("expires_in", "600")
		claims["at_hash"] = half(response.Get("access_token"))
	}
	if asked.Code {
		claims["c_hash"] = half(response.Get("code"))
	} else {
		response.Del("code")
	}
	if asked.IDToken {
		if change != nil {
			change(claims)
		}
		response.Set("id_token", p.sign(claims))
	}
	return response
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	document, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func (p *provider) ofType(t *testing.T, responseType string) *client.Client {
	t.Helper()
	return p.discover(t, func(config *client.Config) { config.ResponseType = responseType })
}

func TestResponseTypesSignIn(t *testing.T) {
	for _, test := range []struct {
		responseType          string
		accessToken, redeemed bool
	}{
		{"code", true, true},
		{"id_token", false, false},
		{"id_token token", true, false},
		{"token id_token", true, false},
		{"code id_token", true, true},
		{"code token", true, true},
		{"code id_token token", true, true},
	} {
		t.Run(test.responseType, func(t *testing.T) {
			p := newProvider(t)
			c := p.ofType(t, test.responseType)
			address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if hasChallenge := strings.Contains(address, "code_challenge="); hasChallenge != test.redeemed {
				t.Errorf("code_challenge is present: %v", hasChallenge)
			}
			response := p.frontChannel(t, address, nil)
			tokens, err := c.Callback(t.Context(), transaction, response)
			if err != nil {
				t.Fatal(err)
			}
			if tokens.Identity == nil || tokens.Identity.Subject != "alice" || tokens.IDToken == "" {
				t.Error("no user is signed in")
			}
			if (tokens.AccessToken != "") != test.accessToken || (p.count("/token") == 1) != test.redeemed {
				t.Errorf("access token: %v, token requests: %d", tokens.AccessToken != "", p.count("/token"))
			}
			// The token from the browser is used only without one from the token endpoint.
			if fromBrowser := tokens.AccessToken == response.Get("access_token"); test.redeemed && fromBrowser {
				t.Error("the access token is the one from the browser")
			}
			if !test.redeemed && test.accessToken && time.Until(tokens.Expiry) > 10*time.Minute {
				t.Errorf("the access token expires at %v", tokens.Expiry)
			}
			source := c.Source(tokens, nil)
			if _, err := source.Tokens(t.Context()); test.accessToken != (err == nil) {
				t.Errorf("a source of these tokens: %v", err)
			}
		})
	}
}

func TestRS12_FrontChannelIDTokens(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		change func(map[string]any)
		types  string // response types for which it is rejected
	}{
		"other nonce":           {func(c map[string]any) { c["nonce"] = "other" }, "id_token,id_token token,code id_token,code id_token token"},
		"no nonce":              {func(c map[string]any) { delete(c, "nonce") }, "id_token,id_token token,code id_token,code id_token token"},
		"other issuer":          {func(c map[string]any) { c["iss"] = "https://evil.example" }, "id_token,id_token token,code id_token,code id_token token"},
		"other audience":        {func(c map[string]any) { c["aud"] = "other" }, "id_token,id_token token,code id_token,code id_token token"},
		"expired":               {func(c map[string]any) { c["exp"] = now.Add(-time.Hour).Unix() }, "id_token,id_token token,code id_token,code id_token token"},
		"no subject":            {func(c map[string]any) { delete(c, "sub") }, "id_token,id_token token,code id_token,code id_token token"},
		"no iat":                {func(c map[string]any) { delete(c, "iat") }, "id_token,id_token token,code id_token,code id_token token"},
		"no c_hash":             {func(c map[string]any) { delete(c, "c_hash") }, "code id_token,code id_token token"},
		"another code's c_hash": {func(c map[string]any) { c["c_hash"] = "LDktKdoQak3Pk0cnXxCltA" }, "code id_token,code id_token token"},
		"no at_hash":            {func(c map[string]any) { delete(c, "at_hash") }, "id_token token,code id_token token"},
		"another's at_hash":     {func(c map[string]any) { c["at_hash"] = "77QmUPtjPfzWtF2AnpK9RQ" }, "id_token token,code id_token token"},
		"another user":          {func(c map[string]any) { c["sub"] = "mallory" }, "code id_token,code id_token token"},
	} {
		for _, responseType := range []string{"id_token", "id_token token", "code id_token", "code id_token token"} {
			t.Run(name+" in "+responseType, func(t *testing.T) {
				p := newProvider(t)
				c := p.ofType(t, responseType)
				address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
				if err != nil {
					t.Fatal(err)
				}
				_, err = c.Callback(t.Context(), transaction, p.frontChannel(t, address, test.change))
				refused := strings.Contains(","+test.types+",", ","+responseType+",")
				if refused != errors.Is(err, client.ErrIDToken) || !refused && err != nil {
					t.Errorf("rejected should be %v, but the error is %v", refused, err)
				}
				// A code with an invalid ID token is not redeemed.
				if p.count("/token") > 0 && refused && name != "another user" {
					t.Error("the code was redeemed")
				}
			})
		}
	}
}

func TestIncompleteFrontChannelResponsesAreRejected(t *testing.T) {
	for _, test := range []struct{ responseType, drop, set string }{
		{"id_token", "id_token", ""},
		{"id_token token", "access_token", ""},
		{"id_token token", "token_type", ""},
		{"id_token token", "token_type", "mac"},
		{"id_token token", "expires_in", "soon"},
		{"code id_token", "code", ""},
		{"code id_token", "id_token", ""},
		{"code id_token token", "access_token", ""},
		{"code token", "code", ""},
	} {
		p := newProvider(t)
		c := p.ofType(t, test.responseType)
		address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
		if err != nil {
			t.Fatal(err)
		}
		response := p.frontChannel(t, address, nil)
		response.Del(test.drop)
		if test.set != "" {
			response.Set(test.drop, test.set)
		}
		if _, err := c.Callback(t.Context(), transaction, response); !errors.Is(err, client.ErrCallback) {
			t.Errorf("%+v: %v", test, err)
		}
		if p.count("/token") > 0 {
			t.Errorf("%+v: the code was redeemed", test)
		}
	}
}

// The provider's keys may change during a sign-in.
func TestKeysRotateBetweenTwoIDTokensOfOneSignIn(t *testing.T) {
	p := newProvider(t)
	c := p.ofType(t, "code id_token")
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	response := p.frontChannel(t, address, nil)
	p.handlers["/token"] = func(w http.ResponseWriter, r *http.Request) {
		p.rotate(newKey(t), "two")
		p.token(w, r)
	}
	if _, err := c.Callback(t.Context(), transaction, response); err != nil {
		t.Error(err)
	}
}

func TestUnsupportedResponseTypes(t *testing.T) {
	p := newProvider(t)
	for _, responseType := range []string{"token", "none", "device", "code code"} {
		config := p.config()
		config.ResponseType = responseType
		if _, err := client.Discover(t.Context(), config); err == nil {
			t.Errorf("%q is taken", responseType)
		}
	}
	c := p.ofType(t, "code id_token")
	if _, _, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{Scopes: []string{"api"}}); err == nil {
		t.Error("an ID token is requested without openid")
	}
	if _, _, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{ResponseMode: "query"}); err == nil {
		t.Error("tokens are requested in a query")
	}
}

func TestRequestObjects(t *testing.T) {
	p := newProvider(t)
	key := newKey(t)
	for alg, secret := range map[jose.Algorithm]string{"ES256": "", "HS256": strings.Repeat("secret", 8), "none": ""} {
		c := p.discover(t, func(config *client.Config) {
			config.ClientSecret, config.RequestObjectSigningAlg = secret, alg
			config.Resources = []string{"https://a.example", "https://b.example"}
			if alg == "ES256" {
				config.PrivateKey, config.KeyID = key, "k1"
			}
		})
		maxAge := time.Minute
		address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{MaxAge: &maxAge, AuthorizationDetails: []any{map[string]string{"type": "payment"}}})
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		query := u.Query()
		object := query.Get("request")
		for _, name := range []string{"state", "nonce", "redirect_uri", "code_challenge", "max_age"} {
			if query.Has(name) {
				t.Errorf("%s: %s is outside of the request object", alg, name)
			}
		}
		if query.Get("client_id") != clientID || query.Get("response_type") != "code" || query.Get("tenant") != "1" {
			t.Errorf("%s: parameters outside: %v", alg, query)
		}
		payload, err := jose.UnverifiedPayload(object)
		switch alg {
		case "HS256":
			payload, _, err = jose.VerifySecret(object, []byte(secret), jose.Expected{Algorithms: []jose.Algorithm{alg}, Types: []string{"oauth-authz-req+jwt"}})
		case "ES256":
			set, setErr := jose.ParseKeySet(mustJSON(t, map[string]any{"keys": []any{publicJWK(key, "k1")}}))
			if setErr != nil {
				t.Fatal(setErr)
			}
			payload, _, err = jose.Verify(object, set, jose.Expected{Algorithms: []jose.Algorithm{alg}, Types: []string{"oauth-authz-req+jwt"}})
		}
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		var claims struct {
			State       string   `json:"state"`
			Nonce       string   `json:"nonce"`
			RedirectURI string   `json:"redirect_uri"`
			MaxAge      int      `json:"max_age"`
			Resource    []string `json:"resource"`
			Tenant      string   `json:"tenant"`
			Details     []any    `json:"authorization_details"`
		}
		registered, err := jose.ParseClaims(payload, &claims)
		if err != nil {
			t.Fatal(err)
		}
		if registered.Issuer != clientID || registered.Audience[0] != p.issuer || registered.ID == "" || time.Until(registered.Expires) > 6*time.Minute {
			t.Errorf("%s: registered claims are %+v", alg, registered)
		}
		if claims.State != transaction.State || claims.Nonce != transaction.Nonce || claims.RedirectURI != redirectURI ||
			claims.MaxAge != 60 || len(claims.Resource) != 2 || len(claims.Details) != 1 || claims.Tenant != "" {
			t.Errorf("%s: claims are %s", alg, payload)
		}
	}
}

func TestRequestObjectByReference(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, func(config *client.Config) { config.RequestObjectSigningAlg = "none" })
	published := ""
	address, _, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{RequestURI: func(object string) (string, error) {
		published = object
		return "https://app.example/request/1", nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if query := u.Query(); query.Get("request_uri") != "https://app.example/request/1" || query.Has("request") || query.Has("state") {
		t.Errorf("the request is %v", query)
	}
	if strings.Count(published, ".") != 2 {
		t.Errorf("published: %q", published)
	}
	failed := errors.New("disk full")
	_, _, err = c.AuthorizationURL(t.Context(), client.AuthorizationOptions{RequestURI: func(string) (string, error) { return "", failed }})
	if !errors.Is(err, failed) {
		t.Errorf("error is %v", err)
	}
}

func TestUserInfoSigned(t *testing.T) {
	good := func(p *provider) map[string]any {
		return map[string]any{"iss": p.issuer, "aud": clientID, "sub": "alice", "name": "Alice"}
	}
	for name, test := range map[string]struct {
		alg    jose.Algorithm
		change func(map[string]any)
		plain  bool
		want   error
	}{
		"signed, as required": {alg: "ES256"},
		"signed, unasked":     {},
		"other algorithm":     {alg: "RS256", want: client.ErrResponse},
		"unsigned":            {alg: "ES256", plain: true, want: client.ErrResponse},
		"other issuer":        {change: func(c map[string]any) { c["iss"] = "https://evil.example" }, want: client.ErrResponse},
		"other audience":      {change: func(c map[string]any) { c["aud"] = "other" }, want: client.ErrResponse},
		"expired":             {change: func(c map[string]any) { c["exp"] = 1 }, want: client.ErrResponse},
		"no issuer":           {change: func(c map[string]any) { delete(c, "iss"); delete(c, "aud") }},
		"another user":        {change: func(c map[string]any) { c["sub"] = "mallory" }, want: client.ErrSubject},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.handlers["/userinfo"] = func(w http.ResponseWriter, r *http.Request) {
				claims := good(p)
				if test.change != nil {
					test.change(claims)
				}
				if test.plain {
					writeJSON(w, http.StatusOK, claims)
					return
				}
				w.Header().Set("Content-Type", "application/jwt;charset=UTF-8")
				w.Write([]byte(p.sign(claims)))
			}
			c := p.discover(t, func(config *client.Config) { config.UserInfoSigningAlg = test.alg })
			tokens, err := p.signIn(t, c, client.AuthorizationOptions{})
			if err != nil {
				t.Fatal(err)
			}
			info, err := c.UserInfo(t.Context(), tokens)
			if !errors.Is(err, test.want) || err == nil && !strings.Contains(string(info.Claims), "Alice") {
				t.Errorf("error is %v, want %v", err, test.want)
			}
		})
	}
}
