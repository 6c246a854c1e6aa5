package sqldb

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/storage"
)

const (
	countsPerQuery = 4

	findCounts = `SELECT key, until FROM counts WHERE key IN ($1, $2, $3, $4)`

	addCount = `INSERT INTO counts (key, until) VALUES ($1, CAST($2 AS BIGINT) + CAST($3 AS BIGINT))
		ON CONFLICT (key) DO UPDATE SET until = CAST($3 AS BIGINT) +
			CASE WHEN CAST($4 AS INTEGER) = 1 OR counts.until < CAST($2 AS BIGINT) THEN CAST($2 AS BIGINT) ELSE counts.until END`

	reclaimCounts = `DELETE FROM counts WHERE key IN (SELECT key FROM counts WHERE until <= $1 ORDER BY until LIMIT $2)`
)

// CountedUntil implements storage.Counts.
func (s *Store) CountedUntil(ctx context.Context, _ time.Time, keys ...storage.CountKey) ([]time.Time, error) {
	found := make(map[storage.CountKey]time.Time, len(keys))
	for chunk := range slices.Chunk(keys, countsPerQuery) {
		var args [countsPerQuery]any
		for i := range args {
			args[i] = chunk[min(i, len(chunk)-1)][:]
		}
		_, err := collect(ctx, s.database.read(), func(rows row) (struct{}, error) {
			var key []byte
			var until int64
			err := rows.Scan(&key, &until)
			if err == nil && len(key) == len(storage.CountKey{}) {
				found[storage.CountKey(key)] = fromMilliseconds(until)
			}
			return struct{}{}, err
		}, findCounts, args[:]...)
		if err != nil {
			return nil, fmt.Errorf("read counts: %w", err)
		}
	}
	untils := make([]time.Time, len(keys))
	for i, key := range keys {
		untils[i] = found[key]
	}
	return untils, nil
}

// AddCounts implements storage.Counts. It changes the counts in the order of their keys, so that
// two nodes do not deadlock.
func (s *Store) AddCounts(ctx context.Context, counts ...storage.Count) error {
	counts = slices.Clone(counts)
	slices.SortStableFunc(counts, func(a, b storage.Count) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	err := s.transact(ctx, func(tx *sql.Tx) error {
		for _, c := range counts {
			reset := 0
			if c.Reset {
				reset = 1
			}
			if _, err := tx.ExecContext(ctx, addCount, c.Key[:], c.At.UnixMilli(), c.Add.Milliseconds(), reset); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("add to counts: %w", err)
	}
	return nil
}
