package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// Clients lists all clients in the order of their client_ids, those after the given one.
func (s *Store) Clients(ctx context.Context, after string, limit int) ([]record.Client, error) {
	return s.clients(ctx, s.database.read(), `WHERE client_id > $1 ORDER BY client_id LIMIT $2`, after, max(limit, 0))
}

// ClientSource returns what declares a client; "" if nothing does.
func (s *Store) ClientSource(ctx context.Context, clientID string) (string, error) {
	return s.source(ctx, `SELECT source FROM clients WHERE client_id = $1`, clientID)
}

// UserSource returns what declares a user; "" if nothing does.
func (s *Store) UserSource(ctx context.Context, id string) (string, error) {
	return s.source(ctx, `SELECT source FROM users WHERE id = $1`, id)
}

func (s *Store) source(ctx context.Context, query, key string) (source string, err error) {
	err = s.database.read().QueryRowContext(ctx, query, key).Scan(&source)
	if errors.Is(err, sql.ErrNoRows) {
		return "", storage.ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("find what declares a record: %w", err)
	}
	return source, nil
}
