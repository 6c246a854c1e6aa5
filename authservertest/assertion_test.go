package authservertest_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

// Two companies: users sign in at one of them, whose wiki calls the chat of the other on their
// behalf. The chat's server finds the keys through the metadata of the identity provider.
func TestAnIDJAGLeadsFromOneServerToAnother(t *testing.T) {
	verified := true
	idp := authservertest.NewServer(t, authservertest.Config{
		Declarations: configuration.Declarations{
			Clients: []configuration.Client{{ID: "wiki", Secret: exchangeSecret, ClientMetadata: oauth.ClientMetadata{
				RedirectURIs: []string{"https://wiki.example.com/callback"}, Scope: "openid email",
				GrantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeTokenExchange},
			}}},
			Users: []configuration.User{{Username: "ada", Password: "engine no. 1", Email: "ada@example.com", EmailVerified: &verified}},
		},
		TokenExchange: []authserver.TokenExchangeRule{{
			Clients: []string{"wiki"}, RequestedTokenTypes: []string{oauth.TokenTypeIDJAG}, Audiences: []string{"https://chat.example.com"},
			AudienceClientID: "wiki-at-chat", Scopes: []string{"chat.read"},
		}},
	})
	chat := authservertest.NewServer(t, authservertest.Config{
		Declarations: configuration.Declarations{
			Clients: []configuration.Client{{ID: "wiki-at-chat", Secret: exchangeSecret, ClientSettings: record.ClientSettings{SkipConsent: true}, ClientMetadata: oauth.ClientMetadata{
				Scope: "chat.read", GrantTypes: []string{oauth.GrantTypeJWTBearer},
			}}},
			Users:     []configuration.User{{Username: "countess", Password: "engine no. 2", Email: "ada@example.com", EmailVerified: &verified}},
			Scopes:    []record.Scope{{Name: "chat.read", Description: "Read the chat"}},
			Resources: []record.Resource{{Identifier: "https://api.chat.example.com", Scopes: []string{"chat.read"}}},
		},
		TrustedIssuers: []authserver.TrustedIssuer{{
			Issuer: idp.Issuer, Uses: []string{authserver.UseIdentityAssertion}, Clients: []string{"wiki-at-chat"}, Scopes: []string{"chat.read"},
			Audience: "https://chat.example.com", SubjectByEmail: true,
		}},
	})
	tokens := idp.Tokens(t, client.Config{
		ClientID: "wiki", ClientSecret: exchangeSecret, RedirectURI: "https://wiki.example.com/callback", Scopes: []string{"openid", "email"},
	}, "ada", "engine no. 1")
	grant, err := discover(t, idp, client.Config{ClientID: "wiki"}).TokenExchange(t.Context(), client.TokenExchangeRequest{
		SubjectToken: tokens.IDToken, SubjectTokenType: oauth.TokenTypeIDToken, RequestedTokenType: oauth.TokenTypeIDJAG,
		Audiences: []string{"https://chat.example.com"}, Scopes: []string{"chat.read"},
	})
	if err != nil {
		t.Fatal(err)
	}
	there := discover(t, chat, client.Config{ClientID: "wiki-at-chat", Scopes: []string{"chat.read"}})
	got, err := there.JWTBearer(t.Context(), grant.Token)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
		Scope   string `json:"scope"`
	}
	readClaims(t, got.AccessToken, &claims)
	if claims.Issuer != chat.Issuer || claims.Subject == tokens.Identity.Subject || claims.Scope != "chat.read" || got.RefreshToken != "" {
		t.Errorf("%+v", claims)
	}
	if _, err := there.JWTBearer(t.Context(), grant.Token); !errors.Is(err, &client.Error{Code: oauth.InvalidGrant}) {
		t.Errorf("a second time: %v", err)
	}
}

func TestAWorkloadNeedsNoSecret(t *testing.T) {
	private, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := jose.NewSigner(jose.ES256, "cluster", private)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.KeySet{Keys: []jose.JWK{cluster.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	const issuer = "https://kubernetes.default.svc"
	s := authservertest.NewServer(t, authservertest.Config{
		Declarations: configuration.Declarations{Clients: []configuration.Client{{
			ID: "backup", ClientMetadata: oauth.ClientMetadata{TokenEndpointAuthMethod: oauth.AuthMethodFederatedJWT, GrantTypes: []string{oauth.GrantTypeClientCredentials}},
			ClientSettings: record.ClientSettings{WorkloadIdentity: &record.WorkloadIdentity{Issuer: issuer, Subject: "system:serviceaccount:jobs:backup"}},
		}}},
		TrustedIssuers: []authserver.TrustedIssuer{{Issuer: issuer, JWKS: keys, Uses: []string{authserver.UseClientAuthentication}, Audience: "valetkey"}},
	})
	account := "backup"
	c, err := client.Discover(t.Context(), client.Config{Issuer: s.Issuer, ClientID: "backup", ClientAssertion: func(context.Context) (string, error) {
		payload, err := json.Marshal(map[string]any{
			"iss": issuer, "sub": "system:serviceaccount:jobs:" + account, "aud": []string{"valetkey"},
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		})
		if err != nil {
			return "", err
		}
		token, err := cluster.Sign("", payload)
		return token + "\n", err
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ClientCredentials(t.Context()); err != nil {
		t.Error(err)
	}
	account = "default"
	if _, err := c.ClientCredentials(t.Context()); !errors.Is(err, &client.Error{Code: oauth.InvalidClient}) {
		t.Errorf("another service account: %v", err)
	}
}
