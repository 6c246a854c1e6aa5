package authservertest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/oauth/resourceserver"
	"github.com/valetkey/valetkey/storage/record"
)

// An API accepts opaque tokens by responses that the server signs, and encrypts, with every
// algorithm of the FAPI profiles (RFC 9701).
func TestSignedIntrospectionOfOpaqueTokens(t *testing.T) {
	const resource, secret = "https://api.example.com", "a secret with thirty-two characters"
	encryption, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	decrypter, err := jose.NewDecrypter("encryption", encryption)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.KeySet{Keys: []jose.JWK{decrypter.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		alg jose.Algorithm
		api oauth.ClientMetadata
	}{
		{jose.RS256, oauth.ClientMetadata{}},
		{jose.PS256, oauth.ClientMetadata{IntrospectionSignedResponseAlg: "PS256"}},
		{jose.ES256, oauth.ClientMetadata{IntrospectionSignedResponseAlg: "ES256", IntrospectionEncryptedResponseAlg: "ECDH-ES"}},
		{jose.EdDSA, oauth.ClientMetadata{
			IntrospectionSignedResponseAlg: "EdDSA", IntrospectionEncryptedResponseAlg: "ECDH-ES+A256KW", IntrospectionEncryptedResponseEnc: "A256GCM",
		}},
	} {
		t.Run(string(test.alg), func(t *testing.T) {
			api, own := test.api, []string{oauth.GrantTypeClientCredentials}
			api.GrantTypes = own
			config := resourceserver.Config{
				Resource: resource, ClientID: "api", ClientSecret: secret,
				RequireSignedIntrospection: true, Algorithms: []jose.Algorithm{test.alg},
			}
			if api.IntrospectionEncryptedResponseAlg != "" {
				api.JWKS, config.IntrospectionDecryptionKeys = keys, []*jose.Decrypter{decrypter}
			}
			s := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
				Scopes:    []record.Scope{{Name: "photos:read"}},
				Resources: []record.Resource{{Identifier: resource, Scopes: []string{"photos:read"}, AccessTokenFormat: "opaque", IntrospectionClients: []string{"api"}}},
				Clients: []configuration.Client{
					{ID: "api", Secret: secret, ClientMetadata: api},
					{ID: "app", Secret: secret, ClientMetadata: oauth.ClientMetadata{GrantTypes: own, Scope: "photos:read"}},
				},
			}})
			config.Issuer = s.Issuer
			guard, err := resourceserver.New(config)
			if err != nil {
				t.Fatal(err)
			}
			app, err := client.Discover(t.Context(), client.Config{Issuer: s.Issuer, ClientID: "app", ClientSecret: secret, Scopes: []string{"photos:read"}})
			if err != nil {
				t.Fatal(err)
			}
			tokens, err := app.ClientCredentials(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			handler := guard.Require("photos:read")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			for token, want := range map[string]int{tokens.AccessToken: http.StatusOK, "unknown": http.StatusUnauthorized} {
				r, w := httptest.NewRequest(http.MethodGet, resource, nil), httptest.NewRecorder()
				r.Header.Set("Authorization", "Bearer "+token)
				handler.ServeHTTP(w, r)
				if w.Code != want {
					t.Errorf("%d %s, want %d", w.Code, w.Body, want)
				}
			}
		})
	}
}
