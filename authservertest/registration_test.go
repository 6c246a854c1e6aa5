package authservertest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// An application registers itself, signs a user in, changes its registration, and deletes it.
func TestAnApplicationRegistersItself(t *testing.T) {
	const callback = "http://127.0.0.1:9/callback"
	ctx := t.Context()
	s := authservertest.NewServer(t, authservertest.Config{
		Registration: configuration.Registration{Mode: "open"},
		Declarations: configuration.Declarations{Users: []configuration.User{{Username: "ada", Password: "engine no. 1", Name: "Ada Lovelace"}}},
	})
	r, err := client.Register(ctx, client.Config{Issuer: s.Issuer}, oauth.ClientMetadata{
		RedirectURIs: []string{callback}, ClientName: "Notes", GrantTypes: []string{"authorization_code", "refresh_token"}, Scope: "openid profile",
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	if r.ClientSecret == "" || r.Scope != "openid profile" || r.IDTokenSignedResponseAlg != "RS256" {
		t.Errorf("registered is %+v", r.ClientMetadata)
	}
	if printed := fmt.Sprintf("%v %+v %#v", r, r, r); strings.Contains(printed, r.ClientSecret) || strings.Contains(printed, r.RegistrationAccessToken) {
		t.Errorf("a log would show %s", printed)
	}

	tokens := s.Tokens(t, r.Config(client.Config{Scopes: []string{"openid", "profile"}}), "ada", "engine no. 1")
	if tokens.RefreshToken == "" || tokens.IDToken == "" {
		t.Error("there is no refresh token, or no ID token")
	}

	// The registration can be stored as JSON and used again.
	kept, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again client.Registration
	if err := json.Unmarshal(kept, &again); err != nil {
		t.Fatal(err)
	}
	if err := again.Update(ctx, oauth.ClientMetadata{RedirectURIs: []string{callback}, ClientName: "Better Notes"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Read(ctx); err != nil {
		t.Fatal(err)
	}
	if r.ClientName != "Better Notes" || len(r.GrantTypes) != 1 || r.ClientSecret != again.ClientSecret {
		t.Errorf("registered is %+v", r.ClientMetadata)
	}
	if err := r.Update(ctx, oauth.ClientMetadata{RedirectURIs: []string{"http://elsewhere.example.com"}}); !errors.Is(err, &client.Error{Code: oauth.InvalidRedirectURI}) {
		t.Errorf("an invalid redirect URI: %v", err)
	}
	if err := r.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.Read(ctx); !errors.Is(err, &client.Error{Code: oauth.InvalidToken}) {
		t.Errorf("after it was deleted: %v", err)
	}
}

func TestAnApplicationMayNotRegisterItself(t *testing.T) {
	s := authservertest.NewServer(t, authservertest.Config{})
	if _, err := client.Register(t.Context(), client.Config{Issuer: s.Issuer}, oauth.ClientMetadata{}, ""); !errors.Is(err, client.ErrUnsupported) {
		t.Errorf("no endpoint: %v", err)
	}
	s = authservertest.NewServer(t, authservertest.Config{Registration: configuration.Registration{Mode: "initial_access_token"}})
	if _, err := client.Register(t.Context(), client.Config{Issuer: s.Issuer}, oauth.ClientMetadata{}, ""); !errors.Is(err, &client.Error{Code: oauth.InvalidToken}) {
		t.Errorf("no token: %v", err)
	}
}
