package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/console"
	"github.com/valetkey/valetkey/manage/api"
)

// redirectOf has redirect URIs as the applications send them.
var redirectOf = map[string]string{
	"argocd": "https://argocd.example.com/auth/callback", "forgejo": "https://forgejo.example.com/user/oauth2/sso/callback", "freshrss": "https://freshrss.example.com:443/i/oidc/",
	"gitlab": "https://gitlab.example.com/users/auth/openid_connect/callback", "grafana": "https://grafana.example.com/login/generic_oauth",
	"kubectl": "http://localhost:8000", "nextcloud": "https://nextcloud.example.com/apps/user_oidc/code", "portainer": "https://portainer.example.com",
	"vault": "http://localhost:8250/oidc/callback", "wikijs": "https://first-request.invalid/",
}

// TestEveryRecipeMakesAClientThatWorks adds each known application, and sends the authorization request
// that it would send.
func TestEveryRecipeMakesAClientThatWorks(t *testing.T) {
	w := start(t)
	list := w.admin.get("/console/recipes").want(http.StatusOK, "Grafana", "kubectl")
	w.admin.post("/console/scopes/new", url.Values{"name": {"groups"}, "description": {"See your groups"}, "claims": {"groups"}, "optional": {"1"}}).redirects("/console/scopes")
	ids := console.Recipes()
	if len(ids) < 30 {
		t.Errorf("there are %d recipes", len(ids))
	}
	for _, id := range ids {
		t.Run(id, func(t *testing.T) {
			if !strings.Contains(list.body, `/console/recipe?id=`+id+`"`) {
				t.Error("the list lacks it")
			}
			w.admin.get("/console/recipe?id="+id).want(http.StatusOK).lacks("{base", "{name", "{issuer")
			base := "https://" + id + ".example.com"
			done := w.admin.post("/console/recipe", url.Values{"id": {id}, "base": {base + "/"}, "client_id": {id}}).want(http.StatusOK, "What to enter in")
			client, err := w.root.Client(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			paste := regexp.MustCompile(`(?s)id="paste" tabindex="0"><code>(.*?)</code>`).FindStringSubmatch(done.body)
			if paste == nil || !strings.Contains(paste[1], w.url) || !strings.Contains(paste[1], id) {
				t.Fatalf("what to enter lacks the issuer or the client_id:\n%s", done.body)
			}
			if left := regexp.MustCompile(`\{(base|issuer|name|client|base_with_port|issuer_host|name_word)[a-z_]*\}`).FindString(paste[1]); left != "" {
				t.Errorf("the placeholder %s is left", left)
			}
			if client.TokenEndpointAuthMethod != "none" && !regexp.MustCompile(`[A-Z2-7]{40,}`).MatchString(paste[1]) {
				t.Errorf("what to enter lacks the secret:\n%s", paste[1])
			}
			if want := redirectOf[id]; want != "" && !slices.Contains(client.RedirectURIs, want) {
				t.Errorf("the redirect URIs are %q, want %s", client.RedirectURIs, want)
			}
			for _, uri := range client.RedirectURIs {
				query := url.Values{"client_id": {id}, "response_type": {"code"}, "redirect_uri": {uri}, "scope": {client.Scope}, "state": {"s"}}
				if !client.InsecureNoCodeChallenge {
					query.Set("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
					query.Set("code_challenge_method", "S256")
				}
				if asked := newBrowser(t, w.url).get("/authorize?" + query.Encode()); asked.status != http.StatusSeeOther || !strings.HasPrefix(asked.location, "/sign-in") {
					t.Errorf("the request with %s: status %d, to %q", uri, asked.status, asked.location)
				}
			}
		})
	}
}

func TestARecipeShowsWhatIsWrong(t *testing.T) {
	w := start(t)
	w.admin.get("/console/recipe?id=grafana").want(http.StatusOK, "has no scope <code>groups</code> yet", "/console/scopes/new?id=groups")
	for _, base := range []string{"", "grafana.example.com", "http://grafana.example.com", "https://grafana.example.com/?x", "https://a.example.com'; rm -rf /", "javascript:alert(1)"} {
		w.admin.post("/console/recipe", url.Values{"id": {"grafana"}, "base": {base}, "client_id": {"grafana"}}).want(http.StatusUnprocessableEntity, "The URL of the application must be")
	}
	w.admin.post("/console/recipe", url.Values{"id": {"grafana"}, "base": {"https://grafana.example.com"}, "client_id": {`a"b`}}).want(http.StatusUnprocessableEntity, "The client_id may have", `value="https://grafana.example.com"`)
	form := url.Values{"id": {"grafana"}, "base": {"https://grafana.example.com"}, "client_id": {"grafana"}}
	w.admin.postFrom("https://evil.example.com", "/console/recipe", form).want(http.StatusForbidden)
	w.admin.post("/console/recipe", form).want(http.StatusOK, "GF_AUTH_GENERIC_OAUTH_CLIENT_ID=grafana", "GF_SERVER_ROOT_URL=https://grafana.example.com\n")
	w.admin.post("/console/recipe", form).want(http.StatusConflict, `role="alert"`)
	w.admin.get("/console/recipe?id=made-up").want(http.StatusNotFound)
	w.admin.get("/console/recipes?q=wiki").want(http.StatusOK, "BookStack", "Wiki.js").lacks("Grafana")

	auditor := w.operator(t, "ann", api.RoleAuditor)
	auditor.get("/console/clients").want(http.StatusOK).lacks("/console/recipes")
	for _, path := range []string{"/recipe?id=gitea", "/recipes", "/clients/new", "/client/delete?id=grafana", "/client/end?id=grafana", "/scopes/new", "/resources/new", "/keys/rotate", "/registrations/new", "/users/new"} {
		auditor.get("/console"+path).want(http.StatusForbidden, "You may not do this").lacks("<form method=\"post\"")
	}
	auditor.post("/console/recipe", url.Values{"id": {"gitea"}, "base": {"https://gitea.example.com"}, "client_id": {"gitea"}}).want(http.StatusForbidden)
}

// getUntil gets a page until it has a text: refusals are stored in the background, within about a second.
func (b *browser) getUntil(path, text string) shown {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if page := b.get(path); strings.Contains(page.body, text) || time.Now().After(deadline) {
			return page.want(http.StatusOK, text)
		}
	}
}

func TestAnOperatorAcceptsTheFirstRequest(t *testing.T) {
	w := start(t)
	w.admin.post("/console/clients/new", url.Values{"client_name": {"Notes"}, "kind": {"web"}, "scope": {"openid"}, "client_id": {"notes"}}).want(http.StatusUnprocessableEntity, "redirect_uris")
	w.admin.post("/console/clients/new", url.Values{"client_name": {"Notes"}, "kind": {"web"}, "scope": {"openid"}, "client_id": {"notes"}, "wait": {"1"}}).want(http.StatusOK, "Wait for its first request", "Not known yet").lacks("first-request.invalid</code><br>")
	page := w.admin.get("/console/client/wait?id=notes").want(http.StatusOK, "Nothing yet")
	if page.header.Get("Refresh") == "" {
		t.Error("the page is not loaded again")
	}
	send := func(uri string) shown {
		return newBrowser(t, w.url).get("/authorize?" + url.Values{"client_id": {"notes"}, "response_type": {"code"}, "redirect_uri": {uri}, "scope": {"openid email"}, "nonce": {"n"}}.Encode())
	}
	const uri = "https://notes.example.com/callback?a=1&b=2"
	send("https://evil.example.com/").want(http.StatusBadRequest)
	w.admin.getUntil("/console/client/wait?id=notes", "https://evil.example.com/").want(http.StatusOK, "openid email", "Also let it ask for <bdi>email</bdi>")
	refused := w.admin.post("/console/client/wait", with(w.admin.get("/console/client/wait?id=notes").hidden(), "answer", "refuse"))
	w.admin.get(refused.location).want(http.StatusOK, "Nothing yet").lacks("evil.example.com")

	send(uri).want(http.StatusBadRequest)
	send(uri).want(http.StatusBadRequest)
	arrived := w.admin.getUntil(refused.location, "2 requests like it").want(http.StatusOK, "https://notes.example.com/callback?a=1&amp;b=2").lacks("evil.example.com")
	// A redirect URI that the API does not allow is not added, and a foreign form has no effect.
	w.admin.post("/console/client/wait", with(arrived.hidden(), "answer", "accept", "redirect_uri", "javascript:alert(1)")).want(http.StatusUnprocessableEntity)
	w.admin.postFrom("https://evil.example.com", "/console/client/wait", with(arrived.hidden(), "answer", "accept")).want(http.StatusForbidden)
	auditor := w.operator(t, "ann", api.RoleAuditor)
	auditor.get("/console/client/wait?id=notes").want(http.StatusForbidden, "You may not do this").lacks("Accept")
	auditor.post("/console/client/wait", with(arrived.hidden(), "answer", "accept")).want(http.StatusForbidden)
	client, err := w.root.Client(t.Context(), "notes")
	if err != nil || strings.Contains(strings.Join(client.RedirectURIs, " "), "example.com") {
		t.Fatalf("the redirect URI was added by itself: %+v, %v", client, err)
	}

	w.admin.post("/console/client/wait", with(arrived.hidden(), "answer", "accept", "add_scope", "1")).redirects("/console/client?id=notes")
	client, err = w.root.Client(t.Context(), "notes")
	if err != nil || len(client.RedirectURIs) != 1 || client.RedirectURIs[0] != uri || client.Scope != "openid email" {
		t.Errorf("the client is %+v, %v", client, err)
	}
	// A page that is older than a change is told so.
	w.admin.post("/console/client/wait", with(arrived.hidden(), "answer", "accept", "redirect_uri", "https://notes.example.com/other")).want(http.StatusPreconditionFailed)
}

func TestTheFirstAdministratorIsToldWhatIsNext(t *testing.T) {
	w := start(t)
	w.admin.get("/console/welcome").want(http.StatusOK, "Welcome to Valetkey", "Protect your own account", "Add your first application", "Invite a colleague").lacks("Done</span>")
	w.admin.get("/account").want(http.StatusOK, `href="/console"`)
	w.admin.post("/console/recipe", url.Values{"id": {"grafana"}, "base": {"https://grafana.example.com"}, "client_id": {"grafana"}}).want(http.StatusOK)
	w.operator(t, "ann", api.RoleSupport).get("/console/welcome").want(http.StatusOK, "Protect your own account").lacks("Invite a colleague", "Add your first application")
	if page := w.admin.get("/console/welcome").want(http.StatusOK); strings.Count(page.body, "Done</span>") != 2 {
		t.Errorf("two steps are done:\n%s", page.body)
	}
}
