package sqldb

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/valetkey/valetkey/audit"
)

// The audit log. A record is inserted in the transaction of the change that it is about, and gets
// its place in the chain later (audit_chain.go), so that changes do not wait for each other.

const insertAudit = `INSERT INTO audit_records (id, event, actor, subject, client_id, record, code) VALUES ($1, $2, $3, $4, $5, $6, $7)`

// audited returns the statement that stores a record; nil if nothing is recorded.
func (s *Store) audited(ctx context.Context, r *audit.Record) (*statement, error) {
	if s.auditOff || r == nil {
		return nil, nil
	}
	if err := r.Complete(ctx); err != nil {
		return nil, err
	}
	return &statement{insertAudit, []any{r.ID, r.Event, r.Actor.ID, r.Subject, r.ClientID, r.Text, audit.Authenticate(s.auditKey, r.Text)}}, nil
}

// auditChange stores the record of a change in its transaction; nothing if r is nil. What the
// caller knows about the change takes precedence over what can be seen of it.
func (s *Store) auditChange(ctx context.Context, tx *sql.Tx, r *audit.Record) error {
	if r == nil {
		return nil
	}
	if known, ok := audit.RecordOf(ctx); ok {
		r.Refine(known)
	}
	return s.insertAudit(ctx, tx, r)
}

func (s *Store) insertAudit(ctx context.Context, tx *sql.Tx, r *audit.Record) error {
	insert, err := s.audited(ctx, r)
	if err != nil || insert == nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, insert.query, insert.args...); err != nil {
		return fmt.Errorf("store an audit record: %w", err)
	}
	return nil
}

// auditTickets makes an operation store the record of the context, if it changes something.
func (s *Store) auditTickets(ctx context.Context, op *operation) error {
	r, ok := audit.RecordOf(ctx)
	if !ok {
		return nil
	}
	insert, err := s.audited(ctx, &r)
	op.audit = insert
	return err
}

// WriteAudit implements audit.Log.
func (s *Store) WriteAudit(ctx context.Context, records ...audit.Record) error {
	if s.auditOff || len(records) == 0 {
		return nil
	}
	return s.transact(ctx, func(tx *sql.Tx) error {
		for i := range records {
			r := records[i]
			if err := s.insertAudit(ctx, tx, &r); err != nil {
				return err
			}
		}
		return nil
	})
}
