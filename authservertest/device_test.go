package authservertest_test

import (
	"errors"
	"testing"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// A television is authorized on the pages, and stays authorized after the browser signs out.
func TestADeviceIsSignedInOnThePages(t *testing.T) {
	s := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
		Clients: []configuration.Client{{ID: "tv", ClientMetadata: oauth.ClientMetadata{
			TokenEndpointAuthMethod: oauth.AuthMethodNone, GrantTypes: []string{oauth.GrantTypeDeviceCode, oauth.GrantTypeRefreshToken},
		}}},
		Users: []configuration.User{{Username: "ada", Password: "engine no. 1", Name: "Ada Lovelace"}},
	}})
	c, err := client.Discover(t.Context(), client.Config{Issuer: s.Issuer, ClientID: "tv", Scopes: []string{"openid", "profile"}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.DeviceAuthorization(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PollDevice(t.Context(), d); !errors.Is(err, &client.Error{Code: oauth.AuthorizationPending}) {
		t.Fatalf("before: %v", err)
	}
	ada := person.New("ada", "engine no. 1")
	if err := ada.Allow(d.VerificationURIComplete); err != nil {
		t.Fatal(err)
	}
	tokens, err := c.PollDevice(t.Context(), d)
	if err != nil || tokens.Identity == nil {
		t.Fatalf("after: %v", err)
	}
	if _, err := ada.Visit(s.Issuer+"/sign-out", s.Issuer+"/signed-out"); err != nil {
		t.Fatal(err)
	}
	if tokens, err = c.Refresh(t.Context(), tokens); err != nil {
		t.Fatalf("after signing out in the browser: %v", err)
	}
	if _, err := c.UserInfo(t.Context(), tokens); err != nil {
		t.Error(err)
	}
}
