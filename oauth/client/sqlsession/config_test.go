package sqlsession_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth/client/sqlsession"
)

// unreachable is a database that no connection can be made to. The module has no driver;
// tests with databases are in the server's module.
type unreachable struct{}

func (unreachable) Connect(context.Context) (driver.Conn, error) {
	return nil, errors.New("unreachable")
}
func (unreachable) Driver() driver.Driver { return nil }

func TestConfigIsChecked(t *testing.T) {
	db, key := sql.OpenDB(unreachable{}), make([]byte, 32)
	valid := sqlsession.Config{DB: db, Dialect: sqlsession.SQLite, Key: key}
	if _, err := sqlsession.New(valid); err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]sqlsession.Config{
		"no database":     {Dialect: sqlsession.SQLite, Key: key},
		"no dialect":      {DB: db, Key: key},
		"no key":          {DB: db, Dialect: sqlsession.SQLite},
		"a short key":     {DB: db, Dialect: sqlsession.SQLite, Key: key[:16]},
		"a short old key": {DB: db, Dialect: sqlsession.SQLite, Key: key, OlderKeys: [][]byte{key[:31]}},
		"an odd table":    {DB: db, Dialect: sqlsession.SQLite, Key: key, Table: "a; DROP TABLE b"},
	} {
		if _, err := sqlsession.New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDeleteSignedOutNeedsASubjectOrASession(t *testing.T) {
	store, err := sqlsession.New(sqlsession.Config{DB: sql.OpenDB(unreachable{}), Dialect: sqlsession.SQLite, Key: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.DeleteSignedOut(t.Context(), "https://login.example.com", "", ""); err == nil || err.Error() == "unreachable" {
		t.Errorf("all users of the issuer would be signed out: %v", err)
	}
}

func TestConfigIsPrintedWithoutItsKey(t *testing.T) {
	secret := sqlsession.Config{Key: []byte("k3y-k3y-k3y-k3y-k3y-k3y-k3y-k3y!")}
	if printed := fmt.Sprintf("%v %+v %#v %s", secret, secret, &secret, secret.LogValue()); strings.Contains(printed, "k3y") || strings.Contains(printed, "107") {
		t.Errorf("printed: %s", printed)
	}
}
