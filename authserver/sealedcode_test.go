package authserver_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// codeForms returns, for each form of a code, the parameters with which a client gets it. The
// authorization with the long nonce does not fit into a sealed code.
func codeForms() map[string][]string {
	return map[string][]string{"sealed": nil, "stored": {"nonce", strings.Repeat("n", 700)}}
}

// twoNodes runs a test with two nodes on every kind of store. On PostgreSQL, each node has its own
// connections.
func twoNodes(t *testing.T, setup scriptSetup, run func(t *testing.T, nodes [2]*scene)) {
	open := func(t *testing.T, stores [2]database) {
		first := newSceneOn(t, setup, stores[0], nil)
		second := *first
		second.store, second.config.Store = stores[1], stores[1]
		var err error
		if second.server, err = authserver.New(second.config); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(second.server.Close)
		run(t, [2]*scene{first, &second})
	}
	t.Run("memory", func(t *testing.T) {
		store := memory.New()
		open(t, [2]database{store, store})
	})
	t.Run("SQLite", func(t *testing.T) {
		store := openStore(t, "sqlite:"+filepath.Join(t.TempDir(), "test.db"))
		open(t, [2]database{store, store})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		url := pgtest.Database(t)
		open(t, [2]database{openStore(t, url), openStore(t, url)})
	})
}

// withoutRefreshToken is for clients that get only access tokens.
func withoutRefreshToken(c *record.Client) { c.GrantTypes = []string{oauth.GrantTypeAuthorizationCode} }

// wantDead fails unless no token of a response works.
func (s *scene) wantDead(what string, a apiResponse) {
	s.t.Helper()
	if a.AccessToken != "" && s.post("/introspect", "app", "token", a.AccessToken).Active {
		s.t.Errorf("%s: the access token is active", what)
	}
	if a.RefreshToken != "" && s.refresh("app", a.RefreshToken).status == http.StatusOK {
		s.t.Errorf("%s: the refresh token works", what)
	}
}

// A code flow in a known session takes one write.
func TestACodeFlowTakesOneWrite(t *testing.T) {
	for form, change := range codeForms() {
		for name, client := range map[string]testClient{"refresh token": confidential("app"), "access token": confidential("app", withoutRefreshToken)} {
			store := &writeCounter{database: memory.New()}
			s := newSceneOn(t, scriptSetup{Clients: []testClient{client}}, store, nil)
			change = append(change, "scope", "openid")
			s.redeem("app", s.code("ada", "app", change...)).want(t, http.StatusOK, "")
			session := s.latest()
			store.writes = 0
			location, err := s.authorizeIn(session, query("app", change...)).Location()
			if err != nil {
				t.Fatal(err)
			}
			s.redeem("app", location.Query().Get("code")).want(t, http.StatusOK, "")
			if want := map[string]int{"sealed": 1, "stored": 2}[form]; store.writes != want {
				t.Errorf("%s code, %s: %d writes, want %d", form, name, store.writes, want)
			}
		}
	}
}

// A second use of a code ends what was issued for the first, at any node. So does a third one, and one
// after everything has ended already; none of them gets tokens.
func TestAC01_ReplaysOfACode(t *testing.T) {
	resource := record.Resource{Identifier: "https://api.example", AccessTokenFormat: record.AccessTokenOpaque, IntrospectionClients: []string{"app"}}
	setup := scriptSetup{Clients: []testClient{confidential("app"), confidential("other")}, Resources: []record.Resource{resource}}
	for name, change := range map[string]func(*record.Client){"refresh token": nil, "access token": withoutRefreshToken} {
		if change != nil {
			setup.Clients = []testClient{confidential("app", change), confidential("other")}
		}
		twoNodes(t, setup, func(t *testing.T, nodes [2]*scene) {
			for form, request := range codeForms() {
				for _, opaque := range []bool{false, true} {
					for replayAt := range 2 {
						what := form + " code, " + name
						request := append(request, "scope", "openid")
						if opaque {
							request = append(request, "resource", resource.Identifier)
						}
						code := nodes[0].code("ada", "app", request...)
						a := nodes[0].redeem("app", code)
						a.want(t, http.StatusOK, "")
						if !nodes[1].post("/introspect", "app", "token", a.AccessToken).Active {
							t.Errorf("%s: the access token is not active", what)
						}
						for range 3 {
							nodes[replayAt].redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
							nodes[0].wantDead(what, a)
						}
						nodes[1-replayAt].redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
					}
				}
			}
		})
	}
}

// A second use with another code_verifier is a replay too, at a node that has not seen the first one.
func TestAC01_ReplayWithAnotherVerifier(t *testing.T) {
	twoNodes(t, scriptSetup{Clients: []testClient{confidential("app")}}, func(t *testing.T, nodes [2]*scene) {
		code := nodes[0].code("ada", "app")
		a := nodes[0].redeem("app", code)
		a.want(t, http.StatusOK, "")
		nodes[1].post("/token", "app", "grant_type", "authorization_code", "code", code, "redirect_uri", testCallback,
			"code_verifier", strings.Repeat("x", 43)).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		nodes[0].wantDead("another verifier", a)
	})
}

// A code that was used stays used after its tokens were revoked.
func TestAC01_CodesStayUsedAfterARevocation(t *testing.T) {
	twoNodes(t, scriptSetup{Clients: []testClient{confidential("app")}}, func(t *testing.T, nodes [2]*scene) {
		for _, change := range codeForms() {
			code := nodes[0].code("ada", "app", change...)
			a := nodes[0].redeem("app", code)
			nodes[0].post("/revoke", "app", "token", a.RefreshToken).want(t, http.StatusOK, "")
			for _, node := range nodes {
				node.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
			}
		}
	})
}

// A replay after the code has expired is still a replay, as long as access tokens for it can exist.
func TestAC01_ReplayOfAnExpiredCode(t *testing.T) {
	for form, change := range codeForms() {
		synctestScene(t, scriptSetup{}, func(t *testing.T, s *scene) {
			code := s.code("ada", "app", change...)
			time.Sleep(59 * time.Second)
			a := s.redeem("app", code)
			a.want(t, http.StatusOK, "")
			time.Sleep(10*time.Minute - time.Second)
			s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
			s.wantDead(form, a)
		})
	}
}

// A code is bound to its client. Another client's attempt does not use it up.
func TestAC03_CodesAreBoundToTheirClient(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app"), confidential("other")}})
	for _, change := range codeForms() {
		code := s.code("ada", "app", change...)
		s.redeem("other", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		a := s.redeem("app", code)
		a.want(t, http.StatusOK, "")
		s.redeem("other", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.refresh("app", a.RefreshToken).want(t, http.StatusOK, "")
	}
}

// A code ends with the session in which it was issued, even with offline_access.
func TestAC09_CodesEndWithTheirSession(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	for _, change := range codeForms() {
		for _, scope := range []string{"openid", "openid offline_access"} {
			code := s.code("ada", "app", append(change, "scope", scope)...)
			s.end(s.latest())
			for range 2 {
				s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
			}
		}
	}
}

// A code ends with the consent that it was issued for, at every node at once, also if the user gives
// the consent again.
func TestAC09_CodesEndWithTheConsent(t *testing.T) {
	twoNodes(t, scriptSetup{Clients: []testClient{confidential("app")}}, func(t *testing.T, nodes [2]*scene) {
		for _, change := range codeForms() {
			nodes[1].tokens("ada", "app", "openid") // whatever this node keeps in memory
			code := nodes[1].code("ada", "app", change...)
			nodes[0].withdraw("ada", "app")
			nodes[1].redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
			code = nodes[1].code("ada", "app", change...)
			nodes[0].withdraw("ada", "app")
			nodes[0].code("ada", "app")
			nodes[1].redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		}
	})
}

func (s *scene) withdraw(subject, client string) {
	s.t.Helper()
	grant, err := s.store.Grant(s.t.Context(), subject, client)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.store.DeleteGrant(s.t.Context(), grant.ID); err != nil {
		s.t.Fatal(err)
	}
}

// A redemption that runs while the consent is withdrawn leaves no tokens behind.
func TestRT11_RedemptionRacingWithdrawal(t *testing.T) {
	twoNodes(t, scriptSetup{Clients: []testClient{confidential("app")}}, func(t *testing.T, nodes [2]*scene) {
		for form, change := range codeForms() {
			for range 15 {
				code := nodes[0].code("ada", "app", append(change, "scope", "openid offline_access")...)
				var a apiResponse
				race(2, func(i int) {
					if i == 0 {
						a = nodes[0].redeem("app", code)
					} else {
						nodes[1].withdraw("ada", "app")
					}
				})
				nodes[1].wantDead(form, a)
				nodes[0].redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
			}
		}
	})
}

// momentStore calls a function once, before or after the tokens for a code are stored.
type momentStore struct {
	database
	before, after func()
}

func (m *momentStore) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	if len(tickets) < 2 {
		return m.database.Put(ctx, now, tickets...)
	}
	call(&m.before)
	err := m.database.Put(ctx, now, tickets...)
	call(&m.after)
	return err
}

func (m *momentStore) PutAndFind(ctx context.Context, now time.Time, find record.Find, put ...storage.Ticket) (record.Found, error) {
	return putThenFind(ctx, now, m, m.database, find, put)
}

func call(f *func()) {
	if once := *f; once != nil {
		*f = nil
		once()
	}
}

// What ends just before or after the tokens are stored ends the tokens as well: nothing that is left in
// the store works.
func TestRT11_WhatEndsWhileACodeIsRedeemed(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		m := &momentStore{database: store}
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, m, nil)
		for name, end := range map[string]func(){
			"consent": func() { s.withdraw("ada", "app") },
			"session": func() { s.end(s.latest()) },
			"global revocation": func() {
				s.end(s.latest())
				if err := authserver.RevokeSubject(t.Context(), store, "ada"); err != nil {
					t.Error(err)
				}
			},
		} {
			for moment, hook := range map[string]*func(){"before": &m.before, "after": &m.after} {
				code := s.code("ada", "app", "scope", "openid offline_access")
				*hook = end
				a := s.redeem("app", code)
				if a.want(t, http.StatusBadRequest, oauth.InvalidGrant); a.AccessToken != "" {
					t.Errorf("%s, %s: there are tokens", name, moment)
				}
				s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
			}
		}
	})
}

// reseal returns a code with another body and a valid checksum.
func reseal(body string) string {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE([]byte(body)))
	return body + base64.RawURLEncoding.EncodeToString(sum[:])
}

// No other spelling of a code is accepted, and trying one does not use up the code.
func TestChangedCodesAreRefused(t *testing.T) {
	var last record.Trace
	s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, memory.New(), func(c *authserver.Config) {
		c.OnTrace = func(t *record.Trace) { last = *t }
	})
	code := s.code("ada", "app")
	body := code[:len(code)-6]
	details := map[string]int{}
	refused := func(changed string) {
		t.Helper()
		if changed == code || changed == "" {
			return
		}
		s.redeem("app", changed).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		details[last.Checks[len(last.Checks)-1].Detail]++
	}
	for i := range code {
		for _, c := range []byte{'A', '_', code[i] ^ 1} {
			changed := code[:i] + string(rune(c)) + code[i+1:]
			refused(changed)
			refused(reseal(changed[:len(body)]))
		}
		refused(code[:i])
		refused(reseal(code[:i]))
		refused(reseal(body[:min(i, len(body))] + "\n" + body[min(i, len(body)):]))
	}
	for _, more := range []string{"A", "=", "\r\n", " ", strings.Repeat("A", 600)} {
		refused(reseal(body + more))
		refused(code + more)
	}
	if details["malformed"] == 0 || details["it was not issued by this server: it was changed, or issued under another issuer or master key"] == 0 {
		t.Errorf("the trace gives these reasons: %v", details)
	}
	s.redeem("app", code).want(t, http.StatusOK, "")
}

// MT-01: A sealed code is accepted only at its issuer, and under the same master key.
func TestMT01_CodesOfAnotherIssuer(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	code := s.code("ada", "app")
	for _, change := range []func(*authserver.Config){
		func(c *authserver.Config) { c.Issuer = "https://other.example.com" },
		func(c *authserver.Config) { c.Secret = []byte("another secret of 32 bytes or more") },
	} {
		config := s.config
		change(&config)
		other, err := authserver.New(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(other.Close)
		node := *s
		node.server = other
		node.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		node.redeem("app", node.code("ada", "app")).want(t, http.StatusOK, "")
	}
	s.redeem("app", code).want(t, http.StatusOK, "")
}

// The trace for the operator says that a code has expired.
func TestTraceOfAnExpiredCode(t *testing.T) {
	for _, change := range codeForms() {
		synctest.Test(t, func(t *testing.T) {
			var last record.Trace
			s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, memory.New(), func(c *authserver.Config) {
				c.OnTrace = func(t *record.Trace) { last = *t }
			})
			code := s.code("ada", "app", change...)
			time.Sleep(time.Minute)
			s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
			if detail := last.Checks[len(last.Checks)-1].Detail; detail != "it has expired" {
				t.Errorf("the trace says %q", detail)
			}
		})
	}
}

// The clocks of nodes may differ by a few seconds.
func TestClocksOfNodesMayDiffer(t *testing.T) {
	for ahead, lives := range map[time.Duration]time.Duration{5 * time.Second: 65 * time.Second, -5 * time.Second: 55 * time.Second} {
		synctestScene(t, scriptSetup{}, func(t *testing.T, s *scene) {
			codes := make([]string, 3)
			for i := range codes {
				var err error
				if codes[i], err = s.server.ShiftCode(s.code("ada", "app"), ahead); err != nil {
					t.Fatal(err)
				}
			}
			a := s.redeem("app", codes[0])
			a.want(t, http.StatusOK, "")
			time.Sleep(lives - time.Second)
			s.redeem("app", codes[1]).want(t, http.StatusOK, "")
			time.Sleep(time.Second)
			s.redeem("app", codes[2]).want(t, http.StatusBadRequest, oauth.InvalidGrant)
			s.redeem("app", codes[0]).want(t, http.StatusBadRequest, oauth.InvalidGrant) // still a replay
			s.wantDead("replay", a)
		})
	}
}

// Codes that would be too long are stored: clients may cut them off.
func TestLongCodesAreStored(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	forms := map[bool]int{}
	for n := 0; n <= 600; n += 20 {
		code := s.code("ada", "app", "nonce", strings.Repeat("n~", n/2))
		sealed := len(code) > 60
		forms[sealed]++
		if len(code) > authserver.MaxSealedCode || !sealed && len(code) != 60 {
			t.Errorf("with a nonce of %d characters, the code has %d", n, len(code))
		}
		s.redeem("app", code).want(t, http.StatusOK, "")
	}
	if forms[true] < 5 || forms[false] < 5 {
		t.Errorf("%d codes were sealed, and %d stored", forms[true], forms[false])
	}
}

// A code without a session is stored, and so is one that is issued with tokens.
func TestCodesWithoutASessionAreStored(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) {
		c.ResponseTypes, c.GrantTypes = []string{"code", "code id_token"}, []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeImplicit}
	})}})
	s.authorize("ada", query("app"))
	s.sessions[s.latest()].Session = ""
	location, err := s.authorizeIn(s.latest(), query("app")).Location()
	if err != nil {
		t.Fatal(err)
	}
	if code := location.Query().Get("code"); len(code) != 60 {
		t.Errorf("without a session: %q", code)
	}
	location, err = s.authorize("ada", query("app", "response_type", "code id_token", "scope", "openid", "nonce", "n")).Location()
	if err != nil {
		t.Fatal(err)
	}
	if code, _, _ := strings.Cut(strings.TrimPrefix(location.Fragment, "code="), "&"); len(code) != 60 {
		t.Errorf("with an ID token: %q", code)
	}
}

// checkStore fails to find what tokens depend on after the tokens for a code are stored.
type checkStore struct {
	*memory.Store
	fails atomic.Bool
}

func (c *checkStore) PutAndFind(ctx context.Context, now time.Time, find record.Find, put ...storage.Ticket) (record.Found, error) {
	found, err := c.Store.PutAndFind(ctx, now, find, put...)
	if c.fails.Load() {
		return record.Found{}, cmp.Or(err, storage.ErrUnavailable)
	}
	return found, err
}

// If the check after the redemption fails, the client may try again, once, and the tokens of the first
// attempt are removed.
func TestOP09_RetryAfterAFailedCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &checkStore{Store: memory.New()}
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
		code := s.code("ada", "app")
		store.fails.Store(true)
		s.redeem("app", code).want(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
		store.fails.Store(false)
		time.Sleep(time.Second) // the note is stored
		a := s.redeem("app", code)
		a.want(t, http.StatusOK, "")
		s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.wantDead("replay", a)

		// A withdrawal before the second attempt refuses it.
		code = s.code("ada", "app")
		store.fails.Store(true)
		s.redeem("app", code).want(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
		store.fails.Store(false)
		s.withdraw("ada", "app")
		time.Sleep(time.Second)
		s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	})
}

// recordReads counts how often the store and the users are read.
type recordReads struct {
	database
	authserver.Users
	reads map[string]int
}

func (r *recordReads) Get(ctx context.Context, now time.Time, key storage.Key) (storage.Ticket, error) {
	r.reads["ticket"]++
	return r.database.Get(ctx, now, key)
}

func (r *recordReads) Grant(ctx context.Context, subject, clientID string) (*record.Grant, error) {
	r.reads["grant"]++
	return r.database.Grant(ctx, subject, clientID)
}

func (r *recordReads) PutAndFind(ctx context.Context, now time.Time, find record.Find, put ...storage.Ticket) (record.Found, error) {
	r.reads["grant"]++
	return r.database.PutAndFind(ctx, now, find, put...)
}

func (r *recordReads) SubjectActive(ctx context.Context, subject, session string, issued time.Time) (bool, error) {
	r.reads["user"]++
	return r.Users.SubjectActive(ctx, subject, session, issued)
}

func (r *recordReads) SessionActive(ctx context.Context, session string) (bool, error) {
	r.reads["session"]++
	return r.Users.SessionActive(ctx, session)
}

func (r *recordReads) Claims(ctx context.Context, subject string) (oauth.Claims, error) {
	r.reads["claims"]++
	return r.Users.Claims(ctx, subject)
}

// A redemption reads the user, the session and the grant once each, and no ticket, also if another node
// has issued the code.
func TestARedemptionReadsEachRecordOnce(t *testing.T) {
	r := &recordReads{database: memory.New(), reads: map[string]int{}}
	s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, r, func(c *authserver.Config) {
		r.Users, c.Users = c.Users, r
	})
	code := s.code("ada", "app", "scope", "openid")
	var err error
	if s.server, err = authserver.New(s.config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.Close)
	clear(r.reads)
	s.redeem("app", code).want(t, http.StatusOK, "")
	if want := map[string]int{"user": 1, "session": 1, "grant": 1}; !maps.Equal(r.reads, want) {
		t.Errorf("reads: %v, want %v", r.reads, want)
	}
}
