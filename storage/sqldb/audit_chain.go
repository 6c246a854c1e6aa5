package sqldb

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/storage"
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
		seal, end, err := s.repeated(ctx, tx, `UPDATE audit_records SET sequence = $1, foreign_record = $2, hash = $3 WHERE id = $4 AND sequence = 0`)
		if err != nil {
			return err
		}
		defer end()
		sequence, hash := chain[0].Sequence, chain[0].Hash
		for _, u := range found {
			sequence++
			foreign := !audit.Authentic(s.auditKey, u.text, u.code)
			hash = audit.NextHash(hash, sequence, foreign, u.text)
			if err := seal(sequence, foreign, hash, u.id); err != nil {
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

// repeated returns a function that runs a statement in a transaction. SQLite compiles the statement once,
// which takes longer than to run it. PostgreSQL may be behind a pooler, which may not allow that.
func (s *Store) repeated(ctx context.Context, tx *sql.Tx, query string) (run func(args ...any) error, end func(), err error) {
	if asPostgreSQL(s.database) != nil {
		return func(args ...any) error {
			_, err := tx.ExecContext(ctx, query, args...)
			return err
		}, func() {}, nil
	}
	compiled, err := tx.PrepareContext(ctx, query)
	if err != nil {
		return nil, nil, err
	}
	run = func(args ...any) error {
		_, err := compiled.ExecContext(ctx, args...)
		return err
	}
	return run, func() { _ = compiled.Close() }, nil // it ends with the transaction in any case
}

const selectChain = `SELECT sequence, hash, removed, removed_hash, anchor FROM audit_chain WHERE id = 1`

func scanChain(row row) (c audit.Chain, err error) {
	err = row.Scan(&c.Sequence, &c.Hash, &c.Removed, &c.RemovedHash, &c.Anchor)
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

// AuditIndex implements audit.Sealed.
func (s *Store) AuditIndex(ctx context.Context, after int64, limit int) ([]audit.Index, error) {
	index, err := collect(ctx, s.database.read(), func(row row) (i audit.Index, err error) {
		err = row.Scan(&i.Sequence, &i.ID, &i.Event, &i.Actor, &i.Subject, &i.ClientID)
		return i, err
	}, `SELECT sequence, id, event, actor, subject, client_id FROM audit_records WHERE sequence > $1 AND sequence <> 0 ORDER BY sequence LIMIT $2`, max(after, 0), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("read audit records: %w", err)
	}
	return index, nil
}

// AuditKey returns the thumbprint of the key that signs checkpoints.
func (s *Store) AuditKey() string {
	return audit.Thumbprint(s.auditSigner.Public().(ed25519.PublicKey))
}

// AuditCheckpoint returns a checkpoint of the end of the chain.
func (s *Store) AuditCheckpoint(ctx context.Context, issuer string, now time.Time) (*audit.Checkpoint, error) {
	chain, err := s.AuditChain(ctx)
	if err != nil {
		return nil, err
	}
	return s.signCheckpoint(audit.Checkpoint{Issuer: issuer, Sequence: chain.Sequence, Hash: chain.Hash, Time: now})
}

func (s *Store) signCheckpoint(c audit.Checkpoint) (*audit.Checkpoint, error) {
	text, err := audit.Sign(s.auditSigner, c)
	if err != nil {
		return nil, err
	}
	return audit.ParseCheckpoint(text)
}

// RemoveAudit removes records that were made before a time, and keeps the chain verifiable: the
// number and hash of the last removed record are signed and kept. It removes none after the first
// one in the chain that is not old enough, and writes a record of how many it removed.
func (s *Store) RemoveAudit(ctx context.Context, before time.Time) (removed int64, err error) {
	for {
		n, err := s.removeSomeAudit(ctx, before)
		removed += n
		if err != nil {
			return removed, fmt.Errorf("remove old audit records: %w", err)
		}
		if n < reclaimStep {
			break
		}
	}
	if removed == 0 {
		return 0, nil
	}
	return removed, s.WriteAudit(ctx, audit.Record{
		Event: "audit.removed", Object: audit.Object{Kind: audit.ObjectLog},
		Details: map[string]string{"records": strconv.FormatInt(removed, 10), "before": before.UTC().Format(time.RFC3339)},
	})
}

func (s *Store) removeSomeAudit(ctx context.Context, before time.Time) (removed int64, err error) {
	err = s.transact(ctx, func(tx *sql.Tx) error {
		removed = 0
		chain, err := collect(ctx, tx, scanChain, selectChain+s.database.forUpdateUnlessLocked())
		if err != nil || len(chain) == 0 {
			return err // another node does this
		}
		oldest, err := s.auditAfter(ctx, tx, chain[0].Removed)
		if err != nil {
			return err
		}
		var last *audit.Record
		for i := range oldest {
			if !oldest[i].Time.Before(before) {
				break
			}
			last = &oldest[i]
			removed++
		}
		if last == nil {
			return nil
		}
		anchor, err := s.signCheckpoint(audit.Checkpoint{Sequence: last.Sequence, Hash: last.Hash, Time: time.Now(), RemovedBefore: before})
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE audit_chain SET removed = $1, removed_hash = $2, anchor = $3 WHERE id = 1`, last.Sequence, last.Hash, anchor.Text); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM audit_records WHERE sequence <> 0 AND sequence <= $1`, last.Sequence)
		return err
	})
	return removed, err
}

// auditAfter returns records of the chain that are the next to be removed.
func (s *Store) auditAfter(ctx context.Context, q querier, sequence int64) ([]audit.Record, error) {
	return collect(ctx, q, scanAudit, `SELECT `+auditColumns+` FROM audit_records WHERE sequence > $1 AND sequence <> 0 ORDER BY sequence LIMIT $2`, sequence, reclaimStep)
}

// AuditOutbox returns the outbox with the records for webhooks.
func (s *Store) AuditOutbox() storage.Outbox { return s.outboxOf(storage.OutboxEvents) }

// ReplayAudit puts messages for a webhook into the outbox of AuditOutbox again, and writes the record
// of that in the same transaction.
func (s *Store) ReplayAudit(ctx context.Context, replayed audit.Record, messages ...storage.Message) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if err := s.outboxOf(storage.OutboxEvents).insert(ctx, tx, messages); err != nil {
			return err
		}
		r := replayed // a transaction that is repeated writes a new one
		return s.insertAudit(ctx, tx, &r)
	})
	if err != nil {
		return fmt.Errorf("send audit records again: %w", err)
	}
	return nil
}

// ClaimExport returns the sequence number up to which a destination has got the records, and makes
// other nodes leave it alone until a time. ok is false if another node has it. A new destination
// begins at the end of the chain.
func (s *Store) ClaimExport(ctx context.Context, name string, now, until time.Time) (sequence int64, ok bool, err error) {
	err = s.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO audit_exports (name, sequence, leased) SELECT CAST($1 AS TEXT), sequence, 0 FROM audit_chain WHERE id = 1 ON CONFLICT (name) DO NOTHING`, name)
		if err != nil {
			return err
		}
		found, err := collect(ctx, tx, func(row row) (sequence int64, err error) {
			err = row.Scan(&sequence)
			return sequence, err
		}, `UPDATE audit_exports SET leased = $1 WHERE name = $2 AND leased <= $3 RETURNING sequence`, until.UnixMilli(), name, now.UnixMilli())
		if err != nil {
			return err
		}
		if ok = len(found) > 0; ok {
			sequence = found[0]
		}
		return nil
	})
	if err != nil {
		return 0, false, fmt.Errorf("claim an export of the audit log: %w", err)
	}
	return sequence, ok, nil
}

// ReleaseExport stores how far a destination has got the records, and lets other nodes continue.
func (s *Store) ReleaseExport(ctx context.Context, name string, sequence int64) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE audit_exports SET sequence = $1, leased = 0 WHERE name = $2`, sequence, name)
		return err
	})
	if err != nil {
		return fmt.Errorf("store how far the audit log was exported: %w", err)
	}
	return nil
}

// ExportedAudit returns the sequence number up to which a destination has got the records; known is
// false if it has never got any.
func (s *Store) ExportedAudit(ctx context.Context, name string) (sequence int64, known bool, err error) {
	found, err := collect(ctx, s.database.read(), func(row row) (sequence int64, err error) {
		err = row.Scan(&sequence)
		return sequence, err
	}, `SELECT sequence FROM audit_exports WHERE name = $1`, name)
	if err != nil {
		return 0, false, fmt.Errorf("read how far the audit log was exported: %w", err)
	}
	if len(found) == 0 {
		return 0, false, nil
	}
	return found[0], true, nil
}
