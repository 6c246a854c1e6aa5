package client_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

// recordedAPI is an API that records its requests.
type recordedAPI struct {
	mu   sync.Mutex
	seen []*http.Request
	body string
}

// RoundTrip calls the API.
func (a *recordedAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen, a.body = append(a.seen, r), string(body)
	w := httptest.NewRecorder()
	h := w.Header()
	h.Set("Set-Cookie", "session=planted")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Clear-Site-Data", `"*"`)
	h.Set("Content-Type", "text/html")
	h.Set("X-Total", "7")
	if policy := r.URL.Query().Get("cache"); policy != "" {
		h.Set("Cache-Control", policy)
	}
	if r.URL.Path == "/v1/refuses" {
		h.Set("WWW-Authenticate", `Basic realm="who are you"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	fmt.Fprint(w, "<script>alert(1)</script>")
	return w.Result(), nil
}

func (a *recordedAPI) last() *http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.seen) == 0 {
		return nil
	}
	return a.seen[len(a.seen)-1]
}

// newBackend returns a backend with one API at /api/.
func newBackend(t *testing.T) (*webApp, *recordedAPI) {
	t.Helper()
	a := newWebApp(t, nil)
	api := &recordedAPI{}
	backend, err := client.NewBackend(client.BackendConfig{
		Party: a.party, APIs: map[string]string{"/api/": "https://api.example/v1/"}, MaxBodyBytes: 100, Transport: api,
	})
	if err != nil {
		t.Fatal(err)
	}
	a.handler = backend
	return a, api
}

// call sends a request like a script of the application.
func call(t *testing.T, browser *http.Client, method, path, body string, fields ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://app.example"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(fields); i += 2 {
		r.Header.Del(fields[i])
		if fields[i+1] != "" {
			r.Header.Set(fields[i], fields[i+1])
		}
	}
	resp, err := browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func TestRS15_TokensStayInTheBackend(t *testing.T) {
	a, api := newBackend(t)
	browser := a.browser(t)
	for _, path := range []string{"/auth/session", "/api/notes"} {
		if resp, body := call(t, browser, "GET", path, ""); resp.StatusCode != http.StatusUnauthorized || body != `{"error": "sign_in"}` {
			t.Errorf("%s before sign-in: %d %s", path, resp.StatusCode, body)
		}
	}
	a.signInTo(t, browser, "/")
	resp, who := call(t, browser, "GET", "/auth/session", "")
	if resp.StatusCode != http.StatusOK || !strings.Contains(who, `"sub":"alice"`) || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("session: %d %s", resp.StatusCode, who)
	}
	resp, body := call(t, browser, "POST", "/api/notes/a%20b?x=1", "water the plants", "Authorization", "Bearer of-the-browser", "X-Custom", "kept", "Referer", "https://app.example/secret")
	got := api.last()
	if resp.StatusCode != http.StatusOK || got == nil || api.body != "water the plants" || got.Method != "POST" || got.URL.String() != "https://api.example/v1/notes/a%20b?x=1" {
		t.Fatalf("%d %s: %+v", resp.StatusCode, body, got)
	}
	token, ok := strings.CutPrefix(got.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "of-the-browser" || strings.Contains(who+body+fmt.Sprint(resp.Header), token) {
		t.Errorf("the API got %v, the browser %v %s", got.Header, resp.Header, body)
	}
	for _, name := range []string{"Cookie", "Referer", "Sec-Fetch-Site"} {
		if got.Header.Get(name) != "" {
			t.Errorf("the API got %s: %s", name, got.Header.Get(name))
		}
	}
	if got.Header.Get("X-Custom") != "kept" || got.Header.Get("X-Forwarded-Host") != "app.example" || got.Host != "" && got.Host != "api.example" {
		t.Errorf("the API got %s %v", got.Host, got.Header)
	}
	h := resp.Header
	if h.Get("Set-Cookie")+h.Get("Access-Control-Allow-Origin")+h.Get("Clear-Site-Data") != "" || h.Get("X-Total") != "7" || h.Get("Cache-Control") != "no-store" ||
		!strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || !strings.Contains(strings.Join(h["Vary"], ","), "Cookie") {
		t.Errorf("the browser got %v", h)
	}
	for policy, want := range map[string]string{
		"max-age=60": "max-age=60, private", "max-age=60, must-revalidate": "max-age=60, must-revalidate, private",
		"public, max-age=60": "public, max-age=60", "No-Store": "No-Store", "s-maxage=5": "s-maxage=5",
	} {
		if resp, _ := call(t, browser, "GET", "/api/notes?cache="+url.QueryEscape(policy), ""); resp.Header.Get("Cache-Control") != want {
			t.Errorf("the API sent Cache-Control %s, the backend %s", policy, resp.Header.Get("Cache-Control"))
		}
	}
	if resp, _ := call(t, browser, "GET", "/api/refuses", ""); resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("a refusal: %d %v", resp.StatusCode, resp.Header)
	}
	if resp, _ := call(t, browser, "POST", "/api/notes", strings.Repeat("x", 200)); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("body too large: status %d", resp.StatusCode)
	}
	if resp := a.backChannel(url.Values{"logout_token": {a.logoutToken(t, "logout+jwt", nil)}}); resp.Code != http.StatusOK {
		t.Fatalf("the provider's logout: %d", resp.Code)
	}
	if resp, _ := call(t, browser, "GET", "/api/notes", ""); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("after sign-out at the provider: status %d", resp.StatusCode)
	}
}

func TestRS16_OtherOriginsAndPathsAreRejected(t *testing.T) {
	a, api := newBackend(t)
	browser := a.browser(t)
	a.signInTo(t, browser, "/")
	for name, test := range map[string]struct {
		path   string
		fields []string
		want   int
	}{
		"own":                        {"/api/notes", nil, 200},
		"own, with Origin":           {"/api/notes", []string{"Origin", "https://app.example"}, 200},
		"an old browser":             {"/api/notes", []string{"Sec-Fetch-Site", "", "X-CSRF", "1"}, 200},
		"an old browser's form":      {"/api/notes", []string{"Sec-Fetch-Site", ""}, 403},
		"another site":               {"/api/notes", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"another site with X-CSRF":   {"/api/notes", []string{"Sec-Fetch-Site", "cross-site", "X-CSRF", "1"}, 403},
		"a neighbour's host":         {"/api/notes", []string{"Sec-Fetch-Site", "same-site"}, 403},
		"typed into the browser":     {"/api/notes", []string{"Sec-Fetch-Site", "none"}, 403},
		"another origin":             {"/api/notes", []string{"Sec-Fetch-Site", "", "X-CSRF", "1", "Origin", "https://evil.example"}, 403},
		"no origin":                  {"/api/notes", []string{"Sec-Fetch-Site", "", "X-CSRF", "1", "Origin", "null"}, 403},
		"session, from another site": {"/auth/session", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"encoded slash":              {"/api/..%2fadmin", nil, 400},
		"encoded dots":               {"/api/%2e%2e/admin", nil, 400},
		"encoded twice":              {"/api/%252e%252e/admin", nil, 400},
		"dots":                       {"/api/../admin", nil, 400},
		"dots within":                {"/api/x/../../admin", nil, 400},
		"backslash":                  {"/api/..%5cadmin", nil, 400},
		"two slashes":                {"/api//evil.example/", nil, 400},
		"userinfo":                   {"/api/@evil.example/", nil, 200}, // only a path
		"zero byte":                  {"/api/x%00", nil, 400},
		"WebSocket":                  {"/api/notes", []string{"Upgrade", "websocket", "Connection", "Upgrade"}, 400},
		"elsewhere":                  {"/other", nil, 404},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(api.seen)
			request := httptest.NewRequest("POST", "https://app.example/", strings.NewReader("x"))
			request.URL, _ = url.ParseRequestURI(test.path)
			request.Header.Set("Sec-Fetch-Site", "same-origin")
			for _, cookie := range browser.Jar.Cookies(&url.URL{Scheme: "https", Host: "app.example", Path: "/"}) {
				request.AddCookie(cookie)
			}
			for i := 0; i < len(test.fields); i += 2 {
				request.Header.Set(test.fields[i], test.fields[i+1])
				if test.fields[i+1] == "" {
					request.Header.Del(test.fields[i])
				}
			}
			recorder := httptest.NewRecorder()
			a.handler.ServeHTTP(recorder, request)
			if recorder.Code != test.want {
				t.Errorf("%d, want %d: %s", recorder.Code, test.want, recorder.Body)
			}
			if reached := len(api.seen) > before; reached != (test.want == 200) {
				t.Errorf("reached the API: %v", reached)
			}
			if got := api.last(); len(api.seen) > before && !strings.HasPrefix(got.URL.String(), "https://api.example/v1/") {
				t.Errorf("reached %s", got.URL)
			}
		})
	}
}

func TestRS10_ConcurrentBackendCallsShareOneRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, api := newBackend(t)
		browser := a.browser(t)
		a.signInTo(t, browser, "/")
		time.Sleep(2 * time.Hour)
		before := a.count("/token")
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if resp, body := call(t, browser, "GET", "/api/notes", ""); resp.StatusCode != http.StatusOK {
					t.Errorf("%d %s", resp.StatusCode, body)
				}
			})
		}
		all.Wait()
		if got := a.count("/token") - before; got != 1 || len(api.seen) != 20 {
			t.Errorf("%d refreshes for %d calls", got, len(api.seen))
		}
	})
}

func TestBackendConfiguration(t *testing.T) {
	a := newWebApp(t, nil)
	for prefix, address := range map[string]string{
		"/api": "https://api.example/", "api/": "https://api.example/", "/": "https://api.example/", "/a/../b/": "https://api.example/",
		"/api/": "http://api.example/", "/x/": "https://user:secret@api.example/", "/y/": "https://api.example/?key=1", "/z/": "/relative",
		"/auth/": "https://api.example/", "/auth/api/": "https://api.example/",
	} {
		if _, err := client.NewBackend(client.BackendConfig{Party: a.party, APIs: map[string]string{prefix: address}}); err == nil {
			t.Errorf("%s: %s is accepted", prefix, address)
		}
	}
	if _, err := client.NewBackend(client.BackendConfig{Party: a.party}); err == nil {
		t.Error("no APIs are accepted")
	}
}
