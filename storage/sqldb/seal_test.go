package sqldb

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

var testNow = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// secrets are values that must not be in the database.
type secrets struct {
	client, token string
	private       *ecdsa.PrivateKey
}

// storeSecrets stores one of each kind of secret.
func storeSecrets(t testing.TB, s *Store) secrets {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	all := secrets{client: "client-secret-" + storage.NewID(), token: "refresh-token-" + storage.NewID(), private: private}
	d := Declaration{
		Clients: []record.Client{{ID: "app", Secrets: []string{all.client}}, {ID: "other", Secrets: []string{"another"}}},
		Users:   []identity.User{{Username: "alice"}},
	}
	if err := s.Declare(t.Context(), testNow, "", d); err != nil {
		t.Fatal(err)
	}
	err = s.UpdateKeys(t.Context(), func([]record.Key) ([]record.Key, error) {
		return []record.Key{{ID: storage.NewID(), Algorithm: jose.ES256, Private: private, CreatedAt: testNow}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ticket := storage.Ticket{Key: storage.Kind("refresh").Hash(all.token), Data: []byte("{}"), Expires: testNow.Add(time.Hour)}
	if err := s.Put(t.Context(), testNow, ticket); err != nil {
		t.Fatal(err)
	}
	return all
}

// dump returns every column of every row, and bytes in hexadecimal too.
func dump(t *testing.T, databaseURL string) string {
	t.Helper()
	s := openTest(t, databaseURL)
	var all strings.Builder
	for _, table := range []string{"issuer", "tickets", "clients", "scopes", "resources", "keys", "grants", "users", "identifiers", "traces", "goose_db_version"} {
		rows, err := s.database.read().QueryContext(t.Context(), `SELECT * FROM `+table+` ORDER BY 1`)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new(any)
			}
			if err := rows.Scan(values...); err != nil {
				t.Fatal(err)
			}
			for i := range values {
				value := *values[i].(*any)
				if b, ok := value.([]byte); ok {
					value = hex.EncodeToString(b) + " " + string(b)
				}
				fmt.Fprintf(&all, "%s.%s: %v\n", table, columns[i], value)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		rows.Close()
	}
	return all.String()
}

func TestSG01_RT19_NoSecretIsInTheDatabase(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := openTest(t, databaseURL)
		stored := storeSecrets(t, s)
		text := dump(t, databaseURL)
		if path, ok := strings.CutPrefix(databaseURL, "sqlite:"); ok {
			for _, name := range []string{path, path + "-wal", path + "-shm"} {
				data, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				text += string(data)
			}
		}
		if !strings.Contains(text, "alice") || !strings.Contains(text, "app") {
			t.Fatal("the dump does not contain the values that are not secret")
		}
		der, err := x509.MarshalPKCS8PrivateKey(stored.private)
		if err != nil {
			t.Fatal(err)
		}
		scalar, err := stored.private.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		for name, secret := range map[string][]byte{
			"client secret": []byte(stored.client), "token": []byte(stored.token), "private key": scalar,
			"private key (PKCS #8)": der, "master key": testMasterKey,
		} {
			for _, form := range []string{string(secret), hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret)} {
				if strings.Contains(text, form) {
					t.Errorf("the %s is in the database", name)
				}
			}
		}
	})
}

func TestSG03_SealedValueOpensOnlyInItsOwnRow(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := openTest(t, databaseURL)
		storeSecrets(t, s)
		if _, err := s.database.write().Exec(`UPDATE clients SET secrets = (SELECT secrets FROM clients WHERE client_id = 'other') WHERE client_id = 'app'`); err != nil {
			t.Fatal(err)
		}
		if c, err := s.Client(t.Context(), "app"); err == nil {
			t.Errorf("a client has the secrets of another row: %q", c.Secrets)
		}
		if _, err := s.Client(t.Context(), "other"); err != nil {
			t.Error(err)
		}
		if _, err := s.database.write().Exec(`UPDATE keys SET private = (SELECT secrets FROM clients WHERE client_id = 'other')`); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Keys(t.Context()); err == nil {
			t.Error("a key opens from the value of another table")
		}
	})
}

func TestSG06_SealingTwiceGivesDifferentBytes(t *testing.T) {
	s, err := newSealer(testMasterKey)
	if err != nil {
		t.Fatal(err)
	}
	a, b := s.seal([]byte("secret"), "t.c", "row"), s.seal([]byte("secret"), "t.c", "row")
	if bytes.Equal(a, b) {
		t.Error("a nonce was used twice")
	}
	for i := range a {
		broken := bytes.Clone(a)
		broken[i] ^= 1
		if _, err := s.open(broken, "t.c", "row"); err == nil {
			t.Errorf("a value opens with byte %d changed", i)
		}
	}
	for _, short := range [][]byte{nil, {}, {sealVersion}, a[:20]} {
		if _, err := s.open(short, "t.c", "row"); err == nil {
			t.Errorf("%x opens", short)
		}
	}
	if plain, err := s.open(b, "t.c", "row"); err != nil || string(plain) != "secret" {
		t.Errorf("%q, %v", plain, err)
	}
}
