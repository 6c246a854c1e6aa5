package authservertest_test

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

// Clients of the Model Context Protocol register with every new server, without a scope, with a
// localhost redirect URI that has no port, and expect registration_client_uri. A thousand of
// them do not slow anything down.
func TestMCPClientsRegisterByTheThousand(t *testing.T) {
	const resource = "https://mcp.example.com/mcp"
	declared := configuration.Declarations{
		Clients: []configuration.Client{{ID: "declared", Secret: exchangeSecret, ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{"https://app.example.com/callback"}, ClientName: "Declared", Scope: "notes",
		}}},
		Users:     []configuration.User{{Username: "ada", Password: "engine no. 1"}},
		Scopes:    []record.Scope{{Name: "notes", Description: "Read your notes"}},
		Resources: []record.Resource{{Identifier: resource, Scopes: []string{"notes"}}},
	}
	s := authservertest.NewServer(t, authservertest.Config{
		Declarations: declared, Registration: configuration.Registration{Mode: "open", Scope: "notes", PerMinute: 10_000},
	})
	var last *client.Registration
	for range 1000 {
		r, err := client.Register(t.Context(), client.Config{Issuer: s.Issuer}, oauth.ClientMetadata{
			RedirectURIs: []string{"http://localhost/callback"}, ClientName: "An MCP Client", TokenEndpointAuthMethod: oauth.AuthMethodNone,
			GrantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		}, "")
		if err != nil {
			t.Fatal(err)
		}
		last = r
	}
	if !strings.HasPrefix(last.RegistrationClientURI, s.Issuer+"/") || last.RegistrationAccessToken == "" || last.Scope != "notes" {
		t.Errorf("registered is %+v, at %q", last.ClientMetadata, last.RegistrationClientURI)
	}

	config := last.Config(client.Config{Issuer: s.Issuer, RedirectURI: "http://localhost:53682/callback", Scopes: []string{"notes"}, Resources: []string{resource}})
	c, err := client.Discover(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(c.Metadata().TokenEndpointAuthMethodsSupported, oauth.AuthMethodNone) {
		t.Error("the metadata does not offer the method none, so clients do not use a metadata document")
	}
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ada := person.New("ada", "engine no. 1")
	callback, err := ada.Visit(address, config.RedirectURI)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Callback(t.Context(), transaction, callback.Query()); err != nil {
		t.Fatal(err)
	}
	if port := callback.Port(); port != "53682" || callback.Hostname() != "localhost" {
		t.Errorf("the response goes to %s", (&url.URL{Scheme: callback.Scheme, Host: callback.Host}).String())
	}

	// The operator sees only declared clients, and the user those that have access.
	changes, err := s.Apply(t.Context(), declared)
	if err != nil || len(changes) != 0 {
		t.Errorf("the operator sees %v, %v", changes, err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Issuer+"/account", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, cookie := range ada.Cookies(s.Issuer) {
		r.AddCookie(cookie)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if seen := strings.Count(string(page), "<strong><bdi>An MCP Client"); err != nil || seen != 1 {
		t.Errorf("the user sees it %d times (%v) in %s", seen, err, page)
	}
}
