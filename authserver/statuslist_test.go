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
		Resources: []record.Resource{{Identifier: statusAPI, StatusList: true}, {Identifier: "https://plain.example.com/"}},
		Users:     map[string]oauth.Claims{"ada": {}, "bob": {}},
	}
}

// statusTokens runs the code flow for an access token with a status.
func (s *scene) statusTokens(subject, client string) apiResponse {
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

// published fetches the published status of a token (draft-ietf-oauth-status-list, section 8.3).
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
		s.t.Errorf("the list has sub %q, iat %d, exp %d, ttl %d", list.Sub, list.Iat, list.Exp, list.TTL)
	}
	status, ok := list.StatusList.Status(reference.Index)
	if !ok {
		s.t.Fatalf("the list has no index %d", reference.Index)
	}
	return status
}

// Whatever makes a token inactive for introspection also changes its published status, and only its
// own.
func TestRT14_PublishedStatusFollowsRevocation(t *testing.T) {
	for name, revoke := range map[string]func(s *scene, a apiResponse){
		"refresh token revoked": func(s *scene, a apiResponse) { s.post("/revoke", "app", "token", a.RefreshToken) },
		"access token revoked":  func(s *scene, a apiResponse) { s.post("/revoke", "app", "token", a.AccessToken) },
		"consent revoked": func(s *scene, _ apiResponse) {
			grant, err := s.store.Grant(s.t.Context(), "ada", "app")
			if err == nil {
				err = s.store.DeleteGrant(s.t.Context(), grant.ID)
			}
			if err != nil {
				s.t.Fatal(err)
			}
		},
		"user's tokens revoked": func(s *scene, _ apiResponse) {
			if err := authserver.RevokeSubject(s.t.Context(), s.store, "ada"); err != nil {
				s.t.Fatal(err)
			}
		},
		"client removed": func(s *scene, _ apiResponse) {
			if err := s.store.DeleteClient(s.t.Context(), "app"); err != nil {
				s.t.Fatal(err)
			}
		},
		"AC-10 client disabled": func(s *scene, _ apiResponse) {
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
				target, others := s.statusTokens("ada", "app"), []apiResponse{s.statusTokens("bob", "app"), s.statusTokens("ada", "other")}
				credentials := s.post("/token", "app", "grant_type", "client_credentials", "resource", statusAPI)
				switch name {
				case "client removed", "AC-10 client disabled":
					others = others[1:] // the first one belongs to the same client
				case "user's tokens revoked":
					others = others[:1] // the second one belongs to the same user
				}
				revoke(s, target)
				node, err := authserver.New(s.config)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(node.Close)
				s.server = node
				ended := []apiResponse{target}
				if name == "client removed" || name == "AC-10 client disabled" {
					ended = append(ended, credentials)
				} else {
					others = append(others, credentials)
				}
				for _, a := range ended {
					if s.published(a.AccessToken) != oauth.StatusInvalid {
						t.Error("a revoked token is published as valid")
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
		"with rotation": func(*record.Client) {}, "without rotation": withoutRotation,
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

// A client credentials token can be revoked, although it does not belong to an authorization. After
// it has expired, the list no longer contains it.
func TestStatusOfClientCredentialsTokens(t *testing.T) {
	synctestScene(t, statusSetup(), func(t *testing.T, s *scene) {
		issue := func() string {
			return s.post("/token", "app", "grant_type", "client_credentials", "resource", statusAPI).AccessToken
		}
		token, valid := issue(), issue()
		for range 2 {
			s.post("/revoke", "app", "token", token).want(t, http.StatusOK, "")
		}
		s.post("/revoke", "other", "token", valid).want(t, http.StatusOK, "") // not its token, so it stays valid
		if s.published(token) != oauth.StatusInvalid || s.published(valid) != oauth.StatusValid {
			t.Error("not exactly the revoked token is published as revoked")
		}
		time.Sleep(10*time.Minute + 30*time.Second)
		if s.published(token) != oauth.StatusInvalid {
			t.Error("the list drops a revoked token within the allowed clock skew")
		}
		time.Sleep(time.Minute)
		if s.published(token) != oauth.StatusValid {
			t.Error("the list contains an expired token")
		}
	})
}

// Indexes are unique across nodes, and do not reveal the order in which tokens were issued.
func TestStatusIndexesAreUnique(t *testing.T) {
	s := newScene(t, statusSetup())
	other, err := authserver.New(s.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	first := s.server
	seen := map[string]bool{}
	var last int64
	inOrder := 0
	for i := range 2500 {
		s.server = first
		if i%2 == 0 {
			s.server = other
		}
		a := s.post("/token", "app", "grant_type", "client_credentials", "resource", statusAPI)
		reference := s.statusReference(a.AccessToken)
		index := fmt.Sprint(reference.URI, reference.Index)
		if seen[index] {
			t.Fatalf("two tokens have the index %s", index)
		}
		seen[index] = true
		if i%2 == 0 {
			if reference.Index == last+1 {
				inOrder++
			}
			last = reference.Index
		}
	}
	if inOrder > 20 {
		t.Errorf("%d of 1250 tokens have consecutive indexes", inOrder)
	}
}

// Issuing a token takes one write, for its ticket. Its index takes none.
func TestStatusIndexesNeedFewWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &writeCounter{database: memory.New()}
		s := newSceneOn(t, statusSetup(), store, nil)
		before := store.writes
		for range 1000 {
			s.post("/token", "app", "grant_type", "client_credentials", "resource", statusAPI).want(t, http.StatusOK, "")
		}
		if n := store.writes - before; n > 1002 {
			t.Errorf("1,000 tokens took %d writes", n)
		}
	})
}

func TestOnlyTokensForConfiguredResourcesHaveAStatus(t *testing.T) {
	s := newScene(t, statusSetup())
	for _, form := range [][]string{{"resource", "https://plain.example.com/"}, {}} {
		a := s.post("/token", "app", append([]string{"grant_type", "client_credentials"}, form...)...)
		if claims := s.extraClaims(a.AccessToken); len(claims) != 0 {
			t.Errorf("a token for %v has %v", form, claims)
		}
	}
}

// interruptedStore is a store that calls before just before it stores the status of a token.
type interruptedStore struct {
	database
	before func()
}

func (s *interruptedStore) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	if before := s.before; before != nil && tickets[0].Kind == storage.KindStatus {
		s.before = nil
		before()
	}
	return s.database.Put(ctx, now, tickets...)
}

func (s *interruptedStore) PutAndFind(ctx context.Context, now time.Time, find record.Find, put ...storage.Ticket) (record.Found, error) {
	return putThenFind(ctx, now, s, s.database, find, put)
}

// A refresh fails if its token is revoked before the access token is stored.
func TestRT11_RevocationDuringARefreshWithoutRotation(t *testing.T) {
	store := &interruptedStore{database: memory.New()}
	s := newSceneOn(t, statusSetup(withoutRotation), store, nil)
	first := s.statusTokens("ada", "app")
	store.before = func() { s.post("/revoke", "app", "token", first.RefreshToken).want(t, http.StatusOK, "") }
	s.refresh("app", first.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
}

func TestRT11_TokensRefreshedDuringARevocationAreListedAsRevoked(t *testing.T) {
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
			node, err := authserver.New(s.config)
			if err != nil {
				t.Fatal(err)
			}
			reader := *s
			reader.server = node
			for i, token := range append(tokens, first.AccessToken) {
				if reader.published(token) != oauth.StatusInvalid {
					t.Errorf("token %d of a revoked family is published as valid", i)
				}
			}
			node.Close()
		}
	})
}

func TestUnknownStatusListsAreNotServed(t *testing.T) {
	synctestScene(t, statusSetup(), func(t *testing.T, s *scene) {
		token := s.statusTokens("ada", "app").AccessToken
		target := strings.TrimPrefix(s.statusReference(token).URI, scriptIssuer)
		_, id, _ := strings.Cut(target, "=")
		get := func(target string) apiResponse { return s.do(httptest.NewRequest(http.MethodGet, target, nil)) }
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

// The limit also counts revoked refresh tokens. Refresh tokens can always be revoked, but at the
// limit no more tokens with a status are issued to that user and client. Other users and clients
// are not affected.
func TestSH06_RevokedRefreshTokensCountTowardsTheLimit(t *testing.T) {
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
	s.tokens("ada", "app", "openid") // without a status
}
