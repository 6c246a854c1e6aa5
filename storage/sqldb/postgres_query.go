package sqldb

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/valetkey/valetkey/storage"
)

// binaryQuery runs a frequent query without the conversions of pgx. The
// parameters and the columns are text, bytes and 64-bit integers in the binary format. As
// everywhere, the statement is prepared, unless there is a pooler.
func (d *postgreSQL) binaryQuery(ctx context.Context, conn *pgx.Conn, query string, args []any) (*pgconn.ResultReader, error) {
	var s sender
	if err := s.arguments(args); err != nil {
		return nil, err
	}
	if d.pooled.Load() {
		return conn.PgConn().ExecParams(ctx, query, s.values, nil, binaryFormat, binaryFormat), nil
	}
	description, err := conn.Prepare(ctx, query, query)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	return conn.PgConn().ExecStatement(ctx, description, s.values, binaryFormat, binaryFormat), nil
}

// arguments adds the parameters of a query.
func (s *sender) arguments(args []any) error {
	if s.buffer == nil {
		s.values, s.buffer = make([][]byte, 0, len(args)), make([]byte, 0, 48*len(args))
	}
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			s.text(arg)
		case []byte:
			s.bytes(arg)
		case int64:
			s.int64(arg)
		case int:
			s.int64(int64(arg))
		default:
			return fmt.Errorf("bind argument %d: unexpected type %T", i+1, arg)
		}
	}
	return nil
}

// postgreSQLRow has the columns of a row in the binary format: text, bytes and 64-bit integers. They
// are valid until the next row.
type postgreSQLRow [][]byte

// Scan implements row.
func (r postgreSQLRow) Scan(dest ...any) error {
	if len(dest) != len(r) {
		return fmt.Errorf("scan %d columns into %d values", len(r), len(dest))
	}
	for i, dest := range dest {
		switch dest := dest.(type) {
		case *string:
			*dest = string(r[i])
		case *sql.NullString:
			*dest = sql.NullString{String: string(r[i]), Valid: r[i] != nil}
		case *int64:
			if len(r[i]) != 8 {
				return fmt.Errorf("scan column %d: %d bytes are not a 64-bit integer", i, len(r[i]))
			}
			*dest = int64(binary.BigEndian.Uint64(r[i]))
		default:
			return fmt.Errorf("scan column %d: into a %T", i, dest)
		}
	}
	return nil
}

// ticketOfValues reads ticketColumns in the binary format. The values are valid until the next row.
func ticketOfValues(values [][]byte) (t storage.Ticket, err error) {
	if len(values) != 7 || len(values[5]) != 8 || len(values[6]) != 8 {
		return t, fmt.Errorf("a ticket has %d columns, or times that are not integers", len(values))
	}
	row := ticketRow{
		kind: string(values[0]), id: values[1], grant: string(values[2]), family: string(values[3]), data: values[4],
		expires: int64(binary.BigEndian.Uint64(values[5])), spent: int64(binary.BigEndian.Uint64(values[6])),
	}
	return row.ticket()
}
