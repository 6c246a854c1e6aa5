package declare

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// declarations reads declarations, which may refer to names that they do not declare.
func declarations(t *testing.T, text string) configuration.Declarations {
	t.Helper()
	path := filepath.Join(t.TempDir(), "v.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := configuration.ReadDeclarations(path)
	if err != nil {
		t.Fatal(err)
	}
	c.Modified = time.Time{}
	return c.Declarations
}

func mustApply(t *testing.T, store *sqldb.Store, source, text string) []declaration.Change {
	t.Helper()
	d := declarations(t, text)
	changes, err := apply(t, store, &d, source)
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
	changes, err := apply(t, store, &d, "")
	var conflict *declaration.ConflictError
	if !errors.As(err, &conflict) || !strings.Contains(err.Error(), `client "a": the grant type authorization_code needs redirect_uris`) {
		t.Errorf("a client loses its redirect URIs: %v", err)
	}
	if declaration.Count(changes) != 1 {
		t.Errorf("the changes are %+v", changes)
	}
	d = declarations(t, "clients: [{client_id: new}]\nscopes: [{name: more}]\n")
	if _, err := apply(t, store, &d, ""); err == nil || errors.As(err, &conflict) {
		t.Errorf("a new client without redirect URIs: %v", err)
	}
	if scopes, err := store.Scopes(t.Context()); err != nil || len(scopes) != 1 {
		t.Errorf("invalid declarations are applied in part: %v (%v)", scopes, err)
	}
}

func signUpFor(t *testing.T, store *sqldb.Store, username, email string) (*identity.Accounts, *identity.User, string) {
	t.Helper()
	accounts, err := identity.New(identity.Config{Store: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	user, err := accounts.SignUp(t.Context(), time.Now(), identity.NewAccount{Username: username, Password: "a stranger's password", Remote: netip.MustParseAddr("192.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	if email != "" { // the stranger proves an address
		err := store.UpdateUser(t.Context(), user.ID, func(u *identity.User) error {
			u.Claims = map[string]any{"email": email, "email_verified": true}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	secret, _, err := accounts.StartSession(t.Context(), time.Now(), user, identity.SessionDetails{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return accounts, user, secret
}

func TestOP05_ADeclarationNeverMatchesASignedUpAccount(t *testing.T) {
	for name, databaseURL := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "v.db") },
		"postgres": func(t *testing.T) string { return pgtest.Database(t) },
	} {
		t.Run(name, func(t *testing.T) {
			store := openStoreAt(t, databaseURL(t))
			accounts, stranger, secret := signUpFor(t, store, "admin", "eve@example.com")
			d := declarations(t, "users: [{username: Admin, administrator: true}]\n")
			if _, err := apply(t, store, &d, "file"); err != nil {
				t.Errorf("a declaration of a name that another user has: %v", err)
			}
			user := storedUser(t, store, "admin")
			if user.ID == stranger.ID || !user.Administrator || user.PasswordHash != "" || user.Email() != "" {
				t.Errorf("the declared user is %+v", user)
			}
			session, err := accounts.Session(t.Context(), time.Now(), secret)
			if err != nil || session.User.ID != stranger.ID || session.User.Administrator || !strings.HasPrefix(session.User.Username, "user-") {
				t.Errorf("the session of the other user: %+v (%v)", session, err)
			}
			attempt := identity.Attempt{Identifier: "admin", Password: "a stranger's password", Remote: netip.MustParseAddr("192.0.2.1")}
			if _, err := accounts.Authenticate(t.Context(), time.Now(), attempt); !errors.Is(err, identity.ErrWrongCredentials) {
				t.Errorf("the other user's password: %v", err)
			}
			if _, err := accounts.SignUp(t.Context(), time.Now(), identity.NewAccount{Username: "admin", Password: "another password", Remote: netip.MustParseAddr("192.0.2.1")}); !errors.Is(err, identity.ErrIdentifierTaken) {
				t.Errorf("signing up with a declared name: %v", err)
			}
		})
	}
}

func openStoreAt(t *testing.T, url string) *sqldb.Store {
	t.Helper()
	t.Setenv("VALETKEY_MASTER_KEY", strings.Repeat("A", 43))
	store, err := database.Open(t.Context(), &configuration.Configuration{Database: url}, slog.New(slog.DiscardHandler))
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

func TestOP02_ARecordThatIsDeclaredAgainIsRestored(t *testing.T) {
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

// A user changes the password while the declarations are applied, which takes time because
// they contain a new password to hash.
func TestAPasswordChangedDuringApplyIsKept(t *testing.T) {
	store := openTestStore(t)
	mustApply(t, store, "file", "users: [{username: ada, password: engine no. 1}]\n")
	ada := storedUser(t, store, "ada")
	d := declarations(t, "users: [{username: ada, password: engine no. 1, name: Ada}, {username: grace, password: compiler no. 1}]\n")
	own, err := identity.HashPassword("chosen by herself")
	if err != nil {
		t.Fatal(err)
	}
	in, err := prepare(store, &d, Options{Source: "file"})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := planned(t.Context(), store, &d, in)
	if err != nil {
		t.Fatal(err)
	}
	if err := hash(t.Context(), &d, in, plan.Unhashed); err != nil {
		t.Fatal(err)
	}
	if err := store.UpdateUser(t.Context(), ada.ID, func(u *identity.User) error { u.PasswordHash = own; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := write(t.Context(), store, in, nil); err != nil {
		t.Fatal(err)
	}
	if user := storedUser(t, store, "ada"); user.PasswordHash != own || user.Claims["name"] != "Ada" {
		t.Errorf("the user is %+v", user)
	}
	storedUser(t, store, "grace")
}

// A start with 3,000 unchanged passwords takes about as long as one with 3,000 hashes.
func TestUnchangedPasswordsAreNotHashedAgain(t *testing.T) {
	users := 3_000
	if testing.Short() {
		users = 1_000
	}
	const hash = "$2b$04$abcdefghijklmnopqrstuuKkLVUdkCTAC5JGfXpqxu1OZ8qVKlN3y"
	var hashes, passwords configuration.Declarations
	for i := range users {
		name := fmt.Sprintf("user%d", i)
		hashes.Users = append(hashes.Users, configuration.User{Username: name, PasswordHash: hash})
		passwords.Users = append(passwords.Users, configuration.User{Username: name, Password: "engine no. " + name})
	}
	store := openTestStore(t)
	if _, err := apply(t, store, &hashes, "file"); err != nil {
		t.Fatal(err)
	}
	again := func(d *configuration.Declarations) time.Duration {
		began := time.Now()
		if changes, err := apply(t, store, d, "file"); err != nil || declaration.Count(changes) != 0 {
			t.Fatalf("applying the same declarations again changes %d records (%v)", declaration.Count(changes), err)
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
	if _, err := identity.HashPassword("engine no. 1"); err != nil {
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
		for _, options := range []Options{{Source: "two"}, {Source: "one", KeepUnnamed: true}, {KeepUnnamed: true}} {
			declared, err := Diff(t.Context(), store, &d, options)
			if err != nil {
				t.Fatal(err)
			}
			conflict := slices.IndexFunc(declared.Changes, func(c declaration.Change) bool { return c.Action == declaration.ActionConflict })
			if conflict < 0 || !strings.Contains(declared.Changes[conflict].Problem, `"https://notes.example.com"`) {
				t.Errorf("%s with %+v: %+v", other, options, declared.Changes)
			}
		}
	}
	// The source that declared it may write it differently: the old spelling is retired.
	changes := mustApply(t, store, "one", "resources: [{identifier: \"https://notes.example.com/\"}]\n")
	if len(changes) != 2 || changes[0].Action != declaration.ActionAdd || changes[1].Action != declaration.ActionRetire {
		t.Errorf("the source respells its resource: %+v", changes)
	}
	changes = mustApply(t, store, "one", "resources: [{identifier: \"https://notes.example.com\"}]\n")
	if len(changes) != 2 || changes[0].Action != declaration.ActionRestore {
		t.Errorf("and back: %+v", changes)
	}
}
