package authserver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// race calls f from n goroutines at the same time.
func race(n int, f func(i int)) {
	var begin, done sync.WaitGroup
	begin.Add(1)
	for i := range n {
		done.Go(func() {
			begin.Wait()
			f(i)
		})
	}
	begin.Done()
	done.Wait()
}

func TestAC02_ConcurrentRequestsRedeemACodeOnce(t *testing.T) {
	twoNodes(t, scriptSetup{Clients: []testClient{confidential("app")}}, func(t *testing.T, nodes [2]*scene) {
		for form, change := range codeForms() {
			for range 3 {
				code := nodes[0].code("ada", "app", append(change, "scope", "openid")...)
				var granted atomic.Int64
				race(100, func(i int) {
					switch a := nodes[i%2].redeem("app", code); {
					case a.status == http.StatusOK:
						granted.Add(1)
					case a.Error != string(oauth.InvalidGrant):
						t.Errorf("a concurrent request gets %d %s", a.status, a.body)
					}
				})
				if granted.Load() != 1 {
					t.Errorf("one %s code was redeemed %d times", form, granted.Load())
				}
			}
		}
	})
}

func TestRT02_ConcurrentRefreshesGetTheSameSuccessor(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
		token := s.tokens("ada", "app", "openid").RefreshToken
		for range 5 {
			var successors sync.Map
			race(50, func(int) {
				a := s.refresh("app", token)
				if a.status != http.StatusOK {
					t.Errorf("a concurrent refresh within the window gets %d %s", a.status, a.body)
				}
				successors.Store(a.RefreshToken, true)
			})
			distinct := 0
			successors.Range(func(key, _ any) bool {
				distinct++
				token = key.(string)
				return true
			})
			if distinct != 1 {
				t.Fatalf("one refresh token has %d successors", distinct)
			}
		}
	})
}

// A refresh that runs during a revocation does not issue a valid token.
func TestRT11_RefreshRacingRevocation(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
		for range 10 {
			first := s.tokens("ada", "app", "openid")
			var successor apiResponse
			race(2, func(i int) {
				if i == 0 {
					successor = s.refresh("app", first.RefreshToken)
				} else if a := s.post("/revoke", "app", "token", first.RefreshToken); a.status != http.StatusOK {
					t.Errorf("revoke: %d %s", a.status, a.body)
				}
			})
			for _, token := range []string{first.RefreshToken, successor.RefreshToken} {
				if token != "" && s.refresh("app", token).status == http.StatusOK {
					t.Error("a refresh token survived the revocation of its family")
				}
			}
			if successor.AccessToken != "" && s.userinfo(successor.AccessToken).status == http.StatusOK {
				t.Error("an access token survived the revocation of its family")
			}
		}
	})
}

func TestAC08_ConcurrentBrowsersGetTheirOwnUser(t *testing.T) {
	users := map[string]oauth.Claims{}
	for i := range 100 {
		users["user-"+strconv.Itoa(i)] = oauth.Claims{}
	}
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}, Users: users})
	requests := make([]*http.Request, 100)
	for i := range requests { // sequentially, because the test's map of sessions is not locked
		w := httptest.NewRecorder()
		s.signIn(w, "user-"+strconv.Itoa(i))
		requests[i] = httptest.NewRequest(http.MethodGet, "/authorize?"+query("app", "scope", "openid"), nil)
		requests[i].AddCookie(w.Result().Cookies()[0])
	}
	race(100, func(i int) {
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, requests[i])
		location, err := w.Result().Location()
		if err != nil {
			t.Errorf("no redirect: %d", w.Code)
			return
		}
		a := s.userinfo(s.redeem("app", location.Query().Get("code")).AccessToken)
		if want := "user-" + strconv.Itoa(i); a.Sub != want {
			t.Errorf("the browser of %s got a token for %q", want, a.Sub)
		}
	})
}

// A jti is accepted only once across all nodes.
func TestCA07_AssertionsAreAcceptedOnceAcrossNodes(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		setup := scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) {
			c.TokenEndpointAuthMethod = oauth.AuthMethodPrivateKeyJWT
			c.JWKS = []byte(`"$key"`)
		})}}
		nodes := []*scene{newSceneOn(t, setup, store, nil), nil}
		other := *nodes[0]
		nodes[1] = &other
		second, err := authserver.New(nodes[0].config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(second.Close)
		nodes[1].server = second
		for round := range 5 {
			assertion, err := nodes[0].sign("ES256", oauth.TypClientAuthentication, "", map[string]any{
				"iss": "app", "sub": "app", "aud": scriptIssuer, "jti": fmt.Sprint("round ", round), "exp": "60s",
			})
			if err != nil {
				t.Fatal(err)
			}
			var granted atomic.Int64
			race(20, func(i int) {
				a := nodes[i%2].post("/token", "", "grant_type", "client_credentials",
					"client_assertion_type", oauth.ClientAssertionTypeJWTBearer, "client_assertion", assertion)
				if a.status == http.StatusOK {
					granted.Add(1)
				} else if a.status != http.StatusUnauthorized {
					t.Errorf("a concurrent request gets %d %s", a.status, a.body)
				}
			})
			if granted.Load() != 1 {
				t.Errorf("an assertion was accepted %d times", granted.Load())
			}
		}
	})
}

// CA-07: a jti stays used when the server restarts.
func TestCA07_AssertionsAreAcceptedOnceAcrossRestarts(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "test.db")
	store := openStore(t, url)
	s := newSceneOn(t, scriptSetup{Clients: []testClient{asserting("client")}}, store, nil)
	assertion := s.assertion("client", oauth.TypClientAuthentication, nil)
	if !s.present("/token", assertion) {
		t.Fatal("the assertion is refused")
	}
	config := s.config
	config.Store = openStore(t, url)
	again, err := authserver.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Close)
	s.server = again
	if s.present("/token", assertion) {
		t.Error("the assertion is accepted again")
	}
	if !s.present("/token", s.assertion("client", oauth.TypClientAuthentication, nil)) {
		t.Error("another assertion is refused")
	}
}
