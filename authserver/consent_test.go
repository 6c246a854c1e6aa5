package authserver_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// tabs are those of one browser, in which the cookies are shared.
type tabs struct {
	s       *scene
	cookies map[string]*http.Cookie
}

// do returns where the answer leads.
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

// begin returns the interaction that a page waits for.
func (b *tabs) begin(method, target string, handle http.HandlerFunc) string {
	b.s.t.Helper()
	_, interaction, ok := strings.Cut(b.do(method, target, handle), "interaction=")
	if !ok {
		b.s.t.Fatalf("%s leads to no page", target)
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

// goOn is a reload of the page, or a sign-in in it.
func (b *tabs) goOn(interaction string) string {
	return b.do(http.MethodGet, b.s.server.ContinueURL(&authserver.Interaction{ID: interaction}), b.s.server.ServeHTTP)
}

// A link with the code of a thief's device is open in one tab while the person connects
// their own in another: they said yes to the one that they saw.
func TestDV_ConsentIsToTheDeviceThatWasShown(t *testing.T) {
	s := newScene(t, deviceSetup())
	thief, thiefsCode := s.deviceCodes()
	own, ownCode := s.deviceCodes()
	b := &tabs{s, map[string]*http.Cookie{}}
	open := b.typeCode(thiefsCode)
	b.signIn()
	if to := b.consent(b.typeCode(ownCode)); to != "/device?answer=allowed" {
		t.Fatalf("the person's own device: %s", to)
	}
	if to := b.goOn(open); strings.Contains(to, "allowed") {
		t.Errorf("the other tab leads to %s", to)
	}
	poll := func(code string) answer {
		return s.post("/token", "", "grant_type", oauth.GrantTypeDeviceCode, "device_code", code, "client_id", "tv")
	}
	if a := poll(thief); a.Error != string(oauth.AuthorizationPending) {
		t.Errorf("the thief's device: %d %s", a.status, a.body)
	}
	if a := poll(own); a.status != http.StatusOK {
		t.Errorf("the person's own: %d %s", a.status, a.body)
	}
}

// With skip_consent a mere sign-in at the application changes what is remembered.
func TestDV_SkippedConsentIsToNoDevice(t *testing.T) {
	setup := deviceSetup()
	client := &setup.Clients[0].Client
	client.SkipConsent, client.RedirectURIs = true, []string{testCallback}
	client.GrantTypes = append(client.GrantTypes, oauth.GrantTypeAuthorizationCode)
	s := newScene(t, setup)
	device, code := s.deviceCodes()
	b := &tabs{s, map[string]*http.Cookie{}}
	open := b.typeCode(code)
	b.signIn()
	if to := b.do(http.MethodGet, "/authorize?"+query("tv"), s.server.ServeHTTP); !strings.Contains(to, "code=") {
		t.Fatalf("the application: %s", to)
	}
	b.goOn(open)
	if a := s.post("/token", "", "grant_type", oauth.GrantTypeDeviceCode, "device_code", device, "client_id", "tv"); a.Error != string(oauth.AuthorizationPending) {
		t.Errorf("the device: %d %s", a.status, a.body)
	}
}

// RFC 8252, section 8.6: consent to the program on one port says nothing of that on another,
// and with prompt=consent each request is asked about.
func TestConsentIsToTheRequestThatWasShown(t *testing.T) {
	native := testClient{Client: record.Client{ID: "cli", ClientMetadata: oauth.ClientMetadata{
		TokenEndpointAuthMethod: oauth.AuthMethodNone, ApplicationType: oauth.ApplicationNative, RedirectURIs: []string{"http://127.0.0.1/cb"},
	}}}
	web := confidential("web", func(c *record.Client) { c.SkipConsent = false })
	for name, requests := range map[string][2]string{
		"another program": {query("cli", "redirect_uri", "http://127.0.0.1:6666/cb"), query("cli", "redirect_uri", "http://127.0.0.1:5000/cb")},
		"prompt=consent":  {query("web", "prompt", "consent"), query("web", "prompt", "consent")},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, scriptSetup{Clients: []testClient{native, web}})
			b := &tabs{s, map[string]*http.Cookie{}}
			authorize := func(query string) string {
				return b.begin(http.MethodGet, "/authorize?"+query, s.server.ServeHTTP)
			}
			open := authorize(requests[0])
			b.signIn()
			if to := b.consent(authorize(requests[1])); !strings.Contains(to, "code=") {
				t.Fatalf("the request that was shown: %s", to)
			}
			if to := b.goOn(open); strings.Contains(to, "code=") {
				t.Errorf("the request that was not shown: %s", to)
			}
		})
	}
}
