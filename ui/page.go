package ui

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

//go:embed templates assets
var files embed.FS

// session is one request for a page, with the pages, the engine and the signed-in user.
type session struct {
	*UI
	server *authserver.Server
	// who is nil if no user is signed in. secret is the value of the session cookie.
	who    *identity.Session
	secret string
	// justCreated is set if the request has created the user's account.
	justCreated bool
	// then is a page to show when the sign-in is complete, before it continues; "" if there is none.
	then string
	// enrolling is the session of a user who can only set up a method (enrol.go); who is nil then, except
	// on the pages for that. enrolFor is its query when it begins.
	enrolling *identity.Session
	enrolFor  string
	// waits is the interaction that the request belongs to, once it was looked up.
	waits *authserver.Interaction
	// language is that of the page. interaction replaces it if the application asks for one.
	language *messages.Language
	// client is the client_id of the application that the page is for; "" if there is none.
	client string
}

func (u *UI) open(r *http.Request, server *authserver.Server) (*session, error) {
	who, err := u.signedIn(r)
	if err != nil {
		return nil, fmt.Errorf("find the sign-in session: %w", err)
	}
	if who != nil {
		u.config.Accounts.Used(time.Now(), who, u.config.RemoteAddr(r))
	}
	s := &session{UI: u, server: server, who: who, secret: identity.SessionCookie(r, u.config.Issuer)}
	if who != nil && who.Enrolling != "" {
		s.enrolling = who
		if !enrolmentPage(strings.TrimPrefix(r.URL.Path, u.base)) {
			s.who = nil
		}
	}
	s.language = s.languageFor(r, nil)
	return s, nil
}

// write renders a page in the language of the session.
func (s *session) write(w http.ResponseWriter, a pageResponse) error {
	a.formAction = s.signOutAction(a.formAction)
	return s.UI.write(w, s.language, s.client, a)
}

// view is the data of a template.
type view struct {
	Title *messages.Text
	// Language and Direction are the attributes lang and dir.
	Language, Direction string
	// Name of the service, Base path and Host of the issuer.
	Name, Base, Host string
	Look             *look
	Script           string
	// PasskeyScript is "" on pages without passkeys.
	PasskeyScript string
	Account       *identity.User // the user whose account this is; nil on other pages
	Data          any
}

// pageResponse is a page to be rendered.
type pageResponse struct {
	status   int // zero means 200
	template string
	title    *messages.Text
	account  *identity.User
	// formAction is an additional source for the form-action directive.
	formAction string
	// passkeys is set if the page needs the script for passkeys.
	passkeys bool
	// frames are the URLs of the page's frames.
	frames     []string
	retryAfter time.Duration
	data       any
}

// write renders a page. On an error, nothing has been written.
func (u *UI) write(w http.ResponseWriter, l *messages.Language, client string, a pageResponse) error {
	look := u.looks.of(client)
	var body bytes.Buffer
	page, err := u.templates.in(l, a.template)
	if err != nil {
		return err
	}
	passkeyScript := ""
	if a.passkeys {
		passkeyScript = u.assetURL("passkey", ".js")
	}
	err = page.ExecuteTemplate(&body, "layout.html", view{
		PasskeyScript: passkeyScript,
		Title:         a.title, Language: l.Tag, Direction: l.Direction(),
		Name: u.config.Name, Base: u.base, Host: u.host,
		Look: look, Script: u.assetURL("page", ".js"),
		Account: a.account, Data: a.data,
	})
	if err != nil {
		return fmt.Errorf("render the page %s: %w", a.template, err)
	}
	u.setHeaders(w.Header(), a.formAction)
	if look.hasFont {
		w.Header().Set("Content-Security-Policy", w.Header().Get("Content-Security-Policy")+"; font-src 'self'")
	}
	w.Header().Set("Content-Language", l.Tag)
	w.Header().Add("Vary", "Accept-Language")
	if a.passkeys { // the script asks for options
		w.Header().Set("Content-Security-Policy", w.Header().Get("Content-Security-Policy")+"; connect-src 'self'")
	}
	if len(a.frames) > 0 {
		w.Header().Set("Content-Security-Policy", w.Header().Get("Content-Security-Policy")+"; frame-src"+frameSources(a.frames))
	}
	// Applications open the other pages in popups and need to reach the popup when it comes
	// back. A page with another policy than the opener's would sever the two for good (HTML,
	// section 7.1.3).
	if a.account != nil {
		w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
	}
	if a.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((a.retryAfter+time.Second-1)/time.Second)))
	}
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	if a.status == 0 {
		a.status = http.StatusOK
	}
	w.WriteHeader(a.status)
	w.Write(body.Bytes()) // an error means that the browser has disconnected
	return nil
}

// setHeaders sets the headers of every page. The Content-Security-Policy allows only the
// pages' own style sheet, script and images.
func (u *UI) setHeaders(h http.Header, formAction string) {
	policy := "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; form-action 'self'"
	if formAction != "" && !strings.ContainsAny(formAction, ";,\r\n") {
		policy += " " + formAction
	}
	h.Set("Content-Security-Policy", policy+"; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
	h.Set("Permissions-Policy", "accelerometer=(), camera=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), payment=(), usb=()")
	u.setCommonHeaders(h)
}

// frameSources lists the origins of URLs for the frame-src directive. A source cannot contain
// an IPv6 address; the scheme alone is listed instead.
func frameSources(addresses []string) string {
	var sources string
	for _, address := range addresses {
		f, err := url.Parse(address)
		if err != nil {
			continue
		}
		source := " " + f.Scheme + "://" + f.Host
		if strings.Contains(f.Host, "[") || strings.ContainsAny(f.Host, ";, ") {
			source = " " + f.Scheme + ":"
		}
		if !strings.Contains(sources+" ", source+" ") {
			sources += source
		}
	}
	return sources
}

func (u *UI) setCommonHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer: with it, browsers send "Origin: null" with these forms, and those without
	// Sec-Fetch-Site (Safari before 16.4) could not sign in. same-origin reveals just as little
	// to other origins (RFC 9700, section 4.2.4).
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if u.secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// redirect sends the browser to another page with GET, so that a reload does not submit the
// form again.
func (u *UI) redirect(w http.ResponseWriter, path string) error {
	u.setHeaders(w.Header(), "")
	w.Header().Del("Content-Type")
	w.Header().Set("Location", u.base+path)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// faviconPath is where browsers look for an icon of documents that are not HTML, such as JSON.
const faviconPath = "/favicon.ico"

// asset is a file that the pages load.
type asset struct {
	contentType string
	body        []byte
}

// loadAssets puts a hash of the content into each file's name, so that browsers may cache it
// forever.
func (u *UI) loadAssets() error {
	u.assets = map[string]asset{}
	types := map[string]string{".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	names, err := fs.Glob(files, "assets/*")
	if err != nil {
		return fmt.Errorf("ui: list assets: %w", err)
	}
	for _, name := range names {
		body, err := files.ReadFile(name)
		if err != nil {
			return fmt.Errorf("ui: read an asset: %w", err)
		}
		ext := path.Ext(name)
		if ext != ".css" { // loadLooks combines it with each theme
			u.addAsset(strings.TrimSuffix(path.Base(name), ext), ext, asset{types[ext], body})
		}
	}
	return u.loadLooks()
}

// addAsset serves a file, and returns its URL.
func (u *UI) addAsset(name, ext string, a asset) string {
	sum := sha256.Sum256(a.body)
	path := "/assets/" + name + "." + hex.EncodeToString(sum[:6]) + ext
	u.assets[path] = a
	return u.base + path
}

func (u *UI) assetURL(name, ext string) string {
	for path := range u.assets {
		if strings.HasPrefix(path, "/assets/"+name+".") && strings.HasSuffix(path, ext) {
			return u.base + path
		}
	}
	return ""
}

func (u *UI) serveAsset(w http.ResponseWriter, r *http.Request, a *asset) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		u.methodNotAllowed(w, r, &page{get: (*session).home})
		return
	}
	u.setCommonHeaders(w.Header())
	w.Header().Set("Content-Type", a.contentType)
	policy := "default-src 'none'; frame-ancestors 'none'"
	if a.contentType == "image/svg+xml" {
		// An operator's logo may contain scripts.
		policy += "; style-src 'unsafe-inline'; sandbox"
	}
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	if r.URL.Path == u.base+faviconPath {
		w.Header().Set("Cache-Control", "public, max-age=86400")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(http.StatusOK)
	w.Write(a.body) // an error means that the browser has disconnected
}

// newReference returns a short reference that connects an error page to its log message.
func newReference() string { return strings.ToLower(rand.Text()[:10]) }
