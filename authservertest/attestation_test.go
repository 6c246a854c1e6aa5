package authservertest_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
)

// attester is the backend of a native application.
type attester struct {
	signer *jose.Signer
	// lifetimes of its next attestations; an hour if there are none.
	lifetimes []time.Duration
	issued    int
}

func (a *attester) attest(sub string, key jose.JWK) func(context.Context, bool) (string, error) {
	return func(context.Context, bool) (string, error) {
		lifetime := time.Hour
		if a.issued < len(a.lifetimes) {
			lifetime = a.lifetimes[a.issued]
		}
		a.issued++
		payload, err := json.Marshal(map[string]any{"sub": sub, "exp": time.Now().Add(lifetime).Unix(), "cnf": map[string]any{"jwk": key}})
		if err != nil {
			return "", err
		}
		return a.signer.Sign(oauth.TypClientAttestation, payload)
	}
}

// The client library authenticates with an attestation and either proof of possession.
func TestAttestationBasedClientAuthentication(t *testing.T) {
	private, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	backend := &attester{}
	if backend.signer, err = jose.NewSigner(jose.ES256, "attester", private); err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.KeySet{Keys: []jose.JWK{backend.signer.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	instance, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	public, err := jose.NewSigner(jose.ES256, "", instance)
	if err != nil {
		t.Fatal(err)
	}
	dpopKey, err := dpop.NewKey(jose.ES256, instance)
	if err != nil {
		t.Fatal(err)
	}
	another, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	anotherPublic, err := jose.NewSigner(jose.ES256, "", another)
	if err != nil {
		t.Fatal(err)
	}
	const redirectURI = "com.example.wallet:/callback"
	declared := func(id, method string) configuration.Client {
		return configuration.Client{ID: id, ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{redirectURI}, TokenEndpointAuthMethod: method, JWKS: keys, ApplicationType: oauth.ApplicationNative,
			GrantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		}}
	}
	s := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
		Users:   []configuration.User{{Username: "ada", Password: "correct horse battery"}},
		Clients: []configuration.Client{declared("wallet", oauth.AuthMethodAttestation), declared("combined", oauth.AuthMethodAttestationDPoP)},
	}})
	for _, test := range []struct {
		config, thief client.Config
	}{
		{client.Config{ClientID: "wallet", InstanceKey: instance, Attestation: backend.attest("wallet", public.Public())},
			client.Config{ClientID: "wallet", InstanceKey: another, Attestation: backend.attest("wallet", anotherPublic.Public())}},
		{client.Config{ClientID: "combined", DPoPKey: dpopKey, Attestation: backend.attest("combined", public.Public())},
			client.Config{ClientID: "combined", DPoPKey: dpopKey, Attestation: backend.attest("combined", anotherPublic.Public())}},
	} {
		t.Run(test.config.ClientID, func(t *testing.T) {
			config := test.config
			config.Issuer, config.RedirectURI, config.Scopes, config.PushAuthorizationRequests = s.Issuer, redirectURI, []string{"openid"}, true
			// The provider refuses the first attestation as expired, and the client gets another one.
			backend.issued, backend.lifetimes = 0, []time.Duration{-time.Hour}
			tokens := s.Tokens(t, config, "ada", "correct horse battery")
			c, err := client.Discover(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			tokens, err = c.Refresh(t.Context(), tokens)
			if err != nil {
				t.Fatal(err)
			}
			config = test.thief
			config.Issuer = s.Issuer
			thief, err := client.Discover(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := thief.Refresh(t.Context(), tokens); err == nil {
				t.Error("another instance used the refresh token")
			}
			if _, err := c.Refresh(t.Context(), tokens); err != nil {
				t.Errorf("the instance itself: %v", err)
			}
			// An attestation that stays expired is not requested for ever.
			backend.issued, backend.lifetimes = 0, []time.Duration{-time.Hour, -time.Hour, -time.Hour, -time.Hour}
			if _, err := c.Refresh(t.Context(), tokens); !errors.Is(err, &client.Error{Code: oauth.UseFreshAttestation}) || backend.issued != 2 {
				t.Errorf("%v after %d attestations", err, backend.issued)
			}
		})
	}
}
