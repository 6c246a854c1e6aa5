package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// Password attempts are limited by account and origin (NIST SP 800-63B-4, section 3.2.2). A
// device on which the account was signed in before, known by its cookie, and a network from
// which it was signed in before each have their own budget. All other origins share one budget
// for each account. Using up the shared budget does not affect the others.
var (
	// attemptPace limits attempts at an account from one known device or one network.
	attemptPace = ratelimit.Limit{Burst: 5, Every: time.Minute}
	// attemptTotal limits attempts at an account from one known device, from one known network,
	// and from all unknown origins together.
	attemptTotal = ratelimit.Limit{Burst: 100, Every: 15 * time.Minute}
	// accountsByNetwork limits how many accounts can fail from a network that they do not know.
	accountsByNetwork = ratelimit.Limit{Burst: 100, Every: 10 * time.Second}
	// signUpsByNetwork limits new accounts from a network.
	signUpsByNetwork = ratelimit.Limit{Burst: 20, Every: 6 * time.Minute}
	// resetPace limits messages with a new password to one account, from one known device, from
	// one known network, and from all unknown origins together.
	resetPace = ratelimit.Limit{Burst: 4, Every: 15 * time.Minute}
	// factorTotal limits wrong codes for a second factor of one account, from one known device, from one
	// known network, and from all unknown origins together: 300 guesses a day, of which one in a thousand
	// days succeeds with six digits and three valid codes at a time.
	factorTotal = ratelimit.Limit{Burst: 10, Every: 5 * time.Minute}
	// changePace limits changes of how one user signs in. In the week in which a change can be undone, there
	// are fewer of them than Undo reads: a thief cannot hide one behind others.
	changePace = ratelimit.Limit{Burst: 60, Every: 90 * time.Minute}
	// signInMailPace limits messages that sign one account in, from one known device and from one
	// network. signInMailTotal limits those from all networks that the account does not know.
	signInMailPace  = ratelimit.Limit{Burst: 3, Every: 10 * time.Minute}
	signInMailTotal = ratelimit.Limit{Burst: 12, Every: 10 * time.Minute}
	// mailPace limits the messages that one user causes, and those that one network causes to one
	// address.
	mailPace = ratelimit.Limit{Burst: 5, Every: 10 * time.Minute}
	// mailsByNetwork limits messages that strangers in one network cause.
	mailsByNetwork = ratelimit.Limit{Burst: 60, Every: time.Minute}
)

// limits are the limits of sign-in. They count across all nodes.
type limits struct {
	pace, total, accounts, signUps *ratelimit.Limiter
	factors, changes               *ratelimit.Limiter
	signInMails, signInMailsTotal  *ratelimit.Limiter
	resets, mails, mailsByNetwork  *ratelimit.Limiter
	recoveries                     *ratelimit.Limiter

	all []*ratelimit.Limiter
}

func newLimits(counts storage.Counts, logger *slog.Logger) limits {
	var all []*ratelimit.Limiter
	shared := func(name string, limit ratelimit.Limit) *ratelimit.Limiter {
		l := ratelimit.New(ratelimit.Config{Name: name, Limit: limit, Counts: counts, Logger: logger})
		all = append(all, l)
		return l
	}
	l := limits{
		pace:     shared("password attempts from one place", attemptPace),
		total:    shared("password attempts", attemptTotal),
		accounts: shared("accounts with failed attempts", accountsByNetwork),
		signUps:  shared("sign-ups", signUpsByNetwork),
		resets:   shared("new passwords", resetPace),

		recoveries: shared("recoveries by mail", resetPace),

		factors: shared("second factors", factorTotal),
		changes: shared("changes of how a user signs in", changePace),
		mails:   shared("messages", mailPace),

		mailsByNetwork:   shared("messages from a network", mailsByNetwork),
		signInMails:      shared("messages that sign in, from one place", signInMailPace),
		signInMailsTotal: shared("messages that sign in", signInMailTotal),
	}
	l.all = all
	return l
}

// takeShared counts an event, as on other nodes, or returns how long to wait.
func takeShared(ctx context.Context, l *ratelimit.Limiter, now time.Time, key ratelimit.Key) time.Duration {
	l.Load(ctx, now, key)
	return l.Take(now, key)
}

// place is the origin of an attempt, as far as limits are concerned.
type place struct {
	pace, total ratelimit.Key
	// stranger is set if the account was never signed in from this device or network. Each
	// account that fails then counts against the network.
	stranger bool
	network  ratelimit.Key
	// reserved is set if the password is hashed in a turn that is reserved for known devices.
	// owner is the owner of the turn.
	reserved bool
	owner    string
}

// placeOf returns the place of an attempt at an account. It does the same work for accounts that
// do not exist.
func (a *Accounts) placeOf(ctx context.Context, now time.Time, account string, attempt Attempt) (place, error) {
	network := ratelimit.Network(attempt.Remote)
	device, err := a.deviceOf(ctx, now, attempt.Device)
	if err != nil {
		return place{}, fmt.Errorf("recognize the device: %w", err)
	}
	_, err = a.store.Get(ctx, now, networkKey(account, attempt.Remote))
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return place{}, fmt.Errorf("recognize the network: %w", err)
	}
	switch {
	case device != "" && device == account:
		key := ratelimit.NewKey("device", account, attempt.Device)
		return place{pace: key, total: key, reserved: true, owner: account}, nil
	case err == nil:
		key := ratelimit.NewKey("network", account, network)
		return place{pace: key, total: key, owner: network}, nil
	}
	return place{
		pace: ratelimit.NewKey("network", account, network), total: ratelimit.NewKey("strangers", account),
		stranger: true, network: ratelimit.NewKey(network), owner: network,
	}, nil
}

// take counts an attempt before it is evaluated, so that parallel attempts cannot all pass, and
// returns zero. If a limit is exceeded, it counts nothing and returns how long to wait. Limits
// of the caller alone are checked before shared ones.
func (l *limits) take(ctx context.Context, now time.Time, p *place) time.Duration {
	l.pace.Load(ctx, now, p.pace)
	l.total.Load(ctx, now, p.total)
	if wait := l.pace.Take(now, p.pace); wait > 0 {
		return wait
	}
	first := l.pace.Used(now, p.pace) == 1
	if wait := l.total.Take(now, p.total); wait > 0 {
		l.pace.Undo(now, p.pace)
		return wait
	}
	if !p.stranger || !first {
		p.stranger = false
		return 0
	}
	l.accounts.Load(ctx, now, p.network)
	wait := l.accounts.Take(now, p.network)
	if wait > 0 {
		p.stranger = false
		l.undo(now, p)
	}
	return wait
}

// undo takes back an attempt that was not evaluated.
func (l *limits) undo(now time.Time, p *place) {
	l.pace.Undo(now, p.pace)
	l.total.Undo(now, p.total)
	if p.stranger {
		l.accounts.Undo(now, p.network)
	}
}

// succeeded forgets the failures of a place.
func (l *limits) succeeded(now time.Time, p *place) {
	l.pace.Forget(now, p.pace)
	l.total.Forget(now, p.total)
	if p.stranger {
		l.accounts.Undo(now, p.network)
	}
}

// Close stores pending counts and logs pending events.
func (a *Accounts) Close() {
	a.events.Close()
	a.uses.Close()
	for _, l := range a.limits.all {
		l.Close()
	}
}

// networkLifetime is how long a network is remembered after a sign-in.
const networkLifetime = deviceLifetime

func networkKey(account string, remote netip.Addr) storage.Key {
	return ticketkind.KnownNetwork.Hash(account + "\x00" + ratelimit.Network(remote))
}

// rememberNetwork stores that an account was signed in from a network.
func (a *Accounts) rememberNetwork(ctx context.Context, now time.Time, userID string, remote netip.Addr) error {
	if !remote.IsValid() {
		return nil
	}
	key := networkKey(userID, remote)
	_, err := a.store.Get(ctx, now, key)
	if err == nil {
		return nil
	}
	if errors.Is(err, storage.ErrNotFound) {
		err = a.store.Put(ctx, now, storage.Ticket{Key: key, Family: SessionFamily(userID), Expires: now.Add(networkLifetime)})
	}
	if errors.Is(err, storage.ErrExists) {
		return nil
	}
	return err
}

// throttled returns the error for a caller who must wait.
func throttled(wait time.Duration) *ThrottledError {
	return &ThrottledError{(wait + time.Second - 1).Truncate(time.Second)}
}
