package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/net/html"
)

// browser follows redirects, keeps cookies, and does what the scripts of the pages do: it
// submits forms that submit themselves, posts fragments, and loads the frame of a
// front-channel logout.
type browser struct{ http *http.Client }

func newBrowser(transport http.RoundTripper) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil { // only for options, and there are none
		panic(err)
	}
	return &browser{&http.Client{Transport: transport, Jar: jar}}
}

// page is the page at which a walk ended.
type page struct {
	status int
	url    *url.URL
	body   string
}

// maxScripts is how often pages may send the browser to another page.
const maxScripts = 5

func (b *browser) visit(ctx context.Context, address string) (*page, error) {
	return b.walk(ctx, http.MethodGet, address, nil)
}

func (b *browser) submit(ctx context.Context, address string, form url.Values) (*page, error) {
	return b.walk(ctx, http.MethodPost, address, form)
}

func (b *browser) walk(ctx context.Context, method, address string, form url.Values) (*page, error) {
	for range maxScripts {
		at, err := b.load(ctx, method, address, form)
		if err != nil {
			return nil, err
		}
		document, err := html.Parse(strings.NewReader(at.body))
		if err != nil {
			return nil, fmt.Errorf("browser: %w", err)
		}
		switch action, fields := formOf(document); {
		case fields.Has("fragment") && at.url.Fragment != "":
			here := *at.url
			method, form = http.MethodPost, url.Values{"fragment": {at.url.EscapedFragment()}}
			here.Fragment, here.RawFragment = "", ""
			address = here.String()
		case action != "" && strings.Contains(at.body, "submit()"):
			method, address, form = http.MethodPost, action, fields
		case strings.Contains(at.body, "rp_frontchannel_logout_uri"), strings.Contains(at.body, "iframe.src = '"):
			next, err := b.frame(ctx, at.body)
			if next == "" || err != nil {
				return at, err
			}
			method, address, form = http.MethodGet, next, nil
		default:
			return at, nil
		}
	}
	return nil, errors.New("browser: too many pages that lead to another")
}

func (b *browser) load(ctx context.Context, method, address string, form url.Values) (*page, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("browser: %w", err)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := b.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("browser: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("browser: %w", err)
	}
	return &page{response.StatusCode, response.Request.URL, string(body)}, nil
}

// formOf returns the action and the fields of a page's form.
func formOf(document *html.Node) (action string, fields url.Values) {
	fields = url.Values{}
	for node := range document.Descendants() {
		attributes := map[string]string{}
		for _, a := range node.Attr {
			attributes[a.Key] = a.Val
		}
		switch {
		case node.Data == "form" && attributes["action"] != "":
			action = attributes["action"]
		case node.Data == "input" && attributes["name"] != "":
			fields.Set(attributes["name"], attributes["value"])
		}
	}
	return action, fields
}

// These are the parts of the suite's page for front-channel logout: the frame, the URL that
// the page requests when the frame has loaded, and the URL that it goes to afterwards.
var (
	frameSource   = regexp.MustCompile(`iframe\.src = '([^']*)'`)
	frameLoaded   = regexp.MustCompile(`let url = '([^']*)'`)
	frameRedirect = regexp.MustCompile(`window\.location\.href='([^']*)'`)
)

// frame does what the suite's page for front-channel logout does, and returns the URL that it
// goes to. A frame gets no SameSite=Lax cookies.
func (b *browser) frame(ctx context.Context, body string) (string, error) {
	source, loaded := frameSource.FindStringSubmatch(body), frameLoaded.FindStringSubmatch(body)
	if source == nil || loaded == nil {
		return "", errors.New("browser: unknown page for front-channel logout")
	}
	stranger := newBrowser(b.http.Transport)
	at, err := stranger.load(ctx, http.MethodGet, jsUnescape(source[1]), nil)
	if err != nil {
		return "", err
	}
	// The suite generates a sid of any characters and does not encode it. If that breaks the
	// query, the relying party cannot know the session.
	_, broken := url.ParseQuery(at.url.RawQuery)
	if broken == nil && at.url.Fragment == "" && at.status != http.StatusOK {
		return "", fmt.Errorf("browser: front-channel logout: status %d", at.status)
	}
	if _, err := b.load(ctx, http.MethodGet, jsUnescape(loaded[1])+"?loaded=true", nil); err != nil {
		return "", err
	}
	if redirect := frameRedirect.FindStringSubmatch(body); redirect != nil {
		return jsUnescape(redirect[1]), nil
	}
	return "", nil
}

var percent = regexp.MustCompile(`%([0-9A-Fa-f]{2})?`)

// jsUnescape decodes a URL in a script of a page, and encodes the characters that browsers
// encode in a query. A "%" that begins no escape is valid for browsers in a fragment, but
// not for package url.
func jsUnescape(s string) string {
	s = html.UnescapeString(strings.NewReplacer(`\/`, "/", `\"`, `"`, `\&`, "&").Replace(s))
	s = strings.NewReplacer(" ", "%20", `"`, "%22", "'", "%27", "<", "%3C", ">", "%3E").Replace(s)
	before, fragment, found := strings.Cut(s, "#")
	if !found {
		return s
	}
	return before + "#" + percent.ReplaceAllStringFunc(fragment, func(escape string) string {
		if escape == "%" {
			return "%25"
		}
		return escape
	})
}
