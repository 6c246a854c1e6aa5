package authserver_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// A session has 80 clients whose documents do not exist, and the node has an empty cache. Signing out
// still works without fetching them, and the clients of other sessions are notified.
func TestSH05_MissingDocumentsDoNotPreventSignOut(t *testing.T) {
	documents := newDocumentHost(t)
	s := newScene(t, scriptSetup{documents: documents, Clients: []testClient{backchannelClient("app")}})
	mallory := s.signIn(httptest.NewRecorder(), "ada")
	for i := range 80 {
		id := documents.server.URL + "/absent-" + strconv.Itoa(i)
		key := storage.Kind("participant").Hash(mallory.Session + " " + id)
		err := s.store.Put(t.Context(), time.Now(), storage.Ticket{Key: key, Family: "sid:" + mallory.Session, Data: []byte(id), Expires: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.server.SessionClients(t.Context(), *mallory); err != nil {
		t.Errorf("the sign-out page: %v", err)
	}
	r := httptest.NewRequest(http.MethodPost, "/sign-out", nil)
	r.AddCookie(&http.Cookie{Name: sessionCookie, Value: mallory.Session})
	w := httptest.NewRecorder()
	s.server.SignOut(w, r, nil)
	if w.Code != http.StatusSeeOther {
		t.Errorf("sign-out: %d %s", w.Code, w.Body)
	}
	for i := range 80 {
		if n := documents.fetches("/absent-" + strconv.Itoa(i)); n > 0 {
			t.Fatalf("document %d was fetched %d times", i, n)
		}
	}
	s.end(s.signedInAt("app"))
	if got := s.mustDeliver("200"); len(got) != 1 || got[0] != "app" {
		t.Errorf("notified %q, want app", got)
	}
}

// A client with a metadata document takes part in front-channel logout even if its document was
// deleted and is no longer cached.
func TestFrontChannelLogoutDoesNotNeedTheDocument(t *testing.T) {
	s := newDescribedScene(t)
	id := s.publish("/client", `, "client_name": "Notes", "frontchannel_logout_uri": "https://client.example.com/front"`)
	who := s.signIn(httptest.NewRecorder(), "ada")
	response := s.authorizeIn(who.Session, query(id, "scope", "openid", "nonce", "n"))
	consent, err := response.Location()
	if err != nil || consent.Path != "/consent" {
		t.Fatalf("%d %s", response.StatusCode, response.Header.Get("Location"))
	}
	r := httptest.NewRequest(http.MethodPost, "/consent", nil)
	for _, cookie := range response.Cookies() {
		r.AddCookie(cookie)
	}
	r.AddCookie(&http.Cookie{Name: sessionCookie, Value: who.Session})
	w := httptest.NewRecorder()
	s.server.Consented(w, r, consent.Query().Get("interaction"), authserver.ConsentAnswer{Subject: "ada", Scope: []string{"openid"}})
	if w.Code != http.StatusSeeOther {
		t.Fatalf("consent: %d %s", w.Code, w.Body)
	}
	s.documents.serve("/client", servedDocument{status: http.StatusNotFound})
	node, err := authserver.New(s.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Close)
	clients, err := node.SessionClients(t.Context(), *who)
	if err != nil || len(clients) != 1 || clients[0].ClientName != "Notes" || clients[0].FrontchannelLogoutURI == "" {
		t.Errorf("%v (%v)", clients, err)
	}
}

// If a document host is unavailable, its clients still work while their documents are cached.
func TestSH05_FailingDocumentHostsDoNotAffectCachedClients(t *testing.T) {
	documents := newDocumentHost(t)
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, scriptSetup{documents: documents})
		id := s.publish("/client", "")
		authorize := func(step string, want int) {
			t.Helper()
			began := time.Now()
			response := s.authorize("ada", query(id))
			if waited := time.Since(began); response.StatusCode != want || waited > time.Second {
				t.Errorf("%s: %d after %s", step, response.StatusCode, waited)
			}
		}
		authorize("before the failure", http.StatusSeeOther)
		documents.serve("/client", servedDocument{status: http.StatusBadGateway})
		for range 20 {
			time.Sleep(time.Hour)
			authorize("while the host is down", http.StatusSeeOther)
		}
		documents.serve("/client", servedDocument{status: http.StatusNotFound})
		time.Sleep(time.Hour)
		authorize("after the document was deleted", http.StatusBadRequest)
	})
}

// 10,000 messages are queued for a host that does not respond, so each one times out. A message for
// another host is still delivered within seconds, even if its session ends later.
func TestSH07_HangingHostsDoNotDelayOthers(t *testing.T) {
	hanging, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and never responds
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	var delivered atomic.Int32
	responsive := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { delivered.Add(1) }))
	defer responsive.Close()
	stores(t, func(t *testing.T, store database) {
		delivered.Store(0)
		at := func(id, address string) testClient {
			return confidential(id, func(c *record.Client) { c.BackchannelLogoutURI = address })
		}
		s := newSceneOn(t, scriptSetup{Clients: []testClient{
			at("dead", "http://localhost:"+strconv.Itoa(hanging.Addr().(*net.TCPAddr).Port)+"/"), at("app", responsive.URL),
		}}, store, func(c *authserver.Config) {
			c.Outgoing.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128")}
		})
		node, err := authserver.New(s.config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(node.Close)
		now, messages, participants := time.Now(), []storage.Message(nil), []storage.Ticket(nil)
		for i := range 10_000 {
			session := fmt.Sprintf("s%d", i)
			messages = append(messages, storage.Message{ID: "m" + session, Owner: "localhost", Created: now, Due: now.Add(-time.Hour), Data: []byte(`{"c":"dead","s":"ada","i":"` + session + `"}`)})
			if i < 1000 { // as many as two nodes can send in a minute
				participants = append(participants, storage.Ticket{
					Key: storage.Kind("participant").Hash(session + " dead"), Data: []byte("dead"), Expires: now.Add(time.Hour),
				})
			}
		}
		if err := store.Put(t.Context(), now, participants...); err != nil {
			t.Fatal(err)
		}
		for batch := range slices.Chunk(messages, 500) { // a transaction has seconds
			if err := store.Enqueue(t.Context(), batch...); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		for _, server := range []*authserver.Server{s.server, node} {
			go func() { done <- server.DeliverLogouts(ctx) }()
		}
		s.end(s.signedInAt("app"))
		s.server.SessionsEnded()
		for deadline := time.Now().Add(20 * time.Second); delivered.Load() == 0 && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		if delivered.Load() == 0 {
			t.Error("the other client was not notified within 20 seconds")
		}
		cancel()
		for range 2 {
			if err := <-done; err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
}
