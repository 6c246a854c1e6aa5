package client

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// attempt is a sign-in that is under way, as the browser keeps it.
type attempt struct {
	Transaction *Transaction `json:"transaction"`
	ReturnTo    string       `json:"return_to"`
	// Session is the ID of the session that the browser had then. A form that the
	// provider's page posts brings no cookie that would tell.
	Session string `json:"session,omitempty"`
	// Silent says that nobody was to see a page, and Subject who was signed in then.
	Silent  bool   `json:"silent,omitempty"`
	Subject string `json:"sub,omitempty"`
}

// attemptPrefix begins the names of cookies of attempts. Each has its own, so that tabs do
// not disturb each other.
const attemptPrefix = "sign-in-"

func (p *RelyingParty) attemptCookie(state string) string {
	sum := sha256.Sum256([]byte(state))
	return p.cookieName(attemptPrefix + base64.RawURLEncoding.EncodeToString(sum[:9]))
}

func (p *RelyingParty) signIn(w http.ResponseWriter, r *http.Request) error {
	begun := attempt{ReturnTo: r.FormValue("return_to")}
	if r.FormValue("prompt") != "none" {
		return p.begin(w, r, p.authorization, begun)
	}
	options, err := p.silently(r, &begun)
	if err != nil {
		return err
	}
	return p.begin(w, r, options, begun)
}

// begin sends the browser to the provider.
func (p *RelyingParty) begin(w http.ResponseWriter, r *http.Request, options AuthorizationOptions, begun attempt) error {
	address, transaction, err := p.client.AuthorizationURL(options)
	if err != nil {
		return err
	}
	begun.Transaction, begun.ReturnTo = transaction, localPath(begun.ReturnTo, p.home)
	begun.Session = p.sessionID(r)
	name := p.attemptCookie(transaction.State)
	sealed, err := p.seal.close(name, begun)
	if err != nil {
		return err
	}
	p.forgetAttempts(w, r, maxSignIns-1)
	p.setCookie(w, name, sealed, int(transactionLifetime/time.Second), options.ResponseMode == "form_post")
	seeOther(w, address)
	return nil
}

// forgetAttempts lets so many attempts of the browser be. The others are forgotten, the
// oldest first, which is how browsers send them (RFC 6265, section 5.4).
func (p *RelyingParty) forgetAttempts(w http.ResponseWriter, r *http.Request, most int) {
	var names []string
	for _, cookie := range r.Cookies() {
		if strings.HasPrefix(cookie.Name, p.cookieName(attemptPrefix)) {
			names = append(names, cookie.Name)
		}
	}
	for _, name := range names[:max(len(names)-most, 0)] {
		p.setCookie(w, name, "", -1, false)
	}
}

func (p *RelyingParty) callback(w http.ResponseWriter, r *http.Request) error {
	answer, err := p.callbackAnswer(w, r)
	if answer == nil || err != nil {
		return err
	}
	name := p.attemptCookie(answer.Get("state"))
	cookie, err := r.Cookie(name)
	if err != nil {
		return fmt.Errorf("%w: none is under way in this browser, or its cookies are off", ErrState)
	}
	p.setCookie(w, name, "", -1, false)
	var begun attempt
	if err := p.seal.open(name, cookie.Value, &begun); err != nil || begun.Transaction == nil {
		return fmt.Errorf("%w: its cookie is not one of ours", ErrState)
	}
	tokens, err := p.client.Callback(r.Context(), begun.Transaction, answer)
	if begun.Silent && signedOut(&begun, tokens, err) {
		return p.endSilently(w, r, &begun)
	}
	if err != nil {
		return err
	}
	if tokens.Identity == nil {
		return fmt.Errorf("%w: there is none; the scopes of a RelyingParty have openid among them", ErrIDToken)
	}
	if err := p.startSession(w, r, tokens, sessionState(answer), begun.Session); err != nil {
		return err
	}
	seeOther(w, localPath(begun.ReturnTo, p.home))
	return nil
}

// callbackAnswer returns the parameters of an authorization response, or nil after it has
// written the page that fetches them out of the fragment. Tokens in a query are refused:
// they have been written to logs and histories by then.
func (p *RelyingParty) callbackAnswer(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method == http.MethodGet {
		answer := r.URL.Query()
		switch {
		case answer.Has("id_token") || answer.Has("access_token"):
			return nil, fmt.Errorf("%w: tokens came in its query", ErrCallback)
		case !answer.Has("state") && p.client.responseType.FrontChannel():
			return nil, writeFragmentPage(w)
		}
		return answer, nil
	}
	if err := r.ParseForm(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCallback, err)
	}
	if !r.PostForm.Has("fragment") {
		return r.PostForm, nil
	}
	answer, err := url.ParseQuery(r.PostForm.Get("fragment"))
	if err != nil {
		return nil, fmt.Errorf("%w: its fragment cannot be read", ErrCallback)
	}
	return answer, nil
}

// initiateLogin begins a sign-in that another site asked for (OpenID Connect Core, section
// 4). It can choose neither the provider nor a place outside of the application.
func (p *RelyingParty) initiateLogin(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return refuse(http.StatusBadRequest, "the form cannot be read")
	}
	if issuer := r.Form["iss"]; len(issuer) != 1 || issuer[0] != p.client.metadata.Issuer {
		return refuse(http.StatusBadRequest, "iss is not the provider of this application")
	}
	returnTo := ""
	if target := r.Form.Get("target_link_uri"); target != "" {
		rest, ok := strings.CutPrefix(target, p.origin.String())
		if returnTo = localPath(rest, ""); !ok || returnTo == "" {
			return refuse(http.StatusBadRequest, "target_link_uri is outside of this application")
		}
	}
	options := p.authorization
	if options.LoginHint = r.Form.Get("login_hint"); len(options.LoginHint) > maxLoginHint {
		return refuse(http.StatusBadRequest, "login_hint is too long")
	}
	return p.begin(w, r, options, attempt{ReturnTo: returnTo})
}

// seeOther sends the browser on, by GET (RFC 9700, section 4.12), to exactly there:
// http.Redirect would tidy the path.
func seeOther(w http.ResponseWriter, location string) {
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
}

// localPath returns a path with its query if it is one of this application, else
// otherwise. Browsers take "//host" and "/\host" for other hosts, also with a tab or a line
// break in them; what only leads to such is refused with them.
func localPath(given, otherwise string) string {
	u, err := url.Parse(given)
	if err != nil || len(given) > maxReturnTo || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(given, "/") || strings.HasPrefix(given, "//") {
		return otherwise
	}
	strange := func(c rune) bool { return c <= ' ' || c == '\\' || c >= 0x7f }
	if strings.ContainsFunc(given, strange) || strings.ContainsFunc(u.Path, unicode.IsControl) ||
		strings.Contains(u.Path, "//") || strings.Contains(u.Path, "/../") {
		return otherwise
	}
	return given
}

// The answer of the implicit and hybrid flows comes in the fragment, which browsers do
// not send. The page posts it to where it stands, and wipes it from the address.
const fragmentScript = `const form = document.forms[0]
form.elements.fragment.value = location.hash.slice(1)
history.replaceState(null, "", location.pathname)
form.submit()`

var fragmentPage = template.Must(template.New("fragment").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>Signing in</title>
<form method="post"><input type="hidden" name="fragment"></form>
<noscript><p>Signing in needs JavaScript here.</p></noscript>
<script>` + fragmentScript + `</script>
`))

func writeFragmentPage(w http.ResponseWriter) error {
	hash := sha256.Sum256([]byte(fragmentScript))
	header := w.Header()
	header.Set("Content-Security-Policy", "default-src 'none'; script-src 'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	header.Set("Content-Type", "text/html; charset=utf-8")
	if err := fragmentPage.Execute(w, nil); err != nil {
		return fmt.Errorf("client: write the page: %w", err)
	}
	return nil
}
