package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// SaveTraces implements record.Store. The newest traces are those that were saved last.
func (s *Store) SaveTraces(ctx context.Context, max int, traces ...record.Trace) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		for _, t := range traces {
			encoded, err := json.Marshal(t)
			if err != nil {
				return fmt.Errorf("trace %q: %w", t.Ref, err)
			}
			_, err = tx.ExecContext(ctx, `INSERT INTO traces (ref, record) VALUES ($1, $2) ON CONFLICT (ref) DO NOTHING`, t.Ref, string(encoded))
			if err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM traces WHERE seq <= (SELECT seq FROM traces ORDER BY seq DESC LIMIT 1 OFFSET $1)`, max)
		return err
	})
	if err != nil {
		return fmt.Errorf("save traces: %w", err)
	}
	return nil
}

// Trace implements record.Store.
func (s *Store) Trace(ctx context.Context, ref string) (*record.Trace, error) {
	if !storable(ref) {
		return nil, storage.ErrNotFound
	}
	found, err := records[record.Trace](ctx, s.database.read(), `SELECT record FROM traces WHERE ref = $1`, ref)
	if err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	if len(found) == 0 {
		return nil, storage.ErrNotFound
	}
	return &found[0], nil
}
