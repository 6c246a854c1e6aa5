package sqldb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/valetkey/valetkey/storage"
)

// The statements of a batch that is sent in one round trip. The server runs the statements that
// follow, and the commit, without waiting for the node, which could react to the result of an
// earlier one. So a statement that must change a row fails if it changes none, and with it the
// transaction. PostgreSQL has no better expression that fails on demand than a division by zero.
const (
	beginTransaction  = `BEGIN ISOLATION LEVEL READ COMMITTED`
	commitTransaction = `COMMIT`

	orFail = ` RETURNING 1) SELECT 1 / count(*) FROM changed`

	putTicketOrFail   = `WITH changed AS (` + putTicket + orFail
	spendTicketOrFail = `WITH changed AS (` + spendTicket + orFail

	divisionByZero = "22012"
)

// atOnce sends BEGIN, all statements and COMMIT together. The server sends the ID of the
// transaction before it runs the changes, so that the node usually knows the ID if the connection
// is lost later, and the outcome can be looked up (docs/decisions/0009). If it does not, the
// outcome is unknown, as if the server could not be reached.
//
// The queries of findings follow COMMIT. If one fails, the transaction has taken effect all the same,
// and the finding is not done.
func (d *postgreSQL) atOnce(ctx context.Context, lockWait time.Duration, changes []*change, findings []*finding) error {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return d.noticed(err)
	}
	defer conn.Release()
	sender, err := d.newSender(ctx, conn.Conn())
	if err != nil {
		return d.noticed(err)
	}
	sent, began, err := sender.sendAll(ctx, lockWait, changes, findings)
	var serverError *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &serverError) && serverError.Severity == "ERROR":
		// It did not take effect. After a failed COMMIT there is no transaction.
		if conn.Conn().PgConn().TxStatus() != 'I' {
			_, rollback := conn.Exec(ctx, "ROLLBACK")
			err = errors.Join(err, rollback)
		}
		if serverError.Code == divisionByZero {
			return errHalfDone
		}
		return d.noticed(err)
	case !sent:
		return d.noticed(err)
	default:
		return &commitError{err: d.noticed(err), transaction: began}
	}
}

// whyNotSpent returns the error of an operation whose only change, to spend a ticket, changed
// nothing. It looks later, but before the caller gets its result.
func (d *postgreSQL) whyNotSpent(ctx context.Context, c *change) error {
	query := c.spentBefore()
	spent, err := collect(ctx, d.db, func(r row) (storage.Key, error) { return scanKey(r) }, query.query, query.args...)
	switch {
	case err != nil:
		return fmt.Errorf("look for a spent ticket: %w", err)
	case len(spent) > 0:
		return storage.ErrSpent
	default:
		return storage.ErrNotFound
	}
}

// sender sends statements without the conversions of pgx, which cost more than the rest.
type sender struct {
	conn *pgx.Conn
	// prepared are the statements of the connection; nil behind a pooler.
	prepared map[string]*pgconn.StatementDescription
	values   [][]byte
	buffer   []byte
}

// The statements of sender, with the types of their parameters.
var senderStatements = func() map[string][]uint32 {
	put := []uint32{pgtype.TextOID, pgtype.ByteaOID, pgtype.TextOID, pgtype.TextOID, pgtype.ByteaOID, pgtype.Int8OID, pgtype.Int8OID, pgtype.Int8OID}
	spend := []uint32{pgtype.Int8OID, pgtype.TextOID, pgtype.ByteaOID, pgtype.Int8OID}
	return map[string][]uint32{
		beginTransaction: nil, beginBatch: {pgtype.TextOID}, commitTransaction: nil,
		findGrantAndTicket: {pgtype.TextOID, pgtype.ByteaOID, pgtype.Int8OID, pgtype.TextOID},
		putTicket:          put, putTicketOrFail: put, spendTicket: spend, spendTicketOrFail: spend, setExpires: spend,
	}
}()

// newSender prepares the statements if the connection has not prepared them yet.
func (d *postgreSQL) newSender(ctx context.Context, conn *pgx.Conn) (*sender, error) {
	s := &sender{conn: conn}
	if d.pooled.Load() {
		return s, nil
	}
	const kept = "prepared statements of sender"
	data := conn.PgConn().CustomData()
	if s.prepared, _ = data[kept].(map[string]*pgconn.StatementDescription); s.prepared != nil {
		return s, nil
	}
	s.prepared = make(map[string]*pgconn.StatementDescription, len(senderStatements))
	for query := range senderStatements {
		description, err := conn.Prepare(ctx, query, query)
		if err != nil {
			return nil, fmt.Errorf("prepare: %w", err)
		}
		s.prepared[query] = description
	}
	data[kept] = s.prepared
	return s, nil
}

// binaryFormat is the format of all parameters.
var binaryFormat = []int16{pgx.BinaryFormatCode}

func (s *sender) send(p *pgconn.Pipeline, query string) { s.sendFor(p, query, nil) }

// sendFor is send with the formats of the result.
func (s *sender) sendFor(p *pgconn.Pipeline, query string, result []int16) {
	if description := s.prepared[query]; description != nil {
		p.SendQueryStatement(description, s.values, binaryFormat, result)
	} else {
		p.SendQueryParams(query, s.values, senderStatements[query], binaryFormat, result)
	}
	s.values, s.buffer = s.values[:0], s.buffer[:0]
}

// text and the other methods add a parameter.
func (s *sender) text(value string) {
	from := len(s.buffer)
	s.buffer = append(s.buffer, value...)
	s.add(from)
}
func (s *sender) bytes(value []byte) {
	from := len(s.buffer)
	s.buffer = append(s.buffer, value...)
	s.add(from)
}
func (s *sender) int64(value int64) {
	from := len(s.buffer)
	s.buffer = binary.BigEndian.AppendUint64(s.buffer, uint64(value))
	s.add(from)
}

func (s *sender) add(from int) {
	s.values = append(s.values, s.buffer[from:len(s.buffer):len(s.buffer)])
}

// sendChange sends a change. If required is set, the transaction fails if the change changes nothing.
func (s *sender) sendChange(p *pgconn.Pipeline, c *change, required bool) {
	t := &c.ticket
	switch c.verb {
	case putting:
		s.text(string(t.Kind))
		s.bytes(t.ID[:])
		s.text(t.Grant)
		s.text(t.Family)
		s.bytes(t.Data)
		s.int64(milliseconds(t.Expires))
		s.int64(milliseconds(t.Spent))
		s.int64(c.at)
	case spending:
		s.int64(c.at)
		s.text(string(t.Kind))
		s.bytes(t.ID[:])
		s.int64(c.at)
	case settingExpires:
		s.int64(milliseconds(t.Expires))
		s.text(string(t.Kind))
		s.bytes(t.ID[:])
		s.int64(c.at)
	}
	query := c.query()
	if required {
		switch c.verb {
		case putting:
			query = putTicketOrFail
		case spending:
			query = spendTicketOrFail
		}
	}
	s.send(p, query)
}

// sendSome runs changes in a transaction that continues, and begins it if begun is false.
func (s *sender) sendSome(ctx context.Context, lockWait time.Duration, begun *bool, began *transaction, changes []*change) error {
	p := s.conn.PgConn().StartPipeline(ctx)
	begins := !*begun
	if begins {
		s.begin(p, lockWait)
	}
	for _, c := range changes {
		s.sendChange(p, c, false)
	}
	err := p.Sync()
	if err == nil && begins {
		*begun = true
		*began, err = readBegin(p)
	}
	if err == nil {
		err = readChanges(p, changes)
	}
	if closed := p.Close(); err == nil {
		err = closed
	}
	return err
}

// sendAll runs a whole transaction. sent reports whether the commit may have reached the server.
func (s *sender) sendAll(ctx context.Context, lockWait time.Duration, changes []*change, findings []*finding) (sent bool, began transaction, err error) {
	p := s.conn.PgConn().StartPipeline(ctx)
	s.begin(p, lockWait)
	p.SendFlushRequest()
	for _, c := range changes {
		s.sendChange(p, c, c.together)
	}
	s.send(p, commitTransaction)
	for _, f := range findings {
		s.text(string(f.Key.Kind))
		s.bytes(f.Key.ID[:])
		s.int64(f.at)
		s.text(f.Grant)
		s.sendFor(p, findGrantAndTicket, binaryFormat)
	}
	if err := p.Sync(); err != nil {
		return !pgconn.SafeToRetry(err), began, errors.Join(err, p.Close())
	}
	began, err = readBegin(p)
	if err == nil {
		err = readChanges(p, changes)
	}
	if err == nil {
		var tag pgconn.CommandTag
		if tag, err = readResult(p); err == nil && tag.String() == "ROLLBACK" {
			err = errors.New("commit: the server rolled back")
		}
	}
	committed := err == nil
	if committed {
		readFindings(p, findings)
	}
	if closed := p.Close(); err == nil && !committed {
		err = closed
	}
	return true, began, err
}

// readFindings leaves the rest undone if one fails.
func readFindings(p *pgconn.Pipeline, findings []*finding) {
	for _, f := range findings {
		results, err := p.GetResults()
		if err != nil {
			return
		}
		rows, ok := results.(*pgconn.ResultReader)
		if !ok || f.read(rows) != nil {
			return
		}
	}
}

func (s *sender) begin(p *pgconn.Pipeline, lockWait time.Duration) {
	s.send(p, beginTransaction)
	s.text(strconv.FormatInt(lockWait.Milliseconds(), 10))
	s.send(p, beginBatch)
}

func readBegin(p *pgconn.Pipeline) (began transaction, err error) {
	if _, err := readResult(p); err != nil {
		return began, err
	}
	results, err := p.GetResults()
	if err != nil {
		return began, err
	}
	reader, ok := results.(*pgconn.ResultReader)
	if !ok {
		return began, fmt.Errorf("begin: unexpected %T", results)
	}
	if reader.NextRow() {
		values := reader.Values()
		began = transaction{id: string(values[1]), timeline: string(values[2])}
	}
	_, err = reader.Close()
	return began, err
}

func readChanges(p *pgconn.Pipeline, changes []*change) error {
	for _, c := range changes {
		tag, err := readResult(p)
		if err != nil {
			return err
		}
		c.done = tag.RowsAffected() == 1
	}
	return nil
}

func readResult(p *pgconn.Pipeline) (pgconn.CommandTag, error) {
	results, err := p.GetResults()
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	reader, ok := results.(*pgconn.ResultReader)
	if !ok {
		return pgconn.CommandTag{}, fmt.Errorf("unexpected %T", results)
	}
	return reader.Close()
}
