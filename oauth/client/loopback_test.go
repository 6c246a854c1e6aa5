package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// browse starts a sign-in with Loopback and passes its authorization URL to browser.
func browse(t *testing.T, p *provider, options client.LoopbackOptions, browser func(address string, redirect *url.URL, response url.Values)) (*client.Tokens, error) {
	t.Helper()
	c := p.discover(t, func(config *client.Config) {
		config.ClientSecret, config.RedirectURI = "", "http://127.0.0.1/callback"
	})
	options.OpenBrowser = func(address string) error {
		u, err := url.Parse(address)
		if err != nil {
			return err
		}
		redirect, err := url.Parse(u.Query().Get("redirect_uri"))
		if err != nil {
			return err
		}
		browser(address, redirect, p.authorize(t, address))
		return nil
	}
	return c.Loopback(t.Context(), options)
}

func fetch(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(body)
}

func get(t *testing.T, u *url.URL, response url.Values) (int, string) {
	t.Helper()
	with := *u
	with.RawQuery = response.Encode()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, with.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return fetch(t, req)
}

func TestLoopbackSignsIn(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			p := newProvider(t)
			page := make(chan string, 1)
			var at *url.URL
			tokens, err := browse(t, p, client.LoopbackOptions{}, func(_ string, redirect *url.URL, response url.Values) {
				at = redirect
				go func() {
					if method == http.MethodGet {
						_, body := get(t, redirect, response)
						page <- body
						return
					}
					req, err := http.NewRequest(method, redirect.String(), strings.NewReader(response.Encode()))
					if err != nil {
						t.Error(err)
					}
					req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					_, body := fetch(t, req)
					page <- body
				}()
			})
			if err != nil {
				t.Fatal(err)
			}
			if tokens.Identity.Subject != "alice" {
				t.Errorf("signed in %q", tokens.Identity.Subject)
			}
			if body := <-page; !strings.Contains(body, "You are signed in") || !strings.Contains(body, "close this window") {
				t.Errorf("the page says %q", body)
			}
			if at.Hostname() != "127.0.0.1" || at.Path != "/callback" || at.Port() == "" {
				t.Errorf("the redirect URI is %s", at)
			}
			if conn, err := net.Dial("tcp", at.Host); err == nil {
				conn.Close()
				t.Error("it is still listening")
			}
		})
	}
}

func TestLoopbackIgnoresOtherRequests(t *testing.T) {
	p := newProvider(t)
	done := make(chan struct{})
	tokens, err := browse(t, p, client.LoopbackOptions{}, func(_ string, redirect *url.URL, response url.Values) {
		go func() {
			defer close(done)
			forged := url.Values{"code": {"evil"}, "state": {"guess"}, "iss": {p.issuer}}
			if status, body := get(t, redirect, forged); status != 400 || strings.Contains(body, "guess") {
				t.Errorf("forged state: %d %s", status, body)
			}
			twice := url.Values{"code": {"evil"}, "state": {"a", "b"}}
			if status, _ := get(t, redirect, twice); status != 400 {
				t.Errorf("two states: %d", status)
			}
			for _, path := range []string{"/", "/favicon.ico", "/callback/", "//callback"} {
				other := *redirect
				other.Path = path
				if status, _ := get(t, &other, response); status != 404 {
					t.Errorf("%s: %d", path, status)
				}
			}
			// DNS rebinding: a name that resolves to 127.0.0.1.
			with := *redirect
			with.RawQuery = response.Encode()
			req, err := http.NewRequest(http.MethodGet, with.String(), nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Host = "evil.example:" + redirect.Port()
			if status, _ := fetch(t, req); status != 404 {
				t.Errorf("DNS rebinding: %d", status)
			}
			req, err = http.NewRequest(http.MethodPut, with.String(), nil)
			if err != nil {
				t.Error(err)
				return
			}
			if status, _ := fetch(t, req); status != 405 {
				t.Errorf("PUT: %d", status)
			}
			if p.count("/token") != 0 {
				t.Error("a code was redeemed")
			}
			get(t, redirect, response)
		}()
	})
	<-done
	if err != nil || tokens == nil {
		t.Fatalf("the real response was lost: %v", err)
	}
}

func TestLoopbackReportsRefusal(t *testing.T) {
	p := newProvider(t)
	page := make(chan string, 1)
	_, err := browse(t, p, client.LoopbackOptions{}, func(_ string, redirect *url.URL, response url.Values) {
		response.Del("code")
		response.Set("error", "access_denied")
		response.Set("error_description", "<script>alert(1)</script>")
		go func() {
			_, body := get(t, redirect, response)
			page <- body
		}()
	})
	if !errors.Is(err, &client.Error{Code: oauth.AccessDenied}) {
		t.Errorf("got %v, want access_denied", err)
	}
	if body := <-page; !strings.Contains(body, "Sign-in failed") || strings.Contains(body, "script") {
		t.Errorf("the page says %q", body)
	}
}

func TestLoopbackEndsWithItsContext(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, func(config *client.Config) { config.RedirectURI = "" })
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the user has closed the window")
	var redirect string
	_, err := c.Loopback(ctx, client.LoopbackOptions{OpenBrowser: func(address string) error {
		u, err := url.Parse(address)
		if err != nil {
			return err
		}
		redirect = u.Query().Get("redirect_uri")
		cancel(gone)
		return nil
	}})
	if !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	u, err := url.Parse(redirect)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", u.Host); err == nil {
		conn.Close()
		t.Error("it is still listening")
	}
}

func TestLoopbackFails(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, nil)
	for _, uri := range []string{"https://127.0.0.1/callback", "http://app.example/callback", "com.example.app:/callback", "http://127.0.0.1.evil.example/"} {
		options := client.LoopbackOptions{OpenBrowser: func(string) error { t.Error("the browser was opened"); return nil }}
		options.RedirectURI = uri
		if _, err := c.Loopback(t.Context(), options); err == nil {
			t.Errorf("%s was accepted", uri)
		}
	}
	none := errors.New("no browser")
	options := client.LoopbackOptions{OpenBrowser: func(string) error { return none }}
	options.RedirectURI = "http://127.0.0.1/"
	if _, err := c.Loopback(t.Context(), options); !errors.Is(err, none) {
		t.Errorf("got %v", err)
	}
}
