package authserver_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// weighed adds up the bytes of the tickets that are stored.
type weighed struct {
	database
	bytes int
}

func (w *weighed) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	for _, t := range tickets {
		w.bytes += len(t.Data)
	}
	return w.database.Put(ctx, now, tickets...)
}

// What an outsider sends is stored only as far as the engine reads it, and within bounds for
// an address; what is too long is refused, and is no failure of the server.
func TestSH06_WhatOutsidersHaveStoredIsBounded(t *testing.T) {
	store := &weighed{database: memory.New()}
	s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
	from := func(address, rawQuery string) int {
		r := httptest.NewRequest(http.MethodGet, "/authorize?"+rawQuery, nil)
		r.RemoteAddr = address + ":1234"
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, r)
		return w.Code
	}
	padding := strings.Repeat("x", 15_000)
	for range 100 {
		if got := from("203.0.113.1", query("app", "a", padding, "b", padding)); got != http.StatusSeeOther {
			t.Fatalf("unknown parameters: %d", got)
		}
	}
	if store.bytes > 100*1000 {
		t.Errorf("100 requests with 30 kB of unknown parameters each had %d bytes stored", store.bytes)
	}
	store.bytes = 0
	for range 600 {
		// As many known ones are too long for the store, and some less are many bytes.
		if got := from("203.0.113.2", query("app", "login_hint", padding, "ui_locales", padding, "claims_locales", padding)); got != http.StatusBadRequest && got != http.StatusTooManyRequests {
			t.Fatalf("45 kB of known parameters: %d", got)
		}
		if got := from("203.0.113.3", query("app", "login_hint", padding, "ui_locales", padding)); got != http.StatusSeeOther && got != http.StatusTooManyRequests {
			t.Fatalf("30 kB of known parameters: %d", got)
		}
	}
	if store.bytes > 6<<20 {
		t.Errorf("one address had %d bytes stored in a minute", store.bytes)
	}
	if got := from("203.0.113.4", query("app")); got != http.StatusSeeOther {
		t.Errorf("another address: %d", got)
	}
	if got := from("203.0.113.2", "a="+strings.Repeat("%41", 16_000)+"&"+query("app")); got >= 500 {
		t.Errorf("a long parameter: %d", got)
	}
}

// Many addresses together have no more stored in large requests than all may, and small
// requests still pass.
func TestSH06_ManyAddressesAreBoundedTogether(t *testing.T) {
	store := &weighed{database: memory.New()}
	s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
	from := func(i int, rawQuery string) int {
		r := httptest.NewRequest(http.MethodGet, "/authorize?"+rawQuery, nil)
		r.RemoteAddr = fmt.Sprintf("203.0.%d.%d:1234", 100+i/250, i%250)
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, r)
		return w.Code
	}
	padding, last := strings.Repeat("x", 15_000), 0
	for i := range 2000 {
		last = from(i, query("app", "login_hint", padding, "ui_locales", padding))
	}
	if last != http.StatusTooManyRequests || store.bytes > 48<<20 {
		t.Errorf("the last of 2000 addresses gets %d; %d bytes are stored", last, store.bytes)
	}
	if got := from(0, query("app")); got != http.StatusSeeOther {
		t.Errorf("a small request: %d", got)
	}
}

func TestSH06_RegisteredClientsAreBoundedInBytes(t *testing.T) {
	s := newScene(t, scriptSetup{Registration: authserver.RegistrationPolicy{Mode: authserver.RegistrationOpen, PerMinute: 100}})
	var uris []string
	for range 20 {
		uris = append(uris, testCallback+"?"+strings.Repeat("x", 1000))
	}
	if status, answer := s.register(map[string]any{"redirect_uris": uris}); status != http.StatusBadRequest {
		t.Errorf("a client of 20 kB: %d %v", status, answer)
	}
	if status, answer := s.register(map[string]any{"redirect_uris": uris[:5]}); status != http.StatusCreated {
		t.Errorf("a client of 5 kB: %d %v", status, answer)
	}
}

// A hint that is too long to be read counts as absent: the person is asked, and may sign out.
func TestALongIDTokenHintDoesNotStopALogout(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) {
		c.PostLogoutRedirectURIs = []string{"https://client.example.com/out"}
	})}})
	who := s.signIn(httptest.NewRecorder(), "ada")
	for name, changes := range map[string]url.Values{
		"alone":                        {},
		"with a client":                {"client_id": {"app"}, "post_logout_redirect_uri": {"https://client.example.com/out"}},
		"which alone named the client": {"post_logout_redirect_uri": {"https://client.example.com/out"}},
	} {
		form := url.Values{"id_token_hint": {strings.Repeat("x", 20<<10)}}
		for member, values := range changes {
			form[member] = values
		}
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r := httptest.NewRequest(http.MethodGet, "/logout?"+form.Encode(), nil)
			if method == http.MethodPost {
				r = httptest.NewRequest(http.MethodPost, "/logout", strings.NewReader(form.Encode()))
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				w := httptest.NewRecorder()
				s.server.ServeHTTP(w, r)
				r = httptest.NewRequest(http.MethodGet, w.Header().Get("Location"), nil)
			}
			r.AddCookie(&http.Cookie{Name: sessionCookie, Value: who.Session})
			w := httptest.NewRecorder()
			s.server.ServeHTTP(w, r)
			if w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/sign-out?interaction=") {
				t.Errorf("%s, %s: %d %s %s", name, method, w.Code, w.Header().Get("Location"), w.Body)
			}
		}
	}
}

// A client is told that its state is too long in a response that carries the state.
func TestALongStateIsReturnedInTheError(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	state := strings.Repeat("s", 5000)
	location, err := s.authorize("ada", query("app", "state", state)).Location()
	if err != nil {
		t.Fatal(err)
	}
	q := location.Query()
	if q.Get("error") != "invalid_request" || q.Get("state") != state || !strings.Contains(q.Get("error_description"), "4096") {
		t.Errorf("error %q, %q, a state of %d bytes", q.Get("error"), q.Get("error_description"), len(q.Get("state")))
	}
}

// reads counts which clients are read from the store.
type reads struct {
	database
	clients map[string]int
}

func (r *reads) Client(ctx context.Context, id string) (*record.Client, error) {
	r.clients[id]++
	return r.database.Client(ctx, id)
}

// Clients that registered themselves are kept in memory up to a number of bytes, and push out
// no declared one.
func TestSH06_CachedClientsAreBoundedInBytes(t *testing.T) {
	store := &reads{database: memory.New(), clients: map[string]int{}}
	s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
	ask := func(id string) { s.authorize("", query(id, "prompt", "none")) }
	ask("app")
	for i := range 1000 {
		c := record.Client{ID: "client-" + strconv.Itoa(i), ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{testCallback, testCallback + "?" + strings.Repeat("x", 15_000)}, TokenEndpointAuthMethod: "none",
		}, Registration: &record.Registration{CreatedAt: time.Now()}}
		if err := store.RegisterClient(t.Context(), &c, 10_000); err != nil {
			t.Fatal(err)
		}
		ask(c.ID)
	}
	ask("client-999")
	ask("client-0")
	ask("app")
	if store.clients["client-999"] != 1 || store.clients["app"] != 1 {
		t.Errorf("clients in use are read again: %d and %d times", store.clients["client-999"], store.clients["app"])
	}
	if store.clients["client-0"] != 2 {
		t.Error("1000 clients of 15 kB are all kept in memory")
	}
}
