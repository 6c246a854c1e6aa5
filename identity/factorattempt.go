package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/storage"
)

// FactorAttempt is an attempt to prove a method that can be guessed, other than the password: a code.
type FactorAttempt struct {
	User   *User
	Method Method
	// Progress is the sign-in in progress; nil if the user is signed in and proves a method again.
	Progress *SignInProgress
	// Remote and Device are as in Attempt.
	Remote netip.Addr
	Device string
}

// Format keeps the address and the secret out of logs and messages.
func (f FactorAttempt) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[attempt at a second factor]") }

// LogValue keeps the address and the secret out of structured logs.
func (f FactorAttempt) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(f)) }

// TryFactor counts an attempt, calls verify, and returns nil if it returns true. Attempts are counted
// for each sign-in, and for each user and place. Only those who have proved another method of the user
// get here, so a stranger cannot use up the attempts of the user. The error is ErrWrongCode,
// *ThrottledError, ErrSignInOver if too many codes were wrong during this sign-in, or an internal
// error.
func (a *Accounts) TryFactor(ctx context.Context, now time.Time, f FactorAttempt, verify func() (bool, error)) error {
	from, err := a.placeOf(ctx, now, f.User.ID, Attempt{Remote: f.Remote, Device: f.Device})
	if err != nil {
		return err
	}
	remote := event.Address(f.Remote)
	a.limits.factors.Load(ctx, now, from.total)
	if wait := a.limits.factors.Take(now, from.total); wait > 0 {
		refused := throttled(wait)
		a.events.Record(ctx, event.SignInThrottled, named(f.User), slog.Duration("retry_after", refused.RetryAfter), remote)
		return refused
	}
	if f.Progress != nil {
		ticket := storage.Ticket{Family: SessionFamily(f.User.ID), Expires: f.Progress.Expires}
		if err := a.takeAttempt(ctx, now, f.Progress.key, ticket); errors.Is(err, ErrProofOver) {
			return ErrSignInOver
		} else if err != nil {
			return err
		}
	}
	ok, err := verify()
	if err != nil {
		a.limits.factors.Undo(now, from.total)
		return err
	}
	if !ok {
		a.AddEvent(ctx, now, f.User.ID, EventFactorFailed, "", Activity{Remote: f.Remote.String()})
		a.events.Record(ctx, event.SignInFailed, named(f.User), slog.String("reason", event.ReasonWrongCode), remote)
		return ErrWrongCode
	}
	a.limits.factors.Forget(now, from.total)
	return nil
}
