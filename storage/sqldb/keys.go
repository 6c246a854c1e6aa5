package sqldb

import (
	"context"
	"crypto"
	"crypto/x509"
	"database/sql"
	"fmt"
	"slices"

	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/audited"
	"github.com/valetkey/valetkey/storage/record"
)

const privateColumn = "keys.private"

// Keys implements record.Store.
func (s *Store) Keys(ctx context.Context) ([]record.Key, error) {
	return s.keys(ctx, s.database.read())
}

// UpdateKeys implements record.Store. update must not call the store, and may be called again if
// PostgreSQL needs another attempt.
func (s *Store) UpdateKeys(ctx context.Context, update func([]record.Key) ([]record.Key, error)) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if err := lockCatalogue(ctx, tx); err != nil {
			return err
		}
		keys, err := s.keys(ctx, tx)
		if err != nil {
			return err
		}
		before := slices.Clone(keys)
		if keys, err = update(keys); err != nil {
			return err
		}
		for _, r := range audited.Keys(before, keys) {
			if err := s.auditChange(ctx, tx, &r); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM keys`); err != nil {
			return err
		}
		for _, k := range keys {
			if err := s.insertKey(ctx, tx, k); err != nil {
				return fmt.Errorf("key %q: %w", k.ID, err)
			}
		}
		return bumpVersion(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("update keys: %w", err)
	}
	return nil
}

func (s *Store) keys(ctx context.Context, q querier) ([]record.Key, error) {
	keys, err := collect(ctx, q, func(rows row) (k record.Key, err error) {
		var algorithm string
		var private []byte
		var created, signsFrom, publishedUntil int64
		if err := rows.Scan(&k.ID, &algorithm, &private, &created, &signsFrom, &publishedUntil); err != nil {
			return k, err
		}
		k.Algorithm = jose.Algorithm(algorithm)
		k.CreatedAt, k.SignsFrom, k.PublishedUntil = fromMilliseconds(created), fromMilliseconds(signsFrom), fromMilliseconds(publishedUntil)
		if k.Private, err = s.openPrivate(private, k.ID); err != nil {
			return k, fmt.Errorf("key %q: %w", k.ID, err)
		}
		return k, nil
	}, `SELECT kid, algorithm, private, created, signs_from, published_until FROM keys ORDER BY created, kid`)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	return keys, nil
}

func (s *Store) openPrivate(sealed []byte, kid string) (crypto.Signer, error) {
	der, err := s.open(sealed, privateColumn, kid)
	if err != nil {
		return nil, err
	}
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key: a %T cannot sign", private)
	}
	return signer, nil
}

func (s *Store) insertKey(ctx context.Context, tx *sql.Tx, k record.Key) error {
	der, err := x509.MarshalPKCS8PrivateKey(k.Private)
	if err != nil {
		return fmt.Errorf("private key: %w", err)
	}
	sealed, err := s.seal(ctx, tx, der, privateColumn, k.ID)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO keys (kid, algorithm, private, created, signs_from, published_until) VALUES ($1, $2, $3, $4, $5, $6)`,
		k.ID, string(k.Algorithm), sealed,
		milliseconds(k.CreatedAt), milliseconds(k.SignsFrom), milliseconds(k.PublishedUntil))
	return err
}
