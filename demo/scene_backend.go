package demo

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

const partyBackend = "backend"

func backendScene() scene {
	return scene{
		key: "backend", title: "Single-page app: tokens stay in a backend", button: "Sign in and show my photos",
		about: "Any script that gets into a page can read what is in the browser, including tokens. So this page has none. A backend signs the user in, keeps the tokens and forwards the page's calls to the API. The browser has a cookie that scripts cannot read. This scene runs with a simulated user.",
		run:   func(ctx context.Context, d *Demo, w *walk) error { return d.backend.run(ctx, d, w) },
		configure: func(d *Demo, config *configuration.Configuration) error {
			return d.backend.configure(d, config)
		},
		breaks: []breakage{
			{key: "stranger", title: "Another site", about: "Let a page on another site call the API with the user's cookie.", code: "cross_site"},
			{key: "nobody", title: "Not signed in", about: "Call the API without the cookie.", code: "sign_in"},
			{key: "path", title: "Path traversal", about: "Call a path that leads to another part of the API's server.", code: "not_passed_on"},
		},
	}
}

// backend is the application's server, for one walk at a time.
type backend struct {
	address string
	once    sync.Once
	failed  error
	handler http.Handler

	walking sync.Mutex
	walk    *walk
}

func (b *backend) configure(d *Demo, config *configuration.Configuration) (err error) {
	b.address, err = d.serve(partyBackend, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.once.Do(func() { b.handler, b.failed = b.begin(d) }) // when the provider is there
		if b.failed != nil {
			http.Error(w, b.failed.Error(), http.StatusInternalServerError)
			return
		}
		b.handler.ServeHTTP(w, r)
	}))
	config.Clients = append(config.Clients, configuration.Client{
		ID: "browser-album", Secret: "demo-secret-of-browser-album-012345", ClientSettings: record.ClientSettings{AccessTokenLifetime: record.Duration(sceneLifetime)},
		ClientMetadata: oauth.ClientMetadata{
			ClientName: "Album in the browser", RedirectURIs: []string{b.address + "/auth/callback"}, Scope: oauth.Scope{oauth.ScopeOpenID, scopeRead}.String(),
		},
	})
	return err
}

// begin makes the backend of client.NewBackend, as an application would.
func (b *backend) begin(d *Demo) (http.Handler, error) {
	c, err := client.Discover(context.Background(), client.Config{
		Issuer: d.issuer, ClientID: "browser-album", ClientSecret: "demo-secret-of-browser-album-012345",
		RedirectURI: b.address + "/auth/callback", Scopes: []string{oauth.ScopeOpenID, scopeRead}, Resources: []string{d.api},
	})
	if err != nil {
		return nil, err
	}
	party, err := client.NewRelyingParty(client.RelyingPartyConfig{Client: c, CookiePrefix: "demo-backend-", Logger: d.logger})
	if err != nil {
		return nil, err
	}
	return client.NewBackend(client.BackendConfig{Party: party, APIs: map[string]string{"/api/": d.api}, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		return d.recorder().RoundTrip(r.WithContext(recordedFrom(r.Context(), &b.walk.recording, partyBackend, "Forward the call with the user's token and without the cookie")))
	})})
}

// run is the browser, which keeps cookies and says where its requests come from.
func (b *backend) run(ctx context.Context, d *Demo, w *walk) error {
	b.walking.Lock()
	defer b.walking.Unlock()
	b.walk = w
	jar, err := cookiejar.New(nil)
	if err != nil {
		return fmt.Errorf("start a browser: %w", err)
	}
	browser := &http.Client{Jar: jar, Transport: d.recorder(), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if w.breakKey() != "nobody" {
		response, err := b.ask(ctx, w, browser, "/auth/sign-in", "Begin a sign-in: the backend sends the browser to the authorization server")
		if err != nil {
			return err
		}
		callback, err := person.New(Username, Password).Visit(response.Header.Get("Location"), b.address+"/auth/callback")
		if err != nil {
			return fmt.Errorf("sign in to the demo: %w", err)
		}
		if _, err := b.ask(ctx, w, browser, callback.RequestURI(), "Bring the code to the backend, which redeems it and answers with a cookie"); err != nil {
			return err
		}
	}
	path, site, purpose := "/api/photos", "same-origin", "The page calls the API through its backend"
	rule := record.Check{Section: "RFC 10017, section 6.1"}
	switch w.breakKey() {
	case "stranger":
		site, purpose, rule.Rule = "cross-site", "A page on another site calls it, and the browser sends the cookie too", "the request comes from the application's own pages"
	case "nobody":
		rule.Rule = "the user is signed in"
	case "path":
		path, purpose, rule.Rule = "/api/%2e%2e/admin", "The page calls a path with encoded dots", "the path has nothing hidden, and leads to an API that the backend passes calls on to"
	}
	_, err = b.ask(ctx, w, browser, path, purpose, "Sec-Fetch-Site", site)
	if w.failed {
		w.recording.refuse(rule)
	}
	return err
}

func (b *backend) ask(ctx context.Context, w *walk, browser *http.Client, path, purpose string, fields ...string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(recordedFrom(ctx, &w.recording, partyBrowser, purpose), http.MethodGet, b.address+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the backend: %w", err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	response, err := browser.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask the backend: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("ask the backend: %w", err)
	}
	w.failed, w.answer = response.StatusCode >= 400, strings.TrimSpace(string(body))
	return response, nil
}
