package authserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// voucherGrantType is an extension grant. A voucher is for a user or for the client itself, and
// can be used once.
const voucherGrantType = "https://server.example.com/grants/voucher"

func voucherGrant() authserver.GrantType {
	return authserver.GrantType{Name: voucherGrantType, Entitle: func(ctx context.Context, r *authserver.GrantRequest) (*authserver.Entitlement, error) {
		voucher := r.Param("voucher")
		e := &authserver.Entitlement{
			Scope: oauth.Scope{"openid", "email", "notes.read", "notes.write"}, Claims: oauth.Claims{"voucher": voucher},
			Once: voucher, UsableUntil: r.Now.Add(time.Hour),
		}
		if r.Client.Secrets != nil {
			return nil, errors.New("the grant type gets the client's secrets")
		}
		switch kind, _, _ := strings.Cut(voucher, "-"); kind {
		case "ada":
			e.Subject, e.RefreshToken = "ada", true
			if claims, err := r.Claims(ctx, "ada"); err != nil || claims["email"] == nil {
				return nil, errors.Join(err, errors.New("ada has no email claim"))
			}
		case "once": // without a refresh token
			e.Subject, e.AuthTime, e.AMR = "ada", r.Now.Add(-time.Minute), []string{"sms"}
		case "gone":
			e.Subject = "gone"
		case "machine":
			e.Scope = oauth.Scope{"notes.read"}
		case "nobody": // the scope openid without a user
		case "reserved":
			e.Subject, e.Claims["sub"] = "ada", "mallory"
		case "payroll":
			e.Subject, e.Resources = "ada", []string{"https://payroll.example.com"}
		case "broken":
			return nil, errors.New("the voucher database is unavailable")
		case "nothing":
			return nil, nil
		default:
			return nil, oauth.NewError(oauth.InvalidGrant, "there is no such voucher")
		}
		return e, nil
	}}
}

// tokenClaims is a hook that adds claims, refuses some scopes, and fails for others.
func tokenClaims(_ context.Context, r authserver.TokenRequest) (oauth.Claims, error) {
	switch {
	case r.Scope.Has("secrets.read") && r.Kind == authserver.ClaimsOfAccessToken:
		return nil, oauth.NewError(oauth.AccessDenied, "not at this hour")
	case r.Scope.Has("secrets.write"):
		return oauth.Claims{"sub": "mallory"}, nil
	case r.Scope.Has("secrets.long"):
		return oauth.Claims{"long": strings.Repeat("x", 12<<10)}, nil
	case r.Scope.Has("secrets.list"):
		return nil, errors.New("the directory is unavailable")
	case r.Scope.Has("secrets.own") && r.Kind == authserver.ClaimsOfUserinfo:
		return nil, oauth.NewError(oauth.AccessDenied, "not at this hour")
	}
	by := r.GrantType
	if by == "" {
		by = "UserInfo"
	}
	return oauth.Claims{"tenant": "for " + r.Subject + " by " + by, "voucher": "not this one", "email": "nobody@example.com"}, nil
}

func TestInvalidGrantTypes(t *testing.T) {
	base := newScene(t, scriptSetup{}).config
	entitle := voucherGrant().Entitle
	for _, test := range []struct {
		name   string
		grants []authserver.GrantType
	}{
		{"built-in name", []authserver.GrantType{{oauth.GrantTypeAuthorizationCode, entitle}}},
		{"IETF name", []authserver.GrantType{{"urn:ietf:params:oauth:grant-type:voucher", entitle}}},
		{"not a URI", []authserver.GrantType{{"voucher", entitle}}},
		{"no name", []authserver.GrantType{{"", entitle}}},
		{"no function", []authserver.GrantType{{Name: voucherGrantType}}},
		{"duplicate", []authserver.GrantType{voucherGrant(), voucherGrant()}},
	} {
		config := base
		config.Hooks.GrantTypes = test.grants
		if _, err := authserver.New(config); err == nil {
			t.Errorf("%s is accepted", test.name)
		}
	}
}

func TestMetadataListsExtensionGrants(t *testing.T) {
	s := voucherScene(t, memory.New())
	a := s.do(httptest.NewRequest(http.MethodGet, scriptIssuer+oauth.WellKnownAuthorizationServer, nil))
	var m oauth.ServerMetadata
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(m.GrantTypesSupported, voucherGrantType) || !slices.Contains(m.GrantTypesSupported, oauth.GrantTypeAuthorizationCode) {
		t.Errorf("grant_types_supported is %q", m.GrantTypesSupported)
	}
}

func voucherScene(t *testing.T, store database) *scene {
	return newSceneOn(t, scriptSetup{Clients: []testClient{confidential("kiosk", func(c *record.Client) {
		c.GrantTypes = []string{voucherGrantType, oauth.GrantTypeRefreshToken}
		c.Scope = "openid notes.read"
	})}, Scopes: []record.Scope{{Name: "notes.read"}}, Users: map[string]oauth.Claims{"ada": {"email": "ada@example.com"}}, Hooks: true}, store, nil)
}

func (s *scene) voucher(voucher string) apiResponse {
	return s.post("/token", "kiosk", "grant_type", voucherGrantType, "voucher", voucher)
}

// Only one of many concurrent requests with the same voucher gets tokens.
func TestAVoucherCanBeUsedOnce(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := voucherScene(t, store)
		var racing sync.WaitGroup
		responses := make([]apiResponse, 8)
		for i := range responses {
			racing.Go(func() { responses[i] = s.voucher("machine-1") })
		}
		racing.Wait()
		got := 0
		for _, a := range responses {
			if a.AccessToken != "" {
				got++
			} else if a.Error != "invalid_grant" && a.Error != "temporarily_unavailable" {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
		if got != 1 {
			t.Errorf("%d requests got tokens for one voucher", got)
		}
	})
}

// An access token that was issued without a refresh token can be revoked by the client, and by the
// user through the grant.
func TestAnAccessTokenWithoutARefreshTokenCanBeRevoked(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := voucherScene(t, store)
		a, b := s.voucher("once-1"), s.voucher("once-2")
		if a.AccessToken == "" || a.RefreshToken != "" {
			t.Fatal(a.body)
		}
		for _, token := range []string{a.AccessToken, b.AccessToken} {
			if got := s.userinfo(token); got.Sub != "ada" {
				t.Errorf("UserInfo: %d %s", got.status, got.body)
			}
		}
		if got := s.post("/revoke", "kiosk", "token", a.AccessToken); got.status != 200 {
			t.Fatal(got.body)
		}
		if got := s.userinfo(a.AccessToken); got.status != 401 {
			t.Errorf("after the revocation: %d %s", got.status, got.body)
		}
		grants, err := store.GrantsOf(t.Context(), "ada")
		if err != nil || len(grants) != 1 || grants[0].ClientID != "kiosk" || !grants[0].Scope.Has("notes.read") {
			t.Fatalf("the grants are %+v, %v", grants, err)
		}
		if err := store.DeleteGrant(t.Context(), grants[0].ID); err != nil {
			t.Fatal(err)
		}
		if got := s.userinfo(b.AccessToken); got.status != 401 {
			t.Errorf("after the user revoked the grant: %d %s", got.status, got.body)
		}
	})
}

// Only the operator can allow an extension grant for a client.
func TestClientsCannotRegisterForExtensionGrants(t *testing.T) {
	s := newScene(t, scriptSetup{Hooks: true, Registration: authserver.RegistrationPolicy{Mode: authserver.RegistrationOpen}})
	status, client := s.register(map[string]any{
		"redirect_uris": []string{testCallback}, "grant_types": []string{oauth.GrantTypeAuthorizationCode, voucherGrantType},
	})
	if status != 201 || !reflect.DeepEqual(client["grant_types"], []any{oauth.GrantTypeAuthorizationCode}) {
		t.Errorf("%d %v", status, client)
	}
}

// The server would not accept an access token of this size itself.
func TestAnAccessTokenThatIsTooLongIsNotIssued(t *testing.T) {
	s := newScene(t, scriptSetup{Hooks: true, Clients: []testClient{confidential("web", func(c *record.Client) { c.Scope = "secrets.long" })}, Scopes: []record.Scope{{Name: "secrets.long"}}})
	if a := s.post("/token", "web", "grant_type", "client_credentials"); a.Error != "server_error" || a.AccessToken != "" {
		t.Errorf("%d %.200s", a.status, a.body)
	}
}
