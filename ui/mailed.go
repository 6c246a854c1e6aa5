package ui

import (
	"net/http"
	"net/netip"
	"net/url"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

// Pages that messages lead to. A link never changes anything when it is opened, because mail
// servers and browsers fetch links, and some of them run scripts: a button does.

// The paths of pages that messages link to, below the issuer.
const (
	forgotPath       = "/forgot"
	resetPath        = "/reset"
	confirmEmailPath = "/confirm-email"
	undoEmailPath    = "/undo-email"
)

// MailedPages returns the paths of the pages that messages link to, for identity.Config.
func MailedPages() identity.Pages {
	with := func(path string) func(string) string {
		return func(token string) string { return path + "?token=" + url.QueryEscape(token) }
	}
	return identity.Pages{
		SignIn: "/sign-in", Account: "/account", Forgot: forgotPath,
		Undo: with(undoEmailPath), Recover: RecoveryPath, StopRecovery: with(stopRecoveryPath),
	}
}

// InvitationPath returns the path and query of the page of an invitation.
func InvitationPath(token string) string { return SignUpPath + "?invitation=" + url.QueryEscape(token) }

// browserSecret returns the secret by which this browser is recognized when it comes back with a
// link or a code, and sets its cookie. Several tabs share one.
func (s *session) browserSecret(w http.ResponseWriter, r *http.Request) string {
	secret := identity.BrowserCookie(r, s.config.Issuer)
	if secret == "" {
		secret = identity.NewBrowserSecret()
	}
	identity.SetBrowserCookie(w, s.config.Issuer, secret)
	return secret
}

// activity describes the browser that sent a request, for notices.
func (s *session) activity(r *http.Request) identity.Activity {
	return identity.Activity{Browser: s.language.Text(browser(r.UserAgent())), Remote: addressWords(s.config.RemoteAddr(r)), Language: s.language.Tag}
}

func addressWords(address netip.Addr) string {
	if !address.IsValid() {
		return ""
	}
	return address.String()
}

// waitingParams returns what a page's links and forms contain about an interaction that is not
// looked up: it may have expired while the user was reading messages.
func waitingParams(r *http.Request) waiting {
	v := waiting{Interaction: param(r, "interaction"), ClientID: param(r, "client_id"), Return: returnPath(r), UILocales: cutLocales(param(r, localesParam))}
	if len(v.Interaction) > 100 || len(v.ClientID) > 255 {
		return waiting{}
	}
	return v
}

// with returns a path with a query of one parameter, and that of the interaction.
func (v waiting) with(path, name, value string) string {
	query := url.Values{name: {value}}
	if v.Interaction != "" {
		query.Set("interaction", v.Interaction)
	}
	if v.ClientID != "" {
		query.Set("client_id", v.ClientID)
	}
	if v.UILocales != "" {
		query.Set(localesParam, v.UILocales)
	}
	if v.Return != "" {
		query.Set(returnParam, v.Return)
	}
	return path + "?" + query.Encode()
}

// doneView is the data of a page that says what has happened.
type doneView struct {
	Text   *messages.Text
	Next   string // URL
	Button *messages.Text
}

func (s *session) writeDone(w http.ResponseWriter, title *messages.Text, v doneView) error {
	return s.write(w, pageResponse{template: "done", title: title, data: v})
}

// linkOver writes the page for a link or code that is no longer valid.
func (s *session) linkOver(w http.ResponseWriter, r *http.Request) error {
	s.ErrorPage(w, r, pageError(http.StatusNotFound, pageLinkOver))
	return nil
}
