package identity

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

const otherArgon = "$argon2id$v=19$m=4096,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$8iRu4x+lBmFJHn5mOeLvKpvZz3WcqwYdPHZQ/VpgmCk"

func bcryptOf(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func TestPasswordHashKind(t *testing.T) {
	for hash, want := range map[string]string{
		"":          "",
		aliceHash(): "$argon2id$v=19$m=19456,t=2,p=1$",
		otherArgon:  "$argon2id$v=19$m=4096,t=3,p=1$",
		"$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW": "$2b$12$",
	} {
		if got := PasswordHashKind(hash); got != want {
			t.Errorf("%q: %q, want %q", hash, got, want)
		}
		if hash == "" {
			continue
		}
		w, ok := workOf(hash)
		if again, ok2 := workOf(w.hash()); !ok || !ok2 || again != w || CheckPasswordHash(w.hash()) != nil {
			t.Errorf("%q: work %+v %v, and its own hash %q has %+v %v", hash, w, ok, w.hash(), again, ok2)
		}
	}
	for _, hash := range []string{"plain", "$argon2id$v=19$m=1,t=1,p=1$", "$2b$31$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"} {
		if w, ok := workOf(hash); ok {
			t.Errorf("%q is read as %+v", hash, w)
		}
	}
}

// The same hashes are computed for every account: an attempt takes the same time for known and
// unknown users, whatever kinds of hashes the database contains.
func TestLG02_EveryAttemptComputesTheSameHashes(t *testing.T) {
	user := func(id, hash string) *User { return &User{ID: id, Username: id, PasswordHash: hash} }
	disabled := user("disabled", bcryptOf(t, "x"))
	disabled.Disabled = true
	a := accounts(t, newMapStore(user("standard", aliceHash()), user("bcrypt", bcryptOf(t, alicePassword)), user("argon", otherArgon),
		user("passwordless", ""), user("unreadable", "$argon2id$v=19$m=1,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR"), disabled))
	var mu sync.Mutex
	var computed []string
	a.verify = func(hash, password string) bool {
		mu.Lock()
		defer mu.Unlock()
		w, ok := workOf(hash)
		computed = append(computed, fmt.Sprint(w, ok))
		return VerifyPassword(hash, password)
	}
	var first []string
	for _, name := range []string{"standard", "bcrypt", "argon", "passwordless", "unreadable", "disabled", "nobody", "\u202E", ""} {
		computed = nil
		if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: name, Password: "wrong", Remote: home}); err != ErrWrongCredentials {
			t.Fatal(err)
		}
		slices.Sort(computed)
		if first == nil {
			first = computed
		}
		if len(computed) != 3 || !slices.Equal(computed, first) {
			t.Errorf("%q: %q, want %q", name, computed, first)
		}
	}
}

// The memory shows that the decoy hashes are really computed.
func TestLG02_DecoysAreComputed(t *testing.T) {
	a := accounts(t, newMapStore(&User{ID: "b", Username: "bcrypt", PasswordHash: bcryptOf(t, "x")}, &User{ID: "o", Username: "argon", PasswordHash: otherArgon}))
	for _, name := range []string{"bcrypt", "argon", "nobody"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := a.Authenticate(t.Context(), start, Attempt{Identifier: name, Password: "wrong"})
		runtime.ReadMemStats(&after)
		if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; err != ErrWrongCredentials || mib != 19+4 {
			t.Errorf("%q: %v after %d MiB, want hashes of 19 and 4 MiB", name, err, mib)
		}
	}
}

// Bcrypt uses 72 bytes. A sign-in with another ending must not store it as the password, which
// would lock out the user with the longer one.
func TestLG11_BytesThatBcryptIgnoresAreNotStored(t *testing.T) {
	long := strings.Repeat("twelve bytes", 6)
	hash := bcryptOf(t, long) // of 72 bytes, as other systems have it for a longer passphrase
	store := newMapStore(&User{ID: "1", Username: "alice", PasswordHash: hash})
	a := accounts(t, store)
	attempt := Attempt{Identifier: "alice", Password: long + " and an ending", Remote: home}
	if _, err := a.Authenticate(t.Context(), start, attempt); err != nil {
		t.Errorf("with the whole passphrase: %v", err)
	}
	attempt.Password = long + " and another"
	if _, err := a.Authenticate(t.Context(), start, attempt); err != nil {
		t.Errorf("with another ending, which bcrypt ignores: %v", err)
	}
	attempt.Password = long
	if _, err := a.Authenticate(t.Context(), start, attempt); err != nil {
		t.Errorf("with 72 bytes: %v", err)
	}
	if u, _ := store.User(t.Context(), "1"); u.PasswordHash != hash {
		t.Error("a password was stored that was not verified")
	}
	attempt.Password = long + " and an ending"
	if _, err := a.Authenticate(t.Context(), start, attempt); err != nil {
		t.Errorf("after that, with the whole passphrase: %v", err)
	}
	short := long[1:]
	if err := store.UpdateUser(t.Context(), "1", func(u *User) error { u.PasswordHash = bcryptOf(t, short); return nil }); err != nil {
		t.Fatal(err)
	}
	attempt.Password = short
	if _, err := a.Authenticate(t.Context(), start, attempt); err != nil {
		t.Errorf("with 71 bytes: %v", err)
	}
	if u, _ := store.User(t.Context(), "1"); needsRehash(u.PasswordHash) {
		t.Error("a fully verified password is not rehashed with argon2id")
	}
}
