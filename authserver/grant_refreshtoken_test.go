package authserver_test

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// synctestScene runs f in a synctest bubble. Without clients in the setup, it declares app and other.
func synctestScene(t *testing.T, setup scriptSetup, f func(t *testing.T, s *scene)) {
	synctest.Test(t, func(t *testing.T) {
		if setup.Clients == nil {
			setup.Clients = []testClient{confidential("app"), confidential("other")}
		}
		f(t, newScene(t, setup))
	})
}

func TestRT01_ReplayAfterTheWindowEndsTheFamily(t *testing.T) {
	synctestScene(t, scriptSetup{}, func(t *testing.T, s *scene) {
		first := s.tokens("ada", "app", "openid")
		second := s.refresh("app", first.RefreshToken)
		time.Sleep(31 * time.Second)
		s.refresh("app", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.refresh("app", second.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		for _, token := range []string{first.AccessToken, second.AccessToken} {
			s.userinfo(token).want(t, http.StatusUnauthorized, oauth.InvalidToken)
		}
	})
}

// If the response is lost, a retry gets the same successor, and the user stays signed in.
func TestRT03_RetryAfterALostResponse(t *testing.T) {
	synctestScene(t, scriptSetup{}, func(t *testing.T, s *scene) {
		first := s.tokens("ada", "app", "openid")
		lost := s.refresh("app", first.RefreshToken)
		time.Sleep(30 * time.Second)
		again := s.refresh("app", first.RefreshToken)
		again.want(t, http.StatusOK, "")
		if again.RefreshToken != lost.RefreshToken {
			t.Error("the retry got a different successor")
		}
		s.refresh("app", again.RefreshToken).want(t, http.StatusOK, "")
	})
}

// If a token is used after its successor, two parties have tokens of one authorization, even within
// the retry window. This detects a thief who refreshes twice just before or after the client.
func TestRT04_ReplayAfterTheSuccessorWasUsedEndsTheFamily(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app"), confidential("other")}}, store, nil)
		first := s.tokens("ada", "app", "openid")
		second := s.refresh("app", first.RefreshToken) // by the thief
		third := s.refresh("app", second.RefreshToken)
		s.refresh("other", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.userinfo(third.AccessToken).want(t, http.StatusOK, "") // another client cannot end the family
		s.refresh("app", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.refresh("app", third.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		for _, a := range []apiResponse{first, second, third} {
			s.userinfo(a.AccessToken).want(t, http.StatusUnauthorized, oauth.InvalidToken)
		}
	})
}

// A client that loses each response once stays signed in.
func TestRT03_RepeatedRetriesAreNotReplays(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
		token := s.tokens("ada", "app", "openid").RefreshToken
		for range 5 {
			lost := s.refresh("app", token)
			again := s.refresh("app", token)
			again.want(t, http.StatusOK, "")
			if again.RefreshToken != lost.RefreshToken {
				t.Fatal("the retry got a different successor")
			}
			token = again.RefreshToken
		}
	})
}

// Refresh token reuse is also detected if the token is sent as a subject_token.
func TestRT04_ReplayAsSubjectTokenIsDetected(t *testing.T) {
	s := newScene(t, scriptSetup{
		Clients: []testClient{confidential("app", func(c *record.Client) {
			c.GrantTypes = append(c.GrantTypes, oauth.GrantTypeTokenExchange)
		})},
		Resources:     []record.Resource{{Identifier: "https://api.example"}},
		TokenExchange: []authserver.TokenExchangeRule{{Clients: []string{"app"}, Impersonation: true, Resources: []string{"https://api.example"}, SubjectTokenTypes: []string{oauth.TokenTypeRefreshToken}}},
	})
	first := s.tokens("ada", "app", "openid")
	second := s.refresh("app", first.RefreshToken)
	third := s.refresh("app", second.RefreshToken)
	if a := s.exchange("app", first.RefreshToken, oauth.TokenTypeRefreshToken, oauth.TokenTypeAccessToken); a.status != http.StatusBadRequest {
		t.Errorf("a spent refresh token is exchanged: %d %s", a.status, a.body)
	}
	s.refresh("app", third.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
}

func TestRT05_RT06_OtherClientsCannotUseARefreshToken(t *testing.T) {
	synctestScene(t, scriptSetup{}, func(t *testing.T, s *scene) {
		first := s.tokens("ada", "app", "openid")
		s.refresh("other", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		second := s.refresh("app", first.RefreshToken)
		a := s.refresh("other", first.RefreshToken) // within the window
		a.want(t, http.StatusBadRequest, oauth.InvalidGrant)
		if a.RefreshToken != "" {
			t.Error("another client got the successor")
		}
		s.refresh("app", second.RefreshToken).want(t, http.StatusOK, "")
	})
}

func TestRT09_FamiliesEndAtTheMaximumLifetime(t *testing.T) {
	synctestScene(t, scriptSetup{}, func(t *testing.T, s *scene) {
		began := time.Now()
		a := s.tokens("ada", "app", "openid")
		for a.status == http.StatusOK {
			time.Sleep(24 * time.Hour)
			if a = s.refresh("app", a.RefreshToken); time.Since(began) > 40*24*time.Hour {
				t.Fatal("a family that is refreshed daily does not end")
			}
		}
		if age := time.Since(began); age != 30*24*time.Hour {
			t.Errorf("the family ended after %s", age)
		}
	})
}

func TestRT10_SpentTokensStaySpentAfterARestart(t *testing.T) {
	synctestScene(t, scriptSetup{}, func(t *testing.T, s *scene) {
		code := s.code("ada", "app", "scope", "openid")
		first := s.redeem("app", code)
		second := s.refresh("app", first.RefreshToken)
		restarted, err := authserver.New(s.config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(restarted.Close)
		s.server = restarted
		again := s.refresh("app", first.RefreshToken)
		if again.RefreshToken != second.RefreshToken {
			t.Error("after a restart, a retry gets a different successor")
		}
		time.Sleep(31 * time.Second)
		s.refresh("app", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	})
}

func TestRT20_RefreshFailsAfterOfflineAccessIsWithdrawn(t *testing.T) {
	synctestScene(t, scriptSetup{}, func(t *testing.T, s *scene) {
		a := s.tokens("ada", "app", "openid offline_access")
		clear(s.sessions)
		a = s.refresh("app", a.RefreshToken)
		a.want(t, http.StatusOK, "")
		c := confidential("app").Client
		c.Secrets, c.Scope = []string{testSecret}, "openid"
		if err := s.store.Declare(t.Context(), time.Now(), "test", memory.Declaration{Clients: []record.Client{c}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s.refresh("app", a.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	})
}

func TestCN07_SE05_RevokingConsentEndsTokens(t *testing.T) {
	synctestScene(t, scriptSetup{
		Scopes:    []record.Scope{{Name: "photos"}},
		Resources: []record.Resource{{Identifier: "https://api.example", Scopes: []string{"photos"}, AccessTokenFormat: record.AccessTokenOpaque}},
		Clients:   []testClient{confidential("app", func(c *record.Client) { c.Scope = "openid photos" })},
	}, func(t *testing.T, s *scene) {
		jwt, opaque := s.tokens("ada", "app", "openid"), s.tokens("ada", "app", "photos")
		active := func(a apiResponse) bool { return s.post("/introspect", "app", "token", a.AccessToken).Active }
		if !active(jwt) || !active(opaque) {
			t.Fatal("the new tokens are not active")
		}
		code := s.code("ada", "app")
		grant, err := s.store.Grant(t.Context(), "ada", "app")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.store.DeleteGrant(t.Context(), grant.ID); err != nil {
			t.Fatal(err)
		}
		if active(jwt) || active(opaque) {
			t.Error("an access token is active after the consent was revoked")
		}
		s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		for _, a := range []apiResponse{jwt, opaque} {
			s.refresh("app", a.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		}
	})
}

// failingStore is a store in which one method fails.
type failingStore struct {
	*memory.Store
	method string
}

var errStore = errors.New("secret-detail-of-the-database")

func (f *failingStore) err(method string) error {
	if f.method == method {
		return errStore
	}
	return nil
}

func (f *failingStore) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	if err := f.err("Put"); err != nil {
		return err
	}
	return f.Store.Put(ctx, now, tickets...)
}

func (f *failingStore) Get(ctx context.Context, now time.Time, key storage.Key) (storage.Ticket, error) {
	if err := f.err("Get"); err != nil {
		return storage.Ticket{}, err
	}
	return f.Store.Get(ctx, now, key)
}

func (f *failingStore) GetAll(ctx context.Context, now time.Time, keys ...storage.Key) ([]storage.Ticket, error) {
	if err := f.err("Get"); err != nil {
		return nil, err
	}
	return f.Store.GetAll(ctx, now, keys...)
}

func (f *failingStore) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	if err := f.err("Spend"); err != nil {
		return err
	}
	return f.Store.Spend(ctx, now, spend, put...)
}

func (f *failingStore) Grant(ctx context.Context, subject, clientID string) (*record.Grant, error) {
	if err := f.err("Grant"); err != nil {
		return nil, err
	}
	return f.Store.Grant(ctx, subject, clientID)
}

func (f *failingStore) PutAndFind(ctx context.Context, now time.Time, find record.Find, put ...storage.Ticket) (record.Found, error) {
	if err := f.err("Put"); err != nil {
		return record.Found{}, err
	}
	found, err := f.Store.PutAndFind(ctx, now, find, put...)
	return found, cmp.Or(err, f.err("Grant"))
}

func (f *failingStore) DeleteFamily(ctx context.Context, family string, kinds ...storage.Kind) error {
	if err := f.err("DeleteFamily"); err != nil {
		return err
	}
	return f.Store.DeleteFamily(ctx, family, kinds...)
}

func (f *failingStore) Version(ctx context.Context) (int64, error) {
	if err := f.err("Version"); err != nil {
		return 0, err
	}
	return f.Store.Version(ctx)
}

// A request fails if the database fails, and the response does not contain the error of the database.
func TestLO06_RT12_RequestsFailIfTheStoreFails(t *testing.T) {
	for method, requests := range map[string][]string{
		"Put":          {"authorize", "redeem"},
		"Grant":        {"redeem"},
		"Get":          {"redeem a stored code", "replay", "refresh", "userinfo", "introspect", "revoke refresh", "revoke access"},
		"Spend":        {"redeem a stored code", "refresh"},
		"DeleteFamily": {"revoke refresh", "replay"},
		"Version":      {"authorize", "redeem", "refresh", "client credentials", "introspect"},
	} {
		for _, request := range requests {
			t.Run(method+" "+request, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := &failingStore{Store: memory.New()}
					s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
					stored := codeForms()["stored"]
					a, code, storedCode := s.tokens("ada", "app", "openid"), s.code("ada", "app"), s.code("ada", "app", stored...)
					spent := s.code("ada", "app")
					s.redeem("app", spent)
					// Another node has an empty cache.
					node, err := authserver.New(s.config)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(node.Close)
					s.server = node
					store.method = method
					got := map[string]func() apiResponse{
						"authorize": func() apiResponse {
							response := s.authorize("ada", query("app", stored...))
							location, err := response.Location()
							if err == nil && location.Query().Get("code") != "" {
								return apiResponse{status: http.StatusOK}
							}
							return apiResponse{status: http.StatusServiceUnavailable}
						},
						"redeem":               func() apiResponse { return s.redeem("app", code) },
						"redeem a stored code": func() apiResponse { return s.redeem("app", storedCode) },
						"replay":               func() apiResponse { return s.redeem("app", spent) },
						"refresh":              func() apiResponse { return s.refresh("app", a.RefreshToken) },
						"userinfo":             func() apiResponse { return s.userinfo(a.AccessToken) },
						"introspect":           func() apiResponse { return s.post("/introspect", "app", "token", a.AccessToken) },
						"revoke refresh":       func() apiResponse { return s.post("/revoke", "app", "token", a.RefreshToken) },
						"revoke access":        func() apiResponse { return s.post("/revoke", "app", "token", a.AccessToken) },
						"client credentials":   func() apiResponse { return s.post("/token", "app", "grant_type", "client_credentials") },
					}[request]()
					if got.status < 500 {
						t.Errorf("status %d %s", got.status, got.body)
					}
					if contains(got, "secret-detail") {
						t.Errorf("the response contains the error of the database: %s", got.body)
					}
				})
			})
		}
	}
}
