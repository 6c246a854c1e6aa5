package sqldb

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	"github.com/valetkey/valetkey/audit"
)

// MasterKeyState says which of a store's two master keys seals what.
type MasterKeyState struct {
	// Previous says that the previous master key is in force: values are sealed with it.
	Previous bool
	// Unfinished says that a rotation was begun, and may have left values that only the former key
	// opens.
	Unfinished bool
	// Secrets, Keys and Clients are how many secrets of the database, signing keys and secrets of
	// clients the previous master key seals.
	Secrets, Keys, Clients int
}

// NeedsPrevious reports whether a program needs the previous master key.
func (m MasterKeyState) NeedsPrevious() bool {
	return m.Previous || m.Unfinished || m.Secrets+m.Keys+m.Clients > 0
}

// HasPreviousMasterKey reports whether the store has a previous master key.
func (s *Store) HasPreviousMasterKey() bool { return len(*s.masterKeys.Load()) > 1 }

var errOneMasterKey = errors.New("there is no previous master key")

// resealStep is how many clients one step of a rotation reads and writes: on SQLite, others wait for
// it.
const resealStep = 200

// sealedValue is a row with a sealed value.
type sealedValue struct {
	id     string
	sealed []byte
}

// previous returns the values of a query that the first of the keys does not open.
func (keys masterKeys) previous(ctx context.Context, q querier, column, query string, args ...any) (last string, found []sealedValue, err error) {
	values, err := collect(ctx, q, func(row row) (v sealedValue, err error) {
		err = row.Scan(&v.id, &v.sealed)
		return v, err
	}, query, args...)
	for _, v := range values {
		last = v.id
		if _, err := keys[0].open(v.sealed, column, v.id); err != nil {
			found = append(found, v)
		}
	}
	return last, found, err
}

const (
	selectSealedSecrets = `SELECT name, sealed FROM sealed_secrets`
	selectSealedKeys    = `SELECT kid, private FROM keys`
	selectSealedClients = `SELECT client_id, secrets FROM clients WHERE client_id > $1 AND length(secrets) > 0 ORDER BY client_id LIMIT $2`
)

// eachClient calls f with the clients whose secrets the first of the keys does not open, some at a
// time.
func (keys masterKeys) eachClient(ctx context.Context, q querier, f func([]sealedValue) error) error {
	for last := ""; ; {
		next, found, err := keys.previous(ctx, q, secretsColumn, selectSealedClients, last, resealStep)
		if err != nil {
			return fmt.Errorf("read clients: %w", err)
		}
		if next == "" {
			return nil
		}
		if len(found) > 0 {
			if err := f(found); err != nil {
				return err
			}
		}
		last = next
	}
}

// MasterKeyState reads everything that is sealed. It returns ErrWrongMasterKey if none of the keys is in
// force.
func (s *Store) MasterKeyState(ctx context.Context) (MasterKeyState, error) {
	return s.masterKeys.Load().state(ctx, s.database.read())
}

// InspectMasterKeys is MasterKeyState for a database that a server may be using, without a store: it
// changes nothing, and applies no migration. previous is zero if there is none.
func InspectMasterKeys(ctx context.Context, databaseURL string, insecure bool, current, previous MasterKey) (state MasterKeyState, err error) {
	keys, err := newMasterKeys(current, previous)
	if err != nil {
		return state, fmt.Errorf("inspect master keys: %w", err)
	}
	db, err := openToInspect(databaseURL, insecure)
	if err != nil {
		return state, fmt.Errorf("inspect master keys: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return keys.state(ctx, db)
}

func (keys masterKeys) state(ctx context.Context, q querier) (state MasterKeyState, err error) {
	key, _, err := keys.readInForce(ctx, q)
	if err != nil {
		return state, err
	}
	state.Previous = !bytes.Equal(key.Seal, keys[0].Seal)
	_, secrets, err := keys.previous(ctx, q, sealedColumn, selectSealedSecrets)
	if err != nil {
		return state, fmt.Errorf("read the secrets of the database: %w", err)
	}
	if state.Unfinished, err = unfinished(ctx, q); err != nil {
		return state, err
	}
	for _, v := range secrets {
		if v.id != previousMasterCheck {
			state.Secrets++
		}
	}
	_, found, err := keys.previous(ctx, q, privateColumn, selectSealedKeys)
	if err != nil {
		return state, fmt.Errorf("read keys: %w", err)
	}
	state.Keys = len(found)
	err = keys.eachClient(ctx, q, func(found []sealedValue) error {
		state.Clients += len(found)
		return nil
	})
	return state, err
}

// unfinished reports whether a rotation of the master key is not finished.
func unfinished(ctx context.Context, q querier) (bool, error) {
	var rows int
	err := q.QueryRowContext(ctx, `SELECT count(*) FROM sealed_secrets WHERE name = $1`, previousMasterCheck).Scan(&rows)
	if err != nil {
		return false, fmt.Errorf("read the secrets of the database: %w", err)
	}
	return rows > 0, nil
}

// RotateMasterKey puts the master key of the store in force, and seals with it what the previous one
// has sealed. All programs that use the database must have both keys before, and until it is finished.
// None of them has to wait: the first transaction puts the key in force, and others then seal the
// secrets of some clients at a time. If it is interrupted, another call continues. progress, if it is not
// nil, is called after each transaction, with what has been sealed. It returns what it has sealed.
//
// A client that is changed at the same time is not overwritten: its secrets are replaced only if they
// are still those that were read, and whoever changes them has to seal with the key in force.
func (s *Store) RotateMasterKey(ctx context.Context, progress func(MasterKeyState)) (sealed MasterKeyState, err error) {
	if progress == nil {
		progress = func(MasterKeyState) {}
	}
	keys := *s.masterKeys.Load()
	if len(keys) < 2 {
		return sealed, fmt.Errorf("rotate the master key: %w", errOneMasterKey)
	}
	if bytes.Equal(keys[0].Seal, keys[1].Seal) {
		return sealed, errors.New("rotate the master key: it is the same key as the previous one")
	}
	if err := s.transact(ctx, func(tx *sql.Tx) (err error) {
		sealed, err = s.putInForce(ctx, tx, keys)
		return err
	}); err != nil {
		return sealed, fmt.Errorf("rotate the master key: %w", err)
	}
	progress(sealed)
	err = keys.eachClient(ctx, s.database.read(), func(found []sealedValue) error {
		changed := 0
		err := s.transact(ctx, func(tx *sql.Tx) (err error) {
			changed, err = resealClients(ctx, tx, keys, found)
			return err
		})
		if err != nil {
			return err
		}
		sealed.Clients += changed
		progress(sealed)
		return nil
	})
	if err == nil {
		err = s.transact(ctx, func(tx *sql.Tx) error { return s.finishRotation(ctx, tx, keys, &sealed) })
	}
	if err != nil {
		return sealed, fmt.Errorf("rotate the master key: %w; it is in force, and the rotation is not finished: run it again", err)
	}
	return sealed, nil
}

// putInForce puts the first of the keys in force, unless it is already, and seals the secrets of the
// database and the signing keys with it.
func (s *Store) putInForce(ctx context.Context, tx *sql.Tx, keys masterKeys) (sealed MasterKeyState, err error) {
	if err := lockCatalogue(ctx, tx); err != nil {
		return sealed, err
	}
	key, _, err := s.inForce(ctx, tx)
	if err != nil {
		return sealed, err
	}
	// If a rotation was begun already, this fails unless the two keys are those of that rotation.
	if _, err := s.sealedSecrets(ctx, tx); err != nil {
		return sealed, err
	}
	_, secrets, err := keys.previous(ctx, tx, sealedColumn, selectSealedSecrets)
	if err != nil {
		return sealed, err
	}
	for _, v := range secrets {
		if v.id == previousMasterCheck {
			continue
		}
		secret, err := keys.open(v.sealed, sealedColumn, v.id)
		if err != nil {
			return sealed, fmt.Errorf("secret %q: %w", v.id, err)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE sealed_secrets SET sealed = $1 WHERE name = $2`, keys[0].seal(secret, sealedColumn, v.id), v.id); err != nil {
			return sealed, err
		}
		sealed.Secrets++
	}
	if !bytes.Equal(key.Seal, keys[0].Seal) {
		sealed.Previous = true
		// Until it is deleted, a program without the previous key does not open the database.
		_, err := tx.ExecContext(ctx, `INSERT INTO sealed_secrets (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed`,
			previousMasterCheck, keys[1].seal([]byte(masterKeyCheck), sealedColumn, previousMasterCheck))
		if err != nil {
			return sealed, err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE issuer SET master_key_check = $1 WHERE id = 1`, keys[0].seal([]byte(masterKeyCheck), rotatedColumn, "1")); err != nil {
			return sealed, err
		}
		r := audit.Record{Event: "master_key.rotated", Object: audit.Object{Kind: audit.ObjectMasterKey}}
		if err := s.insertAudit(ctx, tx, &r); err != nil {
			return sealed, err
		}
	}
	_, found, err := keys.previous(ctx, tx, privateColumn, selectSealedKeys)
	if err != nil {
		return sealed, err
	}
	for _, v := range found {
		private, err := keys.open(v.sealed, privateColumn, v.id)
		if err != nil {
			return sealed, fmt.Errorf("key %q: %w", v.id, err)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE keys SET private = $1 WHERE kid = $2`, keys[0].seal(private, privateColumn, v.id), v.id); err != nil {
			return sealed, err
		}
	}
	sealed.Keys = len(found)
	return sealed, nil
}

// resealClients seals the secrets of clients with the first of the keys.
func resealClients(ctx context.Context, tx *sql.Tx, keys masterKeys, clients []sealedValue) (changed int, err error) {
	for _, v := range clients {
		secrets, err := keys.open(v.sealed, secretsColumn, v.id)
		if err != nil {
			return 0, fmt.Errorf("secrets of client %q: %w", v.id, err)
		}
		result, err := tx.ExecContext(ctx, `UPDATE clients SET secrets = $1 WHERE client_id = $2 AND secrets = $3`, keys[0].seal(secrets, secretsColumn, v.id), v.id, v.sealed)
		if err != nil {
			return 0, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return 0, err
		}
		changed += int(n)
	}
	return changed, nil
}

// finishRotation lets programs open the database without the previous key.
func (s *Store) finishRotation(ctx context.Context, tx *sql.Tx, keys masterKeys, sealed *MasterKeyState) error {
	if err := lockCatalogue(ctx, tx); err != nil {
		return err
	}
	key, _, err := s.inForce(ctx, tx)
	if err != nil {
		return err
	}
	if !bytes.Equal(key.Seal, keys[0].Seal) {
		return errors.New("someone has put the previous key in force again")
	}
	result, err := tx.ExecContext(ctx, `DELETE FROM sealed_secrets WHERE name = $1`, previousMasterCheck)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 && sealed.Clients == 0 {
		return err // there was nothing to do
	}
	return s.insertAudit(ctx, tx, &audit.Record{
		Event: "master_key.rotation_finished", Object: audit.Object{Kind: audit.ObjectMasterKey},
		Details: map[string]string{"secrets": strconv.Itoa(sealed.Secrets), "keys": strconv.Itoa(sealed.Keys), "clients": strconv.Itoa(sealed.Clients)},
	})
}
