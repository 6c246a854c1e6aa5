package identity

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Fifty guessers at once, from as many networks, on two nodes: with the password they have few attempts
// at the second factor, without it few at the password, and the user signs in meanwhile.
func TestFiftyGuessers(t *testing.T) {
	nodes := nodesOf(t, newMapStore(alice(t)))
	for _, node := range nodes {
		node.verify = onlyAlice
	}
	secret := enrol(t, nodes[0], start.Add(-time.Hour), "a", "Phone")
	device, err := nodes[0].RememberDevice(t.Context(), start, "a", "")
	if err != nil {
		t.Fatal(err)
	}
	attempt := attemptBy(t, nodes[0], "a")
	var passwords, codes atomic.Int64
	var guessers sync.WaitGroup
	for i := range 50 {
		guessers.Go(func() {
			node := nodes[i%2]
			for j := range 20 {
				_, err := node.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: fmt.Sprint("guess ", i, j), Remote: address(i)})
				switch {
				case errors.Is(err, ErrWrongCredentials):
					passwords.Add(1)
				case !isThrottled(err):
					t.Error(err)
				}
				guess := attempt
				guess.Remote = address(i)
				_, err = node.ProveTOTP(t.Context(), start, guess, "000000")
				switch {
				case errors.Is(err, ErrWrongCode):
					codes.Add(1)
				case !isThrottled(err):
					t.Error(err)
				}
			}
		})
	}
	// The user's own device, in the same moment.
	if _, err := nodes[0].Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: alicePassword, Remote: home, Device: device}); err != nil {
		t.Errorf("the password on the user's device: %v", err)
	}
	own := attempt
	own.Device = device
	if _, err := nodes[1].ProveTOTP(t.Context(), start, own, codeAt(secret, start)); err != nil {
		t.Errorf("the code on the user's device: %v", err)
	}
	guessers.Wait()
	// Nodes learn each other's counts once a second, so each may allow its own burst at first.
	if passwords.Load() > int64(2*attemptTotal.Burst) || codes.Load() > int64(2*factorTotal.Burst) {
		t.Errorf("%d passwords and %d codes were evaluated", passwords.Load(), codes.Load())
	}
	t.Logf("note: of 1,000 guesses each, %d passwords and %d codes were evaluated", passwords.Load(), codes.Load())
}
