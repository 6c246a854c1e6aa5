package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	// acceptedKept is how long the trace of an accepted request is kept.
	acceptedKept = 24 * time.Hour

	reclaimAccepted = `DELETE FROM traces WHERE accepted = 1 AND at <= $1 AND seq IN
		(SELECT seq FROM traces WHERE accepted = 1 AND at <= $1 ORDER BY seq LIMIT $2)`
)

// SaveTraces implements record.Store. The newest traces are those that were saved last.
func (s *Store) SaveTraces(ctx context.Context, max int, traces ...record.Trace) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		saved := [2]bool{}
		for _, t := range traces {
			encoded, err := json.Marshal(t)
			if err != nil {
				return fmt.Errorf("trace %q: %w", t.Ref, err)
			}
			accepted := 0
			if t.Accepted() {
				accepted = 1
			}
			saved[accepted] = true
			_, err = tx.ExecContext(ctx, `INSERT INTO traces (ref, record, accepted, at, client_id, subject) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (ref) DO NOTHING`,
				t.Ref, string(encoded), accepted, milliseconds(t.Time), t.ClientID, t.Subject)
			if err != nil {
				return err
			}
		}
		for accepted, any := range saved {
			if !any {
				continue
			}
			_, err := tx.ExecContext(ctx, `DELETE FROM traces WHERE accepted = $1 AND seq <= (SELECT seq FROM traces WHERE accepted = $1 ORDER BY seq DESC LIMIT 1 OFFSET $2)`, accepted, max)
			if err != nil {
				return err
			}
		}
		return nil
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

// StoredTrace is a trace with its place in the order in which traces were stored.
type StoredTrace struct {
	Sequence int64
	record.Trace
}

// TraceFilter selects traces. The zero value selects all.
type TraceFilter struct {
	ClientID, Subject string
	// Outcome is TraceAccepted, TraceRefused, or "" for both.
	Outcome string
	// Since and Until, if they are not zero, limit the time of the request.
	Since, Until time.Time
}

// The outcomes of a TraceFilter.
const (
	TraceAccepted = "accepted"
	TraceRefused  = "refused"
)

// matches reports whether the filter selects a trace. The query selects more: a node of an earlier
// version fills no columns.
func (f *TraceFilter) matches(t *record.Trace) bool {
	return (f.ClientID == "" || f.ClientID == t.ClientID) && (f.Subject == "" || f.Subject == t.Subject) &&
		(f.Outcome == "" || (f.Outcome == TraceAccepted) == t.Accepted()) &&
		(f.Since.IsZero() || !t.Time.Before(f.Since)) && (f.Until.IsZero() || t.Time.Before(f.Until))
}

// Traces lists the traces that a filter selects, the newest first, starting before a sequence; zero for
// the newest.
func (s *Store) Traces(ctx context.Context, filter TraceFilter, before int64, limit int) ([]StoredTrace, error) {
	if !storable(filter.ClientID) || !storable(filter.Subject) {
		return nil, nil
	}
	query, args := []string{`(seq < $1 OR $1 = 0)`}, []any{before}
	and := func(condition string, value any) {
		args = append(args, value)
		query = append(query, fmt.Sprintf(condition, len(args)))
	}
	if filter.ClientID != "" {
		and(`(client_id = $%d OR at = 0)`, filter.ClientID)
	}
	if filter.Subject != "" {
		and(`subject = $%d`, filter.Subject)
	}
	if filter.Outcome != "" {
		accepted := 0
		if filter.Outcome == TraceAccepted {
			accepted = 1
		}
		and(`accepted = $%d`, accepted)
	}
	if !filter.Since.IsZero() {
		and(`(at >= $%d OR at = 0)`, filter.Since.UnixMilli())
	}
	if !filter.Until.IsZero() {
		and(`at <= $%d`, filter.Until.UnixMilli())
	}
	args = append(args, max(limit, 0))
	selected := fmt.Sprintf(`SELECT seq, record FROM traces WHERE %s ORDER BY seq DESC LIMIT $%d`, strings.Join(query, ` AND `), len(args))
	found := []StoredTrace{}
	for {
		traces, err := collect(ctx, s.database.read(), func(rows row) (t StoredTrace, err error) {
			var encoded string
			if err := rows.Scan(&t.Sequence, &encoded); err != nil {
				return t, err
			}
			err = json.Unmarshal([]byte(encoded), &t.Trace)
			return t, err
		}, selected, args...)
		if err != nil {
			return nil, fmt.Errorf("list traces: %w", err)
		}
		for i := range traces {
			if args[0] = traces[i].Sequence; filter.matches(&traces[i].Trace) {
				if found = append(found, traces[i]); len(found) >= limit {
					return found, nil
				}
			}
		}
		if len(traces) < limit || limit <= 0 {
			return found, nil
		}
	}
}
