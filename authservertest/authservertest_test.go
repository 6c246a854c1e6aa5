package authservertest_test

import (
	"context"
	"testing"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

func TestTokensOfAPersonWithoutABrowser(t *testing.T) {
	const callback = "http://127.0.0.1:9/callback"
	s := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
		Clients: []configuration.Client{{ID: "app", Secret: "0123456789abcdef0123456789abcdef", ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{callback}, GrantTypes: []string{"authorization_code", "refresh_token"},
		}}},
		Users: []configuration.User{{Username: "ada", Password: "engine no. 1", Name: "Ada Lovelace"}},
	}})
	config := client.Config{
		Issuer: s.Issuer, ClientID: "app", ClientSecret: "0123456789abcdef0123456789abcdef",
		RedirectURI: callback, Scopes: []string{"openid", "profile"},
	}
	tokens := s.Tokens(t, config, "ada", "engine no. 1")
	c, err := client.Discover(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.UserInfo(context.Background(), tokens)
	if err != nil {
		t.Fatal(err)
	}
	var person struct {
		Name string `json:"name"`
	}
	if err := info.Decode(&person); err != nil || person.Name != "Ada Lovelace" {
		t.Errorf("UserInfo says the name is %q (%v)", person.Name, err)
	}
	if tokens.RefreshToken == "" {
		t.Error("there is no refresh token")
	}
}
