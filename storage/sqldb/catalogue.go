package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	zombiezen "zombiezen.com/go/sqlite"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/audited"
	"github.com/valetkey/valetkey/storage/record"
)

const secretsColumn = "clients.secrets"

// row is one row of a result.
type row interface{ Scan(dest ...any) error }

// querier is what a pool and a transaction have in common: *sql.DB and *sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Version implements record.Store.
func (s *Store) Version(ctx context.Context) (version int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err = s.database.noticed(s.database.read().QueryRowContext(ctx, `SELECT version FROM issuer WHERE id = 1`).Scan(&version))
	if err != nil {
		return 0, fmt.Errorf("read version: %w", fault(err))
	}
	return version, nil
}

// lockCatalogue makes every other transaction that changes clients, resources, scopes or
// keys wait for this one.
func lockCatalogue(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, `UPDATE issuer SET version = version WHERE id = 1`); err != nil {
		return fmt.Errorf("lock catalogue: %w", err)
	}
	return nil
}

func bumpVersion(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, `UPDATE issuer SET version = version + 1 WHERE id = 1`); err != nil {
		return fmt.Errorf("raise version: %w", err)
	}
	return nil
}

// Client implements record.Store.
func (s *Store) Client(ctx context.Context, clientID string) (*record.Client, error) {
	if !storable(clientID) {
		return nil, storage.ErrNotFound
	}
	clients, err := s.clients(ctx, s.database.read(), `WHERE client_id = $1`, clientID)
	if err != nil {
		return nil, err
	}
	if len(clients) == 0 {
		return nil, storage.ErrNotFound
	}
	return &clients[0], nil
}

func (s *Store) clients(ctx context.Context, q querier, where string, args ...any) ([]record.Client, error) {
	clients, err := collect(ctx, q, func(rows row) (c record.Client, err error) {
		var id, metadata string
		var secrets []byte
		var unusedUntil, retired, ended int64
		if err := rows.Scan(&id, &metadata, &secrets, &unusedUntil, &retired, &ended, &c.DeclaredBy); err != nil {
			return c, err
		}
		if err := json.Unmarshal([]byte(metadata), &c); err != nil {
			return c, fmt.Errorf("client %q: %w", id, err)
		}
		c.ID, c.RetiredAt, c.EndedAt = id, fromMilliseconds(retired), fromMilliseconds(ended)
		if c.Registration != nil {
			c.Registration.UnusedUntil = fromMilliseconds(unusedUntil)
		}
		c.Secrets, err = s.openSecrets(secrets, id)
		return c, err
	}, `SELECT client_id, metadata, secrets, unused_until, retired, ended, source FROM clients `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read clients: %w", err)
	}
	return clients, nil
}

// sealSecrets seals the secrets of a client. The transaction has the lock of the catalogue.
func (s *Store) sealSecrets(ctx context.Context, tx *sql.Tx, secrets []string, clientID string) ([]byte, error) {
	if len(secrets) == 0 {
		return []byte{}, nil
	}
	plain, err := json.Marshal(secrets)
	if err != nil {
		return nil, fmt.Errorf("seal secrets of client %q: %w", clientID, err)
	}
	return s.seal(ctx, tx, plain, secretsColumn, clientID)
}

func (s *Store) openSecrets(sealed []byte, clientID string) (secrets []string, err error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	plain, err := s.open(sealed, secretsColumn, clientID)
	if err != nil {
		return nil, fmt.Errorf("secrets of client %q: %w", clientID, err)
	}
	if err := json.Unmarshal(plain, &secrets); err != nil {
		return nil, fmt.Errorf("secrets of client %q: %w", clientID, err)
	}
	return secrets, nil
}

// DeleteClient implements record.Store.
func (s *Store) DeleteClient(ctx context.Context, clientID string) error {
	err := s.transactLong(ctx, func(tx *sql.Tx) error {
		if err := lockCatalogue(ctx, tx); err != nil {
			return err
		}
		if err := s.deleteClient(ctx, tx, clientID); err != nil {
			return err
		}
		return bumpVersion(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("delete client: %w", err)
	}
	return nil
}

// deleteTicketsOfClient removes the tickets of the grants to a client, and its own tokens.
func (s *Store) deleteTicketsOfClient(ctx context.Context, tx *sql.Tx, clientID string) error {
	return s.deleteTickets(ctx, tx, ofGrantsOfClient(clientID), ofGrant(record.ClientGrant(clientID)))
}

func (s *Store) deleteClient(ctx context.Context, tx *sql.Tx, clientID string) error {
	found, err := s.clients(ctx, tx, `WHERE client_id = $1`+s.database.forUpdate(), clientID)
	if err != nil {
		return err
	}
	if err := s.deleteTicketsOfClient(ctx, tx, clientID); err != nil {
		return err
	}
	grants, err := deleteGrantsOfClient(ctx, tx, clientID)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM clients WHERE client_id = $1`, clientID); err != nil {
		return err
	}
	if len(found) == 0 {
		return nil
	}
	r := audited.Client(&found[0], nil)
	r.Details = grants
	return s.auditChange(ctx, tx, r)
}

// Resources implements record.Store.
func (s *Store) Resources(ctx context.Context) ([]record.Resource, error) {
	resources, err := records[record.Resource](ctx, s.database.read(), `SELECT record FROM resources WHERE retired = 0 ORDER BY identifier`)
	if err != nil {
		return nil, fmt.Errorf("read resources: %w", err)
	}
	return resources, nil
}

// Scopes implements record.Store.
func (s *Store) Scopes(ctx context.Context) ([]record.Scope, error) {
	scopes, err := records[record.Scope](ctx, s.database.read(), `SELECT record FROM scopes WHERE retired = 0 ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("read scopes: %w", err)
	}
	return scopes, nil
}

// records runs a query of one column with JSON.
func records[T any](ctx context.Context, q querier, query string, args ...any) ([]T, error) {
	return collect(ctx, q, func(rows row) (value T, err error) {
		var encoded string
		if err := rows.Scan(&encoded); err != nil {
			return value, err
		}
		err = json.Unmarshal([]byte(encoded), &value)
		return value, err
	}, query, args...)
}

// storable reports whether a text can be in the database at all: PostgreSQL rejects text that is
// not UTF-8 or contains a NUL, and a client_id in a request may be such a text.
func storable(text string) bool { return utf8.ValidString(text) && !strings.Contains(text, "\x00") }

// collect runs a query and reads each row with scan.
func collect[T any](ctx context.Context, q querier, scan func(row) (T, error), query string, args ...any) (values []T, err error) {
	if observed, ok := q.(observedQuerier); ok {
		operation := observed.telemetry.StartOperation(ctx, observed.system, operationQuery)
		defer func() { operation.End(0, err) }()
		q = observed.querier
	}
	if sqlite, ok := q.(preparedReader); ok { // SQLite does not hang: the context is for the wait for a connection
		err := sqlite.d.readers.query(ctx, func(stmt *zombiezen.Stmt) error {
			value, err := scan(sqliteRow{stmt})
			values = append(values, value)
			return err
		}, query, args...)
		return values, fault(err)
	}
	if _, inTransaction := q.(*sql.Tx); !inTransaction { // a transaction has its own deadline
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, readTimeout)
		defer cancel()
	}
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fault(err)
	}
	values, err = all(rows, scan)
	return values, fault(err)
}

// all reads every row and closes rows.
func all[T any](rows *sql.Rows, scan func(row) (T, error)) (values []T, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		value, err := scan(rows)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, rows.Err()
}
