package authservertest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

// One token has the claims that the operator configures, that the embedder adds and that a hook
// returns, in this order of precedence.
func TestClaimsOfExpressionFunctionAndHook(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"claims": {"roles": "the hook's", "tenant": "the hook's", "plan": "the hook's"}}`)
	}))
	defer service.Close()
	const secret = "0123456789abcdef0123456789abcdef"
	s := authservertest.NewServer(t, authservertest.Config{
		Declarations: configuration.Declarations{
			Clients: []configuration.Client{{
				ID: "app", Secret: secret,
				ClientMetadata: oauth.ClientMetadata{RedirectURIs: []string{"http://127.0.0.1/callback"}},
				ClientSettings: record.ClientSettings{AccessTokenClaims: []string{"roles"}},
			}},
			Users: []configuration.User{{Username: "ada", Password: "engine no. 1", Claims: map[string]any{"groups": []string{"notes-editors", "payroll"}}}},
		},
		Claims: []authserver.ClaimMapping{{Name: "roles", Expression: `filter(person.groups ?? [], # startsWith "notes-")`}},
		TokenClaims: func(_ context.Context, r authserver.TokenRequest) (oauth.Claims, error) {
			if _, ok := r.Claims["roles"]; r.Kind == authserver.ClaimsOfAccessToken && !ok {
				t.Errorf("the function does not see what the token has: %+v", r)
			}
			return oauth.Claims{"roles": "the function's", "tenant": "the function's"}, nil
		},
		Hooks: []configuration.Hook{{URL: service.URL, Secret: "whsec_" + base64.StdEncoding.EncodeToString([]byte(secret))}},
	})
	tokens := s.Tokens(t, client.Config{ClientID: "app", ClientSecret: secret, RedirectURI: "http://127.0.0.1/callback", Scopes: []string{"openid"}}, "ada", "engine no. 1")
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(tokens.AccessToken, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Roles        any
		Tenant, Plan string
	}
	if err := json.Unmarshal(payload, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{[]any{"notes-editors"}, "the function's", "the hook's"}, []any{got.Roles, got.Tenant, got.Plan}); diff != "" {
		t.Error(diff)
	}
}
