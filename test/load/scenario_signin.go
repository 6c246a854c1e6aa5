package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
)

// signInScenarios are those in which a user signs in. Their floors verify what the user presents, and
// nothing else.
func signInScenarios() []scenario {
	return []scenario{{
		name: "password", title: "sign-in with a password", prepare: preparePassword, most: 400,
		floor: func(t *target, _ keys) request {
			return t.repeated(message{method: http.MethodPost, path: floorHash, form: url.Values{"password": {password}}})
		},
		limits: limits{1.25, 1.25, "one password hash, as the floor; its 19 MiB start a garbage collection, and the session, the device and the counts of attempts are stored"},
	}}
}

// signInsAtOnce is how many users sign in at the same time. Their passwords are hashed one after the
// other on two cores, and nobody may wait for more than five seconds.
const signInsAtOnce = 8

// Accounts for sign-ins, besides username. Parallel attempts at one account are limited.
const accounts = 64

// storeAccounts stores the accounts, which all have the same password.
func storeAccounts(ctx context.Context, store identity.Store) error {
	hash, err := identity.HashPassword(password)
	if err != nil {
		return err
	}
	for i := range accounts {
		now := time.Now()
		err := store.CreateUser(ctx, &identity.User{
			ID: storage.NewID(), Username: account(i), PasswordHash: hash, Origin: identity.OriginSignedUp, CreatedAt: now, UpdatedAt: now,
		})
		if err != nil && !errors.Is(err, identity.ErrIdentifierTaken) { // an earlier run has stored it
			return fmt.Errorf("store an account: %w", err)
		}
	}
	return nil
}

func account(i int) string { return fmt.Sprintf("user-%d", i%accounts) }

// passwordAttempt is the form of the sign-in page.
func passwordAttempt(account, password, from string) message {
	return message{
		method: http.MethodPost, path: "/sign-in", page: true, from: from,
		form: url.Values{"identifier": {account}, "password": {password}},
	}
}

func preparePassword(_ context.Context, t *target, _ keys) (request, error) {
	return func(ctx context.Context, worker int) error {
		location, err := t.send(ctx, passwordAttempt(account(worker), password, ""))
		if err == nil && !strings.Contains(string(location), "/account") {
			err = fmt.Errorf("the sign-in failed: %.200s", location)
		}
		return err
	}, nil
}

// Guessers try wrong passwords at the same time, each from an address of its own, at all accounts.
const (
	guessers = 50
	// guessPause is the shortest time between two attempts of a guesser.
	guessPause = 100 * time.Millisecond
	// honestWorkers send token requests in the meantime, each after a pause.
	honestWorkers  = 4
	honestPause    = 5 * time.Millisecond
	honestRequests = 2000
	maxSlowdown    = 1.2
)

// guessing is how much guessers slow down the token requests of others.
type guessing struct {
	Alone    figures `json:"alone"`
	Attacked figures `json:"attacked"`
	Guesses  int     `json:"guesses"`
	Slowdown float64 `json:"slowdown"`
}

func (g guessing) String() string {
	return fmt.Sprintf("While %d guessers try passwords (%d attempts), a client_credentials request takes %.2f ms in the median instead of %.2f, %.2f times as long (limit %.2f).",
		guessers, g.Guesses, g.Attacked.P50, g.Alone.P50, g.Slowdown, maxSlowdown)
}

// measureGuessing compares the latency of token requests with and without guessers, in turns.
func measureGuessing(ctx context.Context, o options, t *target, client keys) (g guessing, err error) {
	send, err := prepareClientCredentials(clientID)(ctx, t, client)
	if err != nil {
		return g, err
	}
	const turns = 4
	o.Requests, o.Concurrency = min(o.Requests, honestRequests/turns), honestWorkers
	var alone, attacked []time.Duration
	for range turns {
		before, err := flood(ctx, o.Requests, o.Concurrency, o.longest(), send, honestPause)
		if err != nil {
			return g, err
		}
		alone = append(alone, before...)
		attack := startGuessers(ctx, t)
		during, err := flood(ctx, o.Requests, o.Concurrency, o.longest(), send, honestPause)
		g.Guesses += attack.stop()
		if err != nil {
			return g, err
		}
		attacked = append(attacked, during...)
	}
	g.Alone, g.Attacked = latencies(alone), latencies(attacked)
	g.Slowdown = g.Attacked.P50 / g.Alone.P50
	return g, nil
}

// attack is guessers at work.
type attack struct {
	guesses atomic.Int64
	end     context.CancelFunc
	working sync.WaitGroup
}

func startGuessers(ctx context.Context, t *target) *attack {
	a := &attack{}
	ctx, a.end = context.WithCancel(ctx)
	for i := range guessers {
		a.working.Go(func() {
			for next := i; ctx.Err() == nil; next += guessers {
				began := time.Now()
				// It is refused: the password is wrong, or there were too many attempts.
				_, _ = t.send(context.WithoutCancel(ctx), passwordAttempt(account(next), "guess", fmt.Sprintf("198.51.100.%d", i+1)))
				a.guesses.Add(1)
				select {
				case <-ctx.Done():
				case <-time.After(guessPause - time.Since(began)):
				}
			}
		})
	}
	return a
}

// stop returns how many attempts were made.
func (a *attack) stop() int {
	a.end()
	a.working.Wait()
	return int(a.guesses.Load())
}
