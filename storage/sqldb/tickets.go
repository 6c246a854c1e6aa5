package sqldb

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// The queries for tickets. No ticket belongs to the family or grant ""; the comparison with the
// empty string also lets the partial indexes be used.
const (
	ticketColumns = `kind, id, grant_id, family, data, expires, spent`

	// A family has few tickets; "+ 0" keeps the planner from using the index of expiries for
	// the order.
	findFamily = `SELECT ` + ticketColumns + ` FROM tickets
		WHERE family = $1 AND family <> '' AND kind = $2 AND expires > $3
		ORDER BY expires + 0 DESC, id LIMIT $4`

	spendTicket = `UPDATE tickets SET spent = $1 WHERE kind = $2 AND id = $3 AND spent = 0 AND expires > $4`

	setExpires = `UPDATE tickets SET expires = $1 WHERE kind = $2 AND id = $3 AND spent = 0 AND expires > $4`

	findSpent = `SELECT kind, id FROM tickets WHERE kind = $1 AND id = $2 AND spent <> 0 AND expires > $3`

	putTicket = `INSERT INTO tickets (` + ticketColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (kind, id) DO UPDATE SET grant_id = excluded.grant_id, family = excluded.family,
			data = excluded.data, expires = excluded.expires, spent = excluded.spent
		WHERE tickets.expires <= $8`

	deleteTicket = `DELETE FROM tickets WHERE kind = $1 AND id = $2`
	// endTicket is used instead for storage.KindStatus, and notEnded excludes the tickets that it
	// has marked.
	endTicket = `UPDATE tickets SET spent = 1 WHERE kind = $1 AND id = $2 AND spent = 0`
	notEnded  = ` AND (kind <> 'status' OR spent = 0)`

	// A family and its descendants are a range of names (storage.AfterFamily).
	keysOfFamily     = `SELECT kind, id FROM tickets WHERE family >= $1 AND family < $2 AND family <> ''` + notEnded
	keysOfFamilyKind = `SELECT kind, id FROM tickets WHERE family >= $1 AND family < $2 AND family <> '' AND kind = $3` + notEnded

	findEnded = `SELECT ` + ticketColumns + ` FROM tickets
		WHERE kind = 'status' AND spent <> 0 AND expires > $1 LIMIT $2`

	// The condition is repeated: if another transaction changes a row that the inner query found,
	// PostgreSQL waits for it, and then checks the outer condition again, and only that.
	reclaimTickets = `DELETE FROM tickets WHERE expires <= $1 AND (kind, id) IN
		(SELECT kind, id FROM tickets WHERE expires <= $1 ORDER BY expires LIMIT $2)`
)

// reclaimStep is how many rows one transaction deletes: other transactions wait for it.
const reclaimStep = 500

// Put implements storage.Tickets.
func (s *Store) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	return s.Spend(ctx, now, nil, tickets...)
}

// Get implements storage.Tickets.
func (s *Store) Get(ctx context.Context, now time.Time, key storage.Key) (storage.Ticket, error) {
	found, err := s.database.ticketsByKey(ctx, now.UnixMilli(), key)
	if err != nil {
		return storage.Ticket{}, fmt.Errorf("get %s: %w", key.Kind, fault(err))
	}
	if len(found) == 0 {
		return storage.Ticket{}, storage.ErrNotFound
	}
	return found[0], nil
}

// maxKeys is the maximum number of keys in a query of GetAll.
const maxKeys = 16

// GetAll implements storage.Tickets.
func (s *Store) GetAll(ctx context.Context, now time.Time, keys ...storage.Key) ([]storage.Ticket, error) {
	var all []storage.Ticket
	for chunk := range slices.Chunk(keys, maxKeys) {
		found, err := s.database.ticketsByKey(ctx, now.UnixMilli(), chunk...)
		if err != nil {
			return nil, fmt.Errorf("get %s: %w", chunk[0].Kind, fault(err))
		}
		if all == nil {
			all = found
		} else {
			all = append(all, found...)
		}
	}
	return all, nil
}

// getTickets are the queries of ticketsByKey, for one key, for two, and so on up to maxKeys.
var getTickets = func() (queries [maxKeys]string) {
	text := ""
	for i := range maxKeys {
		if i > 0 {
			text += " UNION ALL "
		}
		text += fmt.Sprintf("SELECT "+ticketColumns+" FROM tickets WHERE kind = $%d AND id = $%d AND expires > $%d", 3*i+1, 3*i+2, 3*i+3)
		queries[i] = text
	}
	return queries
}()

// Spend implements storage.Tickets.
func (s *Store) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	op, about, err := newOperation(now, spend, put)
	if err != nil {
		return err
	}
	if err := s.auditTickets(ctx, op); err != nil {
		return err
	}
	return s.writer.do(ctx, about, op)
}

// newOperation returns an operation that spends and stores tickets, and what it is about.
func newOperation(now time.Time, spend []storage.Key, put []storage.Ticket) (op *operation, about string, err error) {
	op = &operation{spend: make([]change, len(spend)), put: make([]change, len(put))}
	at, together := now.UnixMilli(), len(spend)+len(put) > 1
	switch {
	case len(put) > 0:
		about = cmp.Or(put[0].Family, put[0].Grant, string(put[0].ID[:]))
	case len(spend) > 0:
		about = string(spend[0].ID[:])
	}
	for i, key := range spend {
		op.spend[i] = change{verb: spending, ticket: storage.Ticket{Key: key}, at: at, together: together}
	}
	for i, t := range put {
		if len(t.Data) > storage.MaxData {
			return nil, "", fmt.Errorf("store %s: %d bytes of data, more than %d", t.Kind, len(t.Data), storage.MaxData)
		}
		op.put[i] = change{verb: putting, ticket: t, at: at, together: together}
	}
	return op, about, nil
}

// SetExpires implements storage.Tickets.
func (s *Store) SetExpires(ctx context.Context, now time.Time, key storage.Key, expires time.Time) error {
	ticket := storage.Ticket{Key: key, Expires: expires}
	return s.writer.do(ctx, string(key.ID[:]), &operation{spend: []change{{verb: settingExpires, ticket: ticket, at: now.UnixMilli()}}})
}

// Delete implements storage.Tickets.
func (s *Store) Delete(ctx context.Context, keys ...storage.Key) error {
	if len(keys) == 0 {
		return nil
	}
	op := &operation{remove: slices.Clone(keys)}
	if err := s.auditTickets(ctx, op); err != nil {
		return err
	}
	return s.writer.do(ctx, string(keys[0].ID[:]), op)
}

// DeleteFamily implements storage.Tickets.
func (s *Store) DeleteFamily(ctx context.Context, family string, kinds ...storage.Kind) error {
	if family == "" {
		return nil
	}
	op, after := &operation{}, storage.AfterFamily(family)
	for _, kind := range kinds {
		op.removeAll = append(op.removeAll, statement{keysOfFamilyKind, []any{family, after, string(kind)}})
	}
	if len(kinds) == 0 {
		op.removeAll = []statement{{keysOfFamily, []any{family, after}}}
	}
	if err := s.auditTickets(ctx, op); err != nil {
		return err
	}
	return s.writer.do(ctx, family, op)
}

// removal returns the statement that removes a ticket, or marks it as spent.
func removal(key storage.Key) statement {
	query := deleteTicket
	if key.Kind == storage.KindStatus {
		query = endTicket
	}
	return statement{query, []any{string(key.Kind), key.ID[:]}}
}

// removedKey returns the key of a removal.
func removedKey(s statement) (key storage.Key) {
	key.Kind = storage.Kind(s.args[0].(string))
	copy(key.ID[:], s.args[1].([]byte))
	return key
}

// FindEnded implements storage.Tickets.
func (s *Store) FindEnded(ctx context.Context, now time.Time, limit int) ([]storage.Ticket, error) {
	found, err := s.database.tickets(ctx, findEnded, now.UnixMilli(), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("find ended tickets: %w", fault(err))
	}
	return found, nil
}

// FindFamily implements storage.Tickets.
func (s *Store) FindFamily(ctx context.Context, now time.Time, family string, kind storage.Kind, limit int) ([]storage.Ticket, error) {
	found, err := s.database.tickets(ctx, findFamily, family, string(kind), now.UnixMilli(), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("find %s of a family: %w", kind, fault(err))
	}
	return found, nil
}

// Reclaim deletes expired tickets, and clients that registered themselves and were not used in
// time, and returns how many it deleted. It uses transactions of at most 500 rows, so that others
// do not wait long. It must be called from time to time: tickets expire without it, but their
// space is not freed. It also ends what was issued to users and clients after they became
// inactive, by nodes that did not know it yet.
func (s *Store) Reclaim(ctx context.Context, now time.Time) (removed int, err error) {
	for _, query := range [...]string{reclaimTickets, reclaimCounts, reclaimUses} {
		n, err := s.reclaim(ctx, query, now.UnixMilli())
		removed += n
		if err != nil {
			return removed, fmt.Errorf("reclaim expired records: %w", err)
		}
	}
	if _, err := s.reclaim(ctx, reclaimAccepted, now.Add(-acceptedKept).UnixMilli()); err != nil {
		return removed, fmt.Errorf("reclaim traces of accepted requests: %w", err)
	}
	if _, err := s.reclaim(ctx, reclaimFailed, now.Add(-storage.FailedKept).UnixMilli()); err != nil {
		return removed, fmt.Errorf("reclaim messages that failed: %w", err)
	}
	n, err := s.reclaimClients(ctx, now)
	removed += n
	if err != nil {
		return removed, fmt.Errorf("reclaim clients that were not used: %w", err)
	}
	if _, err := s.reclaim(ctx, s.database.reclaimUserChanges(), userChangesKept.Milliseconds()); err != nil {
		return removed, fmt.Errorf("reclaim changes of users: %w", err)
	}
	if err := s.endInactive(ctx, now.Add(-inactiveFor)); err != nil {
		return removed, fmt.Errorf("end what was issued to inactive users and clients: %w", err)
	}
	return removed, nil
}

// inactiveFor is how long after a user or client became inactive something may still be issued to
// them: by a node that cannot reach the database, or by a concurrent request.
const inactiveFor = time.Hour

// endInactive ends again what was issued to users and clients that became inactive after since.
// None of it is valid anyway, but status lists are computed from the tickets alone.
func (s *Store) endInactive(ctx context.Context, since time.Time) error {
	inactive, err := users(ctx, s.database.read(), `WHERE ended > $1 AND (disabled OR retired <> 0 OR delete_after <> 0)`, since.UnixMilli())
	if err != nil {
		return err
	}
	for _, user := range inactive {
		err := s.transact(ctx, func(tx *sql.Tx) error {
			locked, err := oneUser(ctx, tx, `WHERE id = $1`+s.database.forUpdate(), user.ID)
			if err != nil || locked.Active() {
				return err
			}
			return s.endUser(ctx, tx, locked)
		})
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
	}
	clients, err := s.clients(ctx, s.database.read(), `WHERE ended > $1`, since.UnixMilli())
	if err != nil {
		return err
	}
	for _, client := range clients {
		err := s.transact(ctx, func(tx *sql.Tx) error {
			locked, err := s.clients(ctx, tx, `WHERE client_id = $1`+s.database.forUpdate(), client.ID)
			if err != nil || len(locked) == 0 || locked[0].Active() {
				return err
			}
			return s.deleteTicketsOfClient(ctx, tx, client.ID)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// reclaimClients deletes clients that registered themselves and were not used in time. It leaves
// grants and tickets alone: an unused client has no live ones.
func (s *Store) reclaimClients(ctx context.Context, now time.Time) (removed int, err error) {
	const unused = `WHERE unused_until <> 0 AND unused_until <= $1 ORDER BY client_id LIMIT $2`
	for {
		found, err := s.clients(ctx, s.database.read(), unused, now.UnixMilli(), reclaimStep)
		if err != nil || len(found) == 0 {
			return removed, err
		}
		err = s.transact(ctx, func(tx *sql.Tx) error {
			// Some may have been used in the meantime.
			if found, err = s.clients(ctx, tx, unused+s.database.forUpdate(), now.UnixMilli(), reclaimStep); err != nil {
				return err
			}
			for i := range found {
				if _, err := tx.ExecContext(ctx, `DELETE FROM clients WHERE client_id = $1`, found[i].ID); err != nil {
					return err
				}
				if err := s.insertAudit(ctx, tx, unusedClient(&found[i])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return removed, err
		}
		removed += len(found)
		if len(found) < reclaimStep {
			return removed, nil
		}
	}
}

func (s *Store) reclaim(ctx context.Context, query string, before int64) (removed int, err error) {
	for {
		var n int64
		err := s.transact(ctx, func(tx *sql.Tx) error {
			result, err := tx.ExecContext(ctx, query, before, reclaimStep)
			if err != nil {
				return err
			}
			n, err = result.RowsAffected()
			return err
		})
		if err != nil {
			return removed, err
		}
		removed += int(n)
		if n < reclaimStep {
			return removed, nil
		}
	}
}

// ticketRow receives the ticketColumns of a row.
type ticketRow struct {
	kind, grant, family string
	id, data            []byte
	expires, spent      int64
}

func (r *ticketRow) fields() []any {
	return []any{&r.kind, &r.id, &r.grant, &r.family, &r.data, &r.expires, &r.spent}
}

func (r *ticketRow) ticket() (storage.Ticket, error) {
	t := storage.Ticket{
		Key:     storage.Key{Kind: storage.Kind(r.kind)},
		Grant:   r.grant,
		Family:  r.family,
		Data:    bytes.Clone(r.data),
		Expires: fromMilliseconds(r.expires),
		Spent:   fromMilliseconds(r.spent),
	}
	if copy(t.ID[:], r.id) != len(t.ID) {
		return storage.Ticket{}, fmt.Errorf("a ticket's id has %d bytes", len(r.id))
	}
	return t, nil
}

// scanKey reads kind and id.
func scanKey(row interface{ Scan(...any) error }) (key storage.Key, err error) {
	var kind string
	var id []byte
	if err := row.Scan(&kind, &id); err != nil {
		return key, err
	}
	key.Kind = storage.Kind(kind)
	if copy(key.ID[:], id) != len(key.ID) {
		return key, fmt.Errorf("a ticket's id has %d bytes", len(id))
	}
	return key, nil
}

// milliseconds returns a time as it is stored: in milliseconds since 1970, 0 for none.
func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilliseconds(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
