package faults

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/internal/pgtest"
)

// get returns the status of a page, its Retry-After, and how long it took.
func (s *site) get(t *testing.T, path string) (status int, retryAfter string, took time.Duration) {
	t.Helper()
	began := time.Now()
	response, err := s.client.Get(s.issuer + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Retry-After"), time.Since(began)
}

// ready waits until the server is ready.
func (s *site) ready(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		if status, _, _ := s.get(t, "/readyz"); status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the server does not get ready")
		}
	}
}

func (c *customer) must(what string, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
}

// In TestRE13_SilentDatabase, a database goes silent: requests fail within seconds, the server
// reports that it is not ready, and recovers by itself.
func TestRE13_SilentDatabase(t *testing.T) {
	databaseURL := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.SocketOf(t, databaseURL))
	s := newSite(t, proxy.Through(t, databaseURL))
	server := s.start(t)
	s.ready(t)
	c := &customer{t: t, site: s, person: person.New("ada0", password)}
	c.must("authorize", c.authorize())
	c.must("redeem", c.redeem())
	proxy.Freeze()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {c.tokens[0]}}
	began := time.Now()
	request, err := http.NewRequest(http.MethodPost, s.issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(clientID, clientSecret)
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "temporarily_unavailable") {
		t.Errorf("a refresh: %d %s", response.StatusCode, body)
	}
	if took := time.Since(began); took > 14*time.Second {
		t.Errorf("a refresh took %v", took)
	}
	if status, _, took := s.get(t, "/readyz"); status != http.StatusServiceUnavailable || took > 4*time.Second {
		t.Errorf("/readyz: %d after %v", status, took)
	}
	proxy.Thaw()
	s.ready(t)
	c.must("refresh", c.refresh())
	server.kill(t)
	server.waitKilled(t)
}

// In TestOP09_LostStandby, the synchronous standby fails while a code is redeemed.
func TestOP09_LostStandby(t *testing.T) {
	primary := pgtest.Start(t)
	databaseURL := primary.Database("test")
	standby := primary.Standby(t)
	s := newSite(t, databaseURL)
	server := s.start(t)
	s.ready(t)
	c := &customer{t: t, site: s, person: person.New("ada0", password)}
	c.must("authorize", c.authorize())
	primary.Exec("postgres", `ALTER SYSTEM SET synchronous_standby_names = 'standby'`)
	primary.Exec("postgres", `SELECT pg_reload_conf()`)
	standby.Stop()
	var redeemed error
	for range 5 {
		c.redeemed = false
		if redeemed = c.redeem(); redeemed == nil {
			break
		}
		if !strings.Contains(redeemed.Error(), "503") {
			t.Fatalf("redeem: %v", redeemed)
		}
	}
	c.must("redeem", redeemed)
	primary.Exec("postgres", `ALTER SYSTEM SET synchronous_standby_names = ''`)
	primary.Exec("postgres", `SELECT pg_reload_conf()`)
	c.must("refresh", c.refresh())
	server.kill(t)
	server.waitKilled(t)
	if strings.Contains(server.stderr.String(), "token.replayed") {
		t.Errorf("the log reports a replay:\n%s", server.stderr.String())
	}
}

// TestRE11_SignedInThroughPgBouncer signs users in behind PgBouncer in transaction mode.
func TestRE11_SignedInThroughPgBouncer(t *testing.T) {
	s := newSite(t, pgtest.PgBouncer(t, pgtest.Database(t)))
	server := s.start(t)
	s.ready(t)
	c := &customer{t: t, site: s, person: person.New("ada0", password)}
	for range 5 {
		c.must("authorize", c.authorize())
		c.must("redeem", c.redeem())
		for range 5 {
			c.must("refresh", c.refresh())
		}
	}
	server.kill(t)
	server.waitKilled(t)
}
