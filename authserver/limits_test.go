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
	"testing/synctest"
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

func TestSH01_GuessesFromOneAddressDoNotBlockOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no limit recovers meanwhile, however long it takes
		s := newScene(t, deviceSetup())
		_, user := s.deviceCodes()
		checked := 0
		for i := range 10_000 {
			if err := s.typeCode("203.0.113.1", wrongCode(i)); errors.Is(err, authserver.ErrUserCode) {
				checked++
			} else if !isTryLater(err) {
				t.Fatal(err)
			}
		}
		if checked > 31 {
			t.Errorf("%d guesses from one address were checked, want 30", checked)
		}
		if err := s.typeCode("203.0.113.1", user); !isTryLater(err) {
			t.Errorf("the correct code from the address that guessed: %v", err)
		}
		if err := s.typeCode("198.51.100.1", "BCDF"); !errors.Is(err, authserver.ErrUserCode) {
			t.Errorf("a typo from another address: %v", err)
		}
		if err := s.typeCode("198.51.100.1", user); err != nil {
			t.Errorf("the correct code from another address: %v", err)
		}
	})
}

// Signed-in users have their own limit, even if their address has reached its limit.
func TestSH01_SignedInUsersHaveTheirOwnLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no limit recovers meanwhile, however long it takes
		s := newScene(t, deviceSetup())
		_, user := s.deviceCodes()
		for i := range 100 {
			_ = s.typeCode("203.0.113.1", wrongCode(i))
		}
		w := httptest.NewRecorder()
		s.signIn(w, "ada")
		if err := s.typeCode("203.0.113.1", user, w.Result().Cookies()...); err != nil {
			t.Errorf("the correct code of a signed-in user: %v", err)
		}
		checked := 0
		for i := range 100 {
			if errors.Is(s.typeCode("203.0.113.1", wrongCode(i), w.Result().Cookies()...), authserver.ErrUserCode) {
				checked++
			}
		}
		if checked > 31 {
			t.Errorf("%d guesses of one user were checked, want 30", checked)
		}
	})
}

// Guesses from many addresses reach the global limit. Then addresses with failed attempts must wait,
// and other addresses can still enter a code.
func TestSH01_GuessesFromManyAddressesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no limit recovers meanwhile, however long it takes
		s := newScene(t, deviceSetup())
		_, user := s.deviceCodes()
		checked := 0
		for i := range 10_000 {
			if errors.Is(s.typeCode(fmt.Sprintf("203.0.%d.%d", i/25/250, i/25%250), wrongCode(i)), authserver.ErrUserCode) {
				checked++
			}
		}
		// 400 addresses reach the global limit, and then have one guess each.
		if checked > 1600 {
			t.Errorf("%d guesses were checked", checked)
		}
		if err := s.typeCode("203.0.1.1", user); !isTryLater(err) {
			t.Errorf("the correct code from an address that guessed: %v", err)
		}
		if err := s.typeCode("198.51.100.1", user); err != nil {
			t.Errorf("the correct code from an address without failures: %v", err)
		}
	})
}

func TestSH01_WrongUserCodesAreCountedAcrossNodes(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		first, second := newSceneOn(t, deviceSetup(), store, nil), newSceneOn(t, deviceSetup(), store, nil)
		for i := range 40 {
			_ = first.typeCode("203.0.113.1", wrongCode(i))
		}
		_, user := second.deviceCodes()
		for deadline := time.Now().Add(time.Minute); !isTryLater(second.typeCode("203.0.113.1", wrongCode(1))); {
			if time.Now().After(deadline) {
				t.Fatal("the other node does not count the guesses")
			}
			time.Sleep(300 * time.Millisecond)
		}
		if err := second.typeCode("198.51.100.1", user); err != nil {
			t.Errorf("the correct code from another address: %v", err)
		}
	})
}

func TestSH02_WrongSecretsDoNotBlockValidOnes(t *testing.T) {
	spa := testClient{Client: record.Client{ID: "spa", ClientMetadata: oauth.ClientMetadata{
		TokenEndpointAuthMethod: oauth.AuthMethodNone, GrantTypes: []string{"refresh_token", "authorization_code"}, RedirectURIs: []string{testCallback},
	}}}
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app"), confidential("other"), spa}})
	token := s.post("/token", "app", "grant_type", "client_credentials").AccessToken
	wrong := func(client string) apiResponse {
		return s.post("/token", "", "grant_type", "client_credentials", "client_id", client, "client_secret", "wrong")
	}
	for _, client := range []string{"app", "made-up"} {
		var last apiResponse
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
	// A developer of another client at the same address still gets the error.
	wrong("other").want(t, http.StatusUnauthorized, oauth.InvalidClient)
}

// Flooding one client does not use up the limit of another client at the same address.
func TestSH02_InteractionsAreLimitedPerClient(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app"), confidential("other")}})
	last := s.authorize("", query("app"))
	for range 1500 {
		if last = s.authorize("", query("app")); last.StatusCode != http.StatusSeeOther {
			break
		}
	}
	if last.StatusCode != http.StatusTooManyRequests || last.Header.Get("Retry-After") == "" {
		t.Errorf("the last request gets %d, Retry-After %q", last.StatusCode, last.Header.Get("Retry-After"))
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
		t.Errorf("ten clients at one address had %d interactions, want about 600", passed)
	}
}

// byteCounter is a store that adds up the bytes of its tickets.
type byteCounter struct {
	database
	bytes int
}

func (w *byteCounter) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	for _, t := range tickets {
		w.bytes += len(t.Data)
	}
	return w.database.Put(ctx, now, tickets...)
}

// For a request from outside, only the parameters that the engine uses are stored, and only a limited
// amount per address. A request that is too long is refused, and does not cause a server error.
func TestSH06_DataStoredPerAddressIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no limit recovers meanwhile, however long it takes
		store := &byteCounter{database: memory.New()}
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
			t.Errorf("%d bytes are stored for 100 requests with 30 kB of unknown parameters each", store.bytes)
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
			t.Errorf("%d bytes are stored for one address in a minute", store.bytes)
		}
		if got := from("203.0.113.4", query("app")); got != http.StatusSeeOther {
			t.Errorf("another address: %d", got)
		}
		if got := from("203.0.113.2", "a="+strings.Repeat("%41", 16_000)+"&"+query("app")); got >= 500 {
			t.Errorf("a long parameter: %d", got)
		}
	})
}

// Large requests from all addresses share a limit. Small requests are still accepted.
func TestSH06_DataStoredForAllAddressesIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no limit recovers meanwhile, however long it takes
		store := &byteCounter{database: memory.New()}
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
	})
}

func TestSH06_ClientMetadataHasASizeLimit(t *testing.T) {
	s := newScene(t, scriptSetup{Registration: authserver.RegistrationPolicy{Mode: authserver.RegistrationOpen, PerMinute: 100}})
	var uris []string
	for range 20 {
		uris = append(uris, testCallback+"?"+strings.Repeat("x", 1000))
	}
	if status, response := s.register(map[string]any{"redirect_uris": uris}); status != http.StatusBadRequest {
		t.Errorf("client metadata of 20 kB: %d %v", status, response)
	}
	if status, response := s.register(map[string]any{"redirect_uris": uris[:5]}); status != http.StatusCreated {
		t.Errorf("client metadata of 5 kB: %d %v", status, response)
	}
}

// If the hint is too long, it is ignored, and the user is asked to confirm the logout.
func TestLogoutIgnoresAnIDTokenHintThatIsTooLong(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) {
		c.PostLogoutRedirectURIs = []string{"https://client.example.com/out"}
	})}})
	who := s.signIn(httptest.NewRecorder(), "ada")
	for name, changes := range map[string]url.Values{
		"without other parameters": {},
		"with a client_id":         {"client_id": {"app"}, "post_logout_redirect_uri": {"https://client.example.com/out"}},
		"with only a redirect URI": {"post_logout_redirect_uri": {"https://client.example.com/out"}},
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

// The error response contains the state, even if the state is too long.
func TestAStateThatIsTooLongIsReturned(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	state := strings.Repeat("s", 5000)
	location, err := s.authorize("ada", query("app", "state", state)).Location()
	if err != nil {
		t.Fatal(err)
	}
	q := location.Query()
	if q.Get("error") != "invalid_request" || q.Get("state") != state || !strings.Contains(q.Get("error_description"), "4096") {
		t.Errorf("error %q, %q, and a state of %d bytes", q.Get("error"), q.Get("error_description"), len(q.Get("state")))
	}
}

// readCounter counts how often each client is read from the store.
type readCounter struct {
	database
	clients map[string]int
}

func (r *readCounter) Client(ctx context.Context, id string) (*record.Client, error) {
	r.clients[id]++
	return r.database.Client(ctx, id)
}

// The cache for registered clients has a size limit, and they do not evict declared clients.
func TestSH06_TheClientCacheHasASizeLimit(t *testing.T) {
	store := &readCounter{database: memory.New(), clients: map[string]int{}}
	s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
	authorize := func(id string) { s.authorize("", query(id, "prompt", "none")) }
	authorize("app")
	for i := range 1000 {
		c := record.Client{ID: "client-" + strconv.Itoa(i), ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{testCallback, testCallback + "?" + strings.Repeat("x", 15_000)}, TokenEndpointAuthMethod: "none",
		}, Registration: &record.Registration{CreatedAt: time.Now()}}
		if err := store.RegisterClient(t.Context(), &c, 10_000); err != nil {
			t.Fatal(err)
		}
		authorize(c.ID)
	}
	authorize("client-999")
	authorize("client-0")
	authorize("app")
	if store.clients["client-999"] != 1 || store.clients["app"] != 1 {
		t.Errorf("clients in use are read from the store %d and %d times", store.clients["client-999"], store.clients["app"])
	}
	if store.clients["client-0"] != 2 {
		t.Error("all 1000 clients of 15 kB are cached")
	}
}
