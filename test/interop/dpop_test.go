package interop

import (
	"net/url"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// openid-client and oauth4webapi push requests with a DPoP proof, and get, use and refresh bound
// tokens (RFC 9449). The server requires nonces.
func TestOpenIDClientBindsTokens(t *testing.T) {
	node := need(t, "node")
	dir := installNode(t, "node")
	server := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
		Clients: []configuration.Client{{ID: clientID, ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{redirectURI}, Scope: "openid offline_access",
			GrantTypes:              []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
			TokenEndpointAuthMethod: oauth.AuthMethodNone, DPoPBoundAccessTokens: true, IDTokenSignedResponseAlg: "ES256",
		}, ClientSettings: record.ClientSettings{RequireDPoPNonce: true}}},
		Users: []configuration.User{{Username: "alice", Password: "correct horse battery"}},
	}})
	alice := person.New("alice", "correct horse battery")
	var got struct{ Subject, Type, Refreshed, Bearer, Unbound, OtherKey string }
	environment := []string{"ISSUER=" + server.Issuer, "CLIENT_ID=" + clientID, "REDIRECT_URI=" + redirectURI}
	visit := func(address string) (*url.URL, error) { return alice.Visit(address, redirectURI) }
	converse(t, environment, visit, &got, node, filepath.Join(dir, "dpop.mjs"))
	want := got
	want.Type, want.Refreshed = "dpop", "dpop"
	want.Bearer, want.Unbound, want.OtherKey = "refused", "invalid_dpop_proof", "invalid_grant"
	if diff := cmp.Diff(want, got); diff != "" || got.Subject == "" {
		t.Errorf("the report (-want +got):\n%s", diff)
	}
}
