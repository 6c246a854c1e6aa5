package ui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/passkey"
	"github.com/valetkey/valetkey/internal/softauthenticator"
)

// A user with a passkey can remove the password, after a recent proof, and is told by mail. The last
// method cannot be removed, and there is no link that brings the password back.
func TestPasswordIsRemoved(t *testing.T) {
	w := newPasskeyWorld(t, nil)
	w.addVerifiedAlice()
	b := w.signedIn()
	if page := b.get("/account/password"); strings.Contains(page.body, removePasswordPath) {
		t.Error("the only way to sign in can be removed")
	}
	b.post(removePasswordPath, url.Values{}).redirectedTo(t, "/account/password")
	device := softauthenticator.New(w.url)
	b.addPasskey(device)
	stale := w.signedIn()
	w.age(stale)
	stale.post(removePasswordPath, url.Values{}).redirectedTo(t, confirmPath+"?return=%2Faccount%2Fpassword")
	b.get("/account/password").want(t, 200, removePasswordPath)
	b.post(removePasswordPath, url.Values{}).redirectedTo(t, "/account")
	if u := w.alice(); u.Has(identity.MethodPassword) {
		t.Error("the password is still there")
	}
	for range 10 {
		if m := w.received(); strings.Contains(m.Subject(), "password was removed") {
			if undoLink.MatchString(m.Text) {
				t.Error("the notice brings the password back")
			}
			break
		}
	}
	w.newBrowser().signIn("alice", password).want(t, http.StatusForbidden)
	w.newBrowser().signInWith(device).redirectedTo(t, "/account?signed_in=1")
	b.post(passkeysPath+"/remove", url.Values{"passkey": {w.alicesPasskeys()[0].ID}}).want(t, http.StatusConflict)
}

// What the operator has turned off, and providers that are gone, are no way to sign in.
func TestLastMethodIsOneThatWorks(t *testing.T) {
	user := &identity.User{PasswordHash: "x", External: []identity.ExternalLink{{Provider: "gone"}}, Authenticators: []identity.Authenticator{{ID: "k", Kind: identity.MethodPasskey}}}
	for _, c := range []struct {
		name   string
		change func(*identity.Config)
		can    bool
	}{
		{"password", func(*identity.Config) {}, true},
		{"no passwords, provider there", func(c *identity.Config) { c.NoPasswords = true }, true},
		{"no passwords, provider gone", func(c *identity.Config) {
			c.NoPasswords, c.Provider = true, func(string) bool { return false }
		}, false},
	} {
		w := newWorldOf(t, "127.0.0.1", c.change, nil, func(*authserver.Config) {})
		if can := w.accounts.CanRemove(user, "k"); can != c.can {
			t.Errorf("%s: the passkey can be removed: %v", c.name, can)
		}
	}
}

// A username in the form of someone else's address does not keep that person from confirming it.
func TestUsernameIsNoClaimToAnAddress(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	mallory := w.newBrowser()
	mallory.post(SignUpPath, url.Values{"username": {"bob@example.com"}, "password": {"eleven paper cranes"}}).want(t, http.StatusSeeOther)
	bob := w.newBrowser()
	bob.post(SignUpPath, url.Values{"username": {"bob"}, "password": {"eleven paper cranes!"}}).want(t, http.StatusSeeOther)
	page := bob.get(bob.post("/account/email", url.Values{"email": {"bob@example.com"}, "current": {"eleven paper cranes!"}}).redirected(t))
	bob.post("/account/email/code", with(page.hidden(), "code", w.receivedWithCode())).redirectedTo(t, "/account")
	bob.get("/account").want(t, 200, "bob@example.com", "Confirmed")
	mallory.get("/account").want(t, 200, "so your username was changed")
	// One who has confirmed the address keeps it.
	other := w.newBrowser()
	other.post(SignUpPath, url.Values{"username": {"eve"}, "password": {"eleven paper cranes!!"}}).want(t, http.StatusSeeOther)
	other.post("/account/email", url.Values{"email": {"bob@example.com"}, "current": {"eleven paper cranes!!"}}).want(t, http.StatusSeeOther)
	if m := w.received(); mailedCode.MatchString(m.Text) {
		t.Error("a confirmed address can be taken")
	}
}

// A new user needs what the policy requires, also without an application.
func TestSignUpFollowsThePolicy(t *testing.T) {
	w := newWorldUnder(t, identity.Policy{Rules: []identity.PolicyRule{{Class: identity.ClassTwoFactors}}})
	b := w.newBrowser()
	b.post(SignUpPath, url.Values{"username": {"bob"}, "password": {"eleven paper cranes"}}).redirectedTo(t, factorPath)
	b.get("/account").redirectedTo(t, "/sign-in")
	next := b.get(factorPath)
	next.want(t, 200, "Set one up now")
	b.follow(b.post(factorPath, next.hidden())).want(t, 200, newTOTPPath)
}

// A thief's many changes do not keep the owner from changing what they did.
func TestUndoGivesChangesBack(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	if _, err := w.accounts.NewRecoveryCodes(t.Context(), time.Now(), "a", identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	token := w.undoOf("added")
	for {
		if _, err := w.accounts.NewRecoveryCodes(t.Context(), time.Now(), "a", identity.Activity{}); err != nil {
			break
		}
	}
	owner := w.newBrowser()
	owner.post(undoEmailPath, owner.get(undoEmailPath+"?token="+token).hidden()).want(t, 200)
	if _, err := w.accounts.NewRecoveryCodes(t.Context(), time.Now(), "a", identity.Activity{}); err != nil {
		t.Errorf("the owner must wait: %v", err)
	}
}

// A user who has to set up a second factor can choose a passkey.
func TestEnrolmentWithAPasskey(t *testing.T) {
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	w.updateUser("a", func(u *identity.User) {
		u.Authenticators = []identity.Authenticator{{ID: "t", Kind: identity.MethodTOTP}}
	})
	w.updateUser("a", func(u *identity.User) { u.LoseAuthenticator(time.Now(), "t") })
	b := w.newBrowser()
	next := b.follow(b.signIn("alice", password))
	b.follow(b.post(factorPath, next.hidden())).want(t, 200, passkeysPath, newTOTPPath)
	answer, err := softauthenticator.New(w.url).Create(b.options(passkey.Create))
	if err != nil {
		t.Fatal(err)
	}
	b.get("/account").redirectedTo(t, "/sign-in")
	b.post(passkeysPath, url.Values{"response": {string(answer)}}).redirectedTo(t, recoveryCodesPath)
	b.get(recoveryCodesPath).want(t, 200)
}
