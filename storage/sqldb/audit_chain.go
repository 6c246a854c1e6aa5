package sqldb

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/valetkey/valetkey/audit"
)

// sealStep is how many records one transaction adds to the chain: on SQLite, others wait for it.
const sealStep = 200

// unsealed is a record that is not in the chain yet.
type unsealed struct {
	id, text string
	code     []byte
}

// SealAudit adds the records that are not in the chain yet to its end, in the order of their IDs, and
// returns how many it added. It does nothing while another node does the same: the row of the chain
// is locked until the transaction ends.
func (s *Store) SealAudit(ctx context.Context) (sealed int, err error) {
	for {
		n, err := s.sealSome(ctx)
		sealed += n
		if err != nil {
			return sealed, fmt.Errorf("add records to the audit chain: %w", err)
		}
		if n < sealStep {
			return sealed, nil
		}
	}
}

func (s *Store) sealSome(ctx context.Context) (n int, err error) {
	const waiting = `SELECT id, record, code FROM audit_records WHERE sequence = 0 ORDER BY id LIMIT $1`
	scan := func(row row) (u unsealed, err error) {
		err = row.Scan(&u.id, &u.text, &u.code)
		return u, err
	}
	if found, err := collect(ctx, s.database.read(), scan, waiting, 1); err != nil || len(found) == 0 {
		return 0, err
	}
	err = s.transact(ctx, func(tx *sql.Tx) error {
		n = 0
		chain, err := collect(ctx, tx, scanChain, selectChain+s.database.forUpdateUnlessLocked())
		if err != nil || len(chain) == 0 {
			return err // another node seals
		}
		found, err := collect(ctx, tx, scan, waiting, sealStep)
		if err != nil || len(found) == 0 {
			return err
		}
		sequence, hash := chain[0].Sequence, chain[0].Hash
		for _, u := range found {
			sequence++
			foreign := !audit.Authentic(s.auditKey, u.text, u.code)
			hash = audit.NextHash(hash, sequence, foreign, u.text)
			_, err := tx.ExecContext(ctx, `UPDATE audit_records SET sequence = $1, foreign_record = $2, hash = $3 WHERE id = $4 AND sequence = 0`, sequence, foreign, hash, u.id)
			if err != nil {
				return err
			}
		}
		n = len(found)
		_, err = tx.ExecContext(ctx, `UPDATE audit_chain SET sequence = $1, hash = $2 WHERE id = 1`, sequence, hash)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

const selectChain = `SELECT sequence, hash, removed, removed_hash, anchor, signing_key FROM audit_chain WHERE id = 1`

func scanChain(row row) (c audit.Chain, err error) {
	err = row.Scan(&c.Sequence, &c.Hash, &c.Removed, &c.RemovedHash, &c.Anchor, &c.SigningKey)
	return c, err
}

// AuditChain returns the end of the chain, and what is left of its removed beginning.
func (s *Store) AuditChain(ctx context.Context) (audit.Chain, error) {
	found, err := collect(ctx, s.database.read(), scanChain, selectChain)
	if err != nil {
		return audit.Chain{}, fmt.Errorf("read the audit chain: %w", err)
	}
	if len(found) == 0 {
		return audit.Chain{}, fmt.Errorf("read the audit chain: its row is missing: %w", sql.ErrNoRows)
	}
	return found[0], nil
}
