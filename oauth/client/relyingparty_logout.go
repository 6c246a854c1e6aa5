package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// maxUsedLogoutTokens limits how many used logout tokens are remembered until they expire.
// Only tokens with a valid signature are remembered.
const maxUsedLogoutTokens = 100_000

// signOut ends the session here and redirects the browser to the provider to sign out there
// (OpenID Connect RP-Initiated Logout, section 2).
func (p *RelyingParty) signOut(w http.ResponseWriter, r *http.Request) error {
	if err := p.own.Check(r); err != nil {
		return refuse(http.StatusForbidden, "the sign-out form comes from another site")
	}
	s, err := p.session(r)
	if err != nil {
		return err
	}
	returnTo := localPath(r.FormValue("return_to"), p.home)
	if err := p.endSessions(r.Context(), p.sessionID(r)); err != nil {
		return err
	}
	p.setCookie(w, p.cookieName("session"), "", -1, false)
	if s == nil {
		seeOther(w, returnTo)
		return nil
	}
	if s.Tokens.RefreshToken != "" && p.client.metadata.RevocationEndpoint != "" {
		// The user is signed out even if this fails.
		if err := p.client.Revoke(r.Context(), s.Tokens); err != nil {
			p.logger.WarnContext(r.Context(), "revoking the refresh token of an ended session failed", "error", err)
		}
	}
	if p.client.metadata.EndSessionEndpoint == "" {
		seeOther(w, returnTo)
		return nil
	}
	state, err := p.seal.close("signed-out", returnTo)
	if err != nil {
		return err
	}
	address, err := p.client.LogoutURL(LogoutOptions{
		IDTokenHint: s.Tokens.IDToken, PostLogoutRedirectURI: p.origin.String() + p.base + "signed-out", State: state,
	})
	if err != nil {
		return err
	}
	seeOther(w, address)
	return nil
}

// signedOut redirects the browser after it returns from the provider. The state only contains
// the path. Without a valid state it redirects to Home.
func (p *RelyingParty) signedOut(w http.ResponseWriter, r *http.Request) error {
	returnTo := ""
	if err := p.seal.open("signed-out", r.URL.Query().Get("state"), &returnTo); err != nil {
		returnTo = ""
	}
	seeOther(w, localPath(returnTo, p.home))
	return nil
}

// backChannelLogout ends the sessions that a logout token identifies (OpenID Connect
// Back-Channel Logout, section 2.7). It is a success too if they have ended already. The
// status of every error is 400 (section 2.8).
func (p *RelyingParty) backChannelLogout(w http.ResponseWriter, r *http.Request) error {
	err := p.backChannel(r)
	if err == nil {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	p.logger.WarnContext(r.Context(), "back-channel logout failed", "error", err)
	body, err := json.Marshal(map[string]string{"error": string(oauth.InvalidRequest), "error_description": sanitize(err.Error(), 200)})
	if err != nil {
		return fmt.Errorf("client: write an error: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	w.Write(body)
	return nil
}

func (p *RelyingParty) backChannel(r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return fmt.Errorf("%w: the form is malformed", ErrLogoutToken)
	}
	if len(r.PostForm["logout_token"]) != 1 {
		return fmt.Errorf("%w: logout_token is missing", ErrLogoutToken)
	}
	logout, err := p.client.LogoutToken(r.Context(), r.PostForm.Get("logout_token"))
	if err != nil {
		return err
	}
	if !p.useOnce(logout, time.Now()) {
		return fmt.Errorf("%w: it was used before", ErrLogoutToken)
	}
	if err := p.sessions.DeleteSignedOut(r.Context(), logout.Issuer, logout.Subject, logout.SessionID); err != nil {
		p.allowAgain(logout)
		return errors.New("client: ending the sessions failed")
	}
	return nil
}

// useOnce reports whether a logout token is used for the first time. A replayed token could
// sign out users who have signed in again.
func (p *RelyingParty) useOnce(logout *LogoutToken, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.used[logout.ID]; ok {
		return false
	}
	if len(p.used) >= 1000 {
		for id, expiry := range p.used {
			if now.After(expiry) {
				delete(p.used, id)
			}
		}
	}
	if len(p.used) >= maxUsedLogoutTokens {
		return false
	}
	p.used[logout.ID] = logout.Expiry.Add(leeway)
	return true
}

// allowAgain allows the provider to try again with the same token.
func (p *RelyingParty) allowAgain(logout *LogoutToken) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, logout.ID)
}

// frontChannelLogout ends a session from a frame on the provider's page (OpenID Connect
// Front-Channel Logout, section 2). Browsers do not send the application's cookies there, so
// the session is found by its sid, which cannot be guessed. sid is required.
func (p *RelyingParty) frontChannelLogout(w http.ResponseWriter, r *http.Request) error {
	header := w.Header()
	header.Del("X-Frame-Options")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors"+p.providerOrigins())
	query := r.URL.Query()
	if len(query["iss"]) != 1 || query.Get("iss") != p.client.metadata.Issuer || len(query["sid"]) != 1 || query.Get("sid") == "" {
		http.Error(w, "iss or sid is missing, or iss is not the issuer of the provider.", http.StatusBadRequest)
		return nil
	}
	if err := p.sessions.DeleteSignedOut(r.Context(), query.Get("iss"), "", query.Get("sid")); err != nil {
		return fmt.Errorf("client: end the session: %w", err)
	}
	header.Set("Content-Type", "text/html; charset=utf-8")
	w.Write([]byte("<!doctype html><title>Signed out</title>\n"))
	return nil
}

// providerOrigins returns the origins whose pages may contain the frame: those of the issuer
// and of the end_session_endpoint.
func (p *RelyingParty) providerOrigins() string {
	origins := ""
	for _, address := range []string{p.client.metadata.Issuer, p.client.metadata.EndSessionEndpoint} {
		if u, err := url.Parse(address); err == nil && u.Host != "" {
			origins += " " + u.Scheme + "://" + u.Host
		}
	}
	return origins
}
