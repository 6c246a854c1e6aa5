package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

func TestRS10_ManyGoroutinesShareOneRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		c := p.discover(t, nil)
		first, err := p.signIn(t, c, client.AuthorizationOptions{})
		if err != nil {
			t.Fatal(err)
		}
		stored := 0
		source := c.Source(first, func(_ context.Context, next *client.Tokens) error {
			stored++
			return nil
		})
		time.Sleep(2 * time.Hour)
		before := p.count("/token")
		type result struct {
			token string
			err   error
		}
		results := make(chan result, 100)
		for range 100 {
			go func() {
				tokens, err := source.Tokens(t.Context())
				if err != nil {
					results <- result{err: err}
					return
				}
				results <- result{token: tokens.AccessToken}
			}()
		}
		var token string
		for range 100 {
			r := <-results
			if r.err != nil {
				t.Fatal(r.err)
			}
			if token != "" && r.token != token {
				t.Error("two callers got different tokens")
			}
			token = r.token
		}
		if n := p.count("/token") - before; n != 1 {
			t.Errorf("%d token requests for 100 goroutines", n)
		}
		if stored != 1 || token == first.AccessToken {
			t.Errorf("stored %d times, token new: %v", stored, token != first.AccessToken)
		}
		if got := p.last(t, "/token").form.Get("refresh_token"); got != first.RefreshToken {
			t.Error("the refresh token is not the one of the sign-in")
		}
	})
}

func TestRS10_CanceledCallerDoesNotFailOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		c := p.discover(t, nil)
		release := make(chan struct{})
		p.setHandler("/token", func(w http.ResponseWriter, r *http.Request) {
			<-release
			p.token(w, r)
		})
		source := c.ClientCredentialsSource()
		// The first caller starts the request and stops waiting.
		ctx, cancel := context.WithCancelCause(t.Context())
		gaveUp := make(chan error, 1)
		go func() {
			_, err := source.Tokens(ctx)
			gaveUp <- err
		}()
		synctest.Wait()
		patient := make(chan error, 1)
		go func() {
			_, err := source.Tokens(t.Context())
			patient <- err
		}()
		synctest.Wait()
		cause := errors.New("the window was closed")
		cancel(cause)
		if err := <-gaveUp; !errors.Is(err, cause) {
			t.Errorf("the first got %v", err)
		}
		close(release)
		if err := <-patient; err != nil {
			t.Errorf("the second got %v", err)
		}
		if n := p.count("/token"); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestSourceRenewsShortlyBeforeExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		source := p.discover(t, nil).ClientCredentialsSource()
		for range 119 { // of an hour, every half a minute
			if _, err := source.Tokens(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
		}
		if n := p.count("/token"); n != 1 {
			t.Errorf("%d requests before expiry", n)
		}
		time.Sleep(time.Second)
		tokens, err := source.Tokens(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := p.count("/token"); n != 2 || time.Until(tokens.Expiry) < 59*time.Minute {
			t.Errorf("%d requests; the token expires in %v", n, time.Until(tokens.Expiry))
		}
	})
}

func TestSourceWithShortLifetimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		p.response = func(a map[string]any) { a["expires_in"] = 20 }
		source := p.discover(t, nil).ClientCredentialsSource()
		for range 10 {
			if _, err := source.Tokens(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := p.count("/token"); n != 1 {
			t.Errorf("%d requests in half the lifetime", n)
		}
	})
}

func TestRE37_SourceBacksOff(t *testing.T) {
	for name, test := range map[string]struct {
		retryAfter string
		most       int
	}{
		"silent":                  {"", 7},
		"Retry-After of 20 s":     {"20", 2},
		"Retry-After in the past": {"Mon, 01 Jan 1990 00:00:00 GMT", 7},
		"invalid Retry-After":     {"-5", 7},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProvider(t)
				c := p.discover(t, nil)
				p.setHandler("/token", func(w http.ResponseWriter, r *http.Request) {
					if test.retryAfter != "" {
						w.Header().Set("Retry-After", test.retryAfter)
					}
					writeJSON(w, http.StatusServiceUnavailable, map[string]any{"error": "temporarily_unavailable"})
				})
				source := c.ClientCredentialsSource()
				for range 300 { // ten a second, for 30 seconds
					if _, err := source.Tokens(t.Context()); !errors.Is(err, &client.Error{Code: oauth.TemporarilyUnavailable}) {
						t.Fatalf("got %v", err)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if n := p.count("/token"); n < 2 || n > test.most {
					t.Errorf("%d requests in 30 s of trouble", n)
				}
				p.setHandler("/token", nil)
				time.Sleep(90 * time.Second)
				if _, err := source.Tokens(t.Context()); err != nil {
					t.Errorf("after the provider recovered: %v", err)
				}
			})
		})
	}
}

func TestSourceUsesTheOldTokenWhileItIsValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		c := p.discover(t, nil)
		source := c.ClientCredentialsSource()
		first, err := source.Tokens(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.setHandler("/token", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		time.Sleep(time.Until(first.Expiry) - 10*time.Second)
		for range 5 {
			if again, err := source.Tokens(t.Context()); err != nil || again.AccessToken != first.AccessToken {
				t.Fatalf("got another token or %v", err)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		if _, err := source.Tokens(t.Context()); !errors.Is(err, client.ErrResponse) {
			t.Errorf("after expiry: %v", err)
		}
	})
}

func TestSourceFailsAfterARejectedRefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		c := p.discover(t, nil)
		tokens, err := p.signIn(t, c, client.AuthorizationOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p.setHandler("/token", func(w http.ResponseWriter, r *http.Request) {
			writeJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		})
		source := c.Source(tokens, nil)
		before := p.count("/token")
		for range 10 {
			time.Sleep(2 * time.Hour)
			if _, err := source.Tokens(t.Context()); !errors.Is(err, client.ErrSignInAgain) {
				t.Fatalf("got %v, want ErrSignInAgain", err)
			}
		}
		if n := p.count("/token") - before; n != 1 {
			t.Errorf("a rejected refresh token was sent %d times", n)
		}
		tokens.RefreshToken = ""
		if _, err := c.Source(tokens, nil).Tokens(t.Context()); !errors.Is(err, client.ErrSignInAgain) {
			t.Errorf("without a refresh token: got %v, want ErrSignInAgain", err)
		}
	})
}

func TestRefreshedTokensAreStoredBeforeUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		c := p.discover(t, nil)
		first, err := p.signIn(t, c, client.AuthorizationOptions{})
		if err != nil {
			t.Fatal(err)
		}
		full := errors.New("disk full")
		var stored []string
		fail := true
		source := c.Source(first, func(_ context.Context, next *client.Tokens) error {
			if fail {
				return full
			}
			stored = append(stored, next.RefreshToken)
			return nil
		})
		time.Sleep(2 * time.Hour)
		before := p.count("/token")
		if _, err := source.Tokens(t.Context()); !errors.Is(err, full) {
			t.Fatalf("got %v", err)
		}
		fail = false
		tokens, err := source.Tokens(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := p.count("/token") - before; n != 1 {
			t.Errorf("%d requests: the used refresh token was sent again", n)
		}
		if len(stored) != 1 || stored[0] != tokens.RefreshToken || tokens.RefreshToken == first.RefreshToken {
			t.Errorf("stored %d refresh tokens", len(stored))
		}
	})
}

func TestRefreshKeepsOmittedValues(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, nil)
	p.response = func(a map[string]any) {
		a["refresh_token_timeout"], a["authorization_expires_in"], a["authorization_details"] = 604800, "2592000", []any{map[string]any{"type": "payment"}}
	}
	first, err := p.signIn(t, c, client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Details) != 1 || string(first.Details[0]) != `{"type":"payment"}` {
		t.Errorf("the authorization details are %s", first.Details)
	}
	if timeout, authorization := first.RefreshTokenExpiry.Sub(first.Issued), first.AuthorizationExpiry.Sub(first.Issued); timeout != 7*24*time.Hour || authorization != 30*24*time.Hour {
		t.Errorf("the refresh token is valid for %s and the authorization for %s", timeout, authorization)
	}
	// Ten years, the example of draft-ietf-oauth-refresh-token-expiration, section 6.1.2.
	p.response = func(a map[string]any) { a["authorization_expires_in"] = 315569520 }
	if long, err := c.Refresh(t.Context(), first); err != nil || long.AuthorizationExpiry.Sub(long.Issued) != 315569520*time.Second {
		t.Errorf("a large lifetime is not taken literally: %v, %v", long.AuthorizationExpiry, err)
	}
	p.response = func(a map[string]any) {
		delete(a, "refresh_token")
		delete(a, "id_token")
		a["refresh_token_timeout"] = "soon"
	}
	next, err := c.Refresh(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if next.RefreshToken != first.RefreshToken || next.IDToken != first.IDToken || next.Identity != first.Identity || next.Scope.String() != "openid api" {
		t.Error("the refresh token, ID token or scope is lost")
	}
	if next.RefreshTokenExpiry != first.RefreshTokenExpiry || next.AuthorizationExpiry != first.AuthorizationExpiry {
		t.Error("the expiry of the refresh token or of the authorization is lost")
	}
	if next.AccessToken == first.AccessToken {
		t.Error("the access token was not replaced")
	}
}

func TestRS12_RefreshedIDTokenIsAboutTheSameUser(t *testing.T) {
	for name, test := range map[string]struct {
		change func(map[string]any)
		good   bool
	}{
		"same":               {func(c map[string]any) {}, true},
		"other subject":      {func(c map[string]any) { c["sub"] = "mallory" }, false},
		"other audience":     {func(c map[string]any) { c["aud"] = "other" }, false},
		"other nonce":        {func(c map[string]any) { c["nonce"] = "other" }, false},
		"another sign-in":    {func(c map[string]any) { c["auth_time"] = time.Now().Add(time.Hour).Unix() }, false},
		"other access token": {func(c map[string]any) { c["at_hash"] = "77QmUPtjPfzWtF2AnpK9RQ" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			c := p.discover(t, nil)
			first, err := p.signIn(t, c, client.AuthorizationOptions{})
			if err != nil {
				t.Fatal(err)
			}
			p.claims = test.change
			_, err = c.Refresh(t.Context(), first)
			if test.good && err != nil || !test.good && !errors.Is(err, client.ErrIDToken) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOAuth2TokenSource(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, nil)
	tokens, err := p.signIn(t, c, client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	token, err := c.Source(tokens, nil).TokenSource(t.Context()).Token()
	if err != nil {
		t.Fatal(err)
	}
	if !token.Valid() || token.AccessToken != tokens.AccessToken || token.Type() != "Bearer" || token.Extra("id_token") != tokens.IDToken {
		t.Error("the token is not complete")
	}
}

func TestHTTPClient(t *testing.T) {
	p := newProvider(t)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("another origin received %s", r.Header)
	}))
	defer other.Close()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/elsewhere":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/here":
			http.Redirect(w, r, "/", http.StatusFound)
		default:
			fmt.Fprint(w, r.Header.Get("Authorization"))
		}
	}))
	defer api.Close()
	source := p.discover(t, nil).ClientCredentialsSource()
	tokens, err := source.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The provider's transport only reaches the provider; the API is on the network.
	config := p.config()
	config.HTTPClient = nil
	c, err := client.New(oauth.ServerMetadata{Issuer: p.issuer}, config)
	if err != nil {
		t.Fatal(err)
	}
	h := c.Source(tokens, nil).HTTPClient()
	for _, path := range []string{"/", "/here"} {
		resp, err := h.Get(api.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		if err := resp.Write(&got); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(got.String(), "Bearer "+tokens.AccessToken) {
			t.Errorf("GET %s: the API did not get the token", path)
		}
	}
	for address, want := range map[string]string{
		api.URL + "/elsewhere": "redirects to another origin",
		"http://api.example/":  "over https only",
	} {
		resp, err := h.Get(address)
		if err == nil {
			resp.Body.Close()
			t.Errorf("%s: the token was sent", address)
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), tokens.AccessToken) {
			t.Errorf("%s: %v", address, err)
		}
	}
}
