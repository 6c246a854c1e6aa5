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
		key: "backend", title: "Single-page app: backend for frontend (BFF)", button: "Sign in and show my photos",
		about: "Any script that gets into a page can steal the tokens in the browser. So this page has none: a backend signs the user in, keeps the tokens and forwards the page's calls to the API. The browser only has a cookie, which scripts cannot read. A simulated user signs in for this scene.",
		run:   func(ctx context.Context, d *Demo, w *walk) error { return d.backend.run(ctx, d, w) },
		configure: func(d *Demo, config *configuration.Configuration) error {
			return d.backend.configure(d, config)
		},
		breaks: []breakage{
			{key: "stranger", title: "Another site", about: "A page on another site calls the API with the user's cookie.", code: "cross_site"},
			{key: "nobody", title: "Not signed in", about: "Call the API without the cookie.", code: "sign_in"},
			{key: "path", title: "Path traversal", about: "Call a path that leads to another part of the API server.", code: "not_passed_on"},
		},
	}
}

// backend is the application's server. It handles one walk at a time.
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
		b.once.Do(func() { b.handler, b.failed = b.begin(d) }) // when the authorization server is running
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

// begin creates the backend with client.NewBackend, like an application would.
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
		return d.recorder().RoundTrip(r.WithContext(recordedFrom(r.Context(), &b.walk.recording, partyBackend, "Forward the call with the user's access token and without the cookie. The token never reaches the browser (RFC 10017, section 6.1).")))
	})})
}

// run acts as the browser, which keeps cookies and sends Sec-Fetch-Site.
func (b *backend) run(ctx context.Context, d *Demo, w *walk) error {
	b.walking.Lock()
	defer b.walking.Unlock()
	b.walk = w
	jar, err := cookiejar.New(nil)
	if err != nil {
		return fmt.Errorf("create a cookie jar: %w", err)
	}
	browser := &http.Client{Jar: jar, Transport: d.recorder(), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if w.breakKey() != "nobody" {
		response, err := b.call(ctx, w, browser, "/auth/sign-in", "Start a sign-in. The backend redirects the browser to the authorization server, with state and PKCE.")
		if err != nil {
			return err
		}
		callback, err := person.New(Username, Password).Visit(response.Header.Get("Location"), b.address+"/auth/callback")
		if err != nil {
			return fmt.Errorf("sign in to the demo: %w", err)
		}
		if _, err := b.call(ctx, w, browser, callback.RequestURI(), "Return to the backend with the code. The backend exchanges it for tokens, keeps them, and sets a cookie that scripts cannot read (RFC 10017, section 6.1)."); err != nil {
			return err
		}
	}
	path, site, purpose := "/api/photos", "same-origin", "Call the API through the backend. The cookie identifies the user, and Sec-Fetch-Site proves that the call comes from the app's own page."
	rule := record.Check{Section: "RFC 10017, section 6.1"}
	switch w.breakKey() {
	case "stranger":
		site, purpose, rule.Rule = "cross-site", "Call the API from a page on another site. The browser sends the cookie too, but Sec-Fetch-Site gives it away.", "the request comes from the application's own pages"
	case "nobody":
		rule.Rule = "the user is signed in"
	case "path":
		path, purpose, rule.Rule = "/api/%2e%2e/admin", "Call a path with encoded dots. It would leave the API's part of the server.", "the path is canonical and belongs to an API that the backend forwards calls to"
	}
	_, err = b.call(ctx, w, browser, path, purpose, "Sec-Fetch-Site", site)
	if w.failed {
		w.recording.refuse(rule)
	}
	return err
}

func (b *backend) call(ctx context.Context, w *walk, browser *http.Client, path, purpose string, fields ...string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(recordedFrom(ctx, &w.recording, partyBrowser, purpose), http.MethodGet, b.address+path, nil)
	if err != nil {
		return nil, fmt.Errorf("call the backend: %w", err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	response, err := browser.Do(r)
	if err != nil {
		return nil, fmt.Errorf("call the backend: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("call the backend: %w", err)
	}
	w.failed, w.result = response.StatusCode >= 400, strings.TrimSpace(string(body))
	return response, nil
}
