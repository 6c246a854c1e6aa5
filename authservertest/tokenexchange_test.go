package authservertest_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	exchangeSecret = "0123456789abcdef0123456789abcdef"
	ordersAPI      = "https://orders.example.com"
	stockAPI       = "https://stock.example.com"
)

// newExchange starts a server where the orders API calls the stock API on behalf of users. The
// rule allows orders and courier, but courier lacks what else is required.
func newExchange(t *testing.T, tokenClaims func(context.Context, authserver.TokenRequest) (oauth.Claims, error)) *authservertest.Server {
	service := func(id string) configuration.Client {
		return configuration.Client{ID: id, Secret: exchangeSecret, ClientMetadata: oauth.ClientMetadata{
			GrantTypes: []string{oauth.GrantTypeTokenExchange, oauth.GrantTypeClientCredentials}, Scope: "buy count",
		}}
	}
	return authservertest.NewServer(t, authservertest.Config{
		Declarations: configuration.Declarations{
			Clients: []configuration.Client{service("orders"), service("courier"), {ID: "shop", Secret: exchangeSecret, ClientMetadata: oauth.ClientMetadata{
				RedirectURIs: []string{"https://shop.example.com/callback"}, Scope: "openid buy",
			}}},
			Users:  []configuration.User{{Username: "ada", Password: "engine no. 1"}},
			Scopes: []record.Scope{{Name: "buy", Description: "Buy"}, {Name: "count", Description: "Count"}},
			Resources: []record.Resource{
				{Identifier: ordersAPI, Scopes: []string{"buy"}, IntrospectionClients: []string{"orders", "courier"}},
				{Identifier: stockAPI, Scopes: []string{"count"}},
			},
		},
		TokenExchange: []authserver.TokenExchangeRule{{
			Clients: []string{"orders", "courier"}, Resources: []string{stockAPI}, Scopes: []string{"count"},
		}},
		TokenClaims: tokenClaims,
	})
}

func discover(t *testing.T, s *authservertest.Server, config client.Config) *client.Client {
	t.Helper()
	config.Issuer, config.ClientSecret = s.Issuer, exchangeSecret
	c, err := client.Discover(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// delegated exchanges a token with the client's own token as actor_token.
func delegated(t *testing.T, c *client.Client, subject string) (*client.ExchangedToken, error) {
	t.Helper()
	own, err := c.ClientCredentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.TokenExchange(t.Context(), client.TokenExchangeRequest{
		SubjectToken: subject, ActorToken: own.AccessToken, Resources: []string{stockAPI}, Scopes: []string{"count"},
	})
}

func TestAnAPICallsAnotherOneForThePerson(t *testing.T) {
	s := newExchange(t, nil)
	tokens := s.Tokens(t, client.Config{
		ClientID: "shop", ClientSecret: exchangeSecret, RedirectURI: "https://shop.example.com/callback", Scopes: []string{"openid", "buy"}, Resources: []string{ordersAPI},
	}, "ada", "engine no. 1")
	orders := discover(t, s, client.Config{ClientID: "orders", Scopes: []string{"buy"}, Resources: []string{ordersAPI}})
	got, err := delegated(t, orders, tokens.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	if got.IssuedTokenType != oauth.TokenTypeAccessToken || got.TokenType != oauth.TokenTypeBearer || got.Expiry.IsZero() || got.Expiry.After(tokens.Expiry) {
		t.Errorf("%s %s until %s", got.IssuedTokenType, got.TokenType, got.Expiry)
	}
	var claims struct {
		Subject  string         `json:"sub"`
		ClientID string         `json:"client_id"`
		Audience oauth.Audience `json:"aud"`
		Scope    string         `json:"scope"`
		Actor    struct {
			Subject string `json:"sub"`
		} `json:"act"`
	}
	readClaims(t, got.Token, &claims)
	want := claims
	want.Subject, want.ClientID, want.Audience, want.Scope, want.Actor.Subject = tokens.Identity.Subject, "orders", oauth.Audience{stockAPI}, "count", "orders"
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Error(diff)
	}
	_, err = orders.TokenExchange(t.Context(), client.TokenExchangeRequest{SubjectToken: tokens.AccessToken, Resources: []string{stockAPI}})
	if refusal, ok := errors.AsType[*client.Error](err); !ok || refusal.Code != oauth.InvalidRequest || !strings.Contains(refusal.Description, "impersonation") {
		t.Errorf("without an actor: %v", err)
	}
}

func TestTX07_MayActNamesWhoMay(t *testing.T) {
	s := newExchange(t, func(_ context.Context, r authserver.TokenRequest) (oauth.Claims, error) {
		if r.ClientID == "shop" {
			return oauth.Claims{"may_act": map[string]any{"client_id": "orders"}}, nil
		}
		return nil, nil
	})
	tokens := s.Tokens(t, client.Config{
		ClientID: "shop", ClientSecret: exchangeSecret, RedirectURI: "https://shop.example.com/callback", Scopes: []string{"buy"}, Resources: []string{ordersAPI},
	}, "ada", "engine no. 1")
	if _, err := delegated(t, discover(t, s, client.Config{ClientID: "orders", Scopes: []string{"buy"}, Resources: []string{ordersAPI}}), tokens.AccessToken); err != nil {
		t.Errorf("who is named: %v", err)
	}
	_, err := delegated(t, discover(t, s, client.Config{ClientID: "courier", Scopes: []string{"buy"}, Resources: []string{ordersAPI}}), tokens.AccessToken)
	if refusal, ok := errors.AsType[*client.Error](err); !ok || refusal.Code != oauth.InvalidRequest || !strings.Contains(refusal.Description, "does not allow this party to act") {
		t.Errorf("another client: %v", err)
	}
}

func readClaims(t *testing.T, token string, into any) {
	t.Helper()
	payload, err := jose.UnverifiedPayload(token)
	if err != nil {
		t.Fatal(err)
	}
	if err := jose.ParseJSON(payload, into); err != nil {
		t.Fatal(err)
	}
}
