package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/storage"
)

// The tickets that hang from grants.
const (
	keysOfGrant  = `SELECT kind, id FROM tickets WHERE grant_id = $1 AND grant_id <> ''` + notEnded
	keysOfClient = `SELECT kind, id FROM tickets WHERE grant_id IN (SELECT id FROM grants WHERE client_id = $1) AND grant_id <> ''` + notEnded
	keysOfUser   = `SELECT kind, id FROM tickets WHERE grant_id IN (SELECT id FROM grants WHERE subject = $1) AND grant_id <> ''` + notEnded + `
		UNION SELECT kind, id FROM tickets WHERE family = $2 AND family <> ''` + notEnded
)

const deleteGrant = `DELETE FROM grants WHERE id = $1`

// Grant implements authserver.Store.
func (s *Store) Grant(ctx context.Context, subject, clientID string) (*authserver.Grant, error) {
	grants, err := s.grants(ctx, `WHERE subject = $1 AND client_id = $2`, subject, clientID)
	if err != nil {
		return nil, err
	}
	if len(grants) == 0 {
		return nil, storage.ErrNotFound
	}
	return &grants[0], nil
}

// GrantsOf implements authserver.Store.
func (s *Store) GrantsOf(ctx context.Context, subject string) ([]authserver.Grant, error) {
	return s.grants(ctx, `WHERE subject = $1 ORDER BY client_id`, subject)
}

func (s *Store) grants(ctx context.Context, where string, args ...any) ([]authserver.Grant, error) {
	grants, err := collect(ctx, s.database.read(), func(rows *sql.Rows) (g authserver.Grant, err error) {
		var scope, declined string
		var created, updated int64
		if err := rows.Scan(&g.ID, &g.Subject, &g.ClientID, &scope, &declined, &created, &updated); err != nil {
			return g, err
		}
		// A scope has no spaces (RFC 6749, section 3.3).
		g.Scope, g.Declined = strings.Fields(scope), strings.Fields(declined)
		g.CreatedAt, g.UpdatedAt = fromMilliseconds(created), fromMilliseconds(updated)
		return g, nil
	}, `SELECT id, subject, client_id, scope, declined, created, updated FROM grants `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	return grants, nil
}

// PutGrant implements authserver.Store.
func (s *Store) PutGrant(ctx context.Context, grant *authserver.Grant) error {
	if grant.ID == "" || grant.Subject == "" || grant.ClientID == "" {
		return errors.New("store grant: it has no ID, subject or client")
	}
	var id string
	var created int64
	err := s.transact(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `INSERT INTO grants (id, subject, client_id, scope, declined, created, updated)
			VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (subject, client_id) DO UPDATE
				SET scope = excluded.scope, declined = excluded.declined, updated = excluded.updated
			RETURNING id, created`,
			grant.ID, grant.Subject, grant.ClientID, grant.Scope.String(), grant.Declined.String(),
			milliseconds(grant.CreatedAt), milliseconds(grant.UpdatedAt)).Scan(&id, &created)
	})
	if err != nil {
		return fmt.Errorf("store grant: %w", err)
	}
	grant.ID, grant.CreatedAt = id, fromMilliseconds(created)
	return nil
}

// DeleteGrant implements authserver.Store.
func (s *Store) DeleteGrant(ctx context.Context, id string) error {
	err := s.writer.do(ctx, &operation{
		removeAll: []statement{{keysOfGrant, []any{id}}},
		after:     []statement{{deleteGrant, []any{id}}},
	})
	if err != nil {
		return fmt.Errorf("delete grant: %w", err)
	}
	return nil
}

// deleteTickets deletes the tickets that a query finds the keys of, and looks again until
// it finds none, for the reason that writer.removeAll gives. It comes before the grants
// are deleted that the query looks at.
func (s *Store) deleteTickets(ctx context.Context, tx *sql.Tx, find string, args ...any) error {
	for {
		keys, err := collect(ctx, tx, func(rows *sql.Rows) (storage.Key, error) { return scanKey(rows) }, find, args...)
		if err != nil || len(keys) == 0 {
			return err
		}
		slices.SortFunc(keys, compareKeys)
		for _, key := range keys {
			end := removal(key)
			if _, err := tx.ExecContext(ctx, end.query, end.args...); err != nil {
				return err
			}
		}
	}
}
