package sqldb

import (
	"sync"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	sqlite3 "modernc.org/sqlite/lib"
)

// The database pages that a connection keeps in memory. A reader drops its pages when another
// connection has committed, so more would not help while there are writes. The operating system
// keeps the file in memory, too.
const (
	batchPages  = 300 // a batch changes a few pages for each operation
	recordPages = 50  // of each connection of database/sql
	readerPages = 48

	poolPages = batchPages + 2*recordPages + sqliteConnections*readerPages + 30
	// poolSlot is a page of 4096 bytes and what SQLite adds to it, which is less than 300 bytes. If
	// a later version adds more, SQLite allocates every page, as without the pool.
	poolSlot = 4096 + 304
)

// limitPageCache gives SQLite one block of memory for its pages (SQLITE_CONFIG_PAGECACHE). Without
// it, a page takes 8192 bytes, because libc's allocator rounds up to a power of two.
//
// If SQLite is already in use in this process, its settings can no longer change. It then
// allocates each page, which only needs more memory.
var limitPageCache = sync.OnceFunc(func() {
	tls := libc.NewTLS()
	defer tls.Close()
	pool := libc.Xmalloc(tls, types.Size_t(poolPages*poolSlot))
	if pool == 0 {
		return
	}
	args := libc.NewVaList(pool, int32(poolSlot), int32(poolPages))
	defer libc.Xfree(tls, args)
	if sqlite3.Xsqlite3_config(tls, sqlite3.SQLITE_CONFIG_PAGECACHE, args) != sqlite3.SQLITE_OK {
		libc.Xfree(tls, pool)
	}
})
