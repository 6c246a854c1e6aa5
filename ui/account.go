package ui

import (
	"net/http"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

type accountView struct {
	User         *identity.User
	Person       *personView
	Notice       *messages.Text
	Approvals    []approvalView
	Applications []applicationView
	Sessions     []sessionView
	// PasskeySignals tell password managers which passkeys exist; nil if there are none.
	PasskeySignals *passkeySignals
	Email          *emailState // nil if no messages can be sent
	Methods        []methodView
	Language       *languageView
	UserCode       *userCodeState // nil if user codes are not used
	Events         []eventView
	Recovery       *pendingRecovery // nil if no one recovers the account
	// UsernameChange and Deletion are set if the user may change the username or delete the account.
	UsernameChange, Deletion bool
}

// emailState is the state of the user's address.
type emailState struct {
	Address  string
	Verified bool
	Pending  string // an address that is not confirmed yet
}

func (s *session) home(w http.ResponseWriter, r *http.Request) error {
	return s.redirect(w, "/account")
}

// needSignIn redirects to the sign-in page if the user is not signed in, and reports whether
// it did.
func (s *session) needSignIn(w http.ResponseWriter, r *http.Request) (bool, error) {
	if s.who != nil {
		return false, nil
	}
	return true, s.redirect(w, "/sign-in")
}

func (s *session) showAccount(w http.ResponseWriter, r *http.Request) error {
	if s.who == nil && r.URL.Query().Has(signedInParam) && s.missingCookies(w, r) {
		return nil
	}
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	if r.URL.Query().Has(signedInParam) {
		if next := identity.NextCookie(r, s.config.Issuer); next != "" {
			identity.ClearNextCookie(w, s.config.Issuer)
			if len(next) <= maxReturnPath && consolePage.MatchString(next) {
				return s.redirect(w, next)
			}
		}
	}
	user := s.who.User
	v := accountView{User: user, Person: person(user), Notice: s.notice(w, r)}
	v.Approvals, v.Methods, v.Language, v.UserCode = s.approvals(r), s.signInMethods(user), s.languageChoice(), s.userCode(r)
	uses, err := s.config.Accounts.Uses(r.Context(), time.Now(), user.ID)
	if err != nil {
		return err
	}
	v.PasskeySignals = s.userPasskeys(user)
	if v.Applications, err = s.applications(r, uses); err != nil {
		return err
	}
	if v.Sessions, err = s.sessions(r, uses); err != nil {
		return err
	}
	v.Events = s.securityEvents(v.Applications)
	v.Recovery = pendingRecoveryOf(user)
	v.UsernameChange, v.Deletion = s.canChangeUsername(), s.canDelete()
	if s.config.Accounts.CanMail() {
		v.Email = &emailState{Address: user.Email(), Verified: user.EmailVerified()}
		if v.Email.Pending, err = s.config.Accounts.PendingEmail(r.Context(), time.Now(), user); err != nil {
			return err
		}
	}
	return s.write(w, pageResponse{template: "account", title: text("account.title"), account: user, data: v, passkeys: v.PasskeySignals != nil})
}
