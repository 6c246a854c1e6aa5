package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// Clients lists clients in the order of their client_ids, starting after a client_id.
func (s *Store) Clients(ctx context.Context, after string, limit int) ([]record.Client, error) {
	return s.clients(ctx, s.database.read(), `WHERE client_id > $1 ORDER BY client_id LIMIT $2`, after, max(limit, 0))
}

// ClientSource returns the source that declares a client; "" if there is none.
func (s *Store) ClientSource(ctx context.Context, clientID string) (string, error) {
	return s.source(ctx, `SELECT source FROM clients WHERE client_id = $1`, clientID)
}

// UserSource returns the source that declares a user; "" if there is none.
func (s *Store) UserSource(ctx context.Context, id string) (string, error) {
	return s.source(ctx, `SELECT source FROM users WHERE id = $1`, id)
}

func (s *Store) source(ctx context.Context, query, key string) (source string, err error) {
	err = s.database.read().QueryRowContext(ctx, query, key).Scan(&source)
	if errors.Is(err, sql.ErrNoRows) {
		return "", storage.ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("find the source of a record: %w", err)
	}
	return source, nil
}
