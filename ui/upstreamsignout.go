package ui

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/internal/event"
)

// UpstreamLogout returns the URL at which the browser signs out at the providers that its user signed in
// with, and comes back to continueTo (authserver.SignInSettings). A provider that does not respond does not
// keep its user from signing out here.
func (u *UI) UpstreamLogout(w http.ResponseWriter, r *http.Request, continueTo string) (string, error) {
	if !u.config.Upstream.SignsOut() {
		return continueTo, nil
	}
	s, err := u.signedIn(r)
	if err != nil || s == nil {
		return continueTo, err
	}
	now := time.Now()
	logouts, err := u.config.Accounts.ExternalLogouts(r.Context(), now, s)
	if err != nil {
		return "", err
	}
	for _, logout := range logouts {
		provider := u.config.Upstream.Provider(logout.Provider)
		if provider == nil || !provider.SignsOut() {
			continue
		}
		to, err := provider.BeginSignOut(r.Context(), now, upstream.SignOut{
			Browser: u.upstreamBrowser(w, r), IDToken: logout.IDToken, Continue: continueTo,
		})
		if err != nil {
			u.log.Log(r.Context(), event.LevelOf(r.Context(), err), "logout at a provider not begun", "provider", provider.ID(), "error", err)
			continue
		}
		continueTo = to
	}
	return continueTo, nil
}

// upstreamBrowser returns the secret that binds what begins here and continues at a provider to the browser.
func (u *UI) upstreamBrowser(w http.ResponseWriter, r *http.Request) string {
	secret := identity.UpstreamCookie(r, u.config.Issuer)
	if secret == "" {
		secret = rand.Text() + rand.Text()
		identity.SetUpstreamCookie(w, u.config.Issuer, secret)
	}
	return secret
}

// servePostLogout is the post_logout_redirect_uri of a provider. The browser continues with what was stored
// when the logout began. It never begins another one, so there is no loop.
func (u *UI) servePostLogout(w http.ResponseWriter, r *http.Request, provider *upstream.Provider) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		u.methodNotAllowed(w, r, &page{get: (*session).home})
		return
	}
	to, err := provider.CompleteSignOut(r.Context(), time.Now(), r.URL.Query().Get("state"), identity.UpstreamCookie(r, u.config.Issuer))
	if err != nil && !errors.Is(err, upstream.ErrOver) {
		u.fault(w, r, fmt.Errorf("return from the logout at a provider: %w", err))
		return
	}
	if to == "" {
		to = u.base + "/signed-out"
	}
	u.setHeaders(w.Header(), "")
	w.Header().Del("Content-Type")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// signOutAction adds to the form-action directive of a page where its form to sign out may lead.
func (s *session) signOutAction(formAction string) string {
	if s.who == nil || !s.config.Upstream.SignsOut() || len(s.who.AtProviders()) == 0 {
		return formAction
	}
	return formActions(formAction, s.config.Upstream.FormAction())
}
