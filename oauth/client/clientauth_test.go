package client_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"io"
	"math/big"
	"testing"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
)

// kms is a key in a key management service. It returns its public key and ASN.1 signatures.
type kms struct {
	crypto.Signer
	contexts *[]context.Context
}

func (k kms) SignContext(ctx context.Context, random io.Reader, digest []byte, options crypto.SignerOpts) ([]byte, error) {
	*k.contexts = append(*k.contexts, ctx)
	return k.Sign(random, digest, options)
}

func TestPrivateKeyJWTWithAKeyManagementService(t *testing.T) {
	p := newProvider(t)
	key := newKey(t)
	var contexts []context.Context
	var _ jose.ContextSigner = kms{}
	c := p.discover(t, func(config *client.Config) {
		config.ClientSecret, config.PrivateKey, config.KeyID = "", kms{key, &contexts}, "kms-1"
	})
	if _, err := c.ClientCredentials(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(contexts) != 1 {
		t.Errorf("the service was called %d times with a context", len(contexts))
	}
	checkAssertion(t, p.last(t, "/token").form, "ES256", "kms-1", func(input string, signature []byte) bool {
		sum := sha256.Sum256([]byte(input))
		return len(signature) == 64 && ecdsa.Verify(&key.PublicKey, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	})
}

// CU-04: a malicious server that makes the client use its token endpoint must not get an
// assertion that another server accepts.
func TestCU04_AssertionAudienceIsOnlyTheIssuer(t *testing.T) {
	p := newProvider(t)
	p.metadata["token_endpoint"] = p.issuer + "/token?as=https://victim.example/token"
	key := newKey(t)
	c := p.discover(t, func(config *client.Config) { config.ClientSecret, config.PrivateKey, config.KeyID = "", key, "k" })
	if _, err := c.ClientCredentials(t.Context()); err != nil {
		t.Fatal(err)
	}
	payload, err := jose.UnverifiedPayload(p.last(t, "/token").form.Get("client_assertion"))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jose.ParseClaims(payload, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(claims.Audience) != 1 || claims.Audience[0] != p.issuer || claims.AudienceIsArray {
		t.Errorf("the audience is %v, want only the issuer", claims.Audience)
	}
	// The other endpoints are those of the malicious server, which gets the assertion (section
	// 2.1.1.3 of draft-ietf-oauth-security-topics-update-03).
	p.metadata["pushed_authorization_request_endpoint"] = p.issuer + "/par"
	p.metadata["device_authorization_endpoint"] = p.issuer + "/device"
	c = p.discover(t, func(config *client.Config) {
		config.ClientSecret, config.PrivateKey, config.KeyID, config.PushAuthorizationRequests = "", key, "k", true
	})
	_, _, _ = c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	_ = c.Revoke(t.Context(), &client.Tokens{AccessToken: "a token"})
	_, _ = c.DeviceAuthorization(t.Context())
	for _, path := range []string{"/par", "/revoke", "/device"} {
		payload, err := jose.UnverifiedPayload(p.last(t, path).form.Get("client_assertion"))
		if err != nil {
			t.Fatal(path, err)
		}
		if claims, err := jose.ParseClaims(payload, nil); err != nil || len(claims.Audience) != 1 || claims.Audience[0] != p.issuer {
			t.Errorf("%s: the audience is %v, %v", path, claims.Audience, err)
		}
	}
	// Metadata with another issuer is rejected.
	if _, err := client.New(oauth.ServerMetadata{Issuer: "https://victim.example", TokenEndpoint: "https://evil.example/token"},
		client.Config{Issuer: "https://evil.example", ClientID: "app"}); err == nil {
		t.Error("a malicious server chose the issuer, and with it the audience")
	}
}
