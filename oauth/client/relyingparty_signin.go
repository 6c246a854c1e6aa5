package client

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

// attempt is a sign-in that is under way, as the browser keeps it. Its names are short:
// several of them go with each request.
type attempt struct {
	Transaction *Transaction `json:"t"`
	ReturnTo    string       `json:"r,omitempty"`
	// Session is the ID of the session that the browser had then. A form that the
	// provider's page posts brings no cookie that would tell.
	Session string `json:"s,omitempty"`
	// Silent says that nobody was to see a page, and Subject who was signed in then. Own says
	// that a page of the application itself asked.
	Silent  bool   `json:"q,omitempty"`
	Own     bool   `json:"o,omitempty"`
	Subject string `json:"u,omitempty"`
}

// pack leaves out of an attempt what the configuration says, and unpack puts it back.
func (p *RelyingParty) pack(begun attempt) attempt {
	t := *begun.Transaction
	if t.RedirectURI == p.client.config.RedirectURI {
		t.RedirectURI = ""
	}
	if t.ResponseType == p.client.responseType.String() {
		t.ResponseType = ""
	}
	if slices.Equal(t.Scope, p.client.config.Scopes) {
		t.Scope = nil
	}
	begun.Transaction = &t
	return begun
}

func (p *RelyingParty) unpack(begun *attempt) {
	t := begun.Transaction
	if t.RedirectURI == "" {
		t.RedirectURI = p.client.config.RedirectURI
	}
	if t.ResponseType == "" {
		t.ResponseType = p.client.responseType.String()
	}
	if t.Scope == nil {
		t.Scope = p.client.config.Scopes
	}
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
	options, err := p.optionsFor(r)
	if err != nil {
		return p.failed(begun, err)
	}
	if r.FormValue("prompt") == "none" && p.hasOpenID() {
		if err := p.silently(r, &options, &begun); err != nil {
			return p.failed(begun, err)
		}
	}
	return p.failed(begun, p.begin(w, r, options, begun))
}

// failed tells the end user how to begin a sign-in again that ended with an error.
func (p *RelyingParty) failed(begun attempt, err error) error {
	if err == nil {
		return nil
	}
	return &SignInError{TryAgain: p.SignInPath(localPath(begun.ReturnTo, p.home)), Err: err}
}

// optionsFor returns what the sign-in that a request begins asks for.
func (p *RelyingParty) optionsFor(r *http.Request) (AuthorizationOptions, error) {
	options := p.authorization
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
	options.RedirectURI = p.client.config.RedirectURI
	return options, err
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
	sealed, err := p.seal.close(name, p.pack(begun))
	if err == nil && cookieBytes(name, sealed) > maxSignInBytes { // better another page than no sign-in
		begun.ReturnTo = p.home
		sealed, err = p.seal.close(name, p.pack(begun))
	}
	if err != nil {
		return err
	}
	if cookieBytes(name, sealed) > maxSignInBytes {
		return errors.New("client: the options of the sign-in do not fit into a cookie")
	}
	p.forgetAttempts(w, r, maxSignIns-1, maxSignInBytes-cookieBytes(name, sealed))
	p.setCookie(w, name, sealed, int(transactionLifetime/time.Second), options.ResponseMode == "form_post")
	seeOther(w, address)
	return nil
}

// forgetAttempts lets so many attempts of the browser be, of so many bytes together. The
// others are forgotten, the oldest first, which is how browsers send them (RFC 6265, section
// 5.4).
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

// cookieBytes is what a cookie takes of a request: name=value and what separates it.
func cookieBytes(name, value string) int { return len(name) + len(value) + len("=; ") }

func (p *RelyingParty) callback(w http.ResponseWriter, r *http.Request) error {
	answer, err := p.callbackAnswer(w, r)
	if answer == nil || err != nil {
		return p.failed(attempt{}, err)
	}
	name := p.attemptCookie(answer.Get("state"))
	cookie, err := r.Cookie(name)
	if err != nil {
		return p.failed(attempt{}, fmt.Errorf("%w: none is under way in this browser, or its cookies are off", ErrState))
	}
	p.setCookie(w, name, "", -1, false)
	var begun attempt
	if err := p.seal.open(name, cookie.Value, &begun); err != nil || begun.Transaction == nil {
		return p.failed(attempt{}, fmt.Errorf("%w: its cookie is not one of ours", ErrState))
	}
	p.unpack(&begun)
	return p.failed(begun, p.finish(w, r, &begun, answer))
}

// finish ends a sign-in that this browser began.
func (p *RelyingParty) finish(w http.ResponseWriter, r *http.Request, begun *attempt, answer url.Values) error {
	tokens, err := p.client.Callback(r.Context(), begun.Transaction, answer)
	if begun.Silent && signedOut(begun, tokens, err) {
		return p.endSilently(w, r, begun)
	}
	if err != nil {
		return err
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
	begun := attempt{ReturnTo: returnTo}
	options, err := p.optionsFor(r)
	if err != nil {
		return p.failed(begun, err)
	}
	if hint := r.Form.Get("login_hint"); hint != "" {
		options.LoginHint = hint
	}
	if len(options.LoginHint) > maxLoginHint {
		return refuse(http.StatusBadRequest, "login_hint is too long")
	}
	return p.failed(begun, p.begin(w, r, options, begun))
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
