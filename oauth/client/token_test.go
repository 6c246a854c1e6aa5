package client_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

func TestRS11_TokenResponses(t *testing.T) {
	for name, test := range map[string]struct {
		status      int
		contentType string
		body        string
		lifetime    time.Duration // if good
		good        bool
		protocol    oauth.ErrorCode
	}{
		"plain":                     {body: `{"access_token":"a","token_type":"Bearer","expires_in":60}`, good: true, lifetime: time.Minute},
		"any case":                  {body: `{"access_token":"a","token_type":"bEARER"}`, good: true},
		"number in a string":        {body: `{"access_token":"a","token_type":"bearer","expires_in":"3600"}`, good: true, lifetime: time.Hour},
		"fraction":                  {body: `{"access_token":"a","token_type":"bearer","expires_in":60.0}`, good: true, lifetime: time.Minute},
		"null":                      {body: `{"access_token":"a","token_type":"bearer","expires_in":null}`, good: true},
		"expires_in of 0":           {body: `{"access_token":"a","token_type":"bearer","expires_in":0}`, good: true},
		"huge expires_in":           {body: `{"access_token":"a","token_type":"bearer","expires_in":1e300}`, good: true, lifetime: 10 * 365 * 24 * time.Hour},
		"unknown members":           {body: `{"access_token":"a","token_type":"bearer","x":{"y":[1]}}`, good: true},
		"no Content-Type":           {body: `{"access_token":"a","token_type":"bearer"}`, contentType: "text/plain", good: true},
		"no token_type":             {body: `{"access_token":"a"}`},
		"another token_type":        {body: `{"access_token":"a","token_type":"DPoP"}`},
		"no access token":           {body: `{"token_type":"Bearer"}`},
		"control characters":        {body: `{"access_token":"a\r\nX-Admin: 1","token_type":"Bearer"}`},
		"access token as an object": {body: `{"access_token":{"a":1},"token_type":"Bearer"}`},
		"negative":                  {body: `{"access_token":"a","token_type":"bearer","expires_in":-1}`},
		"not a number":              {body: `{"access_token":"a","token_type":"bearer","expires_in":"soon"}`},
		"NaN":                       {body: `{"access_token":"a","token_type":"bearer","expires_in":"NaN"}`},
		"HTML":                      {body: "<!doctype html><p>Sign in", contentType: "text/html"},
		"trailing data":             {body: `{"access_token":"a","token_type":"bearer"}<script>`},
		"empty":                     {body: ""},
		"too large":                 {body: `{"access_token":"` + strings.Repeat("a", 2<<20) + `","token_type":"bearer"}`},
		"HTML with an error":        {status: 502, body: "<h1>Bad gateway", contentType: "text/html"},
		"JSON with an error":        {status: 400, body: `{"error":"invalid_scope","error_description":"no"}`, protocol: oauth.InvalidScope},
		"an error with status 200":  {body: `{"error":"invalid_client"}`, protocol: oauth.InvalidClient},
		"error as an object":        {status: 400, body: `{"error":{"code":1}}`},
		"created":                   {status: 201, body: `{"access_token":"a","token_type":"bearer"}`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.handlers["/token"] = func(w http.ResponseWriter, r *http.Request) {
				if test.contentType == "" {
					test.contentType = "application/json"
				}
				w.Header().Set("Content-Type", test.contentType)
				if test.status != 0 {
					w.WriteHeader(test.status)
				}
				w.Write([]byte(test.body))
			}
			tokens, err := p.discover(t, nil).ClientCredentials(t.Context())
			switch {
			case test.good:
				if err != nil {
					t.Fatal(err)
				}
				if got := tokens.Expiry.Sub(tokens.Issued); test.lifetime != 0 && got != test.lifetime || test.lifetime == 0 && !tokens.Expiry.IsZero() {
					t.Errorf("the lifetime is %v, want %v", got, test.lifetime)
				}
			case test.protocol != "":
				if !errors.Is(err, &client.Error{Code: test.protocol}) {
					t.Errorf("got %v, want %s", err, test.protocol)
				}
			case !errors.Is(err, client.ErrResponse):
				t.Errorf("got %v, want ErrResponse", err)
			}
		})
	}
}

func TestRS08_SecretsAreNotSentToRedirects(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			p := newProvider(t)
			evil := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/evil", status) }
			for _, path := range []string{"/token", "/revoke", "/userinfo"} {
				p.handlers[path] = evil
			}
			c := p.discover(t, func(config *client.Config) { config.AuthMethod = oauth.AuthMethodClientSecretPost })
			if _, err := c.ClientCredentials(t.Context()); !errors.Is(err, client.ErrResponse) {
				t.Errorf("token: got %v, want ErrResponse", err)
			}
			tokens := &client.Tokens{AccessToken: "a", TokenType: "Bearer", RefreshToken: "r", Identity: &client.IDToken{Subject: "alice"}}
			if err := c.Revoke(t.Context(), tokens); !errors.Is(err, client.ErrResponse) {
				t.Errorf("revoke: got %v, want ErrResponse", err)
			}
			if _, err := c.UserInfo(t.Context(), tokens); !errors.Is(err, client.ErrResponse) {
				t.Errorf("userinfo: got %v, want ErrResponse", err)
			}
			if p.count("/evil") != 0 {
				t.Error("the redirect was followed")
			}
		})
	}
}

func TestClientAuthentication(t *testing.T) {
	key := newKey(t)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	basic := func(t *testing.T, got request) {
		// RFC 6749, section 2.3.1 and appendix B.
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte("app%3A+one:s3cret%3A%25+%2B"))
		if got.header.Get("Authorization") != want {
			t.Errorf("Authorization is %q", got.header.Get("Authorization"))
		}
		if got.form.Has("client_secret") {
			t.Error("the secret is in the form too")
		}
	}
	post := func(t *testing.T, got request) {
		if got.form.Get("client_id") != clientID || got.form.Get("client_secret") != clientSecret || got.header.Get("Authorization") != "" {
			t.Errorf("form %v, header %q", got.form, got.header.Get("Authorization"))
		}
	}
	for name, test := range map[string]struct {
		offered []string
		change  func(*client.Config)
		check   func(*testing.T, request)
	}{
		"basic by default":            {check: basic},
		"basic if both are listed":    {offered: []string{"client_secret_post", "client_secret_basic"}, check: basic},
		"post if basic is not listed": {offered: []string{"client_secret_post", "private_key_jwt"}, check: post},
		"post if configured":          {change: func(c *client.Config) { c.AuthMethod = "client_secret_post" }, check: post},
		"none without a secret": {change: func(c *client.Config) { c.ClientSecret = "" }, check: func(t *testing.T, got request) {
			if got.form.Get("client_id") != clientID || got.form.Has("client_secret") || got.header.Get("Authorization") != "" {
				t.Errorf("form %v, header %q", got.form, got.header.Get("Authorization"))
			}
		}},
		"private_key_jwt": {
			change: func(c *client.Config) { c.PrivateKey, c.KeyID = key, "mine" },
			check: func(t *testing.T, got request) {
				checkAssertion(t, got.form, "ES256", "mine", func(input string, signature []byte) bool {
					sum := sha256.Sum256([]byte(input))
					r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
					return ecdsa.Verify(&key.PublicKey, sum[:], r, s)
				})
				if got.form.Has("client_secret") || got.header.Get("Authorization") != "" {
					t.Error("the secret was sent too")
				}
			},
		},
		"private_key_jwt with P-521": {
			change: func(c *client.Config) { c.PrivateKey = p521 },
			check: func(t *testing.T, got request) {
				checkAssertion(t, got.form, "ES512", "", func(input string, signature []byte) bool {
					h := crypto.SHA512.New()
					h.Write([]byte(input))
					r, s := new(big.Int).SetBytes(signature[:66]), new(big.Int).SetBytes(signature[66:])
					return ecdsa.Verify(&p521.PublicKey, h.Sum(nil), r, s)
				})
			},
		},
		"client_secret_jwt": {
			change: func(c *client.Config) {
				c.AuthMethod, c.ClientSecret = "client_secret_jwt", strings.Repeat("s", 32)
			},
			check: func(t *testing.T, got request) {
				checkAssertion(t, got.form, "HS256", "", func(input string, signature []byte) bool {
					return string(signature) == string(hmacSHA256([]byte(strings.Repeat("s", 32)), input))
				})
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			if test.offered != nil {
				p.metadata["token_endpoint_auth_methods_supported"] = test.offered
			}
			c := p.discover(t, test.change)
			if _, err := c.ClientCredentials(t.Context()); err != nil {
				t.Fatal(err)
			}
			first := p.last(t, "/token")
			test.check(t, first)
			if _, err := c.ClientCredentials(t.Context()); err != nil {
				t.Fatal(err)
			}
			if a := first.form.Get("client_assertion"); a != "" && a == p.last(t, "/token").form.Get("client_assertion") {
				t.Error("the assertion was used twice")
			}
		})
	}
}

func checkAssertion(t *testing.T, form url.Values, alg, kid string, verify func(input string, signature []byte) bool) {
	t.Helper()
	if got := form.Get("client_assertion_type"); got != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		t.Errorf("client_assertion_type is %q", got)
	}
	token := form.Get("client_assertion")
	dot := strings.LastIndexByte(token, '.')
	if dot < 0 {
		t.Fatalf("the assertion is %q", token)
	}
	signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	if err != nil || !verify(token[:dot], signature) {
		t.Errorf("the signature is not valid (%v)", err)
	}
	parts := strings.Split(token, ".")
	var header, claims map[string]any
	for i, into := range []*map[string]any{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatal(err)
		}
	}
	wantHeader := map[string]any{"alg": alg, "typ": "client-authentication+jwt"}
	if kid != "" {
		wantHeader["kid"] = kid
	}
	if diff := cmp.Diff(wantHeader, header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	id, _ := claims["jti"].(string)
	issued, _ := claims["iat"].(float64)
	expires, _ := claims["exp"].(float64)
	if len(id) < 22 || expires-issued != 60 {
		t.Errorf("jti %q, iat %v, exp %v", id, issued, expires)
	}
	delete(claims, "jti")
	delete(claims, "iat")
	delete(claims, "exp")
	if diff := cmp.Diff(map[string]any{"iss": clientID, "sub": clientID, "aud": "http://localhost"}, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestInvalidConfigs(t *testing.T) {
	p := newProvider(t)
	for name, change := range map[string]func(*client.Config){
		"no client_id":                  func(c *client.Config) { c.ClientID = "" },
		"basic without a secret":        func(c *client.Config) { c.AuthMethod, c.ClientSecret = "client_secret_basic", "" },
		"private_key_jwt without a key": func(c *client.Config) { c.AuthMethod = "private_key_jwt" },
		"client_secret_jwt without":     func(c *client.Config) { c.AuthMethod, c.ClientSecret = "client_secret_jwt", "" },
		"unknown method":                func(c *client.Config) { c.AuthMethod = "tls_client_auth" },
		"algorithm none":                func(c *client.Config) { c.IDTokenSigningAlg = "none" },
		"HS256 without a secret":        func(c *client.Config) { c.IDTokenSigningAlg, c.ClientSecret = "HS256", "" },
		"key of another kind":           func(c *client.Config) { c.PrivateKey, c.SigningAlg = newKey(t), "RS256" },
		"relative redirect URI":         func(c *client.Config) { c.RedirectURI = "/callback" },
		"redirect URI with a fragment":  func(c *client.Config) { c.RedirectURI = "https://app.example/#a" },
	} {
		t.Run(name, func(t *testing.T) {
			config := p.config()
			change(&config)
			if _, err := client.Discover(t.Context(), config); err == nil {
				t.Error("it was accepted")
			}
		})
	}
}

func TestUserInfo(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, nil)
	tokens, err := p.signIn(t, c, client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.UserInfo(t.Context(), tokens)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Name string `json:"name"`
	}
	if err := info.Decode(&claims); err != nil || claims.Name != "Alice" || info.Subject != "alice" {
		t.Errorf("got %q, %q (%v)", info.Subject, claims.Name, err)
	}
	if got := p.last(t, "/userinfo").header.Get("Authorization"); got != "Bearer "+tokens.AccessToken {
		t.Error("the access token was not sent in the Authorization header")
	}

	t.Run("about another user", func(t *testing.T) {
		p.handlers["/userinfo"] = func(w http.ResponseWriter, r *http.Request) {
			writeJSON(w, 200, map[string]any{"sub": "mallory"})
		}
		if _, err := c.UserInfo(t.Context(), tokens); !errors.Is(err, client.ErrSubject) {
			t.Errorf("got %v, want ErrSubject", err)
		}
	})
	t.Run("without an ID token", func(t *testing.T) {
		if _, err := c.UserInfo(t.Context(), &client.Tokens{AccessToken: "a", TokenType: "Bearer"}); !errors.Is(err, client.ErrSubject) {
			t.Errorf("got %v, want ErrSubject", err)
		}
	})
	t.Run("token rejected", func(t *testing.T) {
		p.handlers["/userinfo"] = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="expired"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
		if _, err := c.UserInfo(t.Context(), tokens); !errors.Is(err, &client.Error{Code: oauth.InvalidToken}) {
			t.Errorf("got %v, want invalid_token", err)
		}
	})
}

func TestRevoke(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, nil)
	if err := c.Revoke(t.Context(), &client.Tokens{AccessToken: "a", RefreshToken: "r"}); err != nil {
		t.Fatal(err)
	}
	got := p.last(t, "/revoke")
	if got.form.Get("token") != "r" || got.form.Get("token_type_hint") != "refresh_token" || got.header.Get("Authorization") == "" {
		t.Errorf("the request was %v", got.form)
	}
	if err := c.Revoke(t.Context(), &client.Tokens{AccessToken: "a"}); err != nil {
		t.Fatal(err)
	}
	if got := p.last(t, "/revoke"); got.form.Get("token") != "a" || got.form.Get("token_type_hint") != "access_token" {
		t.Errorf("the request was %v", got.form)
	}
}

func TestLogoutURL(t *testing.T) {
	p := newProvider(t)
	p.metadata["end_session_endpoint"] = p.issuer + "/logout?tenant=1"
	address, err := p.discover(t, nil).LogoutURL(client.LogoutOptions{
		IDTokenHint: "a.b.c", PostLogoutRedirectURI: "https://app.example/?x=1&y", State: "s",
	})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"tenant": {"1"}, "client_id": {clientID}, "id_token_hint": {"a.b.c"},
		"post_logout_redirect_uri": {"https://app.example/?x=1&y"}, "state": {"s"},
	}
	if diff := cmp.Diff(want, u.Query()); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
}

func TestMissingEndpoints(t *testing.T) {
	c, err := client.New(oauth.ServerMetadata{Issuer: "https://op.example"}, client.Config{Issuer: "https://op.example", ClientID: "app"})
	if err != nil {
		t.Fatal(err)
	}
	_, _, authorizeErr := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	_, tokenErr := c.ClientCredentials(t.Context())
	_, userinfoErr := c.UserInfo(t.Context(), &client.Tokens{})
	_, logoutErr := c.LogoutURL(client.LogoutOptions{})
	for name, err := range map[string]error{
		"authorize": authorizeErr, "token": tokenErr, "userinfo": userinfoErr, "logout": logoutErr,
		"revoke": c.Revoke(t.Context(), &client.Tokens{}),
	} {
		if !errors.Is(err, client.ErrUnsupported) {
			t.Errorf("%s: got %v, want ErrUnsupported", name, err)
		}
	}
}

func hmacSHA256(key []byte, input string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(input))
	return mac.Sum(nil)
}
