package identity

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func TestLG12_NewHashesAreArgon2id(t *testing.T) {
	hash, err := HashPassword("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash is %s", hash)
	}
	if !VerifyPassword(hash, "correct horse") || VerifyPassword(hash, "correct horsf") || needsRehash(hash) {
		t.Errorf("the hash verifies wrongly")
	}
	if again, _ := HashPassword("correct horse"); again == hash {
		t.Error("two hashes have the same salt")
	}
}

// The vectors are those of the reference implementation of Argon2 (test.c, version 0x13).
func TestVerifyReferenceVectors(t *testing.T) {
	for _, hash := range []string{
		"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
	} {
		if !VerifyPassword(hash, "password") || VerifyPassword(hash, "passwore") {
			t.Errorf("%s does not verify", hash)
		}
	}
}

func TestMalformedHashesMatchNoPassword(t *testing.T) {
	for _, hash := range []string{
		"", "x", "$argon2id$", "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"$argon2id$v=16$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"$argon2id$v=19$m=0,t=0,p=0$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"$argon2id$v=19$m=256,t=4000000000,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$",
		"$argon2id$v=19$m=256,t=2,p=1 $c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"$2b$31$abcdefghijklmnopqrstuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu", "$2b$", "$1$abc$def", "password",
	} {
		if CheckPasswordHash(hash) == nil || VerifyPassword(hash, "password") || VerifyPassword(hash, "") {
			t.Errorf("%q is accepted", hash)
		}
	}
}

func FuzzParseArgonHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	f.Add("$argon2id$v=19$m=10,t=1,p=1$00000000000$000000000000000000000\rA")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := parseArgonHash(s); err == nil && h.String() != s {
			t.Errorf("%q reads as %q", s, h.String())
		}
	})
}

func TestLG11_EveryByteOfALongPasswordIsUsed(t *testing.T) {
	long := strings.Repeat("x", 72)
	hash, err := HashPassword(long + "a")
	if err != nil {
		t.Fatal(err)
	}
	if VerifyPassword(hash, long+"b") || VerifyPassword(hash, long) {
		t.Error("characters after the 72nd are ignored")
	}
	if hash, err = HashPassword("abc\x00def"); err != nil || VerifyPassword(hash, "abc\x00deg") || VerifyPassword(hash, "abc") {
		t.Error("characters after a NUL are ignored")
	}
	if _, err := HashPassword(strings.Repeat("x", MaxPasswordBytes)); err != nil {
		t.Error(err)
	}
	if _, err := HashPassword(strings.Repeat("x", MaxPasswordBytes+1)); err != ErrPasswordTooLong {
		t.Errorf("a password of 1025 bytes: %v, want %v", err, ErrPasswordTooLong)
	}
}

func TestUN02_PasswordsAreNormalized(t *testing.T) {
	hash, err := HashPassword("cafe\u0301 au\u00A0lait")
	if err != nil {
		t.Fatal(err)
	}
	if !VerifyPassword(hash, "caf\u00E9 au lait") {
		t.Error("the same password in NFC, with a normal space, does not match")
	}
	if VerifyPassword(hash, "cafe au lait") || VerifyPassword(hash, "CAFÉ AU LAIT") {
		t.Error("another password matches")
	}
}

func TestLG13_WeakPasswordsAreRefused(t *testing.T) {
	user := &User{Username: "margaret", Claims: map[string]any{"email": "m.hamilton@example.com"}}
	for _, password := range []string{
		"", "short", "1234567", "password", "PASSWORD", "Password123", "qwertyuiop", "12345678", "aaaaaaaaaaaa", "abababababab",
		"margaret", "Margaret1!", "m.hamilton@example.com", "m.hamilton", "valetkey", "Valetkey123", "correcthorsebatterystaple", "\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		var weak *WeakPasswordError
		if err := CheckPassword(password, user); !errors.As(err, &weak) {
			t.Errorf("CheckPassword(%q) = %v, want a *WeakPasswordError", password, err)
		}
	}
	for _, password := range []string{"lunar module 11", "пароль на луну", strings.Repeat("ab c", 16), "horse 42", "🚀🌕👩‍🚀🧮 go"} {
		if err := CheckPassword(password, user); err != nil {
			t.Errorf("CheckPassword(%q) = %v", password, err)
		}
	}
}

func TestLG12_OldHashesAreReplacedAtSignIn(t *testing.T) {
	weak := "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	b, err := bcrypt.GenerateFromPassword([]byte("password"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for _, old := range []string{weak, string(b)} {
		store := newMapStore(&User{ID: "1", Username: "alice", PasswordHash: old})
		a := accounts(t, store)
		attempt := Attempt{Identifier: "alice", Password: "password"}
		if _, err := a.Authenticate(t.Context(), start, attempt); err != nil {
			t.Fatal(err)
		}
		u, _ := store.User(t.Context(), "1")
		if needsRehash(u.PasswordHash) {
			t.Errorf("%s became %s", old, u.PasswordHash)
		}
		if _, err := a.Authenticate(t.Context(), start, attempt); err != nil {
			t.Errorf("with the new hash: %v", err)
		}
	}
}

func TestDS05_HashingIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newHashTurns(1)
		g.most = 1
		if err := g.enter(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		waiting := make(chan error)
		go func() { waiting <- g.enter(t.Context(), "a") }()
		synctest.Wait()
		if err := g.enter(t.Context(), "a"); err != ErrBusy {
			t.Errorf("the third: %v, want %v at once", err, ErrBusy)
		}
		began := time.Now()
		if err := <-waiting; err != ErrBusy || time.Since(began) != 5*time.Second {
			t.Errorf("the second: %v after %v, want %v after 5s", err, time.Since(began), ErrBusy)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { waiting <- g.enter(ctx, "a") }()
		synctest.Wait()
		cancel()
		if err := <-waiting; err != context.Canceled {
			t.Errorf("a caller that left: %v", err)
		}
		g.leave()
		if err := g.enter(t.Context(), "a"); err != nil {
			t.Errorf("after the first: %v", err)
		}
	})
}

// Owners take turns, and a full queue drops the last request of the owner with the most.
func TestSH04_OneOwnerCannotFillTheHashQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newHashTurns(1)
		g.most = 10
		if err := g.enter(t.Context(), "flood"); err != nil {
			t.Fatal(err)
		}
		flood := make(chan error, 100)
		for range 100 {
			go func() { flood <- g.enter(t.Context(), "flood") }()
		}
		synctest.Wait()
		if len(flood) != 90 {
			t.Errorf("%d requests of the busy owner were dropped, want 90", len(flood))
		}
		other := make(chan error, 1)
		go func() { other <- g.enter(t.Context(), "other") }()
		synctest.Wait()
		if len(flood) != 91 || g.waiting != 10 {
			t.Errorf("%d requests of the busy owner were dropped, and %d wait; want 91 and 10", len(flood), g.waiting)
		}
		g.leave()
		synctest.Wait()
		g.leave()
		synctest.Wait()
		if len(other) != 1 {
			t.Fatal("the other owner waits longer than one turn")
		}
		if err := <-other; err != nil {
			t.Error(err)
		}
		for range 9 {
			g.leave()
			synctest.Wait()
		}
		if g.free != 1 || g.waiting != 0 || len(g.owners) != 0 {
			t.Errorf("in the end: %d free, %d waiting, %d owners", g.free, g.waiting, len(g.owners))
		}
	})
}

func TestLG36_ChangingAPasswordRequiresTheCurrentOne(t *testing.T) {
	store := newMapStore(alice(t))
	a := accounts(t, store)
	ctx := t.Context()
	u, err := a.Authenticate(ctx, start, Attempt{Identifier: "alice", Password: "lunar module 11"})
	if err != nil {
		t.Fatal(err)
	}
	_, before, _ := a.StartSession(ctx, start, u, SessionDetails{}, nil)
	_, here, _ := a.StartSession(ctx, start, u, SessionDetails{}, before)
	elsewhere, _, _ := a.StartSession(ctx, start, u, SessionDetails{}, nil)

	change := PasswordChange{UserID: u.ID, Current: "wrong", New: "command module 12", Session: here.ID}
	if err := a.ChangePassword(ctx, start, change); err != ErrWrongCredentials {
		t.Errorf("with a wrong current password: %v", err)
	}
	change.Current, change.New = "lunar module 11", "alice123"
	var weak *WeakPasswordError
	if err := a.ChangePassword(ctx, start, change); !errors.As(err, &weak) {
		t.Errorf("to a weak one: %v", err)
	}
	change.New = "command module 12"
	if err := a.ChangePassword(ctx, start, change); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Session(ctx, start, elsewhere); err != nil {
		t.Errorf("the other session ended without EndOthers: %v", err)
	}
	if _, err := a.Authenticate(ctx, start, Attempt{Identifier: "alice", Password: "lunar module 11"}); err != ErrWrongCredentials {
		t.Errorf("with the old password: %v", err)
	}
	change.Current, change.New, change.EndOthers = "command module 12", "lunar module 11", true
	if err := a.ChangePassword(ctx, start, change); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Session(ctx, start, elsewhere); err == nil {
		t.Error("the other session continues")
	}
	for _, id := range []string{here.ID, before.ID} {
		if _, err := a.SessionByID(ctx, start, id); err != nil {
			t.Errorf("the own session: %v", err)
		}
	}

	// LG-06: guessing here is no faster than at the sign-in page.
	change.Current = "wrong"
	for range 5 {
		_ = a.ChangePassword(ctx, start, change) // each is refused; the sixth shows how
	}
	var throttled *ThrottledError
	if err = a.ChangePassword(ctx, start, change); !errors.As(err, &throttled) {
		t.Errorf("the sixth wrong password: %v, want *ThrottledError", err)
	}
}
