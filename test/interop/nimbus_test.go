package interop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// Nimbus pushes a signed request with private_key_jwt, and gets, uses and refreshes tokens that are
// bound to a key. When the server demands a nonce, it sends the same client assertion again.
func TestNimbusPushesRequestsAndBindsTokens(t *testing.T) {
	t.Parallel() // it mostly waits for a Java program to start
	need(t, "mvn")
	java, javac := need(t, "java"), need(t, "javac")
	dir := install(t, "nimbus", []string{"pom.xml", "Bound.java", "checksums.txt"}, func(ctx context.Context, dir string) error {
		libraries := exec.CommandContext(ctx, "mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies",
			"-DincludeScope=runtime", "-DoutputDirectory=lib")
		// Maven has no lock file, so the checksums of the downloads are checked here.
		sums := exec.CommandContext(ctx, "sha256sum", "--check", "--strict", "--quiet", "checksums.txt")
		compile := exec.CommandContext(ctx, javac, "-cp", "lib/*", "-d", "classes", "Bound.java")
		for _, command := range []*exec.Cmd{libraries, sums, compile} {
			command.Dir = dir
			if err := run(command); err != nil {
				return err
			}
		}
		return nil
	})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	server := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
		Clients: []configuration.Client{{ID: clientID, ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{redirectURI}, Scope: "openid offline_access",
			GrantTypes:              []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
			TokenEndpointAuthMethod: oauth.AuthMethodPrivateKeyJWT, JWKS: json.RawMessage(keySet(t, key, "one")),
			RequirePushedAuthorizationRequests: true, RequireSignedRequestObject: true, RequestObjectSigningAlg: "ES256",
			DPoPBoundAccessTokens: true, IDTokenSignedResponseAlg: "ES256",
		}, ClientSettings: record.ClientSettings{RequireDPoPNonce: true}}},
		Users: []configuration.User{{Username: "alice", Password: "correct horse battery"}},
	}})
	alice := person.New("alice", "correct horse battery")
	var got struct {
		Subject, Without, Type, Refreshed, Spent string
		Bearer                                   int
	}
	environment := []string{
		"ISSUER=" + server.Issuer, "CLIENT_ID=" + clientID, "REDIRECT_URI=" + redirectURI, "KEY=" + privateJWK(t, key, "one"),
	}
	visit := func(address string) (*url.URL, error) { return alice.Visit(address, redirectURI) }
	converse(t, environment, visit, &got, java, "-XX:TieredStopAtLevel=1",
		"-cp", filepath.Join(dir, "classes")+":"+filepath.Join(dir, "lib", "*"), "Bound")
	want := got
	want.Without, want.Type, want.Refreshed = string(oauth.UseDPoPNonce), "DPoP", "DPoP"
	want.Bearer, want.Spent = 401, string(oauth.InvalidClient)
	if diff := cmp.Diff(want, got); diff != "" || got.Subject == "" {
		t.Errorf("the report (-want +got):\n%s", diff)
	}
}

// privateJWK returns a private key as a JWK.
func privateJWK(t *testing.T, key *ecdsa.PrivateKey, kid string) string {
	t.Helper()
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	d, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	document, err := json.Marshal(map[string]string{
		"kty": "EC", "crv": "P-256", "kid": kid, "x": encode(point[1:33]), "y": encode(point[33:]), "d": encode(d),
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(document)
}
