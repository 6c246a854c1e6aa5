package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgreSQLRows are in PostgreSQL, with its default of synchronous commits.
type postgreSQLRows struct {
	*group
	pool *pgxpool.Pool
}

// writingConnections is how many connections commit at the same time, as in the server.
const writingConnections = 2

func openPostgreSQLRows(ctx context.Context, database string) (*postgreSQLRows, error) {
	config, err := pgxpool.ParseConfig(database)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 16
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, "CREATE TABLE IF NOT EXISTS load_floor (id BYTEA PRIMARY KEY, data BYTEA NOT NULL)"); err != nil {
		return nil, fmt.Errorf("create the table: %w", err)
	}
	r := &postgreSQLRows{pool: pool}
	for i := range storedTokens {
		id := sha256.Sum256([]byte(storedToken(i)))
		data, err := storedClaims()
		if err != nil {
			return nil, err
		}
		if _, err := pool.Exec(ctx, insertPostgreSQL+" ON CONFLICT DO NOTHING", id[:], data); err != nil {
			return nil, fmt.Errorf("insert: %w", err)
		}
	}
	r.group = newGroup(writingConnections, func(_, count int) error { return r.commit(ctx, count) })
	return r, nil
}

const insertPostgreSQL = "INSERT INTO load_floor VALUES ($1, $2)"

// commit adds rows in one transaction and one round trip.
func (r *postgreSQLRows) commit(ctx context.Context, count int) error {
	var batch pgx.Batch
	data := make([]byte, rowBytes)
	for range count {
		var id [32]byte
		rand.Read(id[:])
		batch.Queue(insertPostgreSQL, id[:], data)
	}
	if err := r.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	return nil
}

// find implements rows.
func (r *postgreSQLRows) find(ctx context.Context, token string) (data []byte, err error) {
	id := sha256.Sum256([]byte(token))
	err = r.pool.QueryRow(ctx, "SELECT data FROM load_floor WHERE id = $1", id[:]).Scan(&data)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errors.New("the token was not found")
	}
	if err != nil {
		return nil, fmt.Errorf("look up: %w", err)
	}
	return data, nil
}
