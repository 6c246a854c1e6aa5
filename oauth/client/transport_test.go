package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

type countingJar struct{ used bool }

func (j *countingJar) SetCookies(*url.URL, []*http.Cookie) { j.used = true }
func (j *countingJar) Cookies(*url.URL) []*http.Cookie     { j.used = true; return nil }

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTransportInTheCallersClient(t *testing.T) {
	p := newProvider(t)
	leaked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("another origin received %v", r.Header)
	}))
	defer leaked.Close()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/elsewhere":
			http.Redirect(w, r, leaked.URL, http.StatusTemporaryRedirect)
		case "/by-way":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/", http.StatusFound)
		default:
			w.Write([]byte(r.Header.Get("Authorization")))
		}
	}))
	defer api.Close()
	passed := 0
	source := p.discover(t, nil).ClientCredentialsSource()
	h := &http.Client{Transport: source.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		passed++
		return http.DefaultTransport.RoundTrip(r)
	}))}
	tokens, err := source.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/here"} {
		resp, err := h.Get(api.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		resp.Write(&got)
		if !strings.Contains(got.String(), "Bearer "+tokens.AccessToken) {
			t.Errorf("%s: the API did not get the token", path)
		}
	}
	if passed != 3 {
		t.Errorf("the base sent %d requests, want 3", passed)
	}
	// The caller's http.Client follows redirects by itself.
	for _, path := range []string{"/elsewhere", "/by-way"} {
		if resp, err := h.Get(api.URL + path); err == nil {
			resp.Body.Close()
			t.Errorf("%s: the token was forwarded", path)
		} else if !strings.Contains(err.Error(), "another origin") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if resp, err := h.Get("http://api.example/"); err == nil {
		resp.Body.Close()
		t.Error("the token was sent unencrypted")
	}
}

// Programs replace http.DefaultTransport for tracing or tests.
func TestAWrappedDefaultTransportIsUsed(t *testing.T) {
	standard := http.DefaultTransport
	defer func() { http.DefaultTransport = standard }()
	called := false
	http.DefaultTransport = roundTripper(func(r *http.Request) (*http.Response, error) {
		called = true
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})
	a := newWebApp(t, nil)
	backend, err := client.NewBackend(client.BackendConfig{Party: a.party, APIs: map[string]string{"/api/": "https://api.example/"}})
	if err != nil {
		t.Fatal(err)
	}
	a.handler = backend
	browser := a.browser(t)
	a.signInTo(t, browser, "/")
	call(t, browser, http.MethodGet, "/api/x", "", "Sec-Fetch-Site", "same-origin")
	if !called {
		t.Error("the API was called with another transport")
	}
}

// A renewal runs in its own goroutine, where a panic would crash the process.
func TestPanicInACallbackIsAnError(t *testing.T) {
	for name, callback := range map[string]func(context.Context, *client.Tokens) error{
		"panic":  func(context.Context, *client.Tokens) error { panic("assignment to entry in nil map") },
		"Goexit": func(context.Context, *client.Tokens) error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(t)
				c := p.discover(t, nil)
				tokens, err := p.signIn(t, c, client.AuthorizationOptions{})
				if err != nil {
					t.Fatal(err)
				}
				source := c.Source(tokens, callback)
				time.Sleep(2 * time.Hour)
				for range 2 { // the second must not hang
					if _, err := source.Tokens(t.Context()); err == nil || !strings.Contains(err.Error(), "callback") {
						t.Errorf("got %v", err)
					}
				}
			})
		})
	}
	p := newProvider(t)
	c := p.discover(t, func(c *client.Config) {
		c.ClientAssertion = func(context.Context) (string, error) { panic("no file") }
	})
	if _, err := c.ClientCredentialsSource().Tokens(t.Context()); err == nil {
		t.Error("a panic in ClientAssertion was not reported")
	}
	broken := c.Source(&client.Tokens{RefreshToken: "r"}, nil)
	if _, err := broken.Tokens(t.Context()); err == nil || errors.Is(err, client.ErrSignInAgain) {
		t.Errorf("got %v", err)
	}
}
