package client

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"sync"

	"github.com/valetkey/valetkey/oauth"
)

// maxSessionState limits the session_state that is stored in a session.
const maxSessionState = 512

// Every five seconds, the page asks the provider's page whether the sign-in there has
// changed, and notifies its parent page (OpenID Connect Session Management, section 3.1). It
// stops after an error.
const checkSessionScript = `const frame = document.querySelector("iframe"), provider = new URL(frame.src).origin
const ask = () => frame.contentWindow.postMessage(frame.dataset.ask, provider)
let timer
frame.onload = () => { ask(); timer ??= setInterval(ask, 5000) }
addEventListener("message", e => {
  if (e.source !== frame.contentWindow || e.origin !== provider || e.data === "unchanged") return
  clearInterval(timer)
  if (e.data === "changed") parent.postMessage("changed", location.origin)
})`

var checkSessionPage = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("check-session").Parse(`<!doctype html>
<meta charset="utf-8"><title>Session</title>
<iframe hidden src="{{.Source}}" data-ask="{{.Ask}}"></iframe>
<script>` + checkSessionScript + `</script>
`))
})

// checkSession writes the page for a frame in the application's own pages. Without a session,
// or if the provider does not support session management, the page is empty.
func (p *RelyingParty) checkSession(w http.ResponseWriter, r *http.Request) error {
	s, err := p.session(r)
	if err != nil {
		return err
	}
	source, err := url.Parse(p.client.metadata.CheckSessionIframe)
	if s == nil || s.SessionState == "" || err != nil || source.Host == "" {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	hash := sha256.Sum256([]byte(checkSessionScript))
	header := w.Header()
	header.Del("X-Frame-Options")
	header.Set("Content-Security-Policy", "default-src 'none'; script-src 'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+
		"'; frame-src "+source.Scheme+"://"+source.Host+"; base-uri 'none'; frame-ancestors 'self'")
	header.Set("Content-Type", "text/html; charset=utf-8")
	page := struct{ Source, Ask string }{source.String(), p.client.config.ClientID + " " + s.SessionState}
	if err := checkSessionPage().Execute(w, page); err != nil {
		return fmt.Errorf("client: write the page: %w", err)
	}
	return nil
}

// sessionState returns the session_state of an authorization response. It need not be
// verified: it only determines when the application asks the provider again.
func sessionState(response url.Values) string {
	if state := response.Get("session_state"); len(state) <= maxSessionState && printable(state) {
		return state
	}
	return ""
}

// silently makes a sign-in check, without a page, whether the user is still signed in at the
// provider.
func (p *RelyingParty) silently(r *http.Request, options *AuthorizationOptions, started *attempt) error {
	options.Prompt = []string{"none"}
	started.Silent, started.Own = true, p.fromOwnPage(r)
	s, err := p.session(r)
	if s != nil {
		options.IDTokenHint, started.Subject = s.Tokens.IDToken, s.Subject
	}
	return err
}

// fromOwnPage reports whether a request comes from a page of the application, or from the
// address bar. It uses Sec-Fetch-Site, or Referer for browsers that do not send that.
func (p *RelyingParty) fromOwnPage(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin" || site == "none"
	}
	referer, err := url.Parse(r.Header.Get("Referer"))
	return err == nil && referer.Scheme == p.origin.Scheme && referer.Host == p.origin.Host
}

// signedOut reports whether the response to a silent sign-in shows that the user has signed
// out at the provider: it is a refusal, or it is for another user. A failure of the provider
// shows nothing.
func signedOut(started *attempt, tokens *Tokens, err error) bool {
	if err == nil {
		return started.Subject != "" && tokens.Identity != nil && tokens.Identity.Subject != started.Subject
	}
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == 0 && e.Code != oauth.ServerError && e.Code != oauth.TemporarilyUnavailable
}

// endSilently ends the session after a silent sign-in that found no user, or another user. If
// the request came from another site, the session does not end: any site can send such a
// request so that the provider does not recognize the browser, and could sign users out.
func (p *RelyingParty) endSilently(w http.ResponseWriter, r *http.Request, started *attempt) error {
	if started.Own {
		if err := p.endSessions(r.Context(), started.Session, p.sessionID(r)); err != nil {
			return err
		}
		p.setCookie(w, p.cookieName("session"), "", -1, false)
	}
	seeOther(w, localPath(started.ReturnTo, p.home))
	return nil
}
