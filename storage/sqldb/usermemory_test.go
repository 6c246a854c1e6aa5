package sqldb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/pgtest"
)

// pollNow polls, whenever the last poll was.
func (m *userMemory) pollNow(ctx context.Context) {
	m.polling.Lock()
	defer m.polling.Unlock()
	m.tried = int64(m.clock() - userPollEvery)
	m.poll(ctx)
	if m.failed {
		panic("changes of users cannot be read")
	}
}

// stop replaces the clock of a store's memory by one that only advances when the test says so.
func (m *userMemory) stop() (advance func(time.Duration)) {
	var now atomic.Int64
	now.Store(int64(m.clock()))
	m.clock = func() time.Duration { return time.Duration(now.Load()) }
	return func(d time.Duration) { now.Add(int64(d)) }
}

func addUser(t *testing.T, s *Store, id string) {
	t.Helper()
	user := &identity.User{ID: id, Username: id, Claims: map[string]any{"name": "before"}}
	if err := s.CreateUser(t.Context(), user); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, s *Store, id, name string) {
	t.Helper()
	err := s.UpdateUser(t.Context(), id, func(u *identity.User) error {
		u.Claims["name"] = name
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func execSQL(t *testing.T, s *Store, query string, args ...any) {
	t.Helper()
	if _, err := s.database.write().ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

// cached returns what CachedUser says about a user.
func cached(t *testing.T, s *Store, id string) string {
	t.Helper()
	user, err := s.CachedUser(t.Context(), id)
	switch {
	case err != nil:
		return err.Error()
	case !user.Active():
		return "inactive"
	}
	return fmt.Sprint(user.Claims["name"])
}

func wantCached(t *testing.T, s *Store, id, want string) {
	t.Helper()
	if got := cached(t, s, id); got != want {
		t.Errorf("user %q: got %q, want %q", id, got, want)
	}
}

func TestAC09_AChangeOnAnotherNodeIsSeenWithinASecond(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s, other := openTest(t, databaseURL), openTest(t, databaseURL)
		advance := s.users.stop()
		for i, change := range []struct {
			name, after string
			do          func(id string)
		}{
			{"UpdateUser", "after", func(id string) { rename(t, other, id, "after") }},
			{"DeleteUser", "storage: not found", func(id string) {
				if err := other.DeleteUser(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}},
			{"SQL of an operator", "inactive", func(id string) { execSQL(t, other, `UPDATE users SET disabled = $1 WHERE id = $2`, true, id) }},
		} {
			id := fmt.Sprint(i)
			addUser(t, s, id)
			addUser(t, s, id+" unchanged")
			for range 2 {
				wantCached(t, s, id, "before")
				wantCached(t, s, id+" unchanged", "before")
			}
			change.do(id)
			wantCached(t, s, id, "before") // from memory
			advance(userPollEvery)
			wantCached(t, s, id, change.after)
			if s.users.find(id+" unchanged") == nil {
				t.Errorf("%s: another user is not in memory any more", change.name)
			}
		}
	})
}

func TestChangesOfLongTransactionsAreNotMissed(t *testing.T) {
	databaseURL := pgtest.Database(t)
	s, other := openTest(t, databaseURL), openTest(t, databaseURL)
	advance := s.users.stop()
	addUser(t, s, "slow")
	addUser(t, s, "fast")
	wantCached(t, s, "slow", "before")
	slow, err := s.database.write().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Rollback()
	if _, err := slow.ExecContext(t.Context(), `UPDATE users SET claims = '{"name": "after"}' WHERE id = 'slow'`); err != nil {
		t.Fatal(err)
	}
	for range 3 { // transactions that begin later commit earlier
		rename(t, other, "fast", "after")
		advance(userPollEvery)
		wantCached(t, s, "slow", "before")
	}
	if err := slow.Commit(); err != nil {
		t.Fatal(err)
	}
	advance(userPollEvery)
	wantCached(t, s, "slow", "after")
}

// The transaction of an operator may have another search_path.
func TestUsersOfAnotherSchemaAreNoted(t *testing.T) {
	s := openTest(t, pgtest.Database(t))
	addUser(t, s, "a")
	connection, err := s.database.write().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	for _, query := range []string{`SET search_path = pg_catalog`, `UPDATE public.users SET disabled = true`, `RESET search_path`} {
		if _, err := connection.ExecContext(t.Context(), query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	if noted := countChanges(t, s); noted != 1 {
		t.Errorf("%d changes are noted", noted)
	}
}

func countChanges(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.database.write().QueryRowContext(t.Context(), `SELECT count(*) FROM user_changes`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestReclaimKeepsChangesForAnHour(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s, other := openTest(t, databaseURL), openTest(t, databaseURL)
		advance := s.users.stop()
		addUser(t, s, "a")
		wantCached(t, s, "a", "before")
		rename(t, other, "a", "second")
		rename(t, other, "a", "third")
		execSQL(t, s, `UPDATE user_changes SET changed = changed - 3600001 WHERE seq = (SELECT min(seq) FROM user_changes)`)
		if _, err := s.Reclaim(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		if kept := countChanges(t, s); kept != 1 {
			t.Errorf("%d changes are kept", kept)
		}
		advance(userPollEvery)
		wantCached(t, s, "a", "third")
		// Numbers of deleted rows are not used again.
		execSQL(t, s, `DELETE FROM user_changes`)
		advance(userPollEvery)
		wantCached(t, s, "a", "third")
		rename(t, other, "a", "fourth")
		advance(userPollEvery)
		wantCached(t, s, "a", "fourth")
	})
}

func TestAC09_UsersAreReadIfChangesCannotBe(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s, other := openTest(t, databaseURL), openTest(t, databaseURL)
		var log strings.Builder
		s.users.logger = slog.New(slog.NewTextHandler(&log, nil))
		advance := s.users.stop()
		addUser(t, s, "a")
		wantCached(t, s, "a", "before")
		changes, polls := s.users.changes, 0
		s.users.changes = func(context.Context, int64, int) (int64, []string, error) {
			polls++
			return 0, nil, errors.New("cannot be read")
		}
		rename(t, other, "a", "second")
		advance(userPollEvery)
		wantCached(t, s, "a", "before") // for less than a second in all
		advance(userMaxStale - userPollEvery)
		wantCached(t, s, "a", "second")
		for _, name := range []string{"third", "fourth", "fifth"} {
			rename(t, other, "a", name)
			wantCached(t, s, "a", name)
		}
		if polls != 2 {
			t.Errorf("%d polls within a second", polls)
		}
		if n := strings.Count(log.String(), "changes of users cannot be read"); n != 1 {
			t.Errorf("%d warnings in the log:\n%s", n, &log)
		}
		s.users.changes = changes
		rename(t, other, "a", "sixth")
		advance(userPollEvery)
		wantCached(t, s, "a", "sixth")
		if s.users.find("a") == nil {
			t.Error("users are not kept in memory again")
		}
	})
}

func TestAReadFromBeforeAChangeIsNotKept(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s, other := openTest(t, databaseURL), openTest(t, databaseURL)
		advance := s.users.stop()
		addUser(t, s, "a")
		for _, c := range []struct {
			name   string
			change func(name string)
		}{
			{"own", func(name string) { rename(t, s, "a", name) }},
			{"other", func(name string) {
				rename(t, other, "a", name)
				advance(userPollEvery)
				wantCached(t, s, "another user", "storage: not found") // polls
			}},
			{"after a pause", func(name string) {
				rename(t, other, "a", name)
				advance(userMaxStale)
				wantCached(t, s, "another user", "storage: not found")
			}},
		} {
			cached(t, s, "a")
			epoch := s.users.start()
			read, err := rawUsers(t.Context(), s.database.read(), `WHERE id = $1`, "a")
			if err != nil {
				t.Fatal(err)
			}
			c.change(c.name)
			s.users.put(epoch, newKeptUser(read[0].user, read[0].claims))
			wantCached(t, s, "a", c.name)
		}
	})
}

// The triggers may have been switched off, for example during a logical replication.
func TestUsersAreReadOnceAMinute(t *testing.T) {
	s := openTest(t, sqliteURL(t))
	advance := s.users.stop()
	addUser(t, s, "a")
	wantCached(t, s, "a", "before")
	execSQL(t, s, `DROP TRIGGER user_updated`)
	execSQL(t, s, `UPDATE users SET claims = '{"name": "after"}'`)
	for advanced := time.Duration(0); advanced < userMaxAge; advanced += userPollEvery {
		wantCached(t, s, "a", "before")
		advance(userPollEvery)
	}
	wantCached(t, s, "a", "after")
}

func TestManyChangesForgetAllUsers(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := openTest(t, databaseURL)
		advance := s.users.stop()
		addUser(t, s, "a")
		wantCached(t, s, "a", "before")
		for _, id := range []string{"b", "c"} {
			addUser(t, s, id)
		}
		execSQL(t, s, `UPDATE users SET claims = '{"name": "after"}'`)
		changes := s.users.changes
		s.users.changes = func(ctx context.Context, since int64, _ int) (int64, []string, error) {
			next, ids, err := changes(ctx, since, 1) // the first of three
			if len(ids) == 1 {
				ids = append(ids, make([]string, maxUserChanges-1)...)
			}
			return next, ids, err
		}
		advance(userPollEvery)
		for _, id := range []string{"a", "b", "c"} {
			wantCached(t, s, id, "after")
		}
	})
}
