package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/storage"
)

const alicePassword = "lunar module 11"

func noPassword(string, string) bool { return false }

// onlyAlice replaces VerifyPassword in tests that are not about hashing.
func onlyAlice(hash, password string) bool { return hash == aliceHash() && password == alicePassword }

// quick returns accounts that do not hash.
func quick(t *testing.T, store Store) *Accounts {
	a := accounts(t, store)
	a.verify = onlyAlice
	return a
}

func address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)})
}

func isThrottled(err error) bool {
	_, ok := errors.AsType[*ThrottledError](err)
	return ok
}

func TestSH03_FailuresFromOneNetworkLockNoOneOut(t *testing.T) {
	bob := &User{ID: "b", Username: "bob", PasswordHash: aliceHash()}
	carol := &User{ID: "c", Username: "carol", PasswordHash: aliceHash()}
	for name, identifier := range map[string]func(int) string{
		"for one account":       func(int) string { return "alice" },
		"for ten accounts":      func(i int) string { return fmt.Sprint("colleague", i/5) },
		"for a hundred of them": func(i int) string { return fmt.Sprint("colleague", i) },
	} {
		t.Run(name, func(t *testing.T) {
			a := quick(t, newMapStore(alice(t), bob, carol))
			device, err := a.RememberDevice(t.Context(), start, "a", "")
			if err != nil {
				t.Fatal(err)
			}
			// Bob signed in from this network last month, with another browser.
			if _, err := a.Authenticate(t.Context(), start.AddDate(0, -1, 0), Attempt{Identifier: "bob", Password: alicePassword, Remote: home}); err != nil {
				t.Fatal(err)
			}
			for i := range 500 {
				a.Authenticate(t.Context(), start, Attempt{Identifier: identifier(i), Password: "wrong", Remote: home})
				if i == 50 {
					if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "carol", Password: alicePassword, Remote: home}); err != nil {
						t.Errorf("an account that is new on this network, after fifty failures: %v", err)
					}
				}
			}
			for range 3 {
				if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: alicePassword, Remote: home, Device: device}); err != nil {
					t.Errorf("the known device: %v", err)
				}
				if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "bob", Password: alicePassword, Remote: home}); err != nil {
					t.Errorf("an account that is known on this network: %v", err)
				}
			}
		})
	}
}

func TestSH04_KnownDevicesHaveReservedHashes(t *testing.T) {
	a := accounts(t, newMapStore(alice(t)))
	device, err := a.RememberDevice(t.Context(), start, "a", "")
	if err != nil {
		t.Fatal(err)
	}
	block := make(chan struct{})
	a.verify = func(hash, password string) bool {
		if password == "wrong" {
			<-block
		}
		return VerifyPassword(hash, password)
	}
	var flood sync.WaitGroup
	for i := range 150 {
		flood.Go(func() {
			a.Authenticate(t.Context(), start, Attempt{Identifier: fmt.Sprint("user", i), Password: "wrong", Remote: address(i)})
		})
	}
	defer flood.Wait()
	defer close(block)
	for deadline := time.Now().Add(time.Minute); ; {
		a.hashing.mu.Lock()
		full := a.hashing.waiting == a.hashing.most
		a.hashing.mu.Unlock()
		if full {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the strangers do not fill the queue")
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: alicePassword, Remote: home, Device: device}); err != nil {
		t.Errorf("the known device: %v", err)
	}
}

// A distributed attack on an account gets the 100 guesses of NIST SP 800-63B-4, section
// 3.2.2, and then one every 15 minutes. It does not lock out the user's devices or the networks
// on which the user signed in before, and others no longer than that.
func TestSH03_DistributedAttackIsLimitedAndDoesNotLockTheUserOut(t *testing.T) {
	a := quick(t, newMapStore(alice(t)))
	device, err := a.RememberDevice(t.Context(), start, "a", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: alicePassword, Remote: home}); err != nil {
		t.Fatal(err)
	}
	evaluated := 0
	for i := range 10_000 {
		if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: "wrong", Remote: address(i)}); err == ErrWrongCredentials {
			evaluated++
		}
	}
	if evaluated != 100 {
		t.Errorf("%d guesses were evaluated, want 100", evaluated)
	}
	elsewhere := netip.MustParseAddr("198.51.100.7")
	for what, attempt := range map[string]Attempt{
		"the known device, elsewhere":        {Device: device, Remote: elsewhere},
		"an unknown device at the known net": {Remote: home},
	} {
		attempt.Identifier, attempt.Password = "alice", alicePassword
		if _, err := a.Authenticate(t.Context(), start, attempt); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	attempt := Attempt{Identifier: "alice", Password: alicePassword, Remote: netip.MustParseAddr("198.51.100.8")}
	_, err = a.Authenticate(t.Context(), start, attempt)
	throttled, ok := errors.AsType[*ThrottledError](err)
	if !ok || throttled.RetryAfter > 15*time.Minute {
		t.Fatalf("from an unknown network: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), start.Add(throttled.RetryAfter), attempt); err != nil {
		t.Errorf("after the wait: %v", err)
	}
}

// A known device is limited too: it may have been stolen.
func TestSH03_KnownDeviceHasAHundredGuesses(t *testing.T) {
	a := quick(t, newMapStore(alice(t)))
	device, err := a.RememberDevice(t.Context(), start, "a", "")
	if err != nil {
		t.Fatal(err)
	}
	evaluated := 0
	for now := start; now.Before(start.Add(24 * time.Hour)); now = now.Add(time.Minute) {
		if _, err := a.Authenticate(t.Context(), now, Attempt{Identifier: "alice", Password: "wrong", Device: device}); err == ErrWrongCredentials {
			evaluated++
		}
	}
	if evaluated > 100+24*4 {
		t.Errorf("%d guesses within a day", evaluated)
	}
}

// Behind a proxy that is not trusted, all users have its address. Even then, strangers cannot lock
// out users who signed in before.
func TestSH03_AllUsersBehindOneAddress(t *testing.T) {
	a := quick(t, newMapStore(alice(t), &User{ID: "b", Username: "bob", PasswordHash: aliceHash()}))
	if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: alicePassword, Remote: home}); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		a.Authenticate(t.Context(), start, Attempt{Identifier: fmt.Sprint("user", i), Password: "wrong", Remote: home})
	}
	if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: alicePassword, Remote: home}); err != nil {
		t.Errorf("a user who signed in before: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), start.Add(10*time.Second), Attempt{Identifier: "bob", Password: alicePassword, Remote: home}); err != nil {
		t.Errorf("a new user, ten seconds later: %v", err)
	}
}

// Nodes share their counts, for known and unknown accounts alike.
func TestSH03_FailuresCountOnAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMapStore(alice(t))
		secret := []byte("the same on all nodes, 32 bytes.")
		var nodes []*Accounts
		for range 2 {
			a, err := New(Config{Store: store, Logger: slog.New(slog.DiscardHandler), Secret: secret})
			if err != nil {
				t.Fatal(err)
			}
			a.verify = onlyAlice
			nodes = append(nodes, a)
		}
		for _, name := range []string{"alice", "nobody"} {
			for range 5 {
				if _, err := nodes[0].Authenticate(t.Context(), time.Now(), Attempt{Identifier: name, Password: "wrong", Remote: home}); err != ErrWrongCredentials {
					t.Fatal(err)
				}
			}
			time.Sleep(2 * time.Second)
			if _, err := nodes[1].Authenticate(t.Context(), time.Now(), Attempt{Identifier: name, Password: "wrong", Remote: home}); !isThrottled(err) {
				t.Errorf("%s on the other node: %v", name, err)
			}
		}
		// After the wait, the correct password resets the failures on all nodes.
		time.Sleep(time.Minute)
		if _, err := nodes[1].Authenticate(t.Context(), time.Now(), Attempt{Identifier: "alice", Password: alicePassword, Remote: home}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for range 5 {
			if _, err := nodes[0].Authenticate(t.Context(), time.Now(), Attempt{Identifier: "alice", Password: "wrong", Remote: home}); err != ErrWrongCredentials {
				t.Errorf("after a success on the other node: %v", err)
			}
		}
		for _, a := range nodes {
			a.Close()
		}
	})
}

// brokenCounts is a store whose counts fail.
type brokenCounts struct{ *mapStore }

var errBroken = errors.New("the table is gone")

func (brokenCounts) CountedUntil(context.Context, time.Time, ...storage.CountKey) ([]time.Time, error) {
	return nil, errBroken
}
func (brokenCounts) AddCounts(context.Context, ...storage.Count) error { return errBroken }

func TestSH03_EachNodeLimitsIfCountsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a, err := New(Config{Store: brokenCounts{newMapStore(alice(t))}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		a.verify = onlyAlice
		if _, err := a.Authenticate(t.Context(), time.Now(), Attempt{Identifier: "alice", Password: alicePassword, Remote: home}); err != nil {
			t.Errorf("the correct password: %v", err)
		}
		for range 5 {
			a.Authenticate(t.Context(), time.Now(), Attempt{Identifier: "alice", Password: "wrong", Remote: address(1)})
		}
		if _, err := a.Authenticate(t.Context(), time.Now(), Attempt{Identifier: "alice", Password: "wrong", Remote: address(1)}); !isThrottled(err) {
			t.Errorf("the sixth guess: %v", err)
		}
		a.Close()
		if n := strings.Count(log.String(), "rate_limit.store_failed"); n == 0 || n > 3 {
			t.Errorf("the failure is %d times in the log:\n%s", n, log.String())
		}
	})
}
