package authserver

import (
	"sync"
	"time"
)

// A service that failed to answer so often in a row is left alone for so long. Then one
// request tries it.
const (
	breakerFailures = 5
	breakerRest     = 10 * time.Second
)

// breaker keeps requests from waiting for a service that is down. It is safe for concurrent
// use; its zero value lets everything through.
type breaker struct {
	mu       sync.Mutex
	failures int
	rests    time.Time // until then
	opened   time.Time // when it began to rest
	trying   bool      // one request finds out whether it is back
}

// breakerChange is what a result did to a breaker.
type breakerChange int

const (
	breakerStays breakerChange = iota
	breakerOpened
	breakerClosed
)

// allows reports whether a request may go to the service. One that does is noted afterwards.
func (b *breaker) allows(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < breakerFailures {
		return true
	}
	if b.trying || now.Before(b.rests) {
		return false
	}
	b.trying = true
	return true
}

// openedAfter reports whether the service was left alone since then.
func (b *breaker) openedAfter(at time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= breakerFailures && b.opened.After(at)
}

// note takes the result of a request; one that was given up, or not sent, says nothing.
func (b *breaker) note(now time.Time, ok, givenUp bool) breakerChange {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	switch {
	case givenUp:
	case ok:
		wasOpen := b.failures >= breakerFailures
		b.failures = 0
		if wasOpen {
			return breakerClosed
		}
	default:
		b.failures++
		b.rests = now.Add(breakerRest)
		if b.failures == breakerFailures {
			b.opened = now
			return breakerOpened
		}
	}
	return breakerStays
}
