package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// An operator sees the links of a user and what they have allowed in detail, and removes a link.
func TestLinksAndDetailsInADatabase(t *testing.T) {
	t.Setenv("VALETKEY_MASTER_KEY", "")
	t.Setenv("VALETKEY_SERVER", "")
	url := "sqlite:" + filepath.Join(t.TempDir(), "v.db")
	store, err := database.Open(t.Context(), &configuration.Configuration{Database: url}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Now()
	bob := &identity.User{ID: "bob-sub", Username: "bob", CreatedAt: now, UpdatedAt: now, External: []identity.ExternalLink{
		{ID: "first", Provider: "company", Issuer: "https://company.example", Subject: "b1", Email: "bob@company.example", LinkedAt: now, LastUsedAt: now},
		{ID: "second", Provider: "school", Issuer: "https://school.example", Subject: "b2", LinkedAt: now},
	}}
	if err := store.CreateUser(t.Context(), bob); err != nil {
		t.Fatal(err)
	}
	if _, err := store.UpdateGrant(t.Context(), bob.ID, "shop", func(g *record.Grant) error {
		g.Scope = oauth.Scope{"openid"}
		g.Details.Add(now, []json.RawMessage{json.RawMessage(`{"type":"payment","amount":"12.50"}`)})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	do := func(want int, args ...string) string {
		t.Helper()
		var out, log bytes.Buffer
		if got := run(t.Context(), append(args, "--database", url), &out, &log); got != want {
			t.Fatalf("valetkey %v: exit code %d, want %d\n%s%s", args, got, want, &out, &log)
		}
		return out.String() + log.String()
	}
	var shown userView
	if out := do(0, "users", "show", "bob", "--json"); json.Unmarshal([]byte(out), &shown) != nil || len(shown.Links) != 2 {
		t.Fatalf("users show: %s", out)
	}
	if l := shown.Links[0]; l.ID != "first" || l.Provider != "company" || l.Issuer != "https://company.example" || l.Subject != "b1" || l.Label != "bob@company.example" || l.LinkedAt.IsZero() || l.LastUsedAt.IsZero() {
		t.Errorf("the link is %+v", l)
	}
	if out := do(0, "grants", "list", "--user", "bob"); !strings.Contains(out, "payment") {
		t.Errorf("grants list: %s", out)
	}
	if out := do(0, "grants", "list", "--client", "shop", "--json"); !strings.Contains(out, `"amount": "12.50"`) {
		t.Errorf("grants list: %s", out)
	}
	do(2, "users", "remove-method", "bob", "third")
	if out := do(0, "users", "remove-method", "bob", "first"); !strings.Contains(out, "company") {
		t.Errorf("users remove-method: %s", out)
	}
	if out := do(1, "users", "remove-method", "bob", "second"); !strings.Contains(out, "could not sign in anymore") {
		t.Errorf("the last way to sign in: %s", out)
	}
	if out := do(0, "audit", "list", "--event", "external.unlinked"); !strings.Contains(out, "operator ") {
		t.Errorf("audit list: %s", out)
	}
}
