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

// statusKey is the key of the ticket of a token's status.
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

func (s *scene) exchange(client, subject, subjectType, requested string, more ...string) answer {
	s.t.Helper()
	return s.post("/token", client, append([]string{"grant_type", oauth.GrantTypeTokenExchange, "subject_token", subject,
		"subject_token_type", subjectType, "requested_token_type", requested}, more...)...)
}

// exchangeChain has an application and two services. Each service is called with a token for its
// API, and exchanges it for a token for the next API.
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

// Revoking a token revokes all tokens that were exchanged from it, along the whole chain, but not
// its subject token or other tokens.
func TestRevocationIncludesExchangedTokens(t *testing.T) {
	for _, format := range []string{record.AccessTokenJWT, record.AccessTokenOpaque} {
		for _, outlives := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s outlives %v", format, outlives), func(t *testing.T) {
				stores(t, func(t *testing.T, store database) {
					s := newSceneOn(t, exchangeChain(format, outlives, oauth.TokenTypeAccessToken), store, nil)
					// chain returns the tokens of app, b, c, and another that b got for the same.
					chain := func() []answer {
						a := s.redeem("app", s.code("ada", "app", "scope", "openid offline_access work", "resource", "https://b.example"))
						b := s.exchange("b", a.AccessToken, oauth.TokenTypeAccessToken, oauth.TokenTypeAccessToken, "resource", "https://c.example")
						c := s.exchange("c", b.AccessToken, oauth.TokenTypeAccessToken, oauth.TokenTypeAccessToken, "resource", "https://d.example")
						side := s.exchange("b", a.AccessToken, oauth.TokenTypeAccessToken, oauth.TokenTypeAccessToken, "resource", "https://c.example")
						for _, got := range []answer{a, b, c, side} {
							got.want(t, http.StatusOK, "")
						}
						return []answer{a, b, c, side}
					}
					owners := []string{"app", "b", "c", "b"}
					check := func(what string, tokens []answer, want ...bool) {
						t.Helper()
						var active []bool
						for i, token := range tokens {
							active = append(active, s.post("/introspect", owners[i], "token", token.AccessToken).Active)
						}
						if !slices.Equal(active, want) {
							t.Errorf("%s: active %v, want %v", what, active, want)
						}
						// Their published status has changed too.
						if format == record.AccessTokenJWT {
							ended, err := store.FindEnded(t.Context(), time.Now(), 1000)
							if err != nil {
								t.Fatal(err)
							}
							for i, token := range tokens {
								published := slices.ContainsFunc(ended, func(e storage.Ticket) bool { return s.statusKey(token.AccessToken) == e.Key })
								if published == want[i] {
									t.Errorf("%s: token %d is published as ended: %v", what, i, published)
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
					check("c revokes its own", tokens, true, true, false, true)
					tokens = chain()
					revoke("b", tokens[1].AccessToken)
					check("b revokes its own", tokens, true, false, false, true)
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
					check("the user ends the grant", tokens, false, false, false, false)
				})
			})
		}
	}
}

// A service exchanges the token that it was called with for its own refresh token.
func TestRevokingAnExchangedRefreshTokenKeepsTheSubjectToken(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, exchangeChain(record.AccessTokenJWT, true, oauth.TokenTypeRefreshToken, oauth.TokenTypeAccessToken), store, nil)
		get := func() (app, service answer, refreshToken string) {
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
			t.Error("the service's access token outlives its refresh token")
		}
		if !s.post("/introspect", "app", "token", app.AccessToken).Active {
			t.Error("a service that revokes its own refresh token ends the application's access token")
		}
		s.refresh("app", app.RefreshToken).want(t, http.StatusOK, "")

		// A replay of it revokes only the service's tokens.
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

		// A logout ends what needs the session, in the application and in the service.
		app, service, _ = get()
		s.end(s.latest())
		s.refresh("b", service.RefreshToken).want(t, http.StatusOK, "") // offline_access
		s.refresh("app", app.RefreshToken).want(t, http.StatusOK, "")
	})
}

// A client's own token, of no user, can be exchanged too.
func TestRevocationOfAClientsOwnToken(t *testing.T) {
	s := newScene(t, exchangeChain(record.AccessTokenJWT, true, oauth.TokenTypeAccessToken))
	own := s.post("/token", "b", "grant_type", "client_credentials", "scope", "work", "resource", "https://b.example")
	exchanged := s.exchange("b", own.AccessToken, oauth.TokenTypeAccessToken, oauth.TokenTypeAccessToken, "resource", "https://c.example")
	exchanged.want(t, http.StatusOK, "")
	s.post("/revoke", "b", "token", own.AccessToken).want(t, http.StatusOK, "")
	if s.post("/introspect", "b", "token", exchanged.AccessToken).Active {
		t.Error("a token that was exchanged from a revoked token is active")
	}
}

// An exchange that runs while its subject token is revoked leaves no valid token.
func TestExchangeRacingRevocation(t *testing.T) {
	for _, format := range []string{record.AccessTokenJWT, record.AccessTokenOpaque} {
		stores(t, func(t *testing.T, store database) {
			s := newSceneOn(t, exchangeChain(format, true, oauth.TokenTypeAccessToken), store, nil)
			for range 10 {
				a := s.redeem("app", s.code("ada", "app", "scope", "openid offline_access work", "resource", "https://b.example"))
				var b answer
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

// late is a store that repeats earlier writes, like a node that has not seen a change yet.
type late struct {
	database
	t   *testing.T
	put []storage.Ticket
}

func (l *late) Put(ctx context.Context, now time.Time, put ...storage.Ticket) error {
	l.put = append(l.put, put...)
	return l.database.Put(ctx, now, put...)
}

func (l *late) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	l.put = append(l.put, put...)
	return l.database.Spend(ctx, now, spend, put...)
}

func (l *late) sendAgain() {
	for _, ticket := range l.put {
		if err := l.database.Put(l.t.Context(), time.Now(), ticket); err != nil && !errors.Is(err, storage.ErrExists) {
			l.t.Error(err)
		}
	}
}

// endedUsers are users whose tokens from before a time are not valid.
type endedUsers struct {
	authserver.Users
	ended *atomic.Int64 // Unix milliseconds
}

func (u endedUsers) SubjectActive(_ context.Context, _, _ string, issued time.Time) (bool, error) {
	return issued.UnixMilli() >= u.ended.Load(), nil
}

// After a user or client was disabled and enabled again, tickets from before are not valid, no
// matter how they got into the store.
func TestAC09_AC10_TicketsStoredAfterTheEndAreNotValid(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		for _, who := range []string{"user", "client", "nobody"} {
			var ended atomic.Int64
			l := &late{database: store, t: t}
			s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, l, func(c *authserver.Config) {
				c.Users = endedUsers{c.Users, &ended}
			})
			tokens := s.tokens("ada", "app", "openid offline_access")
			code := s.code("ada", "app", "scope", "openid")
			time.Sleep(2 * time.Millisecond) // times are stored in milliseconds
			switch who {
			case "user":
				ended.Store(time.Now().UnixMilli() + 1)
			case "client":
				for _, disabled := range []bool{true, false} {
					if err := store.UpdateClient(t.Context(), "app", func(c *record.Client) error { c.Disabled = disabled; return nil }); err != nil {
						t.Fatal(err)
					}
				}
			}
			l.sendAgain()
			node, err := authserver.New(s.config) // it has the current client
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(node.Close)
			s.server = node
			valid := who == "nobody"
			for what, token := range map[string]string{"access token": tokens.AccessToken, "refresh token": tokens.RefreshToken} {
				if active := s.post("/introspect", "app", "token", token).Active; active != valid {
					t.Errorf("the end of the %s: the %s is active: %v", who, what, active)
				}
			}
			if status := s.userinfo(tokens.AccessToken).status; (status == http.StatusOK) != valid {
				t.Errorf("the end of the %s: UserInfo responds %d", who, status)
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
