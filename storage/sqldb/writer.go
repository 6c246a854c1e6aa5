package sqldb

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/valetkey/valetkey/storage"
)

const (
	maxQueued = 1024
	maxBatch  = 256
	// maxRetries and maxBackOff bound how often and how long the same is tried again, if the
	// database asks for it: for a second or so.
	maxRetries = 8
	maxBackOff = 5
	// batchTimeout ends a batch on a database that does not answer.
	batchTimeout = 10 * time.Second
)

// operation is one caller's write of tickets. It takes effect whole or not at all.
type operation struct {
	spend    []change    // each marks a ticket, or changes nothing
	spent    []statement // for each of spend, finds the ticket if it was spent before
	put      []change    // each stores a ticket, or changes nothing
	answered chan error

	// An operation that removes does nothing else.
	remove    []storage.Key
	removeAll []statement // each finds keys
	after     []statement // then
}

// change is a statement about one ticket.
type change struct {
	key storage.Key
	statement
	done bool
}

var (
	errClosed = errors.New("the store is closed")
	// errHalfDone says that an operation changed something and then failed, so that the
	// transaction must not be committed.
	errHalfDone = errors.New("an operation of the batch failed half-way")
)

// writer gathers what concurrent callers write and commits it together: one transaction,
// one wait for the disk, then all are answered.
type writer struct {
	database database
	queue    chan *operation
	closing  chan struct{}
	stopped  chan struct{}
}

func newWriter(d database) *writer {
	w := &writer{
		database: d,
		queue:    make(chan *operation, maxQueued),
		closing:  make(chan struct{}),
		stopped:  make(chan struct{}),
	}
	go w.run()
	return w
}

// do returns when op took effect or failed, or when the caller gives up.
func (w *writer) do(ctx context.Context, op *operation) error {
	op.answered = make(chan error, 1)
	select {
	case w.queue <- op:
	case <-w.closing:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-op.answered:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-w.stopped:
	}
	select {
	case err := <-op.answered:
		return err
	default:
		return errClosed
	}
}

// close answers what is queued and stops.
func (w *writer) close() {
	close(w.closing)
	<-w.stopped
}

func (w *writer) run() {
	defer close(w.stopped)
	batch := make([]*operation, 0, maxBatch)
	for {
		select {
		case op := <-w.queue:
			batch = append(batch[:0], op)
		case <-w.closing:
			select {
			case op := <-w.queue:
				batch = append(batch[:0], op)
			default:
				return
			}
		}
		// Callers who were just answered are about to come back; let them, for a fuller batch.
		runtime.Gosched()
		for len(batch) < maxBatch {
			select {
			case op := <-w.queue:
				batch = append(batch, op)
				continue
			default:
			}
			break
		}
		w.commitInOrder(batch)
		clear(batch)
	}
}

// commitInOrder commits a batch. Where other nodes write too, what removes gets a
// transaction of its own: it takes the locks of tickets in order, and must not hold those
// that were spent before.
func (w *writer) commitInOrder(batch []*operation) {
	if w.database.alone() {
		w.commit(batch)
		return
	}
	slices.SortStableFunc(batch, func(a, b *operation) int { return cmp.Compare(a.stage(), b.stage()) })
	first := slices.IndexFunc(batch, func(op *operation) bool { return op.stage() == 1 })
	if first < 0 {
		first = len(batch)
	}
	for _, part := range [][]*operation{batch[:first], batch[first:]} {
		if len(part) > 0 {
			w.commit(part)
		}
	}
}

// stage is 1 for what removes and 0 for everything else.
func (op *operation) stage() int {
	return min(len(op.remove)+len(op.removeAll), 1)
}

// commit runs a batch. One that does not go through whole is run again one operation at a
// time, so that a failure is the failure of one caller; no savepoint is needed for that.
func (w *writer) commit(batch []*operation) {
	errs, err := w.attempt(batch)
	if err != nil && len(batch) > 1 && w.database.refused(err) {
		for _, op := range batch {
			op.answered <- w.commitOne(op)
		}
		return
	}
	for i, op := range batch {
		switch {
		case err == nil:
			op.answered <- errs[i]
		case len(batch) == 1 && w.database.refused(err):
			op.answered <- w.retryOne(op, errs, err)
		default:
			op.answered <- err
		}
	}
}

func (w *writer) commitOne(op *operation) error {
	errs, err := w.attempt([]*operation{op})
	return w.retryOne(op, errs, err)
}

// retryOne answers for an operation that ran alone, and repeats it a few times if the
// database asks for that (PostgreSQL: a deadlock).
func (w *writer) retryOne(op *operation, errs []error, err error) error {
	for try := 0; try < maxRetries && err != nil && w.database.retryable(err); try++ {
		backOff(try)
		errs, err = w.attempt([]*operation{op})
	}
	if err != nil && !errors.Is(err, errHalfDone) {
		return err
	}
	return errs[0]
}

// backOff waits a little, longer with each try and never the same.
func backOff(try int) {
	time.Sleep(time.Duration(1+rand.IntN(10<<min(try, maxBackOff))) * time.Millisecond)
}

// attempt runs a batch in one transaction. errs has the answer of each operation, if err
// is nil or errHalfDone.
//
// All spending comes before all storing and that before all deleting, whatever the order
// of the callers: they all are here at the same time.
func (w *writer) attempt(batch []*operation) (errs []error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
	defer cancel()
	errs = make([]error, len(batch))
	err = w.database.batch(ctx, func(p pipeline) error {
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

// compareKeys is the order in which every node takes the locks of tickets, so that two
// transactions that meet in several of them do not wait for each other.
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

// removeAll deletes. Where others write at the same time, a delete waits for whoever is
// spending its ticket but does not see what that one stores instead, so families are
// looked at again until nothing is left.
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
