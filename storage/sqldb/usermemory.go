package sqldb

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
)

const (
	// userPollEvery is how often a node reads which users have changed, while it needs users.
	userPollEvery = 500 * time.Millisecond
	// userMaxStale is how long after that users are taken from memory. After that, every call reads
	// the database.
	userMaxStale = time.Second
	// userMaxAge is how long a user is kept without being read again, even if no change is noted:
	// someone may have switched off the triggers.
	userMaxAge = time.Minute
	// userMemoryBytes limits the memory. It is estimated as userMemoryEach for a user plus
	// userMemoryFactor times the user's JSON.
	userMemoryBytes  = 4 << 20
	userMemoryEach   = 768
	userMemoryFactor = 5
	// maxUserChanges is how many changes one query returns. If there are more, all users are
	// forgotten.
	maxUserChanges = 1000
	// userChangesKept is how long changes are kept for other nodes, much longer than they need.
	userChangesKept = time.Hour
)

// userMemory keeps users that were read, in two generations: when the newer one is full, it
// replaces the older one (decision 0015).
//
// A write of this store removes its users before it returns. Writes of other nodes are found by
// polling. A caller that reads a user takes the epoch first, and stores the user only if nothing was
// removed in the meantime: otherwise what it has read may be older than the write.
type userMemory struct {
	// changes returns the IDs of the users that have changed since a mark, and the next mark. If
	// the mark is noMark, there are no IDs.
	changes func(ctx context.Context, since int64, most int) (next int64, ids []string, err error)
	logger  *slog.Logger
	clock   func() time.Duration // monotonic; the times below are its values
	limit   int

	polled  atomic.Int64 // when the last successful poll began
	polling sync.Mutex   // held by the caller that polls
	tried   int64        // when the last poll began
	mark    int64
	failed  bool

	mu         sync.RWMutex
	epoch      uint64 // counts removals
	newer      map[string]*keptUser
	older      map[string]*keptUser
	newerBytes int
}

// noMark is a mark before the first poll.
const noMark = -1

func newUserMemory(d database, logger *slog.Logger) *userMemory {
	began := time.Now()
	m := &userMemory{changes: d.userChanges, logger: logger, limit: userMemoryBytes, mark: noMark}
	m.clock = func() time.Duration { return time.Since(began) }
	m.polled.Store(int64(-2 * userMaxStale))
	m.tried = m.polled.Load()
	return m
}

// keptUser is a user in memory. It never changes. Callers get copies.
type keptUser struct {
	user   identity.User                  // without Claims
	claims func() (map[string]any, error) // decodes the claims once
	read   time.Duration                  // when, by userMemory.clock
	bytes  int
}

func newKeptUser(user identity.User, encoded string) *keptUser {
	// What is in memory is not used to authenticate the user.
	user.PasswordHash, user.DeclaredPassword, user.UserCodeHash = "", "", ""
	user.Account.ForMemory()
	return &keptUser{
		user:  user,
		bytes: userMemoryEach + userMemoryFactor*(len(encoded)+len(user.Username)+len(user.ID)),
		claims: sync.OnceValues(func() (claims map[string]any, err error) {
			if err := json.Unmarshal([]byte(encoded), &claims); err != nil {
				return nil, fmt.Errorf("claims of user %q: %w", user.ID, err)
			}
			return claims, nil
		}),
	}
}

// get returns a user, or nil if the user must be read. It polls if a poll is due, unless another
// caller is polling.
func (m *userMemory) get(ctx context.Context, id string) *keptUser {
	now := m.clock()
	if now-m.lastPoll() >= userPollEvery && m.polling.TryLock() {
		m.poll(ctx)
		m.polling.Unlock()
		now = m.clock()
	}
	if now-m.lastPoll() >= userMaxStale {
		return nil
	}
	kept := m.find(id)
	if kept == nil || now-kept.read >= userMaxAge {
		return nil
	}
	return kept
}

func (m *userMemory) find(id string) *keptUser {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if kept := m.newer[id]; kept != nil {
		return kept
	}
	return m.older[id]
}

func (m *userMemory) lastPoll() time.Duration { return time.Duration(m.polled.Load()) }

// poll forgets the users that have changed since the last poll. The caller holds m.polling.
//
// After a pause of userMaxStale, for example because the database did not respond, it forgets all
// users: the database may be another one now, without the last transactions of the previous one.
func (m *userMemory) poll(ctx context.Context) {
	began := m.clock()
	if began-time.Duration(m.tried) < userPollEvery {
		return // another caller has just tried
	}
	m.tried = int64(began)
	since := m.mark
	if began-m.lastPoll() >= userMaxStale {
		since = noMark
	}
	next, ids, err := m.changes(context.WithoutCancel(ctx), since, maxUserChanges)
	if err != nil {
		if !m.failed {
			m.logger.WarnContext(ctx, "changes of users cannot be read; users are read from the database each time", "error", err)
		}
		m.failed = true
		return
	}
	if since == noMark || next < since || len(ids) == maxUserChanges {
		m.clear()
	} else if len(ids) > 0 {
		m.forget(ids...)
	}
	m.mark, m.failed = next, false
	m.polled.Store(int64(began))
}

// start returns the epoch, which a caller takes before it reads a user.
func (m *userMemory) start() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.epoch
}

// put keeps a user that was read since start returned epoch.
func (m *userMemory) put(epoch uint64, kept *keptUser) {
	half := m.limit / 2
	if kept.bytes > half/4 {
		return
	}
	kept.read = m.clock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epoch != epoch {
		return
	}
	if m.newer == nil || m.newerBytes+kept.bytes > half {
		m.older, m.newer, m.newerBytes = m.newer, map[string]*keptUser{}, 0
	}
	if before := m.newer[kept.user.ID]; before != nil {
		m.newerBytes -= before.bytes
	}
	m.newer[kept.user.ID] = kept
	m.newerBytes += kept.bytes
}

// forget removes users.
func (m *userMemory) forget(ids ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++
	for _, id := range ids {
		if before := m.newer[id]; before != nil {
			m.newerBytes -= before.bytes
		}
		delete(m.newer, id)
		delete(m.older, id)
	}
}

// clear removes all users.
func (m *userMemory) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++
	m.newer, m.older, m.newerBytes = nil, nil, 0
}

// keptUser returns a user from memory, or reads and keeps it.
func (s *Store) keptUser(ctx context.Context, id string) (*keptUser, error) {
	if kept := s.users.get(ctx, id); kept != nil {
		return kept, nil
	}
	epoch := s.users.start()
	found, err := rawUsers(ctx, s.database.read(), `WHERE id = $1`, id)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, storage.ErrNotFound
	}
	if found[0].user.External, err = identity.DecodeExternal(found[0].external); err != nil {
		return nil, fmt.Errorf("user %q: %w", id, err)
	}
	kept := newKeptUser(found[0].user, found[0].claims)
	kept.bytes += userMemoryFactor * len(found[0].external)
	s.users.put(epoch, kept)
	return kept, nil
}

// CachedUser implements identity.Store.
func (s *Store) CachedUser(ctx context.Context, id string) (*identity.User, error) {
	kept, err := s.keptUser(ctx, id)
	if err != nil {
		return nil, err
	}
	user := kept.user
	if user.Claims, err = kept.claims(); err != nil {
		return nil, err
	}
	return user.Clone(), nil
}

// UserValidity implements identity.Store.
func (s *Store) UserValidity(ctx context.Context, id string) (identity.Validity, error) {
	kept, err := s.keptUser(ctx, id)
	if err != nil {
		return identity.Validity{}, err
	}
	validity := kept.user.Validity()
	validity.Kept = slices.Clone(validity.Kept)
	return validity, nil
}
