package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/softauthenticator"
	"github.com/valetkey/valetkey/storage"
)

// signInScenarios are those in which a user signs in. Their floors verify what the user presents, and
// nothing else. Each sign-in has an audit record, which is stored with the session and added to the chain
// later: that is about 6 % of a sign-in with a passkey, which has a limit of its own with -observed.
func signInScenarios() []scenario {
	return []scenario{{
		name: "password", title: "sign-in with a password", prepare: preparePassword, most: 400,
		floor: func(t *target, _ keys) request {
			return t.repeated(message{method: http.MethodPost, path: floorHash, form: url.Values{"password": {password}}})
		},
		limits: limits{1.25, 1.25, "one password hash, as the floor; its 19 MiB start a garbage collection, and the session, the device and the counts of attempts are stored"},
	}, {
		name: "passkey", title: "sign-in with a passkey", prepare: preparePasskey, most: 4000, observed: 1.1,
		floor:  func(t *target, _ keys) request { return t.post(floorPasskey, nil) },
		limits: limits{20, 20, "the floor verifies one signature in one request; a sign-in is two requests, reads the user, and stores the challenge as used, the session, the device and the network"},
	}, {
		name: "upstream", title: "sign-in with another provider", prepare: prepareUpstream, most: 4000,
		floor:  floorUpstreamSignIn,
		limits: limits{8, 9, "the floor redirects twice, redeems the code over HTTP, verifies the ID token and adds a row; a sign-in also keeps its state between the two requests, evaluates the rule, refreshes the claims, and stores the session, the device and the network"},
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

// preparePasskey creates an account with a passkey for each user who signs in at the same time.
func preparePasskey(ctx context.Context, t *target, _ keys) (request, error) {
	users := make([]*passkeyUser, signInsAtOnce)
	for i := range users {
		u, err := newPasskeyUser(ctx, t, i)
		if err != nil {
			return nil, err
		}
		users[i] = u
	}
	return func(ctx context.Context, worker int) error {
		u := users[worker%len(users)]
		u.mu.Lock()
		defer u.mu.Unlock()
		options, err := u.send(ctx, t, "/passkey/options", url.Values{"for": {"sign_in"}})
		if err != nil {
			return err
		}
		response, err := u.device.Get(options)
		if err != nil {
			return err
		}
		location, err := u.send(ctx, t, "/sign-in/passkey", url.Values{"response": {string(response)}})
		if err == nil && !strings.Contains(string(location), "/account") {
			err = fmt.Errorf("the sign-in failed: %.200s", location)
		}
		return err
	}, nil
}

// passkeyUser is a user with a passkey, in one browser.
type passkeyUser struct {
	mu     sync.Mutex
	device *softauthenticator.Authenticator
	cookie *http.Cookie
	from   string
}

// newPasskeyUser signs up with a passkey, from an address of its own: sign-ups of a network are limited.
func newPasskeyUser(ctx context.Context, t *target, i int) (*passkeyUser, error) {
	u := &passkeyUser{device: softauthenticator.New(t.url), from: fmt.Sprintf("203.0.113.%d", i+1)}
	cookies := httptest.NewRecorder()
	identity.SetPasskeyCookie(cookies, t.url, identity.NewBrowserSecret())
	u.cookie = cookies.Result().Cookies()[0]
	name := "passkey-" + strings.ToLower(rand.Text()[:10])
	options, err := u.send(ctx, t, "/passkey/options", url.Values{"for": {"sign_up"}, "username": {name}})
	if err != nil {
		return nil, err
	}
	var o struct{ User struct{ ID string } }
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, fmt.Errorf("read the options of a passkey: %w", err)
	}
	response, err := u.device.Create(options)
	if err != nil {
		return nil, err
	}
	location, err := u.send(ctx, t, "/sign-up", url.Values{"username": {name}, "user": {o.User.ID}, "response": {string(response)}})
	if err == nil && !strings.Contains(string(location), "/account") {
		err = fmt.Errorf("the sign-up failed: %.200s", location)
	}
	return u, err
}

func (u *passkeyUser) send(ctx context.Context, t *target, path string, form url.Values) ([]byte, error) {
	return t.send(ctx, message{method: http.MethodPost, path: path, page: true, form: form, from: u.from, cookies: []*http.Cookie{u.cookie}})
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
