package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/storage"
)

// Messages that could not be delivered, and what an operator does with the messages of an outbox.

const (
	failMessage = `INSERT INTO failed_messages (outbox, id, owner, data, created, attempts, failed, cause)
		SELECT CAST($1 AS TEXT), id, owner, data, created, attempts, CAST($2 AS BIGINT), CAST($3 AS TEXT) FROM %s WHERE id = $4
		ON CONFLICT (outbox, id) DO UPDATE SET data = excluded.data, attempts = excluded.attempts, failed = excluded.failed, cause = excluded.cause`
	dropOldOfOwner = `DELETE FROM failed_messages WHERE outbox = $1 AND owner = $2
		AND failed <= (SELECT failed FROM failed_messages WHERE outbox = $1 AND owner = $2 ORDER BY failed DESC LIMIT 1 OFFSET $3)`
	dropOld = `DELETE FROM failed_messages WHERE outbox = $1
		AND failed <= (SELECT failed FROM failed_messages WHERE outbox = $1 ORDER BY failed DESC LIMIT 1 OFFSET $2)`
	retryMessage = `INSERT INTO %s (id, owner, data, created, due, attempts)
		SELECT id, owner, data, CAST($1 AS BIGINT), CAST($1 AS BIGINT), attempts FROM failed_messages WHERE outbox = $2 AND id = $3 ON CONFLICT (id) DO NOTHING`
	dropFailed    = `DELETE FROM failed_messages WHERE outbox = $1 AND id = $2`
	reclaimFailed = `DELETE FROM failed_messages WHERE failed <= $1 AND (outbox, id) IN
		(SELECT outbox, id FROM failed_messages WHERE failed <= $1 ORDER BY failed LIMIT $2)`
)

// Fail implements storage.Outbox.
func (o *outbox) Fail(ctx context.Context, id string, now time.Time, cause string) error {
	err := o.store.transact(ctx, func(tx *sql.Tx) error {
		found, err := collect(ctx, tx, scanMessage, o.query(`SELECT id, owner, created, due, attempts FROM outbox WHERE id = $1`)+o.store.database.forUpdate(), id)
		if err != nil || len(found) == 0 {
			return err
		}
		if _, err := tx.ExecContext(ctx, fmt.Sprintf(failMessage, o.table), o.name, now.UnixMilli(), storage.ClipCause(cause), id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, o.query(`DELETE FROM outbox WHERE id = $1`), id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, dropOldOfOwner, o.name, found[0].Owner, storage.MaxFailedPerOwner); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, dropOld, o.name, storage.MaxFailed)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep a message that failed: %w", err)
	}
	return nil
}

// WaitingMessages lists the messages of an outbox, in the order of their IDs, starting after an ID.
// Their Data is nil.
func (s *Store) WaitingMessages(ctx context.Context, outbox, after string, limit int) ([]storage.Message, error) {
	if !storable(after) {
		return nil, nil
	}
	messages, err := collect(ctx, s.database.read(), scanMessage, s.outboxOf(outbox).query(`SELECT id, owner, created, due, attempts FROM outbox WHERE id > $1 ORDER BY id LIMIT $2`), after, max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("list messages: %w", err)
	}
	return messages, nil
}

// FailedMessages lists the failed messages of an outbox, in the order of their IDs, starting after an
// ID.
func (s *Store) FailedMessages(ctx context.Context, outbox, after string, limit int) ([]storage.FailedMessage, error) {
	if !storable(after) {
		return nil, nil
	}
	messages, err := collect(ctx, s.database.read(), scanFailed, `SELECT id, owner, created, attempts, failed, cause FROM failed_messages WHERE outbox = $1 AND id > $2 ORDER BY id LIMIT $3`, outbox, after, max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("list failed messages: %w", err)
	}
	return messages, nil
}

// ChangeMessage makes a message due now, or removes it. A failed message that is due again is a new one
// as far as its age is concerned. It returns storage.ErrNotFound if there is none. With dryRun, nothing
// changes.
func (s *Store) ChangeMessage(ctx context.Context, now time.Time, outbox, id string, remove, dryRun bool) error {
	if !storable(id) {
		return storage.ErrNotFound
	}
	o := s.outboxOf(outbox)
	err := s.transact(ctx, func(tx *sql.Tx) error {
		owner := func(row row) (owner string, err error) { return owner, row.Scan(&owner) }
		waiting, err := collect(ctx, tx, owner, o.query(`SELECT owner FROM outbox WHERE id = $1`)+s.database.forUpdate(), id)
		if err != nil {
			return err
		}
		failed, err := collect(ctx, tx, owner, `SELECT owner FROM failed_messages WHERE outbox = $1 AND id = $2`+s.database.forUpdate(), o.name, id)
		if err != nil {
			return err
		}
		owners := append(waiting, failed...)
		switch {
		case len(owners) == 0:
			return storage.ErrNotFound
		case dryRun:
			return nil
		case len(waiting) > 0 && remove:
			_, err = tx.ExecContext(ctx, o.query(`DELETE FROM outbox WHERE id = $1`), id)
		case len(waiting) > 0:
			_, err = tx.ExecContext(ctx, o.query(`UPDATE outbox SET due = $1, claimed = 0 WHERE id = $2`), now.UnixMilli(), id)
		case !remove:
			_, err = tx.ExecContext(ctx, fmt.Sprintf(retryMessage, o.table), now.UnixMilli(), o.name, id)
		}
		if err == nil && len(failed) > 0 {
			_, err = tx.ExecContext(ctx, dropFailed, o.name, id)
		}
		if err != nil {
			return err
		}
		record := &audit.Record{Event: "message.retried", Object: audit.Object{Kind: audit.ObjectMessage, ID: id}, Details: map[string]string{"outbox": o.name, "receiver": owners[0]}}
		if remove { // it may have warned a user
			record.Event = "message.dropped"
		}
		return s.insertAudit(ctx, tx, record)
	})
	if err != nil {
		return fmt.Errorf("change a message: %w", err)
	}
	return nil
}

// OutboxState describes an outbox.
type OutboxState struct {
	Waiting, Failed int
	// Oldest is when the message was enqueued that waits longest; zero if none waits.
	Oldest time.Time
}

// OutboxState counts the messages of an outbox.
func (s *Store) OutboxState(ctx context.Context, outbox string) (state OutboxState, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	o, oldest := s.outboxOf(outbox), int64(0)
	err = s.database.read().QueryRowContext(ctx, fmt.Sprintf(`SELECT count(*), coalesce(min(created), 0), (SELECT count(*) FROM failed_messages WHERE outbox = $1) FROM %s`, o.table), o.name).
		Scan(&state.Waiting, &oldest, &state.Failed)
	if err != nil {
		return state, fmt.Errorf("count messages: %w", fault(err))
	}
	state.Oldest = fromMilliseconds(oldest)
	return state, nil
}

func scanMessage(rows row) (m storage.Message, err error) {
	var created, due int64
	err = rows.Scan(&m.ID, &m.Owner, &created, &due, &m.Attempts)
	m.Created, m.Due = fromMilliseconds(created), fromMilliseconds(due)
	return m, err
}

func scanFailed(rows row) (m storage.FailedMessage, err error) {
	var created, failed int64
	err = rows.Scan(&m.ID, &m.Owner, &created, &m.Attempts, &failed, &m.Cause)
	m.Created, m.Failed = fromMilliseconds(created), fromMilliseconds(failed)
	return m, err
}
