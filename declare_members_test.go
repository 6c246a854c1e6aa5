package valetkey

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/storage/sqldb"
)

func declarations(t *testing.T, text string) Declarations {
	t.Helper()
	c, err := parseConfiguration("v.yaml", []byte(text), false)
	if err != nil {
		t.Fatal(err)
	}
	return c.Declarations
}

func mustApply(t *testing.T, store *sqldb.Store, source, text string) []Change {
	t.Helper()
	d := declarations(t, text)
	changes, err := d.Apply(t.Context(), store, source)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func storedUser(t *testing.T, store *sqldb.Store, name string) *identity.User {
	t.Helper()
	user, err := store.UserByIdentifier(t.Context(), name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return user
}

func TestOP04_PartialDeclarationChangesOnlyWhatItNames(t *testing.T) {
	for _, source := range []string{"", "file"} {
		store := openTestStore(t)
		mustApply(t, store, source, `
clients:
  - {client_id: app, client_secret: 0123456789abcdef, redirect_uris: [https://app.example.com/cb], client_name: App, skip_consent: true}
users:
  - {username: u1, password: engine no. 1, email: u1@example.com, email_verified: true, name: One, administrator: true, claims: {department: analysis, badge: 7}}
scopes: [{name: notes, description: Notes, optional: true, claims: [department]}]
resources: [{identifier: "https://notes.example.com", scopes: [notes], name: Notes}]
`)
		before := storedUser(t, store, "u1")
		changes := mustApply(t, store, source, `
clients: [{client_id: app, client_name: null, access_token_lifetime: 5m}]
users: [{username: u1, disabled: true, claims: {badge: null}}]
scopes: [{name: notes, optional: false}]
resources: [{identifier: "https://notes.example.com", access_token_format: opaque}]
`)
		if len(changes) != 4 {
			t.Errorf("the changes are %+v", changes)
		}
		user := storedUser(t, store, "u1@example.com")
		if !user.Disabled || !user.Administrator || user.ID != before.ID || user.PasswordHash != before.PasswordHash ||
			user.Claims["name"] != "One" || user.Claims["email_verified"] != true || user.Claims["department"] != "analysis" || user.Claims["badge"] != nil {
			t.Errorf("the user is %+v", user)
		}
		client, err := store.Client(t.Context(), "app")
		if err != nil {
			t.Fatal(err)
		}
		if client.ClientName != "" || !client.SkipConsent || len(client.RedirectURIs) != 1 || len(client.Secrets) != 1 || client.TokenEndpointAuthMethod != "" {
			t.Errorf("the client is %+v", client)
		}
		scopes, err := store.Scopes(t.Context())
		if err != nil || scopes[0].Optional || scopes[0].Description != "Notes" {
			t.Errorf("the scopes are %+v (%v)", scopes, err)
		}
		resources, err := store.Resources(t.Context())
		if err != nil || resources[0].Name != "Notes" || resources[0].AccessTokenFormat != "opaque" {
			t.Errorf("the resources are %+v (%v)", resources, err)
		}
		mustApply(t, store, source, "clients: [{client_id: app, skip_consent: false}]\nusers: [{username: u1, disabled: false, claims: null}]\nscopes: [{name: notes}]\nresources: [{identifier: \"https://notes.example.com\"}]\n")
		if user := storedUser(t, store, "u1"); user.Disabled || user.Claims["department"] != nil || user.Claims["name"] != "One" {
			t.Errorf("the user is %+v", user)
		}
		if client, err := store.Client(t.Context(), "app"); err != nil || client.SkipConsent {
			t.Errorf("the client is %+v (%v)", client, err)
		}
	}
}

func TestOP04_AClientChangesBetweenPublicAndConfidential(t *testing.T) {
	store := openTestStore(t)
	for _, step := range []struct {
		text, method string
		secrets      int
	}{
		{"redirect_uris: [https://a.example/cb]", "none", 0},
		{"client_secret: 0123456789abcdef", "", 1},
		{"client_secret_next: fedcba9876543210", "", 2},
		{"client_name: A", "", 2},
		{"client_secret: fedcba9876543210", "", 1},
		{"client_secret: null", "none", 0},
	} {
		mustApply(t, store, "", "clients: [{client_id: a, "+step.text+"}]\n")
		client, err := store.Client(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if client.TokenEndpointAuthMethod != step.method || len(client.Secrets) != step.secrets || len(client.RedirectURIs) != 1 {
			t.Errorf("%s: the client is %+v with %d secrets", step.text, client, len(client.Secrets))
		}
	}
}

func TestOP04_AMergedRecordIsChecked(t *testing.T) {
	store := openTestStore(t)
	mustApply(t, store, "", "clients: [{client_id: a, client_secret: 0123456789abcdef, redirect_uris: [https://a.example/cb]}]\n")
	d := declarations(t, "clients: [{client_id: a, redirect_uris: null}]\nscopes: [{name: fine}]\n")
	changes, err := d.Apply(t.Context(), store, "")
	var conflict *ConflictError
	if !errors.As(err, &conflict) || !strings.Contains(err.Error(), `client "a": the grant type authorization_code needs redirect_uris`) {
		t.Errorf("a client loses its redirect URIs: %v", err)
	}
	if CountChanges(changes) != 1 {
		t.Errorf("the changes are %+v", changes)
	}
	d = declarations(t, "clients: [{client_id: new}]\nscopes: [{name: more}]\n")
	if _, err := d.Apply(t.Context(), store, ""); err == nil || errors.As(err, &conflict) {
		t.Errorf("a new client without redirect URIs: %v", err)
	}
	if scopes, err := store.Scopes(t.Context()); err != nil || len(scopes) != 1 {
		t.Errorf("declarations that are wrong are applied in part: %v (%v)", scopes, err)
	}
}

func signUpFor(t *testing.T, store *sqldb.Store, username, email string) (*identity.Accounts, *identity.User, string) {
	t.Helper()
	accounts, err := identity.New(identity.Config{Store: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	user, err := accounts.SignUp(t.Context(), time.Now(), netip.MustParseAddr("192.0.2.1"), username, email, "a stranger's password")
	if err != nil {
		t.Fatal(err)
	}
	secret, _, err := accounts.StartSession(t.Context(), time.Now(), user, identity.SessionDetails{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return accounts, user, secret
}

func TestOP05_ADeclaredUserIsNeverOneWhoSignedUp(t *testing.T) {
	for name, databaseURL := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "v.db") },
		"postgres": func(t *testing.T) string { return pgtest.Database(t) },
	} {
		t.Run(name, func(t *testing.T) {
			store := openStoreAt(t, databaseURL(t))
			accounts, stranger, secret := signUpFor(t, store, "admin", "eve@example.com")
			d := declarations(t, "users: [{username: Admin, administrator: true}]\n")
			_, err := d.Apply(t.Context(), store, "file")
			if !errors.As(err, new(*ConflictError)) || !strings.Contains(err.Error(), "adopt: true") {
				t.Errorf("a declaration of a stranger's account: %v", err)
			}
			if user := storedUser(t, store, "admin"); user.Administrator {
				t.Fatal("the stranger is an administrator")
			}
			mustApply(t, store, "file", "users: [{username: Admin, administrator: true, adopt: true}]\n")
			user := storedUser(t, store, "admin")
			if user.ID != stranger.ID || !user.Administrator || user.PasswordHash != "" || user.Email() != "" {
				t.Errorf("the adopted user is %+v", user)
			}
			if _, err := accounts.Session(t.Context(), time.Now(), secret); err == nil {
				t.Error("the stranger is still signed in")
			}
			attempt := identity.Attempt{Identifier: "admin", Password: "a stranger's password", Remote: netip.MustParseAddr("192.0.2.1")}
			if _, err := accounts.Authenticate(t.Context(), time.Now(), attempt); !errors.Is(err, identity.ErrWrongCredentials) {
				t.Errorf("the stranger's password: %v", err)
			}
			if _, err := accounts.SignUp(t.Context(), time.Now(), netip.MustParseAddr("192.0.2.1"), "admin", "", "another password"); !errors.Is(err, identity.ErrIdentifierTaken) {
				t.Errorf("signing up with a declared name: %v", err)
			}
		})
	}
}

func openStoreAt(t *testing.T, database string) *sqldb.Store {
	t.Helper()
	t.Setenv("VALETKEY_MASTER_KEY", strings.Repeat("A", 43))
	store, err := OpenStore(t.Context(), &Configuration{Database: database}, slog.New(slog.DiscardHandler))
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

// node is a server on a database of several nodes.
func node(t *testing.T, database, text string, modified time.Time) (*Server, *bytes.Buffer) {
	t.Helper()
	var logged bytes.Buffer
	config := Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))}
	config.Issuer, config.Database, config.Source = "https://login.example.com", database, "https://login.example.com"
	config.Declarations = declarations(t, text)
	config.Modified = modified
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server, &logged
}

func readyz(s *Server) string {
	response := httptest.NewRecorder()
	s.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "https://login.example.com/readyz", nil))
	return response.Body.String()
}

func TestOP03_ANodeWithAnOlderFileUndoesNothing(t *testing.T) {
	t.Setenv("VALETKEY_MASTER_KEY", strings.Repeat("A", 43))
	database := pgtest.Database(t)
	const one = "users: [{username: ada, name: Ada}]\n"
	const two = "users: [{username: ada, name: Ada King}, {username: grace}]\n"
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	first, _ := node(t, database, one, noon)
	second, _ := node(t, database, two, noon.Add(time.Hour))
	check := func(when, name string, others ...string) {
		t.Helper()
		if user := storedUser(t, first.store, "ada"); user.Claims["name"] != name {
			t.Errorf("%s: the user is called %v", when, user.Claims["name"])
		}
		for _, other := range others {
			if user := storedUser(t, first.store, other); !user.Active() {
				t.Errorf("%s: %s is retired", when, other)
			}
		}
	}
	grace := storedUser(t, first.store, "grace").ID
	check("after the newer file", "Ada King", "grace")

	// The first node restarts, and is reloaded, with its old file.
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	first, logged := node(t, database, one, noon)
	check("after a restart with the older file", "Ada King", "grace")
	if _, err := first.Apply(t.Context(), declarations(t, one)); err != nil {
		t.Fatal(err)
	}
	check("after a reload of the older file", "Ada King", "grace")
	if !strings.Contains(logged.String(), "declarations.older") || !strings.Contains(logged.String(), "valetkey apply") {
		t.Errorf("the log does not say so:\n%s", logged)
	}
	if body := readyz(first); !strings.HasPrefix(body, "ready\n") || !strings.Contains(body, "declarations: this node's file is older") {
		t.Errorf("/readyz says %q", body)
	}
	// A file that nobody has seen is older if it was modified earlier.
	third, _ := node(t, database, "users: [{username: alan}]\n", noon.Add(time.Minute))
	check("after a file that was modified earlier", "Ada King", "grace")
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}

	// An edit on a running server, and apply, count.
	if _, err := first.Apply(t.Context(), declarations(t, "users: [{username: ada, name: Countess}]\n")); err != nil {
		t.Fatal(err)
	}
	check("after an edit", "Countess")
	if storedUser(t, first.store, "grace").Active() {
		t.Error("an edit does not retire what it drops")
	}
	if body := readyz(first); strings.Contains(body, "older") {
		t.Errorf("/readyz still says %q", body)
	}
	d := declarations(t, two)
	if _, err := d.ApplyWith(t.Context(), second.store, DeclareOptions{Source: "https://login.example.com", KeepUnnamed: true}); err != nil {
		t.Fatal(err)
	}
	check("after apply", "Ada King", "grace")
	if storedUser(t, first.store, "grace").ID != grace {
		t.Error("the user has another sub")
	}
}

func TestOP06_OneConflictStopsOneRecord(t *testing.T) {
	database := "sqlite:" + filepath.Join(t.TempDir(), "v.db")
	store := openStoreAt(t, database)
	signUpFor(t, store, "eve", "office@example.com")
	text := "users: [{username: ada, email: office@example.com}, {username: grace}]\nscopes: [{name: notes}]\n"
	server, logged := node(t, database, text, time.Time{})
	if !storedUser(t, store, "grace").Active() {
		t.Error("the other user is not there")
	}
	if owner := storedUser(t, store, "office@example.com"); owner.Username != "eve" {
		t.Errorf("the address is that of %q", owner.Username)
	}
	if !strings.Contains(logged.String(), "level=ERROR") || !strings.Contains(logged.String(), "name=ada") {
		t.Errorf("the log does not name the record:\n%s", logged)
	}
	if body := readyz(server); !strings.HasPrefix(body, "ready\n") || !strings.Contains(body, "records that could not be declared: 1") || strings.Contains(body, "ada") {
		t.Errorf("/readyz says %q", body)
	}
	changes, err := server.Apply(t.Context(), declarations(t, strings.Replace(text, "{name: notes}", "{name: notes}, {name: more}", 1)))
	if !errors.As(err, new(*ConflictError)) || CountChanges(changes) != 1 {
		t.Errorf("a reload beside a conflict: %+v (%v)", changes, err)
	}
	d := declarations(t, text)
	diff, err := d.Diff(t.Context(), store)
	if err != nil || len(diff) != 1 || !strings.HasSuffix(diff[0].Problem, "everything that its owner has") || !errors.Is(diff[0].Err, identity.ErrIdentifierTaken) {
		t.Errorf("the diff is %+v (%v)", diff, err)
	}
}

func TestOP02_WhatIsNamedAgainComesBack(t *testing.T) {
	store := openTestStore(t)
	const text = "users: [{username: ada, password: engine no. 1}]\n"
	mustApply(t, store, "file", text)
	ada := storedUser(t, store, "ada")
	own, err := identity.HashPassword("chosen by herself")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.UpdateUser(t.Context(), ada.ID, func(u *identity.User) error { u.PasswordHash = own; return nil }); err != nil {
		t.Fatal(err)
	}
	if changes := mustApply(t, store, "file", "users: []\n"); len(changes) != 1 || changes[0].Action != "retire" || changes[0].Name != "ada" {
		t.Errorf("the changes are %+v", changes)
	}
	if user := storedUser(t, store, "ada"); user.Active() {
		t.Error("the user is not retired")
	}
	if changes := mustApply(t, store, "file", "users: []\n"); len(changes) != 0 {
		t.Errorf("the second time, the changes are %+v", changes)
	}
	if changes := mustApply(t, store, "file", text); len(changes) != 1 || changes[0].Action != "restore" {
		t.Errorf("the changes are %+v", changes)
	}
	if back := storedUser(t, store, "ada"); back.ID != ada.ID || back.PasswordHash != own || !back.Active() {
		t.Errorf("the user comes back as %+v", back)
	}
}

// TestAPasswordChangedMeanwhileStays: a user changes their password while the declarations,
// which have another password to hash, are being applied.
func TestAPasswordChangedMeanwhileStays(t *testing.T) {
	store := openTestStore(t)
	mustApply(t, store, "file", "users: [{username: ada, password: engine no. 1}]\n")
	ada := storedUser(t, store, "ada")
	d := declarations(t, "users: [{username: ada, password: engine no. 1, name: Ada}, {username: grace, password: compiler no. 1}]\n")
	own, err := identity.HashPassword("chosen by herself")
	if err != nil {
		t.Fatal(err)
	}
	in, err := d.prepare(store, DeclareOptions{Source: "file"})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := d.plan(t.Context(), store, in)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.hash(t.Context(), in, plan.Unhashed); err != nil {
		t.Fatal(err)
	}
	if err := store.UpdateUser(t.Context(), ada.ID, func(u *identity.User) error { u.PasswordHash = own; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := write(t.Context(), store, in); err != nil {
		t.Fatal(err)
	}
	if user := storedUser(t, store, "ada"); user.PasswordHash != own || user.Claims["name"] != "Ada" {
		t.Errorf("the user is %+v", user)
	}
	storedUser(t, store, "grace")
}

// TestDeclaredPasswordsCostNothingTheSecondTime: a start with 10,000 declared passwords takes
// about as long as one with 10,000 declared hashes.
func TestDeclaredPasswordsCostNothingTheSecondTime(t *testing.T) {
	users := 10_000
	if testing.Short() {
		users = 1_000
	}
	const hash = "$2b$04$abcdefghijklmnopqrstuuKkLVUdkCTAC5JGfXpqxu1OZ8qVKlN3y"
	var hashes, passwords Declarations
	for i := range users {
		name := fmt.Sprintf("user%d", i)
		hashes.Users = append(hashes.Users, User{Username: name, PasswordHash: hash})
		passwords.Users = append(passwords.Users, User{Username: name, Password: "engine no. " + name})
	}
	store := openTestStore(t)
	if _, err := hashes.Apply(t.Context(), store, "file"); err != nil {
		t.Fatal(err)
	}
	again := func(d *Declarations) time.Duration {
		began := time.Now()
		if changes, err := d.Apply(t.Context(), store, "file"); err != nil || CountChanges(changes) != 0 {
			t.Fatalf("the same again changes %d records (%v)", CountChanges(changes), err)
		}
		return time.Since(began)
	}
	withHashes := again(&hashes)
	// As if the passwords had been declared before: hashing them once would take minutes.
	stored, err := store.Declared(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range stored.Users {
		stored.Users[i].DeclaredPassword = store.PasswordFingerprint(stored.Users[i].ID, "engine no. "+stored.Users[i].Username)
	}
	if err := store.Declare(t.Context(), time.Now(), "file", stored); err != nil {
		t.Fatal(err)
	}
	withPasswords := again(&passwords)
	t.Logf("%d users: %v with hashes, %v with passwords", users, withHashes, withPasswords)
	// A busy machine makes either of them slow. Hashing would take far longer.
	began := time.Now()
	if _, err := HashPassword("engine no. 1"); err != nil {
		t.Fatal(err)
	}
	hashing := time.Since(began) * time.Duration(users)
	if withPasswords > 2*withHashes+time.Second && withPasswords > hashing/20 {
		t.Errorf("%d declared passwords take %v, hashes %v; hashing would take %v", users, withPasswords, withHashes, hashing)
	}
}

// TestAnEarlierReleasesMarkOfADeclaredPasswordIsRecognised: it was a hash.
func TestAnEarlierReleasesMarkOfADeclaredPasswordIsRecognised(t *testing.T) {
	store := openTestStore(t)
	mustApply(t, store, "file", "users: [{username: ada, password: engine no. 1}]\n")
	ada := storedUser(t, store, "ada")
	err := store.UpdateUser(t.Context(), ada.ID, func(u *identity.User) error {
		u.DeclaredPassword, u.PasswordHash = u.PasswordHash, ""
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if changes := mustApply(t, store, "file", "users: [{username: ada, password: engine no. 1}]\n"); len(changes) != 0 {
		t.Errorf("the changes are %+v", changes)
	}
	if user := storedUser(t, store, "ada"); user.PasswordHash != "" || !strings.HasPrefix(user.DeclaredPassword, "fingerprint:") {
		t.Errorf("the user is %+v", user)
	}
}

// TestOP04_NullRemovesAKeySet: its type keeps JSON as it is, null included.
func TestOP04_NullRemovesAKeySet(t *testing.T) {
	store := openTestStore(t)
	const rest = "clients: [{client_id: app, grant_types: [client_credentials], scope: notes"
	const scopes = "}]\nscopes: [{name: notes, description: Notes}]\n"
	mustApply(t, store, "file", rest+", jwks: {keys: [{kty: EC, crv: P-256, x: f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU, y: x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0, kid: a, alg: ES256, use: sig}]}"+scopes)
	mustApply(t, store, "file", rest+", jwks: null, client_secret: 0123456789abcdef0123456789abcdef"+scopes)
	client, err := store.Client(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	if len(client.JWKS) > 0 || len(client.Secrets) != 1 {
		t.Errorf("the key set is %s, the method %q", client.JWKS, client.TokenEndpointAuthMethod)
	}
}

func TestOP05_AChangedPasswordOrAnAdoptionEndsWhatCameBefore(t *testing.T) {
	store := openTestStore(t)
	mustApply(t, store, "file", "users: [{username: ada, password: engine no. 1}]\n")
	mustApply(t, store, "file", "users: [{username: ada, password: engine no. 2}]\n")
	if storedUser(t, store, "ada").EndedAt.IsZero() {
		t.Error("with another declared password, sessions and tokens go on")
	}
	signUpFor(t, store, "eve", "eve@example.com")
	eve := storedUser(t, store, "eve").ID
	if _, err := store.UpdateGrant(t.Context(), eve, "app", func(*record.Grant) error { return nil }); err != nil {
		t.Fatal(err)
	}
	mustApply(t, store, "file", "users: [{username: ada}, {username: eve, adopt: true}]\n")
	if grants, err := store.GrantsOf(t.Context(), eve); err != nil || len(grants) != 0 {
		t.Errorf("the adopted account keeps its consents: %+v (%v)", grants, err)
	}
}

func TestOP04_AnotherAddressIsNotVerified(t *testing.T) {
	store := openTestStore(t)
	mustApply(t, store, "", "users: [{username: ada, email: a@example.com, email_verified: true}]\n")
	mustApply(t, store, "", "users: [{username: ada, email: b@example.com}]\n")
	if verified := storedUser(t, store, "ada").Claims["email_verified"]; verified == true {
		t.Error("the new address counts as verified")
	}
}

func TestOP06_AResourceInAnotherSpellingIsAConflict(t *testing.T) {
	store := openTestStore(t)
	mustApply(t, store, "one", "resources: [{identifier: \"https://notes.example.com\", name: Notes}]\n")
	for _, other := range []string{"https://notes.example.com/", "https://Notes.example.com", "https://notes.example.com:443"} {
		d := declarations(t, "resources: [{identifier: "+strconv.Quote(other)+"}]\nscopes: [{name: notes}]\n")
		for _, options := range []DeclareOptions{{Source: "two"}, {Source: "one", KeepUnnamed: true}, {KeepUnnamed: true}} {
			declared, err := d.DiffWith(t.Context(), store, options)
			if err != nil {
				t.Fatal(err)
			}
			conflict := slices.IndexFunc(declared.Changes, func(c Change) bool { return c.Action == ActionConflict })
			if conflict < 0 || !strings.Contains(declared.Changes[conflict].Problem, `"https://notes.example.com"`) {
				t.Errorf("%s with %+v: %+v", other, options, declared.Changes)
			}
		}
	}
	// The source that declared it may write it differently: the old spelling is retired.
	changes := mustApply(t, store, "one", "resources: [{identifier: \"https://notes.example.com/\"}]\n")
	if len(changes) != 2 || changes[0].Action != ActionAdd || changes[1].Action != ActionRetire {
		t.Errorf("the source respells its resource: %+v", changes)
	}
	changes = mustApply(t, store, "one", "resources: [{identifier: \"https://notes.example.com\"}]\n")
	if len(changes) != 2 || changes[0].Action != ActionRestore {
		t.Errorf("and back: %+v", changes)
	}
}
