package authserver_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
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

// typeCode enters a user code on the page, from an address and with the cookies of a browser.
func (s *scene) typeCode(address, code string, browser ...*http.Cookie) error {
	r := httptest.NewRequest(http.MethodPost, "/device", nil)
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(address), 1234).String()
	for _, cookie := range browser {
		r.AddCookie(cookie)
	}
	return s.server.BeginDevice(httptest.NewRecorder(), r, code)
}

func wrongCode(i int) string {
	const letters = "BCDFGHJKLMNPQRSTVWXZ"
	code := []byte("BBBBBBBB")
	for k := range 4 {
		code[k] = letters[i%20]
		i /= 20
	}
	return string(code)
}

func isTryLater(err error) bool {
	_, ok := errors.AsType[*authserver.TryLaterError](err)
	return ok
}

func TestSH01_OneAddressDoesNotUseUpTheUserCodesOfOthers(t *testing.T) {
	s := newScene(t, deviceSetup())
	_, user := s.deviceCodes()
	looked := 0
	for i := range 10_000 {
		if err := s.typeCode("203.0.113.1", wrongCode(i)); errors.Is(err, authserver.ErrUserCode) {
			looked++
		} else if !isTryLater(err) {
			t.Fatal(err)
		}
	}
	if looked > 31 {
		t.Errorf("%d guesses of one address were looked at, want 30", looked)
	}
	if err := s.typeCode("203.0.113.1", user); !isTryLater(err) {
		t.Errorf("the right code from the address that guessed: %v", err)
	}
	if err := s.typeCode("198.51.100.1", "BCDF"); !errors.Is(err, authserver.ErrUserCode) {
		t.Errorf("a slip from elsewhere: %v", err)
	}
	if err := s.typeCode("198.51.100.1", user); err != nil {
		t.Errorf("the right code from elsewhere: %v", err)
	}
}

// A signed-in user has their own limit, even at an address from which someone guesses codes.
func TestSH01_SignedInUsersHaveTheirOwnLimit(t *testing.T) {
	s := newScene(t, deviceSetup())
	_, user := s.deviceCodes()
	for i := range 100 {
		_ = s.typeCode("203.0.113.1", wrongCode(i))
	}
	w := httptest.NewRecorder()
	s.signIn(w, "ada")
	if err := s.typeCode("203.0.113.1", user, w.Result().Cookies()...); err != nil {
		t.Errorf("the right code of somebody who is signed in: %v", err)
	}
	looked := 0
	for i := range 100 {
		if errors.Is(s.typeCode("203.0.113.1", wrongCode(i), w.Result().Cookies()...), authserver.ErrUserCode) {
			looked++
		}
	}
	if looked > 31 {
		t.Errorf("%d guesses of one person were looked at, want 30", looked)
	}
}

// Many addresses together reach the common limit. Then addresses with failures have to wait, and
// others can still enter a code.
func TestSH01_GuessesFromManyAddressesAreLimited(t *testing.T) {
	s := newScene(t, deviceSetup())
	_, user := s.deviceCodes()
	looked := 0
	for i := range 10_000 {
		if errors.Is(s.typeCode(fmt.Sprintf("203.0.%d.%d", i/25/250, i/25%250), wrongCode(i)), authserver.ErrUserCode) {
			looked++
		}
	}
	// 400 addresses use up the common limit, and then have one guess each.
	if looked > 1600 {
		t.Errorf("%d guesses were looked at", looked)
	}
	if err := s.typeCode("203.0.1.1", user); !isTryLater(err) {
		t.Errorf("the right code from an address that guessed: %v", err)
	}
	if err := s.typeCode("198.51.100.1", user); err != nil {
		t.Errorf("the right code from an address that did not: %v", err)
	}
}

func TestSH01_WrongUserCodesCountOnAllNodes(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		first, second := newSceneOn(t, deviceSetup(), store, nil), newSceneOn(t, deviceSetup(), store, nil)
		for i := range 40 {
			_ = first.typeCode("203.0.113.1", wrongCode(i))
		}
		_, user := second.deviceCodes()
		for deadline := time.Now().Add(10 * time.Second); !isTryLater(second.typeCode("203.0.113.1", wrongCode(1))); {
			if time.Now().After(deadline) {
				t.Fatal("the other node does not know of the guesses")
			}
			time.Sleep(300 * time.Millisecond)
		}
		if err := second.typeCode("198.51.100.1", user); err != nil {
			t.Errorf("the right code from elsewhere: %v", err)
		}
	})
}

func TestSH02_WrongSecretsDoNotBlockValidOnes(t *testing.T) {
	service := testClient{Client: record.Client{ID: "spa", ClientMetadata: oauth.ClientMetadata{
		TokenEndpointAuthMethod: oauth.AuthMethodNone, GrantTypes: []string{"refresh_token", "authorization_code"}, RedirectURIs: []string{testCallback},
	}}}
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app"), confidential("other"), service}})
	token := s.post("/token", "app", "grant_type", "client_credentials").AccessToken
	wrong := func(client string) answer {
		return s.post("/token", "", "grant_type", "client_credentials", "client_id", client, "client_secret", "wrong")
	}
	for _, client := range []string{"app", "made-up"} {
		var last answer
		for range 70 {
			last = wrong(client)
		}
		last.want(t, http.StatusTooManyRequests, oauth.TemporarilyUnavailable)
		if last.header.Get("Retry-After") != "1" || last.header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: headers %v", client, last.header)
		}
	}
	for range 2 {
		s.post("/token", "app", "grant_type", "client_credentials").want(t, http.StatusOK, "")
		s.post("/token", "other", "grant_type", "client_credentials").want(t, http.StatusOK, "")
		if a := s.post("/introspect", "app", "token", token); a.status != http.StatusOK || !strings.Contains(a.body, `"active":true`) {
			t.Errorf("introspection: %d %s", a.status, a.body)
		}
		s.post("/token", "", "grant_type", "refresh_token", "client_id", "spa", "refresh_token", "x").want(t, http.StatusBadRequest, oauth.InvalidGrant)
	}
	// Another client's developer at the same address sees the error.
	wrong("other").want(t, http.StatusUnauthorized, oauth.InvalidClient)
}

// Flooding one client does not use up the limit of another client at the same address.
func TestSH02_InteractionsCountByClient(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app"), confidential("other")}})
	last := s.authorize("", query("app"))
	for range 1500 {
		if last = s.authorize("", query("app")); last.StatusCode != http.StatusSeeOther {
			break
		}
	}
	if last.StatusCode != http.StatusTooManyRequests || last.Header.Get("Retry-After") == "" {
		t.Errorf("the flood gets %d, Retry-After %q", last.StatusCode, last.Header.Get("Retry-After"))
	}
	if other := s.authorize("", query("other")); other.StatusCode != http.StatusSeeOther {
		t.Errorf("another client gets %d", other.StatusCode)
	}
}

// Registering many clients does not raise the limit of an address.
func TestSH02_RegisteredClientsShareTheLimitOfTheirAddress(t *testing.T) {
	s := newScene(t, scriptSetup{})
	for i := range 10 {
		c := confidential(fmt.Sprint("registered", i)).Client
		c.SkipConsent, c.Registration = false, &record.Registration{CreatedAt: time.Now()}
		if err := s.store.RegisterClient(t.Context(), &c, 100); err != nil {
			t.Fatal(err)
		}
	}
	passed := 0
	for i := range 2000 {
		if s.authorize("", query(fmt.Sprint("registered", i%10))).StatusCode == http.StatusSeeOther {
			passed++
		}
	}
	if passed < 500 || passed > 800 {
		t.Errorf("%d interactions of ten clients at one address, want some 600", passed)
	}
}

// weighed is a store that adds up the bytes of its tickets.
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

// Only parameters that the engine uses are stored for outsiders, and only a limited amount for
// each address. A request that is too long is refused, and is not a server error.
func TestSH06_DataStoredForOutsidersIsLimited(t *testing.T) {
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
		// Too many bytes in known parameters are refused; slightly fewer are stored.
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

// There is a common limit for large requests of all addresses. Small requests still pass.
func TestSH06_DataStoredForAllAddressesIsLimited(t *testing.T) {
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

func TestSH06_RegisteredClientsHaveASizeLimit(t *testing.T) {
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

// A hint that is too long is ignored: the user is asked, and can sign out.
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

// The error response for a state that is too long contains the state.
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

// reads counts reads of clients from the store.
type reads struct {
	database
	clients map[string]int
}

func (r *reads) Client(ctx context.Context, id string) (*record.Client, error) {
	r.clients[id]++
	return r.database.Client(ctx, id)
}

// The memory for clients that registered themselves is limited, and they do not evict declared
// clients.
func TestSH06_CachedClientsHaveASizeLimit(t *testing.T) {
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
