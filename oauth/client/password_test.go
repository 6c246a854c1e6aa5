package client_test

import (
	"errors"
	"net/http"
	"net/url"
	"testing"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

func TestPassword(t *testing.T) {
	p := newProvider(t)
	p.handlers["/token"] = func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("password") != "engine no. 1" {
			writeJSON(w, http.StatusBadRequest, map[string]any{"error": oauth.InvalidGrant})
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{"access_token": "a", "token_type": "Bearer"})
	}
	c := p.discover(t, func(config *client.Config) { config.Scopes = []string{"photos"} })
	if _, err := c.Password(t.Context(), "ada", "engine no. 2"); !errors.Is(err, &client.Error{Code: oauth.InvalidGrant}) {
		t.Errorf("a wrong password: %v", err)
	}
	tokens, err := c.Password(t.Context(), "ada", "engine no. 1")
	if err != nil || tokens.AccessToken != "a" || tokens.Scope.String() != "photos" {
		t.Fatalf("got %q, %v", tokens.Scope, err)
	}
	form := p.last(t, "/token").form
	if form.Get("grant_type") != "password" || form.Get("username") != "ada" {
		t.Errorf("grant_type=%q username=%q", form.Get("grant_type"), form.Get("username"))
	}
}

// RFC 9396, sections 2 and 6: an authorization request, and a token request of the client itself.
func TestAuthorizationDetailsOfTheConfiguration(t *testing.T) {
	p := newProvider(t)
	p.handlers["/token"] = func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"access_token": "a", "token_type": "Bearer"})
	}
	c := p.discover(t, func(config *client.Config) {
		config.Scopes = []string{"photos"}
		config.AuthorizationDetails = []any{map[string]any{"type": "album"}}
	})
	if _, err := c.ClientCredentials(t.Context()); err != nil {
		t.Fatal(err)
	}
	const want = `[{"type":"album"}]`
	if got := p.last(t, "/token").form.Get("authorization_details"); got != want {
		t.Errorf("the token request has %s", got)
	}
	for name, test := range map[string]struct {
		options client.AuthorizationOptions
		want    string
	}{
		"of the configuration": {want: want},
		"of the request":       {client.AuthorizationOptions{AuthorizationDetails: []any{map[string]any{"type": "photo"}}}, `[{"type":"photo"}]`},
		"none":                 {options: client.AuthorizationOptions{AuthorizationDetails: []any{}}},
	} {
		address, _, err := c.AuthorizationURL(t.Context(), test.options)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := u.Query().Get("authorization_details"); got != test.want {
			t.Errorf("%s: %s, not %s", name, got, test.want)
		}
	}
}
