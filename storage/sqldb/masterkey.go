package sqldb

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
)

// The master key seals private keys, the secrets of clients, and the secrets in the table
// sealed_secrets. Those were derived from the first master key, at the first start of a program that
// has the table, and are kept when the master key is rotated. Everything else depends on them, so
// nothing that was issued depends on the master key.
//
// A program may have two master keys: the one in force before a rotation and the one after it. It
// reads what either of them has sealed. issuer.master_key_check tells with which one to seal; a
// transaction that seals reads it while it holds the lock of the catalogue.

// MasterKey is a master key, in the form in which a store needs it.
type MasterKey struct {
	// Seal has 32 bytes, with which the store seals.
	Seal []byte
	// Secret is derived from the master key for the program. A new database keeps it as
	// Store.ProgramSecret, sealed, so that it stays the same when the master key is rotated. It may be
	// nil.
	Secret []byte
}

// String keeps the key out of logs.
func (MasterKey) String() string { return "[master key]" }

// GoString keeps the key out of logs.
func (k MasterKey) GoString() string { return k.String() }

// masterKey is a master key that is ready for use.
type masterKey struct {
	MasterKey
	sealer
}

// masterKeys are the master key, and the previous one if there is one.
type masterKeys []masterKey

func newMasterKeys(current, previous MasterKey) (masterKeys, error) {
	var keys masterKeys
	for _, key := range []MasterKey{current, previous} {
		if len(keys) > 0 && key.Seal == nil {
			continue
		}
		sealer, err := newSealer(key.Seal)
		if err != nil {
			return nil, err
		}
		keys = append(keys, masterKey{key, sealer})
	}
	return keys, nil
}

// open decrypts a value that one of the keys has sealed.
func (keys masterKeys) open(sealed []byte, column, row string) (plain []byte, err error) {
	for _, key := range keys {
		if plain, err = key.open(sealed, column, row); err == nil {
			break
		}
	}
	return plain, err
}

const (
	checkColumn = "issuer.master_key_check"
	// rotatedColumn is the place of the check after a rotation. A program that derives all secrets
	// from the master key cannot open it: it would derive others.
	rotatedColumn  = "issuer.master_key_check after a rotation"
	masterKeyCheck = "valetkey master key"
)

// inForce returns the index of the key that a check was sealed with, or -1. rotated says that it is
// not the first key of the database.
func (keys masterKeys) inForce(check []byte) (index int, rotated bool) {
	for i, key := range keys {
		if _, err := key.open(check, rotatedColumn, "1"); err == nil {
			return i, true
		}
		if _, err := key.open(check, checkColumn, "1"); err == nil {
			return i, false
		}
	}
	return -1, false
}

// ErrWrongMasterKey is the error for a database that none of the keys opens.
var ErrWrongMasterKey = errors.New("the master key is not the one that seals this database")

func (keys masterKeys) wrong() error {
	if len(keys) > 1 {
		return fmt.Errorf("%w, and neither is the previous one; nothing was changed", ErrWrongMasterKey)
	}
	return fmt.Errorf("%w; nothing was changed", ErrWrongMasterKey)
}

const selectCheck = `SELECT master_key_check FROM issuer WHERE id = 1`

// inForce returns the key to seal with, and whether it is the result of a rotation. In a transaction
// with the lock of the catalogue, it stays in force until the transaction ends.
func (s *Store) inForce(ctx context.Context, q querier) (key masterKey, rotated bool, err error) {
	return s.masterKeys.Load().readInForce(ctx, q)
}

func (keys masterKeys) readInForce(ctx context.Context, q querier) (key masterKey, rotated bool, err error) {
	var check []byte
	if err := q.QueryRowContext(ctx, selectCheck).Scan(&check); err != nil {
		return masterKey{}, false, fmt.Errorf("read master key check: %w", err)
	}
	index, rotated := keys.inForce(check)
	if index < 0 {
		return masterKey{}, false, keys.wrong()
	}
	return keys[index], rotated, nil
}

// seal seals a value with the key in force. The transaction has the lock of the catalogue.
func (s *Store) seal(ctx context.Context, tx *sql.Tx, plain []byte, column, row string) ([]byte, error) {
	key, _, err := s.inForce(ctx, tx)
	if err != nil {
		return nil, err
	}
	return key.seal(plain, column, row), nil
}

// open opens a value that one of the master keys has sealed.
func (s *Store) open(sealed []byte, column, row string) ([]byte, error) {
	return s.masterKeys.Load().open(sealed, column, row)
}

// The rows of sealed_secrets.
const (
	sealedColumn = "sealed_secrets.sealed"

	secretOfProgram     = "program"
	secretFingerprint   = "fingerprint"
	secretAuditRecords  = "audit records"
	secretAuditSigner   = "audit checkpoints"
	previousMasterCheck = "previous master key check"
)

// secretsOf returns the secrets that are derived from the first master key of a database.
func secretsOf(key MasterKey) (map[string][]byte, error) {
	secrets := map[string][]byte{}
	if key.Secret != nil {
		secrets[secretOfProgram] = key.Secret
	}
	for _, name := range []string{secretFingerprint, secretAuditRecords, secretAuditSigner} {
		secret, err := hkdf.Key(sha256.New, key.Seal, nil, "valetkey "+name, sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("derive secrets: %w", err)
		}
		secrets[name] = secret
	}
	return secrets, nil
}

// ProgramSecret returns the secret that was derived for the program from the first master key of the
// database; nil if Config.Secret was nil then.
func (s *Store) ProgramSecret() []byte { return s.programSecret }

// readSecrets reads the secrets of the database. A database that has none yet gets those that programs
// without the table derive, so both can use it at the same time.
func (s *Store) readSecrets(ctx context.Context) error {
	secrets, err := s.sealedSecrets(ctx, s.database.read())
	if err != nil {
		return err
	}
	if !s.hasSecrets(secrets) {
		if err := s.transact(ctx, s.storeSecrets(ctx)); err != nil {
			return fmt.Errorf("store the secrets of the database: %w", err)
		}
		if secrets, err = s.sealedSecrets(ctx, s.database.read()); err != nil {
			return err
		}
	}
	if !s.hasSecrets(secrets) {
		return errors.New("secrets of the database are missing: sealed_secrets was changed")
	}
	s.programSecret = secrets[secretOfProgram]
	s.fingerprintKey, s.auditKey = secrets[secretFingerprint], secrets[secretAuditRecords]
	if len(secrets[secretAuditSigner]) != ed25519.SeedSize {
		return errors.New("the key of the audit log is damaged")
	}
	s.auditSigner = ed25519.NewKeyFromSeed(secrets[secretAuditSigner])
	return nil
}

// hasSecrets reports whether the secrets are complete.
func (s *Store) hasSecrets(secrets map[string][]byte) bool {
	names := []string{secretFingerprint, secretAuditRecords, secretAuditSigner}
	if (*s.masterKeys.Load())[0].Secret != nil {
		names = append(names, secretOfProgram)
	}
	for _, name := range names {
		if secrets[name] == nil {
			return false
		}
	}
	return true
}

// sealedSecrets returns the secrets of the database. It returns an error unless the master keys that
// the program has are sufficient to read everything.
func (s *Store) sealedSecrets(ctx context.Context, q querier) (map[string][]byte, error) {
	type sealedSecret struct {
		name   string
		sealed []byte
	}
	rows, err := collect(ctx, q, func(row row) (r sealedSecret, err error) {
		err = row.Scan(&r.name, &r.sealed)
		return r, err
	}, `SELECT name, sealed FROM sealed_secrets`)
	if err != nil {
		return nil, fmt.Errorf("read the secrets of the database: %w", err)
	}
	secrets := map[string][]byte{}
	for _, r := range rows {
		secret, err := s.open(r.sealed, sealedColumn, r.name)
		if err != nil && r.name == previousMasterCheck {
			return nil, errUnfinished
		}
		if err != nil {
			return nil, fmt.Errorf("secret %q: %w", r.name, err)
		}
		secrets[r.name] = secret
	}
	return secrets, nil
}

var errUnfinished = errors.New("the master key is being rotated, and the previous one still seals a part of the database: configure the previous one, too, and run valetkey masterkey rotate")

// storeSecrets returns a transaction that stores the secrets that are derived from the first master
// key.
func (s *Store) storeSecrets(ctx context.Context) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		if err := lockCatalogue(ctx, tx); err != nil {
			return err
		}
		key, rotated, err := s.inForce(ctx, tx)
		if err != nil || rotated {
			return err
		}
		secrets, err := secretsOf(key.MasterKey)
		if err != nil {
			return err
		}
		for name, secret := range secrets {
			_, err := tx.ExecContext(ctx, `INSERT INTO sealed_secrets (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, name, key.seal(secret, sealedColumn, name))
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// ReplaceMasterKeys replaces the master keys that the store reads with. It changes nothing in the
// database, and returns an error, and keeps the former keys, if the new ones do not open everything.
// previous is zero if there is none.
func (s *Store) ReplaceMasterKeys(ctx context.Context, current, previous MasterKey) error {
	keys, err := newMasterKeys(current, previous)
	if err != nil {
		return fmt.Errorf("replace master keys: %w", err)
	}
	with := &Store{database: s.database}
	with.masterKeys.Store(&keys)
	if _, _, err := with.inForce(ctx, s.database.read()); err != nil {
		return fmt.Errorf("replace master keys: %w", err)
	}
	if _, err := with.sealedSecrets(ctx, s.database.read()); err != nil {
		return fmt.Errorf("replace master keys: %w", err)
	}
	s.masterKeys.Store(&keys)
	return nil
}
