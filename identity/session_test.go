package identity

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/valetkey/valetkey/internal/cookiename"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

func TestSessionLasts12Hours(t *testing.T) {
	u := alice(t)
	a := accounts(t, newMapStore(u))
	details := SessionDetails{AuthTime: start.Add(-time.Second), AMR: []string{"pwd"}, ACR: "1", UserAgent: "Browser", Remote: home}
	secret, began, err := a.StartSession(t.Context(), start, u, details, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.Session(t.Context(), start.Add(12*time.Hour-1), secret)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(began, got, cmpopts.EquateComparable(home), cmp.AllowUnexported(Session{})); diff != "" {
		t.Errorf("the session differs (-started +got):\n%s", diff)
	}
	if byID, err := a.SessionByID(t.Context(), start, began.ID); err != nil || byID.User.ID != "a" {
		t.Errorf("SessionByID: %v", err)
	}
	if _, err := a.Session(t.Context(), start.Add(12*time.Hour), secret); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("after 12 hours: %v", err)
	}
}

func TestSE02_OnlyAHashOfTheSessionIsStored(t *testing.T) {
	u := alice(t)
	store := newMapStore(u)
	a := accounts(t, store)
	secret, session, _ := a.StartSession(t.Context(), start, u, SessionDetails{}, nil)
	if len(secret) != 43 {
		t.Errorf("the secret has %d characters, want the 43 of 256 bits", len(secret))
	}
	for key, ticket := range store.tickets {
		if strings.Contains(string(ticket.Data), secret) || strings.Contains(sid(key), secret) {
			t.Error("the secret is stored")
		}
	}
	if _, err := a.Session(t.Context(), start, session.ID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the public name opens the session: %v", err)
	}
	for _, id := range []string{"", "x", session.ID + "AA", session.ID[:40], strings.Repeat("=", 43)} {
		if _, err := a.SessionByID(t.Context(), start, id); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("SessionByID(%q) = %v", id, err)
		}
	}
}

func TestLG14_EverySignInIsANewSession(t *testing.T) {
	u := alice(t)
	a := accounts(t, newMapStore(u))
	one, first, _ := a.StartSession(t.Context(), start, u, SessionDetails{}, nil)
	two, second, err := a.StartSession(t.Context(), start, u, SessionDetails{}, first)
	if err != nil {
		t.Fatal(err)
	}
	if one == two || first.ID == second.ID {
		t.Error("two sign-ins share a secret")
	}
	if _, err := a.Session(t.Context(), start, one); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the old secret: %v", err)
	}
	if sessions, err := a.Sessions(t.Context(), start, "a"); err != nil || len(sessions) != 1 || sessions[0].ID != second.ID {
		t.Errorf("Sessions: %v, %v", sessions, err)
	}
}

func TestSE15_SessionContinuesWhenAnotherTabSignsIn(t *testing.T) {
	u, bob := alice(t), &User{ID: "b", Username: "bob"}
	a := accounts(t, newMapStore(u, bob))
	ctx := t.Context()
	_, first, _ := a.StartSession(ctx, start, u, SessionDetails{}, nil)
	latest := first
	for range maxFormer {
		var err error
		if _, latest, err = a.StartSession(ctx, start, u, SessionDetails{}, latest); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := a.SessionByID(ctx, start, first.ID); err != nil || got.ID != latest.ID {
		t.Errorf("the first name is no longer valid: %v", err)
	}
	// A slow tab that still had the first session starts one too.
	slow, apart, err := a.StartSession(ctx, start, u, SessionDetails{}, first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Session(ctx, start, slow); err != nil {
		t.Errorf("the slow tab: %v", err)
	}
	a.EndSession(ctx, start, apart.ID)
	if _, err := a.SessionByID(ctx, start, first.ID); err != nil {
		t.Errorf("after the slow tab's ended: %v", err)
	}
	a.EndSession(ctx, start, latest.ID)
	if _, err := a.SessionByID(ctx, start, first.ID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("after sign-out, by the first name: %v", err)
	}

	// Another user's session does not continue.
	_, hers, _ := a.StartSession(ctx, start, u, SessionDetails{}, nil)
	if _, _, err := a.StartSession(ctx, start, bob, SessionDetails{}, hers); err != nil {
		t.Fatal(err)
	}
	if _, err := a.SessionByID(ctx, start, hers.ID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the session of the previous user: %v", err)
	}
}

func TestSE04_EndedSessionIsInvalid(t *testing.T) {
	u := alice(t)
	a := accounts(t, newMapStore(u))
	ctx := t.Context()
	one, first, _ := a.StartSession(ctx, start, u, SessionDetails{}, nil)
	two, _, _ := a.StartSession(ctx, start, u, SessionDetails{}, nil)
	if sessions, err := a.Sessions(ctx, start, "a"); err != nil || len(sessions) != 2 {
		t.Errorf("Sessions: %d, %v", len(sessions), err)
	}
	if err := a.EndSession(ctx, start, first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Session(ctx, start, one); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the ended session: %v", err)
	}
	if _, err := a.Session(ctx, start, two); err != nil {
		t.Errorf("the other: %v", err)
	}
	if err := a.EndSessions(ctx, start, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Session(ctx, start, two); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("after all ended: %v", err)
	}
}

// A note is stored for every ended session, however it ended, with all its names.
func TestSE10_EveryEndedSessionHasANote(t *testing.T) {
	for name, end := range map[string]func(a *Accounts, u *User, s *Session) error{
		"sign-out":            func(a *Accounts, u *User, s *Session) error { return a.EndSession(t.Context(), start, s.ID) },
		"sign-out everywhere": func(a *Accounts, u *User, s *Session) error { return a.EndSessions(t.Context(), start, u.ID) },
		"somebody else signs in": func(a *Accounts, u *User, s *Session) error {
			bob := &User{ID: "b", Username: "bob"}
			if err := a.store.CreateUser(t.Context(), bob); err != nil {
				return err
			}
			_, _, err := a.StartSession(t.Context(), start, bob, SessionDetails{}, s)
			return err
		},
		"another password": func(a *Accounts, u *User, s *Session) error {
			return a.ChangePassword(t.Context(), start, PasswordChange{UserID: u.ID, Current: "lunar module 11", New: "command module 12", EndOthers: true})
		},
	} {
		u := alice(t)
		a := accounts(t, newMapStore(u))
		_, first, _ := a.StartSession(t.Context(), start, u, SessionDetails{}, nil)
		_, second, _ := a.StartSession(t.Context(), start, u, SessionDetails{}, first)
		if ended, err := a.EndedSessions(t.Context(), start, 10); err != nil || len(ended) != 0 {
			t.Errorf("%s: before: %v, %v", name, ended, err)
		}
		if err := end(a, u, second); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ended, err := a.EndedSessions(t.Context(), start, 10)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]EndedSession{{u.ID, []string{second.ID, first.ID}}}, ended); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if err := a.ForgetEnded(t.Context(), ended); err != nil {
			t.Fatal(err)
		}
		if ended, err := a.EndedSessions(t.Context(), start, 10); err != nil || len(ended) != 0 {
			t.Errorf("%s: forgotten: %v, %v", name, ended, err)
		}
	}
}

func TestSE05_SessionOfADisabledOrDeletedUserIsInvalid(t *testing.T) {
	u := alice(t)
	store := newMapStore(u)
	a := accounts(t, store)
	ctx := t.Context()
	secret, session, _ := a.StartSession(ctx, start, u, SessionDetails{}, nil)
	disable := func(disabled bool) {
		t.Helper()
		err := store.UpdateUser(ctx, u.ID, func(u *User) error {
			u.Disabled = disabled
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	disable(true)
	if _, err := a.Session(ctx, start, secret); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("disabled: %v", err)
	}
	if _, err := a.SessionByID(ctx, start, session.ID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("disabled, by ID: %v", err)
	}
	disable(false)
	if _, err := a.Session(ctx, start, secret); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("enabled again: %v", err)
	}
	again, err := store.User(ctx, u.ID)
	if err != nil {
		t.Fatal(err)
	}
	secret, _, _ = a.StartSession(ctx, start, again, SessionDetails{}, nil)
	if _, err := a.Session(ctx, start, secret); err != nil {
		t.Errorf("signed in again: %v", err)
	}
	delete(store.users, "a")
	if _, err := a.Session(ctx, start, secret); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

func TestUN06_UserAgentIsTruncatedBetweenCharacters(t *testing.T) {
	if got := cut(strings.Repeat("é", 300), 255); got != strings.Repeat("é", 127) {
		t.Errorf("cut = %q", got)
	}
}

func TestSE01_CookieFlags(t *testing.T) {
	state := BrowserState(sid(ticketkind.Session.Hash("secret")))
	for issuer, want := range map[string]string{
		"https://id.example.com":     "__Host-valetkey_session_3d38e146cf9f=secret; Path=/; HttpOnly; Secure; SameSite=Lax\n__Host-valetkey_state_3d38e146cf9f=" + state + "; Path=/; Secure; SameSite=None",
		"https://id.example.com/two": "__Host-valetkey_session_53e68aa1e93d=secret; Path=/; HttpOnly; Secure; SameSite=Lax\n__Host-valetkey_state_53e68aa1e93d=" + state + "; Path=/; Secure; SameSite=None",
		"http://127.0.0.1:8080":      "valetkey_session_d30a576c0318=secret; Path=/; HttpOnly; SameSite=Lax\nvaletkey_state_d30a576c0318=" + state + "; Path=/; SameSite=Lax",
	} {
		w := httptest.NewRecorder()
		SetSessionCookie(w, issuer, "secret")
		if got := strings.Join(w.Header().Values("Set-Cookie"), "\n"); got != want {
			t.Errorf("%s: Set-Cookie: %s\nwant %s", issuer, got, want)
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(w.Result().Cookies()[0])
		if got := SessionCookie(r, issuer); got != "secret" {
			t.Errorf("%s: SessionCookie = %q", issuer, got)
		}
	}
}

func TestHP10_TwoSessionCookiesAreIgnored(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	name := cookiename.Of("https://id.example.com", sessionCookie)
	r.AddCookie(&http.Cookie{Name: name, Value: "mine"})
	r.AddCookie(&http.Cookie{Name: name, Value: "planted"})
	if got := SessionCookie(r, "https://id.example.com"); got != "" {
		t.Errorf("SessionCookie = %q, want none", got)
	}
	r = httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: strings.TrimPrefix(name, "__Host-"), Value: "planted by a sibling domain"})
	if got := SessionCookie(r, "https://id.example.com"); got != "" {
		t.Errorf("a cookie without the prefix is read: %q", got)
	}
}

// Browsers separate cookies by host but not by port, and with the __Host- prefix not by path.
func TestMT08_IssuersOnOneHostHaveDifferentCookies(t *testing.T) {
	issuers := []string{"http://localhost:8080", "http://localhost:8081", "https://id.example.com", "https://id.example.com/staff", "https://id.example.com:8443"}
	r := httptest.NewRequest("GET", "/", nil)
	for _, issuer := range issuers {
		w := httptest.NewRecorder()
		SetSessionCookie(w, issuer, "session of "+issuer)
		SetDeviceCookie(w, issuer, "device of "+issuer)
		SetNoticeCookie(w, issuer, "notice of "+issuer)
		for _, cookie := range w.Result().Cookies() {
			r.AddCookie(cookie)
		}
	}
	for _, issuer := range issuers {
		for want, got := range map[string]string{"session": SessionCookie(r, issuer), "device": DeviceCookie(r, issuer), "notice": NoticeCookie(r, issuer)} {
			if got != want+" of "+issuer {
				t.Errorf("%s: the %s cookie is %q", issuer, want, got)
			}
		}
		if name := BrowserStateCookie(issuer); len(r.CookiesNamed(name)) != 1 {
			t.Errorf("%s: cookie %s is shared with another issuer", issuer, name)
		}
	}
}

func TestLG37_SetupWorksOnce(t *testing.T) {
	store := newMapStore()
	a := accounts(t, store)
	ctx := t.Context()
	token, err := a.SetupToken(ctx, start)
	if err != nil || token == "" {
		t.Fatalf("SetupToken = %q, %v", token, err)
	}
	second, _ := a.SetupToken(ctx, start)
	for _, wrong := range []string{"", "x", token + "x"} {
		if _, err := a.CreateAdministrator(ctx, start, wrong, "root", "", "lunar module 11"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("with the token %q: %v", wrong, err)
		}
	}
	if err := a.CheckSetupToken(ctx, start.Add(24*time.Hour), token); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("after a day: %v", err)
	}
	var weak *WeakPasswordError
	if _, err := a.CreateAdministrator(ctx, start, token, "margaret", "", "margaret"); !errors.As(err, &weak) {
		t.Errorf("with a weak password: %v", err)
	}
	var invalid *InvalidUserError
	if _, err := a.CreateAdministrator(ctx, start, token, "", "", "lunar module 11"); !errors.As(err, &invalid) {
		t.Errorf("without a username: %v", err)
	}
	u, err := a.CreateAdministrator(ctx, start, token, "margaret", "m@example.com", "lunar module 11")
	if err != nil || !u.Administrator {
		t.Fatalf("CreateAdministrator: %v", err)
	}
	for _, used := range []string{token, second} {
		if _, err := a.CreateAdministrator(ctx, start, used, "mallory", "", "lunar module 12"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a second administrator: %v", err)
		}
	}
	if token, err := a.SetupToken(ctx, start); err != nil || token != "" {
		t.Errorf("SetupToken with an administrator = %q, %v", token, err)
	}
	if _, err := a.Authenticate(ctx, start, Attempt{Identifier: "m@example.com", Password: "lunar module 11"}); err != nil {
		t.Errorf("the administrator cannot sign in: %v", err)
	}
}
