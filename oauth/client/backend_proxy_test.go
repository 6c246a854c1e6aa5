package client_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth/client"
)

// realBackend starts a Backend and an API on real sockets, and returns the headers of a
// signed-in browser's requests.
func realBackend(t *testing.T, api http.HandlerFunc) (backend http.Handler, address string, fields http.Header) {
	t.Helper()
	a := newWebApp(t, nil)
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	b, err := client.NewBackend(client.BackendConfig{Party: a.party, APIs: map[string]string{"/api/": server.URL + "/v1/"}})
	if err != nil {
		t.Fatal(err)
	}
	browser := a.browser(t)
	a.handler = b
	a.signInTo(t, browser, "/")
	front := httptest.NewServer(b)
	t.Cleanup(front.Close)
	fields = http.Header{"Sec-Fetch-Site": {"same-origin"}}
	for _, cookie := range browser.Jar.Cookies(&url.URL{Scheme: "https", Host: "app.example", Path: "/"}) {
		fields.Add("Cookie", cookie.Name+"="+cookie.Value)
	}
	return b, front.URL + "/api/me", fields
}

func ask(t *testing.T, method, address string, fields http.Header) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = fields
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func TestRS15_TokenIsSentOnlyToTheAPI(t *testing.T) {
	var got http.Header
	b, address, fields := realBackend(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		_ = r.Header.Write(w) // like a response to TRACE
	})
	r := httptest.NewRequest(http.MethodGet, "https://app.example/api/me", nil)
	r.Header = fields.Clone()
	b.ServeHTTP(httptest.NewRecorder(), r)
	if value := r.Header.Get("Authorization"); value != "" {
		t.Errorf("an HTTP trace of the request sees %s", value)
	}
	if response, body := ask(t, http.MethodTrace, address, fields); response.StatusCode != http.StatusBadRequest || strings.Contains(body, "Bearer") {
		t.Errorf("TRACE: %d %s", response.StatusCode, body)
	}
	fields.Set("Connection", "Authorization")
	if ask(t, http.MethodGet, address, fields); !strings.HasPrefix(got.Get("Authorization"), "Bearer ") {
		t.Errorf("a Connection header removed the token: %v", got)
	}
}

func TestRS16_OriginHeadersOfAnAPIAreRemoved(t *testing.T) {
	said := http.Header{
		"Alt-Svc": {`h3="evil.example:443"; persist=1`}, "Nel": {`{"report_to":"e","max_age":31536000}`}, "Report-To": {`{"group":"e"}`},
		"Reporting-Endpoints": {`e="https://evil.example/"`}, "Content-Security-Policy-Report-Only": {"default-src 'none'"}, "Accept-Ch": {"Sec-CH-UA-Model"},
		"Origin-Agent-Cluster": {"?0"}, "Set-Login": {"logged-out"}, "X-Accel-Redirect": {"/internal/secret"}, "X-Sendfile": {"/etc/passwd"},
		"Cdn-Cache-Control": {"max-age=600"}, "Surrogate-Control": {"max-age=600"}, "Set-Cookie": {"session=planted"}, "Clear-Site-Data": {`"*"`},
	}
	_, address, fields := realBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range said {
			w.Header()[name] = values
		}
		w.WriteHeader(http.StatusEarlyHints)
		fmt.Fprint(w, "alice's notes")
	})
	early := http.Header{}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
		early = http.Header(h)
		return nil
	}}), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = fields
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for name := range said {
		if early.Get(name)+response.Header.Get(name) != "" {
			t.Errorf("%s reaches the browser: %q, and early %q", name, response.Header.Get(name), early.Get(name))
		}
	}
	if !strings.Contains(strings.Join(response.Header["Vary"], ","), "Cookie") {
		t.Errorf("the response after an interim one can be cached publicly: %v", response.Header)
	}
}

func TestRS16_BasicChallengesOfAnAPIAreRemoved(t *testing.T) {
	for _, test := range []struct{ says, want []string }{
		{[]string{`Bearer error="insufficient_scope"`}, []string{`Bearer error="insufficient_scope"`}},
		{[]string{"Bearer", `Basic realm="who are you"`}, []string{"Bearer"}},
		{[]string{`Bearer realm="x", Basic realm="who are you"`}, []string{`Bearer realm="x"`}},
		{[]string{`Basic realm="x"`, `bearer error="invalid_token"`}, []string{`bearer error="invalid_token"`}},
		{[]string{"Negotiate"}, nil},
	} {
		_, address, fields := realBackend(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Www-Authenticate"] = test.says
			w.WriteHeader(http.StatusUnauthorized)
		})
		if response, _ := ask(t, http.MethodGet, address, fields); !slices.Equal(response.Header["Www-Authenticate"], test.want) {
			t.Errorf("the API sent %q, the browser got %q", test.says, response.Header["Www-Authenticate"])
		}
	}
}

// Content of an API may come from other users.
func TestRS16_ScriptsFromAnAPIAreNotForwarded(t *testing.T) {
	_, address, fields := realBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(w, "alert(1)")
	})
	for destination, status := range map[string]int{"script": 400, "serviceworker": 400, "sharedworker": 400, "worker": 400, "empty": 200, "image": 200, "document": 200} {
		fields.Set("Sec-Fetch-Dest", destination)
		if response, body := ask(t, http.MethodGet, address, fields); response.StatusCode != status {
			t.Errorf("%s: %d %s", destination, response.StatusCode, body)
		}
	}
}
