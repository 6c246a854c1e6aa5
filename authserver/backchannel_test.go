package authserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/httpscript"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// PENDING ada lists the backchannel authentication requests that wait for a user.
func (s *scene) verbPending(w http.ResponseWriter, r *http.Request, words []string) error {
	pending, err := s.server.BackchannelRequests(r, words[0])
	if err != nil {
		return err
	}
	if len(pending) == 0 {
		fmt.Fprintln(w, "nothing to decide")
	}
	for _, in := range pending {
		fmt.Fprintf(w, "request: %s of %s, binding message: %s\n", in.Backchannel.ID, in.Client.ID, in.Backchannel.BindingMessage)
	}
	return nil
}

// APPROVAL $approval1: the user follows the link to a request.
func (s *scene) verbApproval(w http.ResponseWriter, r *http.Request, words []string) error {
	err := s.server.BeginBackchannel(w, r, words[0])
	if errors.Is(err, authserver.ErrNoBackchannelRequest) {
		fmt.Fprintln(w, "no such request")
		return nil
	}
	return err
}

// DENY $approval1 ada: the user denies a request in the list.
func (s *scene) verbDeny(w http.ResponseWriter, r *http.Request, words []string) error {
	err := s.server.DenyBackchannel(r, words[0], words[1])
	if errors.Is(err, authserver.ErrNoBackchannelRequest) {
		fmt.Fprintln(w, "no such request")
		return nil
	}
	return err
}

const testNotificationToken = "8d67dc78-7faa-4d41-aabd-67707b374255"

// cibaClient returns a client that polls.
func cibaClient(id string, change ...func(*record.Client)) testClient {
	c := confidential(id)
	c.RedirectURIs, c.GrantTypes = nil, []string{oauth.GrantTypeCIBA, oauth.GrantTypeRefreshToken}
	c.BackchannelTokenDeliveryMode = oauth.DeliveryPoll
	for _, f := range change {
		f(&c.Client)
	}
	return c
}

// backchannel sends a request for a user, and returns the auth_req_id and the ID of the request.
func (s *scene) backchannel(client, user string, form ...string) (authReqID, id string) {
	s.t.Helper()
	a := s.post("/backchannel_authentication", client, append([]string{"scope", "openid", "login_hint", user, "client_notification_token", testNotificationToken}, form...)...)
	var response oauth.BackchannelAuthenticationResponse
	if err := json.Unmarshal([]byte(a.body), &response); err != nil || response.AuthReqID == "" {
		s.t.Fatalf("no auth_req_id: %d %s", a.status, a.body)
	}
	pending, err := s.server.BackchannelRequests(httptest.NewRequest(http.MethodGet, "/account", nil), user)
	for _, in := range pending {
		if in.Client.ID == client {
			return response.AuthReqID, in.Backchannel.ID
		}
	}
	s.t.Fatalf("nothing waits for the user: %v", err)
	return "", ""
}

// decide signs a user in and decides on a request: allow is CONSENT, otherwise REFUSE. It returns where
// the browser goes.
func (s *scene) decide(user, id string, allow bool) string {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.signIn(w, user)
	r := httptest.NewRequest(http.MethodPost, "/approve", nil)
	for _, cookie := range w.Result().Cookies() {
		r.AddCookie(cookie)
	}
	w = httptest.NewRecorder()
	if err := s.server.BeginBackchannel(w, r, id); err != nil {
		s.t.Fatal(err)
	}
	for _, cookie := range w.Result().Cookies() {
		r.AddCookie(cookie)
	}
	interaction := interactionOf(w.Header().Get("Location"))
	w = httptest.NewRecorder()
	if allow {
		s.server.Consented(w, r, interaction, authserver.ConsentAnswer{Subject: user})
	} else {
		s.server.Refused(w, r, interaction)
	}
	return w.Header().Get("Location")
}

func (s *scene) poll(client, authReqID string) apiResponse {
	s.t.Helper()
	return s.post("/token", client, "grant_type", oauth.GrantTypeCIBA, "auth_req_id", authReqID)
}

// Of many concurrent requests for the tokens of one approval, at two nodes, one gets them, and they stay
// valid.
func TestCB_ConcurrentPollsGetTokensOnce(t *testing.T) {
	twoNodes(t, scriptSetup{Clients: []testClient{cibaClient("bank")}}, func(t *testing.T, nodes [2]*scene) {
		for range 3 {
			authReqID, id := nodes[0].backchannel("bank", "ada")
			if to := nodes[0].decide("ada", id, true); to != "/approve?answer=allowed" {
				t.Fatalf("not approved: %s", to)
			}
			var granted atomic.Int64
			var refresh atomic.Value
			race(50, func(i int) {
				switch a := nodes[i%2].poll("bank", authReqID); {
				case a.status == http.StatusOK:
					granted.Add(1)
					refresh.Store(a.RefreshToken)
				case a.Error != string(oauth.InvalidGrant):
					t.Errorf("a concurrent request gets %d %s", a.status, a.body)
				}
			})
			if granted.Load() != 1 {
				t.Fatalf("one auth_req_id was redeemed %d times", granted.Load())
			}
			if a := nodes[1].refresh("bank", refresh.Load().(string)); a.status != http.StatusOK {
				t.Errorf("the refresh token is not valid: %s", a.body)
			}
		}
	})
}

// Of an approval and a denial at the same time, one takes effect, and the client learns that one.
func TestCB_OneOfConcurrentDecisionsTakesEffect(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, scriptSetup{Clients: []testClient{cibaClient("bank")}}, store, nil)
		for range 5 {
			authReqID, id := s.backchannel("bank", "ada")
			var sessions [2]*http.Request
			var interactions [2]string
			for i := range sessions {
				w := httptest.NewRecorder()
				s.signIn(w, "ada")
				sessions[i] = httptest.NewRequest(http.MethodPost, "/approve", nil)
				for _, cookie := range w.Result().Cookies() {
					sessions[i].AddCookie(cookie)
				}
				w = httptest.NewRecorder()
				if err := s.server.BeginBackchannel(w, sessions[i], id); err != nil {
					t.Fatal(err)
				}
				for _, cookie := range w.Result().Cookies() {
					sessions[i].AddCookie(cookie)
				}
				interactions[i] = interactionOf(w.Header().Get("Location"))
			}
			var answers [2]string
			race(2, func(i int) {
				w := httptest.NewRecorder()
				if i == 0 {
					s.server.Consented(w, sessions[i], interactions[i], authserver.ConsentAnswer{Subject: "ada"})
				} else {
					s.server.Refused(w, sessions[i], interactions[i])
				}
				answers[i] = w.Header().Get("Location")
			})
			allowed, denied := answers[0] == "/approve?answer=allowed", answers[1] == "/approve?answer=denied"
			if allowed == denied {
				t.Fatalf("both or none took effect: %q", answers)
			}
			if a := s.poll("bank", authReqID); allowed != (a.status == http.StatusOK) {
				t.Errorf("allowed %v, and the client gets %d %s", allowed, a.status, a.body)
			}
		}
	})
}

// A client that registered itself cannot find out who has an account.
func TestCB01_UnknownUsersLookLikeOthersToRegisteredClients(t *testing.T) {
	s := newSceneOn(t, scriptSetup{Clients: []testClient{cibaClient("declared")}}, memory.New(), openRegistration)
	a, client := s.registerWithToken(`{"grant_types": ["` + oauth.GrantTypeCIBA + `"], "backchannel_token_delivery_mode": "poll"}`)
	if a.status != http.StatusCreated {
		t.Fatal(a.body)
	}
	send := func(hint string) apiResponse {
		r := httptest.NewRequest(http.MethodPost, "/backchannel_authentication", strings.NewReader(url.Values{"scope": {"openid"}, "login_hint": {hint}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(client.ClientID, client.ClientSecret)
		return s.do(r)
	}
	// The limit for one user also looks the same, however the hint is written.
	for _, written := range []func(string) string{strings.ToLower, strings.ToUpper, func(hint string) string { return " " + hint + " " }, strings.ToLower, strings.ToLower, strings.ToUpper, strings.ToLower} {
		known, unknown := send(written("ada")), send(written("nobody"))
		if known.status != unknown.status || known.Error != unknown.Error || len(known.body) != len(unknown.body) {
			t.Errorf("for a user %d %s, for another name %d %s", known.status, known.body, unknown.status, unknown.body)
		}
	}
	s.post("/backchannel_authentication", "declared", "scope", "openid", "login_hint", "nobody").want(t, http.StatusBadRequest, oauth.UnknownUserID)
}

// A client cannot flood a user, and one that tries does not block other clients or other users.
func TestCB02_AClientCannotFloodAUser(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, scriptSetup{Clients: []testClient{cibaClient("flood"), cibaClient("bank")}, Users: map[string]oauth.Claims{"ada": {}, "grace": {}}}, store, nil)
		accepted := 0
		for range 100 {
			a := s.post("/backchannel_authentication", "flood", "scope", "openid", "login_hint", "ada")
			if a.status == http.StatusOK {
				accepted++
			} else if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
		if accepted != 5 {
			t.Errorf("%d requests wait for the user, want 5", accepted)
		}
		s.backchannel("bank", "ada")
		s.backchannel("flood", "grace")
		// Denying each request at once does not help the client.
		accepted = 0
		for range 100 {
			pending, err := s.server.BackchannelRequests(httptest.NewRequest(http.MethodGet, "/", nil), "grace")
			if err != nil {
				t.Fatal(err)
			}
			for _, in := range pending {
				if err := s.server.DenyBackchannel(httptest.NewRequest(http.MethodPost, "/", nil), in.Backchannel.ID, "grace"); err != nil {
					t.Fatal(err)
				}
			}
			if s.post("/backchannel_authentication", "flood", "scope", "openid", "login_hint", "grace").status == http.StatusOK {
				accepted++
			}
		}
		if accepted > 30 {
			t.Errorf("%d requests were accepted although the user denied all of them", accepted)
		}
	})
}

// A client that is no longer allowed what it has asked for does not hide the requests of other clients.
func TestCB02_AChangedClientHidesNoOtherRequests(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, scriptSetup{Clients: []testClient{cibaClient("changed"), cibaClient("bank")}}, store, nil)
		_, changed := s.backchannel("changed", "ada")
		_, id := s.backchannel("bank", "ada")
		err := store.UpdateClient(t.Context(), "changed", func(c *record.Client) error {
			c.GrantTypes, c.BackchannelTokenDeliveryMode = []string{oauth.GrantTypeClientCredentials}, ""
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		node, err := authserver.New(s.config) // has the current client
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(node.Close)
		s.server = node
		pending, err := s.server.BackchannelRequests(httptest.NewRequest(http.MethodGet, "/account", nil), "ada")
		if err != nil || len(pending) != 1 || pending[0].Backchannel.ID != id {
			t.Errorf("the pending requests are %v (%v), want that of bank alone", pending, err)
		}
		if err := s.server.DenyBackchannel(httptest.NewRequest(http.MethodPost, "/approve", nil), changed, "ada"); err == nil {
			t.Error("a request that the client is not allowed to send can be decided")
		}
	})
}

// A request that a client has just sent is the first in the list, even if another one expires later.
func TestTheNewestRequestIsFirst(t *testing.T) {
	synctestScene(t, scriptSetup{Clients: []testClient{cibaClient("cashier")}, Users: map[string]oauth.Claims{"ada": {}}}, func(t *testing.T, s *scene) {
		_, older := s.backchannel("cashier", "ada")
		time.Sleep(time.Second)
		_, newer := s.backchannel("cashier", "ada", "requested_expiry", "30")
		pending, err := s.server.BackchannelRequests(httptest.NewRequest(http.MethodGet, "/account", nil), "ada")
		if err != nil || len(pending) != 2 || pending[0].Backchannel.ID != newer || pending[1].Backchannel.ID != older {
			t.Errorf("got %+v and the error %v, want %s before %s", pending, err, newer, older)
		}
	})
}

// A client can try few codes for a user, also in parallel, and can then send none, not even the right one,
// until time has passed. Its other users and other clients are not affected.
func TestCB02_WrongUserCodesAreLimited(t *testing.T) {
	coded := func(c *record.Client) { c.BackchannelUserCodeParameter = true }
	setup := scriptSetup{
		Clients: []testClient{cibaClient("guesser", coded), cibaClient("bank", coded)}, Users: map[string]oauth.Claims{"ada": {}, "grace": {}},
		UserCodes: map[string]string{"ada": "tulip4711", "grace": "rose4711"},
	}
	synctestScene(t, setup, func(t *testing.T, s *scene) {
		send := func(client, user, code string) apiResponse {
			return s.post("/backchannel_authentication", client, "scope", "openid", "login_hint", user, "user_code", code)
		}
		var checked atomic.Int32
		var group sync.WaitGroup
		for i := range 25 {
			group.Go(func() {
				if a := send("guesser", "ada", strconv.Itoa(100000+i)); a.Error == string(oauth.InvalidUserCode) {
					checked.Add(1)
				}
			})
		}
		group.Wait()
		if n := checked.Load(); n != 10 {
			t.Errorf("%d codes were checked, want 10", n)
		}
		if a := send("guesser", "ada", "tulip4711"); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" || a.Error != string(oauth.TemporarilyUnavailable) {
			t.Errorf("the right code after many wrong ones: %d %s", a.status, a.body)
		}
		for _, other := range [][3]string{{"bank", "ada", "tulip4711"}, {"guesser", "grace", "rose4711"}} {
			if a := send(other[0], other[1], other[2]); a.status != http.StatusOK {
				t.Errorf("%v: %d %s", other, a.status, a.body)
			}
		}
		time.Sleep(time.Hour)
		if a := send("guesser", "ada", "tulip4711"); a.status != http.StatusOK {
			t.Errorf("after an hour: %d %s", a.status, a.body)
		}
		// A right code gives back no attempts.
		checked.Store(0)
		for i := range 20 {
			if a := send("guesser", "ada", strconv.Itoa(200000+i)); a.Error == string(oauth.InvalidUserCode) {
				checked.Add(1)
			}
		}
		if n := checked.Load(); n > 6 {
			t.Errorf("%d codes were checked an hour later, want at most 6", n)
		}
		// Right codes use up nothing, however many there are.
		for i := range 15 {
			if a := send("bank", "grace", "rose4711"); a.status != http.StatusOK {
				t.Fatalf("right code %d: %d %s", i, a.status, a.body)
			}
			pending, err := s.server.BackchannelRequests(httptest.NewRequest(http.MethodGet, "/account", nil), "grace")
			if err != nil || len(pending) == 0 {
				t.Fatalf("%d requests are waiting: %v", len(pending), err)
			}
			if err := s.server.DenyBackchannel(httptest.NewRequest(http.MethodPost, "/approve", nil), pending[0].Backchannel.ID, "grace"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A client that registered itself must always send a code, and cannot learn from the response whether
// there is a user.
func TestCB01_UserCodesRevealNoUsersToRegisteredClients(t *testing.T) {
	s := newSceneOn(t, scriptSetup{Users: map[string]oauth.Claims{"ada": {}, "grace": {}}, UserCodes: map[string]string{"ada": "tulip4711"}}, memory.New(), openRegistration)
	a, client := s.registerWithToken(`{"grant_types": ["` + oauth.GrantTypeCIBA + `"], "backchannel_token_delivery_mode": "poll", "backchannel_user_code_parameter": true}`)
	if a.status != http.StatusCreated || !client.BackchannelUserCodeParameter {
		t.Fatal(a.body)
	}
	for _, code := range []string{"", "wrong"} {
		want := oauth.MissingUserCode
		if code != "" {
			want = oauth.InvalidUserCode
		}
		for _, user := range []string{"ada", "grace", "nobody"} {
			r := httptest.NewRequest(http.MethodPost, "/backchannel_authentication", strings.NewReader(url.Values{"scope": {"openid"}, "login_hint": {user}, "user_code": {code}}.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.SetBasicAuth(client.ClientID, client.ClientSecret)
			if a := s.do(r); a.Error != string(want) {
				t.Errorf("%s with the code %q: %d %s", user, code, a.status, a.body)
			}
		}
	}
}

// A stranger cannot register a client that sends requests to users.
func TestCB02_StrangersCannotRegisterForCIBA(t *testing.T) {
	s := newSceneOn(t, scriptSetup{}, memory.New(), openRegistration)
	client := s.registered(`{"redirect_uris": ["` + testCallback + `"], "grant_types": ["authorization_code", "` + oauth.GrantTypeCIBA + `"], "backchannel_token_delivery_mode": "poll"}`)
	if client.HasGrantType(oauth.GrantTypeCIBA) {
		t.Errorf("the registered grant types are %q", client.GrantTypes)
	}
}

// registerWithToken registers a client with an initial access token.
func (s *scene) registerWithToken(metadata string) (apiResponse, oauth.ClientInformation) {
	s.t.Helper()
	token, err := authserver.NewInitialAccessToken(s.t.Context(), s.store, time.Now(), authserver.InitialAccessToken{Uses: 1, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.manage(http.MethodPost, "", token, metadata)
}

// A notification endpoint in a private network is refused: its address when the client registers
// itself, and what its name resolves to when the server connects.
func TestCB05_NotificationsDoNotReachPrivateNetworks(t *testing.T) {
	var reached atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer inside.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(inside.URL, "http://"), ":")
	s := newSceneOn(t, scriptSetup{}, memory.New(), func(c *authserver.Config) {
		openRegistration(c)
		c.Outgoing.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} // for the operator's own
	})
	metadata := func(endpoint string) string {
		return `{"grant_types": ["` + oauth.GrantTypeCIBA + `"], "token_endpoint_auth_method": "client_secret_basic",
			"backchannel_token_delivery_mode": "ping", "backchannel_client_notification_endpoint": "` + endpoint + `"}`
	}
	for _, endpoint := range []string{
		"https://10.0.0.1/cb", "https://169.254.169.254/latest", "https://[::1]/cb", "https://[::ffff:127.0.0.1]/cb", "https://[64:ff9b::a00:1]/cb",
		"http://127.0.0.1:" + port, "http://client.example.com/cb", "https://client.example.com/cb#x",
	} {
		if a, _ := s.registerWithToken(metadata(endpoint)); a.status != http.StatusBadRequest || a.Error != string(oauth.InvalidClientMetadata) {
			t.Errorf("%s: %d %s", endpoint, a.status, a.body)
		}
	}
	// A name can resolve to anything, so it is checked when the server connects.
	a, client := s.registerWithToken(metadata("https://client.example.com/cb"))
	if a.status != http.StatusCreated {
		t.Fatal(a.body)
	}
	err := s.store.UpdateClient(t.Context(), client.ClientID, func(c *record.Client) error {
		c.BackchannelClientNotificationEndpoint = "http://localhost:" + port
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "/backchannel_authentication", strings.NewReader("scope=openid&login_hint=ada&client_notification_token="+testNotificationToken))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(client.ClientID, client.ClientSecret)
	if a := s.do(r); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	pending, err := s.server.BackchannelRequests(httptest.NewRequest(http.MethodGet, "/", nil), "ada")
	if err != nil || len(pending) != 1 {
		t.Fatal(pending, err)
	}
	if err := s.server.DenyBackchannel(httptest.NewRequest(http.MethodPost, "/", nil), pending[0].Backchannel.ID, "ada"); err != nil {
		t.Fatal(err)
	}
	if err := s.server.DeliverLogouts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reached.Load() != 0 {
		t.Error("the ping reached a server in a private network")
	}
}

// A client whose notification endpoint hangs does not delay the pings of others.
func TestCB05_AHangingEndpointDelaysOnlyItsOwnPings(t *testing.T) {
	hanging, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and never responds
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	pinged := make(chan string, 1)
	responsive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		pinged <- string(body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer responsive.Close()
	at := func(id, address string) testClient {
		return cibaClient(id, func(c *record.Client) {
			c.BackchannelTokenDeliveryMode, c.BackchannelClientNotificationEndpoint = oauth.DeliveryPing, address
		})
	}
	s := newSceneOn(t, scriptSetup{Clients: []testClient{
		at("dead", "http://localhost:"+strconv.Itoa(hanging.Addr().(*net.TCPAddr).Port)+"/"), at("app", responsive.URL),
	}}, memory.New(), func(c *authserver.Config) {
		c.Outgoing.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128")}
	})
	deny := func(client string) string {
		authReqID, id := s.backchannel(client, "ada")
		if err := s.server.DenyBackchannel(httptest.NewRequest(http.MethodPost, "/", nil), id, "ada"); err != nil {
			t.Fatal(err)
		}
		return authReqID
	}
	for range 5 {
		deny("dead")
	}
	want := deny("app")
	ctx, cancel := context.WithCancel(t.Context())
	var delivering sync.WaitGroup
	delivering.Go(func() { _ = s.server.DeliverLogouts(ctx) })
	select {
	case body := <-pinged:
		if !strings.Contains(body, want) {
			t.Errorf("the ping is %s, want %s", body, want)
		}
	case <-time.After(4 * time.Second): // less than the hanging endpoint takes
		t.Error("the ping waits for a client that hangs")
	}
	cancel()
	delivering.Wait()
}

// The operator's hook is told that there is something to approve. The message has no secret.
func TestHooksAreToldAboutBackchannelRequests(t *testing.T) {
	received := make(chan string, 1)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- r.Header.Get("Webhook-Signature") + " " + string(body)
	}))
	defer hook.Close()
	s := newSceneOn(t, scriptSetup{Clients: []testClient{cibaClient("bank"), cibaClient("quiet")}}, memory.New(), func(c *authserver.Config) {
		c.Outgoing.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		c.Hooks.Webhooks = []authserver.Webhook{{
			URL: hook.URL, Secret: "whsec_" + strings.Repeat("A", 44), Events: []string{authserver.EventBackchannelAuthentication}, Clients: []string{"bank"},
		}}
	})
	s.backchannel("quiet", "ada")
	authReqID, id := s.backchannel("bank", "ada", "binding_message", "W4SCT")
	if err := s.server.DeliverLogouts(t.Context()); err != nil {
		t.Fatal(err)
	}
	signature, body, _ := strings.Cut(<-received, " ")
	var message struct {
		Type string         `json:"type"`
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal([]byte(body), &message); err != nil {
		t.Fatal(err)
	}
	if message.Type != authserver.EventBackchannelAuthentication || message.Data["sub"] != "ada" || message.Data["client_id"] != "bank" ||
		message.Data["binding_message"] != "W4SCT" || message.Data["approval_uri"] != scriptIssuer+"/approve?request="+id {
		t.Errorf("the message is %s", body)
	}
	if !strings.HasPrefix(signature, "v1,") || strings.Contains(body, authReqID) {
		t.Errorf("signature %q, message %s", signature, body)
	}
	if err := s.server.DeliverLogouts(t.Context()); err != nil || len(received) > 0 {
		t.Errorf("the hook is told again: %v", err)
	}
}

// Pushed tokens are bound to the key that the authentication request proved.
func TestPushedTokensAreBound(t *testing.T) {
	s := newSceneOn(t, scriptSetup{Clients: []testClient{cibaClient("push", func(c *record.Client) {
		c.BackchannelTokenDeliveryMode, c.BackchannelClientNotificationEndpoint, c.DPoPBoundAccessTokens = oauth.DeliveryPush, "$rp/cb", true
	})}}, memory.New(), nil)
	s.post("/backchannel_authentication", "push", "scope", "openid", "login_hint", "ada", "client_notification_token", testNotificationToken).
		want(t, http.StatusBadRequest, oauth.InvalidDPoPProof)
	proof := s.newProof("key", map[string]any{"htu": scriptIssuer + "/backchannel_authentication"})
	r := httptest.NewRequest(http.MethodPost, "/backchannel_authentication", strings.NewReader("scope=openid&login_hint=ada&client_notification_token="+testNotificationToken))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("DPoP", proof)
	r.SetBasicAuth("push", testSecret)
	if a := s.do(r); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	pending, err := s.server.BackchannelRequests(httptest.NewRequest(http.MethodGet, "/", nil), "ada")
	if err != nil || len(pending) != 1 {
		t.Fatal(pending, err)
	}
	s.decide("ada", pending[0].Backchannel.ID, true)
	received, err := s.deliver(t.Context(), "204")
	if err != nil || len(received) != 1 {
		t.Fatal(received, err)
	}
	_, body, _ := strings.Cut(received[0], "{")
	var pushed oauth.TokenResponse
	if err := json.Unmarshal([]byte("{"+body), &pushed); err != nil || pushed.TokenType != oauth.TokenTypeDPoP {
		t.Fatalf("%s (%v)", received[0], err)
	}
	_, claims, err := httpscript.Decode(pushed.AccessToken)
	if err != nil || fmt.Sprint(claims["cnf"]) != "map[jkt:"+s.thumbprint("key")+"]" {
		t.Errorf("cnf is %v (%v)", claims["cnf"], err)
	}
}

// No request makes the endpoint fail, or returns anything but an auth_req_id or an error of CIBA Core.
func FuzzBackchannelAuthentication(f *testing.F) {
	s := newScene(f, scriptSetup{Clients: []testClient{cibaClient("bank"), cibaClient("signed", func(c *record.Client) {
		c.BackchannelAuthenticationRequestSigningAlg, c.JWKS = "ES256", json.RawMessage(`"$key"`)
	})}})
	signed, err := s.sign(jose.ES256, "JWT", "", map[string]any{
		"iss": "signed", "aud": scriptIssuer, "scope": "openid", "login_hint": "ada", "requested_expiry": 60, "exp": "+300s", "iat": "0s", "nbf": "0s", "jti": "1",
	})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"scope=openid&login_hint=ada", "scope=openid+email&login_hint=ada&binding_message=W4SCT&requested_expiry=30&acr_values=1+2",
		"scope=openid&id_token_hint=a.b.c", "scope=openid&login_hint_token=a.b.c", "request=" + signed, "request=e30.e30.&scope=openid",
		"scope=openid&login_hint=ada&resource=https%3A%2F%2Fapi.example.com&authorization_details=%5B%7B%7D%5D&client_notification_token=x",
	} {
		f.Add(seed, "bank")
		f.Add(seed, "signed")
	}
	f.Fuzz(func(t *testing.T, body, client string) {
		r := httptest.NewRequest(http.MethodPost, "/backchannel_authentication", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(url.QueryEscape(client), testSecret)
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%q: %d %s", body, w.Code, w.Body)
		}
		var response map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &response); err != nil || (response["auth_req_id"] == nil) == (response["error"] == nil) {
			t.Fatalf("%q: %d %s", body, w.Code, w.Body)
		}
	})
}
