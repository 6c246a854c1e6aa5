package authservertest_test

import (
	"fmt"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

// A test of an API that users call through an application: it gets a real access token for a
// user, without a browser. t is the *testing.T of the test.
func ExampleNewServer() {
	const api, callback = "https://notes.example.com", "http://127.0.0.1/callback"
	s := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
		Scopes:    []record.Scope{{Name: "notes.read"}},
		Resources: []record.Resource{{Identifier: api, Scopes: []string{"notes.read"}}},
		Users:     []configuration.User{{Username: "ada", Password: "engine no. 1", Name: "Ada Lovelace"}},
		Clients: []configuration.Client{{ID: "app", ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{callback},
			Scope:        "openid notes.read",
		}}},
	}})
	tokens := s.Tokens(t, client.Config{
		ClientID:    "app",
		RedirectURI: callback,
		Scopes:      []string{"openid", "notes.read"},
		Resources:   []string{api},
	}, "ada", "engine no. 1")

	// Send tokens.AccessToken to the API, whose middleware trusts s.Issuer.
	fmt.Println(tokens.Scope)
	// Output: openid notes.read
}
