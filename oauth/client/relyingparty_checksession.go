package client

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"

	"github.com/valetkey/valetkey/oauth"
)

// maxSessionState bounds what a provider may have the session remember.
const maxSessionState = 512

// The page asks the provider's page whether the person's sign-in there has changed, every
// five seconds, and tells the page that holds it (OpenID Connect Session Management,
// section 3.1). After an error it asks no more.
const checkSessionScript = `const frame = document.querySelector("iframe"), provider = new URL(frame.src).origin
const ask = () => frame.contentWindow.postMessage(frame.dataset.ask, provider)
let timer
frame.onload = () => { ask(); timer ??= setInterval(ask, 5000) }
addEventListener("message", e => {
  if (e.source !== frame.contentWindow || e.origin !== provider || e.data === "unchanged") return
  clearInterval(timer)
  if (e.data === "changed") parent.postMessage("changed", location.origin)
})`

var checkSessionPage = template.Must(template.New("check-session").Parse(`<!doctype html>
<meta charset="utf-8"><title>Session</title>
<iframe hidden src="{{.Source}}" data-ask="{{.Ask}}"></iframe>
<script>` + checkSessionScript + `</script>
`))

// checkSession writes the page for a frame in the application's own pages. Without a
// session, or a provider that takes part, there is nothing to ask.
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
	if err := checkSessionPage.Execute(w, page); err != nil {
		return fmt.Errorf("client: write the page: %w", err)
	}
	return nil
}

// sessionState reads what an authorization response says of the sign-in at the provider;
// nothing hangs from it but when the application asks again.
func sessionState(answer url.Values) string {
	if state := answer.Get("session_state"); len(state) <= maxSessionState && printable(state) {
		return state
	}
	return ""
}

// silently makes a sign-in ask whether the end user is still signed in at the provider,
// without a page.
func (p *RelyingParty) silently(r *http.Request, options *AuthorizationOptions, begun *attempt) error {
	options.Prompt = []string{"none"}
	begun.Silent, begun.Own = true, p.fromOwnPage(r)
	s, err := p.session(r)
	if s != nil {
		options.IDTokenHint, begun.Subject = s.Tokens.IDToken, s.Subject
	}
	return err
}

// fromOwnPage reports whether a page of the application asked for a request, or the end user
// by the address bar. Browsers say so by Sec-Fetch-Site; for those that do not, by Referer.
func (p *RelyingParty) fromOwnPage(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin" || site == "none"
	}
	referer, err := url.Parse(r.Header.Get("Referer"))
	return err == nil && referer.Scheme == p.origin.Scheme && referer.Host == p.origin.Host
}

// signedOut tells from the answer to a silent sign-in whether the end user has signed out at
// the provider: it refuses, or names somebody else. That it is in trouble says nothing.
func signedOut(begun *attempt, tokens *Tokens, err error) bool {
	if err == nil {
		return begun.Subject != "" && tokens.Identity != nil && tokens.Identity.Subject != begun.Subject
	}
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == 0 && e.Code != oauth.ServerError && e.Code != oauth.TemporarilyUnavailable
}

// endSilently ends the session after a silent sign-in that found nobody, or another. If
// another site asked for it, the session goes on: any site can ask, in a way in which the
// provider does not recognise the browser, and sign everybody out by it.
func (p *RelyingParty) endSilently(w http.ResponseWriter, r *http.Request, begun *attempt) error {
	if begun.Own {
		if err := p.endSessions(r.Context(), begun.Session, p.sessionID(r)); err != nil {
			return err
		}
		p.setCookie(w, p.cookieName("session"), "", -1, false)
	}
	seeOther(w, localPath(begun.ReturnTo, p.home))
	return nil
}
