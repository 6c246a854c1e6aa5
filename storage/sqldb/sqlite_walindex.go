package sqldb

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	sqlite3 "modernc.org/sqlite/lib"
)

// walVersion is the header of the index of a write-ahead log. Each commit changes it, whichever process
// commits (https://www.sqlite.org/walformat.html, section 2.2).
type walVersion [12]uint32

// The words of a walVersion that are used here.
const (
	walChange      = 2 // counts commits
	walInitialized = 3 // also has the page size
)

// next reports whether w is the version after exactly one commit.
func (v *walVersion) next(w *walVersion) bool { return w[walChange] == v[walChange]+1 }

// walIndex reads the version of a SQLite database from the memory that all connections to it share.
// SQLite itself compares the same bytes to decide whether the pages in its cache are current.
type walIndex struct {
	tls *libc.TLS
	db  uintptr
	// header has two copies. A commit writes the second one and then the first, after its rows are
	// durable and visible.
	header *[2]walVersion
}

// openWALIndex opens a connection of its own, because the memory is mapped as long as it is open.
// It returns an error if the database has no write-ahead log.
func openWALIndex(uri string) (_ *walIndex, err error) {
	w := &walIndex{tls: libc.NewTLS()}
	defer func() {
		if err != nil {
			_ = w.close()
		}
	}()
	name, err := libc.CString(uri)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(w.tls, name)
	const pointer = types.Size_t(unsafe.Sizeof(uintptr(0)))
	result := libc.Xcalloc(w.tls, 1, pointer)
	if result == 0 {
		return nil, errors.New("no memory")
	}
	defer libc.Xfree(w.tls, result)
	code := sqlite3.Xsqlite3_open_v2(w.tls, name, result, sqlite3.SQLITE_OPEN_READWRITE|sqlite3.SQLITE_OPEN_URI|sqlite3.SQLITE_OPEN_NOMUTEX, 0)
	w.db = *(*uintptr)(foreign(result))
	if code != sqlite3.SQLITE_OK {
		return nil, fmt.Errorf("open: SQLite result %d", code)
	}
	sqlite3.Xsqlite3_busy_timeout(w.tls, w.db, int32(sqliteBusyTimeout.Milliseconds()))
	if mode, err := w.journalMode(); err != nil || mode != "wal" {
		return nil, errors.Join(fmt.Errorf("the journal mode is %q", mode), err)
	}
	main, err := libc.CString("main")
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(w.tls, main)
	if code := sqlite3.Xsqlite3_file_control(w.tls, w.db, main, sqlite3.SQLITE_FCNTL_FILE_POINTER, result); code != sqlite3.SQLITE_OK {
		return nil, fmt.Errorf("find the file: SQLite result %d", code)
	}
	file := *(*uintptr)(foreign(result))
	methods := (*sqlite3.Tsqlite3_io_methods)(foreign((*sqlite3.Tsqlite3_file)(foreign(file)).FpMethods))
	if methods.FiVersion < 2 || methods.FxShmMap == 0 {
		return nil, errors.New("the file system has no shared memory")
	}
	shmMap := *(*func(tls *libc.TLS, file uintptr, region, size, extend int32, mapped uintptr) int32)(unsafe.Pointer(&struct{ uintptr }{methods.FxShmMap}))
	*(*uintptr)(foreign(result)) = 0
	const regionSize = 32 << 10
	if code := shmMap(w.tls, file, 0, regionSize, 0, result); code != sqlite3.SQLITE_OK {
		return nil, fmt.Errorf("map the index of the log: SQLite result %d", code)
	}
	mapped := *(*uintptr)(foreign(result))
	if mapped == 0 {
		return nil, errors.New("the index of the log does not exist")
	}
	w.header = (*[2]walVersion)(foreign(mapped))
	return w, nil
}

// foreign returns a pointer to memory of SQLite, which the garbage collector does not know.
func foreign(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }

// journalMode reads from the database, so that SQLite opens the log.
func (w *walIndex) journalMode() (mode string, err error) {
	for _, query := range []string{"SELECT count(*) FROM sqlite_master", "PRAGMA journal_mode"} {
		if mode, err = w.text(query); err != nil {
			return "", err
		}
	}
	return mode, nil
}

// text returns the first column of the first row of a query.
func (w *walIndex) text(query string) (string, error) {
	text, err := libc.CString(query)
	if err != nil {
		return "", err
	}
	defer libc.Xfree(w.tls, text)
	result := libc.Xcalloc(w.tls, 1, types.Size_t(unsafe.Sizeof(uintptr(0))))
	if result == 0 {
		return "", errors.New("no memory")
	}
	defer libc.Xfree(w.tls, result)
	if code := sqlite3.Xsqlite3_prepare_v2(w.tls, w.db, text, -1, result, 0); code != sqlite3.SQLITE_OK {
		return "", fmt.Errorf("%s: SQLite result %d", query, code)
	}
	stmt := *(*uintptr)(foreign(result))
	defer sqlite3.Xsqlite3_finalize(w.tls, stmt)
	if code := sqlite3.Xsqlite3_step(w.tls, stmt); code != sqlite3.SQLITE_ROW {
		return "", fmt.Errorf("%s: SQLite result %d", query, code)
	}
	return libc.GoString(sqlite3.Xsqlite3_column_text(w.tls, stmt, 0)), nil
}

// version returns the version of the database at this moment. ok is false while a commit is writing it.
func (w *walIndex) version() (v walVersion, ok bool) {
	for i := range v {
		v[i] = atomic.LoadUint32(&w.header[0][i])
	}
	for i := range v {
		if atomic.LoadUint32(&w.header[1][i]) != v[i] {
			return v, false
		}
	}
	return v, v[walInitialized] != 0
}

func (w *walIndex) close() error {
	defer w.tls.Close()
	if w.db == 0 {
		return nil
	}
	if code := sqlite3.Xsqlite3_close(w.tls, w.db); code != sqlite3.SQLITE_OK {
		return fmt.Errorf("close database: SQLite result %d", code)
	}
	return nil
}
