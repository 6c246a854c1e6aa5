package storagetest

import (
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
)

func counted(t *testing.T, s Database, now time.Time, keys ...storage.CountKey) (left []time.Duration) {
	t.Helper()
	untils := must(s.CountedUntil(t.Context(), now, keys...))(t)
	for _, until := range untils {
		left = append(left, max(0, until.Sub(now)))
	}
	return left
}

func countsAddUp(t *testing.T, s Database) {
	a, b, other := storage.CountKey{1}, storage.CountKey{2}, storage.CountKey{3}
	add := func(at time.Time, counts ...storage.Count) {
		t.Helper()
		for i := range counts {
			counts[i].At = at
		}
		want(t, "AddCounts", s.AddCounts(t.Context(), counts...), nil)
	}
	add(noon, storage.Count{Key: a, Add: time.Minute}, storage.Count{Key: b, Add: time.Second})
	add(noon, storage.Count{Key: a, Add: 2 * time.Minute})
	wantEqual(t, "counts", []time.Duration{time.Second, 0, 3 * time.Minute}, counted(t, s, noon, b, other, a))
	later := noon.Add(time.Hour)
	add(later, storage.Count{Key: a, Add: time.Minute})
	wantEqual(t, "a count whose time had passed", []time.Duration{time.Minute}, counted(t, s, later, a))
	add(later, storage.Count{Key: a, Add: 3 * time.Minute}, storage.Count{Key: a, Add: -time.Minute})
	wantEqual(t, "a count from which events were taken back", []time.Duration{3 * time.Minute}, counted(t, s, later, a))
	add(later, storage.Count{Key: a, Reset: true, Add: time.Second}, storage.Count{Key: b, Reset: true})
	wantEqual(t, "counts that were reset", []time.Duration{time.Second, 0}, counted(t, s, later, a, b))
	var many []storage.CountKey
	var wanted []time.Duration
	for i := range 11 {
		key := storage.CountKey{9, byte(i)}
		add(noon, storage.Count{Key: key, Add: time.Duration(i) * time.Second})
		many, wanted = append(many, key), append(wanted, time.Duration(i)*time.Second)
	}
	wantEqual(t, "many counts", wanted, counted(t, s, noon, many...))
}

func raceCounts(t *testing.T, s Database) {
	a, b := storage.CountKey{1}, storage.CountKey{2}
	var callers sync.WaitGroup
	for i := range 20 {
		callers.Go(func() {
			counts := []storage.Count{{Key: a, At: noon, Add: time.Second}, {Key: b, At: noon, Add: time.Minute}}
			if i%2 == 1 {
				counts[0], counts[1] = counts[1], counts[0]
			}
			if err := s.AddCounts(t.Context(), counts...); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	wantEqual(t, "counts", []time.Duration{20 * time.Second, 20 * time.Minute}, counted(t, s, noon, a, b))
}

func passwordHashKinds(t *testing.T, s Database) {
	for i, hash := range []string{
		"",
		"$argon2id$v=19$m=19456,t=2,p=1$BwF0nUDSGiYxVLiYNeVbuA$8iRu4x+lBmFJHn5mOeLvKpvZz3WcqwYdPHZQ/VpgmCk",
		"$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=65536,t=3,p=4$BwF0nUDSGiYxVLiYNeVbuA$8iRu4x+lBmFJHn5mOeLvKpvZz3WcqwYdPHZQ/VpgmCk",
		"$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
		"$2y$10$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
	} {
		id := string(rune('a' + i))
		storeUser(t, s, &identity.User{ID: id, Username: id, PasswordHash: hash, CreatedAt: noon, UpdatedAt: noon})
	}
	got := must(s.PasswordHashKinds(t.Context()))(t)
	found := map[string]bool{}
	for _, kind := range got {
		found[kind] = true
	}
	wantEqual(t, "kinds", map[string]bool{
		"$argon2id$v=19$m=19456,t=2,p=1$": true, "$argon2id$v=19$m=65536,t=3,p=4$": true, "$2b$12$": true, "$2y$10$": true,
	}, found)
	wantEqual(t, "number of kinds", 4, len(got))
}

func storeUser(t *testing.T, s Database, user *identity.User) {
	t.Helper()
	want(t, "CreateUser", s.CreateUser(t.Context(), user), nil)
}
