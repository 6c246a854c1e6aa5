package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	driversqlite "modernc.org/sqlite"
	zombiezen "zombiezen.com/go/sqlite"

	"github.com/valetkey/valetkey/storage"
)

// fault marks an error as storage.ErrUnavailable if the database is the reason: it cannot be
// reached, does not respond in time, or is full. Any other error is a fault in a record or in
// this program.
func fault(err error) error {
	if err == nil || errors.Is(err, storage.ErrUnavailable) || !unavailable(err) {
		return err
	}
	return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
}

func unavailable(err error) bool {
	var serverError *pgconn.PgError
	if errors.As(err, &serverError) {
		return unavailableState(serverError.Code)
	}
	if code := sqliteCode(err); code != zombiezen.ResultError {
		switch code {
		case zombiezen.ResultBusy, zombiezen.ResultLocked, zombiezen.ResultFull, zombiezen.ResultIOErr, zombiezen.ResultCantOpen,
			zombiezen.ResultReadOnly, zombiezen.ResultNoMem, zombiezen.ResultInterrupt:
			return true
		}
		return false
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, errClosed)
}

// sqliteCode returns SQLite's primary result code of an error of either driver, and
// ResultError for any other error.
func sqliteCode(err error) zombiezen.ResultCode {
	if lite, ok := errors.AsType[*driversqlite.Error](err); ok {
		return zombiezen.ResultCode(lite.Code()).ToPrimary()
	}
	return zombiezen.ErrCode(err).ToPrimary()
}

// unavailableState reports whether an error code of PostgreSQL (appendix A) means that the same
// operation may succeed later.
func unavailableState(code string) bool {
	switch code {
	case "25006", // read_only_sql_transaction: a standby
		"26000", "42P05", // prepared statements behind a pooler that was just added
		"55P03", // lock_not_available
		"55000": // object_not_in_prerequisite_state: a standby's WAL
		return true
	}
	if len(code) != 5 {
		return false
	}
	switch code[:2] {
	case "08", // connection exception
		"40", // serialization failure, deadlock
		"53", // insufficient resources, disk full
		"57", // operator intervention: shutdown, starting up, canceled
		"58": // system error
		return true
	}
	return false
}
