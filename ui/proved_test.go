package ui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
)

// addAliceWithTOTP adds a user who signs in with two factors.
func (w *world) addAliceWithTOTP() *identity.User {
	w.t.Helper()
	w.addAlice()
	return w.updateUser("a", func(u *identity.User) {
		u.Authenticators = []identity.Authenticator{{ID: "totp-1", Kind: identity.MethodTOTP, CreatedAt: time.Now()}}
	})
}

// cookie returns the value of a cookie of the browser by a part of its name.
func (b *browserClient) cookie(name string) string {
	u, _ := url.Parse(b.url)
	for _, cookie := range b.client.Jar.Cookies(u) {
		if strings.Contains(cookie.Name, name) {
			return cookie.Value
		}
	}
	return ""
}

func TestPasswordAloneDoesNotSignInUserWithSecondFactor(t *testing.T) {
	w := newWorld(t)
	w.addAliceWithTOTP()
	b := w.newBrowser()
	signIn := b.get(b.get(w.authorizeURL(nil)).redirected(t))
	next := b.post("/sign-in", with(signIn.hidden(), "identifier", "alice", "password", password)).redirected(t)
	if !strings.HasPrefix(next, factorPath+"?interaction=") {
		t.Fatalf("after the password, the browser goes to %s", next)
	}
	if b.cookie("valetkey_session") != "" {
		t.Error("the password alone set a session cookie")
	}
	b.get("/account").redirectedTo(t, "/sign-in")
	if sessions, err := w.accounts.Sessions(t.Context(), time.Now(), "a"); err != nil || len(sessions) > 0 {
		t.Errorf("there are sessions: %v, %v", sessions, err)
	}
	if again := b.get(w.authorizeURL(nil)).redirected(t); !strings.HasPrefix(again, "/sign-in?") {
		t.Errorf("an authorization request leads to %s", again)
	}
	// Another browser does not have the sign-in.
	w.newBrowser().get(factorPath).redirectedTo(t, "/sign-in")
}

func TestSignInInProgressEndsWithItsUser(t *testing.T) {
	for name, change := range map[string]func(*identity.User){
		"disabled":         func(u *identity.User) { u.Disabled = true },
		"password changed": func(u *identity.User) { u.PasswordHash = "changed" },
		"ended":            func(u *identity.User) { u.End(time.Now(), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.addAliceWithTOTP()
			b := w.newBrowser()
			b.signIn("alice", password).redirectedTo(t, factorPath)
			b.get(factorPath).redirectedTo(t, proveTOTPPath)
			b.get(proveTOTPPath).want(t, http.StatusOK, "alice")
			w.updateUser("a", change)
			b.get(factorPath).redirectedTo(t, "/sign-in")
		})
	}
}
