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
	owner.post(undoEmailPath, page.hidden()).want(t, 200)
	if u := w.alice(); len(u.Authenticators) != 0 {
		t.Errorf("the added method remains: %v", u.Authenticators)
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
