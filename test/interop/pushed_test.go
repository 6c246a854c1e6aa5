package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
)

// openid-client and oauth4webapi push signed requests (RFC 9126, RFC 9101), and read responses that
// are JWTs (JARM).
func TestOpenIDClientPushesRequests(t *testing.T) {
	node := need(t, "node")
	dir := installNode(t, "node")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	server := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
		Clients: []configuration.Client{{ID: clientID, ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{redirectURI}, Scope: "openid",
			TokenEndpointAuthMethod: oauth.AuthMethodPrivateKeyJWT, JWKS: json.RawMessage(keySet(t, key, "one")),
			RequirePushedAuthorizationRequests: true, RequireSignedRequestObject: true, RequestObjectSigningAlg: "ES256",
			AuthorizationSignedResponseAlg: "ES256", IDTokenSignedResponseAlg: "ES256",
		}}},
		Users: []configuration.User{{Username: "alice", Password: "correct horse battery"}},
	}})
	alice := person.New("alice", "correct horse battery")
	var got struct{ Subject, Parameters, Response, Refusal, Unpushed string }
	environment := []string{
		"ISSUER=" + server.Issuer, "CLIENT_ID=" + clientID, "REDIRECT_URI=" + redirectURI,
		"KEY=" + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}
	visit := func(address string) (*url.URL, error) { return alice.Visit(address, redirectURI) }
	converse(t, environment, visit, &got, node, filepath.Join(dir, "pushed.mjs"))
	want := got
	want.Parameters, want.Response = "client_id request_uri", "response"
	want.Refusal, want.Unpushed = "invalid_request", "invalid_request"
	if diff := cmp.Diff(want, got); diff != "" || got.Subject == "" {
		t.Errorf("the report (-want +got):\n%s", diff)
	}
}
