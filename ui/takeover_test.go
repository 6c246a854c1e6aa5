package ui

import (
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
)

// Whoever has stolen a session cannot move the account to their own address: without a password, or
// with a second factor, a recent proof is needed.
func TestChangeOfAddressNeedsRecentProof(t *testing.T) {
	w := newWorldWithEmailSignIn(t)
	user := w.addVerifiedAlice()
	w.updateUser(user.ID, func(u *identity.User) { u.PasswordHash = "" })
	thief := w.newBrowser()
	thief.signedInBefore(w.alice(), identity.MethodEmail, time.Hour)
	confirm := confirmPath + "?return=%2Faccount%2Femail"
	thief.get("/account/email").redirectedTo(t, confirm)
	thief.post("/account/email", url.Values{"email": {"thief@example.com"}}).redirectedTo(t, confirm)
	w.noMessage()

	w.updateUser(user.ID, func(u *identity.User) { u.PasswordHash = passwordHash() })
	owner := w.newBrowser()
	owner.signIn("alice", password)
	owner.setsUpTOTP()
	w.age(thief)
	thief.post("/account/email", url.Values{"email": {"thief@example.com"}, "current": {password}}).redirectedTo(t, confirm)
	owner.post("/account/email", url.Values{"email": {"new@example.com"}, "current": {password}}).want(t, http.StatusSeeOther)
	if pending, err := w.accounts.PendingEmail(t.Context(), time.Now(), w.alice()); err != nil || pending != "new@example.com" {
		t.Errorf("the pending address is %q (%v)", pending, err)
	}
}

// An account that is being deleted can be kept with the second factor, and not without it.
func TestDeletedAccountIsKeptWithBothFactors(t *testing.T) {
	w := deletionWorld(t)
	w.addVerifiedAlice()
	b := w.newBrowser()
	b.signIn("alice", password)
	key := b.setsUpTOTP()
	b.post("/account/delete", url.Values{}).want(t, 200, "Your account will be deleted")
	b.signIn("alice", password).redirectedTo(t, factorPath)
	b.get(restorePath).redirectedTo(t, "/sign-in")
	b.post(restorePath, url.Values{}).redirectedTo(t, "/sign-in")
	page := b.get(proveTOTPPath)
	b.post(proveTOTPPath, with(page.hidden(), "code", codeOf(t, key, 0))).redirectedTo(t, restorePath)
	b.post("/account/export", url.Values{}).redirectedTo(t, restorePath)
	b.post(restorePath, url.Values{}).redirectedTo(t, "/account")
}

func TestDeletedAccountIsKeptWithAMessage(t *testing.T) {
	w := newWorldWithMail(t, func(c *Config) { c.DeletionGrace, c.EmailSignIn = 24*time.Hour, true })
	w.addVerifiedAlice()
	w.updateUser("a", func(u *identity.User) { u.PasswordHash = "" })
	if err := w.accounts.RequestDeletion(t.Context(), time.Now(), "a", time.Hour, identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	w.received()
	b := w.newBrowser()
	page := b.asksToSignIn("alice")
	b.post(signInEmailCodePath, with(page.hidden(), "code", codeIn(t, w.received()))).redirectedTo(t, restorePath)
}

func externalAlice() identity.ExternalSignIn {
	return identity.ExternalSignIn{
		User: &identity.ExternalUser{Provider: "corp", Name: "Corp", Issuer: "https://corp.example", Subject: "thief"},
		Decide: func(*identity.ExternalUser, bool) (identity.Admission, error) {
			return identity.Admission{}, nil
		},
	}
}

// A thief who links an account of their own is announced, and does not outlast what the owner does
// about it.
func TestThiefsLinkIsAnnouncedAndUndone(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	if err := w.accounts.LinkExternal(t.Context(), time.Now(), "a", externalAlice(), identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	token := w.undoOf("added")
	owner := w.newBrowser()
	owner.post(undoEmailPath, owner.get(undoEmailPath+"?token="+token).hidden()).want(t, 200)
	if links := w.alice().External; len(links) != 0 {
		t.Errorf("the link remains after the undo: %v", links)
	}
}

func TestUndoRemovesLaterMethodsWithoutTheirLinks(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	now := time.Now()
	if _, err := w.accounts.NewRecoveryCodes(t.Context(), now, "a", identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	token := w.undoOf("added")
	// The links of these changes are gone, as if there were too many to read.
	w.updateUser("a", func(u *identity.User) {
		u.Authenticators = append(u.Authenticators, identity.Authenticator{ID: "later", Kind: identity.MethodTOTP, CreatedAt: now.Add(time.Second)})
		u.External = append(u.External, identity.ExternalLink{ID: "later", Provider: "corp", Issuer: "https://corp.example", Subject: "thief", LinkedAt: now.Add(time.Second)})
	})
	owner := w.newBrowser()
	owner.post(undoEmailPath, with(owner.get(undoEmailPath+"?token="+token).hidden(), "password", password)).want(t, 200)
	if u := w.alice(); len(u.External) != 0 || len(u.Authenticators) != 0 {
		t.Errorf("after the undo: %v, %v", u.External, u.Authenticators)
	}
}

func TestLockDownRemovesRecentLinks(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	w.updateUser("a", func(u *identity.User) {
		u.CreatedAt = time.Now().Add(-1000 * time.Hour)
		u.External = []identity.ExternalLink{{ID: "old", Provider: "corp", Issuer: "https://corp.example", Subject: "alice", LinkedAt: time.Now().Add(-500 * time.Hour)}}
	})
	if err := w.accounts.LinkExternal(t.Context(), time.Now(), "a", externalAlice(), identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	if err := w.accounts.LockDown(t.Context(), time.Now(), "a", identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.accounts.SignInExternal(t.Context(), time.Now(), externalAlice()); err == nil {
		t.Error("a locked account is signed in to")
	}
	b := w.newBrowser()
	page := b.asksForReset("alice")
	var code string
	for code == "" {
		if m := w.received(); strings.Contains(m.Text, "/reset?") {
			code = codeIn(t, m)
		}
	}
	b.post("/reset", with(page.hidden(), "code", code, "new", newPassword)).want(t, 200)
	if _, err := w.accounts.SignInExternal(t.Context(), time.Now(), externalAlice()); err == nil {
		t.Error("the thief signs in with the link")
	}
	if links := w.alice().External; len(links) != 1 || links[0].ID != "old" {
		t.Errorf("links: %v", links)
	}
}

// Unlinking ends what began with the link.
func TestUnlinkingEndsItsSessions(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	if err := w.accounts.LinkExternal(t.Context(), time.Now(), "a", externalAlice(), identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	reference, err := w.accounts.HoldExternalSession(t.Context(), time.Now(), "a", externalAlice().User)
	if err != nil {
		t.Fatal(err)
	}
	proofs := []identity.ProvedMethod{{Method: identity.MethodUpstream, At: time.Now(), Authenticator: reference}}
	secret, _, err := w.accounts.StartSession(t.Context(), time.Now(), w.alice(), identity.SessionDetails{ACR: "1", Proofs: proofs}, nil)
	if err != nil {
		t.Fatal(err)
	}
	thief, owner := w.newBrowser().withSession(secret), w.newBrowser()
	thief.get("/account").want(t, 200)
	owner.signIn("alice", password)
	owner.post(linkedPath, url.Values{"unlink": {w.alice().External[0].ID}}).redirectedTo(t, linkedPath)
	thief.get("/account").redirectedTo(t, "/sign-in")
	owner.get("/account").want(t, 200)
}

// With a linked account and an authenticator application, changes need both.
func TestRecentProofOfLinkedAccountAndSecondFactor(t *testing.T) {
	u := identity.User{
		External:       []identity.ExternalLink{{ID: "1"}},
		Authenticators: []identity.Authenticator{{ID: "2", Kind: identity.MethodTOTP}},
	}
	if class := u.RecentProofClass(); class != identity.ClassTwoFactors {
		t.Errorf("changes need class %q", class)
	}
}

// A thief cannot make so many changes that a link does not undo all of them.
func TestThiefCannotFloodTheChanges(t *testing.T) {
	w := newWorldWithMail(t, func(*Config) {})
	w.addVerifiedAlice()
	w.updateUser("a", func(u *identity.User) {
		u.Authenticators = []identity.Authenticator{{ID: "owner", Kind: identity.MethodTOTP, CreatedAt: time.Now().Add(-1000 * time.Hour)}}
	})
	thief, owner := w.newBrowser(), w.newBrowser()
	now := time.Now()
	secret, _, err := w.accounts.StartSession(t.Context(), now, w.alice(), identity.SessionDetails{ACR: "2", Proofs: []identity.ProvedMethod{
		{Method: identity.MethodPassword, At: now}, {Method: identity.MethodTOTP, At: now},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	thief.withSession(secret).post(totpPath+"/remove", url.Values{"authenticator": {"owner"}}).want(t, http.StatusSeeOther)
	token := w.undoOf("removed")
	throttled := false
	for range 250 {
		if r := thief.post(recoveryCodesPath, url.Values{}); r.StatusCode == http.StatusTooManyRequests {
			throttled = true
			break
		}
	}
	if !throttled {
		t.Error("the number of changes is not limited")
	}
	owner.post(undoEmailPath, owner.get(undoEmailPath+"?token="+token).hidden()).want(t, 200)
	if u := w.alice(); len(u.Authenticators) != 1 || u.Authenticators[0].ID != "owner" {
		t.Errorf("after the undo: %v", u.Authenticators)
	}
}

// A session that is only for setting up a method, and one of an account that is being deleted, change
// nothing on any other page.
func TestRestrictedSessionsChangeNothing(t *testing.T) {
	form := url.Values{
		"password": {password}, "current": {password}, "new": {newPassword}, "email": {"thief@example.com"}, "username": {"thief"}, "code": {"12345678"},
		"answer": {"allow"}, "subject": {"a"}, "end-others": {"on"}, "name": {"thief"}, "language": {"de"}, "return": {"/account"}, "grant": {"g"},
	}
	for name, restrict := range map[string]func(*identity.User, *identity.SessionDetails){
		"enrolling":     func(_ *identity.User, d *identity.SessionDetails) { d.Enrolling = "?" },
		"being deleted": func(u *identity.User, _ *identity.SessionDetails) { u.Account.DeleteAfter = time.Now().Add(time.Hour) },
	} {
		w := newWorldWithMail(t, func(c *Config) { c.DeletionGrace, c.UsernameChange, c.PasswordReset = time.Hour, true, true })
		w.addVerifiedAlice()
		grant := w.grant("a", "printer", nil)
		form.Set("grant", grant.ID)
		now := time.Now()
		details := identity.SessionDetails{ACR: "1", AuthTime: now, Proofs: []identity.ProvedMethod{{Method: identity.MethodPassword, At: now}}}
		w.updateUser("a", func(u *identity.User) { restrict(u, &details) })
		user, err := w.accounts.AnyUser(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		other, _, err := w.accounts.StartSession(t.Context(), now, user, identity.SessionDetails{ACR: "1", AuthTime: now}, nil)
		if err != nil {
			t.Fatal(err)
		}
		secret, _, err := w.accounts.StartSession(t.Context(), now, user, details, nil)
		if err != nil {
			t.Fatal(err)
		}
		if user, err = w.accounts.AnyUser(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			if page.post == nil || !strings.HasPrefix(page.path, "/account/") && page.path != "/consent" && page.path != approvePath && page.path != upgradePath || page.path == restorePath {
				continue
			}
			b := w.newBrowser().withSession(secret)
			if r := b.post(page.path, form); r.StatusCode == http.StatusOK {
				t.Errorf("%s: POST %s is answered with 200", name, page.path)
			}
			if page.get != nil && page.path != newTOTPPath {
				if r := b.get(page.path); r.StatusCode == http.StatusOK {
					t.Errorf("%s: GET %s is answered with 200", name, page.path)
				}
			}
			if who, err := w.ui.SignedIn(b.request("GET", "/", nil)); who != nil || err != nil {
				t.Errorf("%s: clients see %v, %v", name, who, err)
			}
		}
		after, err := w.accounts.AnyUser(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(user, after) {
			t.Errorf("%s: the account has changed", name)
		}
		if _, err := w.accounts.Session(t.Context(), now, other); err != nil {
			t.Errorf("%s: another session has ended: %v", name, err)
		}
		if grants, err := w.store.GrantsOf(t.Context(), "a"); err != nil || len(grants) != 1 {
			t.Errorf("%s: %d grants (%v)", name, len(grants), err)
		}
	}
}
