package sqldb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
)

// sharedReads collects the queries of concurrent callers that find rows by their keys, and sends them
// together: one round trip on one connection (docs/decisions/0034). A caller that finds nobody else
// sends its query itself, and so does one whose query fails in the company of others.
//
// The server runs the queries one after the other, each with a snapshot that is taken after its
// caller has called, as if it were sent alone.
type sharedReads struct {
	mu      sync.Mutex
	waiting []*sharedRead
	running int // batches
}

const (
	// maxReadBatches is how many batches of reads a node runs at the same time. More mean smaller
	// batches, and more CPU time for each read.
	maxReadBatches = 2
	maxReadBatch   = 64
)

// sharedRead is one caller's query.
type sharedRead struct {
	each   func(postgreSQLRow) error
	query  string
	args   []any
	result chan error
	// taken is set by the batch that runs the query, or by the caller when it gives up before that.
	taken atomic.Bool
}

// errAlone means that a query has no result yet, and must be sent without others.
var errAlone = errors.New("the query was not run")

// byKey is rows for queries that are fast.
func (d *postgreSQL) byKey(ctx context.Context, each func(postgreSQLRow) error, query string, args ...any) error {
	g := &d.reads
	g.mu.Lock()
	if g.running < maxReadBatches && len(g.waiting) == 0 {
		g.running++
		g.mu.Unlock()
		defer d.nextReads()
		return d.rows(ctx, each, query, args...)
	}
	r := &sharedRead{each: each, query: query, args: args, result: make(chan error, 1)}
	g.waiting = append(g.waiting, r)
	g.mu.Unlock()
	var err error
	select {
	case err = <-r.result:
	case <-ctx.Done():
		if r.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		err = <-r.result // known soon: a batch has a deadline
	}
	if errors.Is(err, errAlone) {
		return d.rows(ctx, each, query, args...)
	}
	return err
}

// nextReads is called at the end of a batch, and runs the queries that wait by then.
func (d *postgreSQL) nextReads() {
	g := &d.reads
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.running--
		return
	}
	go func() {
		defer d.nextReads()
		runtime.Gosched() // callers that just got their results may call again at once
		d.readTogether(g.take())
	}()
}

// take returns the queries of the next batch.
func (g *sharedReads) take() (batch []*sharedRead) {
	g.mu.Lock()
	defer g.mu.Unlock()
	taken := 0
	for ; taken < len(g.waiting) && len(batch) < maxReadBatch; taken++ {
		if r := g.waiting[taken]; r.taken.CompareAndSwap(false, true) {
			batch = append(batch, r)
		}
	}
	left := copy(g.waiting, g.waiting[taken:])
	clear(g.waiting[left:])
	g.waiting = g.waiting[:left]
	return batch
}

// readTogether runs a batch. A query that the server refuses also ends those after it; they are sent
// again alone, so that only the caller of the refused one gets an error.
func (d *postgreSQL) readTogether(batch []*sharedRead) {
	done, err := 0, error(nil)
	if len(batch) > 0 {
		done, err = d.tryReadTogether(batch)
	}
	var serverError *pgconn.PgError
	if errors.As(err, &serverError) && serverError.Severity == "ERROR" {
		err = errAlone
	}
	for _, r := range batch[done:] {
		r.result <- d.noticed(err)
	}
}

// tryReadTogether returns how many queries have their results.
func (d *postgreSQL) tryReadTogether(batch []*sharedRead) (done int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	acquired, err := d.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer acquired.Release()
	conn := acquired.Conn()
	statements := make([]*pgconn.StatementDescription, len(batch)) // nil behind a pooler
	for i, r := range batch {
		if d.pooled.Load() {
			break
		}
		if statements[i], err = conn.Prepare(ctx, r.query, r.query); err != nil {
			return 0, fmt.Errorf("prepare: %w", err)
		}
	}
	p := conn.PgConn().StartPipeline(ctx)
	if err := sendReads(p, batch, statements); err != nil {
		return 0, errors.Join(err, p.Close())
	}
	for ; err == nil && done < len(batch); done++ {
		if err = batch[done].receive(p); err != nil {
			break
		}
	}
	return done, cmp.Or(err, p.Close())
}

func sendReads(p *pgconn.Pipeline, batch []*sharedRead, statements []*pgconn.StatementDescription) error {
	var s sender
	for i, r := range batch {
		if err := s.arguments(r.args); err != nil {
			return err
		}
		if statements[i] != nil {
			p.SendQueryStatement(statements[i], s.values, binaryFormat, binaryFormat)
		} else {
			p.SendQueryParams(r.query, s.values, nil, binaryFormat, binaryFormat)
		}
		s.values, s.buffer = s.values[:0], s.buffer[:0]
	}
	return p.Sync()
}

// receive reads the result of a query and passes it to its caller. An error means that it has none.
func (r *sharedRead) receive(p *pgconn.Pipeline) error {
	results, err := p.GetResults()
	if err != nil {
		return err
	}
	rows, ok := results.(*pgconn.ResultReader)
	if !ok {
		return fmt.Errorf("unexpected %T", results)
	}
	var failed error
	for failed == nil && rows.NextRow() {
		failed = r.each(rows.Values())
	}
	if _, err := rows.Close(); err != nil {
		return err
	}
	r.result <- failed
	return nil
}
