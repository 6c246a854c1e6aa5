package sqldb

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

var (
	oldKey = MasterKey{Seal: testMasterKey, Secret: bytes.Repeat([]byte{'o'}, 32)}
	newKey = MasterKey{Seal: bytes.Repeat([]byte{9}, 32), Secret: bytes.Repeat([]byte{'n'}, 32)}
)

// with returns the configuration of a program with one or two master keys.
func with(keys ...MasterKey) Config {
	c := Config{MasterKey: keys[0].Seal, Secret: keys[0].Secret}
	if len(keys) > 1 {
		c.PreviousMasterKey = keys[1]
	}
	return c
}

func mustOpen(t *testing.T, databaseURL string, c Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), databaseURL, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// wantRefused checks that a program with these keys does not open the database.
func wantRefused(t *testing.T, databaseURL, reason string, keys ...MasterKey) {
	t.Helper()
	s, err := Open(t.Context(), databaseURL, with(keys...))
	if err == nil {
		_ = s.Close()
		t.Errorf("the database opens with %d keys that are not sufficient", len(keys))
	} else if !strings.Contains(err.Error(), reason) {
		t.Errorf("the error is %v", err)
	}
}

// derived is what a store has derived from the first master key.
type derived struct{ program, digest, auditKey string }

func derivedOf(s *Store) derived {
	return derived{string(s.ProgramSecret()), s.DeclarationDigest([]byte("file")), s.AuditKey()}
}

// createClient stores a client with one secret.
func createClient(ctx context.Context, s *Store, id string) error {
	return s.CreateClient(ctx, &record.Client{ID: id, Secrets: []string{"secret of " + id}})
}

// wantReadable checks that a store reads all secrets.
func wantReadable(t *testing.T, s *Store, clients ...string) {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Errorf("keys %v, %v", keys, err)
	}
	for _, id := range clients {
		if c, err := s.Client(t.Context(), id); err != nil || len(c.Secrets) != 1 || c.Secrets[0] != "secret of "+id {
			t.Errorf("client %s: %v", id, err)
		}
	}
}

func storeKey(t *testing.T, s *Store) {
	t.Helper()
	private, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.UpdateKeys(t.Context(), func(keys []record.Key) ([]record.Key, error) {
		return append(slices.Clone(keys), record.Key{ID: "key", Algorithm: jose.ES256, Private: private}), nil
	}); err != nil {
		t.Fatal(err)
	}
}

// Nodes with both keys create clients while another one rotates. Nothing that was derived from the first
// master key changes, and afterwards the new key is sufficient and the old one is of no use.
func TestMasterKeyIsRotatedWhileNodesRun(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		node := mustOpen(t, databaseURL, with(oldKey))
		before := derivedOf(node)
		storeKey(t, node)
		ids := []string{"known"}
		if err := createClient(t.Context(), node, "known"); err != nil {
			t.Fatal(err)
		}
		if err := node.ReplaceMasterKeys(t.Context(), newKey, MasterKey{}); err == nil {
			t.Fatal("a node takes a key that opens nothing")
		}
		if err := node.ReplaceMasterKeys(t.Context(), newKey, oldKey); err != nil {
			t.Fatal(err)
		}
		other := mustOpen(t, databaseURL, with(newKey, oldKey))
		if derivedOf(other) != before {
			t.Fatal("a node that has both keys derives other values")
		}
		if err := createClient(t.Context(), other, "with both"); err != nil { // still sealed with the old key
			t.Fatal(err)
		}
		ids = append(ids, "with both")
		wantReadable(t, mustOpen(t, databaseURL, with(oldKey)), ids...)

		const during = 40
		var nodes sync.WaitGroup
		for n := range during {
			ids = append(ids, fmt.Sprint("during ", n))
		}
		for i, s := range []*Store{node, other} {
			nodes.Go(func() {
				for n := i; n < during; n += 2 {
					if err := createClient(t.Context(), s, fmt.Sprint("during ", n)); err != nil {
						t.Error(err)
					}
					wantReadable(t, s, "known")
				}
			})
		}
		rotating := mustOpen(t, databaseURL, with(newKey, oldKey))
		state, err := rotating.MasterKeyState(t.Context())
		if err != nil || !state.Previous || state.Secrets != 4 || state.Keys != 1 || state.Clients < 2 {
			t.Errorf("before: %+v, %v", state, err)
		}
		sealed, err := rotating.RotateMasterKey(t.Context(), nil)
		if err != nil || !sealed.Previous || sealed.Secrets != 4 || sealed.Keys != 1 || sealed.Clients < 2 {
			t.Fatalf("sealed %+v, %v", sealed, err)
		}
		nodes.Wait()

		wantReadable(t, node, ids...)
		wantReadable(t, other, ids...)
		if state, err := other.MasterKeyState(t.Context()); err != nil || state.NeedsPrevious() {
			t.Errorf("after: %+v, %v", state, err)
		}
		alone := mustOpen(t, databaseURL, with(newKey))
		wantReadable(t, alone, ids...)
		if derivedOf(alone) != before {
			t.Error("what was derived from the first master key has changed")
		}
		wantRefused(t, databaseURL, "master key is not the one", oldKey)
		wantRecords(t, alone, "master_key.rotated", "master_key.rotation_finished")
		if again, err := rotating.RotateMasterKey(t.Context(), nil); err != nil || again.NeedsPrevious() {
			t.Errorf("again: %+v, %v", again, err)
		}
		wantRecords(t, alone, "master_key.rotated", "master_key.rotation_finished")
	})
}

// wantRecords checks which audit records about the master key there are.
func wantRecords(t *testing.T, s *Store, events ...string) {
	t.Helper()
	var found []string
	if _, err := s.SealAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	page, err := s.AuditIndex(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range page {
		if strings.HasPrefix(r.Event, "master_key.") {
			found = append(found, r.Event)
			if audit.EventByName(r.Event) == nil {
				t.Errorf("%s is no known event", r.Event)
			}
		}
	}
	if !slices.Equal(found, events) {
		t.Errorf("audit records %v, not %v", found, events)
	}
}

// A rotation that stops half-way leaves a database that programs with both keys open, and no others. It can
// be continued, or taken back, but not with a third key.
func TestInterruptedRotation(t *testing.T) {
	stop := errors.New("stopped")
	onBoth(t, func(t *testing.T, databaseURL string) {
		mustOpen(t, databaseURL, with(newKey, oldKey))
		node := mustOpen(t, databaseURL, with(newKey)) // the first key of this database
		before := derivedOf(node)
		storeKey(t, node)
		ids := []string{"a", "b"}
		for _, id := range ids {
			if err := createClient(t.Context(), node, id); err != nil {
				t.Fatal(err)
			}
		}

		third := MasterKey{Seal: bytes.Repeat([]byte{3}, 32), Secret: bytes.Repeat([]byte{'3'}, 32)}
		both := mustOpen(t, databaseURL, with(oldKey, newKey))
		// The process ends after the first transaction.
		func() {
			defer func() {
				if r := recover(); r != stop {
					t.Fatalf("recovered %v", r)
				}
			}()
			_, _ = both.RotateMasterKey(t.Context(), func(MasterKeyState) { panic(stop) })
		}()
		wantRefused(t, databaseURL, "valetkey masterkey rotate", oldKey)
		wantRefused(t, databaseURL, "master key is not the one", newKey)
		wantRefused(t, databaseURL, "valetkey masterkey rotate", third, oldKey)
		wantReadable(t, both, ids...)
		if state, err := both.MasterKeyState(t.Context()); err != nil || state.Previous || !state.Unfinished || state.Clients != 2 {
			t.Errorf("half-way: %+v, %v", state, err)
		}
		wantInspected(t, databaseURL, MasterKeyState{Unfinished: true, Clients: 2}, oldKey, newKey)
		wantInspected(t, databaseURL, MasterKeyState{Unfinished: true, Clients: 2}, oldKey)
		wantInspected(t, databaseURL, MasterKeyState{Previous: true, Unfinished: true, Secrets: 4, Keys: 1}, newKey, oldKey)
		if _, err := InspectMasterKeys(t.Context(), databaseURL, false, newKey, third); !errors.Is(err, ErrWrongMasterKey) {
			t.Errorf("keys that are not in force: %v", err)
		}
		back := mustOpen(t, databaseURL, with(newKey, oldKey))
		func() {
			defer func() { _ = recover() }()
			_, _ = back.RotateMasterKey(t.Context(), func(MasterKeyState) { panic(stop) })
		}()
		wantReadable(t, both, ids...)
		// And on again, to the end.
		if sealed, err := both.RotateMasterKey(t.Context(), nil); err != nil || sealed.Clients != 2 {
			t.Fatalf("sealed %+v, %v", sealed, err)
		}
		wantInspected(t, databaseURL, MasterKeyState{}, oldKey, newKey)
		alone := mustOpen(t, databaseURL, with(oldKey))
		wantReadable(t, alone, ids...)
		if derivedOf(alone) != before {
			t.Error("what was derived from the first master key has changed")
		}
	})
}

// wantInspected checks what can be known about the master keys without a store.
func wantInspected(t *testing.T, databaseURL string, want MasterKeyState, keys ...MasterKey) {
	t.Helper()
	keys = append(keys, MasterKey{})
	if state, err := InspectMasterKeys(t.Context(), databaseURL, false, keys[0], keys[1]); err != nil || state != want {
		t.Errorf("inspected: %+v, %v; want %+v", state, err, want)
	}
}

// A program without the table sealed_secrets derives the same values from the master key, and works beside
// this one until the master key is rotated. Then it must not start with the new key: it would derive others.
func TestProgramsThatDeriveSecretsFromTheMasterKey(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := mustOpen(t, databaseURL, with(newKey, oldKey))
		if _, err := s.database.write().Exec(`DELETE FROM sealed_secrets`); err != nil {
			t.Fatal(err)
		}
		// The database as that program has created it, with its own key.
		older, err := newSealer(oldKey.Seal)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.database.write().Exec(`UPDATE issuer SET master_key_check = $1`, older.seal([]byte(masterKeyCheck), checkColumn, "1")); err != nil {
			t.Fatal(err)
		}

		s = mustOpen(t, databaseURL, with(newKey, oldKey))
		if string(s.ProgramSecret()) != string(oldKey.Secret) {
			t.Error("the secret is not that of the master key in force")
		}
		secrets, err := secretsOf(oldKey)
		if err != nil || string(s.fingerprintKey) != string(secrets[secretFingerprint]) || string(s.auditKey) != string(secrets[secretAuditRecords]) {
			t.Errorf("other keys than those of the master key in force: %v", err)
		}
		check := func() (check []byte) {
			if err := s.database.read().QueryRowContext(t.Context(), selectCheck).Scan(&check); err != nil {
				t.Fatal(err)
			}
			return check
		}
		if _, err := older.open(check(), checkColumn, "1"); err != nil {
			t.Error("the older program does not open the database before the rotation")
		}
		if _, err := s.RotateMasterKey(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		newer, err := newSealer(newKey.Seal)
		if err != nil {
			t.Fatal(err)
		}
		for _, program := range []sealer{older, newer} {
			if _, err := program.open(check(), checkColumn, "1"); err == nil {
				t.Error("the older program opens the database after the rotation")
			}
		}
		// Secrets that are lost are not derived again.
		if _, err := s.database.write().Exec(`DELETE FROM sealed_secrets WHERE name = 'program'`); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, databaseURL, "are missing", newKey)
	})
}

// A client that changes while its secrets are sealed again is not overwritten.
func TestRotationDoesNotOverwriteAClient(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := mustOpen(t, databaseURL, with(oldKey))
		if err := createClient(t.Context(), s, "app"); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, databaseURL, with(newKey, oldKey))
		keys := *s.masterKeys.Load()
		err := keys.eachClient(t.Context(), s.database.read(), func(found []sealedValue) error {
			err := s.UpdateClient(t.Context(), "app", func(c *record.Client) error {
				c.Secrets = []string{"another secret"}
				return nil
			})
			if err != nil {
				return err
			}
			return s.transact(t.Context(), func(tx *sql.Tx) error {
				changed, err := resealClients(t.Context(), tx, keys, found)
				if changed != 0 {
					t.Errorf("%d clients were overwritten", changed)
				}
				return err
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if c, err := s.Client(t.Context(), "app"); err != nil || c.Secrets[0] != "another secret" {
			t.Errorf("client %+v, %v", c, err)
		}
	})
}
