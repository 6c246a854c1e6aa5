package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/html"
)

// browser is a browser without scripts whose user signs in as ada and allows every request.
// It does itself what the scripts of the suite's pages do.
type browser struct {
	client   *http.Client
	issuer   string
	username string
	answer   string // on the consent page: allow or deny
	// pages are the server's pages that were shown since the last visit.
	pages     []page
	visitedAt time.Time
	uploaded  bool // a screenshot of one of them
}

type page struct {
	url    string
	status int
	body   string
}

func newBrowser(issuer string) (*browser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &browser{issuer: issuer, username: "ada", answer: "allow", client: &http.Client{
		Jar: jar, Timeout: time.Minute,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// visit opens an address and follows redirects and forms until there are none left.
func (b *browser) visit(ctx context.Context, address string) error {
	return b.open(ctx, address, true)
}

// look opens an address and follows redirects, but fills in no form.
func (b *browser) look(ctx context.Context, address string) error {
	return b.open(ctx, address, false)
}

func (b *browser) open(ctx context.Context, address string, forms bool) error {
	b.pages, b.uploaded = nil, false
	defer func() { b.visitedAt = time.Now() }()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	for range 30 {
		next, err := b.step(ctx, r)
		if err != nil {
			return err
		}
		if next == nil || next.Method == http.MethodPost && !forms {
			return nil
		}
		r = next
	}
	return fmt.Errorf("%s: more than 30 redirects and forms", address)
}

// step sends a request and returns the next one, or nil.
func (b *browser) step(ctx context.Context, r *http.Request) (*http.Request, error) {
	fragment := r.URL.Fragment
	if fragment != "" {
		fragment = r.URL.EscapedFragment()
	}
	response, err := b.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("visit %s: %w", r.URL.Redacted(), err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil {
		return nil, err
	}
	if location := response.Header.Get("Location"); location != "" && response.StatusCode/100 == 3 {
		to, err := r.URL.Parse(location)
		if err != nil {
			return nil, err
		}
		return http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	}
	body := string(content)
	if b.own(r.URL) {
		if err := wait(ctx, response); err != nil {
			return nil, err
		}
		b.pages = append(b.pages, page{r.URL.String(), response.StatusCode, b.withLogo(ctx, r.URL, body)})
		return b.submit(ctx, r.URL, body)
	}
	return submitFragment(ctx, r.URL, fragment, body)
}

// wait waits for as long as a page's Retry-After says: many sign-ins of one user at once look
// like password guessing.
func wait(ctx context.Context, response *http.Response) error {
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil {
		return nil // no Retry-After
	}
	timer := time.NewTimer(time.Duration(seconds) * time.Second)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

var (
	logo       = regexp.MustCompile(`<img src="([^"]+)"`)
	stylesheet = regexp.MustCompile(`<link rel="stylesheet" href="([^"]+)">`)
)

// withLogo puts the client's logo into a page, because the screenshot is taken without the
// cookies that are needed to fetch it.
func (b *browser) withLogo(ctx context.Context, at *url.URL, body string) string {
	return logo.ReplaceAllStringFunc(body, func(found string) string {
		kind, picture, err := b.part(ctx, at, logo.FindStringSubmatch(found)[1])
		if err != nil {
			return found
		}
		return `<img src="data:` + kind + `;base64,` + base64.StdEncoding.EncodeToString(picture) + `"`
	})
}

// withStyle puts the stylesheet into a page: the server sends it only to its own pages.
func (b *browser) withStyle(ctx context.Context, p page) (string, error) {
	found := stylesheet.FindStringSubmatch(p.body)
	if found == nil {
		return "", fmt.Errorf("%s has no stylesheet", p.url)
	}
	at, err := url.Parse(p.url)
	if err != nil {
		return "", err
	}
	_, style, err := b.part(ctx, at, found[1])
	return strings.Replace(p.body, found[0], "<style>"+string(style)+"</style>", 1), err
}

// part fetches a file that a page refers to, with its media type.
func (b *browser) part(ctx context.Context, at *url.URL, reference string) (kind string, content []byte, err error) {
	to, err := at.Parse(html.UnescapeString(reference))
	if err != nil {
		return "", nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	if err != nil {
		return "", nil, err
	}
	response, err := b.client.Do(r)
	if err != nil {
		return "", nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", nil, fmt.Errorf("%s: status %d", to.Redacted(), response.StatusCode)
	}
	content, err = io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.Header.Get("Content-Type"), content, err
}

func (b *browser) own(u *url.URL) bool { return strings.HasPrefix(u.String(), b.issuer+"/") }

// form is a form of a page.
type form struct {
	action string
	fields url.Values
}

// submit fills in the form of one of the server's pages.
func (b *browser) submit(ctx context.Context, at *url.URL, body string) (*http.Request, error) {
	for _, f := range forms(body) {
		to, err := at.Parse(f.action)
		if err != nil {
			return nil, err
		}
		switch {
		case strings.HasSuffix(to.Path, "/sign-in"):
			f.fields.Set("identifier", b.username)
			f.fields.Set("password", "correct horse battery staple")
		case strings.HasSuffix(to.Path, "/consent"):
			f.fields.Set("answer", b.answer)
		case strings.HasSuffix(to.Path, "/sign-out") && f.fields.Has("interaction"), strings.HasSuffix(to.Path, "/select-account"):
		case !b.own(to): // the form_post response mode
		default:
			continue
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), strings.NewReader(f.fields.Encode()))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", at.Scheme+"://"+at.Host)
		return r, nil
	}
	return nil, nil
}

func forms(body string) []form {
	document, err := html.Parse(strings.NewReader(body))
	if err != nil {
		return nil
	}
	var found []form
	for node := range document.Descendants() {
		if node.Type != html.ElementNode {
			continue
		}
		switch node.Data {
		case "form":
			found = append(found, form{attribute(node, "action"), url.Values{}})
		case "input":
			if name := attribute(node, "name"); name != "" && len(found) > 0 {
				found[len(found)-1].fields.Add(name, attribute(node, "value"))
			}
		}
	}
	return found
}

func attribute(node *html.Node, name string) string {
	for _, a := range node.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

var implicitSubmit = regexp.MustCompile(`xhr\.open\('POST', "([^"]+)"`)

// submitFragment does what the script of the suite's callback page does: it posts the
// fragment of the page's URL.
func submitFragment(ctx context.Context, at *url.URL, fragment, body string) (*http.Request, error) {
	match := implicitSubmit.FindStringSubmatch(body)
	if match == nil {
		return nil, nil
	}
	to, err := at.Parse(strings.ReplaceAll(match[1], `\/`, "/"))
	if err != nil {
		return nil, err
	}
	if fragment != "" {
		fragment = "#" + fragment
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), strings.NewReader(fragment))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "text/plain")
	return r, nil
}
