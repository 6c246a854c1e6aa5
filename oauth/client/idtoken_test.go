package client_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
)

func TestRS12_IDTokenClaims(t *testing.T) {
	now := time.Now()
	hour := time.Hour
	for name, test := range map[string]struct {
		change func(map[string]any)
		maxAge *time.Duration
		good   bool
	}{
		"valid":                     {change: func(map[string]any) {}, good: true},
		"other issuer":              {change: func(c map[string]any) { c["iss"] = "https://evil.example" }},
		"issuer with a slash":       {change: func(c map[string]any) { c["iss"] = "http://localhost/" }},
		"no issuer":                 {change: func(c map[string]any) { delete(c, "iss") }},
		"no subject":                {change: func(c map[string]any) { delete(c, "sub") }},
		"empty subject":             {change: func(c map[string]any) { c["sub"] = "" }},
		"subject as a number":       {change: func(c map[string]any) { c["sub"] = 7 }},
		"long subject":              {change: func(c map[string]any) { c["sub"] = strings.Repeat("a", 256) }},
		"other audience":            {change: func(c map[string]any) { c["aud"] = "app" }},
		"no audience":               {change: func(c map[string]any) { delete(c, "aud") }},
		"empty audience":            {change: func(c map[string]any) { c["aud"] = []string{} }},
		"several audiences":         {change: func(c map[string]any) { c["aud"] = []string{clientID, "other"} }},
		"several, and azp":          {change: func(c map[string]any) { c["aud"] = []string{"other", clientID}; c["azp"] = clientID }, good: true},
		"one, in an array":          {change: func(c map[string]any) { c["aud"] = []string{clientID} }, good: true},
		"other azp":                 {change: func(c map[string]any) { c["azp"] = "other" }},
		"several, other azp":        {change: func(c map[string]any) { c["aud"] = []string{"other", clientID}; c["azp"] = "other" }},
		"expired":                   {change: func(c map[string]any) { c["exp"] = now.Add(-2 * time.Minute).Unix() }},
		"expired within the leeway": {change: func(c map[string]any) { c["exp"] = now.Add(-30 * time.Second).Unix() }, good: true},
		"no expiry":                 {change: func(c map[string]any) { delete(c, "exp") }},
		"expiry as a string":        {change: func(c map[string]any) { c["exp"] = "9999999999" }},
		"issued in the future":      {change: func(c map[string]any) { c["iat"] = now.Add(5 * time.Minute).Unix() }},
		"no iat":                    {change: func(c map[string]any) { delete(c, "iat") }},
		"not yet valid":             {change: func(c map[string]any) { c["nbf"] = now.Add(5 * time.Minute).Unix() }},
		"other nonce":               {change: func(c map[string]any) { c["nonce"] = "other" }},
		"no nonce":                  {change: func(c map[string]any) { delete(c, "nonce") }},
		"another token's hash":      {change: func(c map[string]any) { c["at_hash"] = "77QmUPtjPfzWtF2AnpK9RQ" }},
		"no hash":                   {change: func(c map[string]any) { delete(c, "at_hash") }, good: true},
		"signed in recently":        {change: func(map[string]any) {}, maxAge: &hour, good: true},
		"signed in long ago":        {change: func(c map[string]any) { c["auth_time"] = now.Add(-2 * time.Hour).Unix() }, maxAge: &hour},
		"no auth_time":              {change: func(c map[string]any) { delete(c, "auth_time") }, maxAge: &hour},
		"long ago, without max_age": {change: func(c map[string]any) { c["auth_time"] = 1 }, good: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.claims = test.change
			tokens, err := p.signIn(t, p.discover(t, nil), client.AuthorizationOptions{MaxAge: test.maxAge})
			switch {
			case test.good && err != nil:
				t.Errorf("refused: %v", err)
			case !test.good && !errors.Is(err, client.ErrIDToken):
				t.Errorf("got %v and error %v, want ErrIDToken", tokens != nil, err)
			}
		})
	}
}

func TestJW01_JW21_IDTokenSignatures(t *testing.T) {
	hs256 := func(t *testing.T, key []byte, header, claims map[string]any) string {
		input := signingInput(t, header, claims)
		return input + "." + encode(hmacSHA256(key, input))
	}
	unsigned := func(alg string) func(*testing.T, *provider, map[string]any) string {
		return func(t *testing.T, p *provider, claims map[string]any) string {
			return signingInput(t, map[string]any{"alg": alg, "kid": p.kid}, claims) + "."
		}
	}
	typed := func(typ string) func(*testing.T, *provider, map[string]any) string {
		return func(t *testing.T, p *provider, claims map[string]any) string {
			return signES256(t, p.key, map[string]any{"alg": "ES256", "kid": p.kid, "typ": typ}, claims)
		}
	}
	for name, test := range map[string]struct {
		sign func(*testing.T, *provider, map[string]any) string
		good bool
	}{
		"typ JWT":      {sign: typed("JWT"), good: true},
		"access token": {sign: typed("at+jwt")},
		"logout token": {sign: typed("logout+jwt")},
		"assertion":    {sign: typed("client-authentication+jwt")},
		"DPoP proof":   {sign: typed("dpop+jwt")},
		"alg none":     {sign: unsigned("none")},
		"alg None":     {sign: unsigned("None")},
		"alg nOnE":     {sign: unsigned("nOnE")},
		"alg empty":    {sign: unsigned("")},
		"alg ES256":    {sign: unsigned("ES256")},
		"not a JWT":    {sign: func(*testing.T, *provider, map[string]any) string { return "opaque" }},
		"only dots":    {sign: func(*testing.T, *provider, map[string]any) string { return strings.Repeat(".", 500_000) }},
		"a stranger's key": {sign: func(t *testing.T, p *provider, claims map[string]any) string {
			return signES256(t, newKey(t), map[string]any{"alg": "ES256", "kid": p.kid}, claims)
		}},
		"key in the header": {sign: func(t *testing.T, p *provider, claims map[string]any) string {
			key := newKey(t)
			return signES256(t, key, map[string]any{"alg": "ES256", "kid": "x", "jwk": publicJWK(key, "x")}, claims)
		}},
		"HS256 with the public key": {sign: func(t *testing.T, p *provider, claims map[string]any) string {
			return hs256(t, publicPEM(t, p.key), map[string]any{"alg": "HS256", "kid": p.kid}, claims)
		}},
		"HS256 with the client secret": {sign: func(t *testing.T, p *provider, claims map[string]any) string {
			return hs256(t, []byte(clientSecret), map[string]any{"alg": "HS256"}, claims)
		}},
		"changed claims": {sign: func(t *testing.T, p *provider, claims map[string]any) string {
			parts := strings.Split(p.sign(claims), ".")
			claims["sub"] = "mallory"
			b, err := json.Marshal(claims)
			if err != nil {
				t.Fatal(err)
			}
			return parts[0] + "." + encode(b) + "." + parts[2]
		}},
		"critical extension": {sign: func(t *testing.T, p *provider, claims map[string]any) string {
			return signES256(t, p.key, map[string]any{"alg": "ES256", "kid": p.kid, "crit": []string{"x"}, "x": 1}, claims)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			sign := p.sign
			p.sign = func(claims map[string]any) string {
				p.sign = sign
				return test.sign(t, p, claims)
			}
			_, err := p.signIn(t, p.discover(t, nil), client.AuthorizationOptions{})
			switch {
			case test.good && err != nil:
				t.Errorf("refused: %v", err)
			case !test.good && !errors.Is(err, client.ErrIDToken):
				t.Errorf("got %v, want ErrIDToken", err)
			}
		})
	}
}

func TestIDTokenAlgorithmIsPinned(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, func(config *client.Config) { config.IDTokenSigningAlg = jose.RS256 })
	if _, err := p.signIn(t, c, client.AuthorizationOptions{}); !errors.Is(err, client.ErrIDToken) {
		t.Errorf("got %v, want ErrIDToken", err)
	}
	p.metadata["id_token_signing_alg_values_supported"] = []string{"PS256"}
	if _, err := p.signIn(t, p.discover(t, nil), client.AuthorizationOptions{}); !errors.Is(err, client.ErrIDToken) {
		t.Errorf("an algorithm that the provider does not list: got %v, want ErrIDToken", err)
	}
}

func TestIDTokenSignedWithTheClientSecret(t *testing.T) {
	secret := strings.Repeat("s", 32)
	for name, test := range map[string]struct {
		key  string
		good bool
	}{"the secret": {secret, true}, "another": {strings.Repeat("x", 32), false}} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.sign = func(claims map[string]any) string {
				input := signingInput(t, map[string]any{"alg": "HS256"}, claims)
				return input + "." + encode(hmacSHA256([]byte(test.key), input))
			}
			c := p.discover(t, func(config *client.Config) { config.IDTokenSigningAlg, config.ClientSecret = jose.HS256, secret })
			_, err := p.signIn(t, c, client.AuthorizationOptions{})
			if test.good && err != nil || !test.good && !errors.Is(err, client.ErrIDToken) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestMissingIDTokenIsRejected(t *testing.T) {
	p := newProvider(t)
	p.response = func(a map[string]any) { delete(a, "id_token") }
	if _, err := p.signIn(t, p.discover(t, nil), client.AuthorizationOptions{}); !errors.Is(err, client.ErrIDToken) {
		t.Errorf("got %v, want ErrIDToken", err)
	}
	if _, err := p.signIn(t, p.discover(t, nil), client.AuthorizationOptions{Scopes: []string{"api"}}); err != nil {
		t.Errorf("without openid: %v", err)
	}
}

func TestKeysRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		c := p.discover(t, nil)
		signIn := func() error {
			t.Helper()
			_, err := p.signIn(t, c, client.AuthorizationOptions{})
			return err
		}
		for range 3 {
			if err := signIn(); err != nil {
				t.Fatal(err)
			}
		}
		if n := p.count("/jwks"); n != 1 {
			t.Errorf("the keys were fetched %d times", n)
		}
		p.rotate(newKey(t), "two")
		time.Sleep(time.Minute)
		if err := signIn(); err != nil {
			t.Errorf("after a rotation: %v", err)
		}
		if n := p.count("/jwks"); n != 2 {
			t.Errorf("the keys were fetched %d times", n)
		}
	})
}

func TestJW26_UnknownKeysDoNotFloodTheProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		c := p.discover(t, nil)
		if _, err := p.signIn(t, c, client.AuthorizationOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		stranger := newKey(t)
		p.sign = func(claims map[string]any) string {
			return signES256(t, stranger, map[string]any{"alg": "ES256", "kid": "unknown"}, claims)
		}
		for range 50 {
			if _, err := p.signIn(t, c, client.AuthorizationOptions{}); !errors.Is(err, client.ErrIDToken) {
				t.Fatalf("got %v, want ErrIDToken", err)
			}
		}
		if n := p.count("/jwks"); n != 4 {
			t.Errorf("the keys were fetched %d times for 50 tokens with an unknown key", n)
		}
		time.Sleep(time.Minute)
		p.sign = func(claims map[string]any) string {
			return signES256(t, p.key, map[string]any{"alg": "ES256", "kid": p.kid}, claims)
		}
		p.rotate(newKey(t), "two")
		if _, err := p.signIn(t, c, client.AuthorizationOptions{}); err != nil {
			t.Errorf("a minute later: %v", err)
		}
	})
}

func TestJW26_HostileKeySets(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"endless": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"keys":[`)
			endless(w, strings.Repeat(" ", 1<<16))
		},
		"100,000 keys": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"keys":[`+strings.Repeat(`{},`, 100_000)+`{}]}`)
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusFound)
		},
		"HTML":      func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<!doctype html>") },
		"failure":   func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"slow drip": drip,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(t)
				p.setHandler("/jwks", handler)
				c := p.discover(t, nil)
				start := time.Now()
				if _, err := p.signIn(t, c, client.AuthorizationOptions{}); !errors.Is(err, client.ErrIDToken) {
					t.Errorf("got %v, want ErrIDToken", err)
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
				if p.count("/other") != 0 {
					t.Error("the redirect was followed")
				}
				p.setHandler("/jwks", nil)
				time.Sleep(time.Minute)
				if _, err := p.signIn(t, c, client.AuthorizationOptions{}); err != nil {
					t.Fatalf("after the provider recovered: %v", err)
				}
				p.setHandler("/jwks", handler)
				time.Sleep(2 * time.Hour)
				if _, err := p.signIn(t, c, client.AuthorizationOptions{}); err != nil {
					t.Errorf("the old keys were not used: %v", err)
				}
			})
		})
	}
}

func TestJW26_ManyTokensShareOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		c := p.discover(t, nil)
		release := make(chan struct{})
		p.setHandler("/jwks", func(w http.ResponseWriter, r *http.Request) {
			<-release
			writeJSON(w, 200, map[string]any{"keys": []any{publicJWK(p.key, p.kid)}})
		})
		results := make(chan error, 20)
		for range 20 {
			go func() {
				_, err := p.signIn(t, c, client.AuthorizationOptions{})
				results <- err
			}()
		}
		synctest.Wait()
		close(release)
		for range 20 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if n := p.count("/jwks"); n != 1 {
			t.Errorf("the keys were fetched %d times", n)
		}
	})
}

func (p *provider) rotate(key *ecdsa.PrivateKey, kid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key, p.kid = key, kid
}

func (p *provider) setHandler(path string, handler http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handlers[path] = handler
}

func publicPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
