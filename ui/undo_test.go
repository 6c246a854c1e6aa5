package ui

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
)

var undoLink = regexp.MustCompile(`/undo-email\?token=([A-Za-z0-9_-]{43})`)

// undoOf returns the token of the link in the next notice with a subject.
func (w *world) undoOf(subject string) string {
	w.t.Helper()
	for range 10 {
		m := w.received()
		if match := undoLink.FindStringSubmatch(m.Text); match != nil && strings.Contains(m.Subject(), subject) {
			return match[1]
		}
	}
	w.t.Fatalf("there is no notice %q", subject)
	return ""
}

// receivedWithCode returns the next message that has a code.
func (w *world) receivedWithCode() string {
	w.t.Helper()
	for range 10 {
		if match := mailedCode.FindStringSubmatch(w.received().Text); match != nil {
			return match[1]
		}
	}
	w.t.Fatal("there is no message with a code")
	return ""
}

// resetsPassword chooses a new password with a message.
func (b *browserClient) resetsPassword(w *world, identifier, chosen string) {
	b.t.Helper()
	page := b.asksForReset(identifier)
	b.post(resetPath, with(page.hidden(), "code", w.receivedWithCode(), "new", chosen)).want(b.t, 200, "new password")
}

// changesAddress changes the address of a user without a second factor.
func (b *browserClient) changesAddress(w *world, address string) {
	b.t.Helper()
	page := b.get(b.post("/account/email", url.Values{"email": {address}, "current": {password}}).redirected(b.t))
	b.post("/account/email/code", with(page.hidden(), "code", w.receivedWithCode())).redirectedTo(b.t, "/account")
}

func TestUndoOfAddedMethod(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	thief := w.newBrowser()
	thief.signIn("alice", password)
	thief.setsUpTOTP()
	token := w.undoOf("added")
	later := w.updateUser("a", func(*identity.User) {}).Authenticators[0].ID
	if err := w.accounts.RemoveAuthenticator(t.Context(), time.Now(), "a", later, identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	restore := w.undoOf("removed")

	owner := w.newBrowser()
	// A program that fetches the link changes nothing.
	page := owner.get(undoEmailPath + "?token=" + restore)
	page.want(t, 200, "how you sign in")
	thief.get("/account").want(t, 200)
	owner.post(undoEmailPath, page.hidden()).want(t, 200, "has been undone")
	if u := w.alice(); !u.Has(identity.MethodTOTP) {
		t.Error("the removed method is not restored")
	}
	thief.get("/account").redirectedTo(t, "/sign-in")
	owner.post(undoEmailPath, page.hidden()).want(t, 404)
	page = owner.get(undoEmailPath + "?token=" + token) // that of the earlier change works
	// It removes the only second factor, which the mailbox alone must not be enough for.
	page.want(t, 200, "enter your password")
	owner.post(undoEmailPath, page.hidden()).want(t, http.StatusForbidden)
	owner.post(undoEmailPath, with(page.hidden(), "password", "another password")).want(t, http.StatusForbidden, "Incorrect password")
	if u := w.alice(); !u.Has(identity.MethodTOTP) {
		t.Error("the second factor is removed without the password")
	}
	owner.post(undoEmailPath, with(page.hidden(), "password", password)).want(t, 200)
	if u := w.alice(); len(u.Authenticators) != 0 {
		t.Errorf("the added method remains: %v", u.Authenticators)
	}
}

// Whoever only reads the mailbox of a user does not get in after the user has set up the first second
// factor, whatever is done first with the messages.
func TestMailboxAloneDoesNotRemoveSecondFactor(t *testing.T) {
	for name, first := range map[string]func(*world, *browserClient){
		"undo first": func(*world, *browserClient) {},
		"new password first": func(w *world, thief *browserClient) {
			thief.resetsPassword(w, "alice", "seven yellow submarines")
		},
		"account without a password": func(w *world, _ *browserClient) {
			w.updateUser("a", func(u *identity.User) { u.PasswordHash = "" })
		},
	} {
		w := newWorldWithEmailSignIn(t)
		w.addVerifiedAlice()
		owner := w.newBrowser()
		owner.signIn("alice", password)
		owner.setsUpTOTP()
		token := w.undoOf("added")
		thief := w.newBrowser()
		first(w, thief)
		page := thief.get(undoEmailPath + "?token=" + token)
		for _, guess := range []string{"", "seven yellow submarines", "guess"} {
			thief.post(undoEmailPath, url.Values{"token": {token}, "password": {guess}}).want(t, http.StatusForbidden)
		}
		if u := w.alice(); !u.Has(identity.MethodTOTP) {
			t.Errorf("%s: the second factor is gone", name)
		}
		if name != "undo first" {
			page.want(t, 200, "This link alone cannot remove")
		}
		page = thief.asksToSignIn("alice")
		thief.post(signInEmailCodePath, with(page.hidden(), "code", w.receivedWithCode())).redirectedTo(t, factorPath)
		thief.get("/account").redirectedTo(t, "/sign-in")
	}
}

// The link that restores an address works for whoever had it, but leaves a second factor that was set up
// later, unless the password is known.
func TestRestoredAddressKeepsSecondFactor(t *testing.T) {
	for _, knows := range []bool{false, true} {
		w := newWorldWithMail(t, func(*Config) {})
		w.addVerifiedAlice()
		owner := w.newBrowser()
		owner.signIn("alice", password)
		former := w.alice().Email()
		owner.changesAddress(w, "new@example.com")
		token := w.undoOf("changed")
		owner.setsUpTOTP()
		b := w.newBrowser()
		page := b.get(undoEmailPath + "?token=" + token)
		page.want(t, 200, former, "enter your password. Otherwise")
		form := page.hidden()
		if knows {
			form.Set("password", password)
		}
		b.post(undoEmailPath, form).want(t, 200)
		if u := w.alice(); u.Email() != former || u.Has(identity.MethodTOTP) == knows {
			t.Errorf("password known: %v, address %s, methods %v", knows, u.Email(), u.Authenticators)
		}
	}
}

func TestRecoveryByOperatorsLink(t *testing.T) {
	w := newWorld(t)
	w.addAliceWithTOTP()
	b := w.newBrowser()
	token, err := w.accounts.NewRecovery(t.Context(), time.Now(), w.alice(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	page := b.get(RecoveryPath(token))
	page.want(t, 200, "alice")
	b.post(recoverPath, with(page.hidden(), "new", "short")).want(t, http.StatusBadRequest)
	const chosen = "eleven paper cranes"
	b.post(recoverPath, with(page.hidden(), "new", chosen)).want(t, 200, "Sign in with your new password")
	b.post(recoverPath, with(page.hidden(), "new", "another long password")).want(t, 404)

	// The new password leads to the page on which a second factor is set up, and nowhere else.
	next := b.follow(b.signIn("alice", chosen))
	next.want(t, 200, "Set one up now")
	b.follow(b.post(factorPath, next.hidden())).want(t, 200, newTOTPPath)
	b.get("/account").redirectedTo(t, "/sign-in")
	form := b.get(newTOTPPath)
	key := shownKey.FindStringSubmatch(form.body)[1]
	b.post(newTOTPPath, with(form.hidden(), "code", codeOf(t, key, -1), "name", "Phone")).redirected(t)
	b.get("/account").want(t, 200, "alice")
	if w.alice().MustEnrol() {
		t.Error("the user must still set up a second factor")
	}
	b.post("/sign-out", url.Values{})
	b.signIn("alice", chosen).redirectedTo(t, factorPath)
}
