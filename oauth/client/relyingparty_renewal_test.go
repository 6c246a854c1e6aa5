package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

// processes are several processes of one relying party with a shared store.
type processes struct {
	*webApp
	parties []*client.RelyingParty
	browser *http.Client
	store   client.SessionStore
}

func newProcesses(t *testing.T, n int) *processes {
	t.Helper()
	key := make([]byte, 32)
	store := client.NewMemorySessions(10)
	p := &processes{store: store}
	p.webApp = newWebApp(t, func(_ *client.Config, config *client.RelyingPartyConfig) {
		config.CookieKey, config.Sessions = key, store
	})
	p.parties = append(p.parties, p.party)
	for range n - 1 {
		c := p.discover(t, func(config *client.Config) { config.RedirectURI = appRedirectURI })
		party, err := client.NewRelyingParty(client.RelyingPartyConfig{Client: c, CookieKey: key, Sessions: store})
		if err != nil {
			t.Fatal(err)
		}
		p.parties = append(p.parties, party)
	}
	p.browser = p.webApp.browser(t)
	p.signInTo(t, p.browser, "/")
	return p
}

// session returns the browser's session in one of the processes.
func (p *processes) session(party *client.RelyingParty) *client.Session {
	var s *client.Session
	r := httptest.NewRequest(http.MethodGet, "https://app.example/", nil)
	for _, cookie := range p.browser.Jar.Cookies(&url.URL{Scheme: "https", Host: "app.example", Path: "/"}) {
		r.AddCookie(cookie)
	}
	party.Load(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { s = client.SessionFrom(r.Context()) })).
		ServeHTTP(httptest.NewRecorder(), r)
	return s
}

// strict makes the provider accept each refresh token once. A reused one revokes the whole
// family (RFC 9700, section 4.14.2).
func (p *processes) strict(t *testing.T, refresh string, during func()) (refreshes func() int) {
	t.Helper()
	var mu sync.Mutex
	count, current, dead := 0, refresh, false
	p.setHandler("/token", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		count++
		if dead || r.Form.Get("refresh_token") != current {
			dead = true
			mu.Unlock()
			writeJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
			return
		}
		current += "+"
		response := map[string]any{"access_token": "access" + current, "token_type": "Bearer", "expires_in": 3600, "refresh_token": current}
		mu.Unlock()
		time.Sleep(2 * time.Second) // in the bubble
		if during != nil {
			during()
		}
		writeJSON(w, http.StatusOK, response)
	})
	return func() int { mu.Lock(); defer mu.Unlock(); return count }
}

func TestCU05_ProcessesRefreshWithoutLosingTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcesses(t, 3)
		before := p.session(p.parties[0])
		refreshes := p.strict(t, before.Tokens.RefreshToken, nil)
		for round := range 3 {
			time.Sleep(59*time.Minute + 45*time.Second) // shortly before the tokens expire
			var all sync.WaitGroup
			var mu sync.Mutex
			got := make([]string, len(p.parties))
			for i, party := range p.parties {
				for range 3 { // requests in each process
					all.Go(func() {
						s := p.session(party)
						if s == nil {
							t.Errorf("round %d: process %d has no session", round, i)
							return
						}
						tokens, err := s.Source().Tokens(t.Context())
						if err != nil {
							t.Errorf("round %d: process %d: %v", round, i, err)
							return
						}
						mu.Lock()
						got[i] = tokens.RefreshToken
						mu.Unlock()
					})
				}
			}
			all.Wait()
			if refreshes() != round+1 {
				t.Errorf("round %d: %d refreshes, want %d", round, refreshes(), round+1)
			}
			for i, token := range got {
				if token != got[0] || token == before.Tokens.RefreshToken {
					t.Errorf("round %d: process %d has other tokens", round, i)
				}
			}
			time.Sleep(time.Minute)
		}
	})
}

// Another process has refreshed the tokens, and this one has not read the store since.
func TestCU05_TheStoreIsReadBeforeARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcesses(t, 2)
		one, two := p.session(p.parties[0]).Source(), p.session(p.parties[1]).Source()
		refreshes := p.strict(t, p.session(p.parties[0]).Tokens.RefreshToken, nil)
		time.Sleep(2 * time.Hour)
		first, err := one.Tokens(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		second, err := two.Tokens(t.Context())
		if err != nil || second.AccessToken != first.AccessToken || refreshes() != 1 {
			t.Errorf("%v, and %d refreshes", err, refreshes())
		}
	})
}

// Another process used the refresh token without a claim, for example an older version.
func TestCU05_RejectedRefreshChecksTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcesses(t, 1)
		s := p.session(p.parties[0])
		p.setHandler("/token", func(w http.ResponseWriter, r *http.Request) {
			stored, err := p.store.Get(context.Background(), s.ID)
			if err != nil {
				t.Error(err)
			}
			stored.Tokens = &client.Tokens{AccessToken: "theirs", TokenType: "Bearer", RefreshToken: "theirs", Issued: time.Now(), Expiry: time.Now().Add(time.Hour)}
			if ok, err := p.store.Replace(context.Background(), stored); !ok || err != nil {
				t.Error(ok, err)
			}
			writeJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		})
		time.Sleep(2 * time.Hour)
		tokens, err := s.Source().Tokens(t.Context())
		if err != nil || tokens.AccessToken != "theirs" {
			t.Errorf("got %v", err)
		}
		if stored, _ := p.store.Get(t.Context(), s.ID); stored == nil || stored.Tokens.AccessToken != "theirs" {
			t.Error("the tokens that the other process stored are lost")
		}
	})
}

// A process dies during a renewal: the others wait for a limited time.
func TestCU05_ClaimOfADeadProcessExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcesses(t, 1)
		s := p.session(p.parties[0])
		refreshes := p.strict(t, s.Tokens.RefreshToken, nil)
		time.Sleep(2 * time.Hour)
		stored, err := p.store.Get(t.Context(), s.ID)
		if err != nil {
			t.Fatal(err)
		}
		stored.Renewing = time.Now().Add(24 * time.Hour) // from a wrong clock
		if ok, err := p.store.Replace(t.Context(), stored); !ok || err != nil {
			t.Fatal(ok, err)
		}
		start := time.Now()
		if _, err := p.session(p.parties[0]).Source().Tokens(t.Context()); err != nil {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if took := time.Since(start); took < 10*time.Second || took > 30*time.Second || refreshes() != 1 {
			t.Errorf("it took %v and %d refreshes", took, refreshes())
		}
		if stored, _ := p.store.Get(t.Context(), s.ID); !stored.Renewing.IsZero() {
			t.Error("the claim was not released")
		}
	})
}

// After a failure of the provider, the next request need not wait for the claim to expire.
func TestAFailedRenewalIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcesses(t, 2)
		s := p.session(p.parties[0])
		time.Sleep(2 * time.Hour)
		p.setHandler("/token", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		if _, err := s.Source().Tokens(t.Context()); err == nil || errors.Is(err, client.ErrSignInAgain) {
			t.Fatalf("got %v", err)
		}
		p.strict(t, s.Tokens.RefreshToken, nil)
		start := time.Now()
		if _, err := p.session(p.parties[1]).Source().Tokens(t.Context()); err != nil || time.Since(start) > 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// The user signs out during a refresh in another process.
func TestSessionEndedDuringARenewalStaysEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcesses(t, 2)
		s := p.session(p.parties[0])
		p.strict(t, s.Tokens.RefreshToken, func() {
			if err := p.store.Delete(context.Background(), s.ID); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(2 * time.Hour)
		if _, err := s.Source().Tokens(t.Context()); !errors.Is(err, client.ErrSignInAgain) {
			t.Errorf("got %v, want ErrSignInAgain", err)
		}
		if p.session(p.parties[1]) != nil {
			t.Error("the session came back")
		}
	})
}
