package client_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

// A provider has replaced its key with the same kid, or uses no kid.
func TestKeysAreFetchedAgainWhenASignatureFails(t *testing.T) {
	for name, kid := range map[string]string{"same kid": "one", "no kid": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(t)
				p.rotate(p.key, kid)
				p.sign = func(claims map[string]any) string {
					header := map[string]any{"alg": "ES256"}
					if kid != "" {
						header["kid"] = kid
					}
					return signES256(t, p.key, header, claims)
				}
				c := p.discover(t, nil)
				if _, err := p.signIn(t, c, client.AuthorizationOptions{}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				p.rotate(newKey(t), kid)
				if _, err := p.signIn(t, c, client.AuthorizationOptions{}); err != nil {
					t.Errorf("with the new key: %v", err)
				}
				// Forged signatures do not flood the provider with requests.
				stranger := newKey(t)
				p.sign = func(claims map[string]any) string {
					return signES256(t, stranger, map[string]any{"alg": "ES256", "kid": kid}, claims)
				}
				before := p.count("/jwks")
				for range 50 {
					if _, err := p.signIn(t, c, client.AuthorizationOptions{}); !errors.Is(err, client.ErrIDToken) {
						t.Fatalf("forged: %v", err)
					}
				}
				if n := p.count("/jwks") - before; n > 3 {
					t.Errorf("the keys were fetched %d times for 50 forged tokens", n)
				}
			})
		})
	}
}

func TestBadKeysOfTheProviderAreSkipped(t *testing.T) {
	for name, odd := range map[string]any{
		"a private key":   map[string]any{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "AA"},
		"a symmetric key": map[string]any{"kty": "oct", "k": "AAAA"},
		"not an object":   "key",
		"the same kid":    publicJWK(newKey(t), "one"),
	} {
		p := newProvider(t)
		p.setHandler("/jwks", func(w http.ResponseWriter, r *http.Request) {
			writeJSON(w, 200, map[string]any{"keys": []any{odd, publicJWK(p.key, p.kid)}})
		})
		if _, err := p.signIn(t, p.discover(t, nil), client.AuthorizationOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A withdrawn key is rejected within an hour, or within a day if the provider cannot be
// reached.
func TestWithdrawnKeysAreNotUsedForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		c := p.discover(t, nil)
		if _, err := p.signIn(t, c, client.AuthorizationOptions{}); err != nil {
			t.Fatal(err)
		}
		withdrawn := p.key
		p.sign = func(claims map[string]any) string {
			return signES256(t, withdrawn, map[string]any{"alg": "ES256", "kid": "one"}, claims)
		}
		p.rotate(newKey(t), "two")
		time.Sleep(61 * time.Minute)
		if _, err := p.signIn(t, c, client.AuthorizationOptions{}); !errors.Is(err, client.ErrIDToken) {
			t.Errorf("an hour after the key was withdrawn: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		c := p.discover(t, nil)
		if _, err := p.signIn(t, c, client.AuthorizationOptions{}); err != nil {
			t.Fatal(err)
		}
		p.setHandler("/jwks", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		time.Sleep(23 * time.Hour)
		if _, err := p.signIn(t, c, client.AuthorizationOptions{}); err != nil {
			t.Errorf("keys from 23 hours ago: %v", err)
		}
		time.Sleep(2 * time.Hour)
		if _, err := p.signIn(t, c, client.AuthorizationOptions{}); !errors.Is(err, client.ErrIDToken) {
			t.Errorf("keys from yesterday: %v", err)
		}
	})
}

func TestProvidersCookiesAreNotKept(t *testing.T) {
	p := newProvider(t)
	jar := &countingJar{}
	config := p.config()
	config.HTTPClient = &http.Client{Transport: p.http.Transport, Jar: jar}
	c, err := client.Discover(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.signIn(t, c, client.AuthorizationOptions{}); err != nil {
		t.Fatal(err)
	}
	if jar.used {
		t.Error("cookies of one request can reach another")
	}
}
