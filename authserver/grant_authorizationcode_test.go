package authserver_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

func TestAC04_CodesAreValidForAMinute(t *testing.T) {
	for wait, status := range map[time.Duration]int{59 * time.Second: http.StatusOK, 60 * time.Second: http.StatusBadRequest, 61 * time.Second: http.StatusBadRequest} {
		for form, change := range codeForms() {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
				code := s.code("ada", "app", change...)
				time.Sleep(wait)
				if a := s.redeem("app", code); a.status != status {
					t.Errorf("%s code, after %s: %d %s", form, wait, a.status, a.body)
				}
			})
		}
	}
}

func TestAC05_CodesAreUnique(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	seen := map[string]bool{}
	for _, change := range codeForms() {
		for range 1000 {
			code := s.code("ada", "app", change...)
			// 43 characters of base64url are 256 bits: of a random secret, or of a random nonce and an
			// authentication tag. The rest is time, checksum and content.
			if seen[code] || len(code) < len("vk_ac_")+43 {
				t.Fatalf("code %q", code)
			}
			seen[code] = true
		}
	}
}

// storeSpy records everything that an engine stores, as text.
type storeSpy struct {
	*memory.Store
	mu     sync.Mutex // traces are stored in the background
	stored strings.Builder
}

func (s *storeSpy) record(tickets []storage.Ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tickets {
		s.stored.Write(t.ID[:])
		s.stored.Write(t.Data)
		s.stored.WriteString(t.Family + t.Grant)
	}
}

func (s *storeSpy) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	s.record(tickets)
	return s.Store.Put(ctx, now, tickets...)
}

func (s *storeSpy) PutAndFind(ctx context.Context, now time.Time, find record.Find, put ...storage.Ticket) (record.Found, error) {
	return putThenFind(ctx, now, s, s.Store, find, put)
}

func (s *storeSpy) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	s.record(put)
	return s.Store.Spend(ctx, now, spend, put...)
}

func (s *storeSpy) SaveTraces(ctx context.Context, max int, traces ...record.Trace) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range traces {
		for _, c := range t.Checks {
			s.stored.WriteString(c.Detail)
		}
	}
	return s.Store.SaveTraces(ctx, max, traces...)
}

func TestAC06_RT19_NoSecretIsStored(t *testing.T) {
	for _, change := range codeForms() {
		store := &storeSpy{Store: memory.New()}
		s := newSceneOn(t, scriptSetup{
			Clients:   []testClient{confidential("app")},
			Resources: []record.Resource{{Identifier: "https://api.example", AccessTokenFormat: record.AccessTokenOpaque}},
		}, store, nil)
		code := s.code("ada", "app", append(change, "resource", "https://api.example")...)
		a := s.redeem("app", code)
		b := s.refresh("app", a.RefreshToken)
		s.redeem("app", code) // a replay stores a trace
		s.refresh("app", b.RefreshToken)
		s.post("/token", "app", "grant_type", "authorization_code", "code", code, "code_verifier", strings.Repeat("x", 50))
		s.server.Close()
		for name, secret := range map[string]string{
			"code": code, "refresh token": a.RefreshToken, "rotated refresh token": b.RefreshToken, "opaque access token": a.AccessToken,
			"client secret": testSecret, "verifier": testVerifier,
		} {
			if secret == "" || strings.Contains(store.stored.String(), secret) {
				t.Errorf("the %s %q is stored in plain text", name, secret)
			}
		}
		if !strings.Contains(store.stored.String(), `"app"`) {
			t.Error("nothing was recorded")
		}
	}
}

func TestAC09_CodesOfDeletedUsersAreRefused(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	for _, change := range codeForms() {
		s.users["bob"] = oauth.Claims{}
		code := s.code("bob", "app", change...)
		delete(s.users, "bob")
		s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	}
}

// Changes to a client apply within a second, including to codes that were issued before.
func TestAC10_CA18_ClientChangesApplyToIssuedCodes(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*record.Client)
		status int
		code   oauth.ErrorCode
	}{
		"disabled":        {func(c *record.Client) { c.Disabled = true }, http.StatusUnauthorized, oauth.InvalidClient},
		"replaced secret": {func(c *record.Client) { c.Secrets = []string{"another secret of 32 characters!!"} }, http.StatusUnauthorized, oauth.InvalidClient},
		"grant removed":   {func(c *record.Client) { c.GrantTypes = []string{"client_credentials"} }, http.StatusBadRequest, oauth.UnauthorizedClient},
		"method changed":  {func(c *record.Client) { c.TokenEndpointAuthMethod = "private_key_jwt" }, http.StatusUnauthorized, oauth.InvalidClient},
		"unchanged":       {func(*record.Client) {}, http.StatusOK, ""},
	} {
		for form, request := range codeForms() {
			t.Run(name+", "+form+" code", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
					code := s.code("ada", "app", request...)
					changed := confidential("app").Client
					changed.Secrets = []string{testSecret}
					test.change(&changed)
					if err := s.store.Declare(t.Context(), time.Now(), "test", memory.Declaration{Clients: []record.Client{changed}}); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					s.redeem("app", code).want(t, test.status, test.code)
				})
			})
		}
	}
}

// Each credential is accepted only in the parameter that it is meant for.
func TestAC11_JW21_CredentialsAreNotInterchangeable(t *testing.T) {
	s := newScene(t, scriptSetup{
		Clients:   []testClient{confidential("app")},
		Scopes:    []record.Scope{{Name: "opaque"}},
		Resources: []record.Resource{{Identifier: "https://api.example", Scopes: []string{"opaque"}, AccessTokenFormat: record.AccessTokenOpaque}},
	})
	a := s.tokens("ada", "app", "openid")
	assertion, err := s.sign("ES256", oauth.TypClientAuthentication, "", map[string]any{"iss": "app", "sub": "app", "aud": scriptIssuer, "jti": "1", "exp": "60s"})
	if err != nil {
		t.Fatal(err)
	}
	interaction := interactionOf(s.authorize("", query("app")).Header.Get("Location"))
	credentials := map[string]string{
		"code": s.code("ada", "app"), "stored code": s.code("ada", "app", codeForms()["stored"]...), "refresh token": a.RefreshToken, "access token": a.AccessToken, "ID token": a.IDToken,
		"opaque access token": s.redeem("app", s.code("ada", "app", "resource", "https://api.example")).AccessToken,
		"client assertion":    assertion, "interaction": interaction,
	}
	parameters := map[string]struct {
		accepts string // the kind of credential, or "" for none of these
		try     func(string) bool
	}{
		"code":          {"code", func(x string) bool { return s.redeem("app", x).status == http.StatusOK }},
		"refresh_token": {"refresh token", func(x string) bool { return s.refresh("app", x).status == http.StatusOK }},
		"userinfo":      {"access token", func(x string) bool { return s.userinfo(x).status == http.StatusOK }},
		"id_token_hint": {"ID token", func(x string) bool {
			location, err := s.authorize("ada", query("app", "scope", "openid", "id_token_hint", x)).Location()
			return err == nil && location.Query().Get("code") != ""
		}},
		"client_assertion": {"", func(x string) bool {
			return s.post("/token", "", "grant_type", "client_credentials", "client_assertion_type", oauth.ClientAssertionTypeJWTBearer, "client_assertion", x).status == http.StatusOK
		}},
	}
	for parameter, p := range parameters {
		for name, credential := range credentials {
			if credential == "" {
				t.Fatalf("there is no %s", name)
			}
			if accepted := p.try(credential); accepted != (strings.TrimPrefix(name, "stored ") == p.accepts) {
				t.Errorf("%s as %s: accepted is %v", name, parameter, accepted)
			}
		}
	}
}

func TestAC13_UnregisteredGrantTypesAreRefused(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) { c.GrantTypes = []string{"authorization_code"} })}})
	for _, name := range []string{"client_credentials", "refresh_token"} {
		s.post("/token", "app", "grant_type", name, "refresh_token", "x").want(t, http.StatusBadRequest, oauth.UnauthorizedClient)
	}
	for _, name := range []string{"password", "implicit", "AUTHORIZATION_CODE", "authorization_code "} {
		s.post("/token", "app", "grant_type", name).want(t, http.StatusBadRequest, oauth.UnsupportedGrantType)
	}
}
