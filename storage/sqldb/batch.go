package sqldb

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// attempt runs a batch in one transaction. errs contains the result of each operation, if err
// is nil or errHalfDone.
//
// If other nodes write at the same time, a batch that finds and removes tickets is run twice. A
// ticket may be stored between the last query of the first transaction and its commit, by a
// caller that still sees the ticket or grant that the new one belongs to. The second
// transaction begins after that, and finds it.
func (w *writer) attempt(batch []*operation, lockWait time.Duration) (errs []error, err error) {
	errs, err = w.attemptSettled(batch, lockWait)
	finds := slices.ContainsFunc(batch, func(op *operation) bool { return len(op.removeAll) > 0 })
	if err != nil || !finds || w.database.alone() {
		return errs, err
	}
	return w.attemptSettled(batch, lockWait)
}

// attemptSettled is one transaction of attempt.
//
// It first spends, then stores, then deletes, whatever the order of the callers: they are
// concurrent.
//
// If the connection is lost during COMMIT, it looks up whether the commit took effect, and
// tries again if it did not.
func (w *writer) attemptSettled(batch []*operation, lockWait time.Duration) (errs []error, err error) {
	for began := time.Now(); ; {
		errs, err = w.attemptOnce(batch, lockWait)
		var failed *commitError
		if !errors.As(err, &failed) {
			return errs, err
		}
		committed, unknown := w.settle(failed)
		if unknown != nil {
			return nil, errors.Join(err, unknown)
		}
		if committed {
			return errs, nil
		}
		if time.Since(began) > batchTimeout {
			return nil, err
		}
	}
}

func (w *writer) settle(failed *commitError) (committed bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	return w.database.settle(ctx, failed)
}

func (w *writer) attemptOnce(batch []*operation, lockWait time.Duration) (errs []error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
	defer cancel()
	errs = make([]error, len(batch))
	err = w.database.batch(ctx, lockWait, func(p pipeline) error {
		if err := spendAll(p, batch, errs); err != nil {
			return fmt.Errorf("spend tickets: %w", err)
		}
		if err := putAll(p, batch, errs); err != nil {
			return fmt.Errorf("store tickets: %w", err)
		}
		if err := w.removeAll(p, batch); err != nil {
			return fmt.Errorf("delete tickets: %w", err)
		}
		return nil
	})
	return errs, err
}

// run executes changes, in the order of their keys.
func run(p pipeline, changes []*change) error {
	slices.SortStableFunc(changes, func(a, b *change) int { return compareKeys(a.key, b.key) })
	statements := make([]statement, len(changes))
	for i, c := range changes {
		statements[i] = c.statement
	}
	changed, err := p.exec(statements)
	if err != nil {
		return err
	}
	for i, c := range changes {
		c.done = changed[i] == 1
	}
	return nil
}

// compareKeys is the order in which every node locks tickets, so that two transactions that
// lock several of the same tickets do not deadlock.
func compareKeys(a, b storage.Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), bytes.Compare(a.ID[:], b.ID[:]))
}

func spendAll(p pipeline, batch []*operation, errs []error) error {
	var all []*change
	for _, op := range batch {
		for k := range op.spend {
			all = append(all, &op.spend[k])
		}
	}
	if err := run(p, all); err != nil {
		return err
	}
	halfDone := false
	for i, op := range batch {
		failed := slices.IndexFunc(op.spend, func(c change) bool { return !c.done })
		if failed < 0 {
			continue
		}
		spent, err := p.keys(op.spent[failed])
		if err != nil {
			return err
		}
		errs[i] = storage.ErrNotFound
		if len(spent) > 0 {
			errs[i] = storage.ErrSpent
		}
		halfDone = halfDone || slices.ContainsFunc(op.spend, func(c change) bool { return c.done })
	}
	if halfDone {
		return errHalfDone
	}
	return nil
}

func putAll(p pipeline, batch []*operation, errs []error) error {
	var all []*change
	for i, op := range batch {
		if errs[i] != nil {
			continue
		}
		for k := range op.put {
			all = append(all, &op.put[k])
		}
	}
	if err := run(p, all); err != nil {
		return err
	}
	halfDone := false
	for i, op := range batch {
		if errs[i] != nil || !slices.ContainsFunc(op.put, func(c change) bool { return !c.done }) {
			continue
		}
		errs[i] = storage.ErrExists
		halfDone = halfDone || len(op.spend) > 0 || slices.ContainsFunc(op.put, func(c change) bool { return c.done })
	}
	if halfDone {
		return errHalfDone
	}
	return nil
}

// removeAll deletes tickets. If other nodes write at the same time, a delete waits for a
// transaction that spends its ticket, but does not see what that one stores. So the queries run
// again until they find nothing.
func (w *writer) removeAll(p pipeline, batch []*operation) error {
	var keys []storage.Key
	var find, after []statement
	for _, op := range batch {
		keys = append(keys, op.remove...)
		find = append(find, op.removeAll...)
		after = append(after, op.after...)
	}
	if err := w.removeTickets(p, keys, find); err != nil || len(after) == 0 {
		return err
	}
	_, err := p.exec(after)
	return err
}

func (w *writer) removeTickets(p pipeline, keys []storage.Key, find []statement) error {
	for {
		for _, f := range find {
			found, err := p.keys(f)
			if err != nil {
				return err
			}
			keys = append(keys, found...)
		}
		if len(keys) == 0 {
			return nil
		}
		slices.SortFunc(keys, compareKeys)
		statements := make([]statement, len(keys))
		for i := range keys {
			statements[i] = removal(keys[i])
		}
		if _, err := p.exec(statements); err != nil {
			return err
		}
		if w.database.alone() || len(find) == 0 {
			return nil
		}
		keys = keys[:0]
	}
}
