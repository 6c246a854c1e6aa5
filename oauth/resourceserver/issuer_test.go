package resourceserver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// later advances the clock of the synctest bubble.
func later(d time.Duration) { <-time.After(d) }

func TestJW06_UnknownKidsDoNotFloodTheIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stranger := newProvider(t), newProvider(t)
		h := p.guard(t, nil).Require()(whoami)
		accepted(t, call(h, "Bearer "+p.token(t, "at+jwt", nil)), "alice")
		later(31 * time.Second)
		before := p.hit("/jwks")
		for n := range 1000 {
			kid := fmt.Sprint("kid-", n)
			stranger.addKey(t, kid)
			refused(t, call(h, "Bearer "+stranger.signed(t, kid, "at+jwt", claims(nil))), http.StatusUnauthorized, oauth.InvalidToken)
		}
		if fetches := p.hit("/jwks") - before; fetches != 1 {
			t.Errorf("1,000 unknown kids caused %d fetches, want 1", fetches)
		}
		// A new key works at the latest after the pause.
		p.addKey(t, "two")
		later(30 * time.Second)
		accepted(t, call(h, "Bearer "+p.signed(t, "two", "at+jwt", claims(nil))), "alice")
	})
}

func TestKeysRotateWithoutRejectedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		h := p.guard(t, nil).Require()(whoami)
		old := p.token(t, "at+jwt", map[string]any{"exp": time.Now().Unix() + 3600})
		accepted(t, call(h, "Bearer "+old), "alice")
		p.addKey(t, "two")
		later(time.Minute)
		accepted(t, call(h, "Bearer "+p.signed(t, "two", "at+jwt", claims(nil))), "alice")
		// A withdrawn key is rejected when the set is next due: the first request after
		// that starts the fetch, and later requests see its result.
		p.with(func() { delete(p.keys, "one") })
		later(keysFresh)
		accepted(t, call(h, "Bearer "+old), "alice")
		synctest.Wait()
		refused(t, call(h, "Bearer "+old), http.StatusUnauthorized, oauth.InvalidToken)
	})
}

// A key was replaced with the same kid, or has no kid.
func TestKeysAreFetchedAgainWhenASignatureFails(t *testing.T) {
	for _, kid := range []string{"one", ""} {
		synctest.Test(t, func(t *testing.T) {
			p := newProvider(t)
			p.addKey(t, kid)
			token := func() string {
				return "Bearer " + p.signed(t, kid, "at+jwt", claims(map[string]any{"exp": time.Now().Unix() + 3600}))
			}
			h := p.guard(t, nil).Require()(whoami)
			accepted(t, call(h, token()), "alice")
			p.addKey(t, kid) // replaces the first
			later(fetchPause)
			accepted(t, call(h, token()), "alice")
			forged := newProvider(t)
			forged.addKey(t, kid)
			before := p.hit("/jwks")
			for range 20 {
				refused(t, call(h, "Bearer "+forged.signed(t, kid, "at+jwt", claims(nil))), http.StatusUnauthorized, oauth.InvalidToken)
			}
			if n := p.hit("/jwks") - before; n > 1 {
				t.Errorf("%d fetches for 20 forged tokens", n)
			}
		})
	}
}

// A key that the server withdrew, for example because it was stolen, is soon rejected.
func TestWithdrawnKeysAreNotUsedForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		h := p.guard(t, nil).Require()(whoami)
		token := "Bearer " + p.token(t, "at+jwt", map[string]any{"exp": time.Now().Unix() + 30*86400})
		accepted(t, call(h, token), "alice")
		p.with(func() { delete(p.keys, "one") })
		p.addKey(t, "two")
		later(keysFresh)
		call(h, token) // starts the fetch
		synctest.Wait()
		refused(t, call(h, token), http.StatusUnauthorized, oauth.InvalidToken)
	})
}

type usedJar struct{ used bool }

func (j *usedJar) SetCookies(*url.URL, []*http.Cookie) { j.used = true }
func (j *usedJar) Cookies(*url.URL) []*http.Cookie     { j.used = true; return nil }

func TestCookiesAreNotKeptBetweenRequests(t *testing.T) {
	p := newProvider(t)
	jar := &usedJar{}
	p.active["t"] = active(nil)
	s := p.guard(t, func(c *Config) { introspecting(c); c.HTTPClient = &http.Client{Transport: p, Jar: jar} })
	h := s.Require()(whoami)
	accepted(t, call(h, "Bearer "+p.token(t, "at+jwt", nil)), "alice")
	accepted(t, call(h, "Bearer t"), "alice")
	if jar.used {
		t.Error("a cookie of one response was sent with another request")
	}
}

// A panic in a goroutine of the middleware would crash the API.
func TestPanicInTheTransportIsAnError(t *testing.T) {
	p := newProvider(t)
	s := p.guard(t, func(c *Config) {
		introspecting(c)
		c.HTTPClient = &http.Client{Transport: panicking{}}
	})
	unavailable(t, call(s.Require()(whoami), "Bearer opaque"))
	unavailable(t, call(s.Require()(whoami), "Bearer "+p.token(t, "at+jwt", nil)))
}

type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("a nil map, say") }

func TestKeysAreCachedForMaxAge(t *testing.T) {
	for field, fresh := range map[string]time.Duration{
		"":                           keysFresh,
		"public, max-age=600":        10 * time.Minute,
		"MAX-AGE=600":                10 * time.Minute,
		"max-age=0":                  keysFreshLeast,
		"max-age=31536000":           keysFreshMost,
		"max-age=x":                  keysFresh,
		"max-age=-5":                 keysFreshLeast,
		"max-age=999999999999999999": keysFreshMost,
		"no-store":                   keysFresh,
	} {
		if got := freshness(http.Header{"Cache-Control": {field}}); got != fresh {
			t.Errorf("%q: %v, want %v", field, got, fresh)
		}
	}
}

func TestRE38_JWTsAreValidatedWhileTheIssuerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		h := p.guard(t, nil).Require()(whoami)
		token := "Bearer " + p.token(t, "at+jwt", map[string]any{"exp": time.Now().Unix() + 3*86400})
		accepted(t, call(h, token), "alice")
		p.with(func() { p.down = true })
		for range 23 {
			later(time.Hour)
			accepted(t, call(h, token), "alice")
			synctest.Wait()
		}
		later(time.Hour + time.Second) // the limit
		unavailable(t, call(h, token))
		p.with(func() { p.down = false })
		later(firstFetchPause)
		accepted(t, call(h, token), "alice")
	})
}

func TestRS04_NoTokenIsAcceptedWithoutKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		p.down = true
		h := p.guard(t, nil).Require()(whoami)
		token := "Bearer " + p.token(t, "at+jwt", nil)
		unavailable(t, call(h, token))
		p.with(func() { p.down = false })
		unavailable(t, call(h, token)) // no immediate second fetch
		later(firstFetchPause)
		accepted(t, call(h, token), "alice")
	})
}

func TestRS04_RequestsDoNotQueueForAHangingIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		p.responses[oauth.WellKnownAuthorizationServer] = hang
		p.responses[oauth.WellKnownOpenIDConfiguration] = hang
		h := p.guard(t, nil).Require()(whoami)
		token := "Bearer " + p.token(t, "at+jwt", map[string]any{"exp": time.Now().Unix() + 3600})
		var all sync.WaitGroup
		for range 120 {
			all.Go(func() {
				start := time.Now()
				unavailable(t, call(h, token))
				if took := time.Since(start); took > 2*documentTimeout { // the two locations of metadata
					t.Errorf("a request waited %v", took)
				}
			})
			later(time.Second)
		}
		all.Wait()
	})
}

func TestFetchIsSharedAfterTheFirstCallerDisconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		p.responses["/jwks"] = func(w http.ResponseWriter, r *http.Request) {
			later(time.Second)
			writeJSON(w, map[string]any{"keys": []any{p.keys["one"].Public()}})
		}
		h := p.guard(t, nil).Require()(whoami)
		token := "Bearer " + p.token(t, "at+jwt", nil)
		var all sync.WaitGroup
		ctx, leave := context.WithCancel(t.Context())
		all.Go(func() { // the caller that fetches
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, testResource, nil)
			r.Header.Set("Authorization", token)
			h.ServeHTTP(httptest.NewRecorder(), r)
		})
		synctest.Wait()
		for range 50 {
			all.Go(func() { accepted(t, call(h, token), "alice") })
		}
		synctest.Wait()
		leave()
		all.Wait()
		if fetches := p.hit("/jwks"); fetches != 1 {
			t.Errorf("%d fetches, want 1", fetches)
		}
	})
}

func TestJW26_HostileKeySets(t *testing.T) {
	for name, response := range map[string]http.HandlerFunc{
		"over 512 kB": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[]`))
			_, _ = w.Write([]byte(strings.Repeat(" ", 1<<20) + "}"))
		},
		"many keys": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[` + strings.Repeat(`{"kty":"X"},`, 10_000) + `{}]}`))
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example.com/stolen", http.StatusFound)
		},
		"slow": func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"HTML": func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("<!doctype html>")) },
		"error": func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, `{"keys":[]}`, http.StatusInternalServerError)
		},
		"a private key": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[{"kty":"oct","k":"AA"}]}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(t)
				h := p.guard(t, nil).Require()(whoami)
				token := "Bearer " + p.token(t, "at+jwt", map[string]any{"exp": time.Now().Unix() + 3600})
				accepted(t, call(h, token), "alice")
				p.with(func() { p.responses["/jwks"] = response })
				later(keysFresh)
				accepted(t, call(h, token), "alice") // starts the fetch
				synctest.Wait()
				later(documentTimeout)
				accepted(t, call(h, token), "alice") // with the old keys

				// Without cached keys, the request waits at most for the timeout, and is rejected.
				first := p.guard(t, nil).Require()(whoami)
				start := time.Now()
				unavailable(t, call(first, token))
				if took := time.Since(start); took > documentTimeout {
					t.Errorf("took %v", took)
				}
				if p.hit("/stolen") != 0 {
					t.Error("the redirect was followed")
				}
			})
		})
	}
}

func TestMetadataMustBeTheIssuersOwn(t *testing.T) {
	for name, metadata := range map[string]oauth.ServerMetadata{
		"another issuer":     {Issuer: "https://evil.example.com", JWKSURI: testIssuer + "/jwks"},
		"trailing slash":     {Issuer: testIssuer + "/", JWKSURI: testIssuer + "/jwks"},
		"no issuer":          {JWKSURI: testIssuer + "/jwks"},
		"no keys":            {Issuer: testIssuer},
		"keys over http":     {Issuer: testIssuer, JWKSURI: "http://login.example.com/jwks"},
		"keys on loopback":   {Issuer: testIssuer, JWKSURI: "http://127.0.0.1/jwks"},
		"keys in a file":     {Issuer: testIssuer, JWKSURI: "file:///jwks"},
		"relative jwks_uri":  {Issuer: testIssuer, JWKSURI: "/jwks"},
		"malformed jwks_uri": {Issuer: testIssuer, JWKSURI: "https://%zz/jwks"},
	} {
		p := newProvider(t)
		p.responses[oauth.WellKnownAuthorizationServer] = func(w http.ResponseWriter, r *http.Request) { writeJSON(w, metadata) }
		unavailable(t, call(p.guard(t, nil).Require()(whoami), "Bearer "+p.token(t, "at+jwt", nil)))
		if p.hit("/jwks") != 0 {
			t.Errorf("%s: the keys were fetched", name)
		}
	}
}

func TestMetadataIsLimited(t *testing.T) {
	p := newProvider(t)
	p.responses[oauth.WellKnownAuthorizationServer] = func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, oauth.ServerMetadata{Issuer: testIssuer, JWKSURI: testIssuer + "/jwks"})
		_, _ = w.Write([]byte(strings.Repeat(" ", documentMaxBytes)))
	}
	unavailable(t, call(p.guard(t, nil).Require()(whoami), "Bearer "+p.token(t, "at+jwt", nil)))
}

// endless responds to every request with endless spaces and counts those that were read.
type endless struct{ read int }

func (e *endless) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(e), Request: r}, nil
}

func (e *endless) Read(b []byte) (int, error) {
	if e.read > 100*documentMaxBytes {
		return 0, io.EOF
	}
	for i := range b {
		b[i] = ' '
	}
	e.read += len(b)
	return len(b), nil
}

func TestJW26_EndlessResponsesAreNotReadToTheEnd(t *testing.T) {
	p, response := newProvider(t), &endless{}
	s := p.guard(t, func(c *Config) { c.HTTPClient = &http.Client{Transport: response} })
	unavailable(t, call(s.Require()(whoami), "Bearer "+p.token(t, "at+jwt", nil)))
	if most := 2 * (documentMaxBytes + 1); response.read > most { // the two locations of metadata
		t.Errorf("%d bytes read, want at most %d", response.read, most)
	}
}

func TestOpenIDProvidersAreFound(t *testing.T) {
	p := newProvider(t)
	p.issuer += "/tenant/" // a path and a trailing slash, like some providers
	p.responses["/tenant"+oauth.WellKnownOpenIDConfiguration] = func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, map[string]any{"issuer": p.issuer, "jwks_uri": testIssuer + "/jwks"})
	}
	h := p.guard(t, nil).Require()(whoami)
	accepted(t, call(h, "Bearer "+p.token(t, "at+jwt", map[string]any{"iss": p.issuer})), "alice")
	if p.hit("/.well-known/oauth-authorization-server/tenant") != 1 {
		t.Error("the location of RFC 8414 was not tried first")
	}
}

func TestRealConnections(t *testing.T) {
	p := newProvider(t)
	server := httptest.NewServer(p)
	defer server.Close()
	p.with(func() { p.issuer = server.URL })
	s, err := New(Config{Issuer: server.URL, Resource: testResource, ClientID: "api", ClientSecret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	h := s.Require("notes.read")(whoami)
	accepted(t, call(h, "Bearer "+p.token(t, "at+jwt", map[string]any{"iss": server.URL})), "alice")
	refused(t, call(h, "Bearer opaque"), http.StatusUnauthorized, oauth.InvalidToken)
}
