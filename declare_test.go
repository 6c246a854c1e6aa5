package valetkey

import (
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/storage/sqldb"
)

func openTestStore(t *testing.T) *sqldb.Store {
	t.Helper()
	store, err := OpenStore(t.Context(), &Configuration{Database: "sqlite:" + filepath.Join(t.TempDir(), "v.db")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func someDeclarations() Declarations {
	return Declarations{
		Clients: []Client{{ID: "app", Secret: "first-secret-0123456789", ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{"https://app.example.com/callback"}, Scope: "notes",
		}}},
		Users:     []User{{Username: "ada", Password: "engine no. 1", Name: "Ada Lovelace"}},
		Scopes:    []record.Scope{{Name: "notes", Description: "Read your notes"}},
		Resources: []record.Resource{{Identifier: "https://notes.example.com", Scopes: []string{"notes"}}},
	}
}

func TestApplyTwiceChangesNothing(t *testing.T) {
	store, d := openTestStore(t), someDeclarations()
	changes, err := d.Apply(t.Context(), store, "")
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
		if changes, err := d.Apply(t.Context(), store, source); err != nil || len(changes) != 0 {
			t.Errorf("another apply changes %v (%v)", changes, err)
		}
	}
	after, err := store.Declared(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("another apply stores something else, such as a new hash of the same password:\n%s", diff)
	}
	if again, err := store.Version(t.Context()); err != nil || again != version {
		t.Errorf("another apply makes every node reload: version %d after %d (%v)", again, version, err)
	}
}

func TestDiffSaysWhatApplyWouldChangeAndShowsNoSecret(t *testing.T) {
	store, d := openTestStore(t), someDeclarations()
	if _, err := d.Apply(t.Context(), store, ""); err != nil {
		t.Fatal(err)
	}
	d.Clients[0].Secret = "second-secret-0123456789"
	d.Clients[0].RedirectURIs = []string{"https://app.example.com/cb"}
	d.Users[0].Password = "engine no. 2"
	d.Users[0].Name = "Ada King"
	d.Scopes[0].Optional = true
	d.Resources = append(d.Resources, record.Resource{Identifier: "https://new.example.com"})
	want := []Change{
		{Kind: "client", Name: "app", Action: "change", Members: []MemberChange{
			{Name: "redirect_uris", From: `["https://app.example.com/callback"]`, To: `["https://app.example.com/cb"]`},
			{Name: "client_secret", From: "", To: "(secret)"},
		}},
		{Kind: "scope", Name: "notes", Action: "change", Members: []MemberChange{{Name: "optional", From: "", To: "true"}}},
		{Kind: "resource", Name: "https://new.example.com", Action: "add", Members: []MemberChange{{Name: "identifier", From: "", To: `"https://new.example.com"`}}},
		{Kind: "user", Name: "ada", Action: "change", Members: []MemberChange{
			{Name: "name", From: `"Ada Lovelace"`, To: `"Ada King"`}, {Name: "password", From: "", To: "(secret)"},
		}},
	}
	got, err := d.Diff(t.Context(), store)
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
	applied, err := d.Apply(t.Context(), store, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, applied); diff != "" {
		t.Errorf("apply did something else than diff said:\n%s", diff)
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

func TestAUserWithoutADeclaredPasswordKeepsTheirOwn(t *testing.T) {
	store, d := openTestStore(t), someDeclarations()
	if _, err := d.Apply(t.Context(), store, ""); err != nil {
		t.Fatal(err)
	}
	d.Users[0].Password, d.Users[0].Email = "", "ada@example.com"
	if _, err := d.Apply(t.Context(), store, ""); err != nil {
		t.Fatal(err)
	}
	stored, err := store.Declared(t.Context())
	if err != nil || !identity.VerifyPassword(stored.Users[0].PasswordHash, "engine no. 1") {
		t.Errorf("the password is gone (%v)", err)
	}
}

func TestADeclaredPasswordLeavesAloneWhatThePersonChoseSince(t *testing.T) {
	store, d := openTestStore(t), someDeclarations()
	apply := func(changed int) *identity.User {
		t.Helper()
		if changes, err := d.Apply(t.Context(), store, "file:v.yaml"); err != nil || len(changes) != changed {
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
		t.Error("the same declaration took the person's own password away")
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

func TestASourceRemovesWhatItNoLongerDeclares(t *testing.T) {
	store, d := openTestStore(t), someDeclarations()
	if _, err := d.Apply(t.Context(), store, "file:v.yaml"); err != nil {
		t.Fatal(err)
	}
	other := Declarations{Scopes: []record.Scope{{Name: "of-another-source"}}}
	if _, err := other.Apply(t.Context(), store, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Declarations{}).Apply(t.Context(), store, "file:v.yaml"); err != nil {
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
	if _, err := d.Apply(t.Context(), store, ""); err != nil {
		t.Fatal(err)
	}
	more := Declarations{Clients: []Client{{ID: "more", Secret: "0123456789abcdef", ClientMetadata: oauth.ClientMetadata{
		GrantTypes: []string{oauth.GrantTypeClientCredentials}, Scope: "notes",
	}}}}
	if _, err := more.Apply(t.Context(), store, ""); err != nil {
		t.Error(err)
	}
	more.Clients[0].Scope = "nots"
	if _, err := more.Apply(t.Context(), store, ""); err == nil || !strings.Contains(err.Error(), `the scope "nots" is not declared`) {
		t.Errorf("a scope that nobody declared: %v", err)
	}
}

func TestCA19_NoClientIsCalledLikeAPerson(t *testing.T) {
	store, d := openTestStore(t), someDeclarations()
	if _, err := d.Apply(t.Context(), store, ""); err != nil {
		t.Fatal(err)
	}
	stored, err := store.Declared(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	impostor := Declarations{Clients: []Client{{ID: stored.Users[0].ID, Secret: "0123456789abcdef", ClientMetadata: oauth.ClientMetadata{
		GrantTypes: []string{oauth.GrantTypeClientCredentials},
	}}}}
	if _, err := impostor.Apply(t.Context(), store, ""); err == nil {
		t.Error("a client may be called like a person's subject identifier")
	}
}
