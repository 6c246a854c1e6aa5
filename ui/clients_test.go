package ui

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// register stores a client that looks as if it had registered itself.
func (w *world) register(id string, change func(*record.Client)) {
	w.t.Helper()
	c := &record.Client{
		ID: id, ClientMetadata: oauth.ClientMetadata{
			ClientName: "Photo Printer", ClientURI: "https://printer.example.com", PolicyURI: "https://printer.example.com/policy",
			RedirectURIs: []string{w.callback}, TokenEndpointAuthMethod: "none", Scope: "openid",
		},
		Registration: &record.Registration{CreatedAt: time.Now(), Localized: map[string]string{
			"client_name#ja-Jpan-JP": "写真印刷", "client_name#de": "Fotodrucker", "policy_uri#de": "https://printer.example.com/datenschutz",
			"client_name#fr": "<b>Imprimante\u202e", "policy_uri#fr": "javascript:alert(1)",
		}},
	}
	change(c)
	if err := w.store.RegisterClient(w.t.Context(), c, 10); err != nil {
		w.t.Fatal(err)
	}
}

// consentFor goes to the consent page of a registered client, in a language.
func (b *browserClient) consentFor(client, language, uiLocales string) response {
	b.t.Helper()
	change := url.Values{"client_id": {client}, "scope": {"openid"}}
	if uiLocales != "" {
		change.Set("ui_locales", uiLocales)
	}
	signIn := b.get(b.get(b.authorizeURL(change)).redirected(b.t))
	signIn.want(b.t, 200, `name="identifier"`)
	r := b.request("GET", b.post("/sign-in", with(signIn.hidden(), "identifier", "alice", "password", password)).redirected(b.t), nil)
	r.Header.Set("Accept-Language", language)
	page := b.do(r)
	page.want(b.t, 200, `value="allow"`)
	return page
}

func TestCN10_DC15_ConsentWarnsOfSelfRegisteredClients(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	w.register("stranger", func(*record.Client) {})
	w.register("vouched", func(c *record.Client) { c.Registration.Vouched = true })
	b := w.newBrowser()
	b.get(b.get(w.authorizeURL(url.Values{"client_id": {"stranger"}, "scope": {"openid"}})).redirected(t)).want(t, 200, `<bdi class="client">Photo Printer (printer.example.com)</bdi>`)
	w.newBrowser().consentFor("stranger", "", "").want(t, 200, "We have not verified who is behind", "<strong><bdi>printer.example.com</bdi></strong>. Allow this only")
	for _, client := range []string{"vouched", "printer"} {
		if page := w.newBrowser().consentFor(client, "", ""); strings.Contains(page.body, "We have not verified") {
			t.Errorf("the page warns about %s", client)
		}
	}
}

func TestConsentShowsTheClientInTheUsersLanguage(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	w.register("stranger", func(*record.Client) {})
	for _, test := range []struct{ accept, uiLocales, name, policy string }{
		{"", "", "Photo Printer", "/policy"},
		{"en-GB,en;q=0.8,de;q=0.5", "", "Photo Printer", "/policy"},
		{"de-CH,de;q=0.9,en;q=0.8", "", "Fotodrucker", "/datenschutz"},
		{"de", "ja", "写真印刷", "/policy"},
		{"not a language;;;", "", "Photo Printer", "/policy"},
		{strings.Repeat("de,", 1000), "", "Photo Printer", "/policy"},
		{"fr", "", "&lt;b&gt;Imprimante", ""},
	} {
		page := w.newBrowser().consentFor("stranger", test.accept, test.uiLocales)
		page.want(t, 200, `<bdi class="client">`+test.name+"</bdi>")
		if test.policy == "" && strings.Contains(page.body, "https://printer.example.com/policy") || strings.Contains(page.body, "javascript:") {
			t.Errorf("%q: the page links to somewhere dangerous", test.accept)
		} else if test.policy != "" {
			page.want(t, 200, "https://printer.example.com"+test.policy)
		}
	}
}

func TestLogosAreServedFromThisOrigin(t *testing.T) {
	asked := ""
	site := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked += r.URL.Path + r.Header.Get("Cookie") + r.Header.Get("Referer")
		switch r.URL.Path {
		case "/logo":
			_, _ = w.Write(logoPicture())
		case "/svg":
			w.Header().Set("Content-Type", "image/svg+xml")
			_, _ = w.Write([]byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`))
		}
	}))
	defer site.Close()
	authorities := x509.NewCertPool()
	authorities.AddCert(site.Certificate())
	w := newWorldOn(t, func(c *authserver.Config) {
		c.Outgoing = authserver.Outgoing{InsecureOutsiderNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, CertificateAuthorities: authorities}
	})
	w.addAlice()
	w.register("with", func(c *record.Client) { c.LogoURI = site.URL + "/logo" })
	w.register("svg", func(c *record.Client) { c.LogoURI = site.URL + "/svg" })
	w.register("without", func(*record.Client) {})

	b := w.newBrowser()
	page := b.consentFor("with", "", "")
	address := "/logo?interaction=" + page.hidden().Get("interaction")
	page.want(t, 200, `<img src="`+address+`" alt="">`)
	if strings.Contains(page.body, site.URL) {
		t.Error("the page leads the browser to the client's site")
	}
	logo := b.get(address)
	logo.want(t, 200, "PNG")
	for header, want := range map[string]string{
		"Content-Type": "image/png", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
		"Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := logo.Header.Get(header); got != want {
			t.Errorf("%s is %q, want %q", header, got, want)
		}
	}
	b.get(address)
	if asked != "/logo" {
		t.Errorf("the client's site got requests for %q", asked)
	}
	// A request from another browser does not make the server fetch anything.
	w.newBrowser().get(address).want(t, 404)
	w.newBrowser().get("/logo").want(t, 404)

	for _, client := range []string{"svg", "without"} {
		b = w.newBrowser()
		page := b.consentFor(client, "", "")
		if strings.Contains(page.body, "<img") {
			t.Errorf("the page shows a picture of the client %q", client)
		}
		b.get("/logo?interaction="+page.hidden().Get("interaction")).want(t, 404)
	}
}

// TestRegistrationsOfOneApplicationAreListedOnce: an application that registers itself on every
// start does not flood the user's list, and one button revokes all its access.
func TestRegistrationsOfOneApplicationAreListedOnce(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	b.signIn("alice", password).redirected(t)
	allow := func(id string, scope oauth.Scope, change func(*record.Client)) {
		w.register(id, func(c *record.Client) {
			c.ClientName, c.ClientURI = "Agent", ""
			change(c)
		})
		w.grant("a", id, scope)
	}
	for i, uri := range []string{"http://localhost:3001/callback", "http://localhost:4711/callback", "http://localhost/callback"} {
		allow(fmt.Sprint("again-", i), []oauth.Scope{{"openid"}, {"openid", "photos.read"}, {"openid"}}[i], func(c *record.Client) { c.RedirectURIs = []string{uri} })
	}
	allow("elsewhere", oauth.Scope{"openid"}, func(c *record.Client) { c.RedirectURIs = []string{"https://agent.example.com/callback"} })
	allow("vouched", oauth.Scope{"openid"}, func(c *record.Client) {
		c.RedirectURIs, c.Registration.Vouched = []string{"http://localhost/callback"}, true
	})
	page := b.get("/account")
	page.want(t, 200, "Registered 3 times", "See your photos")
	if got := strings.Count(page.body, "<strong><bdi>Agent</bdi>"); got != 3 {
		t.Errorf("%d applications are listed, want 3", got)
	}
	again, err := w.store.Grant(t.Context(), "a", "again-1")
	if err != nil {
		t.Fatal(err)
	}
	b.post("/account/applications/revoke", url.Values{"grant": {again.ID}}).redirected(t)
	grants, err := w.store.GrantsOf(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, grant := range grants {
		left = append(left, grant.ClientID)
	}
	slices.Sort(left)
	if diff := cmp.Diff([]string{"elsewhere", "vouched"}, left); diff != "" {
		t.Errorf("clients that still have access (-want +got):\n%s", diff)
	}
}

// The consent page shows authorization details as text, every time, also for a request without
// scopes.
func TestRA03_ConsentShowsAuthorizationDetails(t *testing.T) {
	w := newWorldOn(t, func(c *authserver.Config) {
		c.AuthorizationDetailsTypes = []authserver.AuthorizationDetailsType{{
			Type:    "payment",
			Schema:  json.RawMessage(`{"additionalProperties": false, "properties": {"amount": {"type": "number"}, "creditor": {"type": "string"}}}`),
			Consent: "Pay {{.amount}} EUR to {{.creditor}}",
		}}
	})
	w.addAlice()
	w.register("shop", func(c *record.Client) { c.AuthorizationDetailsTypes = []string{"payment"} })
	b := w.newBrowser()
	request := url.Values{"client_id": {"shop"}, "scope": {"openid"}, "authorization_details": {`[{"type":"payment","amount":1000000.50,"creditor":"<script>alert(1)</script> \u202eA\nB"}]`}}
	signIn := b.get(b.get(b.authorizeURL(request)).redirected(t))
	const text = "Pay 1000000.50 EUR to &lt;script&gt;alert(1)&lt;/script&gt; A B<"
	consent := b.get(b.post("/sign-in", with(signIn.hidden(), "identifier", "alice", "password", password)).redirected(t))
	consent.want(t, 200, text)
	b.post("/consent", with(consent.hidden(), "answer", "allow"))
	b.get(b.get(b.authorizeURL(request)).redirected(t)).want(t, 200, text)
}

// The account page shows what the user allowed in detail, the export has it as it was sent, and both lose
// it when the access is revoked.
func TestRA05_TheAccountPageShowsAuthorizationDetails(t *testing.T) {
	types := []authserver.AuthorizationDetailsType{{
		Type: "payment", Schema: json.RawMessage(`{"additionalProperties": false, "properties": {"amount": {"type": "number"}, "creditor": {"type": "string"}}}`),
		Consent: "Pay {{.amount}} EUR to {{.creditor}}",
	}}
	w := newWorldOn(t, func(c *authserver.Config) { c.AuthorizationDetailsTypes = types })
	w.addAlice()
	w.register("shop", func(c *record.Client) { c.AuthorizationDetailsTypes = []string{"payment"} })
	b := w.newBrowser()
	allow := func(detail string) {
		t.Helper()
		request := url.Values{"client_id": {"shop"}, "scope": {"openid"}, "authorization_details": {"[" + detail + "]"}}
		page := b.get(b.get(b.authorizeURL(request)).redirected(t))
		if page.hidden().Get("subject") == "" { // not signed in yet
			page = b.get(b.post("/sign-in", with(page.hidden(), "identifier", "alice", "password", password)).redirected(t))
		}
		b.post("/consent", with(page.hidden(), "answer", "allow"))
	}
	const first, second = `{"type":"payment","amount":1.50,"creditor":"<A & B>"}`, `{"type":"payment","amount":2,"creditor":"C"}`
	allow(first)
	allow(second)
	allow(first) // again: it is listed once
	page := b.get("/account")
	page.want(t, 200, "Pay 1.50 EUR to &lt;A &amp; B&gt;", "Pay 2 EUR to C", "all of this ends at once")
	if n := strings.Count(page.body, "Pay 1.50"); n != 1 || strings.Index(page.body, "Pay 1.50") > strings.Index(page.body, "Pay 2 EUR") {
		t.Errorf("the latest one is listed %d times, or not first", n)
	}
	exported := b.post(exportPath, url.Values{}).body
	var document struct {
		Applications []struct {
			Details []struct {
				Detail map[string]any `json:"detail"`
				At     time.Time      `json:"allowed_at"`
			} `json:"authorization_details"`
		}
	}
	if err := json.Unmarshal([]byte(exported), &document); err != nil || len(document.Applications) != 1 || len(document.Applications[0].Details) != 2 {
		t.Fatalf("the export (%v):\n%s", err, exported)
	}
	if latest := document.Applications[0].Details[1]; latest.Detail["creditor"] != "<A & B>" || time.Since(latest.At) > time.Minute {
		t.Errorf("the latest detail in the export: %v", latest)
	}
	grant := regexp.MustCompile(`name="grant" value="([^"]+)"`).FindStringSubmatch(page.body)
	b.post("/account/applications/revoke", url.Values{"grant": {grant[1]}}).redirectedTo(t, "/account")
	if page := b.get("/account"); strings.Contains(page.body, "Pay 1.50") || strings.Contains(b.post(exportPath, url.Values{}).body, "creditor") {
		t.Error("the details are still there after the access was revoked")
	}
}
