package ui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/ui/messages"
)

// The paths of sign-in through other providers. Each provider has a redirect URI, a
// backchannel_logout_uri and a logo below upstreamPath.
const (
	upstreamStartPath = "/sign-in/upstream"
	upstreamLinkPath  = "/sign-in/link"
	upstreamPath      = "/upstream/"
)

// The purposes of a sign-in at a provider.
const (
	purposeSignIn  = "sign_in"
	purposeConfirm = "confirm"
	purposeLink    = "link"
)

// providersView are buttons that start a sign-in.
type providersView struct {
	waiting
	Start     string
	Providers []providerView
}

// providerView is a button.
type providerView struct{ ID, Name, Logo string }

func (u *UI) providerView(p *upstream.Provider) providerView {
	v := providerView{ID: p.ID(), Name: cleanName(p.Name())}
	if logo, _ := p.Logo(); logo != nil {
		v.Logo = u.base + upstreamPath + p.ID() + "/logo"
	}
	return v
}

// upstreamButtons returns the buttons of a page.
func (u *UI) upstreamButtons(waits waiting, providers []providerView) providersView {
	return providersView{waiting: waits, Start: u.base + upstreamStartPath, Providers: providers}
}

// providers returns all providers.
func (u *UI) providers() []providerView {
	var views []providerView
	for _, p := range u.config.Upstream.Active() {
		views = append(views, u.providerView(p))
	}
	return views
}

// onlyProvider returns the provider to which the sign-in page leads at once: there is no other way to
// sign in.
func (u *UI) onlyProvider() *upstream.Provider {
	active := u.config.Upstream.Active()
	if !u.config.NoPasswords || len(active) != 1 {
		return nil
	}
	return active[0]
}

// serveUpstream serves the addresses of a provider. ok is false if there is none at the path.
func (u *UI) serveUpstream(w http.ResponseWriter, r *http.Request, server *authserver.Server) (ok bool) {
	rest, found := strings.CutPrefix(r.URL.Path, u.base+upstreamPath)
	id, action, below := strings.Cut(rest, "/")
	if !found || !below {
		return false
	}
	provider := u.config.Upstream.Provider(id)
	if provider == nil {
		return false
	}
	switch action {
	case "logo":
		return u.serveProviderLogo(w, r, provider)
	case "backchannel-logout":
		u.receiveLogout(w, r, server, provider)
		return true
	case "callback":
		u.serveCallback(w, r, server, provider)
		return true
	case "post-logout":
		u.servePostLogout(w, r, provider)
		return true
	}
	return false
}

func (u *UI) serveProviderLogo(w http.ResponseWriter, r *http.Request, provider *upstream.Provider) bool {
	logo, contentType := provider.Logo()
	if logo == nil || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	u.setCommonHeaders(w.Header())
	w.Header().Set("Content-Type", contentType)
	// An SVG can contain scripts, which run only if it is opened as a document.
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Header().Set("Content-Length", strconv.Itoa(len(logo)))
	w.WriteHeader(http.StatusOK)
	w.Write(logo) // an error means that the browser has disconnected
	return true
}

// startUpstream starts a sign-in with the provider whose button was pressed.
func (s *session) startUpstream(w http.ResponseWriter, r *http.Request) error {
	provider := s.config.Upstream.Provider(r.PostForm.Get("provider"))
	if provider == nil {
		s.NotFound(w, r)
		return nil
	}
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	return s.beginUpstream(w, r, in, provider, "")
}

// beginUpstream redirects the browser to a provider, to sign in, or to confirm a change of the account
// if the request names the page to return to.
func (s *session) beginUpstream(w http.ResponseWriter, r *http.Request, in *authserver.Interaction, provider *upstream.Provider, loginHint string) error {
	start := upstream.Start{Purpose: purposeSignIn, LoginHint: loginHint}
	if in != nil {
		start.Interaction, start.UILocales, start.Fresh = in.ID, in.UILocales, in.Reauthenticate
		if in.MaxAge > 0 {
			start.MaxAge = &in.MaxAge
		}
		if start.LoginHint == "" && s.config.Upstream.ForIdentifier(in.LoginHint) == provider {
			start.LoginHint = in.LoginHint
		}
	}
	if path := returnPath(r); path != "" && s.who != nil {
		start.Purpose, start.ReturnTo, start.UserID, start.Session = purposeConfirm, path, s.who.User.ID, s.who.ID
		start.Fresh = provider.ConfirmsSignIn() || s.confirmsOtherwise(s.who.User)
	}
	return s.redirectUpstream(w, r, in, provider, start)
}

func (s *session) redirectUpstream(w http.ResponseWriter, r *http.Request, in *authserver.Interaction, provider *upstream.Provider, start upstream.Start) error {
	start.Remote = s.config.RemoteAddr(r)
	start.Browser = s.upstreamBrowser(w, r)
	address, err := provider.Begin(r.Context(), time.Now(), start)
	if err != nil {
		return s.upstreamFailed(w, r, &upstream.Result{Provider: provider, Interaction: start.Interaction, Purpose: start.Purpose, ReturnTo: start.ReturnTo}, err)
	}
	s.setHeaders(w.Header(), "")
	w.Header().Del("Content-Type")
	w.Header().Set("Location", address)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// serveCallback receives the response of a provider. It does not go through the table of pages: the
// response may be posted from the provider's page, without the cookies of this site.
func (u *UI) serveCallback(w http.ResponseWriter, r *http.Request, server *authserver.Server, provider *upstream.Provider) {
	var err error
	switch r.Method {
	case http.MethodGet:
		var s *session
		if s, err = u.open(r, server); err == nil {
			err = s.callback(w, r, provider)
		}
	case http.MethodPost:
		err = u.postedCallback(w, r, server, provider)
	default:
		u.methodNotAllowed(w, r, &page{get: (*session).home, post: (*session).home})
	}
	if err != nil {
		u.fault(w, r, err)
	}
}

// resumeParam is the secret of a response that was posted.
const resumeParam = "resume"

// postedCallback keeps a posted response and redirects the browser to the same address with GET, so
// that it sends its cookies. The code does not get into a URL.
func (u *UI) postedCallback(w http.ResponseWriter, r *http.Request, server *authserver.Server, provider *upstream.Provider) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		u.ErrorPage(w, r, pageError(http.StatusBadRequest, pageBadForm))
		return nil
	}
	resume, err := provider.Hold(r.Context(), time.Now(), r.PostForm)
	if err != nil {
		s, openErr := u.open(r, server)
		if openErr != nil {
			return openErr
		}
		return s.upstreamFailed(w, r, &upstream.Result{Provider: provider}, err)
	}
	return u.redirect(w, provider.CallbackPath()+"?"+url.Values{resumeParam: {resume}}.Encode())
}

// callback completes a sign-in at a provider.
func (s *session) callback(w http.ResponseWriter, r *http.Request, provider *upstream.Provider) error {
	now, query := time.Now(), r.URL.Query()
	result, err := provider.Complete(r.Context(), now, query, query.Get(resumeParam), identity.UpstreamCookie(r, s.config.Issuer))
	if result == nil {
		result = &upstream.Result{Provider: provider}
	}
	// From here on, the request names what the sign-in was started with, and nothing else.
	waits := waiting{Interaction: result.Interaction, Return: result.ReturnTo}
	r = r.Clone(r.Context())
	r.URL.RawQuery = strings.TrimPrefix(waits.query(), "?")
	if err != nil {
		return s.upstreamFailed(w, r, result, err)
	}
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	if result.Purpose != purposeSignIn && (s.who == nil || s.who.User.ID != result.UserID || !slices.Contains(append(s.who.Former(), s.who.ID), result.Session)) {
		// Another user has signed in at this browser, or the session has ended.
		return s.upstreamFailed(w, r, result, upstream.ErrOver)
	}
	signIn := identity.ExternalSignIn{User: result.User, Decide: provider.Decide, Remote: s.config.RemoteAddr(r)}
	if result.Purpose == purposeLink {
		return s.link(w, r, result, signIn)
	}
	if result.Purpose == purposeConfirm && !isLinked(s.who.User, result.User) {
		return s.upstreamFailed(w, r, result, errOtherUser) // a confirmation creates no account
	}
	user, err := s.config.Accounts.SignInExternal(r.Context(), now, signIn)
	if err != nil {
		return s.upstreamFailed(w, r, result, err)
	}
	if result.Purpose == purposeConfirm && user.ID != s.who.User.ID {
		return s.upstreamFailed(w, r, result, errOtherUser)
	}
	return s.provedUpstream(w, r, in, user, result)
}

// confirmsOtherwise reports whether a user can confirm changes of the account in another way than with a
// provider that does not say when its user signed in. Users who have nothing else confirm with that.
func (s *session) confirmsOtherwise(user *identity.User) bool {
	if user.Has(identity.MethodPassword) && !s.config.NoPasswords || user.Has(identity.MethodPasskey) && s.config.Passkeys != nil || s.config.EmailSignIn && user.EmailVerified() {
		return true
	}
	if at, _ := s.directoryOf(user); at != nil {
		return true
	}
	return slices.ContainsFunc(user.External, func(link identity.ExternalLink) bool {
		p := s.config.Upstream.Provider(link.Provider)
		return p != nil && p.ConfirmsSignIn()
	})
}

// errOtherUser means that the user of the provider is linked to another account than the one that is
// signed in.
var errOtherUser = errors.New("ui: the user of the provider belongs to another account")

func isLinked(user *identity.User, external *identity.ExternalUser) bool {
	return slices.Contains(user.ExternalKeys(), identity.ExternalKey{Issuer: external.Issuer, Subject: external.Subject})
}

// provedUpstream continues with what the provider has proved.
func (s *session) provedUpstream(w http.ResponseWriter, r *http.Request, in *authserver.Interaction, user *identity.User, result *upstream.Result) error {
	now := time.Now()
	if !result.User.Session.Expires.IsZero() && !result.User.Session.Expires.After(now) {
		return s.upstreamFailed(w, r, result, upstream.ErrResponse)
	}
	return s.provedExternal(w, r, now, in, user, result.User)
}

// provedExternal continues with what a provider or a directory has proved.
func (s *session) provedExternal(w http.ResponseWriter, r *http.Request, now time.Time, in *authserver.Interaction, user *identity.User, external *identity.ExternalUser) error {
	proof, err := s.externalProof(r, now, user, external)
	if err != nil {
		return err
	}
	return s.proved(w, r, in, user, proof)
}

// externalProof returns what a provider or a directory has proved, with the session there.
func (s *session) externalProof(r *http.Request, now time.Time, user *identity.User, external *identity.ExternalUser) (identity.ProvedMethod, error) {
	proof := identity.ProvedMethod{Method: identity.MethodUpstream, At: external.AuthTime, Class: identity.Class(external.ACR)}
	if proof.At.IsZero() {
		proof.At = now
		if s.config.Directories.Directory(external.Provider) == nil && s.confirmsOtherwise(user) {
			// It may have been long ago. The proof does not allow changes of the account.
			proof.At = identity.RecentProofSince(now).Add(-time.Second)
		}
	}
	if proof.Class != "" || s.config.Directories.Directory(external.Provider) != nil {
		proof.AMR = knownAMR(external.AMR)
	}
	var err error
	proof.Authenticator, err = s.config.Accounts.HoldExternalSession(r.Context(), now, user.ID, external)
	return proof, err
}

// knownAMR returns the values of RFC 8176, section 2, so that a provider cannot put text of its own
// into our tokens.
func knownAMR(values []string) []string {
	registered := []string{
		"face", "fpt", "geo", "hwk", "iris", "kba", "mca", "mfa", "otp", "pin", "pop", "pwd", "rba", "retina", "sc", "sms", "swk", "tel", "user", "vbm", "wia",
	}
	known := []string{}
	for _, value := range values {
		if slices.Contains(registered, value) && !slices.Contains(known, value) {
			known = append(known, value)
		}
	}
	return known
}

// receiveLogout is the backchannel_logout_uri of a provider (OpenID Connect Back-Channel Logout,
// section 2.5).
func (u *UI) receiveLogout(w http.ResponseWriter, r *http.Request, server *authserver.Server, provider *upstream.Provider) {
	u.setCommonHeaders(w.Header())
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "Send a logout token with POST.", http.StatusMethodNotAllowed)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil || len(r.PostForm["logout_token"]) != 1 {
		http.Error(w, "The form has no logout_token.", http.StatusBadRequest)
		return
	}
	now, ended := time.Now(), 0
	err := provider.ReceiveLogout(r.Context(), now, r.PostForm.Get("logout_token"), func(issuer, subject, session string) (err error) {
		ended, err = u.config.Accounts.EndExternalSessions(r.Context(), now, issuer, subject, session)
		return err
	})
	switch {
	case errors.Is(err, upstream.ErrLogoutToken):
		u.log.WarnContext(r.Context(), "logout token refused", "provider", provider.ID(), "error", err)
		http.Error(w, "The logout token is not valid.", http.StatusBadRequest)
	case err != nil:
		u.log.Log(r.Context(), event.LevelOf(r.Context(), err), "sessions of a provider not ended", "provider", provider.ID(), "error", err)
		w.Header().Set("Retry-After", "10")
		http.Error(w, "The logout failed. Try again later.", http.StatusServiceUnavailable)
	default:
		if ended > 0 {
			server.SessionsEnded() // their clients are notified
		}
		w.WriteHeader(http.StatusOK)
	}
}

// upstreamErrorView is the data of the page for a sign-in that failed at a provider.
type upstreamErrorView struct {
	Title, Happened, Next *messages.Text
	// Reason is the reason of the operator's rule, and Contact says who can help.
	Reason  string
	Contact *contactView
	waiting
	Back     string
	BackText *messages.Text
	// Start is where the form leads with which the user tries again with Provider; nil if that is of no
	// use.
	Start     string
	Provider  *providerView
	Reference string
}

// upstreamFailure says how a failed sign-in is shown.
type upstreamFailure struct {
	// key is the beginning of the keys of the texts: error.upstream-KEY.
	key    string
	status int
	// retry offers to try again, contact says who can help, and logged leaves a reference to the log.
	retry, contact, logged bool
}

// upstreamFailureOf returns how an error is shown; ok is false for an internal error.
func upstreamFailureOf(err error) (f upstreamFailure, ok bool) {
	_, linkNeeded := errors.AsType[*identity.LinkNeededError](err)
	_, refused := errors.AsType[*identity.RefusedError](err)
	_, throttled := errors.AsType[*upstream.ThrottledError](err)
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case refused:
		return upstreamFailure{"refused", http.StatusForbidden, false, true, false}, true
	case linkNeeded:
		return upstreamFailure{"link-needed", http.StatusForbidden, false, false, false}, true
	case is(identity.ErrNoAccount):
		return upstreamFailure{"no-account", http.StatusForbidden, false, true, false}, true
	case is(identity.ErrExternalTaken), is(errOtherUser):
		return upstreamFailure{"taken", http.StatusConflict, true, false, false}, true
	case is(identity.ErrTooManyLinks):
		return upstreamFailure{"too-many", http.StatusConflict, false, false, false}, true
	case is(upstream.ErrCanceled):
		return upstreamFailure{"canceled", http.StatusOK, true, false, false}, true
	case is(upstream.ErrOver):
		return upstreamFailure{"over", http.StatusBadRequest, false, false, false}, true
	case is(upstream.ErrNotFresh):
		return upstreamFailure{"not-fresh", http.StatusForbidden, true, false, false}, true
	case throttled:
		return upstreamFailure{"busy", http.StatusTooManyRequests, false, false, false}, true
	case is(upstream.ErrUnavailable), is(context.DeadlineExceeded):
		return upstreamFailure{"unavailable", http.StatusServiceUnavailable, true, false, true}, true
	case is(upstream.ErrRefused):
		return upstreamFailure{"provider-refused", http.StatusBadGateway, true, true, true}, true
	case is(upstream.ErrResponse):
		return upstreamFailure{"response", http.StatusBadGateway, true, true, true}, true
	}
	return upstreamFailure{}, false
}

// upstreamFailed writes the page for a failed sign-in. An internal error is returned.
func (s *session) upstreamFailed(w http.ResponseWriter, r *http.Request, result *upstream.Result, err error) error {
	return s.externalFailed(w, r, s.providerView(result.Provider), result.Purpose, waiting{Interaction: result.Interaction, Return: result.ReturnTo}, err)
}

// externalFailed is like upstreamFailed, also for a directory. again is the provider or the directory.
func (s *session) externalFailed(w http.ResponseWriter, r *http.Request, again providerView, purpose string, waits waiting, err error) error {
	failure, known := upstreamFailureOf(err)
	if !known {
		return err
	}
	say := func(part string) *messages.Text {
		return text("error.upstream-"+failure.key+"."+part, "provider", again.Name)
	}
	v := upstreamErrorView{Title: say("title"), Happened: say("happened"), Next: say("next"), waiting: waits}
	account := purpose == purposeLink || purpose == purposeConfirm
	switch {
	case account:
		v.Back, v.BackText = s.base+"/account", text("common.back-to-account")
	case s.onlyProvider() == nil:
		v.Back, v.BackText = s.base+"/sign-in"+waiting{Interaction: waits.Interaction}.query(), text("upstream.another-way")
	}
	if failure.contact {
		v.Contact = s.contact(nil)
	}
	if refused, ok := errors.AsType[*identity.RefusedError](err); ok {
		v.Reason = cutRunes(clean(refused.Reason), 300)
	}
	if failure.logged {
		v.Reference = newReference()
	}
	s.log.WarnContext(r.Context(), "sign-in with a provider failed", "provider", again.ID, "reference", v.Reference, "error", err)
	if failure.retry && purpose != purposeLink && s.config.Upstream.Provider(again.ID) != nil {
		v.Start, v.Provider = s.base+upstreamStartPath, &again
	}
	a := pageResponse{status: failure.status, template: "upstream-error", title: v.Title, data: v, formAction: s.config.Upstream.FormAction()}
	if throttled, ok := errors.AsType[*upstream.ThrottledError](err); ok {
		a.retryAfter = throttled.RetryAfter
	}
	if failure.status == http.StatusServiceUnavailable {
		a.retryAfter = identity.BusyRetryAfter
	}
	return s.write(w, a)
}

// contactView says who can help a user.
type contactView struct{ Text, Href string }

// contact returns where a refused user can ask for help: the contact of the client, or that of the server; nil if
// neither is known.
func (u *UI) contact(contacts []string) *contactView {
	for _, address := range append(slices.Clone(contacts), u.config.Contact) {
		address = cutRunes(clean(address), 200)
		switch {
		case address == "":
		case identity.ValidEmailAddress(address):
			return &contactView{address, "mailto:" + address}
		case httpsLink(address) != "":
			return &contactView{webHost(address), address}
		default:
			return &contactView{Text: address}
		}
	}
	return nil
}
