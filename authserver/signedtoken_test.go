package authserver_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// The response is encoded once, but whether a token is active is decided for each request.
func TestIntrospectionDecidesForEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, scriptSetup{
			Clients:   []testClient{confidential("app"), confidential("api"), confidential("other")},
			Scopes:    []record.Scope{{Name: "read"}},
			Resources: []record.Resource{{Identifier: "https://api.example", Scopes: []string{"read"}, IntrospectionClients: []string{"api"}}},
		})
		introspect := func(client, token string) apiResponse {
			t.Helper()
			a := s.post("/introspect", client, "token", token)
			if a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
			return a
		}
		for name, end := range map[string]func(tokens apiResponse){
			"it expires":                   func(apiResponse) { time.Sleep(11 * time.Minute) },
			"it is revoked":                func(a apiResponse) { s.post("/revoke", "app", "token", a.AccessToken).want(t, http.StatusOK, "") },
			"its authorization is revoked": func(a apiResponse) { s.post("/revoke", "app", "token", a.RefreshToken).want(t, http.StatusOK, "") },
		} {
			tokens := s.redeem("app", s.code("ada", "app", "resource", "https://api.example"))
			first := introspect("app", tokens.AccessToken)
			if !first.Active {
				t.Fatalf("%s: %s", name, first.body)
			}
			for range 2 {
				if again := introspect("app", tokens.AccessToken); again.body != first.body {
					t.Errorf("the response was %s and is %s", first.body, again.body)
				}
				if api := introspect("api", tokens.AccessToken); api.body != first.body {
					t.Errorf("the client gets %s and the API %s", first.body, api.body)
				}
				if other := introspect("other", tokens.AccessToken); other.body != `{"active":false}` {
					t.Errorf("another client gets %s", other.body)
				}
			}
			end(tokens)
			for _, client := range []string{"app", "api"} {
				if after := introspect(client, tokens.AccessToken); after.body != `{"active":false}` {
					t.Errorf("after %s: %s", name, after.body)
				}
			}
		}
	})
}

// Requests share the claims of a token. A hook gets copies.
func TestAHookCannotChangeATokenOfLaterRequests(t *testing.T) {
	s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, memory.New(), func(c *authserver.Config) {
		c.Hooks.TokenClaims = func(_ context.Context, r authserver.TokenRequest) (oauth.Claims, error) {
			if r.Kind != authserver.ClaimsOfUserinfo {
				return nil, nil
			}
			for _, values := range [][]string{r.Audience, r.AMR} {
				for i := range values {
					values[i] = "changed"
				}
			}
			return nil, nil
		}
	})
	tokens := s.redeem("app", s.code("ada", "app", "scope", "openid"))
	for range 2 {
		s.userinfo(tokens.AccessToken).want(t, http.StatusOK, "")
	}
}
