package client

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

// attempt is a sign-in in progress, as stored in a cookie. Its JSON names are short, because
// each request can contain several of these cookies.
type attempt struct {
	Transaction *Transaction `json:"t"`
	ReturnTo    string       `json:"r,omitempty"`
	// Session is the ID of the session that the browser had at the start. With form_post, the
	// browser does not send the session cookie to the callback.
	Session string `json:"s,omitempty"`
	// Silent means prompt=none; Subject is the user who was signed in at the start. Own means
	// that the sign-in was started by a page of the application itself.
	Silent  bool   `json:"q,omitempty"`
	Own     bool   `json:"o,omitempty"`
	Subject string `json:"u,omitempty"`
	// ACRValues are those that an API requires.
	ACRValues []string `json:"a,omitempty"`
}

// pack removes values from an attempt that are in the configuration; unpack restores them.
func (p *RelyingParty) pack(started attempt) attempt {
	t := *started.Transaction
	t.RedirectURI, t.ClientID = "", "" // those of p, because the cookie is sealed for p
	if t.ResponseType == p.client.responseType.String() {
		t.ResponseType = ""
	}
	if slices.Equal(t.Scope, p.client.config.Scopes) {
		t.Scope = nil
	}
	started.Transaction = &t
	return started
}

func (p *RelyingParty) unpack(started *attempt) {
	t := started.Transaction
	t.RedirectURI, t.ClientID = p.client.config.RedirectURI, p.client.config.ClientID
	if t.ResponseType == "" {
		t.ResponseType = p.client.responseType.String()
	}
	if t.Scope == nil {
		t.Scope = p.client.config.Scopes
	}
}

// attemptPrefix is the prefix of cookie names of attempts. Each attempt has its own
// cookie, so that tabs do not interfere.
const attemptPrefix = "sign-in-"

func (p *RelyingParty) attemptCookie(state string) string {
	sum := sha256.Sum256([]byte(state))
	return p.cookieName(attemptPrefix + base64.RawURLEncoding.EncodeToString(sum[:9]))
}

// sealedFor returns what the cookie of an attempt is sealed for: this connection of the application.
// Relying parties can share a key and a prefix, and one user can have sign-ins in progress with
// several of them; each completes only its own
// (draft-ietf-oauth-security-topics-update-03, section 2.2).
func (p *RelyingParty) sealedFor(name string) string {
	config := p.client.config
	return strings.Join([]string{name, config.RedirectURI, p.client.metadata.Issuer, config.ClientID}, " ")
}

func (p *RelyingParty) signIn(w http.ResponseWriter, r *http.Request) error {
	started := attempt{ReturnTo: r.FormValue("return_to")}
	options, err := p.optionsFor(r)
	if err != nil {
		return p.failed(started, err)
	}
	if sealed := r.FormValue("step_up"); sealed != "" {
		if err := p.useStepUp(sealed, &options, &started); err != nil {
			return p.failed(started, err)
		}
	}
	if r.FormValue("prompt") == "none" && p.hasOpenID() {
		if err := p.silently(r, &options, &started); err != nil {
			return p.failed(started, err)
		}
	}
	return p.failed(started, p.begin(w, r, options, started))
}

// failed wraps the error of a sign-in in a SignInError.
func (p *RelyingParty) failed(started attempt, err error) error {
	if err == nil {
		return nil
	}
	return &SignInError{TryAgain: p.SignInPath(localPath(started.ReturnTo, p.home)), Err: err}
}

// optionsFor returns the options of the sign-in that a request starts.
func (p *RelyingParty) optionsFor(r *http.Request) (AuthorizationOptions, error) {
	options := p.authorization
	options.UserSession = "" // a sign-in starts a session, and its cookie binds it to the browser
	if p.signInOptions == nil {
		return options, nil
	}
	options.Scopes, options.Prompt = slices.Clone(options.Scopes), slices.Clone(options.Prompt)
	options.ACRValues, options.UILocales = slices.Clone(options.ACRValues), slices.Clone(options.UILocales)
	extra := url.Values{}
	for name, values := range options.Extra {
		extra[name] = slices.Clone(values)
	}
	options.Extra = extra
	_, err := caught(func() (struct{}, error) { return struct{}{}, p.signInOptions(r, &options) })
	if err != nil && !errors.Is(err, ErrRefused) {
		err = &refusal{http.StatusInternalServerError, fmt.Errorf("client: SignInOptions: %w", err)}
	}
	options.RedirectURI, options.UserSession = p.client.config.RedirectURI, ""
	return options, err
}

// begin redirects the browser to the provider.
func (p *RelyingParty) begin(w http.ResponseWriter, r *http.Request, options AuthorizationOptions, started attempt) error {
	address, transaction, err := p.client.AuthorizationURL(r.Context(), options)
	if err != nil {
		return err
	}
	started.Transaction, started.ReturnTo = transaction, localPath(started.ReturnTo, p.home)
	started.Session = p.sessionID(r)
	name := p.attemptCookie(transaction.State)
	sealed, err := p.seal.close(p.sealedFor(name), p.pack(started))
	if err == nil && cookieBytes(name, sealed) > maxSignInBytes { // better another page afterwards than no sign-in
		started.ReturnTo = p.home
		sealed, err = p.seal.close(p.sealedFor(name), p.pack(started))
	}
	if err != nil {
		return err
	}
	if cookieBytes(name, sealed) > maxSignInBytes {
		return errors.New("client: the options of the sign-in do not fit into a cookie")
	}
	p.forgetAttempts(w, r, maxSignIns-1, maxSignInBytes-cookieBytes(name, sealed))
	p.setCookie(w, name, sealed, int(transactionLifetime/time.Second), postsForm(options.ResponseMode))
	seeOther(w, address)
	return nil
}

// forgetAttempts limits the number and the total size of the browser's attempts. It deletes
// the oldest first, in the order in which browsers send them (RFC 6265, section 5.4).
func (p *RelyingParty) forgetAttempts(w http.ResponseWriter, r *http.Request, most, mostBytes int) {
	var attempts []*http.Cookie
	bytes := 0
	for _, cookie := range r.Cookies() {
		if strings.HasPrefix(cookie.Name, p.cookieName(attemptPrefix)) {
			attempts = append(attempts, cookie)
			bytes += cookieBytes(cookie.Name, cookie.Value)
		}
	}
	for len(attempts) > most || len(attempts) > 0 && bytes > mostBytes {
		p.setCookie(w, attempts[0].Name, "", -1, false)
		bytes -= cookieBytes(attempts[0].Name, attempts[0].Value)
		attempts = attempts[1:]
	}
}

// cookieBytes returns the size of a cookie in a request: name=value and the separator.
func cookieBytes(name, value string) int { return len(name) + len(value) + len("=; ") }

func (p *RelyingParty) callback(w http.ResponseWriter, r *http.Request) error {
	response, err := p.callbackParameters(w, r)
	if response == nil || err != nil {
		return p.failed(attempt{}, err)
	}
	name := p.attemptCookie(p.client.responseState(response))
	cookie, err := r.Cookie(name)
	if err != nil {
		return p.failed(attempt{}, fmt.Errorf("%w: no sign-in is in progress in this browser, or it does not accept cookies", ErrState))
	}
	p.setCookie(w, name, "", -1, false)
	var started attempt
	if err := p.seal.open(p.sealedFor(name), cookie.Value, &started); err != nil || started.Transaction == nil {
		return p.failed(attempt{}, fmt.Errorf("%w: its cookie is not valid", ErrState))
	}
	p.unpack(&started)
	return p.failed(started, p.finish(w, r, &started, response))
}

// finish completes a sign-in that this browser started.
func (p *RelyingParty) finish(w http.ResponseWriter, r *http.Request, started *attempt, response url.Values) error {
	tokens, err := p.client.Callback(r.Context(), started.Transaction, response)
	if started.Silent && signedOut(started, tokens, err) {
		return p.endSilently(w, r, started)
	}
	if err != nil {
		return err
	}
	if err := started.checkStepUp(tokens); err != nil {
		return err
	}
	if err := p.startSession(w, r, tokens, sessionState(response), started.Session); err != nil {
		return err
	}
	seeOther(w, localPath(started.ReturnTo, p.home))
	return nil
}

// callbackParameters returns the parameters of an authorization response. If they may be in the
// fragment, it writes the page that posts them and returns nil. Tokens in a query are
// rejected: they are in logs and browser histories already.
func (p *RelyingParty) callbackParameters(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method == http.MethodGet {
		response := r.URL.Query()
		switch {
		case response.Has("id_token") || response.Has("access_token"):
			return nil, fmt.Errorf("%w: it has tokens in its query", ErrCallback)
		case !response.Has("state") && !response.Has("response") && p.client.responseType.FrontChannel():
			return nil, writeFragmentPage(w)
		}
		return response, nil
	}
	if err := r.ParseForm(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCallback, err)
	}
	if !r.PostForm.Has("fragment") {
		return r.PostForm, nil
	}
	response, err := url.ParseQuery(r.PostForm.Get("fragment"))
	if err != nil {
		return nil, fmt.Errorf("%w: its fragment is malformed", ErrCallback)
	}
	return response, nil
}

// initiateLogin starts a sign-in for another site (OpenID Connect Core, section 4). That site
// can choose neither another provider nor a page outside of the application.
func (p *RelyingParty) initiateLogin(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return refuse(http.StatusBadRequest, "the form is malformed")
	}
	if issuer := r.Form["iss"]; len(issuer) != 1 || issuer[0] != p.client.metadata.Issuer {
		return refuse(http.StatusBadRequest, "iss is not the issuer of the provider")
	}
	returnTo := ""
	if target := r.Form.Get("target_link_uri"); target != "" {
		rest, ok := strings.CutPrefix(target, p.origin.String())
		if returnTo = localPath(rest, ""); !ok || returnTo == "" {
			return refuse(http.StatusBadRequest, "target_link_uri must be a page of this application")
		}
	}
	started := attempt{ReturnTo: returnTo}
	options, err := p.optionsFor(r)
	if err != nil {
		return p.failed(started, err)
	}
	if hint := r.Form.Get("login_hint"); hint != "" {
		options.LoginHint = hint
	}
	if len(options.LoginHint) > maxLoginHint {
		return refuse(http.StatusBadRequest, "login_hint is too long")
	}
	return p.failed(started, p.begin(w, r, options, started))
}

// seeOther redirects the browser with GET (RFC 9700, section 4.12) to exactly this URL;
// http.Redirect would clean the path.
func seeOther(w http.ResponseWriter, location string) {
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
}

// localPath returns a path with its query if it is on this host, else otherwise. Browsers
// interpret "//host" and "/\host" as other hosts, also with tabs or line breaks in them; paths
// that could become one of these are rejected too.
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

// In the implicit and hybrid flows the response is in the fragment, which browsers do not
// send. The page posts it to the same URL and removes it from the address bar.
const fragmentScript = `const form = document.forms[0]
form.elements.fragment.value = location.hash.slice(1)
history.replaceState(null, "", location.pathname)
form.submit()`

const fragmentPage = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>Signing in</title>
<form method="post"><input type="hidden" name="fragment"></form>
<noscript><p>Signing in needs JavaScript here.</p></noscript>
<script>` + fragmentScript + `</script>
`

func writeFragmentPage(w http.ResponseWriter) error {
	hash := sha256.Sum256([]byte(fragmentScript))
	header := w.Header()
	header.Set("Content-Security-Policy", "default-src 'none'; script-src 'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	header.Set("Content-Type", "text/html; charset=utf-8")
	if _, err := io.WriteString(w, fragmentPage); err != nil {
		return fmt.Errorf("client: write the page: %w", err)
	}
	return nil
}
