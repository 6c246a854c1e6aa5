package identity

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var home = netip.MustParseAddr("192.0.2.1")

func accounts(t *testing.T, store Store) *Accounts {
	t.Helper()
	a, err := New(Config{Store: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var aliceHash = sync.OnceValue(func() string { h, _ := HashPassword("lunar module 11"); return h })

func alice(t *testing.T) *User {
	t.Helper()
	return &User{ID: "a", Username: "alice", PasswordHash: aliceHash(), Claims: map[string]any{"email": "Alice@Example.com"}}
}

func TestSignInByUsernameOrEmailInAnyCase(t *testing.T) {
	a := accounts(t, newMapStore(alice(t)))
	for _, identifier := range []string{"alice", "ALICE", " alice ", "alice@example.com", "ALICE@EXAMPLE.COM"} {
		u, err := a.Authenticate(t.Context(), start, Attempt{Identifier: identifier, Password: "lunar module 11", Remote: home})
		if err != nil || u.ID != "a" {
			t.Errorf("%q: %v", identifier, err)
		}
	}
}

func TestLG01_EveryFailureIsTheSame(t *testing.T) {
	disabled, passwordless := *alice(t), *alice(t)
	disabled.ID, disabled.Username, disabled.Claims, disabled.Disabled = "d", "dora", nil, true
	passwordless.ID, passwordless.Username, passwordless.Claims, passwordless.PasswordHash = "p", "paul", nil, ""
	a := accounts(t, newMapStore(alice(t), &disabled, &passwordless))
	for _, attempt := range []Attempt{
		{Identifier: "alice", Password: "wrong"}, {Identifier: "dora", Password: "lunar module 11"}, {Identifier: "dora", Password: "wrong"},
		{Identifier: "paul", Password: "lunar module 11"}, {Identifier: "paul"}, {Identifier: "nobody", Password: "lunar module 11"},
		{Identifier: "", Password: ""}, {Identifier: "\u202E", Password: "x"}, {Identifier: strings.Repeat("x", 10_000), Password: "x"},
	} {
		if u, err := a.Authenticate(t.Context(), start, attempt); u != nil || err != ErrWrongCredentials {
			t.Errorf("%+v: %v, %v", attempt, u, err)
		}
	}
}

func TestLG02_UnknownUsersCostAHashToo(t *testing.T) {
	disabled, passwordless := *alice(t), *alice(t)
	disabled.ID, disabled.Username, disabled.Claims, disabled.Disabled = "d", "dora", nil, true
	passwordless.ID, passwordless.Username, passwordless.Claims, passwordless.PasswordHash = "p", "paul", nil, ""
	a := accounts(t, newMapStore(alice(t), &disabled, &passwordless))
	// An argon2id hash of 19 MiB shows in what is allocated, whatever the machine's load.
	for _, identifier := range []string{"alice", "nobody", "dora", "paul", "\u202E", ""} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := a.Authenticate(t.Context(), start, Attempt{Identifier: identifier, Password: "wrong"})
		runtime.ReadMemStats(&after)
		if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; err != ErrWrongCredentials || mib != 19 {
			t.Errorf("%q: %v after %d MiB, want one hash of 19 MiB", identifier, err, mib)
		}
	}
}

func TestLG11_TooLongPasswordIsNotHashed(t *testing.T) {
	a := accounts(t, newMapStore(alice(t)))
	_, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: strings.Repeat("x", 1<<20)})
	if err != ErrPasswordTooLong {
		t.Errorf("error is %v, want %v", err, ErrPasswordTooLong)
	}
}

func TestLG05_OneBudgetForAllIdentifiersOfAUser(t *testing.T) {
	a := accounts(t, newMapStore(alice(t)))
	names := []string{"alice", "ALICE", "alice@example.com", " alice", "Ａlice"}
	for i, name := range names {
		if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: name, Password: "wrong"}); err != ErrWrongCredentials {
			t.Fatalf("attempt %d: %v", i, err)
		}
	}
	var throttled *ThrottledError
	if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: "wrong"}); !errors.As(err, &throttled) {
		t.Errorf("the sixth attempt: %v, want *ThrottledError", err)
	}
}

func TestLG01_UnknownUsersAreThrottledLikeKnownOnes(t *testing.T) {
	a := accounts(t, newMapStore(alice(t)))
	for i := range 8 {
		_, known := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: "wrong"})
		_, unknown := a.Authenticate(t.Context(), start, Attempt{Identifier: "nobody", Password: "wrong"})
		if fmt.Sprint(known) != fmt.Sprint(unknown) {
			t.Errorf("attempt %d: %v for a known name, %v for an unknown one", i, known, unknown)
		}
	}
}

func TestLG04_NoOneIsLockedOutForever(t *testing.T) {
	a := accounts(t, newMapStore(alice(t)))
	now, evaluated := start, 0
	for range 100 {
		_, err := a.Authenticate(t.Context(), now, Attempt{Identifier: "alice", Password: "wrong"})
		var throttled *ThrottledError
		switch {
		case err == ErrWrongCredentials:
			evaluated++
		case errors.As(err, &throttled):
			if throttled.RetryAfter <= 0 || throttled.RetryAfter > 5*time.Minute {
				t.Fatalf("wait %v", throttled.RetryAfter)
			}
			now = now.Add(throttled.RetryAfter)
		default:
			t.Fatal(err)
		}
		if evaluated == 20 {
			break
		}
	}
	if d := now.Sub(start); d < 15*time.Minute {
		t.Errorf("20 guesses took %v", d)
	}
	if _, err := a.Authenticate(t.Context(), now.Add(5*time.Minute), Attempt{Identifier: "alice", Password: "lunar module 11"}); err != nil {
		t.Errorf("the correct password after the longest wait: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), now.Add(5*time.Minute), Attempt{Identifier: "alice", Password: "lunar module 11"}); err != nil {
		t.Errorf("and once more: %v", err)
	}
}

func TestLG07_KnownDeviceIsNotBlockedByStrangers(t *testing.T) {
	bob := &User{ID: "b", Username: "bob", PasswordHash: aliceHash()}
	a := accounts(t, newMapStore(alice(t), bob))
	device, err := a.RememberDevice(t.Context(), start, "a", "")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := a.RememberDevice(t.Context(), start, "a", device); err != nil || again != device {
		t.Errorf("the device is remembered twice: %v", err)
	}
	if other, err := a.RememberDevice(t.Context(), start, "b", device); err != nil || other == device {
		t.Errorf("the device is passed on to another user: %v", err)
	}
	for range 6 {
		a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: "wrong", Remote: netip.MustParseAddr("198.51.100.7")})
		a.Authenticate(t.Context(), start, Attempt{Identifier: "bob", Password: "wrong", Remote: netip.MustParseAddr("198.51.100.7")})
	}
	attempt := Attempt{Identifier: "alice", Password: "lunar module 11", Remote: netip.MustParseAddr("198.51.100.7")}
	var throttled *ThrottledError
	if _, err := a.Authenticate(t.Context(), start, attempt); !errors.As(err, &throttled) {
		t.Errorf("from an unknown device: %v, want *ThrottledError", err)
	}
	attempt.Device = "made up"
	if _, err := a.Authenticate(t.Context(), start, attempt); !errors.As(err, &throttled) {
		t.Errorf("from a made-up device: %v, want *ThrottledError", err)
	}
	attempt.Device = device
	if _, err := a.Authenticate(t.Context(), start, attempt); err != nil {
		t.Errorf("from the known device: %v", err)
	}
	attempt.Identifier = "bob"
	if _, err := a.Authenticate(t.Context(), start, attempt); !errors.As(err, &throttled) {
		t.Errorf("another user from the known device: %v, want *ThrottledError", err)
	}
	attempt.Identifier, attempt.Password = "alice", "wrong"
	for range 5 {
		a.Authenticate(t.Context(), start, attempt)
	}
	if _, err := a.Authenticate(t.Context(), start, attempt); !errors.As(err, &throttled) {
		t.Errorf("the known device guesses without limit: %v", err)
	}
}

func TestLG08_SprayingFromOneNetworkIsThrottled(t *testing.T) {
	for name, remote := range map[string]func(i int) netip.Addr{
		"one IPv4 address":        func(int) netip.Addr { return home },
		"the same, mapped":        func(int) netip.Addr { return netip.AddrFrom16(home.As16()) },
		"many of one IPv6 prefix": func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)) },
	} {
		a := accounts(t, newMapStore())
		a.verify = noPassword // this test is about the pace, not the hash
		passed := 0
		for i := range 200 {
			if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: fmt.Sprint("user", i), Password: "x", Remote: remote(i)}); err == ErrWrongCredentials {
				passed++
			}
		}
		if passed != 100 {
			t.Errorf("%s: %d of 200 attempts were evaluated, want 100", name, passed)
		}
		if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "x", Password: "x", Remote: netip.MustParseAddr("2001:db8:1::1")}); err != ErrWrongCredentials {
			t.Errorf("%s: another network gets %v", name, err)
		}
	}
}

func TestLG10_ParallelGuessesAreCountedBeforeTheyAreChecked(t *testing.T) {
	a := accounts(t, newMapStore(alice(t)))
	var wg sync.WaitGroup
	var mu sync.Mutex
	evaluated := 0
	for range 200 {
		wg.Go(func() {
			if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: "wrong"}); err == ErrWrongCredentials {
				mu.Lock()
				evaluated++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if evaluated > 5 {
		t.Errorf("%d of 200 parallel guesses were evaluated, want 5 at most", evaluated)
	}
}

func TestLO10_LogDoesNotContainUnknownIdentifiers(t *testing.T) {
	var log bytes.Buffer
	a, err := New(Config{Store: newMapStore(alice(t)), Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		a.Authenticate(t.Context(), start, Attempt{Identifier: "hunter2 typed here", Password: "p4ss-typed", Remote: home})
	}
	a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: "lunar module 11", Remote: home})
	for _, secret := range []string{"hunter2", "p4ss-typed", "lunar"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log contains %q:\n%s", secret, log.String())
		}
	}
	for _, event := range []string{"event=sign_in.succeeded ", "event=sign_in.failed", "event=sign_in.throttled", "sub=a", "username=alice", "address=192.0.2.1", "reason=unknown"} {
		if !strings.Contains(log.String(), event) {
			t.Errorf("the log lacks %q:\n%s", event, log.String())
		}
	}
}

// The log contains who could not sign in and why; the response does not.
func TestLO08_LogContainsWhyASignInFailed(t *testing.T) {
	var log bytes.Buffer
	none, disabled, retired := alice(t), alice(t), alice(t)
	none.ID, none.Username, none.PasswordHash, none.Claims = "n", "nora", "", nil
	disabled.ID, disabled.Username, disabled.Disabled, disabled.Claims = "d", "dora", true, nil
	retired.ID, retired.Username, retired.RetiredAt, retired.Claims = "r", "rita", start, nil
	a, err := New(Config{Store: newMapStore(alice(t), none, disabled, retired), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for username, want := range map[string]string{
		"alice": "sub=a username=alice reason=wrong_password", "nora": "sub=n username=nora reason=no_password",
		"dora": "sub=d username=dora reason=disabled", "rita": "sub=r username=rita reason=retired",
		"zoe@example.com": "reason=unknown",
	} {
		log.Reset()
		if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: username, Password: "wrong", Remote: home}); err != ErrWrongCredentials {
			t.Errorf("%s: the response tells them apart: %v", username, err)
		}
		if !strings.Contains(log.String(), "event=sign_in.failed ") || !strings.Contains(log.String(), want) || !strings.Contains(log.String(), "address="+home.String()) {
			t.Errorf("%s: the log lacks %q:\n%s", username, want, log.String())
		}
		if strings.Contains(log.String(), "zoe") || strings.Contains(log.String(), "example.com") {
			t.Errorf("the address of an unknown account is in the log:\n%s", log.String())
		}
	}
}
