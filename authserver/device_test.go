package authserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// User codes are accepted in any case and with any separators; other strings are refused.
func TestDV10_UserCodesAreAcceptedAsTyped(t *testing.T) {
	s := newScene(t, deviceSetup())
	for _, change := range []func(string) string{
		strings.ToLower, func(c string) string { return strings.ReplaceAll(c, "-", "") },
		func(c string) string { return " " + strings.ReplaceAll(c, "-", " – ") + "\n" },
	} {
		_, user := s.deviceCodes()
		w := httptest.NewRecorder()
		if err := s.server.BeginDevice(w, httptest.NewRequest(http.MethodPost, "/device", nil), change(user)); err != nil || w.Code != http.StatusSeeOther {
			t.Errorf("%q: %v, %d", change(user), err, w.Code)
		}
	}
	for _, typed := range []string{"", "BCDF", "BCDF-GHJK-L", "BCDF-GHJ0", "ACDF-GHJK", "ΒCDF-GHJK", strings.Repeat("-", 100) + "BCDFGHJK"} {
		_, user := s.deviceCodes()
		if err := s.server.BeginDevice(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/device", nil), typed); !errors.Is(err, authserver.ErrUserCode) {
			t.Errorf("%q: %v (the code is %s)", typed, err, user)
		}
	}
}

// Guesses are limited, and the limit does not affect other addresses.
func TestDV_GuessesOfUserCodesAreLimited(t *testing.T) {
	s := newScene(t, deviceSetup())
	r := httptest.NewRequest(http.MethodPost, "/device", nil)
	guesses := 0
	for errors.Is(s.server.BeginDevice(httptest.NewRecorder(), r, "BCDF-GHJK"), authserver.ErrUserCode) {
		if guesses++; guesses > 100 {
			t.Fatal("guesses are not limited")
		}
	}
	_, user := s.deviceCodes()
	if _, ok := errors.AsType[*authserver.TryLaterError](s.server.BeginDevice(httptest.NewRecorder(), r, user)); !ok {
		t.Error("the correct code was accepted after too many guesses")
	}
	r.RemoteAddr = "198.51.100.1:1234"
	if err := s.server.BeginDevice(httptest.NewRecorder(), r, user); err != nil {
		t.Errorf("from another address: %v", err)
	}
}

// After the user approved a device, only one of many concurrent polls gets the tokens.
func TestDV05_ConcurrentPollsGetTokensOnce(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, deviceSetup(), store, nil)
		device, user := s.deviceCodes()
		s.approve(user)
		var polls sync.WaitGroup
		var succeeded atomic.Int32
		for range 50 {
			polls.Go(func() {
				if a := s.post("/token", "", "grant_type", oauth.GrantTypeDeviceCode, "device_code", device, "client_id", "tv"); a.status == http.StatusOK {
					succeeded.Add(1)
				} else if a.Error != string(oauth.InvalidGrant) {
					t.Errorf("%d %s", a.status, a.body)
				}
			})
		}
		polls.Wait()
		if succeeded.Load() != 1 {
			t.Errorf("%d polls succeeded", succeeded.Load())
		}
	})
}

func deviceSetup() scriptSetup {
	return scriptSetup{Clients: []testClient{{Client: record.Client{ID: "tv", ClientMetadata: oauth.ClientMetadata{
		TokenEndpointAuthMethod: oauth.AuthMethodNone, GrantTypes: []string{oauth.GrantTypeDeviceCode},
	}}}}}
}

// deviceCodes returns the codes of a new device authorization request.
func (s *scene) deviceCodes() (device, user string) {
	s.t.Helper()
	a := s.post("/device_authorization", "", "client_id", "tv")
	var codes oauth.DeviceAuthorizationResponse
	if err := json.Unmarshal([]byte(a.body), &codes); err != nil || codes.UserCode == "" {
		s.t.Fatalf("no codes: %s", a.body)
	}
	return codes.DeviceCode, codes.UserCode
}

// approve signs ada in and approves the device with a user code. The functions see what the consent
// page shows.
func (s *scene) approve(user string, check ...func(*authserver.Interaction)) {
	s.t.Helper()
	w := httptest.NewRecorder()
	who := s.signIn(w, "ada")
	r := httptest.NewRequest(http.MethodPost, "/device", nil)
	for _, cookie := range w.Result().Cookies() {
		r.AddCookie(cookie)
	}
	w = httptest.NewRecorder()
	if err := s.server.BeginDevice(w, r, user); err != nil {
		s.t.Fatal(err)
	}
	for _, cookie := range w.Result().Cookies() {
		r.AddCookie(cookie)
	}
	interaction := interactionOf(w.Header().Get("Location"))
	for _, f := range check {
		shown, err := s.server.Interaction(r, interaction)
		if err != nil {
			s.t.Fatal(err)
		}
		f(shown)
	}
	w = httptest.NewRecorder()
	s.server.Consented(w, r, interaction, authserver.ConsentAnswer{Subject: who.Subject})
	if w.Header().Get("Location") != "/device?answer=allowed" {
		s.t.Fatalf("the device is not approved: %d %s", w.Code, w.Body)
	}
}

// DEVICE $usercode1: the user enters a user code on the page.
func (s *scene) verbDevice(w http.ResponseWriter, r *http.Request, words []string) error {
	err := s.server.BeginDevice(w, r, strings.Join(words, " "))
	if later, ok := errors.AsType[*authserver.TryLaterError](err); ok {
		fmt.Fprintf(w, "too many codes, try again in %v\n", later.After)
		return nil
	}
	if errors.Is(err, authserver.ErrUserCode) {
		fmt.Fprintln(w, "no device waits with this code")
		return nil
	}
	return err
}
