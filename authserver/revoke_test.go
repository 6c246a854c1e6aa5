package authserver_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// statusKey returns the key of the ticket with the status of a token.
func (s *scene) statusKey(token string) storage.Key {
	reference := s.statusReference(token)
	at, err := url.Parse(reference.URI)
	if err != nil {
		s.t.Fatal(err)
	}
	list, err := strconv.ParseUint(at.Query().Get("id"), 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	key := storage.Key{Kind: storage.KindStatus}
	binary.BigEndian.PutUint64(key.ID[:], list)
	binary.BigEndian.PutUint64(key.ID[8:], uint64(reference.Index))
	return key
}

func (s *scene) exchange(client, subject, subjectType, requested string, more ...string) apiResponse {
	s.t.Helper()
	return s.post("/token", client, append([]string{"grant_type", oauth.GrantTypeTokenExchange, "subject_token", subject,
		"subject_token_type", subjectType, "requested_token_type", requested}, more...)...)
}

// exchangeChain is a setup with an application and two services. Each service is called with a
// token for its API, and exchanges it for a token for the next API.
func exchangeChain(format string, outlives bool, requested ...string) scriptSetup {
	service := func(id string) testClient {
		return confidential(id, func(c *record.Client) {
			c.GrantTypes, c.Scope = append(c.GrantTypes, oauth.GrantTypeTokenExchange), "openid offline_access work"
		})
	}
	api := func(id string) record.Resource {
		return record.Resource{Identifier: "https://" + id + ".example", AccessTokenFormat: format, StatusList: format == record.AccessTokenJWT,
			Scopes: []string{"work"}, IntrospectionClients: []string{id}}
	}
	return scriptSetup{
		Clients:   []testClient{service("app"), service("b"), service("c")},
		Scopes:    []record.Scope{{Name: "work"}},
		Resources: []record.Resource{api("b"), api("c"), api("d")},
		TokenExchange: []authserver.TokenExchangeRule{{Clients: []string{"b", "c"}, Impersonation: true, OutlivesSubjectToken: outlives,
			Resources: []string{"https://c.example", "https://d.example"}, RequestedTokenTypes: requested}},
	}
}

// Revoking a token also revokes all tokens that were exchanged for it, directly or indirectly, but
// not its subject token or other tokens.
func TestRevocationIncludesExchangedTokens(t *testing.T) {
	for _, format := range []string{record.AccessTokenJWT, record.AccessTokenOpaque} {
		for _, outlives := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s outlives %v", format, outlives), func(t *testing.T) {
				stores(t, func(t *testing.T, store database) {
					s := newSceneOn(t, exchangeChain(format, outlives, oauth.TokenTypeAccessToken), store, nil)
					// chain returns the tokens of app, b and c, and another one that b got for the
					// same subject token.
					chain := func() []apiResponse {
						a := s.redeem("app", s.code("ada", "app", "scope", "openid offline_access work", "resource", "https://b.example"))
						b := s.exchange("b", a.AccessToken, oauth.TokenTypeAccessToken, oauth.TokenTypeAccessToken, "resource", "https://c.example")
						c := s.exchange("c", b.AccessToken, oauth.TokenTypeAccessToken, oauth.TokenTypeAccessToken, "resource", "https://d.example")
						side := s.exchange("b", a.AccessToken, oauth.TokenTypeAccessToken, oauth.TokenTypeAccessToken, "resource", "https://c.example")
						for _, got := range []apiResponse{a, b, c, side} {
							got.want(t, http.StatusOK, "")
						}
						return []apiResponse{a, b, c, side}
					}
					owners := []string{"app", "b", "c", "b"}
					check := func(step string, tokens []apiResponse, want ...bool) {
						t.Helper()
						var active []bool
						for i, token := range tokens {
							active = append(active, s.post("/introspect", owners[i], "token", token.AccessToken).Active)
						}
						if !slices.Equal(active, want) {
							t.Errorf("%s: active %v, want %v", step, active, want)
						}
						// The published status has changed too.
						if format == record.AccessTokenJWT {
							ended, err := store.FindEnded(t.Context(), time.Now(), 1000)
							if err != nil {
								t.Fatal(err)
							}
							for i, token := range tokens {
								published := slices.ContainsFunc(ended, func(e storage.Ticket) bool { return s.statusKey(token.AccessToken) == e.Key })
								if published == want[i] {
									t.Errorf("%s: token %d is published as ended: %v", step, i, published)
								}
							}
						}
					}
					revoke := func(client, token string) {
						t.Helper()
						s.post("/revoke", client, "token", token).want(t, http.StatusOK, "")
					}
					tokens := chain()
					check("nothing revoked", tokens, true, true, true, true)
					revoke("c", tokens[2].AccessToken)
					check("c revokes its token", tokens, true, true, false, true)
					tokens = chain()
					revoke("b", tokens[1].AccessToken)
					check("b revokes its token", tokens, true, false, false, true)
					s.refresh("app", tokens[0].RefreshToken).want(t, http.StatusOK, "")
					tokens = chain()
					revoke("app", tokens[0].AccessToken)
					check("app revokes its access token", tokens, false, false, false, false)
					s.refresh("app", tokens[0].RefreshToken).want(t, http.StatusOK, "")
					tokens = chain()
					revoke("app", tokens[0].RefreshToken)
					check("app revokes its refresh token", tokens, false, false, false, false)
					tokens = chain()
					grant, err := store.Grant(t.Context(), "ada", "app")
					if err != nil {
						t.Fatal(err)
					}
					if err := store.DeleteGrant(t.Context(), grant.ID); err != nil {
						t.Fatal(err)
					}
					check("the user revokes the grant", tokens, false, false, false, false)
				})
			})
		}
	}
}

// A service exchanges an access token for a refresh token.
func TestRevokingAnExchangedRefreshTokenKeepsTheSubjectToken(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, exchangeChain(record.AccessTokenJWT, true, oauth.TokenTypeRefreshToken, oauth.TokenTypeAccessToken), store, nil)
		get := func() (app, service apiResponse, refreshToken string) {
			app = s.redeem("app", s.code("ada", "app", "scope", "openid offline_access work", "resource", "https://b.example"))
			got := s.exchange("b", app.AccessToken, oauth.TokenTypeAccessToken, oauth.TokenTypeRefreshToken, "scope", "work offline_access", "resource", "https://c.example")
			got.want(t, http.StatusOK, "")
			service = s.refresh("b", got.AccessToken)
			service.want(t, http.StatusOK, "")
			return app, service, got.AccessToken
		}
		app, service, _ := get()
		s.post("/revoke", "b", "token", service.RefreshToken).want(t, http.StatusOK, "")
		if s.post("/introspect", "b", "token", service.AccessToken).Active {
			t.Error("the service's access token is active after its refresh token was revoked")
		}
		if !s.post("/introspect", "app", "token", app.AccessToken).Active {
			t.Error("revoking the service's refresh token ends the application's access token")
		}
		s.refresh("app", app.RefreshToken).want(t, http.StatusOK, "")

		// A replay of the service's refresh token revokes only the service's tokens.
		app, service, first := get()
		s.refresh("b", service.RefreshToken).want(t, http.StatusOK, "")
		s.refresh("b", first).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.refresh("b", service.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.refresh("app", app.RefreshToken).want(t, http.StatusOK, "")

		app, service, _ = get()
		s.post("/revoke", "app", "token", app.RefreshToken).want(t, http.StatusOK, "")
		s.refresh("b", service.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)

		app, service, _ = get()
		s.post("/revoke", "app", "token", app.AccessToken).want(t, http.StatusOK, "")
		s.refresh("b", service.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.refresh("app", app.RefreshToken).want(t, http.StatusOK, "")

		// With offline_access, the tokens of the application and the service survive a logout.
		app, service, _ = get()
		s.end(s.latest())
		s.refresh("b", service.RefreshToken).want(t, http.StatusOK, "")
		s.refresh("app", app.RefreshToken).want(t, http.StatusOK, "")
	})
}

// A client credentials token can be exchanged too.
func TestRevokingAClientCredentialsTokenEndsExchangedTokens(t *testing.T) {
	s := newScene(t, exchangeChain(record.AccessTokenJWT, true, oauth.TokenTypeAccessToken))
	first := s.post("/token", "b", "grant_type", "client_credentials", "scope", "work", "resource", "https://b.example")
	exchanged := s.exchange("b", first.AccessToken, oauth.TokenTypeAccessToken, oauth.TokenTypeAccessToken, "resource", "https://c.example")
	exchanged.want(t, http.StatusOK, "")
	s.post("/revoke", "b", "token", first.AccessToken).want(t, http.StatusOK, "")
	if s.post("/introspect", "b", "token", exchanged.AccessToken).Active {
		t.Error("a token that was exchanged for a revoked token is active")
	}
}

// An exchange that runs while its subject token is revoked does not issue a valid token.
func TestExchangeRacingRevocation(t *testing.T) {
	for _, format := range []string{record.AccessTokenJWT, record.AccessTokenOpaque} {
		stores(t, func(t *testing.T, store database) {
			s := newSceneOn(t, exchangeChain(format, true, oauth.TokenTypeAccessToken), store, nil)
			for range 10 {
				a := s.redeem("app", s.code("ada", "app", "scope", "openid offline_access work", "resource", "https://b.example"))
				var b apiResponse
				race(2, func(i int) {
					if i == 0 {
						b = s.exchange("b", a.AccessToken, oauth.TokenTypeAccessToken, oauth.TokenTypeAccessToken, "resource", "https://c.example")
					} else {
						s.post("/revoke", "app", "token", a.AccessToken).want(t, http.StatusOK, "")
					}
				})
				if b.AccessToken != "" && s.post("/introspect", "b", "token", b.AccessToken).Active {
					t.Error("an exchanged token survived the revocation of its subject token")
				}
			}
		})
	}
}

// The length of a chain of exchanges is limited.
func TestExchangeChainIsLimited(t *testing.T) {
	setup := exchangeChain(record.AccessTokenJWT, false, oauth.TokenTypeAccessToken)
	setup.Resources[1].IntrospectionClients = []string{"b"}
	s := newScene(t, setup)
	a := s.redeem("app", s.code("ada", "app", "scope", "work", "resource", "https://b.example"))
	for n := range 100 {
		next := s.exchange("b", a.AccessToken, oauth.TokenTypeAccessToken, oauth.TokenTypeAccessToken, "resource", "https://c.example")
		if next.status != http.StatusOK {
			if n < 10 {
				t.Errorf("the chain ends after %d exchanges: %s", n, next.body)
			}
			return
		}
		a = next
	}
	t.Error("the chain of exchanges is not limited")
}

// lateStore is a store that can repeat its writes, like a node that has not seen a change yet.
type lateStore struct {
	database
	t   *testing.T
	put []storage.Ticket
}

func (l *lateStore) Put(ctx context.Context, now time.Time, put ...storage.Ticket) error {
	l.put = append(l.put, put...)
	return l.database.Put(ctx, now, put...)
}

func (l *lateStore) PutAndFind(ctx context.Context, now time.Time, find record.Find, put ...storage.Ticket) (record.Found, error) {
	return putThenFind(ctx, now, l, l.database, find, put)
}

func (l *lateStore) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	l.put = append(l.put, put...)
	return l.database.Spend(ctx, now, spend, put...)
}

func (l *lateStore) repeatWrites() {
	for _, ticket := range l.put {
		if err := l.database.Put(l.t.Context(), time.Now(), ticket); err != nil && !errors.Is(err, storage.ErrExists) {
			l.t.Error(err)
		}
	}
}

// endedUsers are users whose tokens are invalid if they were issued before ended.
type endedUsers struct {
	authserver.Users
	ended *atomic.Int64 // Unix milliseconds
}

func (u endedUsers) SubjectActive(_ context.Context, _, _ string, issued time.Time) (bool, error) {
	return issued.UnixMilli() >= u.ended.Load(), nil
}

// After a user or client was disabled and enabled again, older tickets are not valid, even if they
// are stored afterwards.
func TestAC09_AC10_TicketsFromBeforeDisablingAreNotValid(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		for _, disabled := range []string{"user", "client", "neither"} {
			var ended atomic.Int64
			l := &lateStore{database: store, t: t}
			s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, l, func(c *authserver.Config) {
				c.Users = endedUsers{c.Users, &ended}
			})
			tokens := s.tokens("ada", "app", "openid offline_access")
			code := s.code("ada", "app", "scope", "openid")
			time.Sleep(2 * time.Millisecond) // times are stored in milliseconds
			switch disabled {
			case "user":
				ended.Store(time.Now().UnixMilli() + 1)
			case "client":
				for _, value := range []bool{true, false} {
					if err := store.UpdateClient(t.Context(), "app", func(c *record.Client) error { c.Disabled = value; return nil }); err != nil {
						t.Fatal(err)
					}
				}
			}
			l.repeatWrites()
			node, err := authserver.New(s.config) // has the current client
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(node.Close)
			s.server = node
			valid := disabled == "neither"
			for kind, token := range map[string]string{"access token": tokens.AccessToken, "refresh token": tokens.RefreshToken} {
				if active := s.post("/introspect", "app", "token", token).Active; active != valid {
					t.Errorf("%s disabled: the %s is active: %v", disabled, kind, active)
				}
			}
			if status := s.userinfo(tokens.AccessToken).status; (status == http.StatusOK) != valid {
				t.Errorf("%s disabled: UserInfo responds %d", disabled, status)
			}
			status, refusal := http.StatusOK, oauth.ErrorCode("")
			if !valid {
				status, refusal = http.StatusBadRequest, oauth.InvalidGrant
			}
			s.redeem("app", code).want(t, status, refusal)
			s.refresh("app", tokens.RefreshToken).want(t, status, refusal)
		}
	})
}
