package sqldb

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/valetkey/valetkey/storage"
)

// change writes one ticket: it puts the ticket, spends it, or sets its expiry. The hot statements
// are values of this type, not a string with arguments, so that each database binds them without an
// allocation for each argument.
type change struct {
	verb verb
	// ticket is what is put. A change of another verb uses its key, and setExpires its Expires.
	ticket storage.Ticket
	at     int64 // now, in milliseconds
	// together is set if the operation has other changes too, which take effect with this one or
	// not at all.
	together bool
	done     bool // a row was changed
}

type verb int

const (
	putting verb = iota
	spending
	settingExpires
)

// sortChanges brings changes into the order of their keys, in which every node locks tickets, so
// that two transactions that lock several of the same tickets do not deadlock.
func sortChanges(changes []*change) {
	slices.SortStableFunc(changes, func(a, b *change) int { return compareKeys(a.ticket.Key, b.ticket.Key) })
}

func compareKeys(a, b storage.Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), bytes.Compare(a.ID[:], b.ID[:]))
}

// query returns the statement of a change.
func (c *change) query() string {
	switch c.verb {
	case putting:
		return putTicket
	case spending:
		return spendTicket
	default:
		return setExpires
	}
}

// spentBefore returns the query that finds the ticket of a change if it was spent.
func (c *change) spentBefore() statement {
	return statement{findSpent, []any{string(c.ticket.Kind), c.ticket.ID[:], c.at}}
}
