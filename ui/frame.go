package ui

import (
	"net/http"
	"net/url"

	"github.com/valetkey/valetkey/identity"
)

// Frame is what package console shares with these pages: who is signed in, how to ask for a proof, which
// forms are accepted, and how pages look. It is safe for concurrent use.
type Frame struct{ ui *UI }

// Frame returns what package console needs.
func (u *UI) Frame() Frame { return Frame{u} }

// Look is how pages look: the URLs of the style sheet, the script, the icon and the logo, and the name of
// the service.
type Look struct {
	Style, Script, Icon, Logo, LogoDark, Name string
	// LogoHasName is set if the logo contains the name.
	LogoHasName bool
}

// Look returns how pages look that do not belong to an application.
func (f Frame) Look() Look {
	l := f.ui.looks.server
	return Look{Style: l.Style, Script: f.ui.assetURL("page", ".js"), Icon: l.Icon, Logo: l.Logo, LogoDark: l.LogoDark, Name: f.ui.config.Name, LogoHasName: l.LogoHasName}
}

// SignedIn returns the session of the user who is signed in; nil if there is none, or one that is only
// for setting up a method.
func (f Frame) SignedIn(r *http.Request) (*identity.Session, error) {
	who, err := f.ui.signedIn(r)
	if err != nil || who == nil || who.Enrolling != "" || who.User.BeingDeleted() {
		return nil, err
	}
	return who, nil
}

// SignIn redirects to the sign-in page, from where the user comes back to a page of the console, a path
// below the issuer.
func (f Frame) SignIn(w http.ResponseWriter, returnTo string) {
	identity.SetNextCookie(w, f.ui.config.Issuer, returnTo)
	_ = f.ui.redirect(w, "/sign-in") // returns no error
}

// Confirm redirects to the page on which a signed-in user proves again who they are, and which returns to
// a page of the console.
func (f Frame) Confirm(w http.ResponseWriter, returnTo string) {
	_ = f.ui.redirect(w, confirmPath+"?"+url.Values{returnParam: {returnTo}}.Encode()) // returns no error
}

// AcceptForm parses the form of a POST and reports whether to process it. If not, it has written an error
// page.
func (f Frame) AcceptForm(w http.ResponseWriter, r *http.Request) bool { return f.ui.acceptForm(w, r) }

// SetHeaders sets the headers of every page. The Content-Security-Policy allows only files of this server.
func (f Frame) SetHeaders(h http.Header) {
	f.ui.setHeaders(h, "")
	if f.ui.looks.server.hasFont {
		h.Set("Content-Security-Policy", h.Get("Content-Security-Policy")+"; font-src 'self'")
	}
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

// NotFound writes the error page for an unknown path.
func (f Frame) NotFound(w http.ResponseWriter, r *http.Request) { f.ui.NotFound(w, r) }

// Fault logs an internal error and writes the page for it.
func (f Frame) Fault(w http.ResponseWriter, r *http.Request, err error) { f.ui.fault(w, r, err) }
