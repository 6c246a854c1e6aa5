package authservertest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
)

// A client that pushes signed requests and gets encrypted JWTs as responses, with every algorithm of
// the FAPI profiles.
func TestPushedSignedRequestsAndResponseJWTs(t *testing.T) {
	for _, alg := range []jose.Algorithm{jose.PS256, jose.ES256, jose.EdDSA} {
		t.Run(string(alg), func(t *testing.T) {
			private, err := jose.GenerateKey(alg)
			if err != nil {
				t.Fatal(err)
			}
			signer, err := jose.NewSigner(alg, "signing", private)
			if err != nil {
				t.Fatal(err)
			}
			encryption, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			decrypter, err := jose.NewDecrypter("encryption", encryption)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := json.Marshal(jose.KeySet{Keys: []jose.JWK{signer.Public(), decrypter.Public()}})
			if err != nil {
				t.Fatal(err)
			}
			const redirectURI = "https://bank.example/callback"
			s := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
				Users: []configuration.User{{Username: "ada", Password: "correct horse battery"}},
				Clients: []configuration.Client{{ID: "bank", ClientMetadata: oauth.ClientMetadata{
					RedirectURIs: []string{redirectURI}, TokenEndpointAuthMethod: oauth.AuthMethodPrivateKeyJWT, JWKS: keys,
					RequirePushedAuthorizationRequests: true, RequireSignedRequestObject: true, RequestObjectSigningAlg: string(alg),
					IDTokenSignedResponseAlg: string(alg), AuthorizationSignedResponseAlg: string(alg),
					AuthorizationEncryptedResponseAlg: "ECDH-ES", AuthorizationEncryptedResponseEnc: "A256GCM",
				}}},
			}})
			c, err := client.Discover(t.Context(), client.Config{
				Issuer: s.Issuer, ClientID: "bank", PrivateKey: private, KeyID: "signing", SigningAlg: alg, RedirectURI: redirectURI, Scopes: []string{"openid"},
				PushAuthorizationRequests: true, RequestObjectSigningAlg: alg,
				AuthorizationSigningAlg: alg, AuthorizationEncryptionAlg: jose.ECDHES, DecryptionKeys: []*jose.Decrypter{decrypter},
			})
			if err != nil {
				t.Fatal(err)
			}
			address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
			if err != nil {
				t.Fatal(err)
			}
			callback := s.Callback(t, address, redirectURI, "ada", "correct horse battery")
			if !strings.HasPrefix(callback.RawQuery, "response=") || len(callback.Query()) != 1 {
				t.Errorf("the response is %s, want a JWT alone", callback.RawQuery)
			}
			tokens, err := c.Callback(t.Context(), transaction, callback.Query())
			if err != nil || tokens.Identity.Subject == "" {
				t.Fatalf("%v, %v", tokens, err)
			}
			// The same parameters in the URL of the browser are refused.
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			u.RawQuery = url.Values{"client_id": {"bank"}, "response_type": {"code"}, "scope": {"openid"}, "redirect_uri": {redirectURI}, "nonce": {"n"}}.Encode()
			refused := s.Callback(t, u.String(), redirectURI, "ada", "correct horse battery")
			if refused.Query().Get("error") != string(oauth.InvalidRequest) {
				t.Errorf("a plain request ends at %s", refused)
			}
		})
	}
}
