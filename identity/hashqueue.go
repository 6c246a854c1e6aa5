package identity

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrBusy means that too many sign-ins are waiting. Nothing was checked. The caller should try
// again after BusyRetryAfter.
var ErrBusy = errors.New("identity: too many sign-ins are waiting")

// BusyRetryAfter is the value of the Retry-After header after ErrBusy.
const BusyRetryAfter = 2 * time.Second

const (
	// hashWait is how long a sign-in waits for its turn, and hashQueue how many may wait for
	// each one that is being hashed.
	hashWait  = 5 * time.Second
	hashQueue = 64
)

// hashTurns limits how many password hashes run at once, how many wait, and for how long.
// Owners take turns, so that an owner with many requests delays only itself. When the queue is
// full, the owner with the most waiting requests loses its last one.
type hashTurns struct {
	mu      sync.Mutex
	atOnce  int
	free    int
	most    int // waiting
	waiting int
	owners  []*hashOwner // owners with waiting requests; the first is next
}

type hashOwner struct {
	name  string
	turns []chan bool // receives true for a turn, false if too many are waiting
}

func newHashTurns(atOnce int) *hashTurns {
	return &hashTurns{atOnce: atOnce, free: atOnce, most: atOnce * hashQueue}
}

// counts returns how many hashes run and how many wait.
func (h *hashTurns) counts() (running, waiting int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.atOnce - h.free, h.waiting
}

// enter waits for a turn, which lasts until leave.
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
	if h.cancel(owner, turn) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return ErrBusy
	}
	if mine := <-turn; !mine {
		return ErrBusy
	}
	return nil // the turn arrived at the same moment
}

// join returns nil if the caller has a turn immediately.
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

// drop rejects the last request of the owner with the most waiting ones; of several such owners,
// that of the last one.
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

// removed is called after a waiting request of owner i was removed.
func (h *hashTurns) removed(i int) {
	h.waiting--
	if len(h.owners[i].turns) == 0 {
		h.owners = slices.Delete(h.owners, i, i+1)
	}
}

// cancel withdraws a waiting request; it returns false if it has already been decided.
func (h *hashTurns) cancel(owner string, turn chan bool) bool {
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
