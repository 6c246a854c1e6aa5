package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/valetkey/valetkey/storage"
)

const (
	maxUses = 1000

	recordUse = `INSERT INTO uses (owner, name, used, remote, expires) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (owner, name) DO UPDATE SET used = excluded.used, remote = excluded.remote, expires = excluded.expires
		WHERE uses.used <= excluded.used`

	reclaimUses = `DELETE FROM uses WHERE expires <= $1 AND (owner, name) IN
		(SELECT owner, name FROM uses WHERE expires <= $1 ORDER BY expires LIMIT $2)`
)

// RecordUses implements storage.Uses. It stores the uses in the order of their keys, so that two
// nodes do not deadlock.
func (s *Store) RecordUses(ctx context.Context, uses ...storage.Use) error {
	uses = slices.Clone(uses)
	slices.SortStableFunc(uses, func(a, b storage.Use) int {
		return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Name, b.Name), a.At.Compare(b.At))
	})
	err := s.transact(ctx, func(tx *sql.Tx) error {
		for _, use := range uses {
			remote := ""
			if use.Remote.IsValid() {
				remote = use.Remote.String()
			}
			if _, err := tx.ExecContext(ctx, recordUse, use.Owner, use.Name, milliseconds(use.At), remote, milliseconds(use.Expires)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record uses: %w", err)
	}
	return nil
}

// UsesOf implements storage.Uses.
func (s *Store) UsesOf(ctx context.Context, now time.Time, owner string) ([]storage.Use, error) {
	found, err := collect(ctx, s.database.read(), func(rows row) (storage.Use, error) {
		use := storage.Use{Owner: owner}
		var remote string
		var used, expires int64
		err := rows.Scan(&use.Name, &used, &remote, &expires)
		use.At, use.Expires = fromMilliseconds(used), fromMilliseconds(expires)
		use.Remote, _ = netip.ParseAddr(remote) // "" is the zero Addr
		return use, err
	}, `SELECT name, used, remote, expires FROM uses WHERE owner = $1 AND expires > $2 LIMIT $3`, owner, now.UnixMilli(), maxUses)
	if err != nil {
		return nil, fmt.Errorf("list uses: %w", err)
	}
	slices.SortFunc(found, func(a, b storage.Use) int { return cmp.Compare(a.Name, b.Name) })
	return found, nil
}
