package ui

import (
	"net/http"
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/passkey"
	"github.com/valetkey/valetkey/internal/softauthenticator"
)

// aliceLosesAll returns a browser and recovery codes of Alice, who has lost her phone and has forgotten her password.
func (w *world) aliceLosesAll() (owner *browserClient, codes []string) {
	w.t.Helper()
	w.addVerifiedAlice()
	owner = w.newBrowser()
	owner.signIn("alice", password)
	owner.setsUpTOTP()
	codes, err := w.accounts.NewRecoveryCodes(w.t.Context(), time.Now(), "a", identity.Activity{})
	if err != nil {
		w.t.Fatal(err)
	}
	return owner, codes
}

const chosenPassword = "seven yellow submarines"

// signsInWithCode signs in with the new password and a recovery code.
func (b *browserClient) signsInWithCode(code string) response {
	b.t.Helper()
	b.signIn("alice", chosenPassword).redirectedTo(b.t, factorPath)
	return b.post(proveRecoveryCodePath, with(b.get(proveRecoveryCodePath).hidden(), "code", code))
}

// A user who got back in with a message and a recovery code can only set up a second factor. Then the
// session is like any other.
func TestRecoveryWithMessageAndRecoveryCode(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	owner, codes := w.aliceLosesAll()
	b := w.newBrowser()
	b.resetsPassword(w, "alice", chosenPassword)
	owner.get("/account").redirectedTo(t, "/sign-in")
	b.signsInWithCode(codes[0]).redirectedTo(t, enrolPath)
	if who, err := w.ui.SignedIn(b.request("GET", "/", nil)); who != nil || err != nil {
		t.Errorf("clients see %v, %v", who, err)
	}
	for _, path := range []string{"/account", totpPath, recoveryCodesPath, linkedPath, exportPath, "/account/email"} {
		b.get(path).redirectedTo(t, "/sign-in")
	}
	b.post(recoveryCodesPath, url.Values{}).redirectedTo(t, "/sign-in")
	lost := w.alice().Authenticators[0].ID
	b.post(totpPath+"/remove", url.Values{"authenticator": {lost}}).redirectedTo(t, "/sign-in")

	b.get(enrolPath).want(t, 200, newTOTPPath)
	b.setsUpTOTP()
	b.get("/account").want(t, 200, "alice")
	b.post(totpPath+"/remove", url.Values{"authenticator": {lost}}).redirectedTo(t, "/account")
	if u := w.alice(); u.Authenticator(lost) != nil || u.Recovering() {
		t.Errorf("after the recovery: %v", u.Authenticators)
	}
	// From now on, a recovery code is a second factor as before.
	again := w.newBrowser()
	again.signsInWithCode(codes[1]).redirectedTo(t, "/account?signed_in=1")
}

// Who finds the phone again after the new password needs no recovery.
func TestNewPasswordAndSecondFactorIsNoRecovery(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	owner := w.newBrowser()
	owner.signIn("alice", password)
	key := owner.setsUpTOTP()
	b := w.newBrowser()
	b.resetsPassword(w, "alice", chosenPassword)
	if !w.alice().Recovering() {
		t.Fatal("a password set by mail is not noted")
	}
	b.signIn("alice", chosenPassword).redirectedTo(t, factorPath)
	b.post(proveTOTPPath, with(b.get(proveTOTPPath).hidden(), "code", codeOf(t, key, 0))).redirectedTo(t, "/account?signed_in=1")
	if w.alice().Recovering() {
		t.Error("the second factor does not end the recovery")
	}
}

// A message that signs in and a recovery code are a recovery as well, which ends all other sessions.
func TestRecoveryWithSignInByMessage(t *testing.T) {
	w := newWorldWithEmailSignIn(t)
	owner, codes := w.aliceLosesAll()
	owner.get("/account").want(t, 200)
	b := w.newBrowser()
	page := b.asksToSignIn("alice")
	b.post(signInEmailCodePath, with(page.hidden(), "code", w.receivedWithCode())).redirectedTo(t, factorPath)
	b.post(proveRecoveryCodePath, with(b.get(proveRecoveryCodePath).hidden(), "code", codes[0])).redirectedTo(t, enrolPath)
	owner.get("/account").redirectedTo(t, "/sign-in")
	b.get("/account").redirectedTo(t, "/sign-in")
}

// If the operator does not want that, a message and a recovery code let nobody in.
func TestNoRecoveryWithRecoveryCode(t *testing.T) {
	w := newWorldWithRecovery(t, "127.0.0.1", identity.Recovery{NoRecoveryCode: true}, func(*Config) {})
	_, codes := w.aliceLosesAll()
	b := w.newBrowser()
	b.resetsPassword(w, "alice", chosenPassword)
	b.signIn("alice", chosenPassword).redirectedTo(t, factorPath)
	b.get(proveRecoveryCodePath).redirectedTo(t, factorPath)
	b.post(proveRecoveryCodePath, url.Values{"code": {codes[0]}}).redirectedTo(t, factorPath)
	b.get("/account").redirectedTo(t, "/sign-in")
}

// A user who has only passkeys gets a password by mail if there are recovery codes. The password alone is
// not enough.
func TestRecoveryOfAccountWithPasskeysOnly(t *testing.T) {
	w := newPasskeyWorld(t, nil)
	w.addVerifiedAlice()
	b := w.signedIn()
	device := softauthenticator.New(w.url)
	b.addPasskey(device)
	codes, err := w.accounts.NewRecoveryCodes(t.Context(), time.Now(), "a", identity.Activity{})
	if err != nil {
		t.Fatal(err)
	}
	w.updateUser("a", func(u *identity.User) { u.PasswordHash = "" })
	b = w.newBrowser()
	b.resetsPassword(w, "alice", chosenPassword)
	b.signIn("alice", chosenPassword).redirectedTo(t, factorPath)
	b.get("/account").redirectedTo(t, "/sign-in")
	b.post(proveRecoveryCodePath, with(b.get(proveRecoveryCodePath).hidden(), "code", codes[0])).redirectedTo(t, enrolPath)
	b.get(enrolPath).want(t, 200, newTOTPPath, passkeysPath)
	b.get(passkeysPath).want(t, 200)
	b.post(passkeysPath+"/remove", url.Values{"passkey": {w.alicesPasskeys()[0].ID}}).redirectedTo(t, "/sign-in")
	second := softauthenticator.New(w.url)
	answer, err := second.Create(b.options(passkey.Create))
	if err != nil {
		t.Fatal(err)
	}
	b.post(passkeysPath, url.Values{"response": {string(answer)}}).want(t, http.StatusSeeOther)
	b.get("/account").want(t, 200, "alice")
	if u := w.alice(); u.Recovering() || u.MustEnrol() || len(u.Passkeys()) != 2 {
		t.Errorf("after the recovery: recovering %v, must enrol %v, %d passkeys", u.Recovering(), u.MustEnrol(), len(u.Passkeys()))
	}
}

var (
	stopRecoveryLink = regexp.MustCompile(`/recovery/stop\?token=[A-Za-z0-9_-]{43}`)
	recoverLink      = regexp.MustCompile(`/recover\?token=[A-Za-z0-9_-]{43}`)
)

// linkOf returns the link that the next message with a matching link has, and its address.
func (w *world) linkOf(link *regexp.Regexp) (path, to string) {
	w.t.Helper()
	for range 10 {
		m := w.received()
		if match := link.FindString(m.Text); match != "" {
			return match, m.To
		}
	}
	w.t.Fatalf("there is no message with %s", link)
	return "", ""
}

// beginsRecovery begins a recovery of Alice's account by mail.
func (b *browserClient) beginsRecovery(w *world) {
	b.t.Helper()
	page := b.get(b.post(recoveryPath, url.Values{"identifier": {"alice"}}).redirected(b.t))
	page.want(b.t, 200, "we have sent an email")
	b.post(beginRecoveryPath, with(page.hidden(), "code", "00000000")).want(b.t, http.StatusForbidden, "incorrect")
	b.post(beginRecoveryPath, with(page.hidden(), "code", w.receivedWithCode())).want(b.t, 200, "The recovery has started")
}

const mailDelay = 72 * time.Hour

func newWorldWithMailRecovery(t *testing.T) *world {
	return newWorldWithRecovery(t, "127.0.0.1", identity.Recovery{MailDelay: mailDelay}, func(*Config) {})
}

// maintain does what is due after a while.
func (w *world) maintain(after time.Duration) {
	w.t.Helper()
	if err := w.accounts.Maintain(w.t.Context(), time.Now().Add(after)); err != nil {
		w.t.Fatal(err)
	}
}

// A user who has lost everything but the mailbox gets back in after the delay, and must set up a second
// factor before anything else.
func TestRecoveryByMail(t *testing.T) {
	w := newWorldWithMailRecovery(t)
	owner, _ := w.aliceLosesAll()
	b := w.newBrowser()
	b.get("/forgot").want(t, 200, recoveryPath)
	b.beginsRecovery(w)
	w.linkOf(stopRecoveryLink)
	owner.get("/account").want(t, 200, "Someone is recovering this account", "Recovery by email started")
	w.maintain(mailDelay - time.Minute)
	w.noMessage()
	if u := w.alice(); !u.Has(identity.MethodTOTP) {
		t.Error("the recovery has changed the account before its delay was over")
	}
	// In the store, the recovery began three days ago.
	w.updateUser("a", func(u *identity.User) {
		r := *u.Account.Recovery
		r.ReadyAt = time.Now().Add(-time.Second)
		u.Account.Recovery = &r
	})
	w.maintain(0)
	link, to := w.linkOf(recoverLink)
	if to != "alice@example.com" {
		t.Errorf("the link went to %s", to)
	}
	w.maintain(time.Minute) // another node
	w.noMessage()
	page := b.get(link) // so does a scanner
	owner.get("/account").want(t, 200)
	b.post(recoverPath, with(page.hidden(), "new", chosenPassword)).want(t, 200)
	owner.get("/account").redirectedTo(t, "/sign-in")
	b.post(recoverPath, with(page.hidden(), "new", chosenPassword+"!")).want(t, 404)

	next := b.follow(b.signIn("alice", chosenPassword))
	next.want(t, 200, "Set one up now")
	b.get("/account").redirectedTo(t, "/sign-in")
	b.follow(b.post(factorPath, next.hidden())).want(t, 200, newTOTPPath)
	b.setsUpTOTP()
	b.get("/account").want(t, 200)
}

// The link is of no use if it was not used in time.
func TestRecoveryByMailExpires(t *testing.T) {
	w := newWorldWithMailRecovery(t)
	w.aliceLosesAll()
	b := w.newBrowser()
	b.beginsRecovery(w)
	w.updateUser("a", func(u *identity.User) {
		r := *u.Account.Recovery
		r.ReadyAt = time.Now().Add(-time.Second)
		u.Account.Recovery = &r
	})
	w.maintain(0)
	link, _ := w.linkOf(recoverLink)
	w.maintain(25 * time.Hour)
	b.get(link).want(t, 404)
	if w.alice().Account.Recovery != nil {
		t.Error("the recovery is still there")
	}
}

// Each of those who can use the account can stop the recovery.
func TestRecoveryByMailIsStopped(t *testing.T) {
	for name, stop := range map[string]func(w *world, owner *browserClient){
		"link in the message": func(w *world, owner *browserClient) {
			link, _ := w.linkOf(stopRecoveryLink)
			page := w.newBrowser().get(link)
			if w.alice().Account.Recovery == nil {
				w.t.Error("opening the link has stopped the recovery")
			}
			w.newBrowser().post(stopRecoveryPath, page.hidden()).want(w.t, 200, "has been stopped")
			w.newBrowser().get(link).want(w.t, 404)
		},
		"session": func(w *world, owner *browserClient) {
			owner.post(keepAccountPath, url.Values{}).redirectedTo(w.t, "/account")
			owner.get("/account").want(w.t, 200, "The recovery has been stopped.")
		},
		"sign-in": func(w *world, _ *browserClient) {
			b := w.newBrowser()
			b.get(b.get(w.authorizeURL(nil)).redirected(w.t))
			page := b.get(b.get(w.authorizeURL(nil)).redirected(w.t))
			next := b.post("/sign-in", with(page.hidden(), "identifier", "alice", "password", password)).redirected(w.t)
			warning := b.get(next)
			warning.want(w.t, 200, "Someone is recovering this account", "It was me")
			consent := b.post(keepAccountPath, warning.hidden())
			b.get(consent.redirected(w.t)).want(w.t, http.StatusSeeOther)
		},
		"new address": func(w *world, owner *browserClient) { owner.changesAddress(w, "new@example.com") },
		"lock-down":   func(w *world, owner *browserClient) { owner.post(wasntMePath, url.Values{}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldWithMailRecovery(t)
			w.addVerifiedAlice()
			owner := w.newBrowser()
			owner.signIn("alice", password)
			w.newBrowser().beginsRecovery(w)
			stop(w, owner)
			user, err := w.accounts.AnyUser(t.Context(), "a")
			if err != nil || user.Account.Recovery != nil {
				t.Errorf("the recovery goes on: %v (%v)", user.Account.Recovery, err)
			}
			w.maintain(mailDelay + time.Minute)
			if err := w.outbox.Deliver(t.Context()); err != nil {
				t.Fatal(err)
			}
			for len(w.mail.Received()) > 0 {
				if m := <-w.mail.Received(); recoverLink.MatchString(m.Text) {
					t.Error("the link was sent")
				}
			}
		})
	}
}

// The address that the account had a short time ago is told too, and can stop it.
func TestRecoveryByMailTellsFormerAddress(t *testing.T) {
	w := newWorldWithMailRecovery(t)
	w.addVerifiedAlice()
	thief := w.newBrowser()
	thief.signIn("alice", password)
	thief.changesAddress(w, "thief@example.com")
	thief.beginsRecovery(w)
	told := map[string]string{}
	for range 2 {
		link, to := w.linkOf(stopRecoveryLink)
		told[to] = link
	}
	if told["alice@example.com"] == "" || told["thief@example.com"] == "" {
		t.Fatalf("these were told: %v", told)
	}
	page := w.newBrowser().get(told["alice@example.com"])
	w.newBrowser().post(stopRecoveryPath, page.hidden()).want(t, 200)
	if w.alice().Account.Recovery != nil {
		t.Error("the former address cannot stop the recovery")
	}
}

// Known and unknown accounts are answered alike, and without the setting there are no such pages.
func TestRecoveryByMailRevealsNothing(t *testing.T) {
	w := newWorldWithMailRecovery(t)
	w.addVerifiedAlice()
	for _, name := range []string{"alice", "nobody"} {
		b := w.newBrowser()
		page := b.get(b.post(recoveryPath, url.Values{"identifier": {name}}).redirected(t))
		page.want(t, 200, "If there is an account")
		b.post(beginRecoveryPath, with(page.hidden(), "code", "00000000")).want(t, http.StatusForbidden)
	}
	off := newWorldWithMail(t, func(*Config) {})
	b := off.newBrowser()
	b.get(recoveryPath).want(t, 404)
	b.post(recoveryPath, url.Values{"identifier": {"alice"}}).want(t, 404)
	b.get(beginRecoveryPath+"?request=x").want(t, 404)
}
