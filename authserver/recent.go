package authserver

import "sync"

// recent keeps the newest entries, a bounded number of them: the present generation and
// the one before. It is safe for concurrent use; its zero value holds maxRecent entries.
type recent[K comparable, V any] struct {
	mu       sync.RWMutex
	now, old map[K]V
}

const maxRecent = 10_000

func (r *recent[K, V]) get(key K) (V, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	value, ok := r.now[key]
	if !ok {
		value, ok = r.old[key]
	}
	return value, ok
}

func (r *recent[K, V]) put(key K, value V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.now) >= maxRecent/2 || r.now == nil {
		r.old, r.now = r.now, make(map[K]V)
	}
	r.now[key] = value
}

func (r *recent[K, V]) drop(key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.now, key)
	delete(r.old, key)
}
