package sqldb

import (
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
	for _, op := range batch {
		op.audited = op.audited || op.removed
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
		if err == nil && w.telemetry != nil {
			w.telemetry.Committed(systemName(w.database), len(batch))
			for _, op := range batch {
				op.batch = len(batch)
			}
		}
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
	removes := slices.ContainsFunc(batch, func(op *operation) bool { return op.stage() == 1 })
	records := slices.ContainsFunc(batch, func(op *operation) bool { return op.audit != nil })
	if d, ok := w.database.(*postgreSQL); ok && !removes && !records {
		errs, err := attemptAtOnce(d, batch, lockWait)
		if !errors.Is(err, errHalfDone) {
			return errs, err
		}
	}
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
		if records {
			if err := auditAll(p, batch, errs); err != nil {
				return fmt.Errorf("store audit records: %w", err)
			}
		}
		if p, ok := p.(*sqlitePipeline); ok {
			if err := p.findAll(batch, errs); err != nil {
				return fmt.Errorf("find what tickets depend on: %w", err)
			}
		}
		return nil
	})
	return errs, err
}

// spendsOf returns the changes of a batch that spend, in the order of their keys, and putsOf those
// that put.
func spendsOf(batch []*operation) (all []*change) {
	for _, op := range batch {
		for k := range op.spend {
			all = append(all, &op.spend[k])
		}
	}
	sortChanges(all)
	return all
}

// putsOf leaves out operations that have failed.
func putsOf(batch []*operation, errs []error) (all []*change) {
	for i, op := range batch {
		if errs[i] != nil {
			continue
		}
		for k := range op.put {
			all = append(all, &op.put[k])
		}
	}
	sortChanges(all)
	return all
}

func findingsOf(batch []*operation) (all []*finding) {
	for _, op := range batch {
		if op.find != nil {
			all = append(all, op.find)
		}
	}
	return all
}

// attemptAtOnce runs a batch that removes nothing in one round trip. It returns errHalfDone, and
// nothing took effect, if an operation with several changes fails. That is rare: callers read a
// ticket before they spend it.
func attemptAtOnce(d *postgreSQL, batch []*operation, lockWait time.Duration) (errs []error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
	defer cancel()
	errs = make([]error, len(batch))
	if err := d.atOnce(ctx, lockWait, append(spendsOf(batch), putsOf(batch, errs)...), findingsOf(batch)); err != nil {
		return errs, err
	}
	for i, op := range batch {
		// An operation with several changes has succeeded.
		switch {
		case len(op.spend) == 1 && !op.spend[0].done:
			errs[i] = d.whyNotSpent(ctx, &op.spend[0])
		case len(op.put) == 1 && !op.put[0].done:
			errs[i] = storage.ErrExists
		}
	}
	return errs, nil
}

func spendAll(p pipeline, batch []*operation, errs []error) error {
	if err := p.change(spendsOf(batch)); err != nil {
		return err
	}
	halfDone := false
	for i, op := range batch {
		failed := slices.IndexFunc(op.spend, func(c change) bool { return !c.done })
		if failed < 0 {
			continue
		}
		spent, err := p.keys(op.spend[failed].spentBefore())
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
	if err := p.change(putsOf(batch, errs)); err != nil {
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

// auditAll stores the audit records of operations that have changed something.
func auditAll(p pipeline, batch []*operation, errs []error) error {
	var records []statement
	for i, op := range batch {
		if op.audit != nil && errs[i] == nil && !op.audited && (op.removed || op.stage() == 0) {
			records = append(records, *op.audit)
		}
	}
	if len(records) == 0 {
		return nil
	}
	_, err := p.exec(records)
	return err
}

// removeAll deletes tickets. If other nodes write at the same time, a delete waits for a
// transaction that spends its ticket, but does not see what that one stores. So the queries run
// again until they find nothing.
func (w *writer) removeAll(p pipeline, batch []*operation) error {
	var keys []storage.Key
	var find []finder
	var after []statement
	var afterOf []*operation
	owners := map[storage.Key]*operation{} // of those that remove the same ticket, one does, and records it
	for _, op := range batch {
		op.removed = false
		keys = append(keys, op.remove...)
		if op.audit != nil && !op.auditAfter {
			own(owners, op.remove, op)
		}
		for _, f := range op.removeAll {
			find = append(find, finder{f, op})
		}
		for _, statement := range op.after {
			after, afterOf = append(after, statement), append(afterOf, op)
		}
	}
	if err := w.removeTickets(p, keys, find, owners); err != nil || len(after) == 0 {
		return err
	}
	changed, err := p.exec(after)
	if err != nil {
		return err
	}
	for i, n := range changed {
		if n > 0 && afterOf[i].auditAfter {
			afterOf[i].removed = true
		}
	}
	return nil
}

// finder is a query of an operation that finds keys of tickets to remove.
type finder struct {
	statement
	op *operation
}

func own(owners map[storage.Key]*operation, keys []storage.Key, op *operation) {
	for _, key := range keys {
		if owners[key] == nil {
			owners[key] = op
		}
	}
}

func (w *writer) removeTickets(p pipeline, keys []storage.Key, find []finder, owners map[storage.Key]*operation) error {
	for {
		for _, f := range find {
			found, err := p.keys(f.statement)
			if err != nil {
				return err
			}
			keys = append(keys, found...)
			if f.op.audit != nil && !f.op.auditAfter {
				own(owners, found, f.op)
			}
		}
		if len(keys) == 0 {
			return nil
		}
		slices.SortFunc(keys, compareKeys)
		statements := make([]statement, len(keys))
		for i := range keys {
			statements[i] = removal(keys[i])
		}
		changed, err := p.exec(statements)
		if err != nil {
			return err
		}
		for i, n := range changed {
			if op := owners[keys[i]]; n > 0 && op != nil {
				op.removed = true
			}
		}
		if w.database.alone() || len(find) == 0 {
			return nil
		}
		keys = keys[:0]
	}
}
