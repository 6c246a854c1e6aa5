package valetkey

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/declare"
	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/storage/declaration"
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

func storedUser(t *testing.T, store *sqldb.Store, name string) *identity.User {
	t.Helper()
	user, err := store.UserByIdentifier(t.Context(), name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return user
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

// node is a server on a database of several nodes.
func node(t *testing.T, url, text string, modified time.Time) (*Server, *bytes.Buffer) {
	t.Helper()
	var logged bytes.Buffer
	config := Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))}
	config.Issuer, config.Database, config.Source = "https://login.example.com", url, "https://login.example.com"
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
	url := pgtest.Database(t)
	const one = "users: [{username: ada, name: Ada}]\n"
	const two = "users: [{username: ada, name: Ada King}, {username: grace}]\n"
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	first, _ := node(t, url, one, noon)
	second, _ := node(t, url, two, noon.Add(time.Hour))
	check := func(when, name string, others ...string) {
		t.Helper()
		if user := storedUser(t, first.store.Store, "ada"); user.Claims["name"] != name {
			t.Errorf("%s: the user is called %v", when, user.Claims["name"])
		}
		for _, other := range others {
			if user := storedUser(t, first.store.Store, other); !user.Active() {
				t.Errorf("%s: %s is retired", when, other)
			}
		}
	}
	grace := storedUser(t, first.store.Store, "grace").ID
	check("after the newer file", "Ada King", "grace")

	// The first node restarts, and is reloaded, with its old file.
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	first, logged := node(t, url, one, noon)
	check("after a restart with the older file", "Ada King", "grace")
	if _, err := first.Apply(t.Context(), declarations(t, one)); err != nil {
		t.Fatal(err)
	}
	check("after a reload of the older file", "Ada King", "grace")
	if !strings.Contains(logged.String(), "declarations.older") || !strings.Contains(logged.String(), "valetkey apply") {
		t.Errorf("the log does not report it:\n%s", logged)
	}
	if body := readyz(first); !strings.HasPrefix(body, "ready\n") || !strings.Contains(body, "declarations: this node's file is older") {
		t.Errorf("/readyz returns %q", body)
	}
	// A file that was never applied is older if it was modified earlier.
	third, _ := node(t, url, "users: [{username: alan}]\n", noon.Add(time.Minute))
	check("after a file that was modified earlier", "Ada King", "grace")
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}

	// An edit on a running server, and apply, count.
	if _, err := first.Apply(t.Context(), declarations(t, "users: [{username: ada, name: Countess}]\n")); err != nil {
		t.Fatal(err)
	}
	check("after an edit", "Countess")
	if storedUser(t, first.store.Store, "grace").Active() {
		t.Error("an edit does not retire what it drops")
	}
	if body := readyz(first); strings.Contains(body, "older") {
		t.Errorf("/readyz still returns %q", body)
	}
	d := declarations(t, two)
	if _, err := declare.Apply(t.Context(), second.store.Store, &d, declare.Options{Source: "https://login.example.com", KeepUnnamed: true}); err != nil {
		t.Fatal(err)
	}
	check("after apply", "Ada King", "grace")
	if storedUser(t, first.store.Store, "grace").ID != grace {
		t.Error("the user has another sub")
	}
}

func TestOP06_OneConflictStopsOneRecord(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "v.db")
	store := openStoreAt(t, url)
	eve := &identity.User{ID: "eve", Username: "eve", Claims: map[string]any{"email": "office@example.com"}, Origin: identity.OriginSetup}
	if err := store.CreateUser(t.Context(), eve); err != nil {
		t.Fatal(err)
	}
	text := "users: [{username: ada, email: office@example.com}, {username: grace}]\nscopes: [{name: notes}]\n"
	server, logged := node(t, url, text, time.Time{})
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
		t.Errorf("/readyz returns %q", body)
	}
	changes, err := server.Apply(t.Context(), declarations(t, strings.Replace(text, "{name: notes}", "{name: notes}, {name: more}", 1)))
	if !errors.As(err, new(*declaration.ConflictError)) || declaration.Count(changes) != 1 {
		t.Errorf("a reload with a conflict: %+v (%v)", changes, err)
	}
	d := declarations(t, text)
	result, err := declare.Diff(t.Context(), store, &d, declare.Options{})
	diff := result.Changes
	if err != nil || len(diff) != 1 || !strings.Contains(diff[0].Problem, `the user "eve" has "office@example.com"`) || !errors.Is(diff[0].Err, identity.ErrIdentifierTaken) {
		t.Errorf("the diff is %+v (%v)", diff, err)
	}
}
