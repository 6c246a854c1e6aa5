package authserver_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// typeCode brings a user code to the page, from an address and with the cookies of a browser.
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

// Behind the address of somebody who guesses, a person who is signed in has their own limit.
func TestSH01_WhoIsSignedInPassesAtTheAddressThatGuesses(t *testing.T) {
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

// Many addresses together reach the limit of all. Then an address that failed has to wait, and
// one that did not may still bring its code.
func TestSH01_ManyAddressesGuess(t *testing.T) {
	s := newScene(t, deviceSetup())
	_, user := s.deviceCodes()
	looked := 0
	for i := range 10_000 {
		if errors.Is(s.typeCode(fmt.Sprintf("203.0.%d.%d", i/25/250, i/25%250), wrongCode(i)), authserver.ErrUserCode) {
			looked++
		}
	}
	// 400 addresses: the limit of all, and one guess each where it is used up.
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

func TestSH02_WrongSecretsRefuseNothingThatIsRight(t *testing.T) {
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
	// Another client's developer at the same address is told what is wrong.
	wrong("other").want(t, http.StatusUnauthorized, oauth.InvalidClient)
}

// The pages of one client that somebody floods do not take those of another at that address.
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

// Whoever registers clients by the dozen has no more interactions by that.
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
