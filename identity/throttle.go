package identity

import (
	"container/list"
	"sync"
	"time"
)

// throttle paces attempts by key. The first few are free; from then on each doubles the
// wait for the next, up to a cap, and idle time is forgiven at the same pace: nobody is
// locked out for good. Memory is bounded: the key that was used least recently is
// forgotten first.
type throttle struct {
	free     int           // attempts without a wait
	first    time.Duration // the wait after those
	longest  time.Duration
	forgive  time.Duration // idle time that takes one attempt off the count
	capacity int

	mu      sync.Mutex
	entries map[string]*list.Element
	recent  list.List // of *pace, the most recently used first
}

type pace struct {
	key   string
	count int
	last  time.Time // of the last counted attempt, or of what was forgiven since
	next  time.Time // no attempt before
}

// take counts an attempt before it is made, so that parallel ones cannot all pass, and
// returns zero; or it counts nothing and returns how long to wait.
func (t *throttle) take(now time.Time, key string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pace(key)
	if n := int(now.Sub(p.last) / t.forgive); n > 0 && p.count > 0 {
		p.count = max(0, p.count-n)
		p.last = p.last.Add(time.Duration(n) * t.forgive)
	}
	if wait := p.next.Sub(now); wait > 0 {
		return wait
	}
	p.count++
	p.last = now
	if over := p.count - t.free; over >= 0 {
		p.next = now.Add(min(t.first<<min(over, 20), t.longest))
	}
	return 0
}

// giveBack uncounts an attempt that was not evaluated or that succeeded.
func (t *throttle) giveBack(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pace(key)
	p.count = max(0, p.count-1)
	if p.count < t.free {
		p.next = time.Time{}
	}
}

// forget clears the count of a key.
func (t *throttle) forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.entries[key]; ok {
		t.recent.Remove(e)
		delete(t.entries, key)
	}
}

func (t *throttle) pace(key string) *pace {
	if e, ok := t.entries[key]; ok {
		t.recent.MoveToFront(e)
		return e.Value.(*pace)
	}
	if t.entries == nil {
		t.entries = make(map[string]*list.Element)
	}
	if t.recent.Len() >= t.capacity {
		oldest := t.recent.Back()
		delete(t.entries, t.recent.Remove(oldest).(*pace).key)
	}
	p := &pace{key: key}
	t.entries[key] = t.recent.PushFront(p)
	return p
}
