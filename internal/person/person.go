// Package person simulates a user with a browser without scripts, which follows redirects, keeps
// cookies, and signs in and consents by submitting the pages' forms.
package person

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"

	"github.com/valetkey/valetkey/internal/softauthenticator"
)

// Person is a user with one browser. It is not safe for concurrent use.
type Person struct {
	Username, Password string
	// Leave lists the optional scopes to untick on the consent page.
	Leave []string
	// Deny denies consent.
	Deny bool
	// Code returns a code of the person's authenticator app. The key is set if the page sets up the
	// app. If Code is nil, the person has no app.
	Code func(key string) (string, error)
	// Passkeys is the person's device with passkeys; nil if there is none. On a page that sets up a second
	// factor, it gets a passkey.
	Passkeys *softauthenticator.Authenticator
	// Provider is the ID of the other provider that the person signs in with; "" if there is none.
	Provider string

	http *http.Client
}

// New returns a person with a fresh browser.
func New(username, password string) *Person {
	jar, err := cookiejar.New(nil)
	if err != nil { // impossible without options
		panic(err)
	}
	return &Person{Username: username, Password: password, http: &http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Trust makes the browser accept a server's certificate.
func (p *Person) Trust(certificate *x509.Certificate) {
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	p.http.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
}

// Through makes the browser use a transport, such as one that trusts a certificate.
func (p *Person) Through(transport http.RoundTripper) { p.http.Transport = transport }

// maxSteps limits the number of requests; sign-in and consent take eight.
const maxSteps = 20

// Visit opens a URL and completes the pages' forms until the browser is redirected to a URL that
// begins with until. It returns that URL without opening it.
func (p *Person) Visit(address, until string) (*url.URL, error) {
	target, page, err := p.walk(address, until)
	if err == nil && target == nil {
		err = fmt.Errorf("stopped at a page without a form: %s", headline(page))
	}
	return target, err
}

// Allow opens a URL and completes the pages' forms until a page has no form.
func (p *Person) Allow(address string) error {
	_, _, err := p.walk(address, "")
	return err
}

// Approve signs in to the account page of the server and approves the first request that waits there
// (OpenID Connect CIBA), or denies it if Deny is set.
func (p *Person) Approve(issuer string) error {
	address, err := p.Waiting(issuer)
	if err != nil {
		return err
	}
	return p.Allow(address)
}

// Waiting signs in to the account page of the server and returns the URL of the first request that
// waits there.
func (p *Person) Waiting(issuer string) (string, error) {
	request, err := http.NewRequest(http.MethodGet, issuer+"/account", nil)
	if err != nil {
		return "", fmt.Errorf("open the account page: %w", err)
	}
	for range maxSteps {
		page, target, err := p.step(request)
		if err != nil {
			return "", err
		}
		if target != nil {
			if request, err = http.NewRequest(http.MethodGet, target.String(), nil); err != nil {
				return "", fmt.Errorf("follow redirect: %w", err)
			}
			continue
		}
		for link := range descendants(page, "a") {
			if address, err := request.URL.Parse(attribute(link, "href")); err == nil && strings.HasSuffix(address.Path, "/approve") {
				return address.String(), nil
			}
		}
		if !hasPassword(page) {
			return "", fmt.Errorf("no request waits: %s", headline(page))
		}
		if request, err = p.fillIn(page, request.URL); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("no end after %d requests", maxSteps)
}

func hasPassword(page *html.Node) bool {
	for input := range descendants(page, "input") {
		if attribute(input, "type") == "password" {
			return true
		}
	}
	return false
}

// walk stops at a URL that begins with until, if that is not "", or at a page without a form.
func (p *Person) walk(address, until string) (*url.URL, *html.Node, error) {
	request, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", address, err)
	}
	for range maxSteps {
		page, target, err := p.step(request)
		if err != nil {
			return nil, nil, err
		}
		if target == nil {
			next, err := p.usePasskey(page, request.URL)
			if err != nil {
				return nil, nil, err
			}
			if next != nil {
				request = next
				continue
			}
			if choice := p.choice(page, request.URL); choice != "" {
				if request, err = http.NewRequest(http.MethodGet, choice, nil); err != nil {
					return nil, nil, fmt.Errorf("follow link: %w", err)
				}
				continue
			}
			if find(page, "form") == nil {
				return nil, page, nil
			}
			if request, err = p.fillIn(page, request.URL); err != nil {
				return nil, nil, err
			}
			continue
		}
		if until != "" && strings.HasPrefix(target.String(), until) {
			return target, nil, nil
		}
		if request, err = http.NewRequest(http.MethodGet, target.String(), nil); err != nil {
			return nil, nil, fmt.Errorf("follow redirect: %w", err)
		}
	}
	return nil, nil, fmt.Errorf("no end after %d requests", maxSteps)
}

// step sends one request and returns the page or the redirect target.
func (p *Person) step(request *http.Request) (page *html.Node, target *url.URL, err error) {
	response, err := p.http.Do(request)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", request.URL.Path, err)
	}
	defer response.Body.Close()
	if location := response.Header.Get("Location"); location != "" {
		target, err := request.URL.Parse(location)
		return nil, target, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", request.URL.Path, err)
	}
	page, err = html.Parse(strings.NewReader(string(body)))
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", request.URL.Path, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s responded with %d: %s", request.URL.Path, response.StatusCode, headline(page))
	}
	return page, nil, nil
}

// fillIn fills in the page's form and returns the request that submits it.
func (p *Person) fillIn(page *html.Node, at *url.URL) (*http.Request, error) {
	form := find(page, "form")
	for f := range descendants(page, "form") {
		if p.Provider != "" && attribute(f, "class") == "provider" {
			for button := range descendants(f, "button") {
				if attribute(button, "value") == p.Provider {
					return p.submit(f, at, url.Values{attribute(button, "name"): {p.Provider}})
				}
			}
		}
		if p.Code != nil && asksForCode(f) {
			form = f
		}
	}
	values := url.Values{}
	for input := range descendants(form, "input") {
		name, value := attribute(input, "name"), attribute(input, "value")
		switch {
		case name == "" || hasAttribute(input, "disabled"):
		case name == "code" && p.Code != nil:
			code, err := p.Code(shownKey(page))
			if err != nil {
				return nil, fmt.Errorf("use the authenticator app: %w", err)
			}
			values.Set(name, code)
		case name == "identifier":
			values.Set(name, p.Username)
		case attribute(input, "type") == "password":
			values.Set(name, p.Password)
		case attribute(input, "type") == "checkbox":
			if hasAttribute(input, "checked") && !slices.Contains(p.Leave, value) {
				values.Add(name, value)
			}
		default:
			values.Add(name, value)
		}
	}
	decision := "allow"
	if p.Deny {
		decision = "deny"
	}
	for button := range descendants(form, "button") {
		if name := attribute(button, "name"); name != "" && attribute(button, "value") == decision {
			values.Set(name, decision)
		}
	}
	return p.submit(form, at, values)
}

// submit returns the request that submits a form with values, and its hidden fields.
func (p *Person) submit(form *html.Node, at *url.URL, values url.Values) (*http.Request, error) {
	for input := range descendants(form, "input") {
		if name := attribute(input, "name"); attribute(input, "type") == "hidden" && name != "" && !hasAttribute(input, "disabled") && !values.Has(name) {
			values.Set(name, attribute(input, "value"))
		}
	}
	action, err := at.Parse(attribute(form, "action"))
	if err != nil {
		return nil, fmt.Errorf("read form of %s: %w", at.Path, err)
	}
	request, err := http.NewRequest(http.MethodPost, action.String(), strings.NewReader(values.Encode()))
	if err != nil {
		return nil, fmt.Errorf("submit form of %s: %w", at.Path, err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", at.Scheme+"://"+at.Host)
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	return request, nil
}

// usePasskey does what the script of a page does: it has the person's device create or use a passkey, and
// returns the request that submits the result; nil if the page does not ask for that, or if the device has
// none.
func (p *Person) usePasskey(page *html.Node, at *url.URL) (*http.Request, error) {
	if p.Passkeys == nil {
		return nil, nil
	}
	for form := range descendants(page, "form") {
		purpose := attribute(form, "data-passkey")
		if purpose == "" || purpose == "upgrade" || (purpose == "create") == (len(p.Passkeys.Credentials) > 0) {
			continue
		}
		address, err := at.Parse(attribute(form, "data-options"))
		if err != nil {
			return nil, fmt.Errorf("read form of %s: %w", at.Path, err)
		}
		request, err := p.submit(form, at, url.Values{"for": {purpose}})
		if err != nil {
			return nil, err
		}
		request.URL = address
		response, err := p.http.Do(request)
		if err != nil {
			return nil, fmt.Errorf("ask for the options of a passkey: %w", err)
		}
		options, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		if err = errors.Join(err, response.Body.Close()); err != nil {
			return nil, fmt.Errorf("read the options of a passkey: %w", err)
		}
		use := p.Passkeys.Get
		if purpose == "create" {
			use = p.Passkeys.Create
		}
		answer, err := use(options)
		if err != nil {
			return nil, fmt.Errorf("use a passkey: %w", err)
		}
		return p.submit(form, at, url.Values{"response": {string(answer)}})
	}
	return nil, nil
}

// choice returns the URL of the page for the person's authenticator app or device, if the page offers it, or
// the one that continues without recovery codes.
func (p *Person) choice(page *html.Node, at *url.URL) string {
	if p.Code == nil && p.Passkeys == nil || asksForCode(page) || hasPassword(page) {
		return ""
	}
	for link := range descendants(page, "a") {
		address, err := at.Parse(attribute(link, "href"))
		if err == nil && strings.HasSuffix(at.Path, "/sign-in/few-recovery-codes") && attribute(link, "class") == "button secondary" {
			return address.String()
		}
		wanted := p.Code != nil && (strings.HasSuffix(address.Path, "/sign-in/totp") || strings.HasSuffix(address.Path, "/account/totp/new")) ||
			p.Passkeys != nil && (strings.HasSuffix(address.Path, "/sign-in/passkey") || strings.HasSuffix(address.Path, "/account/passkeys"))
		if err == nil && wanted && address.Path != at.Path {
			return address.String()
		}
	}
	return ""
}

func asksForCode(n *html.Node) bool {
	for input := range descendants(n, "input") {
		if attribute(input, "name") == "code" && attribute(input, "type") == "text" {
			return true
		}
	}
	return false
}

// shownKey returns the key of a new authenticator app, which is shown in groups of characters; "" if
// the page shows none.
func shownKey(page *html.Node) string {
	var key strings.Builder
	for p := range descendants(page, "p") {
		if attribute(p, "class") != "key" {
			continue
		}
		for child := range p.Descendants() {
			if child.Type == html.TextNode {
				key.WriteString(strings.Join(strings.Fields(child.Data), ""))
			}
		}
	}
	return key.String()
}

func descendants(n *html.Node, tag string) func(func(*html.Node) bool) {
	return func(yield func(*html.Node) bool) {
		for child := range n.Descendants() {
			if child.Type == html.ElementNode && child.Data == tag && !yield(child) {
				return
			}
		}
	}
}

func find(n *html.Node, tag string) *html.Node {
	for found := range descendants(n, tag) {
		return found
	}
	return nil
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func hasAttribute(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

// headline returns the heading of a page and its reference, for error messages.
func headline(page *html.Node) string {
	var text strings.Builder
	for _, tag := range []string{"h1", "code"} {
		if n := find(page, tag); n != nil {
			for child := range n.Descendants() {
				if child.Type == html.TextNode {
					text.WriteString(child.Data + " ")
				}
			}
		}
	}
	return strings.TrimSpace(text.String())
}

// Cookies returns the cookies that the browser would send to a URL.
func (p *Person) Cookies(address string) []*http.Cookie {
	u, err := url.Parse(address)
	if err != nil {
		return nil
	}
	return p.http.Jar.Cookies(u)
}
