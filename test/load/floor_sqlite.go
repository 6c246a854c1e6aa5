package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"
)

// sqliteRows are in SQLite with synchronous=FULL. Like the server, it uses SQLite without
// database/sql (decision 0012), and readers have separate connections.
type sqliteRows struct {
	*group
	readers chan *sqlite.Conn
}

func openSQLiteRows(path string) (*sqliteRows, error) {
	open := func(pragmas ...string) (*sqlite.Conn, error) {
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
		if err != nil {
			return nil, err
		}
		for _, pragma := range pragmas {
			if err := execute(conn, "PRAGMA "+pragma); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
		}
		return conn, nil
	}
	writer, err := open("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 4000")
	if err != nil {
		return nil, err
	}
	if err := execute(writer, "CREATE TABLE rows (id BLOB PRIMARY KEY, data BLOB) WITHOUT ROWID"); err != nil {
		return nil, err
	}
	for i := range storedTokens {
		id := sha256.Sum256([]byte(storedToken(i)))
		data, err := storedClaims()
		if err != nil {
			return nil, err
		}
		if err := execute(writer, insertSQLite, id[:], data); err != nil {
			return nil, fmt.Errorf("insert: %w", err)
		}
	}
	r := &sqliteRows{readers: make(chan *sqlite.Conn, 4)}
	for range cap(r.readers) {
		reader, err := open("query_only = 1")
		if err != nil {
			return nil, err
		}
		r.readers <- reader
	}
	r.group = newGroup(1, func(_, count int) error { return commitSQLite(writer, count) })
	return r, nil
}

const insertSQLite = "INSERT INTO rows VALUES (?, ?)"

// execute runs a statement, which the connection keeps prepared. It ignores rows.
func execute(conn *sqlite.Conn, query string, args ...[]byte) error {
	stmt, err := conn.Prepare(query)
	if err != nil {
		return err
	}
	for i, arg := range args {
		stmt.BindBytes(i+1, arg)
	}
	if _, err := stmt.Step(); err != nil {
		return err
	}
	return stmt.Reset()
}

// find implements rows.
func (r *sqliteRows) find(ctx context.Context, token string) ([]byte, error) {
	id := sha256.Sum256([]byte(token))
	var conn *sqlite.Conn
	select {
	case conn = <-r.readers:
		defer func() { r.readers <- conn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	stmt, err := conn.Prepare("SELECT data FROM rows WHERE id = ?")
	if err != nil {
		return nil, fmt.Errorf("look up: %w", err)
	}
	stmt.BindBytes(1, id[:])
	found, err := stmt.Step()
	if err != nil || !found {
		return nil, errors.Join(errors.New("look up: the token was not found"), err)
	}
	data := make([]byte, stmt.ColumnLen(0))
	stmt.ColumnBytes(0, data)
	return data, stmt.Reset()
}

func commitSQLite(conn *sqlite.Conn, count int) error {
	if err := execute(conn, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	data := make([]byte, rowBytes)
	for range count {
		var id [32]byte
		rand.Read(id[:])
		if err := execute(conn, insertSQLite, id[:], data); err != nil {
			return fmt.Errorf("insert: %w", errors.Join(err, execute(conn, "ROLLBACK")))
		}
	}
	return execute(conn, "COMMIT")
}

// rowBytes is the size of a row that the floors add.
const rowBytes = 200
