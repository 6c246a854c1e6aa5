package resourceserver

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

func active(changes map[string]any) map[string]any {
	all := claims(changes)
	all["active"] = true
	return all
}

func TestIntrospection(t *testing.T) {
	p := newProvider(t)
	h := p.guard(t, introspecting).Require("notes.read")(whoami)
	now := time.Now().Unix()
	for _, test := range []struct {
		name     string
		response map[string]any
		ok       bool
	}{
		{"active", active(nil), true},
		{"optional members left out", active(map[string]any{"iss": nil, "exp": nil, "iat": nil, "jti": nil}), true},
		{"token_type bearer", active(map[string]any{"token_type": "bearer"}), true},
		{"inactive", map[string]any{"active": false}, false},
		{"inactive with claims", func() map[string]any { a := active(nil); a["active"] = false; return a }(), false},
		{"another issuer", active(map[string]any{"iss": "https://evil.example.com"}), false},
		{"another audience", active(map[string]any{"aud": "https://other.example.com"}), false},
		{"no audience", active(map[string]any{"aud": nil}), false},
		{"expired", active(map[string]any{"exp": now - 60}), false},
		{"not before", active(map[string]any{"nbf": now + 60}), false},
		{"bound to a key", active(map[string]any{"cnf": map[string]string{"jkt": "x"}}), false},
		{"DPoP", active(map[string]any{"token_type": "DPoP"}), false},
		{"a refresh token", active(map[string]any{"token_type": "refresh_token"}), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			token := "opaque-" + base64.RawURLEncoding.EncodeToString([]byte(test.name))
			p.with(func() { p.active[token] = test.response })
			w := call(h, "Bearer "+token)
			if test.ok {
				accepted(t, w, "alice")
			} else {
				refused(t, w, http.StatusUnauthorized, oauth.InvalidToken)
			}
		})
	}
	w := call(p.guard(t, introspecting).Require("admin")(whoami), "Bearer opaque-"+base64.RawURLEncoding.EncodeToString([]byte("active")))
	refused(t, w, http.StatusForbidden, oauth.InsufficientScope)
}

func TestIntrospectionCredentialsAreFormEncoded(t *testing.T) { // RFC 6749, section 2.3.1
	p := newProvider(t)
	const id, secret = "https://api.example.com/", "a+b: c%d/é"
	s := p.guard(t, func(c *Config) { c.ClientID, c.ClientSecret = id, secret })
	_, _ = s.Validate(t.Context(), "opaque")
	encoded, ok := strings.CutPrefix(p.lastAuth, "Basic ")
	pair, err := base64.StdEncoding.DecodeString(encoded)
	gotID, gotSecret, _ := strings.Cut(string(pair), ":")
	plainID, err1 := url.QueryUnescape(gotID)
	plainSecret, err2 := url.QueryUnescape(gotSecret)
	if !ok || err != nil || err1 != nil || err2 != nil || plainID != id || plainSecret != secret {
		t.Errorf("sent %q", pair)
	}
}

func TestRS04_IntrospectionFailsClosed(t *testing.T) {
	for name, break_ := range map[string]func(*provider){
		"down": func(p *provider) { p.down = true },
		"error": func(p *provider) {
			p.responses["/introspect"] = func(w http.ResponseWriter, r *http.Request) { http.Error(w, `{"active":true}`, 500) }
		},
		"unauthorized": func(p *provider) {
			p.responses["/introspect"] = func(w http.ResponseWriter, r *http.Request) {
				http.Error(w, `{"error":"invalid_client"}`, http.StatusUnauthorized)
			}
		},
		"redirect": func(p *provider) {
			p.responses["/introspect"] = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://elsewhere.example.com/stolen", http.StatusTemporaryRedirect)
			}
		},
		"slow": func(p *provider) {
			p.responses["/introspect"] = func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		},
		"HTML":               text("<!doctype html>"),
		"empty":              text(""),
		"no active":          text(`{"aud":"` + testResource + `","sub":"alice"}`),
		"active as a string": text(`{"active":"true","aud":"` + testResource + `"}`),
		"Active":             text(`{"Active":true,"aud":"` + testResource + `"}`),
		"duplicate active":   text(`{"active":false,"active":true,"aud":"` + testResource + `"}`),
		"huge":               text(`{"active":true,"aud":"` + testResource + `","x":"` + strings.Repeat("x", 1<<20) + `"}`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(t)
				s := p.guard(t, introspecting)
				break_(p)
				unavailable(t, call(s.Require()(whoami), "Bearer opaque"))
				if p.hit("/stolen") != 0 {
					t.Error("the API's secret was sent to the target of the redirect")
				}
			})
		})
	}
}

func text(response string) func(*provider) {
	return func(p *provider) {
		p.responses["/introspect"] = func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(response)) }
	}
}

func TestResponsesAreCachedForALimitedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		h := p.guard(t, introspecting).Require()(whoami)
		p.active["long"] = active(nil)
		p.active["short"] = active(map[string]any{"exp": time.Now().Unix() + 3})
		for range 5 {
			accepted(t, call(h, "Bearer long"), "alice")
			accepted(t, call(h, "Bearer short"), "alice")
		}
		if n := p.hit("/introspect"); n != 2 {
			t.Errorf("%d introspection requests, want 2", n)
		}
		p.with(func() { clear(p.active) }) // revoked
		later(3 * time.Second)
		refused(t, call(h, "Bearer short"), http.StatusUnauthorized, oauth.InvalidToken) // not after exp
		accepted(t, call(h, "Bearer long"), "alice")
		later(7 * time.Second)
		refused(t, call(h, "Bearer long"), http.StatusUnauthorized, oauth.InvalidToken)

		// "Inactive" is not cached: the token may not be replicated yet.
		p.with(func() { p.active["long"] = active(nil) })
		accepted(t, call(h, "Bearer long"), "alice")
	})
}

func TestConcurrentRequestsShareOneIntrospection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		p.responses["/introspect"] = func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second) // in the bubble: until all requests wait
			writeJSON(w, active(nil))
		}
		s := p.guard(t, introspecting)
		if _, err := s.Validate(t.Context(), "opaque-other"); err != nil { // fetches the metadata
			t.Fatal(err)
		}
		asked := p.hit("/introspect")
		gone, leave := context.WithCancel(t.Context())
		go func() { _, _ = s.Validate(gone, "opaque") }() // the first caller disconnects
		synctest.Wait()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if _, err := s.Validate(t.Context(), "opaque"); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		leave()
		all.Wait()
		if n := p.hit("/introspect") - asked; n != 1 {
			t.Errorf("%d introspection requests", n)
		}
	})
}

// Without the cache, no response may be older than its request, so none is shared.
func TestNothingIsSharedWithoutCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		p.responses["/introspect"] = func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			writeJSON(w, active(nil))
		}
		s := p.guard(t, func(c *Config) { introspecting(c); c.IntrospectionCache = -1 })
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if _, err := s.Validate(t.Context(), "opaque"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := p.hit("/introspect"); n != 5 {
			t.Errorf("%d introspection requests for 5 requests", n)
		}
	})
}

func TestCacheCanBeDisabledAndIsLimited(t *testing.T) {
	p := newProvider(t)
	h := p.guard(t, func(c *Config) { introspecting(c); c.IntrospectionCache = -1 }).Require()(whoami)
	p.active["t"] = active(nil)
	accepted(t, call(h, "Bearer t"), "alice")
	p.with(func() { clear(p.active) })
	refused(t, call(h, "Bearer t"), http.StatusUnauthorized, oauth.InvalidToken)

	var c responseCache
	now := time.Now()
	for n := range maxCachedResponses + 10 {
		c.put([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}, nil, now, now.Add(time.Minute))
	}
	if len(c.entries) > maxCachedResponses {
		t.Errorf("%d responses are cached", len(c.entries))
	}
}

func TestHugeTokensAreNotSentAndHugeResponsesNotCached(t *testing.T) {
	p := newProvider(t)
	h := p.guard(t, introspecting).Require()(whoami)
	refused(t, call(h, "Bearer "+strings.Repeat("x", maxTokenBytes+1)), http.StatusUnauthorized, oauth.InvalidToken)
	if n := p.hit("/introspect"); n != 0 {
		t.Errorf("a token over the limit was sent")
	}
	p.active["t"] = active(map[string]any{"x": strings.Repeat("x", maxCachedBytes)})
	for range 2 {
		accepted(t, call(h, "Bearer t"), "alice")
	}
	if n := p.hit("/introspect"); n != 2 {
		t.Errorf("%d introspection requests, want 2: large responses must not be cached", n)
	}
}

func TestIntrospectAllSeesRevocation(t *testing.T) {
	p := newProvider(t)
	token := p.token(t, "at+jwt", nil)
	byKeys := p.guard(t, introspecting).Require()(whoami)
	asking := p.guard(t, func(c *Config) { introspecting(c); c.IntrospectAll = true }).Require()(whoami)
	accepted(t, call(byKeys, "Bearer "+token), "alice")
	if n := p.hit("/introspect"); n != 0 {
		t.Errorf("a JWT was introspected %d times", n)
	}
	refused(t, call(asking, "Bearer "+token), http.StatusUnauthorized, oauth.InvalidToken)
	p.with(func() { p.active[token] = active(map[string]any{"sub": "bob"}) })
	accepted(t, call(asking, "Bearer "+token), "bob")
}

func TestChangedIntrospectionEndpointIsFound(t *testing.T) {
	synctest.Test(t, movedIntrospectionEndpoint)
}

func movedIntrospectionEndpoint(t *testing.T) {
	p := newProvider(t)
	s := p.guard(t, introspecting)
	h := s.Require()(whoami)
	refused(t, call(h, "Bearer t"), http.StatusUnauthorized, oauth.InvalidToken)
	p.with(func() {
		p.responses[oauth.WellKnownAuthorizationServer] = func(w http.ResponseWriter, r *http.Request) {
			writeJSON(w, oauth.ServerMetadata{Issuer: testIssuer, IntrospectionEndpoint: testIssuer + "/moved"})
		}
		p.responses["/introspect"] = http.NotFound
		p.responses["/moved"] = func(w http.ResponseWriter, r *http.Request) { writeJSON(w, active(nil)) }
	})
	unavailable(t, call(h, "Bearer t"))
	later(fetchPause)
	unavailable(t, call(h, "Bearer t"))
	accepted(t, call(h, "Bearer t"), "alice")
}

// RE-37: malformed tokens must not cause additional requests to a server that is down.
func TestServerInTroubleGetsNoExtraRequests(t *testing.T) {
	p := newProvider(t)
	p.responses["/introspect"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }
	h := p.guard(t, introspecting).Require()(whoami)
	for i := range 20 {
		unavailable(t, call(h, fmt.Sprint("Bearer garbage", i)))
	}
	if n := p.hit(oauth.WellKnownAuthorizationServer); n != 1 {
		t.Errorf("the metadata was fetched %d times", n)
	}
	p = newProvider(t)
	p.responses[oauth.WellKnownAuthorizationServer] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }
	h = p.guard(t, introspecting).Require()(whoami)
	for i := range 20 {
		unavailable(t, call(h, fmt.Sprint("Bearer garbage", i)))
	}
	if n := p.hit(oauth.WellKnownAuthorizationServer); n != 1 {
		t.Errorf("unavailable metadata was fetched %d times", n)
	}
}

func TestErrorsDoNotContainTheToken(t *testing.T) {
	p := newProvider(t)
	p.down = true
	for _, token := range []string{"opaque-sEcReT", p.token(t, "at+jwt", nil)} {
		_, err := p.guard(t, introspecting).Validate(t.Context(), token)
		if err == nil || strings.Contains(fmt.Sprint(err), token) || strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("error %v", err)
		}
	}
}
