package ui

import (
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/chromium"
)

// setsUpTOTPIn adds an authenticator app while signing in.
func setsUpTOTPIn(t *testing.T, b *chromium.Tab) {
	t.Helper()
	b.Press("main a[href^='" + newTOTPPath + "']")
	b.Has(".key code")
	b.Submit("#code", codeOf(t, b.Texts(".key code")[0], -1), "#name", "New phone")
	b.Gone(".key code")
}

// onlyEnrols checks that a session can do nothing but set up a second factor.
func (w *world) onlyEnrols(b *chromium.Tab) {
	w.t.Helper()
	for _, path := range []string{"/account", totpPath, recoveryCodesPath, "/account/password"} {
		other := b.Another()
		other.Visit(w.url + path)
		other.Has("#identifier")
	}
}

// A user who has lost the password and the phone gets back in with a message and a recovery code, and can
// then only set up a second factor.
func TestRecoveryWithCodesInChromium(t *testing.T) {
	chromium.WithAndWithoutScripts(t, func(t *testing.T, open func() *chromium.Tab) {
		w := newWorldWithMail(t, func(*Config) {})
		owner, codes := w.aliceLosesAll()
		b := open()
		b.Visit(w.url + "/sign-in")
		b.Press("a[href='/forgot']")
		b.Submit("#identifier", "alice")
		b.Has("#code")
		b.Submit("#code", w.receivedWithCode(), "#new", chosenPassword)
		b.Shows("Your password has been changed")
		owner.get("/account").redirectedTo(t, "/sign-in")

		b.Press("main a.primary")
		b.Submit("#identifier", "alice", "#password", chosenPassword)
		b.Press("a[href='" + proveRecoveryCodePath + "']")
		b.Submit("#code", codes[0])
		b.Has("main a[href^='" + newTOTPPath + "']")
		w.onlyEnrols(b)
		setsUpTOTPIn(t, b)
		b.Visit(w.url + "/account")
		b.Has("#methods")
		b.Shows("alice")
	})
}

// A recovery by mail is stopped with the link of its message. Programs that fetch the link stop nothing.
func TestRecoveryByMailIsStoppedInChromium(t *testing.T) {
	chromium.WithAndWithoutScripts(t, func(t *testing.T, open func() *chromium.Tab) {
		w := newWorldWithMailRecovery(t)
		w.aliceLosesAll()
		thief, owner := open(), open()
		thief.Visit(w.url + "/forgot")
		thief.Press("a[href='" + recoveryPath + "']")
		thief.Shows("every way to sign in")
		thief.Submit("#identifier", "alice")
		thief.Has("#code")
		thief.Submit("#code", "0000 0000")
		thief.Has("#alert")
		thief.Submit("#code", w.receivedWithCode())
		thief.Shows("The recovery has started")

		link, _ := w.linkOf(stopRecoveryLink)
		w.scan(link)
		owner.Visit(w.url + link)
		owner.Shows("Stop")
		if w.alice().Account.Recovery == nil {
			t.Fatal("opening the link has stopped the recovery")
		}
		owner.Press("main .primary")
		owner.Shows("has been stopped")
		if w.alice().Account.Recovery != nil {
			t.Error("the recovery continues")
		}
		owner.Visit(w.url + link)
		owner.Shows("no longer valid")
	})
}

// When nobody stops it, the user chooses a password after the delay, and sets up a second factor before
// anything else.
func TestRecoveryByMailInChromium(t *testing.T) {
	chromium.WithAndWithoutScripts(t, func(t *testing.T, open func() *chromium.Tab) {
		w := newWorldWithMailRecovery(t)
		owner, _ := w.aliceLosesAll()
		w.newBrowser().beginsRecovery(w)
		w.updateUser("a", func(u *identity.User) { // in the store, the delay is over
			r := *u.Account.Recovery
			r.ReadyAt = time.Now().Add(-time.Second)
			u.Account.Recovery = &r
		})
		w.maintain(0)
		link, _ := w.linkOf(recoverLink)
		w.scan(link)
		b := open()
		b.Visit(w.url + link)
		owner.get("/account").want(t, 200) // opening it has changed nothing
		b.Submit("#new", chosenPassword)
		b.Has(".emblem.good")
		owner.get("/account").redirectedTo(t, "/sign-in")
		b.Press("main a.primary")
		b.Submit("#identifier", "alice", "#password", chosenPassword)
		b.Shows("Set one up now")
		w.onlyEnrols(b)
		b.Press("form[action='" + factorPath + "'] .primary")
		setsUpTOTPIn(t, b)
		b.Visit(w.url + "/account")
		b.Has("#methods")
		b.Visit(w.url + link)
		b.Shows("no longer valid")
	})
}
