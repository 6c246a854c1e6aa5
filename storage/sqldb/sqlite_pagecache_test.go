package sqldb

import (
	"testing"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite ignores the pool without an error if a slot is too small for its pages, or if it was
// configured too late.
func TestDatabasePagesAreInThePool(t *testing.T) {
	openTest(t, sqliteURL(t))
	tls := libc.NewTLS()
	defer tls.Close()
	values := libc.Xcalloc(tls, 2, 4)
	defer libc.Xfree(tls, values)
	const reset = 0
	if code := sqlite3.Xsqlite3_status(tls, sqlite3.SQLITE_STATUS_PAGECACHE_USED, values, values+4, reset); code != sqlite3.SQLITE_OK {
		t.Fatalf("sqlite3_status returned %d", code)
	}
	if most := libc.AtomicLoadNUint32(values+4, 0); most == 0 {
		t.Error("no page of a database was in the pool")
	}
}
