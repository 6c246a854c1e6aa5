package sqldb

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	driversqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// BackUp copies the SQLite database at path to a new file, which only its owner can read. Servers may be
// using the database: the copy is what was committed at one moment, and writes do not wait for it.
// progress, if it is not nil, is called every second with the bytes that are written and the size of the
// database, of which the copy may need less. The copy has everything but the master key.
//
// If BackUp returns no error, the file is on disk. Otherwise there is no file.
func BackUp(ctx context.Context, path, to string, progress func(written, size int64)) (err error) {
	size, err := databaseSize(path)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	partial := to + ".partial"
	// VACUUM INTO accepts an empty file, which has the mode already.
	file, err := os.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("back up: %s exists: another backup is running, or one was interrupted; then delete the file", partial)
	}
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(partial))
		}
	}()
	defer file.Close()
	db, err := openFile(path)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	defer db.Close()
	stop := report(partial, size, progress)
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, partial)
	stop()
	if err != nil {
		return fmt.Errorf("back up: copy the database: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if err := PutInPlace(partial, to); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

// CheckBackup returns an error unless a file is a complete SQLite database of Valetkey.
func CheckBackup(ctx context.Context, path string) error {
	if err := checkContent(ctx, path); err != nil {
		return err
	}
	// SQLite has merged the log of a server that crashed, but not that of a running one.
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s is a database in use, not a backup: make one with valetkey backup", path), err)
	}
	return nil
}

func checkContent(ctx context.Context, path string) error {
	if err := checkHeader(path); err != nil {
		return err
	}
	db, err := openFile(path, "query_only(1)")
	if err != nil {
		return err
	}
	defer db.Close()
	var result string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&result); err != nil {
		return fmt.Errorf("%s is damaged or incomplete: %w", path, err)
	}
	if result != "ok" {
		return fmt.Errorf("%s is damaged or incomplete: %s", path, result)
	}
	var tables int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE name IN ('clients', 'users', 'keys')`).Scan(&tables); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if tables != 3 {
		return fmt.Errorf("%s is not a database of Valetkey", path)
	}
	return nil
}

// Release makes the SQLite database at path one file without a write-ahead log. It returns an error if
// another program, such as a server, has the database open.
func Release(ctx context.Context, path string) error {
	db, err := openFile(path, "busy_timeout(500)")
	if err != nil {
		return err
	}
	defer db.Close()
	var mode string
	// SQLite leaves WAL mode only on a connection that is the only one.
	if err := db.QueryRowContext(ctx, `PRAGMA journal_mode(DELETE)`).Scan(&mode); damaged(err) {
		return fmt.Errorf("%s is damaged: %w", path, err)
	} else if err != nil || mode != "delete" {
		return errors.Join(fmt.Errorf("%s is in use: stop the server first, and Litestream if it runs", path), err)
	}
	return nil
}

// logs are the suffixes of the files that SQLite keeps next to a database. It applies a log that it finds
// there to any database.
var logs = []string{"-wal", "-journal", "-shm"}

// FirstFile returns the path of the SQLite database if it exists, or else of a log that a database left
// there, or "".
func FirstFile(path string) (string, error) {
	for _, suffix := range append([]string{""}, logs...) {
		_, err := os.Lstat(path + suffix)
		switch {
		case err == nil:
			return path + suffix, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
	}
	return "", nil
}

// Keep gives the SQLite database at path a second name, so that it can be replaced. It merges the log of
// the database. If the database is damaged or missing, it moves the log to the second name.
// It returns an error if another program, such as a server, has the database open.
//
// It must not be called in a process that has the database open.
func Keep(ctx context.Context, path, kept string) error {
	switch err := Release(ctx, path); {
	case errors.Is(err, fs.ErrNotExist), damaged(err):
		for _, suffix := range []string{"", "-shm"} {
			if used, err := locked(path + suffix); err != nil || used {
				return errors.Join(fmt.Errorf("%s is in use: stop the server first, and Litestream if it runs", path), err)
			}
		}
	case err != nil:
		return err
	}
	if err := os.Link(path, kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, suffix := range logs {
		if err := PutInPlace(path+suffix, kept+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncDirectory(path)
}

// damaged reports whether SQLite cannot read a database.
func damaged(err error) bool {
	var e *driversqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB)
}

// PutInPlace moves a file to a name that no other has, and syncs the directory.
func PutInPlace(file, path string) error {
	if err := os.Link(file, path); err != nil { // unlike a rename, it replaces nothing
		return err
	}
	if err := os.Remove(file); err != nil {
		return err
	}
	return syncDirectory(path)
}

// Replace puts a file in the place of a database, and syncs the directory.
func Replace(file, path string) error {
	if err := os.Rename(file, path); err != nil {
		return err
	}
	return syncDirectory(path)
}

// CopyFile copies a file to a new one, which only its owner can read, and syncs it.
func CopyFile(from, to string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	file, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(file, source); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

func openFile(path string, pragmas ...string) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil { // SQLite would create it
		return nil, err
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path}).String()+"?"+url.Values{"_pragma": append([]string{"busy_timeout(10000)"}, pragmas...)}.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// databaseSize returns the bytes of a database and its write-ahead log.
func databaseSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	size := info.Size()
	if wal, err := os.Stat(path + "-wal"); err == nil {
		size += wal.Size()
	}
	return size, nil
}

var sqliteHeader = []byte("SQLite format 3\x00")

func checkHeader(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	header := make([]byte, len(sqliteHeader))
	if _, err := io.ReadFull(file, header); err != nil || !bytes.Equal(header, sqliteHeader) {
		return fmt.Errorf("%s is not an SQLite database", path)
	}
	return nil
}

// report calls progress every second with the size of a file, until stop is called.
func report(path string, size int64, progress func(written, size int64)) (stop func()) {
	if progress == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				if info, err := os.Stat(path); err == nil {
					progress(info.Size(), size)
				}
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

func syncDirectory(path string) error {
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer directory.Close()
	return directory.Sync()
}
