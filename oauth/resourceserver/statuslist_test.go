package resourceserver

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

const testStatusURI = testIssuer + "/status-list?id=1"

func checkingStatus(c *Config) { c.CheckStatus = true }

// statusToken returns an access token whose status is at an index of the test's list.
func (p *provider) statusToken(t testing.TB, index int64) string {
	return p.token(t, "at+jwt", map[string]any{"exp": time.Now().Unix() + 1_000_000,
		"status": oauth.Status{StatusList: &oauth.StatusListReference{Index: index, URI: testStatusURI}}})
}

// publish serves a list with some revoked tokens and changed claims.
func (p *provider) publish(t testing.TB, changes map[string]any, revoked ...int64) {
	t.Helper()
	list := oauth.NewStatusList(1000)
	for _, index := range revoked {
		list.Invalidate(index)
	}
	p.publishAs(t, "statuslist+jwt", changes, list)
}

func (p *provider) publishAs(t testing.TB, typ string, changes map[string]any, list any) {
	t.Helper()
	p.with(func() {
		p.responses["/status-list"] = func(w http.ResponseWriter, r *http.Request) {
			all := map[string]any{
				"iss": testIssuer, "sub": testStatusURI, "iat": time.Now().Unix(), "exp": time.Now().Unix() + 900, "ttl": 60, "status_list": list,
			}
			maps.Copy(all, changes)
			maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
			w.Header().Set("Content-Type", "application/statuslist+jwt")
			if accept := r.Header.Get("Accept"); accept != "application/statuslist+jwt" {
				http.Error(w, accept, http.StatusNotAcceptable)
				return
			}
			_, _ = io.WriteString(w, p.signed(t, "one", typ, all))
		}
	})
}

func TestRevokedTokenIsRefusedByItsStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		p.publish(t, nil, 7)
		h := p.guard(t, checkingStatus).Require()(whoami)
		good, revoked := p.statusToken(t, 6), p.statusToken(t, 7)
		for range 3 {
			accepted(t, call(h, "Bearer "+good), "alice")
			refused(t, call(h, "Bearer "+revoked), http.StatusUnauthorized, oauth.InvalidToken)
		}
		if n := p.hit("/status-list"); n != 1 {
			t.Errorf("the list was fetched %d times", n)
		}
		refused(t, call(h, "Bearer "+p.statusToken(t, 1000)), http.StatusUnauthorized, oauth.InvalidToken) // outside the list
		p.publish(t, nil, 6, 7)
		time.Sleep(61 * time.Second) // the list's ttl
		refused(t, call(h, "Bearer "+good), http.StatusUnauthorized, oauth.InvalidToken)
	})
}

// A suspended token is rejected like a revoked one, and so is one with an application-specific
// status (draft-ietf-oauth-status-list, sections 7.1 and 8.3).
// A list of 2^20 tokens, half of them revoked at random, does not compress.
func TestALargeStatusListOfRandomRevocations(t *testing.T) {
	p := newProvider(t)
	list := oauth.NewStatusList(1 << 20)
	random := rand.New(rand.NewPCG(1, 2))
	revoked := map[int64]bool{}
	for range 700_000 {
		index := random.Int64N(1 << 20)
		list.Invalidate(index)
		revoked[index] = true
	}
	p.publishAs(t, "statuslist+jwt", nil, list)
	h := p.guard(t, checkingStatus).Require()(whoami)
	for index := range int64(20) {
		w := call(h, "Bearer "+p.statusToken(t, index))
		if want := map[bool]int{false: http.StatusOK, true: http.StatusUnauthorized}[revoked[index]]; w.Code != want {
			t.Errorf("token %d, revoked %t: %d %s", index, revoked[index], w.Code, w.Body)
		}
	}
}

func TestSuspendedTokenIsRefused(t *testing.T) {
	p := newProvider(t)
	// The list of section 4.1's example of two bits: 1, 2, 0, 3, …
	p.publish(t, map[string]any{"status_list": map[string]any{"bits": 2, "lst": "eNo76fITAAPfAgc"}})
	h := p.guard(t, checkingStatus).Require()(whoami)
	accepted(t, call(h, "Bearer "+p.statusToken(t, 2)), "alice")
	for index, status := range map[int64]string{0: "invalid", 1: "suspended", 3: "application specific"} {
		t.Log(status)
		refused(t, call(h, "Bearer "+p.statusToken(t, index)), http.StatusUnauthorized, oauth.InvalidToken)
	}
}

// A list must be signed by the issuer for its own URI (draft-ietf-oauth-status-list, section
// 8.3). Without a valid list no token is accepted, but the error is not invalid_token.
func TestInvalidStatusListsAreRejected(t *testing.T) {
	long := oauth.NewStatusList(1000)
	for name, publish := range map[string]func(t testing.TB, p *provider){
		"of another uri":       func(t testing.TB, p *provider) { p.publish(t, map[string]any{"sub": testIssuer + "/status-list?id=2"}) },
		"without sub":          func(t testing.TB, p *provider) { p.publish(t, map[string]any{"sub": nil}) },
		"of another issuer":    func(t testing.TB, p *provider) { p.publish(t, map[string]any{"iss": "https://evil.example.com"}) },
		"expired":              func(t testing.TB, p *provider) { p.publish(t, map[string]any{"exp": time.Now().Unix() - 60}) },
		"without iat":          func(t testing.TB, p *provider) { p.publish(t, map[string]any{"iat": nil}) },
		"issued in the future": func(t testing.TB, p *provider) { p.publish(t, map[string]any{"iat": time.Now().Unix() + 600}) },
		"with a ttl of zero":   func(t testing.TB, p *provider) { p.publish(t, map[string]any{"ttl": 0}) },
		"without a list":       func(t testing.TB, p *provider) { p.publish(t, map[string]any{"status_list": nil}) },
		"of three bits": func(t testing.TB, p *provider) {
			p.publish(t, map[string]any{"status_list": map[string]any{"bits": 3, "lst": "eNrbuRgAAhcBXQ"}})
		},
		"of another typ":  func(t testing.TB, p *provider) { p.publishAs(t, "at+jwt", nil, long) },
		"that is missing": func(testing.TB, *provider) {},
		"signed by another key": func(t testing.TB, p *provider) {
			evil := newProvider(t)
			evil.publish(t, nil)
			response := evil.responses["/status-list"]
			p.with(func() { p.responses["/status-list"] = response })
		},
		"that redirects": func(_ testing.TB, p *provider) {
			p.with(func() {
				p.responses["/status-list"] = func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, "https://evil.example.com/", http.StatusFound)
				}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			publish(t, p)
			unavailable(t, call(p.guard(t, checkingStatus).Require()(whoami), "Bearer "+p.statusToken(t, 1)))
		})
	}
}

func TestTokenWithoutAStatusIsRefused(t *testing.T) {
	p := newProvider(t)
	p.publish(t, nil)
	h := p.guard(t, checkingStatus).Require()(whoami)
	reference := func(index any, uri string) map[string]any {
		return map[string]any{"status_list": map[string]any{"idx": index, "uri": uri}}
	}
	for name, status := range map[string]any{
		"none":               nil,
		"a word":             "active",
		"another mechanism":  map[string]any{"other": 1},
		"without uri":        reference(1, ""),
		"a negative index":   reference(-1, testStatusURI),
		"a fractional index": reference(1.5, testStatusURI),
		"another host":       reference(1, "https://evil.example.com/status-list?id=1"),
		"another port":       reference(1, "https://login.example.com:8443/status-list?id=1"),
		"not https":          reference(1, "http://login.example.com/status-list?id=1"),
		"a file":             reference(1, "file:///etc/passwd"),
	} {
		w := call(h, "Bearer "+p.token(t, "at+jwt", map[string]any{"status": status}))
		if w.Code != http.StatusUnauthorized {
			t.Errorf("a status that is %s: %d", name, w.Code)
		}
	}
	if n := p.hit("/status-list"); n != 0 {
		t.Errorf("%d lists were fetched", n)
	}
	// Without CheckStatus, the token is accepted.
	accepted(t, call(p.guard(t, nil).Require()(whoami), "Bearer "+p.statusToken(t, 1)), "alice")
}

// While the issuer is down, the last list is used until it expires, and the issuer is not
// flooded with requests.
func TestStatusListWhileTheIssuerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		p.publish(t, map[string]any{"exp": time.Now().Unix() + 600}, 7)
		h := p.guard(t, checkingStatus).Require()(whoami)
		good, revoked := p.statusToken(t, 6), p.statusToken(t, 7)
		accepted(t, call(h, "Bearer "+good), "alice")
		p.with(func() {
			p.responses["/status-list"] = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusBadGateway) }
		})
		before := p.hit("/status-list")
		for range 60 {
			time.Sleep(9 * time.Second)
			for range 5 {
				accepted(t, call(h, "Bearer "+good), "alice")
				refused(t, call(h, "Bearer "+revoked), http.StatusUnauthorized, oauth.InvalidToken)
			}
		}
		if n := p.hit("/status-list") - before; n > 60 {
			t.Errorf("%d fetches in nine minutes of failure", n)
		}
		time.Sleep(2 * time.Minute)
		unavailable(t, call(h, "Bearer "+good))
		p.publish(t, nil)
		time.Sleep(5 * time.Second)
		accepted(t, call(h, "Bearer "+good), "alice")
	})
}

func TestConcurrentRequestsShareOneStatusListFetch(t *testing.T) {
	p := newProvider(t)
	p.publish(t, nil)
	h := p.guard(t, checkingStatus).Require()(whoami)
	var all sync.WaitGroup
	for i := range 50 {
		token := p.statusToken(t, int64(i))
		all.Go(func() { accepted(t, call(h, "Bearer "+token), "alice") })
	}
	all.Wait()
	if n := p.hit("/status-list"); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestStatusListsAreLimited(t *testing.T) {
	var lists statusLists
	for i := range 3 * maxStatusLists {
		lists.put(fmt.Sprint(i), &knownStatusList{expires: time.Unix(int64(i), 0)})
	}
	if len(lists.lists) != maxStatusLists || lists.get(fmt.Sprint(3*maxStatusLists-1)) == nil {
		t.Errorf("%d lists are cached", len(lists.lists))
	}
}

// A token with any status claim is accepted only with a list of its issuer.
func FuzzStatusClaim(f *testing.F) {
	for _, seed := range []string{`{"status_list":{"idx":6,"uri":"` + testStatusURI + `"}}`, `{"status_list":{"idx":7,"uri":"` + testStatusURI + `"}}`, `{}`, `1`, `{"status_list":{"idx":1e3,"uri":"x"}}`} {
		f.Add(seed)
	}
	p := newProvider(f)
	h := p.guard(f, checkingStatus).Require()(whoami)
	f.Fuzz(func(t *testing.T, status string) {
		if !json.Valid([]byte(status)) {
			return
		}
		p.publish(t, nil, 7)
		w := call(h, "Bearer "+p.token(t, "at+jwt", map[string]any{"exp": 253402300799, "status": json.RawMessage(status)}))
		var claim oauth.Status
		named := json.Unmarshal([]byte(status), &claim) == nil && claim.StatusList != nil
		if w.Code == http.StatusOK && (!named || claim.StatusList.URI != testStatusURI || claim.StatusList.Index == 7 || claim.StatusList.Index >= 1000) {
			t.Errorf("a token with the status %s was accepted", status)
		}
	})
}
