package ui

import (
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/passkey"
)

// upgradePath is the page on which the browser may create a passkey without asking, after a sign-in with
// a password (conditional create, WebAuthn Level 3, section 5.1.3). It does so if its password manager
// has just filled in the password.
const upgradePath = "/passkey/upgrade"

// upgradeParam is set by the script on the form for the password, if the browser can do that.
const upgradeParam = "upgrade"

type upgradeView struct {
	Passkey *passkeyView
	// Next is where the sign-in continues.
	Next string
}

// offersUpgrade reports whether a sign-in that has just been completed continues with the page for a
// new passkey. It must have begun with a password, and the user must have no passkey.
func (s *session) offersUpgrade(r *http.Request, user *identity.User, proofs []identity.ProvedMethod) bool {
	if s.config.Passkeys == nil || s.config.Passkeys.RequiresAttestation() || !r.PostForm.Has(upgradeParam) {
		return false
	}
	return s.upgradable(time.Now(), user, proofs) && identity.UpgradeCookie(r, s.config.Issuer) == ""
}

// upgradable reports whether proofs are those of a sign-in with a password that has just been completed. It
// may be that of a directory: it was typed into the same form, and the directory is asked at each sign-in with
// the passkey (keptOut).
func (s *session) upgradable(now time.Time, user *identity.User, proofs []identity.ProvedMethod) bool {
	typed := func(p identity.ProvedMethod) bool {
		return p.Method == identity.MethodPassword || s.config.Directories.Directory(p.Provider()) != nil
	}
	return user.CanHavePasskeys() && !user.Has(identity.MethodPasskey) && slices.ContainsFunc(identity.Since(proofs, identity.RecentProofSince(now)), typed)
}

// mayUpgrade reports whether the user of the session may get a passkey without a dialog.
func (s *session) mayUpgrade(now time.Time) bool {
	return s.who != nil && !s.config.Passkeys.RequiresAttestation() && s.upgradable(now, s.who.User, s.who.Proofs) && s.who.RecentlyProved(now)
}

func (s *session) showUpgrade(w http.ResponseWriter, r *http.Request) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	next := s.continueURL(in)
	if s.config.Passkeys == nil || !s.mayUpgrade(time.Now()) {
		s.continueAt(w, r, next)
		return nil
	}
	// Most password managers create nothing, so that the page is shown once a month at most.
	identity.SetUpgradeCookie(w, s.config.Issuer)
	v := upgradeView{Passkey: s.passkeys(waitingFor(in)), Next: next}
	a := pageResponse{template: "upgrade", title: text("upgrade.title"), data: v, passkeys: true}
	if in != nil {
		a.formAction = in.FormAction
	}
	return s.write(w, a)
}

// upgrade adds the passkey that the browser has created, and continues. A passkey that is not accepted
// keeps no one from signing in.
func (s *session) upgrade(w http.ResponseWriter, r *http.Request) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	if s.config.Passkeys != nil && s.mayUpgrade(time.Now()) {
		if _, _, err := s.createPasskey(r, passkey.Upgrade); err != nil {
			return err
		}
	}
	s.continueAt(w, r, s.continueURL(in))
	return nil
}

func (s *session) continueAt(w http.ResponseWriter, r *http.Request, next string) {
	s.setHeaders(w.Header(), "")
	http.Redirect(w, r, next, http.StatusSeeOther)
}
