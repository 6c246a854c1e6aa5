package authserver_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

func duration(d time.Duration) record.Duration { return record.Duration(d) }

// withoutRotation lets a client use its refresh token more than once.
func withoutRotation(c *record.Client) { c.RefreshTokenReuse = true }

// extraClaims returns the claims of an access token that RFC 9068 does not define.
func (s *scene) extraClaims(token string) map[string]any {
	s.t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		s.t.Fatalf("%q is not a JWT", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		s.t.Fatal(err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		s.t.Fatal(err)
	}
	for _, name := range []string{"iss", "sub", "aud", "client_id", "exp", "iat", "jti", "scope", "auth_time", "acr", "amr"} {
		delete(claims, name)
	}
	return claims
}

func TestAccessTokenLifetimesOfClientsAndResources(t *testing.T) {
	const five, fifteen, unset = "https://five.example.com/", "https://fifteen.example.com/", "https://unset.example.com/"
	setup := scriptSetup{
		Clients: []testClient{
			confidential("plain"),
			confidential("twelve", func(c *record.Client) { c.AccessTokenLifetime = duration(12 * time.Minute) }),
		},
		Resources: []record.Resource{
			{Identifier: five, AccessTokenLifetime: duration(5 * time.Minute)},
			{Identifier: fifteen, AccessTokenLifetime: duration(15 * time.Minute)},
			{Identifier: unset},
		},
	}
	s := newScene(t, setup)
	for _, test := range []struct {
		client    string
		resources []string
		seconds   int64
	}{
		{"plain", nil, 600},
		{"twelve", nil, 720},
		{"plain", []string{five}, 300},
		{"twelve", []string{five}, 300},
		{"plain", []string{fifteen}, 900},
		{"twelve", []string{fifteen}, 720},
		{"plain", []string{fifteen, unset}, 600},
		{"twelve", []string{fifteen, unset}, 720},
		{"plain", []string{five, fifteen}, 300},
	} {
		form := []string{"grant_type", "client_credentials"}
		for _, r := range test.resources {
			form = append(form, "resource", r)
		}
		a := s.post("/token", test.client, form...)
		if a.ExpiresIn != test.seconds {
			t.Errorf("%s for %v: expires_in is %d, want %d: %s", test.client, test.resources, a.ExpiresIn, test.seconds, a.body)
		}
	}
}

// The response says how long the refresh token and the authorization are valid
// (draft-ietf-oauth-refresh-token-expiration), also for a token that is returned again because the
// response may have been lost, and for one that is not rotated.
func TestRefreshTokenExpirationIsReported(t *testing.T) {
	lifetimes := func(c *record.Client) {
		c.RefreshTokenLifetime, c.RefreshTokenMaxLifetime = duration(20*time.Minute), duration(30*time.Minute)
	}
	setup := scriptSetup{Clients: []testClient{confidential("rotated", lifetimes), confidential("reused", lifetimes, withoutRotation), confidential("none", func(c *record.Client) {
		c.GrantTypes = []string{oauth.GrantTypeAuthorizationCode}
	})}}
	synctestScene(t, setup, func(t *testing.T, s *scene) {
		want := func(a apiResponse, timeout, authorization time.Duration) {
			t.Helper()
			if a.RefreshTokenTimeout != int64(timeout/time.Second) || a.AuthorizationExpiresIn != int64(authorization/time.Second) {
				t.Errorf("%d and %d seconds, want %s and %s: %s", a.RefreshTokenTimeout, a.AuthorizationExpiresIn, timeout, authorization, a.body)
			}
		}
		rotated, reused := s.tokens("ada", "rotated", "openid"), s.tokens("ada", "reused", "openid")
		want(rotated, 20*time.Minute, 30*time.Minute)
		want(reused, 20*time.Minute, 30*time.Minute)
		want(s.tokens("ada", "none", "openid"), 0, 0)
		time.Sleep(5 * time.Minute)
		first := rotated.RefreshToken
		rotated = s.refresh("rotated", first)
		want(rotated, 20*time.Minute, 25*time.Minute)
		want(s.refresh("reused", reused.RefreshToken), 20*time.Minute, 25*time.Minute)
		time.Sleep(10 * time.Second)
		want(s.refresh("rotated", first), 20*time.Minute-10*time.Second, 25*time.Minute-10*time.Second)
		want(s.refresh("reused", reused.RefreshToken), 20*time.Minute-10*time.Second, 25*time.Minute-10*time.Second) // not extended for ten seconds
		time.Sleep(15 * time.Minute)
		want(s.refresh("rotated", rotated.RefreshToken), 10*time.Minute-10*time.Second, 10*time.Minute-10*time.Second)
	})
}

// An access token does not outlive the refresh token that was issued with it. Otherwise introspection
// would report it as inactive before its exp.
func TestAccessTokensDoNotOutliveTheirAuthorization(t *testing.T) {
	client := confidential("app", func(c *record.Client) {
		c.AccessTokenLifetime, c.RefreshTokenLifetime = duration(time.Hour), duration(20*time.Minute)
		c.RefreshTokenMaxLifetime = duration(30 * time.Minute)
	})
	synctestScene(t, scriptSetup{Clients: []testClient{client}}, func(t *testing.T, s *scene) {
		a := s.tokens("ada", "app", "openid")
		if a.ExpiresIn != 1200 {
			t.Errorf("expires_in is %d, but the refresh token lasts 20 minutes", a.ExpiresIn)
		}
		time.Sleep(19 * time.Minute)
		a = s.refresh("app", a.RefreshToken)
		if a.ExpiresIn != 660 {
			t.Errorf("expires_in is %d, but the authorization ends in 11 minutes", a.ExpiresIn)
		}
		time.Sleep(11*time.Minute - time.Second)
		s.userinfo(a.AccessToken).want(t, http.StatusOK, "")
		s.refresh("app", a.RefreshToken).want(t, http.StatusOK, "")
		time.Sleep(time.Second)
		s.refresh("app", a.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	})
}

func TestRefreshTokenPolicyOfAClient(t *testing.T) {
	client := confidential("app", func(c *record.Client) {
		c.RefreshTokenLifetime, c.RefreshTokenMaxLifetime = duration(time.Hour), duration(3*time.Hour)
		c.RefreshRetry = duration(time.Second)
	})
	synctestScene(t, scriptSetup{Clients: []testClient{client, confidential("other")}}, func(t *testing.T, s *scene) {
		idle := s.tokens("ada", "app", "openid")
		time.Sleep(time.Hour)
		s.refresh("app", idle.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)

		began, a := time.Now(), s.tokens("ada", "app", "openid")
		for a.status == http.StatusOK {
			time.Sleep(30 * time.Minute)
			a = s.refresh("app", a.RefreshToken)
		}
		if lasted := time.Since(began); lasted != 3*time.Hour {
			t.Errorf("the family lasted %s", lasted)
		}

		first := s.tokens("ada", "app", "openid")
		s.refresh("app", first.RefreshToken).want(t, http.StatusOK, "")
		time.Sleep(1001 * time.Millisecond)
		s.refresh("app", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant) // a replay, because the retry window is one second

		other := s.tokens("ada", "other", "openid")
		time.Sleep(4 * time.Hour)
		s.refresh("other", other.RefreshToken).want(t, http.StatusOK, "")
	})
}

// The idle and absolute lifetimes apply without rotation too.
func TestRT09_LifetimesApplyWithoutRotation(t *testing.T) {
	client := confidential("app", withoutRotation, func(c *record.Client) {
		c.RefreshTokenLifetime, c.RefreshTokenMaxLifetime = duration(8*time.Hour), duration(24*time.Hour)
	})
	synctestScene(t, scriptSetup{Clients: []testClient{client}}, func(t *testing.T, s *scene) {
		first := s.tokens("ada", "app", "openid")
		again := s.refresh("app", first.RefreshToken)
		if again.status != http.StatusOK || again.RefreshToken != "" {
			t.Fatalf("the response to the refresh is %s", again.body)
		}
		time.Sleep(8 * time.Hour)
		s.refresh("app", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)

		began, used := time.Now(), s.tokens("ada", "app", "openid")
		for a := used; a.status == http.StatusOK; {
			time.Sleep(7 * time.Hour)
			a = s.refresh("app", used.RefreshToken)
		}
		if lasted := time.Since(began); lasted != 28*time.Hour { // 21 hours are within the limit of 24, 28 are not
			t.Errorf("the token lasted %s", lasted)
		}
	})
}

// writeCounter counts the writes to a store.
type writeCounter struct {
	database
	writes int
}

func (c *writeCounter) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	c.writes++
	return c.database.Put(ctx, now, tickets...)
}

func (c *writeCounter) PutAndFind(ctx context.Context, now time.Time, find record.Find, put ...storage.Ticket) (record.Found, error) {
	c.writes++
	return c.database.PutAndFind(ctx, now, find, put...)
}

func (c *writeCounter) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	c.writes++
	return c.database.Spend(ctx, now, spend, put...)
}

func (c *writeCounter) SetExpires(ctx context.Context, now time.Time, key storage.Key, expires time.Time) error {
	c.writes++
	return c.database.SetExpires(ctx, now, key, expires)
}

func TestRefreshWithoutRotationRarelyWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &writeCounter{database: memory.New()}
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app", withoutRotation)}}, store, nil)
		token := s.tokens("ada", "app", "openid").RefreshToken
		before := store.writes
		for range 24 * 7 { // hourly for a week; an unused token is valid for 14 days
			s.refresh("app", token).want(t, http.StatusOK, "")
			time.Sleep(time.Hour)
		}
		if n := store.writes - before; n == 0 || n > 4 {
			t.Errorf("a week of refreshes took %d writes", n)
		}
	})
}

// Without rotation, revoking a refresh token immediately invalidates it and all tokens issued with
// it, including opaque tokens, and including on the node that issued them.
func TestRT14_RevocationWithoutRotationIsImmediate(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		setup := scriptSetup{
			Clients:   []testClient{confidential("app", withoutRotation)},
			Resources: []record.Resource{{Identifier: "https://opaque.example.com/", AccessTokenFormat: record.AccessTokenOpaque, IntrospectionClients: []string{"app"}}},
		}
		s := newSceneOn(t, setup, store, nil)
		a := s.redeem("app", s.code("ada", "app", "resource", "https://opaque.example.com/"))
		b := s.refresh("app", a.RefreshToken)
		for _, token := range []string{a.AccessToken, b.AccessToken} {
			if !s.post("/introspect", "app", "token", token).Active {
				t.Fatal("a new token is not active")
			}
		}
		s.post("/revoke", "app", "token", a.RefreshToken).want(t, http.StatusOK, "")
		for _, token := range []string{a.AccessToken, b.AccessToken, a.RefreshToken} {
			if s.post("/introspect", "app", "token", token).Active {
				t.Error("a token is active after its authorization was revoked")
			}
		}
		s.refresh("app", a.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	})
}

// The operator can turn rotation on and off while clients have tokens.
func TestRotationCanBeTurnedOnAndOff(t *testing.T) {
	store := memory.New()
	declare := func(t *testing.T, reuse bool) {
		c := confidential("app", func(c *record.Client) { c.RefreshTokenReuse = reuse })
		c.Secrets = []string{c.Secret}
		if err := store.Declare(t.Context(), time.Now(), "test", memory.Declaration{Clients: []record.Client{c.Client}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond) // nodes check for changes once a second
	}
	synctestScene(t, scriptSetup{Clients: []testClient{confidential("app")}}, func(t *testing.T, _ *scene) {
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
		first := s.tokens("ada", "app", "openid")
		second := s.refresh("app", first.RefreshToken)
		declare(t, true)
		if again := s.refresh("app", second.RefreshToken); again.status != http.StatusOK || again.RefreshToken != "" {
			t.Errorf("without rotation: %s", again.body)
		}
		if retried := s.refresh("app", first.RefreshToken); retried.RefreshToken != second.RefreshToken {
			t.Errorf("a retry of the rotation: %s", retried.body)
		}
		declare(t, false)
		third := s.refresh("app", second.RefreshToken)
		if third.status != http.StatusOK || third.RefreshToken == "" {
			t.Fatalf("with rotation: %s", third.body)
		}
		time.Sleep(time.Minute)
		s.refresh("app", second.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.refresh("app", third.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	})
}

func TestOldestAuthorizationEndsAtTheLimit(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		two := confidential("app", func(c *record.Client) { c.MaxAuthorizations = 2 })
		s := newSceneOn(t, scriptSetup{Clients: []testClient{two}, Users: map[string]oauth.Claims{"ada": {}, "bob": {}}}, store, nil)
		bob := s.tokens("bob", "app", "openid")
		var devices []apiResponse
		signIn := func() {
			time.Sleep(2 * time.Millisecond) // stores have a resolution of one millisecond
			devices = append(devices, s.tokens("ada", "app", "openid"))
		}
		signIn()
		signIn()
		devices[0] = s.refresh("app", devices[0].RefreshToken) // it remains the oldest one
		signIn()
		s.refresh("app", devices[0].RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.userinfo(devices[0].AccessToken).want(t, http.StatusUnauthorized, oauth.InvalidToken)
		// A revoked authorization is not counted.
		s.post("/revoke", "app", "token", devices[2].RefreshToken)
		signIn()
		for i, ok := range []bool{false, true, false, true} {
			if a := s.refresh("app", devices[i].RefreshToken); (a.status == http.StatusOK) != ok {
				t.Errorf("device %d: %d %s", i, a.status, a.body)
			}
		}
		s.refresh("app", bob.RefreshToken).want(t, http.StatusOK, "")
	})
}

func TestAccessTokenClaims(t *testing.T) {
	const api = "https://api.example.com/"
	setup := scriptSetup{
		Clients: []testClient{confidential("app", func(c *record.Client) { c.AccessTokenClaims = []string{"locale"} }), confidential("plain")},
		Users:   map[string]oauth.Claims{"ada": {"department": "analysis", "locale": "en-GB", "email": "ada@example.com"}},
		Resources: []record.Resource{
			{Identifier: api, AccessTokenClaims: []string{"groups", "locale"}},
			{Identifier: "https://other.example.com/"},
			{Identifier: "https://opaque.example.com/", AccessTokenFormat: record.AccessTokenOpaque, AccessTokenClaims: []string{"groups"}, IntrospectionClients: []string{"app"}},
		},
		ClaimMappings: []authserver.ClaimMapping{{Name: "groups", From: "department"}},
	}
	s := newScene(t, setup)
	for _, test := range []struct {
		client, resource string
		want             map[string]any
	}{
		{"app", api, map[string]any{"groups": "analysis", "locale": "en-GB"}},
		{"plain", api, map[string]any{"groups": "analysis", "locale": "en-GB"}},
		{"plain", "https://other.example.com/", map[string]any{}},
		{"app", "https://other.example.com/", map[string]any{"locale": "en-GB"}},
	} {
		a := s.redeem(test.client, s.code("ada", test.client, "resource", test.resource))
		for range 2 {
			got := s.extraClaims(a.AccessToken)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s for %s (-want +got):\n%s", test.client, test.resource, diff)
			}
			a = s.refresh(test.client, a.RefreshToken)
		}
	}
	opaque := s.redeem("app", s.code("ada", "app", "resource", "https://opaque.example.com/"))
	if body := s.post("/introspect", "app", "token", opaque.AccessToken).body; !strings.Contains(body, `"groups":"analysis"`) {
		t.Errorf("introspection returns %s", body)
	}
	// The next token has the user's changed claims.
	a := s.redeem("app", s.code("ada", "app", "resource", api))
	s.users["ada"] = oauth.Claims{"department": "sales"}
	if got := s.extraClaims(s.refresh("app", a.RefreshToken).AccessToken); !cmp.Equal(got, map[string]any{"groups": "sales"}) {
		t.Errorf("after the change: %v", got)
	}
	// A client credentials token has no claims about a user.
	credentials := s.post("/token", "app", "grant_type", "client_credentials", "resource", api)
	if got := s.extraClaims(credentials.AccessToken); len(got) != 0 {
		t.Errorf("a client credentials token has %v", got)
	}
}

// A key stays published until every token that it may have signed has expired.
func TestKeysAreKeptForTheLongestTokenLifetime(t *testing.T) {
	client := confidential("app", func(c *record.Client) { c.AccessTokenLifetime = duration(24 * time.Hour) })
	synctestScene(t, scriptSetup{Clients: []testClient{client}}, func(t *testing.T, s *scene) {
		a := s.tokens("ada", "app", "openid")
		if _, err := authserver.RotateKeys(t.Context(), s.store, time.Now(), authserver.KeyRotation{Now: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24*time.Hour - time.Minute)
		if err := s.server.RotateKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.userinfo(a.AccessToken).want(t, http.StatusOK, "")
	})
}

func TestInvalidTokenPoliciesAreRefused(t *testing.T) {
	for _, test := range []struct {
		change func(*record.Client)
		want   string
	}{
		{func(c *record.Client) { c.AccessTokenLifetime = duration(25 * time.Hour) }, "access_token_lifetime"},
		{func(c *record.Client) { c.IDTokenLifetime = duration(time.Millisecond) }, "id_token_lifetime"},
		{func(c *record.Client) { c.RefreshTokenLifetime = duration(time.Second) }, "refresh_token_lifetime"},
		{func(c *record.Client) { c.RefreshRetry = duration(time.Hour) }, "refresh_retry"},
		{func(c *record.Client) { c.MaxAuthorizations = 101 }, "max_authorizations"},
		{func(c *record.Client) { c.AccessTokenClaims = []string{"email", "act"} }, "access_token_claims[1]"},
		{func(c *record.Client) { c.AccessTokenClaims = []string{"status"} }, "access_token_claims[0]"},
		{func(c *record.Client) { c.IDTokenClaims = []string{"email", "nonce"} }, "id_token_claims[1]"},
		{func(c *record.Client) { c.TokenEndpointAuthMethod, c.RefreshTokenReuse = "none", true }, "refresh_token_reuse"},
		{func(c *record.Client) { c.FirstParty = true }, "first_party"},
		{withoutRotation, ""},
	} {
		c := confidential("app", test.change)
		c.Secrets = []string{c.Secret}
		if c.TokenEndpointAuthMethod == "none" {
			c.Secrets, c.GrantTypes = nil, []string{"authorization_code", "refresh_token"}
		}
		problems := fmt.Sprint(authserver.CheckClient(c.Client))
		if test.want == "" && problems != "[]" || !strings.Contains(problems, test.want) {
			t.Errorf("the problems are %s, want one with %q", problems, test.want)
		}
	}
}
