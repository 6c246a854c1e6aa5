package identity

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// ResetRequest asks for a message with which a user can choose a new password.
type ResetRequest struct {
	// Identifier is a username or an email address, as typed.
	Identifier string
	// Remote and Device are as in Attempt.
	Remote netip.Addr
	Device string
	// Browser is the secret of the browser's cookie (BrowserCookie).
	Browser string
	// Language is that of the page, for users who have not chosen one.
	Language string
	// Path returns the path and query of the link with a token.
	Path func(token string) string
}

// Format keeps the identifier and the secrets out of logs and messages.
func (r ResetRequest) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[request for a new password]") }

// LogValue keeps the identifier and the secrets out of structured logs.
func (r ResetRequest) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r)) }

// RequestReset sends a message to the verified address of an account, and returns the public name
// of the request. It does the same work, stores the same and takes the same time whether or not
// there is such an account. The error is *ThrottledError, if the network sends too many requests,
// or an internal error.
//
// Each place from which an account was used has its own budget of messages, and all others share
// one. A stranger who uses that up locks no one out: messages stay valid for longer than it takes
// until the next one is sent, so there is always a valid message in the user's mailbox.
func (a *Accounts) RequestReset(ctx context.Context, now time.Time, r ResetRequest) (request string, err error) {
	if a.mail == nil {
		return "", ErrNoMail
	}
	if wait := takeShared(ctx, a.limits.mailsByNetwork, now, ratelimit.NewKey(ratelimit.Network(r.Remote))); wait > 0 {
		return "", throttled(wait)
	}
	user, err := a.find(ctx, r.Identifier)
	if err != nil {
		return "", fmt.Errorf("find the user who forgot the password: %w", err)
	}
	account, who := "unknown:"+mask(a.countKey, r.Identifier), slog.String("unknown_account", mask(a.logKey, r.Identifier)[:8])
	if user != nil {
		account, who = user.ID, named(user)
	}
	from, err := a.placeOf(ctx, now, account, Attempt{Remote: r.Remote, Device: r.Device})
	if err != nil {
		return "", err
	}
	allowed := takeShared(ctx, a.limits.resets, now, from.total) == 0
	data, m := proofData{Purpose: PurposeReset}, mail.Message{Kind: mail.KindReset, Lifetime: resetLifetime, Expires: now.Add(resetLifetime)}
	family := ""
	reason := ""
	switch {
	case user == nil:
		reason = event.ReasonUnknown
	case user.suspended():
		reason = failureReason(user)
	case user.PasswordHash == "" && user.Account.LockedAt.IsZero():
		reason = event.ReasonNoPassword
	case !user.EmailVerified() || !mail.Deliverable(user.Email()):
		reason = event.ReasonNoAddress
	case !allowed:
		reason = event.ReasonThrottled
	default:
		data.User, data.Email, data.Password = user.ID, user.Email(), hashOf("password", user.PasswordHash)
		m.To, m.Subject, m.Username, m.Language = user.Email(), user.ID, user.Username, cmp.Or(user.locale(), r.Language)
		family = SessionFamily(user.ID)
	}
	proof, err := newProof(now, data, r.Browser, family, resetLifetime)
	if err != nil {
		return "", err
	}
	m.Code, m.Path = codeOf(proof.token), r.Path(proof.token)
	if err := a.store.Put(ctx, now, proof.tickets...); err != nil {
		return "", fmt.Errorf("store a request for a new password: %w", err)
	}
	if err := a.mail.Send(ctx, now, m); err != nil && !errors.Is(err, mail.ErrTooManyWaiting) {
		return "", err
	}
	a.events.Record(ctx, event.PasswordResetRequested, who, slog.String("reason", reason), event.Address(r.Remote))
	return proof.request, nil
}

// PasswordReset chooses a new password with a proof.
type PasswordReset struct {
	Proof    *Proof
	Password string
	Activity Activity
}

// Format keeps the password out of logs and messages.
func (r PasswordReset) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[new password]") }

// LogValue keeps the password out of structured logs.
func (r PasswordReset) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r)) }

// ResetPassword sets a new password. Everything that was issued to the user ends: sessions, codes
// and tokens, other proofs, and remembered devices. It does not sign the user in, so a second
// factor is still required. The error is ErrProofOver, *WeakPasswordError, ErrPasswordTooLong,
// ErrBusy or an internal error.
func (a *Accounts) ResetPassword(ctx context.Context, now time.Time, r PasswordReset) error {
	user, hash, err := a.newPasswordHash(ctx, r)
	if err != nil {
		return err
	}
	err = a.store.UpdateUser(ctx, user.ID, func(stored *User) error {
		// The address or the password was changed since the message was sent: by this link, perhaps.
		if stored.suspended() || !stored.EmailVerified() || stored.Email() != r.Proof.Email ||
			subtle.ConstantTimeCompare(hashOf("password", stored.PasswordHash), r.Proof.data.Password) != 1 {
			return ErrProofOver
		}
		stored.PasswordHash, stored.UpdatedAt = hash, now
		stored.unlock(now)
		stored.AddEvent(now, r.Activity.event(EventPasswordReset, ""))
		stored.End(now, nil)
		*user = *stored
		return nil
	})
	if errors.Is(err, ErrProofOver) || errors.Is(err, storage.ErrNotFound) {
		return ErrProofOver
	}
	if err != nil {
		return fmt.Errorf("store the new password: %w", err)
	}
	if err := a.spend(ctx, now, r.Proof); err != nil && !errors.Is(err, ErrProofOver) { // it has ended with the rest
		return err
	}
	a.events.Record(ctx, event.PasswordReset, named(user))
	a.notify(ctx, now, user, a.passwordNotice(r.Activity, now))
	return nil
}

func (a *Accounts) passwordNotice(from Activity, now time.Time) mail.Message {
	m := from.message(mail.KindPasswordChanged, now)
	m.Path = a.pages.Forgot
	return m
}

// newPasswordHash checks and hashes the password that the user of a proof has chosen. The error is one of
// those of ResetPassword.
func (a *Accounts) newPasswordHash(ctx context.Context, r PasswordReset) (*User, string, error) {
	user, err := a.AnyUser(ctx, r.Proof.User)
	if errors.Is(err, storage.ErrNotFound) || err == nil && user.suspended() {
		return nil, "", ErrProofOver
	}
	if err != nil {
		return nil, "", fmt.Errorf("replace a password: %w", err)
	}
	if err := a.checkNewPassword(ctx, r.Password, user); err != nil {
		return nil, "", err
	}
	hash, err := a.HashPassword(ctx, r.Password)
	return user, hash, err
}
