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

// onlyAlice is VerifyPassword for tests that are not about hashing.
func onlyAlice(hash, password string) bool { return hash == aliceHash() && password == alicePassword }

// quick returns accounts that hash nothing.
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

func TestSH03_AnOfficeWithWrongPasswordsLocksNobodyOut(t *testing.T) {
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
			// Bob signed in from this office last month, with another browser.
			if _, err := a.Authenticate(t.Context(), start.AddDate(0, -1, 0), Attempt{Identifier: "bob", Password: alicePassword, Remote: home}); err != nil {
				t.Fatal(err)
			}
			for i := range 500 {
				a.Authenticate(t.Context(), start, Attempt{Identifier: identifier(i), Password: "wrong", Remote: home})
				if i == 50 {
					if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "carol", Password: alicePassword, Remote: home}); err != nil {
						t.Errorf("an account that was never here, after fifty failures: %v", err)
					}
				}
			}
			for range 3 {
				if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: alicePassword, Remote: home, Device: device}); err != nil {
					t.Errorf("the known device: %v", err)
				}
				if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "bob", Password: alicePassword, Remote: home}); err != nil {
					t.Errorf("an account that is known in this office: %v", err)
				}
			}
		})
	}
}

func TestSH04_AFloodOfStrangersLeavesTheKnownDeviceItsHashes(t *testing.T) {
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
	for deadline := time.Now().Add(5 * time.Second); ; {
		a.hashing.mu.Lock()
		full := a.hashing.waiting == a.hashing.most
		a.hashing.mu.Unlock()
		if full {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the flood does not fill the queue")
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: alicePassword, Remote: home, Device: device}); err != nil {
		t.Errorf("the known device: %v", err)
	}
}

// A distributed attack on an account gets the 100 guesses of NIST SP 800-63B-4, section
// 3.2.2, and then one a quarter of an hour. It keeps out neither the person's devices nor the
// networks where they signed in before, and strangers no longer than that.
func TestSH03_ADistributedAttackIsBoundedAndLocksThePersonOutNowhereTheyWere(t *testing.T) {
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
		t.Fatalf("from a place that nobody knows: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), start.Add(throttled.RetryAfter), attempt); err != nil {
		t.Errorf("after the wait: %v", err)
	}
}

// A known device that guesses ends up where everybody else is: it may have been stolen.
func TestSH03_AKnownDeviceHasAHundredGuessesToo(t *testing.T) {
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

// Behind a proxy that is not trusted everybody has its address. Strangers then cannot keep
// out those who signed in before.
func TestSH03_EverybodyBehindOneAddress(t *testing.T) {
	a := quick(t, newMapStore(alice(t), &User{ID: "b", Username: "bob", PasswordHash: aliceHash()}))
	if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: alicePassword, Remote: home}); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		a.Authenticate(t.Context(), start, Attempt{Identifier: fmt.Sprint("user", i), Password: "wrong", Remote: home})
	}
	if _, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: alicePassword, Remote: home}); err != nil {
		t.Errorf("somebody who was here before: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), start.Add(10*time.Second), Attempt{Identifier: "bob", Password: alicePassword, Remote: home}); err != nil {
		t.Errorf("somebody who is here for the first time, ten seconds later: %v", err)
	}
}

// Nodes share their counts, of people who exist and of those who do not alike.
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
				t.Errorf("%s at the other node: %v", name, err)
			}
		}
		// The right password, once the wait is over, forgets the failures on all nodes.
		time.Sleep(time.Minute)
		if _, err := nodes[1].Authenticate(t.Context(), time.Now(), Attempt{Identifier: "alice", Password: alicePassword, Remote: home}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for range 5 {
			if _, err := nodes[0].Authenticate(t.Context(), time.Now(), Attempt{Identifier: "alice", Password: "wrong", Remote: home}); err != ErrWrongCredentials {
				t.Errorf("after a success elsewhere: %v", err)
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

func TestSH03_WithoutSharedCountsEachNodeStillLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a, err := New(Config{Store: brokenCounts{newMapStore(alice(t))}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		a.verify = onlyAlice
		if _, err := a.Authenticate(t.Context(), time.Now(), Attempt{Identifier: "alice", Password: alicePassword, Remote: home}); err != nil {
			t.Errorf("the right password: %v", err)
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
