package authservertest_test

import (
	"errors"
	"regexp"
	"testing"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

// A first-party application signs users in, reveals no more about accounts than the sign-in
// page, and loses its tokens when the account is disabled.
func TestLG01_LG04_FirstPartyApplication(t *testing.T) {
	declared := configuration.Declarations{
		Clients: []configuration.Client{{ID: "app", ClientMetadata: oauth.ClientMetadata{
			ApplicationType: oauth.ApplicationNative, RedirectURIs: []string{"com.example.app:/callback"},
			GrantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken}, Scope: "openid profile",
		}, ClientSettings: record.ClientSettings{FirstParty: true, SkipConsent: true}}},
		Users: []configuration.User{
			{Username: "ada", Password: "engine no. 1", Name: "Ada Lovelace"}, {Username: "grace", Password: "compiler no. 1", Disabled: true},
		},
	}
	s := authservertest.NewServer(t, authservertest.Config{Declarations: declared, FirstPartyApplications: true})
	c, err := client.Discover(t.Context(), client.Config{Issuer: s.Issuer, ClientID: "app", Scopes: []string{"openid", "profile"}})
	if err != nil {
		t.Fatal(err)
	}
	challenge := c.AuthorizationChallenge()
	var said string
	for i, who := range [][2]string{{"ada", "engine no. 2"}, {"grace", "compiler no. 1"}, {"nobody", "compiler no. 1"}} {
		_, err := c.SignIn(t.Context(), challenge, who[0], who[1])
		refusal, ok := errors.AsType[*client.Error](err)
		if !ok || refusal.Code != oauth.InsufficientAuthorization {
			t.Fatalf("%s: %v", who[0], err)
		}
		says := regexp.MustCompile(`ref [0-9A-Z-]+`).ReplaceAllString(refusal.Error(), "ref")
		if i > 0 && says != said {
			t.Errorf("%s: %s, not %s", who[0], says, said)
		}
		said = says
	}
	tokens, err := c.SignIn(t.Context(), challenge, "ada", "engine no. 1")
	if err != nil || tokens.Identity == nil || tokens.RefreshToken == "" {
		t.Fatalf("the correct password: %v", err)
	}
	if _, err := c.UserInfo(t.Context(), tokens); err != nil {
		t.Error(err)
	}
	for i := 0; ; i++ {
		_, err := c.SignIn(t.Context(), c.AuthorizationChallenge(), "ada", "guess")
		refusal, ok := errors.AsType[*client.Error](err)
		if !ok || i > 20 {
			t.Fatalf("guesses are not limited: %v", err)
		}
		if refusal.Code != oauth.TemporarilyUnavailable {
			continue
		}
		if refusal.RetryAfter == 0 {
			t.Error("no Retry-After")
		}
		if _, err := c.SignIn(t.Context(), c.AuthorizationChallenge(), "ada", "engine no. 1"); !errors.Is(err, &client.Error{Code: oauth.TemporarilyUnavailable}) {
			t.Errorf("the correct password was checked: %v", err)
		}
		break
	}
	declared.Users[0].Disabled = true
	if _, err := s.Apply(t.Context(), declared); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Refresh(t.Context(), tokens); !errors.Is(err, client.ErrSignInAgain) && !errors.Is(err, &client.Error{Code: oauth.InvalidGrant}) {
		t.Errorf("after the account was disabled: %v", err)
	}
}
