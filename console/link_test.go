package console_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// The page of a user shows their links and what they have allowed in detail, and a link can be removed.
func TestLinksAndAuthorizationDetailsInTheConsole(t *testing.T) {
	w := start(t)
	store, err := database.Open(t.Context(), &w.configuration, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	w.admin.post("/console/clients/new", url.Values{"client_name": {"Shop"}, "kind": {"browser"}, "redirect_uris": {"https://shop.example.com/callback"}, "client_id": {"shop"}}).want(http.StatusOK)
	bob, err := w.root.CreateUser(t.Context(), &api.UserMembers{Username: "bob"}, api.Change{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.UpdateUser(t.Context(), bob.ID, func(u *identity.User) error {
		u.External = []identity.ExternalLink{{ID: "link-1", Provider: "company", Issuer: "https://company.example", Subject: "b<1>", Email: "bob@company.example", LinkedAt: time.Now()}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.UpdateGrant(t.Context(), bob.ID, "shop", func(g *record.Grant) error {
		g.Scope = oauth.Scope{"openid"}
		g.Details.Add(time.Now(), []json.RawMessage{json.RawMessage(`{"type":"payment","creditor":"<b>Merchant</b>"}`)})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	const detail = "{&#34;type&#34;:&#34;payment&#34;,&#34;creditor&#34;:&#34;&lt;b&gt;Merchant&lt;/b&gt;&#34;}"
	w.admin.get("/console/client?id=shop").want(http.StatusOK, "Authorization details", detail)
	page := w.admin.get("/console/user?id="+bob.ID).want(http.StatusOK, "https://company.example", "b&lt;1&gt;", "bob@company.example", detail, `value="link-1"`)
	support := w.operator(t, "sue", api.RoleSupport)
	support.get("/console/user?id="+bob.ID).want(http.StatusOK, "https://company.example", detail).lacks(`value="link-1"`)
	w.admin.post("/console/user/methods/remove", with(page.hidden(), "method", "link-1")).redirects("/console/user?id=" + bob.ID)
	w.admin.get("/console/user?id=" + bob.ID).want(http.StatusOK).lacks("https://company.example")
}
