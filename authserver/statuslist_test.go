package authserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

const statusAPI = "https://api.example.com/"

func statusSetup(change ...func(*record.Client)) scriptSetup {
	return scriptSetup{
		Clients:   []testClient{confidential("app", change...), confidential("other")},
		Resources: []record.Resource{{Identifier: statusAPI, StatusList: true}, {Identifier: "https://silent.example.com/"}},
		People:    map[string]oauth.Claims{"ada": {}, "bob": {}},
	}
}

// statusTokens walks the flow for a token with a status.
func (s *scene) statusTokens(subject, client string) answer {
	s.t.Helper()
	a := s.redeem(client, s.code(subject, client, "resource", statusAPI, "scope", "openid"))
	if a.status != http.StatusOK {
		s.t.Fatalf("redeem: %d %s", a.status, a.body)
	}
	return a
}

// statusReference returns the status claim of a token.
func (s *scene) statusReference(token string) *oauth.StatusListReference {
	s.t.Helper()
	document, err := json.Marshal(s.extraClaims(token))
	if err != nil {
		s.t.Fatal(err)
	}
	var claims struct{ Status oauth.Status }
	if err := json.Unmarshal(document, &claims); err != nil || claims.Status.StatusList == nil {
		s.t.Fatalf("the token has no status: %s", document)
	}
	return claims.Status.StatusList
}

// published returns the published status of a token (draft-ietf-oauth-status-list,
// section 8.3).
func (s *scene) published(token string) byte {
	s.t.Helper()
	reference := s.statusReference(token)
	a := s.do(httptest.NewRequest(http.MethodGet, strings.TrimPrefix(reference.URI, scriptIssuer), nil))
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/statuslist+jwt" {
		s.t.Fatalf("%s: %d %s %s", reference.URI, a.status, a.header.Get("Content-Type"), a.body)
	}
	keys, err := jose.ParseKeySet([]byte(s.do(httptest.NewRequest(http.MethodGet, "/jwks", nil)).body))
	if err != nil {
		s.t.Fatal(err)
	}
	payload, _, err := jose.Verify(a.body, keys, jose.Expected{Algorithms: []jose.Algorithm{jose.ES256}, Types: []string{"statuslist+jwt"}})
	if err != nil {
		s.t.Fatal(err)
	}
	var list struct {
		Sub        string
		Iat, Exp   int64
		TTL        int64
		StatusList oauth.StatusList `json:"status_list"`
	}
	if err := json.Unmarshal(payload, &list); err != nil {
		s.t.Fatal(err)
	}
	if now := time.Now().Unix(); list.Sub != reference.URI || list.Iat > now || list.Exp <= now || list.TTL <= 0 {
		s.t.Errorf("the list says sub %q, iat %d, exp %d, ttl %d", list.Sub, list.Iat, list.Exp, list.TTL)
	}
	status, ok := list.StatusList.Status(reference.Index)
	if !ok {
		s.t.Fatalf("the list has no index %d", reference.Index)
	}
	return status
}

// Everything that makes a token inactive for introspection also changes its published status, on
// every store, and not that of other tokens.
func TestRT14_StatusFollowsRevocation(t *testing.T) {
	for name, revoke := range map[string]func(s *scene, a answer){
		"its refresh token is revoked": func(s *scene, a answer) { s.post("/revoke", "app", "token", a.RefreshToken) },
		"it is revoked itself":         func(s *scene, a answer) { s.post("/revoke", "app", "token", a.AccessToken) },
		"its client's consent ends": func(s *scene, _ answer) {
			grant, err := s.store.Grant(s.t.Context(), "ada", "app")
			if err == nil {
				err = s.store.DeleteGrant(s.t.Context(), grant.ID)
			}
			if err != nil {
				s.t.Fatal(err)
			}
		},
		"everything of the person ends": func(s *scene, _ answer) {
			if err := authserver.RevokeSubject(s.t.Context(), s.store, "ada"); err != nil {
				s.t.Fatal(err)
			}
		},
		"the client is removed": func(s *scene, _ answer) {
			if err := s.store.DeleteClient(s.t.Context(), "app"); err != nil {
				s.t.Fatal(err)
			}
		},
		"AC-10 the client is disabled": func(s *scene, _ answer) {
			err := s.store.UpdateClient(s.t.Context(), "app", func(c *record.Client) error {
				c.Disabled = true
				return nil
			})
			if err != nil {
				s.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			stores(t, func(t *testing.T, store database) {
				// Two nodes: one revokes, the other publishes.
				s := newSceneOn(t, statusSetup(), store, nil)
				ours, others := s.statusTokens("ada", "app"), []answer{s.statusTokens("bob", "app"), s.statusTokens("ada", "other")}
				own := s.post("/token", "app", "grant_type", "client_credentials", "resource", statusAPI)
				switch name {
				case "the client is removed", "AC-10 the client is disabled":
					others = others[1:] // also a token of the client
				case "everything of the person ends":
					others = others[:1] // also a token of the user
				}
				revoke(s, ours)
				node, err := authserver.New(s.config)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(node.Close)
				s.server = node
				ended := []answer{ours}
				if strings.Contains(name, "the client is") {
					ended = append(ended, own)
				} else {
					others = append(others, own)
				}
				for _, a := range ended {
					if s.published(a.AccessToken) != oauth.StatusInvalid {
						t.Error("the revoked token is published as valid")
					}
				}
				for _, a := range others {
					if s.published(a.AccessToken) != oauth.StatusValid {
						t.Error("another token is published as revoked")
					}
				}
			})
		})
	}
}

func TestStatusOfRefreshedTokens(t *testing.T) {
	for name, change := range map[string]func(*record.Client){
		"with rotation": func(*record.Client) {}, "without rotation": reusing,
	} {
		t.Run(name, func(t *testing.T) {
			synctestScene(t, statusSetup(change), func(t *testing.T, s *scene) {
				first := s.statusTokens("ada", "app")
				tokens := []string{first.AccessToken}
				refresh := first.RefreshToken
				for range 3 {
					a := s.refresh("app", refresh)
					again := s.refresh("app", refresh) // the response was lost
					tokens = append(tokens, a.AccessToken, again.AccessToken)
					if a.RefreshToken != "" {
						refresh = a.RefreshToken
					}
				}
				for _, token := range tokens {
					if s.published(token) != oauth.StatusValid {
						t.Fatal("a valid token is published as revoked")
					}
				}
				time.Sleep(time.Minute)
				if name == "with rotation" {
					s.refresh("app", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant) // a replay
				} else {
					s.post("/revoke", "app", "token", refresh)
				}
				time.Sleep(3 * time.Second) // this node reads the revoked tokens every two seconds
				for i, token := range tokens {
					if s.published(token) != oauth.StatusInvalid {
						t.Errorf("token %d of the family is published as valid", i)
					}
				}
			})
		})
	}
}

// A client's own token does not belong to an authorization, but can be revoked. The list drops it
// after it has expired.
func TestStatusOfAClientsOwnToken(t *testing.T) {
	synctestScene(t, statusSetup(), func(t *testing.T, s *scene) {
		own := func() string {
			return s.post("/token", "app", "grant_type", "client_credentials", "resource", statusAPI).AccessToken
		}
		token, stays := own(), own()
		for range 2 {
			s.post("/revoke", "app", "token", token).want(t, http.StatusOK, "")
		}
		s.post("/revoke", "other", "token", stays).want(t, http.StatusOK, "") // not its own: nothing happens
		if s.published(token) != oauth.StatusInvalid || s.published(stays) != oauth.StatusValid {
			t.Error("the list does not have the revoked token")
		}
		time.Sleep(10*time.Minute + 30*time.Second)
		if s.published(token) != oauth.StatusInvalid {
			t.Error("a revoked token is published as valid while an API's clock may be behind")
		}
		time.Sleep(time.Minute)
		if s.published(token) != oauth.StatusValid {
			t.Error("the list keeps an expired token")
		}
	})
}

// No two tokens have the same index, on all nodes, and an index does not reveal the order of
// issuance.
func TestStatusIndexesAreUnique(t *testing.T) {
	s := newScene(t, statusSetup())
	other, err := authserver.New(s.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	here := s.server
	places := map[string]bool{}
	var last int64
	inOrder := 0
	for i := range 2500 {
		s.server = here
		if i%2 == 0 {
			s.server = other
		}
		a := s.post("/token", "app", "grant_type", "client_credentials", "resource", statusAPI)
		reference := s.statusReference(a.AccessToken)
		place := fmt.Sprint(reference.URI, reference.Index)
		if places[place] {
			t.Fatalf("two tokens have the index %s", place)
		}
		places[place] = true
		if i%2 == 0 {
			if reference.Index == last+1 {
				inOrder++
			}
			last = reference.Index
		}
	}
	if inOrder > 20 {
		t.Errorf("%d of 1250 tokens follow each other in the list", inOrder)
	}
}

// A token needs one write, for its own ticket. Its index needs none.
func TestStatusIndexesNeedFewWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{database: memory.New()}
		s := newSceneOn(t, statusSetup(), store, nil)
		before := store.writes
		for range 1000 {
			s.post("/token", "app", "grant_type", "client_credentials", "resource", statusAPI).want(t, http.StatusOK, "")
		}
		if n := store.writes - before; n > 1002 {
			t.Errorf("1,000 tokens cost %d writes", n)
		}
	})
}

func TestOnlyConfiguredResourcesHaveAStatus(t *testing.T) {
	s := newScene(t, statusSetup())
	for _, form := range [][]string{{"resource", "https://silent.example.com/"}, {}} {
		a := s.post("/token", "app", append([]string{"grant_type", "client_credentials"}, form...)...)
		if claims := s.extraClaims(a.AccessToken); len(claims) != 0 {
			t.Errorf("a token for %v has %v", form, claims)
		}
	}
}

// stalling is a store that runs a revocation between the read of a refresh token and the write
// that follows.
type stalling struct {
	database
	before func()
}

func (s *stalling) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	if before := s.before; before != nil && tickets[0].Kind == storage.KindStatus {
		s.before = nil
		before()
	}
	return s.database.Put(ctx, now, tickets...)
}

// A refresh that runs at the same time as a revocation issues no valid token.
func TestRT11_RevocationDuringARefreshWithoutRotation(t *testing.T) {
	store := &stalling{database: memory.New()}
	s := newSceneOn(t, statusSetup(reusing), store, nil)
	first := s.statusTokens("ada", "app")
	store.before = func() { s.post("/revoke", "app", "token", first.RefreshToken).want(t, http.StatusOK, "") }
	s.refresh("app", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
}

func TestRT11_RevokedTokensAreInTheList(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, statusSetup(), store, nil)
		for range 20 {
			first := s.statusTokens("ada", "app")
			var tokens []string
			var racing sync.WaitGroup
			racing.Go(func() {
				for refresh := first.RefreshToken; ; {
					a := s.refresh("app", refresh)
					if a.status != http.StatusOK {
						return
					}
					tokens, refresh = append(tokens, a.AccessToken), a.RefreshToken
				}
			})
			s.post("/revoke", "app", "token", first.RefreshToken).want(t, http.StatusOK, "")
			racing.Wait()
			fresh, err := authserver.New(s.config)
			if err != nil {
				t.Fatal(err)
			}
			shown := *s
			shown.server = fresh
			for i, token := range append(tokens, first.AccessToken) {
				if shown.published(token) != oauth.StatusInvalid {
					t.Errorf("token %d of a revoked family is published as valid", i)
				}
			}
			fresh.Close()
		}
	})
}

func TestUnknownStatusListsAreNotServed(t *testing.T) {
	synctestScene(t, statusSetup(), func(t *testing.T, s *scene) {
		token := s.statusTokens("ada", "app").AccessToken
		target := strings.TrimPrefix(s.statusReference(token).URI, scriptIssuer)
		_, id, _ := strings.Cut(target, "=")
		get := func(target string) answer { return s.do(httptest.NewRequest(http.MethodGet, target, nil)) }
		for target, status := range map[string]int{
			target:                       http.StatusOK,
			target + "&time=946684800":   http.StatusNotImplemented,
			target + "&x=1":              http.StatusNotFound,
			"/status-list?id=0" + id:     http.StatusNotFound,
			"/status-list?id=0":          http.StatusNotFound,
			"/status-list?id=-1":         http.StatusNotFound,
			"/status-list?id=9999999999": http.StatusNotFound,
			"/status-list":               http.StatusNotFound,
		} {
			if a := get(target); a.status != status {
				t.Errorf("%s: %d, want %d: %s", target, a.status, status, a.body)
			}
		}
		time.Sleep(4 * 24 * time.Hour)
		get(target).want(t, http.StatusNotFound, oauth.InvalidRequest) // all of its tokens have expired
	})
}

// A client that revokes thousands of refresh tokens does not fill the lists either. A refresh
// token can always be revoked. A user who does that with a public client does not stop the client
// for its other users.
func TestSH06_RevokedRefreshTokensCount(t *testing.T) {
	s := newScene(t, statusSetup())
	s.server.RevokeOfUser("app", "ada", authserver.MaxEndedPerUser-2, time.Now().Add(10*time.Minute))
	tokens := s.statusTokens("ada", "app")
	tokens = s.refresh("app", tokens.RefreshToken)
	tokens.want(t, http.StatusOK, "")
	code := s.code("ada", "app", "resource", statusAPI, "scope", "openid")
	s.post("/revoke", "app", "token", tokens.RefreshToken).want(t, http.StatusOK, "")
	refused := s.redeem("app", code)
	refused.want(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
	if s.post("/introspect", "app", "token", tokens.AccessToken).Active {
		t.Error("the revoked token is active")
	}
	s.statusTokens("ada", "other")
	s.statusTokens("bob", "app")
	s.tokens("ada", "app", "openid") // has no status
}
