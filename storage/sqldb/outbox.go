package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// outbox is a table of messages. There is one for clients and one for users.
type outbox struct {
	store       *Store
	name, table string
}

// Mail returns the outbox with the messages to users.
func (s *Store) Mail() storage.Outbox { return s.outboxOf(storage.OutboxUsers) }

// logouts is the outbox with the messages to clients, which Store itself implements.
func (s *Store) logouts() *outbox { return s.outboxOf(storage.OutboxClients) }

// Enqueue implements storage.Outbox.
func (s *Store) Enqueue(ctx context.Context, messages ...storage.Message) error {
	return s.logouts().Enqueue(ctx, messages...)
}

// Claim implements storage.Outbox.
func (s *Store) Claim(ctx context.Context, now, until time.Time, limit, perOwner int) ([]storage.Message, error) {
	return s.logouts().Claim(ctx, now, until, limit, perOwner)
}

// Postpone implements storage.Outbox.
func (s *Store) Postpone(ctx context.Context, id string, due time.Time) error {
	return s.logouts().Postpone(ctx, id, due)
}

// Waiting implements storage.Outbox.
func (s *Store) Waiting(ctx context.Context, owner string) (int, error) {
	return s.logouts().Waiting(ctx, owner)
}

// Remove implements storage.Outbox.
func (s *Store) Remove(ctx context.Context, ids ...string) error {
	return s.logouts().Remove(ctx, ids...)
}

// Fail implements storage.Outbox.
func (s *Store) Fail(ctx context.Context, id string, now time.Time, cause string) error {
	return s.logouts().Fail(ctx, id, now, cause)
}

// outboxOf returns the outbox with a name.
func (s *Store) outboxOf(name string) *outbox {
	switch name {
	case storage.OutboxUsers:
		return &outbox{s, name, "mail_outbox"}
	case storage.OutboxEvents:
		return &outbox{s, name, "audit_outbox"}
	}
	return &outbox{s, storage.OutboxClients, "outbox"}
}

// dueMessages lets the owners take turns. It does not lock anything.
const dueMessages = `SELECT id FROM (
		SELECT id, owner, due, row_number() OVER (PARTITION BY owner ORDER BY due, id) AS turn FROM outbox WHERE due <= $1
	) AS waiting
	WHERE turn <= $2 AND turn <= $2 - (SELECT count(*) FROM outbox AS others WHERE others.owner = waiting.owner AND others.claimed > $1)
	ORDER BY turn, due, id LIMIT $3`

// claimMessages checks due again: another node may have claimed the messages since.
const claimMessages = `UPDATE outbox SET due = $1, claimed = $1, attempts = attempts + 1
	WHERE due <= $2 AND id IN (%s) RETURNING id, owner, data, created, due, attempts`

// query returns a query for the outbox's own table.
func (o *outbox) query(query string) string {
	return strings.ReplaceAll(query, " outbox ", " "+o.table+" ")
}

// Enqueue implements storage.Outbox.
func (o *outbox) Enqueue(ctx context.Context, messages ...storage.Message) error {
	err := o.store.transact(ctx, func(tx *sql.Tx) error { return o.insert(ctx, tx, messages) })
	if err != nil {
		return fmt.Errorf("enqueue a message: %w", err)
	}
	return nil
}

// insert adds messages to the outbox, except those that it has already.
func (o *outbox) insert(ctx context.Context, tx *sql.Tx, messages []storage.Message) error {
	messages = slices.Clone(messages)
	slices.SortFunc(messages, func(a, b storage.Message) int { return cmp.Compare(a.ID, b.ID) })
	insert := o.query(`INSERT INTO outbox (id, owner, data, created, due, attempts) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING`)
	for _, m := range messages {
		if len(m.Data) > storage.MaxData {
			return fmt.Errorf("%d bytes of data, more than %d", len(m.Data), storage.MaxData)
		}
		_, err := tx.ExecContext(ctx, insert, m.ID, m.Owner, append([]byte{}, m.Data...), milliseconds(m.Created), milliseconds(m.Due), m.Attempts)
		if err != nil {
			return err
		}
	}
	return nil
}

// Claim implements storage.Outbox. If nothing is due, it only reads.
func (o *outbox) Claim(ctx context.Context, now, until time.Time, limit, perOwner int) (claimed []storage.Message, err error) {
	var due bool
	read, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err = o.store.database.read().QueryRowContext(read, o.query(`SELECT EXISTS (SELECT 1 FROM outbox WHERE due <= $1)`), now.UnixMilli()).Scan(&due)
	if err != nil {
		return nil, fmt.Errorf("look for messages: %w", fault(err))
	}
	if !due {
		return nil, nil
	}
	ids, err := collect(ctx, o.store.database.read(), func(rows row) (id string, err error) {
		return id, rows.Scan(&id)
	}, o.query(dueMessages), now.UnixMilli(), max(perOwner, 0), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("select messages: %w", err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	args, places := []any{until.UnixMilli(), now.UnixMilli()}, make([]string, len(ids))
	for i, id := range ids {
		args, places[i] = append(args, id), "$"+strconv.Itoa(i+3)
	}
	err = o.store.transact(ctx, func(tx *sql.Tx) error {
		claimed, err = collect(ctx, tx, func(rows row) (m storage.Message, err error) {
			var created, due int64
			err = rows.Scan(&m.ID, &m.Owner, &m.Data, &created, &due, &m.Attempts)
			m.Created, m.Due = fromMilliseconds(created), fromMilliseconds(due)
			return m, err
		}, fmt.Sprintf(o.query(claimMessages), strings.Join(places, ", ")), args...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim messages: %w", err)
	}
	slices.SortFunc(claimed, func(a, b storage.Message) int { return cmp.Compare(slices.Index(ids, a.ID), slices.Index(ids, b.ID)) })
	return claimed, nil
}

// Postpone implements storage.Outbox.
func (o *outbox) Postpone(ctx context.Context, id string, due time.Time) error {
	err := o.store.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, o.query(`UPDATE outbox SET due = $1, claimed = 0 WHERE id = $2`), milliseconds(due), id)
		return err
	})
	if err != nil {
		return fmt.Errorf("postpone a message: %w", err)
	}
	return nil
}

// Waiting implements storage.Outbox.
func (o *outbox) Waiting(ctx context.Context, owner string) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err = o.store.database.read().QueryRowContext(ctx, o.query(`SELECT count(*) FROM outbox WHERE owner = $1`), owner).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count messages: %w", fault(err))
	}
	return n, nil
}

// Remove implements storage.Outbox.
func (o *outbox) Remove(ctx context.Context, ids ...string) error {
	err := o.store.transact(ctx, func(tx *sql.Tx) error {
		for _, id := range slices.Sorted(slices.Values(ids)) {
			if _, err := tx.ExecContext(ctx, o.query(`DELETE FROM outbox WHERE id = $1`), id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove messages: %w", err)
	}
	return nil
}
