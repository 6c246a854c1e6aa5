package authserver_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// tabs are the tabs of one browser, which share its cookies.
type tabs struct {
	s       *scene
	cookies map[string]*http.Cookie
}

// do returns the Location of the response.
func (b *tabs) do(method, target string, handle http.HandlerFunc) string {
	r := httptest.NewRequest(method, target, nil)
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	handle(w, r)
	for _, c := range w.Result().Cookies() {
		b.cookies[c.Name] = c
	}
	return w.Header().Get("Location")
}

func (b *tabs) signIn() {
	b.do(http.MethodPost, "/sign-in", func(w http.ResponseWriter, _ *http.Request) { b.s.signIn(w, "ada") })
}

// begin sends a request that redirects to a page, and returns the interaction.
func (b *tabs) begin(method, target string, handle http.HandlerFunc) string {
	b.s.t.Helper()
	_, interaction, ok := strings.Cut(b.do(method, target, handle), "interaction=")
	if !ok {
		b.s.t.Fatalf("%s does not redirect to a page", target)
	}
	interaction, _, _ = strings.Cut(interaction, "&")
	return interaction
}

func (b *tabs) typeCode(userCode string) string {
	return b.begin(http.MethodPost, "/device", func(w http.ResponseWriter, r *http.Request) {
		if err := b.s.server.BeginDevice(w, r, userCode); err != nil {
			b.s.t.Fatal(err)
		}
	})
}

func (b *tabs) consent(interaction string) string {
	return b.do(http.MethodPost, "/consent", func(w http.ResponseWriter, r *http.Request) {
		b.s.server.Consented(w, r, interaction, authserver.ConsentAnswer{Subject: "ada"})
	})
}

// resume continues an interaction, as a page does when it is reloaded.
func (b *tabs) resume(interaction string) string {
	return b.do(http.MethodGet, b.s.server.ContinueURL(&authserver.Interaction{ID: interaction}), b.s.server.ServeHTTP)
}

// A link with the user code of an attacker's device is open in one tab while the user connects
// their own device in another. The consent applies only to the device that was displayed.
func TestDV_ConsentAppliesToTheDisplayedDevice(t *testing.T) {
	s := newScene(t, deviceSetup())
	attacker, attackersCode := s.deviceCodes()
	usersDevice, usersCode := s.deviceCodes()
	b := &tabs{s, map[string]*http.Cookie{}}
	attackerTab := b.typeCode(attackersCode)
	b.signIn()
	if to := b.consent(b.typeCode(usersCode)); to != "/device?answer=allowed" {
		t.Fatalf("the user's own device: %s", to)
	}
	if to := b.resume(attackerTab); strings.Contains(to, "allowed") {
		t.Errorf("the other tab is redirected to %s", to)
	}
	poll := func(code string) apiResponse {
		return s.post("/token", "", "grant_type", oauth.GrantTypeDeviceCode, "device_code", code, "client_id", "tv")
	}
	if a := poll(attacker); a.Error != string(oauth.AuthorizationPending) {
		t.Errorf("the attacker's device: %d %s", a.status, a.body)
	}
	if a := poll(usersDevice); a.status != http.StatusOK {
		t.Errorf("the user's own device: %d %s", a.status, a.body)
	}
}

// With skip_consent, signing in to an application creates a grant without a consent page. This must
// not approve a device.
func TestDV_SkippedConsentDoesNotApproveADevice(t *testing.T) {
	setup := deviceSetup()
	client := &setup.Clients[0].Client
	client.SkipConsent, client.RedirectURIs = true, []string{testCallback}
	client.GrantTypes = append(client.GrantTypes, oauth.GrantTypeAuthorizationCode)
	s := newScene(t, setup)
	device, code := s.deviceCodes()
	b := &tabs{s, map[string]*http.Cookie{}}
	interaction := b.typeCode(code)
	b.signIn()
	if to := b.do(http.MethodGet, "/authorize?"+query("tv"), s.server.ServeHTTP); !strings.Contains(to, "code=") {
		t.Fatalf("the application: %s", to)
	}
	b.resume(interaction)
	if a := s.post("/token", "", "grant_type", oauth.GrantTypeDeviceCode, "device_code", device, "client_id", "tv"); a.Error != string(oauth.AuthorizationPending) {
		t.Errorf("the device: %d %s", a.status, a.body)
	}
}

// Consent for the program on one port is not consent for the program on another port (RFC 8252,
// section 8.6). With prompt=consent, each request needs consent.
func TestConsentAppliesToTheDisplayedRequest(t *testing.T) {
	native := testClient{Client: record.Client{ID: "cli", ClientMetadata: oauth.ClientMetadata{
		TokenEndpointAuthMethod: oauth.AuthMethodNone, ApplicationType: oauth.ApplicationNative, RedirectURIs: []string{"http://127.0.0.1/cb"},
	}}}
	web := confidential("web", func(c *record.Client) { c.SkipConsent = false })
	for name, requests := range map[string][2]string{
		"another port":   {query("cli", "redirect_uri", "http://127.0.0.1:6666/cb"), query("cli", "redirect_uri", "http://127.0.0.1:5000/cb")},
		"prompt=consent": {query("web", "prompt", "consent"), query("web", "prompt", "consent")},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, scriptSetup{Clients: []testClient{native, web}})
			b := &tabs{s, map[string]*http.Cookie{}}
			authorize := func(query string) string {
				return b.begin(http.MethodGet, "/authorize?"+query, s.server.ServeHTTP)
			}
			otherTab := authorize(requests[0])
			b.signIn()
			if to := b.consent(authorize(requests[1])); !strings.Contains(to, "code=") {
				t.Fatalf("the displayed request: %s", to)
			}
			if to := b.resume(otherTab); strings.Contains(to, "code=") {
				t.Errorf("the other request: %s", to)
			}
		})
	}
}

func readSetup() scriptSetup {
	return scriptSetup{
		Clients: []testClient{confidential("app", func(c *record.Client) {
			c.Scope, c.SkipConsent = "read", false
			c.GrantTypes = []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken}
		})},
		Scopes:    []record.Scope{{Name: "read"}},
		Resources: []record.Resource{{Identifier: "https://notes.example.com", Scopes: []string{"read"}}, {Identifier: "https://files.example.com"}},
	}
}

// storeConsent records that ada consented to the client app.
func (s *scene) storeConsent(scope oauth.Scope, resources []string) {
	s.t.Helper()
	_, err := s.store.UpdateGrant(s.t.Context(), "ada", "app", func(g *record.Grant) error {
		g.Scope, g.Resources, g.CreatedAt, g.UpdatedAt = scope, resources, time.Now(), time.Now()
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// needsConsent reports whether ada must consent to an authorization request of app.
func (s *scene) needsConsent(changes ...string) bool {
	s.t.Helper()
	location, err := s.authorize("ada", query("app", append([]string{"scope", "read", "prompt", "none"}, changes...)...)).Location()
	if err != nil {
		s.t.Fatal(err)
	}
	if e := location.Query().Get("error"); e != "" && e != string(oauth.ConsentRequired) {
		s.t.Fatalf("refused: %s", location)
	}
	return location.Query().Get("code") == ""
}

// A grant from before resources were recorded covers the APIs that have its scopes.
func TestCN_GrantsWithoutResourcesCoverTheirScopes(t *testing.T) {
	s := newScene(t, readSetup())
	s.storeConsent(oauth.Scope{"read"}, nil)
	if s.needsConsent() || s.needsConsent("resource", "https://notes.example.com") {
		t.Error("consent is needed for the API of an allowed scope")
	}
	if !s.needsConsent("resource", "https://files.example.com") {
		t.Error("no consent is needed for an API without the allowed scope")
	}
	s.storeConsent(oauth.Scope{"read"}, []string{})
	if !s.needsConsent("resource", "https://notes.example.com") {
		t.Error("a grant with an empty list of APIs covers an API")
	}
}

func TestCN_NewAPIsNeedConsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		setup := readSetup()
		s := newScene(t, setup)
		s.storeConsent(oauth.Scope{"read"}, []string{"https://notes.example.com"})
		tokens := s.redeem("app", s.code("ada", "app", "scope", "read"))
		if tokens.status != http.StatusOK {
			t.Fatalf("%d %s", tokens.status, tokens.body)
		}
		d := memory.Declaration{Scopes: setup.Scopes, Resources: append(setup.Resources, record.Resource{Identifier: "https://payroll.example.com", Scopes: []string{"read"}})}
		for _, c := range setup.Clients {
			c.Secrets = []string{c.Secret}
			d.Clients = append(d.Clients, c.Client)
		}
		if err := s.store.Declare(t.Context(), time.Now(), "test", d); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if !s.needsConsent() {
			t.Error("no consent is needed for a new API, although its scope was allowed only for another one")
		}
		refreshed := s.refresh("app", tokens.RefreshToken)
		if audience := s.claimsOf(refreshed.AccessToken)["aud"]; audience != "https://notes.example.com" {
			t.Errorf("the audience of a refreshed token is %v", audience)
		}
		refused := s.refresh("app", refreshed.RefreshToken, "resource", "https://payroll.example.com")
		if refused.status != http.StatusBadRequest || refused.Error != string(oauth.InvalidTarget) {
			t.Errorf("a token for the new API: %d %s", refused.status, refused.body)
		}
	})
}

// Access without consent is recorded too, so that users can see and revoke it.
func TestCN_SkippedConsentRecordsTheResource(t *testing.T) {
	setup := readSetup()
	setup.Clients[0].SkipConsent = true
	s := newScene(t, setup)
	for _, resource := range []string{"https://notes.example.com", "https://files.example.com"} {
		s.code("ada", "app", "scope", "read", "resource", resource)
		grant, err := s.store.Grant(t.Context(), "ada", "app")
		if err != nil || !slices.Contains(grant.Resources, resource) {
			t.Errorf("the grant has %v, %v", grant, err)
		}
	}
}

// withdrawingStore is a store in which the user withdraws consent just before a ticket of the grant
// is stored. If consentAgain is set, the user then consents again.
type withdrawingStore struct {
	database
	t                       *testing.T
	withdraws, consentAgain bool
}

func (w *withdrawingStore) before(put []storage.Ticket) {
	i := slices.IndexFunc(put, func(t storage.Ticket) bool { return t.Grant != "" })
	if i < 0 || !w.withdraws {
		return
	}
	w.withdraws = false
	if err := w.DeleteGrant(w.t.Context(), put[i].Grant); err != nil {
		w.t.Error(err)
	}
	if !w.consentAgain {
		return
	}
	_, err := w.UpdateGrant(w.t.Context(), "ada", "app", func(g *record.Grant) error {
		g.Scope = oauth.Scope{"openid"}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
}

func (w *withdrawingStore) Put(ctx context.Context, now time.Time, put ...storage.Ticket) error {
	w.before(put)
	return w.database.Put(ctx, now, put...)
}

func (w *withdrawingStore) PutAndFind(ctx context.Context, now time.Time, find record.Find, put ...storage.Ticket) (record.Found, error) {
	return putThenFind(ctx, now, w, w.database, find, put)
}

func (w *withdrawingStore) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	w.before(put)
	return w.database.Spend(ctx, now, spend, put...)
}

// Tickets that a concurrent request stores after the user withdrew consent are not valid.
func TestCN07_TicketsStoredAfterWithdrawalAreNotValid(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		for _, consentAgain := range []bool{false, true} {
			w := &withdrawingStore{database: store, t: t, consentAgain: consentAgain}
			setup := deviceSetup()
			setup.Clients = append(setup.Clients, confidential("app", func(c *record.Client) {
				c.GrantTypes = append(c.GrantTypes, "implicit")
				c.ResponseTypes = []string{"code", "code token", "token"}
			}))
			s := newSceneOn(t, setup, w, nil)

			w.withdraws = true
			s.redeem("app", s.code("ada", "app", "scope", "openid")).want(t, http.StatusBadRequest, oauth.InvalidGrant)

			for _, responseType := range []string{"token", "code token"} {
				w.withdraws = true
				location, err := s.authorize("ada", query("app", "scope", "openid", "response_type", responseType)).Location()
				if err != nil {
					t.Fatal(err)
				}
				fragment, err := url.ParseQuery(location.Fragment)
				if err != nil || fragment.Get("error") != "access_denied" || fragment.Get("access_token") != "" || fragment.Get("code") != "" {
					t.Errorf("response_type=%s: %s", responseType, location)
				}
			}

			if consentAgain {
				continue // there is no grant for the device's client
			}
			device, user := s.deviceCodes()
			w.withdraws = true
			s.approve(user)
			s.post("/token", "", "client_id", "tv", "grant_type", oauth.GrantTypeDeviceCode, "device_code", device).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		}
	})
}
