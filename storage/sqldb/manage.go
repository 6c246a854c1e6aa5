package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/audited"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// The queries and changes that only the management API needs.

// CreateClient stores a new client that no source declares. It returns storage.ErrExists if there is
// a client with that ID.
func (s *Store) CreateClient(ctx context.Context, client *record.Client) error {
	metadata, err := encodeClient(client)
	if err != nil {
		return err
	}
	err = s.transact(ctx, func(tx *sql.Tx) error {
		if err := lockCatalogue(ctx, tx); err != nil {
			return err
		}
		sealed, err := s.sealSecrets(ctx, tx, client.Secrets, client.ID)
		if err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, `INSERT INTO clients (client_id, metadata, secrets, source) VALUES ($1, $2, $3, '') ON CONFLICT (client_id) DO NOTHING`,
			client.ID, metadata, sealed)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(storage.ErrExists, err)
		}
		if err := s.auditChange(ctx, tx, audited.Client(nil, client)); err != nil {
			return err
		}
		return bumpVersion(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("create client: %w", err)
	}
	return nil
}

// DeleteClientIf is DeleteClient if check, which is called with the current record, returns no
// error; otherwise it returns that error. The record cannot change in between. It returns
// storage.ErrNotFound if there is no such client.
func (s *Store) DeleteClientIf(ctx context.Context, clientID string, check func(*record.Client) error) error {
	err := s.transactLong(ctx, func(tx *sql.Tx) error {
		if err := lockCatalogue(ctx, tx); err != nil {
			return err
		}
		found, err := s.clients(ctx, tx, `WHERE client_id = $1`+s.database.forUpdate(), clientID)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return storage.ErrNotFound
		}
		if err := check(&found[0]); err != nil {
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

// ScopeRows returns all scopes, also retired ones, ordered by name.
func (s *Store) ScopeRows(ctx context.Context) ([]declaration.Row[record.Scope], error) {
	rows, err := recordRows[record.Scope](ctx, s.database.read(), `SELECT record, source, named, retired FROM scopes ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("read scopes: %w", err)
	}
	return rows, nil
}

// ResourceRows returns all resources, also retired ones, ordered by identifier.
func (s *Store) ResourceRows(ctx context.Context) ([]declaration.Row[record.Resource], error) {
	rows, err := recordRows[record.Resource](ctx, s.database.read(), `SELECT record, source, named, retired FROM resources ORDER BY identifier`)
	if err != nil {
		return nil, fmt.Errorf("read resources: %w", err)
	}
	return rows, nil
}

// ChangeScope changes the scope with a name: it calls change with the current row, or nil if there is
// none, and stores what change returns, or deletes the scope if that is nil. No one else changes
// scopes, resources, clients or keys in between. If change returns an error, nothing changes.
func (s *Store) ChangeScope(ctx context.Context, name string, change func(*declaration.Row[record.Scope]) (*record.Scope, error)) error {
	return changeRecord(ctx, s, "scopes", "name", name, change, audited.Scope)
}

// ChangeResource is ChangeScope for the resource with an identifier.
func (s *Store) ChangeResource(ctx context.Context, identifier string, change func(*declaration.Row[record.Resource]) (*record.Resource, error)) error {
	return changeRecord(ctx, s, "resources", "identifier", identifier, change, audited.Resource)
}

func changeRecord[T any](ctx context.Context, s *Store, table, key, name string, change func(*declaration.Row[T]) (*T, error), compare func(before, after *declaration.Row[T]) *audit.Record) error {
	if !storable(name) {
		return storage.ErrNotFound
	}
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if err := lockCatalogue(ctx, tx); err != nil {
			return err
		}
		rows, err := collect(ctx, tx, scanRecordRow[T], `SELECT record, source, named, retired FROM `+table+` WHERE `+key+` = $1`, name)
		if err != nil {
			return err
		}
		var before, stored *declaration.Row[T]
		if len(rows) > 0 {
			before = &rows[0]
			if stored, err = copyRow(before); err != nil {
				return err
			}
		}
		after, err := change(before)
		if err != nil {
			return err
		}
		if after != nil || stored != nil {
			var next *declaration.Row[T]
			if after != nil {
				next = &declaration.Row[T]{Record: *after}
				if stored != nil {
					next.RetiredAt = stored.RetiredAt
				}
			}
			if err := s.auditChange(ctx, tx, compare(stored, next)); err != nil {
				return err
			}
		}
		if after == nil {
			_, err = tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE `+key+` = $1`, name)
		} else {
			var encoded []byte
			if encoded, err = json.Marshal(after); err == nil {
				_, err = tx.ExecContext(ctx, `INSERT INTO `+table+` (`+key+`, record, source, named, retired) VALUES ($1, $2, '', '', 0)
					ON CONFLICT (`+key+`) DO UPDATE SET record = excluded.record`, name, string(encoded))
			}
		}
		if err != nil {
			return err
		}
		return bumpVersion(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("change %s: %w", table, err)
	}
	return nil
}

// copyRow returns a copy that shares nothing with the row.
func copyRow[T any](row *declaration.Row[T]) (*declaration.Row[T], error) {
	encoded, err := json.Marshal(row.Record)
	if err != nil {
		return nil, fmt.Errorf("copy a record: %w", err)
	}
	c := &declaration.Row[T]{Source: row.Source, RetiredAt: row.RetiredAt}
	if err := json.Unmarshal(encoded, &c.Record); err != nil {
		return nil, fmt.Errorf("copy a record: %w", err)
	}
	return c, nil
}

// GrantsTo lists the grants to a client, in the order of their subjects, starting after a subject.
func (s *Store) GrantsTo(ctx context.Context, clientID, after string, limit int) ([]record.Grant, error) {
	if !storable(clientID) || !storable(after) {
		return nil, nil
	}
	return grants(ctx, s.database.read(), `WHERE client_id = $1 AND subject > $2 ORDER BY subject LIMIT $3`, clientID, after, max(limit, 0))
}

// TicketsOfGrant returns the tickets of some kinds that belong to a grant and have not expired, at
// most limit for each kind, those that expire last first.
func (s *Store) TicketsOfGrant(ctx context.Context, now time.Time, grant string, limit int, kinds ...storage.Kind) (found []storage.Ticket, err error) {
	for _, kind := range kinds {
		tickets, err := collectTickets(ctx, s.database.read(), `SELECT `+ticketColumns+` FROM tickets
			WHERE grant_id = $1 AND grant_id <> '' AND kind = $2 AND expires > $3 ORDER BY expires + 0 DESC, id LIMIT $4`,
			grant, string(kind), now.UnixMilli(), max(limit, 0))
		if err != nil {
			return nil, fmt.Errorf("list the tickets of a grant: %w", err)
		}
		found = append(found, tickets...)
	}
	return found, nil
}
