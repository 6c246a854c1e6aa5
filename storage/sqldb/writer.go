package sqldb

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/internal/telemetry"
	"github.com/valetkey/valetkey/storage"
)

const (
	maxQueued = 1024 // for each lane
	maxBatch  = 256
	// maxRetries and maxBackOff limit how often and how long an operation is tried again, if the
	// database requires it: for about a second.
	maxRetries = 8
	maxBackOff = 5
	// batchTimeout ends a batch on a database that does not respond, and settleTimeout ends the
	// attempt to find out whether its commit took effect.
	batchTimeout  = 4 * time.Second
	settleTimeout = 3 * time.Second
	// postgreSQLLanes is how many batches a node runs at the same time on PostgreSQL. More lanes
	// mean smaller batches, and more CPU time for each ticket (docs/decisions/0016).
	postgreSQLLanes = 2
	// laneWait is how long a lane waits for a row that another transaction has locked, and
	// detourWait how long an operation waits that has left its lane. There are at most maxDetours
	// of those.
	laneWait   = 250 * time.Millisecond
	detourWait = 2 * time.Second
	maxDetours = 8
)

// operation is one caller's write of tickets. It takes effect completely or not at all.
type operation struct {
	spend  []change // each marks a ticket, or changes nothing
	put    []change // each stores a ticket, or changes nothing
	batch  int      // if there is telemetry: how many operations shared its last transaction
	find   *finding // read after the operation took effect, if possible in the same round trip
	result chan error
	// taken is set by the lane when it runs the operation, or by the caller when it gives up
	// before that.
	taken atomic.Bool

	// An operation that removes tickets does nothing else.
	remove    []storage.Key
	removeAll []statement // each finds keys
	after     []statement // run after the removal

	// audit, if set, stores the audit record of the operation, if the operation changes something:
	// what after changes if auditAfter is set, otherwise tickets.
	audit      *statement
	auditAfter bool
	// removed reports that the current transaction has removed something that counts, and audited
	// that an earlier one, which was committed, has stored the record.
	removed, audited bool
}

var (
	errClosed = errors.New("the store is closed")
	errLocked = errors.New("too many operations are waiting for rows that other transactions have locked")
	// errHalfDone means that an operation changed something and then failed, so that the
	// transaction must not be committed.
	errHalfDone = errors.New("an operation of the batch failed half-way")
)

// writer collects the writes of concurrent callers and commits them together: one transaction, one
// wait for the disk, then all get their results. It has several lanes, so that a row that is
// locked by another node or an operator does not block everything. Operations of one family use
// the same lane, in their order.
type writer struct {
	database  database
	telemetry *telemetry.Telemetry // nil if nothing is measured
	lanes     []chan *operation
	detours   chan struct{}
	closing   chan struct{}
	working   sync.WaitGroup
	stopped   chan struct{}
}

func newWriter(d database, t *telemetry.Telemetry) *writer {
	w := &writer{
		database:  d,
		telemetry: t,
		detours:   make(chan struct{}, maxDetours),
		closing:   make(chan struct{}),
		stopped:   make(chan struct{}),
	}
	for range d.lanes() {
		lane := make(chan *operation, maxQueued)
		w.lanes = append(w.lanes, lane)
		w.working.Go(func() { w.run(lane) })
	}
	go func() {
		w.working.Wait()
		close(w.stopped)
	}()
	return w
}

var laneSeed = maphash.MakeSeed()

// lane returns the lane of a family, or of whatever else an operation is about. A family uses the
// same lane as its ancestors.
func (w *writer) lane(about string) chan *operation {
	if len(w.lanes) == 1 {
		return w.lanes[0]
	}
	root, _, _ := strings.Cut(about, storage.Descendant("", ""))
	return w.lanes[maphash.String(laneSeed, root)%uint64(len(w.lanes))]
}

// do returns when op took effect or failed. If ctx ends while op waits in its lane, op never runs;
// once it runs, do waits for its result, which is known soon.
func (w *writer) do(ctx context.Context, about string, op *operation) (err error) {
	op.result = make(chan error, 1)
	if w.telemetry != nil {
		measured := w.telemetry.StartOperation(ctx, systemName(w.database), operationBatch)
		defer func() { measured.End(op.batch, err) }()
	}
	select {
	case w.lane(about) <- op:
	case <-w.closing:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	giveUp := ctx.Done()
	for {
		select {
		case err := <-op.result:
			return fault(err)
		case <-giveUp:
			if op.taken.CompareAndSwap(false, true) {
				return ctx.Err()
			}
			giveUp = nil
		case <-w.stopped:
			select {
			case err := <-op.result:
				return fault(err)
			default:
				return errClosed
			}
		}
	}
}

// close runs what is queued and stops.
func (w *writer) close() {
	close(w.closing)
	<-w.stopped
}

func (w *writer) run(lane chan *operation) {
	batch := make([]*operation, 0, maxBatch)
	add := func(op *operation) {
		if op.taken.CompareAndSwap(false, true) {
			batch = append(batch, op)
		}
	}
	for {
		batch = batch[:0]
		select {
		case op := <-lane:
			add(op)
		case <-w.closing:
			select {
			case op := <-lane:
				add(op)
			default:
				return
			}
		}
		// Callers that just got their results may call again at once: yield, for a fuller batch.
		runtime.Gosched()
		for len(batch) < maxBatch {
			select {
			case op := <-lane:
				add(op)
				continue
			default:
			}
			break
		}
		w.commitInOrder(batch)
		clear(batch)
	}
}

// commitInOrder commits a batch. If other nodes write, too, operations that remove tickets run in
// a separate transaction: it locks tickets in order, and must not hold the locks of tickets that
// were spent before.
func (w *writer) commitInOrder(batch []*operation) {
	if len(batch) == 0 {
		return
	}
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

// stage returns 1 for an operation that removes tickets and 0 for any other.
func (op *operation) stage() int {
	return min(len(op.remove)+len(op.removeAll), 1)
}

// commit runs a batch. If the batch fails, it runs the operations one at a time, or only those that
// failed, so that only the caller whose operation fails gets an error; this needs no savepoints. If
// the batch waited too long for a lock, it is not known for which operation, and each continues
// outside the lane.
func (w *writer) commit(batch []*operation) {
	errs, err := w.attempt(batch, laneWait)
	switch {
	case err == nil:
		for i, op := range batch {
			op.result <- errs[i]
		}
	case w.database.locked(err):
		for _, op := range batch {
			w.detour(op)
		}
	case len(batch) > 1 && errors.Is(err, errHalfDone):
		w.commitApart(batch, errs)
	case len(batch) > 1 && w.database.refused(err):
		for _, op := range batch {
			w.commitOne(op)
		}
	case len(batch) == 1 && w.database.refused(err):
		op := batch[0]
		op.result <- w.retryOne(op, errs, err, laneWait)
	default:
		for _, op := range batch {
			op.result <- err
		}
	}
}

// commitApart runs the operations of a batch that did not fail together, and then the others one at a
// time: a caller that often fails half-way, such as one that redeems a code twice at once, costs the
// other callers one more attempt, not a transaction each.
func (w *writer) commitApart(batch []*operation, errs []error) {
	var good, failed []*operation
	for i, op := range batch {
		if errs[i] == nil {
			good = append(good, op)
		} else {
			failed = append(failed, op)
		}
	}
	if len(failed) > 0 && len(good) > 0 {
		w.commit(good)
	} else {
		failed = batch
	}
	for _, op := range failed {
		w.commitOne(op)
	}
}

func (w *writer) commitOne(op *operation) {
	errs, err := w.attempt([]*operation{op}, laneWait)
	if w.database.locked(err) {
		w.detour(op)
		return
	}
	op.result <- w.retryOne(op, errs, err, laneWait)
}

// detour runs an operation outside the lanes.
func (w *writer) detour(op *operation) {
	select {
	case w.detours <- struct{}{}:
	default:
		// An operation that needs no locked row succeeds at once; any other fails.
		errs, err := w.attempt([]*operation{op}, time.Millisecond)
		if w.database.locked(err) {
			err = errors.Join(errLocked, err)
		}
		op.result <- w.retryOne(op, errs, err, time.Millisecond)
		return
	}
	w.working.Go(func() {
		defer func() { <-w.detours }()
		errs, err := w.attempt([]*operation{op}, detourWait)
		op.result <- w.retryOne(op, errs, err, detourWait)
	})
}

// retryOne returns the result of an operation that ran alone, and repeats it a few times if the
// database requires that (PostgreSQL: after a deadlock).
func (w *writer) retryOne(op *operation, errs []error, err error, lockWait time.Duration) error {
	for try := 0; try < maxRetries && err != nil && w.database.retryable(err); try++ {
		backOff(try)
		errs, err = w.attempt([]*operation{op}, lockWait)
	}
	if err != nil && !errors.Is(err, errHalfDone) {
		return err
	}
	return errs[0]
}

// backOff waits for a short random time, longer with each attempt.
func backOff(try int) {
	time.Sleep(time.Duration(1+rand.IntN(10<<min(try, maxBackOff))) * time.Millisecond)
}
