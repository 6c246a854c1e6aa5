package identity

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrBusy says that too many sign-ins wait already. Nothing was checked; BusyRetryAfter is
// a good time to try again.
var ErrBusy = errors.New("identity: too many people are signing in at this moment")

// BusyRetryAfter goes into the Retry-After header of a response to ErrBusy.
const BusyRetryAfter = 2 * time.Second

const (
	// hashWait is how long a sign-in waits for its turn to be hashed, and hashQueue how
	// many may wait for each that is being hashed.
	hashWait  = 5 * time.Second
	hashQueue = 64
)

// hashTurns lets a bounded number of password hashes run at once and a bounded number wait
// for a bounded time. Owners take turns, so that one who sends many waits for themselves.
// When the queue is full, the owner with the most waiting loses the last of them.
type hashTurns struct {
	mu      sync.Mutex
	free    int
	most    int // waiting
	waiting int
	owners  []*hashOwner // those with somebody waiting; the first is next
}

type hashOwner struct {
	name  string
	turns []chan bool // true: your turn; false: too many wait
}

func newHashTurns(atOnce int) *hashTurns {
	return &hashTurns{free: atOnce, most: atOnce * hashQueue}
}

// enter waits for a turn, which the caller has until leave.
func (h *hashTurns) enter(ctx context.Context, owner string) error {
	turn := h.join(owner)
	if turn == nil {
		return nil
	}
	timer := time.NewTimer(hashWait)
	defer timer.Stop()
	select {
	case mine := <-turn:
		if !mine {
			return ErrBusy
		}
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	if h.giveUp(owner, turn) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return ErrBusy
	}
	if mine := <-turn; !mine {
		return ErrBusy
	}
	return nil // the turn came at the same moment
}

// join returns nil if it is the caller's turn at once.
func (h *hashTurns) join(owner string) chan bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.free > 0 {
		h.free--
		return nil
	}
	turn := make(chan bool, 1)
	i := slices.IndexFunc(h.owners, func(o *hashOwner) bool { return o.name == owner })
	if i < 0 {
		i = len(h.owners)
		h.owners = append(h.owners, &hashOwner{name: owner})
	}
	h.owners[i].turns = append(h.owners[i].turns, turn)
	if h.waiting++; h.waiting > h.most {
		h.drop()
	}
	return turn
}

// drop sends away the last of the owner with the most waiting; of several such owners, that
// of the one who came last.
func (h *hashTurns) drop() {
	busiest := 0
	for i, o := range h.owners {
		if len(o.turns) >= len(h.owners[busiest].turns) {
			busiest = i
		}
	}
	o := h.owners[busiest]
	last := len(o.turns) - 1
	o.turns[last] <- false
	o.turns = o.turns[:last]
	h.removed(busiest)
}

// removed is called when owner i has one waiting less.
func (h *hashTurns) removed(i int) {
	h.waiting--
	if len(h.owners[i].turns) == 0 {
		h.owners = slices.Delete(h.owners, i, i+1)
	}
}

// giveUp takes a turn back; false if it has been decided.
func (h *hashTurns) giveUp(owner string, turn chan bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, o := range h.owners {
		if k := slices.Index(o.turns, turn); o.name == owner && k >= 0 {
			o.turns = slices.Delete(o.turns, k, k+1)
			h.removed(i)
			return true
		}
	}
	return false
}

// leave gives the turn to the next owner.
func (h *hashTurns) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.owners) == 0 {
		h.free++
		return
	}
	next := h.owners[0]
	next.turns[0] <- true
	next.turns = next.turns[1:]
	h.owners = append(h.owners[1:], next) // to the end of the round
	h.removed(len(h.owners) - 1)
}
