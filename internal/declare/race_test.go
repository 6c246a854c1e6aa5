package declare

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/sqldb"
)

func onBothStores(t *testing.T, test func(t *testing.T, store *sqldb.Store)) {
	t.Run("SQLite", func(t *testing.T) { test(t, openStoreAt(t, "sqlite:"+filepath.Join(t.TempDir(), "v.db"))) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, openStoreAt(t, pgtest.Database(t))) })
}

// If a sign-up and a declaration use the same name at the same time, one of them gets it. The
// declaration never gets the account that signed up.
func TestOP06_SignUpsDuringADeclaration(t *testing.T) {
	onBothStores(t, func(t *testing.T, store *sqldb.Store) {
		for round := range 5 {
			const users = 8
			var d configuration.Declarations
			for i := range users {
				d.Users = append(d.Users, configuration.User{Username: fmt.Sprintf("user%d-%d", round, i), Administrator: true})
			}
			taken := make([]error, users)
			var working sync.WaitGroup
			for i := range users {
				working.Go(func() {
					name := d.Users[i].Username
					taken[i] = store.CreateUser(t.Context(), &identity.User{ID: "id-" + name, Username: name, PasswordHash: "", Origin: identity.OriginSignedUp, CreatedAt: time.Now()})
				})
			}
			_, err := apply(t, store, &d, "file")
			if err != nil && !errors.As(err, new(*declaration.ConflictError)) {
				t.Fatal(err)
			}
			working.Wait()
			for i, u := range d.Users {
				user := storedUser(t, store, u.Username)
				declared := user.Origin == identity.OriginDeclared
				conflict := err != nil && strings.Contains(err.Error(), fmt.Sprintf("%q", u.Username))
				// The declared user has the name, whoever was first.
				if !declared || conflict || !user.Administrator || taken[i] != nil && !errors.Is(taken[i], identity.ErrIdentifierTaken) {
					t.Errorf("%s: declared %v, administrator %v, conflict %v, sign-up %v", u.Username, declared, user.Administrator, conflict, taken[i])
				}
			}
		}
	})
}

// Nodes with the same file that start at the same time declare its records once.
func TestNodesThatStartTogetherDeclareOnce(t *testing.T) {
	onBothStores(t, func(t *testing.T, store *sqldb.Store) {
		d := declarations(t, "users: [{username: ada, password: engine no. 1}, {username: grace, password: compiler no. 1}]\nscopes: [{name: notes}]\n")
		var working sync.WaitGroup
		changes := make([]int, 4)
		for i := range changes {
			working.Go(func() {
				result, err := Apply(t.Context(), store, &d, Options{Source: "file", OnlyNewer: true})
				if err != nil || result.Older {
					t.Errorf("a node: %+v (%v)", result, err)
				}
				changes[i] = declaration.Count(result.Changes)
			})
		}
		working.Wait()
		total := 0
		for _, n := range changes {
			total += n
		}
		if total != 3 {
			t.Errorf("the nodes made %v changes", changes)
		}
		if ada := storedUser(t, store, "ada"); !identity.VerifyPassword(ada.PasswordHash, "engine no. 1") {
			t.Error("the password does not fit")
		}
	})
}

// A password was unchanged when the new ones were hashed, and another node has declared another
// one since. The user must not be stored without a hash.
func TestOP06_APasswordThatBecomesNewDuringApplyIsHashed(t *testing.T) {
	store := openTestStore(t)
	mustApply(t, store, "file", "users: [{username: ada, password: engine no. 1}]\n")
	before := storedUser(t, store, "ada")
	d := declarations(t, "users: [{username: ada, password: engine no. 2}]\n")
	in, err := prepare(store, &d, Options{Source: "file"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := write(t.Context(), store, in, nil); !errors.Is(err, errUnhashed) {
		t.Errorf("the error is %v", err)
	}
	if after := storedUser(t, store, "ada"); after.PasswordHash != before.PasswordHash || after.DeclaredPassword != before.DeclaredPassword {
		t.Errorf("the user has changed: %+v", after)
	}
	if _, err := apply(t, store, &d, "file"); err != nil {
		t.Fatal(err)
	}
	if after := storedUser(t, store, "ada"); !identity.VerifyPassword(after.PasswordHash, "engine no. 2") {
		t.Error("the new password does not work")
	}
}
