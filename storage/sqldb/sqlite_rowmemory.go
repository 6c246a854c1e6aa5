package sqldb

import (
	"bytes"
	"sync"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	// rowMemoryBytes limits the memory. keptEach is an estimate of what a row takes beside its data.
	rowMemoryBytes = 2 << 20
	keptEach       = 400
	keptNothing    = 160 // for a key that has no ticket
)

// rowMemory keeps tickets and grants of a SQLite database that were read, together with the version of the
// database for which they are valid (decision 0049). It answers only if the database has that version now, so
// it never answers differently from the database.
//
// A commit of another process, or a transaction through database/sql, leads to another version, and the
// memory is emptied. A batch of this process knows the tickets that it changes: they are removed, and the
// others are valid for the next version, too.
//
// The nil *rowMemory keeps nothing.
type rowMemory struct {
	uri   string
	open  sync.Once
	index *walIndex // nil if there is no write-ahead log

	mu      sync.Mutex
	version walVersion
	// batch is set while a batch of this process may change the version.
	batch        bool
	newer, older keptRows // when the newer ones are too many, the older ones are dropped
}

type keptRows struct {
	tickets map[storage.Key]*keptTicket
	grants  map[grantOf]*record.Grant
	ids     map[string]struct{} // of grants
	bytes   int
}

// keptTicket is a ticket in memory. It never changes.
type keptTicket struct {
	found  bool
	ticket storage.Ticket
	at     int64 // if there is no live ticket: when, in milliseconds
}

// grantOf finds a grant.
type grantOf struct{ subject, clientID string }

// begin returns the version of the database before a read. ok is false if nothing can be kept.
func (m *rowMemory) begin() (v walVersion, ok bool) {
	if m == nil {
		return v, false
	}
	m.open.Do(func() { m.index, _ = openWALIndex(m.uri) }) // without it, every read is a query
	if m.index == nil {
		return v, false
	}
	return m.index.version()
}

// tickets returns the live tickets with some keys. ok is false if they must be read.
func (m *rowMemory) tickets(v *walVersion, at int64, keys []storage.Key) (found []storage.Ticket, ok bool) {
	var space [4]*keptTicket
	kept := space[:0]
	m.mu.Lock()
	for i := range keys {
		t := m.ticket(v, &keys[i])
		if t == nil || !t.found && at < t.at {
			m.mu.Unlock()
			return nil, false
		}
		kept = append(kept, t)
	}
	m.mu.Unlock()
	for _, t := range kept {
		if t.found && milliseconds(t.ticket.Expires) > at {
			found = append(found, t.copy())
		}
	}
	return found, true
}

// copy returns the ticket with its own Data, which a caller may change.
func (t *keptTicket) copy() storage.Ticket {
	ticket := t.ticket
	ticket.Data = bytes.Clone(ticket.Data)
	return ticket
}

// ticket returns what is known about a key; nil if nothing is. The caller holds m.mu.
func (m *rowMemory) ticket(v *walVersion, key *storage.Key) *keptTicket {
	if m.version != *v {
		return nil
	}
	if t := m.newer.tickets[*key]; t != nil {
		return t
	}
	return m.older.tickets[*key]
}

// grant returns a copy of a grant that is in memory; nil if it must be read.
func (m *rowMemory) grant(v *walVersion, of grantOf) *record.Grant {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.version != *v {
		return nil
	}
	g := m.newer.grants[of]
	if g == nil {
		g = m.older.grants[of]
	}
	if g == nil {
		return nil
	}
	return cloneGrant(g)
}

// current reports whether the database still has the version that it had before a read, and makes it the
// version of the memory. The caller holds m.mu.
func (m *rowMemory) current(v *walVersion) bool {
	if now, ok := m.index.version(); !ok || now != *v {
		return false
	}
	if m.version == *v {
		return true
	}
	if m.batch {
		return false // the batch has been committed, and decides what stays valid
	}
	m.clear()
	m.version = *v
	return true
}

// clear removes everything. The caller holds m.mu.
func (m *rowMemory) clear() { m.newer, m.older, m.version = keptRows{}, keptRows{}, walVersion{} }

// keepTickets keeps what a read of some keys has found, if the version of the database did not change
// meanwhile.
func (m *rowMemory) keepTickets(v *walVersion, at int64, keys []storage.Key, found []storage.Ticket) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.current(v) {
		return
	}
	for i := range keys {
		t, size := &keptTicket{at: at}, keptNothing
		for k := range found {
			if found[k].Key == keys[i] {
				t.found, t.ticket = true, found[k]
				t.ticket.Data = bytes.Clone(found[k].Data)
				t.ticket.Kind = keys[i].Kind // the same string for all
				size = keptEach + len(t.ticket.Data) + len(t.ticket.Grant) + len(t.ticket.Family)
			}
		}
		if m.room(size) {
			m.newer.tickets[keys[i]] = t
		}
	}
}

// keepGrant is keepTickets for a grant.
func (m *rowMemory) keepGrant(v *walVersion, g *record.Grant) {
	m.mu.Lock()
	defer m.mu.Unlock()
	size := 2*keptEach + len(g.Subject) + len(g.ClientID) + 2*len(g.ID)
	for _, list := range [][]string{g.Scope, g.Declined, g.Resources} {
		for _, s := range list {
			size += 16 + len(s)
		}
	}
	if m.current(v) && m.room(size) {
		m.newer.grants[grantOf{g.Subject, g.ClientID}], m.newer.ids[g.ID] = cloneGrant(g), struct{}{}
	}
}

// room makes room for some bytes. It returns false for what is too large. The caller holds m.mu.
func (m *rowMemory) room(size int) bool {
	const half = rowMemoryBytes / 2
	if size > half/8 {
		return false
	}
	if m.newer.tickets == nil || m.newer.bytes+size > half {
		m.older, m.newer = m.newer, keptRows{tickets: map[storage.Key]*keptTicket{}, grants: map[grantOf]*record.Grant{}, ids: map[string]struct{}{}}
	}
	m.newer.bytes += size
	return true
}

// batchMemory is what the memory knows about a batch of this process that runs.
type batchMemory struct {
	*rowMemory
	before  walVersion
	keys    []storage.Key
	changed bool // at least one row
	other   bool // the batch may also have changed other rows
}

// beginBatch is called by a transaction that excludes all others.
func (m *rowMemory) beginBatch() (b batchMemory) {
	before, ok := m.begin()
	if !ok {
		return b
	}
	b.rowMemory, b.before = m, before
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batch = true
	if m.version != b.before {
		m.clear()
		m.version = b.before
	}
	return b
}

// note is called with a statement of the batch before it runs.
func (b *batchMemory) note(s statement) {
	switch s.query {
	case deleteTicket, endTicket:
		b.keys = append(b.keys, removedKey(s))
	case insertAudit:
	default:
		b.other = true
	}
}

// end is called after the transaction, or when it has failed.
//
// A transaction that has changed something is one commit. If the version is the next one, nobody else has
// committed since.
func (b *batchMemory) end(committed bool) {
	m := b.rowMemory
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batch = false
	for i := range b.keys {
		delete(m.newer.tickets, b.keys[i])
		delete(m.older.tickets, b.keys[i])
	}
	now, ok := m.index.version()
	switch {
	case ok && now == b.before:
	case ok && committed && b.changed && !b.other && b.before.next(&now):
		m.version = now
	default:
		m.clear()
	}
}

// find finds a finding in memory, inside the transaction of the batch.
func (b *batchMemory) find(f *finding) bool {
	if b.rowMemory == nil || b.other {
		return false
	}
	for i := range b.keys {
		if b.keys[i] == f.Key {
			return false
		}
	}
	m := b.rowMemory
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.ticket(&b.before, &f.Key)
	_, granted := m.newer.ids[f.Grant]
	if !granted {
		_, granted = m.older.ids[f.Grant]
	}
	if t == nil || !t.found || milliseconds(t.ticket.Expires) <= f.at || !granted {
		return false
	}
	ticket := t.copy()
	f.found, f.done = record.Found{Grant: true, Ticket: &ticket}, true
	return true
}

func (m *rowMemory) close() error {
	if m == nil {
		return nil
	}
	m.open.Do(func() {}) // it is not opened any more
	if m.index == nil {
		return nil
	}
	return m.index.close()
}
