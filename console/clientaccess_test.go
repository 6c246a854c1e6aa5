package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
)

var shownSecret = regexp.MustCompile(`id="new-secret"><code>([^<]+)</code>`)

// secret returns the secret that a page shows.
func (s shown) secret() string {
	s.t.Helper()
	found := shownSecret.FindStringSubmatch(s.body)
	if found == nil {
		s.t.Fatalf("no secret:\n%s", s.body)
	}
	return found[1]
}

// tokenStatus requests a token for the client itself.
func (w *world) tokenStatus(t *testing.T, client, secret string, resources ...string) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, w.url+"/token", strings.NewReader(url.Values{"grant_type": {"client_credentials"}, "resource": resources}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(client, secret)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestASecretIsReplacedWithoutInterruption(t *testing.T) {
	w := start(t)
	w.admin.post("/console/scopes/new", url.Values{"name": {"reports.read"}, "description": {"Read reports"}}).redirects("/console/scopes")
	first := w.admin.post("/console/clients/new", url.Values{"client_name": {"Report"}, "kind": {"service"}, "scope": {"reports.read"}, "client_id": {"report"}}).want(http.StatusOK).secret()
	page := w.admin.get("/console/client?id=report").want(http.StatusOK, "Add a second secret").lacks(first, "/client/secrets/remove")
	added := w.admin.post("/console/client/secrets/add", page.hidden()).want(http.StatusOK, "It is not shown again", "Two, while the application changes")
	second := added.secret()
	if first == second || w.tokenStatus(t, "report", first) != http.StatusOK || w.tokenStatus(t, "report", second) != http.StatusOK {
		t.Error("the two secrets are not both accepted")
	}
	// A page that is older than the change is told so.
	w.admin.post("/console/client/secrets/add", page.hidden()).want(http.StatusPreconditionFailed)
	w.admin.get("/console/client?id=report").want(http.StatusOK, "Remove the older secret").lacks(second, "/client/secrets/add")
	w.admin.postFrom("https://evil.example.com", "/console/client/secrets/remove", w.admin.get("/console/client/secrets/remove?id=report").hidden()).want(http.StatusForbidden)
	w.admin.post("/console/client/secrets/remove", w.admin.get("/console/client/secrets/remove?id=report").want(http.StatusOK, "only the newer secret is accepted").hidden()).redirects("/console/client?id=report")
	// Servers look once a second for changes of clients.
	for deadline := time.Now().Add(time.Minute); w.tokenStatus(t, "report", first) != http.StatusUnauthorized; {
		if time.Now().After(deadline) {
			t.Fatal("the older secret is still accepted")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if w.tokenStatus(t, "report", second) != http.StatusOK {
		t.Error("the newer secret is not accepted")
	}

	// An auditor sees neither the buttons nor their effect.
	auditor := w.operator(t, "ann", api.RoleAuditor)
	auditor.get("/console/client?id=report").want(http.StatusOK, "Client secrets").lacks("/client/secrets/add", "/client/end", "/client/edit", "End this token")
	auditor.post("/console/client/secrets/add", w.admin.get("/console/client?id=report").hidden()).want(http.StatusForbidden, "You may not do this")
	auditor.post("/console/client/end", w.admin.get("/console/client/end?id=report").hidden()).want(http.StatusForbidden)
}

func TestWhatAClientHasEndsInTheConsole(t *testing.T) {
	w := start(t)
	ctx := t.Context()
	if _, err := w.root.CreateResource(ctx, "https://api.example.com/", &api.ResourceMembers{AccessTokenFormat: "opaque"}, api.Change{}); err != nil {
		t.Fatal(err)
	}
	client := &api.NewClient{ID: "report"}
	client.GrantTypes, client.Resources = []string{oauth.GrantTypeClientCredentials}, []string{"https://api.example.com/"}
	created, err := w.root.CreateClient(ctx, client, api.Change{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if status := w.tokenStatus(t, "report", created.Secret, "https://api.example.com/"); status != http.StatusOK {
			t.Fatalf("no token: %d", status)
		}
	}
	tokens, err := w.root.ClientTokens(ctx, "report")
	if err != nil || len(tokens.Tokens) != 2 {
		t.Fatalf("tokens: %+v, %v", tokens, err)
	}
	support := w.operator(t, "sam", api.RoleSupport)
	page := support.get("/console/client?id=report").want(http.StatusOK, tokens.Tokens[0].Reference, "End this token").lacks("/client/secrets/add", "/client/delete")
	support.post("/console/client/tokens/end", with(page.hidden(), "token", tokens.Tokens[0].Reference)).redirects("/console/client?id=report")
	support.get("/console/client?id=report").want(http.StatusOK, tokens.Tokens[1].Reference).lacks(tokens.Tokens[0].Reference)
	support.post("/console/client/end", support.get("/console/client/end?id=report").want(http.StatusOK, "Every code and token of this client ends").hidden()).redirects("/console/client?id=report")
	support.get("/console/client?id=report").want(http.StatusOK, "None is stored").lacks(tokens.Tokens[1].Reference)
}

func TestScopesAndAPIsInTheConsole(t *testing.T) {
	w := start(t)
	w.admin.post("/console/scopes/new", url.Values{"name": {"notes read"}}).want(http.StatusUnprocessableEntity, `role="alert"`, "notes read")
	w.admin.post("/console/scopes/new", url.Values{"name": {"notes.read"}, "description": {"Read notes"}, "optional": {"1"}}).redirects("/console/scopes")
	old := w.admin.get("/console/scope?id=notes.read").want(http.StatusOK, "Read notes", " checked").hidden()
	w.admin.post("/console/scope", with(old, "description", "Read your notes", "claims", "groups locale")).redirects("/console/scopes")
	w.admin.post("/console/scope", with(old, "description", "Lost")).want(http.StatusPreconditionFailed, "has changed since", "Lost")
	w.admin.get("/console/scopes").want(http.StatusOK, "Read your notes", "groups, locale").lacks("Lost")

	w.admin.post("/console/resources/new", url.Values{"identifier": {"https://notes.example.com/api"}, "lifetime": {"soon"}}).want(http.StatusUnprocessableEntity, "access_token_lifetime", "soon")
	w.admin.post("/console/resources/new", url.Values{"identifier": {"https://notes.example.com/api"}, "name": {"Notes"}, "scopes": {"notes.read"}, "format": {"opaque"}, "lifetime": {"10m"}}).redirects("/console/resources")
	resource := w.admin.get("/console/resource?id=https://notes.example.com/api").want(http.StatusOK, `value="Notes"`, `value="opaque" selected`, `value="10m0s"`)
	w.admin.post("/console/resource", with(resource.hidden(), "name", "Notebook", "scopes", "notes.read")).redirects("/console/resources")
	w.admin.get("/console/resources").want(http.StatusOK, "Notebook", "the server itself")

	auditor := w.operator(t, "ann", api.RoleAuditor)
	auditor.get("/console/scope?id=notes.read").want(http.StatusOK, "Read your notes").lacks("<form method=\"post\"", "/scope/delete")
	auditor.post("/console/scope/delete", w.admin.get("/console/scope/delete?id=notes.read").hidden()).want(http.StatusForbidden)
	auditor.get("/console/resource?id=https://notes.example.com/api").want(http.StatusOK, "Notebook").lacks("<form method=\"post\"")
	w.admin.post("/console/resource/delete", w.admin.get("/console/resource/delete?id=https://notes.example.com/api").hidden()).redirects("/console/resources")
	w.admin.post("/console/scope/delete", w.admin.get("/console/scope/delete?id=notes.read").hidden()).redirects("/console/scopes")
	w.admin.get("/console/scope?id=notes.read").want(http.StatusNotFound)
}

func TestKeysInTheConsole(t *testing.T) {
	w := start(t)
	before, err := w.root.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := ""
	for _, key := range before.Keys {
		if key.Algorithm == "ES256" {
			old = key.ID
		}
	}
	w.admin.get("/console/keys").want(http.StatusOK, old, "Signs now", `<rect class="active"`).lacks("/keys/retire", "style=")
	w.admin.post("/console/keys/rotate", url.Values{"alg": {"ES256"}, "when": {"never"}}).want(http.StatusUnprocessableEntity, "Choose when")
	w.admin.postFrom("https://evil.example.com", "/console/keys/rotate", url.Values{"alg": {"ES256"}, "when": {"now"}}).want(http.StatusForbidden)
	w.admin.post("/console/keys/rotate", url.Values{"alg": {"ES256"}, "when": {"now"}}).redirects("/console/keys")
	w.admin.get("/console/keys").want(http.StatusOK, "The keys were replaced", "Replaced", `<rect class="replaced"`, "/console/keys/retire?id="+url.QueryEscape(old))

	auditor := w.operator(t, "ann", api.RoleAuditor)
	auditor.get("/console/keys").want(http.StatusOK, old).lacks("/keys/retire", "/keys/rotate")
	auditor.post("/console/keys/rotate", url.Values{"when": {"revoke"}}).want(http.StatusForbidden)
	w.operator(t, "sam", api.RoleSupport).get("/console/keys").want(http.StatusForbidden)

	w.admin.post("/console/keys/retire", w.admin.get("/console/keys/retire?id="+url.QueryEscape(old)).want(http.StatusOK, "nothing that it signed is valid any longer").hidden()).redirects("/console/keys")
	w.admin.get("/console/keys").want(http.StatusOK).lacks(old)
	w.admin.get("/console/keys/retire?id=" + url.QueryEscape(old)).want(http.StatusNotFound)
}

func TestRegistrationsInTheConsole(t *testing.T) {
	w := start(t)
	w.admin.get("/console/registrations").want(http.StatusOK, "Clients cannot register themselves")
	w.admin.post("/console/registrations/new", url.Values{"uses": {"many"}, "days": {"1"}}).want(http.StatusUnprocessableEntity, "how many", `value="many"`)
	w.admin.post("/console/registrations/new", url.Values{"note": {"Partner"}, "uses": {"3"}, "days": {"7"}}).want(http.StatusOK, `id="new-token"`, "is not shown again")
	page := w.admin.get("/console/registrations").want(http.StatusOK, "Partner", "3 of 3 uses left").lacks(`id="new-token"`)
	revoke := regexp.MustCompile(`/console/registrations/revoke\?id=[^"]+`).FindString(page.body)
	auditor := w.operator(t, "ann", api.RoleAuditor)
	auditor.get("/console/registrations").want(http.StatusOK, "Partner").lacks("/registrations/revoke")
	form := w.admin.get(revoke).want(http.StatusOK, "Revoke").hidden()
	auditor.post("/console/registrations/revoke", form).want(http.StatusForbidden)
	w.admin.post("/console/registrations/revoke", form).redirects("/console/registrations")
	w.admin.get("/console/registrations").want(http.StatusOK).lacks("Partner")
}

func TestAGrantIsRevokedOnThePageOfTheClient(t *testing.T) {
	w := start(t)
	w.admin.post("/console/clients/new", url.Values{"client_name": {"Notes"}, "kind": {"browser"}, "redirect_uris": {"https://notes.example.com/callback"}, "client_id": {"notes"}, "scope": {"openid email"}}).want(http.StatusOK)
	ann := w.operator(t, "ann", "")
	query := url.Values{"client_id": {"notes"}, "response_type": {"code"}, "redirect_uri": {"https://notes.example.com/callback"}, "scope": {"openid email"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}}
	allow := func() shown {
		page := ann.get("/authorize?" + query.Encode())
		for range 3 {
			if page.status == http.StatusSeeOther && strings.HasPrefix(page.location, "/") {
				page = ann.get(page.location)
			}
		}
		return page
	}
	consent := allow().want(http.StatusOK, "wants access")
	if back := ann.post("/consent", with(consent.hidden(), "answer", "allow", "scope", "email")); !strings.HasPrefix(back.location, "https://notes.example.com/callback?") {
		t.Fatalf("no code: %d to %q\n%s", back.status, back.location, back.body)
	}
	page := w.admin.get("/console/client?id=notes").want(http.StatusOK, "<bdi>ann</bdi>", "openid email", "Revoke consent and tokens")
	sub := regexp.MustCompile(`name="sub" value="([^"]+)"`).FindStringSubmatch(page.body)
	if sub == nil {
		t.Fatalf("no button:\n%s", page.body)
	}
	// Support sees who has allowed what, and cannot revoke it.
	support := w.operator(t, "sam", api.RoleSupport)
	support.get("/console/client?id=notes").want(http.StatusOK, "<bdi>ann</bdi>").lacks("Revoke consent")
	form := url.Values{"id": {"notes"}, "sub": {sub[1]}}
	support.post("/console/client/grants/revoke", form).want(http.StatusForbidden)
	w.admin.postFrom("https://evil.example.com", "/console/client/grants/revoke", form).want(http.StatusForbidden)
	w.admin.post("/console/client/grants/revoke", form).redirects("/console/client?id=notes")
	w.admin.get("/console/client?id=notes").want(http.StatusOK, "Nobody yet", "consent and the tokens")
	allow().want(http.StatusOK, "wants access") // she is asked again
}
