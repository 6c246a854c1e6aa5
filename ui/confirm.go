package ui

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

// confirmPath is the page that asks a signed-in user to prove again who they are.
const confirmPath = "/account/confirm"

// returnParam is the page to return to after that.
const returnParam = "return"

// returnPath returns the page of the account or of the console to which a request for a proof returns;
// "" if it is none. It is never another site's.
func returnPath(r *http.Request) string {
	path := param(r, returnParam)
	if len(path) > maxReturnPath || path == confirmPath || !accountPage.MatchString(path) && !consolePage.MatchString(path) {
		return ""
	}
	return path
}

// maxReturnPath limits the length of a page of the console with the ID of what it shows.
const maxReturnPath = 1000

var (
	accountPage = regexp.MustCompile(`^/account(/[a-z-]+)*$`)
	consolePage = regexp.MustCompile(`^/console(/[a-z-]+)*(\?id=[A-Za-z0-9._~%+-]*)?$`)
)

// needRecentProof redirects to the page that asks for a proof, unless the user has proved a short time
// ago who they are, as strongly as changes of the account require. done reports whether it did.
// returnTo is the page to which the user returns, a path below the issuer with a GET.
func (s *session) needRecentProof(w http.ResponseWriter, r *http.Request, returnTo string) (done bool, err error) {
	if done, err := s.needSignIn(w, r); done {
		return true, err
	}
	if s.who.RecentlyProved(time.Now()) {
		return false, nil
	}
	return true, s.redirect(w, confirmPath+"?"+url.Values{returnParam: {returnTo}}.Encode())
}

type confirmView struct {
	waiting
	User     *identity.User
	Password bool
	Alert    *messages.Text
	Choices  []factorChoice
	Cancel   string
	// Providers are those that the user has linked.
	Upstream providersView
}

func (s *session) showConfirm(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	if returnPath(r) == "" {
		return s.redirect(w, "/account")
	}
	return s.writeConfirm(w, r, confirmView{}, pageResponse{})
}

func (s *session) writeConfirm(w http.ResponseWriter, r *http.Request, v confirmView, a pageResponse) error {
	at, err := s.signingIn(r)
	if err != nil {
		return err
	}
	v.waiting, v.User, v.Cancel = waitingParams(r), at.user, s.base+"/account"
	for _, page := range s.offered(at) {
		v.Choices = append(v.Choices, factorChoice{page.name, page.detail, s.base + page.path + v.query()})
	}
	if s.config.EmailSignIn && at.user.EmailVerified() && !slices.ContainsFunc(at.proofs, func(p identity.ProvedMethod) bool { return p.Method == identity.MethodEmail }) {
		v.Choices = append(v.Choices, factorChoice{text("method.email"), nil, s.base + signInEmailPath + v.query()})
	}
	v.Password = at.user.Has(identity.MethodPassword) && !slices.ContainsFunc(at.proofs, func(p identity.ProvedMethod) bool { return p.Method == identity.MethodPassword })
	// A provider is offered if it is enough, or as the first of two factors.
	withProvider := identity.MergeProofs(at.proofs, identity.ProvedMethod{Method: identity.MethodUpstream})
	first := !slices.ContainsFunc(at.proofs, func(p identity.ProvedMethod) bool { return p.Method == identity.MethodUpstream })
	if first || identity.Reached(withProvider).Includes(at.need.class) {
		var linked []providerView
		for _, link := range at.user.External {
			if p := s.config.Upstream.Provider(link.Provider); p != nil && (p.ConfirmsSignIn() || !s.confirmsOtherwise(at.user)) {
				linked = append(linked, s.providerView(p))
			}
		}
		v.Upstream = s.upstreamButtons(v.waiting, linked)
		a.formAction = s.config.Upstream.FormAction()
	}
	v.Password = (v.Password || s.hasDirectoryPassword(at.user, at.proofs)) && !s.config.NoPasswords
	a.template, a.title, a.account, a.data = "confirm", text("factor.title"), at.user, v
	return s.write(w, a)
}

// confirmPassword proves the password of a signed-in user again.
func (s *session) confirmPassword(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	if returnPath(r) == "" {
		return s.redirect(w, "/account")
	}
	now, user := time.Now(), s.who.User
	if at, link := s.directoryOf(user); at != nil && user.PasswordHash == "" {
		return s.confirmAtDirectory(w, r, at, link)
	}
	err := s.config.Accounts.ProvePasswordAgain(r.Context(), now, user, r.PostForm.Get("password"))
	if err == nil {
		return s.proved(w, r, nil, user, identity.ProvedMethod{Method: identity.MethodPassword, At: now})
	}
	return s.confirmRefused(w, r, err)
}

func (s *session) confirmRefused(w http.ResponseWriter, r *http.Request, err error) error {
	var v confirmView
	a, known := signInRefusal(err, &v.Alert)
	if !known {
		return err
	}
	if errors.Is(err, identity.ErrWrongCredentials) {
		v.Alert = text("alert.incorrect-password")
	}
	return s.writeConfirm(w, r, v, a)
}
