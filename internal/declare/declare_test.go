package declare

import (
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// apply declares with a source, as a server does.
func apply(t *testing.T, store *sqldb.Store, d *configuration.Declarations, source string) ([]declaration.Change, error) {
	t.Helper()
	result, err := Apply(t.Context(), store, d, Options{Source: source})
	return result.Changes, err
}

func openTestStore(t *testing.T) *sqldb.Store {
	t.Helper()
	store, err := database.Open(t.Context(), &configuration.Configuration{Database: "sqlite:" + filepath.Join(t.TempDir(), "v.db")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store.Store
}

func someDeclarations() configuration.Declarations {
	return configuration.Declarations{
		Clients: []configuration.Client{{ID: "app", Secret: "first-secret-0123456789", ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{"https://app.example.com/callback"}, Scope: "notes",
		}}},
		Users:     []configuration.User{{Username: "ada", Password: "engine no. 1", Name: "Ada Lovelace"}},
		Scopes:    []record.Scope{{Name: "notes", Description: "Read your notes"}},
		Resources: []record.Resource{{Identifier: "https://notes.example.com", Scopes: []string{"notes"}}},
	}
}

func TestApplyTwiceChangesNothing(t *testing.T) {
	store, d := openTestStore(t), someDeclarations()
	changes, err := apply(t, store, &d, "")
	if err != nil || len(changes) != 4 {
		t.Fatalf("the first apply makes %v (%v)", changes, err)
	}
	before, err := store.Declared(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	version, err := store.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"", "file:v.yaml", "file:v.yaml"} {
		if changes, err := apply(t, store, &d, source); err != nil || len(changes) != 0 {
			t.Errorf("another apply changes %v (%v)", changes, err)
		}
	}
	after, err := store.Declared(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	source := cmp.Options{cmpopts.IgnoreFields(record.Client{}, "DeclaredBy"), cmpopts.IgnoreFields(identity.User{}, "DeclaredBy")}
	if diff := cmp.Diff(before, after, source); diff != "" {
		t.Errorf("another apply stores something else, such as a new hash of the same password:\n%s", diff)
	}
	if again, err := store.Version(t.Context()); err != nil || again != version {
		t.Errorf("another apply makes every node reload: version %d after %d (%v)", again, version, err)
	}
}

func TestDiffShowsWhatApplyChangesWithoutSecrets(t *testing.T) {
	store, d := openTestStore(t), someDeclarations()
	if _, err := apply(t, store, &d, ""); err != nil {
		t.Fatal(err)
	}
	d.Clients[0].Secret = "second-secret-0123456789"
	d.Clients[0].RedirectURIs = []string{"https://app.example.com/cb"}
	d.Users[0].Password = "engine no. 2"
	d.Users[0].Name = "Ada King"
	d.Scopes[0].Optional = true
	d.Resources = append(d.Resources, record.Resource{Identifier: "https://new.example.com"})
	want := []declaration.Change{
		{Kind: "client", Name: "app", Action: "change", Members: []declaration.MemberChange{
			{Name: "redirect_uris", From: `["https://app.example.com/callback"]`, To: `["https://app.example.com/cb"]`},
			{Name: "client_secret", From: "", To: "(secret)"},
		}},
		{Kind: "scope", Name: "notes", Action: "change", Members: []declaration.MemberChange{{Name: "optional", From: "", To: "true"}}},
		{Kind: "resource", Name: "https://new.example.com", Action: "add", Members: []declaration.MemberChange{{Name: "identifier", From: "", To: `"https://new.example.com"`}}},
		{Kind: "user", Name: "ada", Action: "change", Members: []declaration.MemberChange{
			{Name: "name", From: `"Ada Lovelace"`, To: `"Ada King"`}, {Name: "password", From: "", To: "(secret)"},
		}},
	}
	result, err := Diff(t.Context(), store, &d, Options{})
	got := result.Changes
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("diff (-want +got):\n%s", diff)
	}
	printed, err := json.Marshal(got)
	if err != nil || strings.Contains(string(printed), "0123456789") || strings.Contains(string(printed), "engine") || strings.Contains(string(printed), "$argon2id$") {
		t.Errorf("the diff shows a secret: %s", printed)
	}
	applied, err := apply(t, store, &d, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, applied); diff != "" {
		t.Errorf("apply differs from diff:\n%s", diff)
	}
	stored, err := store.Declared(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !identity.VerifyPassword(stored.Users[0].PasswordHash, "engine no. 2") {
		t.Error("the new password does not fit")
	}
	if diff := cmp.Diff([]string{"second-secret-0123456789"}, stored.Clients[0].Secrets); diff != "" {
		t.Errorf("the client's secrets are others:\n%s", diff)
	}
}

func TestAUserWithoutADeclaredPasswordKeepsTheOldOne(t *testing.T) {
	store, d := openTestStore(t), someDeclarations()
	if _, err := apply(t, store, &d, ""); err != nil {
		t.Fatal(err)
	}
	d.Users[0].Password, d.Users[0].Email = "", "ada@example.com"
	if _, err := apply(t, store, &d, ""); err != nil {
		t.Fatal(err)
	}
	stored, err := store.Declared(t.Context())
	if err != nil || !identity.VerifyPassword(stored.Users[0].PasswordHash, "engine no. 1") {
		t.Errorf("the password is gone (%v)", err)
	}
}

func TestADeclaredPasswordDoesNotReplaceANewerOne(t *testing.T) {
	store, d := openTestStore(t), someDeclarations()
	apply := func(changed int) *identity.User {
		t.Helper()
		if changes, err := apply(t, store, &d, "file:v.yaml"); err != nil || len(changes) != changed {
			t.Fatalf("apply changes %v (%v)", changes, err)
		}
		user, err := store.UserByIdentifier(t.Context(), "ada")
		if err != nil {
			t.Fatal(err)
		}
		return user
	}
	user := apply(4)
	hash, err := identity.HashPassword("chosen by herself")
	if err != nil {
		t.Fatal(err)
	}
	err = store.UpdateUser(t.Context(), user.ID, func(user *identity.User) error {
		user.PasswordHash = hash
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if user = apply(0); !identity.VerifyPassword(user.PasswordHash, "chosen by herself") {
		t.Error("the same declaration replaced the user's own password")
	}
	d.Users[0].Password = "engine no. 2"
	if user = apply(1); !identity.VerifyPassword(user.PasswordHash, "engine no. 2") {
		t.Error("another declared password was not set")
	}
	d.Users[0].Password, d.Users[0].PasswordHash = "", hash
	if user = apply(1); user.PasswordHash != hash {
		t.Error("the declared hash was not set")
	}
	apply(0)
}

func TestASourceRetiresWhatItNoLongerDeclares(t *testing.T) {
	store, d := openTestStore(t), someDeclarations()
	if _, err := apply(t, store, &d, "file:v.yaml"); err != nil {
		t.Fatal(err)
	}
	other := configuration.Declarations{Scopes: []record.Scope{{Name: "of-another-source"}}}
	if _, err := apply(t, store, &other, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := apply(t, store, &configuration.Declarations{}, "file:v.yaml"); err != nil {
		t.Fatal(err)
	}
	stored, err := store.Declared(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(stored.Clients)+len(stored.Users)+len(stored.Resources) != 0 || len(stored.Scopes) != 1 {
		t.Errorf("there is still %+v", stored)
	}
}

func TestReferencesMayBeStored(t *testing.T) {
	store, d := openTestStore(t), someDeclarations()
	if _, err := apply(t, store, &d, ""); err != nil {
		t.Fatal(err)
	}
	more := configuration.Declarations{Clients: []configuration.Client{{ID: "more", Secret: "0123456789abcdef", ClientMetadata: oauth.ClientMetadata{
		GrantTypes: []string{oauth.GrantTypeClientCredentials}, Scope: "notes",
	}}}}
	if _, err := apply(t, store, &more, ""); err != nil {
		t.Error(err)
	}
	more.Clients[0].Scope = "nots"
	if _, err := apply(t, store, &more, ""); err == nil || !strings.Contains(err.Error(), `the scope "nots" is not declared`) {
		t.Errorf("an undeclared scope: %v", err)
	}
}

func TestCA19_AClientIDIsNeverAUsersSub(t *testing.T) {
	store, d := openTestStore(t), someDeclarations()
	if _, err := apply(t, store, &d, ""); err != nil {
		t.Fatal(err)
	}
	stored, err := store.Declared(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	impostor := configuration.Declarations{Clients: []configuration.Client{{ID: stored.Users[0].ID, Secret: "0123456789abcdef", ClientMetadata: oauth.ClientMetadata{
		GrantTypes: []string{oauth.GrantTypeClientCredentials},
	}}}}
	if _, err := apply(t, store, &impostor, ""); err == nil {
		t.Error("a client may have a user's subject identifier as client_id")
	}
}
