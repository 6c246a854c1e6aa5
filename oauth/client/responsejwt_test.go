package client_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
)

// inJWT returns an authorization response as the provider's JWT.
func (p *provider) inJWT(t *testing.T, response url.Values, change func(claims map[string]any)) url.Values {
	t.Helper()
	claims := map[string]any{"aud": clientID, "exp": time.Now().Add(time.Minute).Unix()}
	for name := range response {
		claims[name] = response.Get(name)
	}
	if change != nil {
		change(claims)
	}
	return url.Values{"response": {signES256(t, p.key, map[string]any{"alg": "ES256", "kid": p.kid}, claims)}}
}

func expectsJWT(config *client.Config) { config.AuthorizationSigningAlg = jose.ES256 }

func TestResponseJWT(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, expectsJWT)
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if u, err := url.Parse(address); err != nil || u.Query().Get("response_mode") != "jwt" {
		t.Errorf("the request is %s, want response_mode=jwt", address)
	}
	tokens, err := c.Callback(t.Context(), transaction, p.inJWT(t, p.authorize(t, address), nil))
	if err != nil || tokens.AccessToken == "" {
		t.Errorf("got %v, %v", tokens, err)
	}
	address, transaction, err = c.AuthorizationURL(t.Context(), client.AuthorizationOptions{ResponseMode: "form_post"})
	if err != nil || !strings.Contains(address, "response_mode=form_post.jwt") {
		t.Fatalf("%s, %v, want form_post.jwt", address, err)
	}
	refusal := url.Values{"error": {"access_denied"}, "state": {transaction.State}, "iss": {p.issuer}}
	_, err = c.Callback(t.Context(), transaction, p.inJWT(t, refusal, nil))
	if refused, ok := errors.AsType[*client.Error](err); !ok || refused.Code != oauth.AccessDenied {
		t.Errorf("an error in a JWT: %v, want access_denied", err)
	}
}

func TestResponseJWTsThatAreRefused(t *testing.T) {
	other := newKey(t)
	for name, test := range map[string]struct {
		change func(claims map[string]any)
		replay func(p *provider, response url.Values) url.Values
		want   error
		kept   bool // the sign-in can still be completed
	}{
		"another issuer":   {change: func(c map[string]any) { c["iss"] = "https://attacker.example" }, want: client.ErrMixUp},
		"no issuer":        {change: func(c map[string]any) { delete(c, "iss") }, want: client.ErrMixUp},
		"another audience": {change: func(c map[string]any) { c["aud"] = "other" }, want: client.ErrCallback},
		"no audience":      {change: func(c map[string]any) { delete(c, "aud") }, want: client.ErrCallback},
		"expired":          {change: func(c map[string]any) { c["exp"] = time.Now().Add(-5 * time.Minute).Unix() }, want: client.ErrCallback},
		"without exp":      {change: func(c map[string]any) { delete(c, "exp") }, want: client.ErrCallback},
		"exp as a string":  {change: func(c map[string]any) { c["exp"] = "never" }, want: client.ErrState, kept: true},
		"another state":    {change: func(c map[string]any) { c["state"] = "x" }, want: client.ErrState, kept: true},
		"without state":    {change: func(c map[string]any) { delete(c, "state") }, want: client.ErrState, kept: true},
		"the parameter twice": {replay: func(_ *provider, r url.Values) url.Values {
			r["response"] = append(r["response"], r["response"][0])
			return r
		}, want: client.ErrState, kept: true},
		"plain parameters": {replay: func(_ *provider, r url.Values) url.Values {
			payload, _ := jose.UnverifiedPayload(r.Get("response"))
			var claims map[string]any
			json.Unmarshal(payload, &claims)
			return url.Values{"code": {claims["code"].(string)}, "state": {claims["state"].(string)}, "iss": {claims["iss"].(string)}}
		}, want: client.ErrState, kept: true},
		"a modified signature": {replay: func(_ *provider, r url.Values) url.Values {
			r.Set("response", r.Get("response")[:len(r.Get("response"))-6]+"AAAAAA")
			return r
		}, want: client.ErrCallback},
		"no algorithm": {replay: func(_ *provider, r url.Values) url.Values {
			payload, _ := jose.UnverifiedPayload(r.Get("response"))
			token, _ := jose.Unsigned("", payload)
			return url.Values{"response": {token}}
		}, want: client.ErrCallback},
		"the key of another party": {replay: func(_ *provider, r url.Values) url.Values {
			payload, _ := jose.UnverifiedPayload(r.Get("response"))
			var claims map[string]any
			json.Unmarshal(payload, &claims)
			return url.Values{"response": {signES256(t, other, map[string]any{"alg": "ES256", "kid": "one"}, claims)}}
		}, want: client.ErrCallback},
		"another algorithm": {replay: func(_ *provider, r url.Values) url.Values {
			payload, _ := jose.UnverifiedPayload(r.Get("response"))
			signer, err := jose.NewSecretSigner(jose.HS256, []byte("a public key, which everyone has..."))
			if err != nil {
				t.Fatal(err)
			}
			token, _ := signer.Sign("", payload)
			return url.Values{"response": {token}}
		}, want: client.ErrCallback},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			c := p.discover(t, expectsJWT)
			address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
			if err != nil {
				t.Fatal(err)
			}
			plain := p.authorize(t, address)
			response := p.inJWT(t, maps.Clone(plain), test.change)
			if test.replay != nil {
				response = test.replay(p, response)
			}
			if _, err := c.Callback(t.Context(), transaction, response); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if _, err := c.Callback(t.Context(), transaction, p.inJWT(t, plain, nil)); (err == nil) != test.kept {
				t.Errorf("afterwards, the real response gets %v", err)
			}
		})
	}
}

func TestResponseJWTsAreDecrypted(t *testing.T) {
	p := newProvider(t)
	const alg, enc = jose.Direct, jose.A128CBCHS256
	c := p.discover(t, func(config *client.Config) {
		expectsJWT(config)
		config.AuthorizationEncryptionAlg = alg
	})
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	signed := p.inJWT(t, p.authorize(t, address), nil)
	if _, err := c.Callback(t.Context(), transaction, signed); !errors.Is(err, client.ErrState) {
		t.Errorf("a response that is not encrypted: %v", err)
	}
	encrypted, err := jose.EncryptSecret(alg, enc, jose.SharedSecret(clientSecret), jose.Message{ContentType: "JWT", Payload: []byte(signed.Get("response"))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Callback(t.Context(), transaction, url.Values{"response": {encrypted}}); err != nil {
		t.Error(err)
	}
}

func TestRelyingPartyReadsResponseJWTs(t *testing.T) {
	for _, mode := range []string{"", "form_post"} {
		a := newWebApp(t, func(c *client.Config, p *client.RelyingPartyConfig) {
			expectsJWT(c)
			p.Authorization.ResponseMode = mode
		})
		browser := a.browser(t)
		resp, _ := appGet(t, browser, "/auth/sign-in")
		if cookie := resp.Cookies()[0]; (cookie.SameSite == http.SameSiteNoneMode) != (mode == "form_post") {
			t.Errorf("%q: the cookie has SameSite %v", mode, cookie.SameSite)
		}
		address := resp.Header.Get("Location")
		response := a.inJWT(t, a.authorize(t, address), nil)
		if mode == "form_post" {
			appPost(t, browser, "/auth/callback", response)
		} else {
			appGet(t, browser, "/auth/callback?"+response.Encode())
		}
		if !a.signedIn(t, browser) {
			t.Errorf("%q: not signed in: %v", mode, a.failure)
		}
	}
}

func TestResponseJWTConfiguration(t *testing.T) {
	p := newProvider(t)
	for name, change := range map[string]func(*client.Config){
		"encryption alone": func(c *client.Config) { c.AuthorizationEncryptionAlg = jose.Direct },
		"none":             func(c *client.Config) { c.AuthorizationSigningAlg = "none" },
		"HMAC, no secret":  func(c *client.Config) { c.AuthorizationSigningAlg, c.ClientSecret = jose.HS256, "" },
	} {
		config := p.config()
		change(&config)
		if _, err := client.Discover(t.Context(), config); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
