package ui

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

// factorPath is the page that asks for what a sign-in still needs.
const factorPath = "/sign-in/factor"

// methodPage is the page on which a user proves a method in a sign-in that has begun.
type methodPage struct {
	method identity.Method
	path   string
	// name and detail are what the choice says.
	name, detail *messages.Text
}

// methodPages lists the pages, in the order in which they are offered to a user who has not used any of
// them yet.
var methodPages = []methodPage{
	{identity.MethodPasskey, passkeyPath, text("passkey.use"), text("passkey.use-detail")},
	{identity.MethodTOTP, proveTOTPPath, text("method.totp"), nil},
	{identity.MethodRecoveryCode, proveRecoveryCodePath, text("method.recovery-code"), nil},
}

type factorView struct {
	waiting
	Username string
	Choices  []factorChoice
	Another  string // URL of the sign-in with another account
	Recovery string // URL of the page for those who have lost everything; "" if there is none
	// ClientName is the application that waits; "" if there is none. Enrol is set if the user can set up
	// what is missing.
	ClientName string
	Enrol      bool
}

type factorChoice struct {
	Name, Detail *messages.Text
	URL          string
}

// showFactor lets the user choose how to continue a sign-in. If there is only one way, it redirects to
// its page.
func (s *session) showFactor(w http.ResponseWriter, r *http.Request) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	at, err := s.signingIn(r)
	if err != nil {
		return err
	}
	if at == nil {
		return s.signInAgain(w, r)
	}
	v := factorView{waiting: waitingParams(r), Username: at.user.Username, Enrol: len(s.enrolable(at)) > 0}
	v.Another = s.base + v.with("/sign-in", "another", "1")
	if s.who == nil {
		v.Recovery = s.recoveryURL(v.waiting)
	}
	if in != nil && in.Client != nil {
		v.ClientName = s.clientOf(r, in)
	}
	offered := s.offered(at)
	if len(offered) == 1 {
		return s.redirect(w, offered[0].path+v.query())
	}
	for _, page := range offered {
		v.Choices = append(v.Choices, factorChoice{page.name, page.detail, s.base + page.path + v.query()})
	}
	return s.write(w, pageResponse{template: "factor", title: text("factor.title"), data: v})
}

// nothingToProve is the answer of a user who has no method with which the sign-in could continue: it
// continues with setting one up, or it ends.
func (s *session) nothingToProve(w http.ResponseWriter, r *http.Request) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	at, err := s.signingIn(r)
	if err != nil {
		return err
	}
	switch {
	case at == nil:
		return s.signInAgain(w, r)
	case len(s.offered(at)) > 0:
		return s.redirect(w, factorPath+waitingParams(r).query())
	case len(s.enrolable(at)) > 0:
		return s.startEnrolment(w, r, at)
	case in != nil:
		s.server.Insufficient(w, r, in.ID)
		return nil
	}
	return s.redirect(w, "/sign-in")
}

// recoveryCodeCounts reports whether a user may continue a sign-in with a recovery code, as far as the
// operator allows that as a recovery.
func (s *session) recoveryCodeCounts(at *signingIn) bool {
	code := identity.ProvedMethod{Method: identity.MethodRecoveryCode}
	return !s.config.Accounts.Recovery().NoRecoveryCode || !at.user.RecoveredBy(identity.MergeProofs(at.proofs, code))
}

// offered returns the pages of the methods with which a user can continue a sign-in, the last used
// first.
func (s *session) offered(at *signingIn) []methodPage {
	var pages []methodPage
	lastUsed := map[identity.Method]int64{}
	for _, page := range methodPages {
		for _, a := range at.user.Authenticators {
			if a.Kind != page.method || page.method == identity.MethodRecoveryCode && !s.recoveryCodeCounts(at) {
				continue
			}
			proof := identity.ProvedMethod{Method: a.Kind, Authenticator: a.ID, UserVerified: a.Kind == identity.MethodPasskey}
			if !identity.Reached(identity.MergeProofs(at.proofs, proof)).Includes(at.need.class) {
				continue
			}
			if !slices.Contains(pages, page) {
				pages = append(pages, page)
			}
			lastUsed[page.method] = max(lastUsed[page.method], a.LastUsedAt.UnixMilli())
		}
	}
	slices.SortStableFunc(pages, func(a, b methodPage) int {
		// Recovery codes are for when nothing else is at hand.
		if (a.method == identity.MethodRecoveryCode) != (b.method == identity.MethodRecoveryCode) {
			if a.method == identity.MethodRecoveryCode {
				return 1
			}
			return -1
		}
		return cmp.Compare(lastUsed[b.method], lastUsed[a.method])
	})
	return pages
}
