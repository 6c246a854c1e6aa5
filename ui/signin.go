package ui

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/directory"
	"github.com/valetkey/valetkey/ui/messages"
)

type signInView struct {
	waiting
	ClientName string // "" if no application is waiting
	Identifier string
	Alert      *messages.Text
	// Continue is the URL that continues with the signed-in account, if the application does
	// not require a new sign-in.
	Continue       string
	Passkey        *passkeyView
	PasskeySignals *passkeySignals
	// SignUp is the URL of the page that creates an account; "" if there is none.
	SignUp string
	// Forgot is the URL of the page for a forgotten password; "" if there is none.
	Forgot string
	// Email is the URL of the page for a sign-in with a message; "" if there is none.
	Email string
	// Providers are the other providers that users sign in with. NoPasswords is set if that is the
	// only way. ByDomain is set if a name is enough: its domain decides where the user signs in.
	Upstream              providersView
	NoPasswords, ByDomain bool
}

// waiting is what a page's links and forms contain about the interaction: its ID, and the client
// to return to if the interaction has expired. Both are "" if no application is waiting. Return is the
// page of the account that needs a recent proof (confirm.go); "" if there is none.
type waiting struct{ Interaction, ClientID, Return, UILocales string }

func waitingFor(in *authserver.Interaction) waiting {
	if in == nil {
		return waiting{}
	}
	v := waiting{Interaction: in.ID, UILocales: cutLocales(strings.Join(in.UILocales, " "))}
	if in.Client != nil && in.Client.Vouched() {
		v.ClientID = in.Client.ID
	}
	return v
}

// query returns the query for links to other pages of the interaction.
func (v waiting) query() string {
	if v.Return != "" {
		return "?" + url.Values{returnParam: {v.Return}}.Encode()
	}
	if v.Interaction == "" {
		return ""
	}
	query := "?interaction=" + url.QueryEscape(v.Interaction)
	if v.ClientID != "" {
		query += "&client_id=" + url.QueryEscape(v.ClientID)
	}
	if v.UILocales != "" {
		query += "&" + localesParam + "=" + url.QueryEscape(v.UILocales)
	}
	return query
}

// interaction returns the interaction that the request belongs to; nil if there is none. If the
// interaction is invalid, it writes an error page and ok is false.
func (s *session) interaction(w http.ResponseWriter, r *http.Request) (in *authserver.Interaction, ok bool) {
	id := param(r, "interaction")
	if id == "" {
		return nil, true
	}
	in, err := s.server.Interaction(r, id)
	switch {
	case err == nil:
		s.language = s.languageFor(r, in)
		if in.Client != nil {
			s.client = in.Client.ID
		}
		s.waits = in
		return in, true
	case s.missingCookies(w, r):
	default:
		s.server.InteractionError(w, r, err)
	}
	return nil, false
}

func (s *session) showSignIn(w http.ResponseWriter, r *http.Request) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	if in == nil && s.who != nil {
		return s.redirect(w, "/account")
	}
	if in != nil && in.Selectable != "" && s.who != nil && s.who.User.ID == in.Selectable && !r.URL.Query().Has("another") {
		return s.writeSelectAccount(w, r, in)
	}
	if more, err := s.needsMore(r, in); err != nil {
		return err
	} else if more {
		return s.redirect(w, factorPath+waitingFor(in).query())
	}
	var v signInView
	if in != nil {
		v.Identifier = cutRunes(clean(in.LoginHint), 254)
	}
	if only := s.onlyProvider(); only != nil {
		return s.beginUpstream(w, r, in, only, "")
	}
	return s.writeSignIn(w, r, in, v, pageResponse{})
}

// needsMore reports whether the signed-in user must prove more for an interaction, but not everything
// again.
func (s *session) needsMore(r *http.Request, in *authserver.Interaction) (bool, error) {
	if in == nil || s.who == nil || in.Subject != "" || r.URL.Query().Has("another") {
		return false, nil
	}
	at, err := s.signInOf(r, in, s.who.User, nil)
	if err != nil {
		return false, err
	}
	reached := identity.Reached(at.proofs)
	return reached != "" && !reached.Includes(at.need.class), nil
}

// writeSignIn writes the page; a has the status and its headers.
func (s *session) writeSignIn(w http.ResponseWriter, r *http.Request, in *authserver.Interaction, v signInView, a pageResponse) error {
	v.waiting = waitingFor(in)
	if in != nil {
		if in.Client != nil {
			v.ClientName = s.clientOf(r, in)
		}
		a.formAction = in.FormAction
		if s.who != nil && s.who.User.ID == in.Subject {
			v.Continue = s.server.ContinueURL(in)
		}
	}
	if s.config.SignUp && !s.config.NoPasswords && s.config.SignUpRequires != SignUpInvitation {
		v.SignUp = s.base + SignUpPath + v.query()
	}
	if s.config.EmailSignIn {
		v.Email = s.base + signInEmailPath + v.query()
	}
	if v.Upstream = s.upstreamButtons(v.waiting, s.providers()); len(v.Upstream.Providers) > 0 {
		a.formAction = formActions(a.formAction, s.config.Upstream.FormAction())
	}
	v.NoPasswords, v.ByDomain = s.config.NoPasswords, s.config.Upstream.ByDomain()
	if s.config.PasswordReset && !v.NoPasswords {
		v.Forgot = s.base + forgotPath + v.query()
	}
	v.Passkey, a.passkeys = s.passkeys(v.waiting), s.config.Passkeys != nil
	if v.Passkey != nil {
		v.Passkey.Signals = v.PasskeySignals
	}
	a.template, a.title, a.data = "sign-in", text("sign-in.title"), v
	return s.write(w, a)
}

func (s *session) signIn(w http.ResponseWriter, r *http.Request) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	if provider := s.config.Upstream.ForIdentifier(r.PostForm.Get("identifier")); provider != nil {
		// What was typed as a password is that of the provider, and none of our business.
		return s.beginUpstream(w, r, in, provider, cutRunes(clean(r.PostForm.Get("identifier")), 254))
	}
	if s.config.NoPasswords {
		return s.writeSignIn(w, r, in, signInView{Alert: text("upstream.use-provider")}, pageResponse{status: http.StatusForbidden})
	}
	now, identifier := time.Now(), r.PostForm.Get("identifier")
	directories, only := s.config.Directories.ForIdentifier(identifier)
	user, external, err := s.config.Accounts.SignInWithPassword(r.Context(), now, identity.Attempt{
		Identifier: identifier, Password: r.PostForm.Get("password"),
		Remote: s.config.RemoteAddr(r), Device: identity.DeviceCookie(r, s.config.Issuer),
		Directories: directory.Users(directories, identifier), DirectoryOnly: only,
	})
	if err != nil && external != nil {
		return s.directoryFailed(w, r, external, purposeSignIn, waitingFor(in), err)
	}
	if err != nil {
		v := signInView{Identifier: cutRunes(clean(identifier), 254)}
		refused, known := signInRefusal(err, &v.Alert)
		if !known {
			return err
		}
		return s.writeSignIn(w, r, in, v, refused)
	}
	if external != nil {
		return s.provedExternal(w, r, now, in, user, external)
	}
	return s.proved(w, r, in, user, identity.ProvedMethod{Method: identity.MethodPassword, At: now})
}

// signedInParam marks a redirect from a page that set the session cookie.
const signedInParam = "signed_in"

// cancel returns to the application without signing in.
func (s *session) cancel(w http.ResponseWriter, r *http.Request) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	if in == nil {
		return s.redirect(w, "/sign-in")
	}
	s.server.Canceled(w, r, in.ID)
	return nil
}

// signInRefusal sets the message for a password that was not accepted; known is false for an
// internal error.
func signInRefusal(err error, alert **messages.Text) (a pageResponse, known bool) {
	if throttled, ok := errors.AsType[*identity.ThrottledError](err); ok {
		*alert = text("alert.too-many-failed", "wait", inTime(throttled.RetryAfter))
		return pageResponse{status: http.StatusTooManyRequests, retryAfter: throttled.RetryAfter}, true
	}
	if _, ok := errors.AsType[*identity.DirectoryRefusedError](err); ok {
		*alert = text("alert.directory-password-expired")
		return pageResponse{status: http.StatusForbidden}, true
	}
	switch {
	case errors.Is(err, identity.ErrDirectoryUnavailable):
		*alert = text("alert.directory-unavailable")
		return pageResponse{status: http.StatusServiceUnavailable, retryAfter: identity.BusyRetryAfter}, true
	case errors.Is(err, identity.ErrWrongCredentials):
		*alert = text("alert.wrong-credentials")
		return pageResponse{status: http.StatusForbidden}, true
	case errors.Is(err, identity.ErrPasswordTooLong):
		*alert = text("alert.password-too-long")
		return pageResponse{status: http.StatusBadRequest}, true
	case errors.Is(err, identity.ErrBusy):
		*alert = text("alert.busy")
		return pageResponse{status: http.StatusServiceUnavailable, retryAfter: identity.BusyRetryAfter}, true
	}
	return pageResponse{}, false
}

// formActions joins sources for the form-action directive.
func formActions(sources ...string) string {
	var all []string
	for _, source := range sources {
		for _, one := range strings.Fields(source) {
			if !slices.Contains(all, one) {
				all = append(all, one)
			}
		}
	}
	return strings.Join(all, " ")
}
