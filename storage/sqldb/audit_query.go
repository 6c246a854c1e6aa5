package sqldb

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/audit"
)

const auditColumns = `record, sequence, foreign_record, hash`

// scanAudit reads auditColumns.
func scanAudit(row row) (audit.Record, error) {
	var text string
	var sequence int64
	var foreign bool
	var hash []byte
	if err := row.Scan(&text, &sequence, &foreign, &hash); err != nil {
		return audit.Record{}, err
	}
	r, err := audit.Decode(text)
	r.Sequence, r.Foreign, r.Hash, r.Text = sequence, foreign, slices.Clone(hash), text
	return r, err
}

// AuditRecords implements audit.Log. It runs a query for each event, so that every query reads an
// index in the order of the result, and stops at the limit.
func (s *Store) AuditRecords(ctx context.Context, filter audit.Filter) ([]audit.Record, error) {
	names := filter.EventNames()
	if names == nil {
		return s.auditRecords(ctx, filter, "")
	}
	var all []audit.Record
	for _, name := range names {
		found, err := s.auditRecords(ctx, filter, name)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b audit.Record) int {
		if filter.Ascending {
			return cmp.Compare(a.ID, b.ID)
		}
		return cmp.Compare(b.ID, a.ID)
	})
	return all[:min(len(all), filter.Size())], nil
}

func (s *Store) auditRecords(ctx context.Context, filter audit.Filter, event string) ([]audit.Record, error) {
	from, before := filter.Bounds()
	var where []string
	var args []any
	add := func(condition string, value string) {
		if value != "" {
			args = append(args, value)
			where = append(where, strings.ReplaceAll(condition, "?", fmt.Sprintf("$%d", len(args))))
		}
	}
	// The comparison with the empty string lets a partial index be used.
	add(`actor = ? AND actor <> ''`, filter.Actor)
	add(`subject = ? AND subject <> ''`, filter.Subject)
	add(`client_id = ? AND client_id <> ''`, filter.ClientID)
	add(`event = ?`, event)
	add(`id >= ?`, from)
	add(`id < ?`, before)
	query := `SELECT ` + auditColumns + ` FROM audit_records`
	if len(where) > 0 {
		query += ` WHERE ` + strings.Join(where, ` AND `)
	}
	query += ` ORDER BY id`
	if !filter.Ascending {
		query += ` DESC`
	}
	args = append(args, filter.Size())
	query += fmt.Sprintf(` LIMIT $%d`, len(args))
	records, err := collect(ctx, s.database.read(), scanAudit, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read audit records: %w", err)
	}
	return records, nil
}

// AuditSealed implements audit.Log.
func (s *Store) AuditSealed(ctx context.Context, after int64, limit int) ([]audit.Record, error) {
	records, err := collect(ctx, s.database.read(), scanAudit,
		`SELECT `+auditColumns+` FROM audit_records WHERE sequence > $1 AND sequence <> 0 ORDER BY sequence LIMIT $2`, max(after, 0), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("read audit records: %w", err)
	}
	return records, nil
}
