package authserver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/httpscript"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// backchannelClient returns a client that uses back-channel logout.
func backchannelClient(id string) testClient {
	return confidential(id, func(c *record.Client) { c.BackchannelLogoutURI = "$rp/" + id })
}

// signedInAt signs ada in to the clients and returns her session.
func (s *scene) signedInAt(clients ...string) string {
	s.t.Helper()
	s.code("ada", clients[0], "scope", "openid")
	session := s.latest()
	for _, client := range clients[1:] {
		response := s.authorizeIn(session, query(client, "scope", "openid"))
		if location, err := response.Location(); err != nil || location.Query().Get("code") == "" {
			s.t.Fatalf("no code for %s: %d", client, response.StatusCode)
		}
	}
	return session
}

func (s *scene) mustDeliver(status string) []string {
	s.t.Helper()
	forms, err := s.deliver(s.t.Context(), status)
	if err != nil {
		s.t.Fatal(err)
	}
	var paths []string
	for _, form := range forms {
		path, _, _ := strings.Cut(strings.TrimPrefix(form, "POST /"), "\n")
		paths = append(paths, path)
	}
	return paths
}

// The server stops while clients are being notified. After a restart it notifies them again.
func TestSE10_LogoutsSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		url := "sqlite:" + filepath.Join(t.TempDir(), "test.db")
		store, err := sqldb.Open(t.Context(), url, sqldb.Config{MasterKey: make([]byte, 32)})
		if err != nil {
			t.Fatal(err)
		}
		first := newSceneOn(t, scriptSetup{Clients: []testClient{backchannelClient("app"), backchannelClient("other")}}, store, nil)
		session := first.signedInAt("app", "other")
		first.end(session)
		ended := first.ended
		if got := first.mustDeliver("500"); len(got) != 2 {
			t.Fatalf("notified %q", got)
		}
		// The messages are in the outbox. The ended session is listed again, as if the server had
		// stopped before it forgot the session.
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)

		at := func(id string) testClient {
			return confidential(id, func(c *record.Client) { c.BackchannelLogoutURI = "http://" + first.rp.Addr().String() + "/" + id })
		}
		second := newSceneOn(t, scriptSetup{Clients: []testClient{at("app"), at("other")}}, openStore(t, url), func(c *authserver.Config) {
			c.Outgoing.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		})
		second.rp, second.ended = first.rp, ended
		if got := second.mustDeliver("200"); len(got) != 2 {
			t.Errorf("after the restart, notified %q", got)
		}
		time.Sleep(25 * time.Hour)
		if got := second.mustDeliver("200"); len(got) != 0 {
			t.Errorf("notified again: %q", got)
		}
	})
}

// The server stops while a client is being notified. The next one notifies the client at once: it does
// not wait for the end of the claim of the first.
func TestSE10_LogoutsInterruptedByAStopAreSentAtOnce(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		arrived := make(chan struct{}, 2)
		stop := make(chan context.CancelFunc, 1)
		client := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // then the end of the request is noticed
			arrived <- struct{}{}
			if len(arrived) == 1 {
				(<-stop)()
				<-r.Context().Done()
			}
		}))
		defer client.Close()
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) { c.BackchannelLogoutURI = client.URL })}}, store, func(c *authserver.Config) {
			c.Outgoing.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		})
		s.end(s.signedInAt("app"))
		ctx, cancel := context.WithCancel(t.Context())
		stop <- cancel
		if err := s.server.DeliverLogouts(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.server.DeliverLogouts(t.Context()); err != nil || len(arrived) != 2 {
			t.Errorf("%d requests after the next start, %v; want 2", len(arrived), err)
		}
	})
}

func TestSE10_TwoNodesNotifyEachClientOnce(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, scriptSetup{Clients: []testClient{backchannelClient("a"), backchannelClient("b"), backchannelClient("c")}}, store, nil)
		other, err := authserver.New(s.config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(other.Close)
		s.end(s.signedInAt("a", "b", "c"))
		got, err := s.receive("200", func() error {
			errs := make([]error, 6)
			race(len(errs), func(i int) { errs[i] = []*authserver.Server{s.server, other}[i%2].DeliverLogouts(t.Context()) })
			return errors.Join(errs...)
		})
		if err != nil || len(got) != 3 {
			t.Errorf("notified %q (%v), want each client once", got, err)
		}
	})
}

// A client joins a session on two nodes that do not know of each other's record.
func TestSE09_ClientsOfASessionAreRecordedOnce(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, scriptSetup{Clients: []testClient{backchannelClient("app")}}, store, nil)
		session := s.signedInAt("app")
		node, err := authserver.New(s.config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(node.Close)
		first := s.server
		s.server = node
		if location, err := s.authorizeIn(session, query("app", "scope", "openid")).Location(); err != nil || location.Query().Get("code") == "" {
			t.Fatalf("no code from the second node: %v", location)
		}
		s.server = first
		s.end(session)
		if diff := cmp.Diff([]string{"app"}, s.mustDeliver("200")); diff != "" {
			t.Error(diff)
		}
	})
}

// If a session is renamed, a client gets the sid that the session had when the client joined.
func TestSE09_LogoutTokensOfRenamedSessions(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{backchannelClient("app"), backchannelClient("later")}})
	session := s.signedInAt("app")
	who := s.sessions[session]
	delete(s.sessions, session)
	renamed := *who
	renamed.Session, renamed.FormerSessions = "renamed", []string{session}
	s.sessions["renamed"] = &renamed
	s.authorizeIn("renamed", query("later", "scope", "openid"))
	if clients, err := s.server.SessionClients(t.Context(), renamed); err != nil || len(clients) != 2 {
		t.Errorf("%d clients in the session (%v)", len(clients), err)
	}
	s.end("renamed")
	forms, err := s.deliver(t.Context(), "200")
	if err != nil {
		t.Fatal(err)
	}
	sids := map[any]any{}
	for _, form := range forms {
		_, token, _ := strings.Cut(form, "logout_token=")
		_, claims, err := httpscript.Decode(token)
		if err != nil {
			t.Fatal(err)
		}
		sids[claims["aud"]] = claims["sid"]
	}
	if diff := cmp.Diff(map[any]any{"app": session, "later": "renamed"}, sids); diff != "" {
		t.Error(diff)
	}
}

// Logout tokens are encrypted like the client's ID tokens (OpenID Connect Back-Channel Logout,
// section 2.4).
func TestSE09_LogoutTokensAreEncrypted(t *testing.T) {
	app := backchannelClient("app")
	app.IDTokenEncryptedResponseAlg, app.IDTokenEncryptedResponseEnc, app.IDTokenSignedResponseAlg = "A256KW", "A256GCM", "HS256"
	app.Secret = strings.Repeat(testSecret, 2)
	s := newScene(t, scriptSetup{Clients: []testClient{app}})
	s.end(s.signedInAt("app"))
	forms, err := s.deliver(t.Context(), "200")
	if err != nil || len(forms) != 1 {
		t.Fatalf("notified %q (%v)", forms, err)
	}
	_, token, _ := strings.Cut(forms[0], "logout_token=")
	signed, _, err := jose.DecryptSecret(token, jose.SharedSecret(app.Secret), []jose.Algorithm{"A256KW"})
	if err != nil {
		t.Fatalf("%v: %s", err, token)
	}
	header, claims, err := httpscript.Decode(string(signed))
	if err != nil || header["typ"] != "logout+jwt" || header["alg"] != "HS256" || claims["aud"] != "app" {
		t.Errorf("the signed token is %v %v (%v)", header, claims, err)
	}
}

func TestDC07_LogoutTokensAreNotSentToPrivateAddresses(t *testing.T) {
	s := newSceneOn(t, scriptSetup{Clients: []testClient{backchannelClient("app")}}, memory.New(), func(c *authserver.Config) { c.Outgoing = authserver.Outgoing{} })
	s.end(s.signedInAt("app"))
	if got := s.mustDeliver("200"); len(got) != 0 {
		t.Errorf("notified %q at a private address", got)
	}
}

func TestSE10_DeliveryStopsAfterADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := newSceneOn(t, scriptSetup{Clients: []testClient{backchannelClient("app")}}, memory.New(), func(c *authserver.Config) {
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		s.end(s.signedInAt("app"))
		began, last := time.Now(), time.Now()
		var attempts int
		for time.Since(began) < 72*time.Hour {
			if len(s.mustDeliver("500")) > 0 {
				attempts++
				last = time.Now()
			}
			time.Sleep(5 * time.Second)
		}
		if elapsed := last.Sub(began); elapsed < 24*time.Hour || elapsed > 26*time.Hour {
			t.Errorf("the last attempt was after %s", elapsed)
		}
		if attempts < 10 || attempts > 40 {
			t.Errorf("%d attempts", attempts)
		}
		if n := strings.Count(log.String(), "event=logout.given_up"); n != 1 {
			t.Errorf("the log has %d records of the failed delivery", n)
		}
		if strings.Contains(log.String(), "eyJ") {
			t.Error("LO-01: the log contains a token")
		}
	})
}

func TestLogoutURIsAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		metadata oauth.ClientMetadata
		want     string
	}{
		"https":                        {oauth.ClientMetadata{BackchannelLogoutURI: "https://client.example.com/back?x=y", FrontchannelLogoutURI: "https://client.example.com:443/front"}, ""},
		"back channel on another host": {oauth.ClientMetadata{BackchannelLogoutURI: "https://hooks.example.net/back"}, ""},
		"http on loopback":             {oauth.ClientMetadata{BackchannelLogoutURI: "http://127.0.0.1:9/back"}, ""},
		"http":                         {oauth.ClientMetadata{BackchannelLogoutURI: "http://client.example.com/back"}, "backchannel_logout_uri"},
		"fragment":                     {oauth.ClientMetadata{BackchannelLogoutURI: "https://client.example.com/back#x"}, "backchannel_logout_uri"},
		"RU-04 script":                 {oauth.ClientMetadata{FrontchannelLogoutURI: "javascript:alert(1)"}, "frontchannel_logout_uri"},
		"another host":                 {oauth.ClientMetadata{FrontchannelLogoutURI: "https://evil.example.com/front"}, "frontchannel_logout_uri"},
		"another port":                 {oauth.ClientMetadata{FrontchannelLogoutURI: "https://client.example.com:8443/front"}, "frontchannel_logout_uri"},
		"another scheme":               {oauth.ClientMetadata{FrontchannelLogoutURI: "http://127.0.0.1/front"}, "frontchannel_logout_uri"},
	} {
		c.metadata.RedirectURIs, c.metadata.TokenEndpointAuthMethod = []string{testCallback}, oauth.AuthMethodNone
		problems := authserver.CheckClient(record.Client{ID: "app", ClientMetadata: c.metadata})
		got := ""
		if len(problems) > 0 {
			got = problems[0].Member
		}
		if got != c.want {
			t.Errorf("%s: %v, want a problem with %q", name, problems, c.want)
		}
	}
}

// The client of a session is recorded with the first response, in the operation that stores the code,
// if that is stored.
func TestRecordingAClientNeedsNoExtraWrite(t *testing.T) {
	for form, change := range codeForms() {
		store := &writeCounter{database: memory.New()}
		s := newSceneOn(t, scriptSetup{Clients: []testClient{backchannelClient("app")}}, store, nil)
		change = append(change, "scope", "openid")
		s.code("ada", "app", change...)
		session := s.latest()
		want := map[string]int{"sealed": 0, "stored": 1}[form]
		for i := range 3 {
			store.writes = 0
			s.authorizeIn(session, query("app", change...))
			if store.writes != want {
				t.Errorf("%s code: response %d took %d writes, want %d", form, i+2, store.writes, want)
			}
		}
		store.writes = 0
		s.code("ada", "app", change...) // a new session
		if store.writes != 1 {
			t.Errorf("%s code: the first response in a session took %d writes", form, store.writes)
		}
	}
}
