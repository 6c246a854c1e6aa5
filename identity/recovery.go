package identity

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// Recovery says how users who have lost what they sign in with get back in, besides a new password by
// mail. The zero value allows a message and a recovery code, and the links of operators.
type Recovery struct {
	// NoRecoveryCode is set if a message and a recovery code are not enough.
	NoRecoveryCode bool
	// MailDelay is how long a recovery by mail alone takes; zero means that there is none.
	MailDelay time.Duration
	// NoOperatorLink is set if only the last administrator gets back in with a link from an operator.
	NoOperatorLink bool
}

// Recovering reports whether the user has set the password with a message and has proved no second factor
// since, other than a recovery code. A sign-in with a recovery code is then a recovery: its session can
// only set up another second factor.
func (u *User) Recovering() bool { return !u.Account.RecoveringSince.IsZero() }

// recovering notes that a user with a second factor sets the password with a message. A user without a
// password has signed in with a passkey, which is two factors: the message must not be enough then.
func (u *User) recovering(now time.Time) {
	if !u.Reachable().Includes(ClassTwoFactors) {
		return
	}
	if u.PasswordHash == "" && !u.NeedsSecondFactor() {
		u.Authenticators = append(u.Authenticators, Authenticator{ID: storage.NewID(), Kind: methodMissing, CreatedAt: now})
	}
	u.Account.RecoveringSince = now.Truncate(time.Millisecond).UTC()
}

// RecoveredBy reports whether a sign-in with some proofs is a recovery: the only second factor is a
// recovery code, and what came before is a message, or a password that was set with one.
func (u *User) RecoveredBy(proofs []ProvedMethod) bool {
	code, mailed := false, true
	for _, proof := range proofs {
		info := methods[proof.Method]
		switch {
		case proof.Method == MethodRecoveryCode:
			code = true
		case info.second, proof.Class.Includes(ClassTwoFactors):
			return false
		case info.first && proof.Method != MethodEmail:
			mailed = false
		}
	}
	return code && (mailed || u.Recovering())
}

// recoversWithCode reports whether a message and a recovery code let a user in.
func (a *Accounts) recoversWithCode(u *User) bool {
	left, _ := u.RecoveryCodesLeft()
	return left > 0 && !a.recovery.NoRecoveryCode
}

// Recovery returns how users of these accounts get back in.
func (a *Accounts) Recovery() Recovery { return a.recovery }

// RecoverWithCode notes that a user has got back in with a message and a recovery code, and ends
// everything that was issued to the user. user is updated. The session that follows can only set up a
// second factor. The error is ErrSignInOver, if the user may not sign in any more, or an internal error.
func (a *Accounts) RecoverWithCode(ctx context.Context, now time.Time, user *User, from Activity) error {
	err := a.store.UpdateUser(described(asUser(ctx, user), "user.recovered"), user.ID, func(stored *User) error {
		if !stored.MaySignIn() {
			return ErrSignInOver
		}
		stored.Account.RecoveringSince = now.Truncate(time.Millisecond).UTC()
		stored.AddEvent(now, from.event(EventRecovered, ""))
		stored.End(now, nil)
		return nil
	})
	if err == nil { // the store has set the time of the end
		var ended *User
		if ended, err = a.userWhoSignsIn(ctx, user.ID); err == nil {
			*user = *ended
		}
	}
	if errors.Is(err, ErrSignInOver) || errors.Is(err, storage.ErrNotFound) {
		return ErrSignInOver
	}
	if err != nil {
		return fmt.Errorf("recover an account with a recovery code: %w", err)
	}
	a.events.Record(ctx, event.UserRecovered, named(user))
	return nil
}

// RecoveryOver notes that a user who had set the password with a message has proved a second factor.
func (a *Accounts) RecoveryOver(ctx context.Context, userID string) error {
	err := a.store.UpdateUser(ctx, userID, func(stored *User) error {
		stored.Account.RecoveringSince = time.Time{}
		return nil
	})
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("end a recovery: %w", err)
	}
	return nil
}

// A user who has lost every way to sign in gets a link from an operator, who has made sure that it is
// the right person. It works once, and stops working when the password changes or everything of the
// user ends.

// RecoveryLifetime is how long such a link is valid, unless the operator says otherwise.
const RecoveryLifetime = 24 * time.Hour

// ErrNoRecoveryLink means that operators may not create links, and that the user is not the last
// administrator.
var ErrNoRecoveryLink = errors.New("identity: only the last administrator can be recovered with a link")

// NewRecovery stores a recovery of a user, and returns the secret of its link. The error is
// ErrNoRecoveryLink or an internal error.
func (a *Accounts) NewRecovery(ctx context.Context, now time.Time, user *User, lifetime time.Duration) (token string, err error) {
	if a.recovery.NoOperatorLink {
		others, err := a.store.HasAdministrator(ctx, user.ID)
		if err != nil {
			return "", fmt.Errorf("look for another administrator: %w", err)
		}
		if others || !user.Administrator {
			return "", ErrNoRecoveryLink
		}
	}
	data := proofData{Purpose: purposeRecovery, User: user.ID, Password: hashOf("password", user.PasswordHash)}
	proof, err := newProof(now, data, "", SessionFamily(user.ID), lifetime)
	if err != nil {
		return "", err
	}
	ctx = audit.WithRecord(ctx, audit.Record{Event: "user.recovery_link_created", Subject: user.ID, Object: audit.Object{Kind: audit.ObjectUser, ID: user.ID, Name: user.Username}})
	if err := a.store.Put(ctx, now, proof.tickets...); err != nil {
		return "", fmt.Errorf("store a recovery: %w", err)
	}
	return proof.token, nil
}

// RecoveryByLink returns the proof of a link. It changes nothing. The error is ErrProofOver or an
// internal error.
func (a *Accounts) RecoveryByLink(ctx context.Context, now time.Time, token string) (*Proof, error) {
	p, err := a.proof(ctx, now, purposeRecovery, ticketkind.MailedProof.Hash(token))
	if err != nil || !p.ByMail() {
		return p, err
	}
	user, err := a.AnyUser(ctx, p.User)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !p.completes(user, now) {
		return nil, ErrProofOver
	}
	return p, err
}

// Recover sets a new password and removes all authenticators, because the user has lost them. If one of
// them was a second factor, the user must set up another one at the next sign-in, and can do nothing
// else before. Everything that was issued to the user ends. The error is ErrProofOver,
// *WeakPasswordError, ErrPasswordTooLong, ErrBusy or an internal error.
func (a *Accounts) Recover(ctx context.Context, now time.Time, r PasswordReset) error {
	user, hash, err := a.newPasswordHash(ctx, r)
	if err != nil {
		return err
	}
	err = a.store.UpdateUser(described(asUser(ctx, user), "user.recovered"), user.ID, func(stored *User) error {
		if stored.suspended() || !r.Proof.completes(stored, now) || subtle.ConstantTimeCompare(hashOf("password", stored.PasswordHash), r.Proof.data.Password) != 1 {
			return ErrProofOver
		}
		stored.PasswordHash, stored.UpdatedAt = hash, now
		stored.unlock(now)
		stored.loseAuthenticators(now, func(*Authenticator) bool { return true })
		stored.Account.RecoveringSince, stored.Account.Recovery = time.Time{}, nil
		stored.AddEvent(now, r.Activity.event(EventRecovered, ""))
		stored.End(now, nil)
		*user = *stored
		return nil
	})
	if errors.Is(err, ErrProofOver) || errors.Is(err, storage.ErrNotFound) {
		return ErrProofOver
	}
	if err != nil {
		return fmt.Errorf("recover an account: %w", err)
	}
	if err := a.spend(ctx, now, r.Proof); err != nil && !errors.Is(err, ErrProofOver) { // it has ended with the rest
		return err
	}
	a.forgetChanges(now, user.ID)
	a.events.Record(ctx, event.UserRecovered, named(user))
	m := r.Activity.message(mail.KindRecovered, now)
	if r.Proof.ByMail() {
		m.Kind = mail.KindRecoveredByMail
	}
	a.notify(ctx, now, user, m)
	return nil
}

// ByMail reports whether the proof is the link of a recovery after a delay.
func (p *Proof) ByMail() bool { return p.data.Recovery != "" }

// completes reports whether a link still completes the recovery that it is for. The link of an operator
// always does.
func (p *Proof) completes(u *User, now time.Time) bool {
	r := u.Account.Recovery
	return !p.ByMail() || r != nil && r.ID == p.data.Recovery && !now.Before(r.ReadyAt) && u.EmailVerified() && u.Email() == p.Email
}

// LoseAuthenticator removes an authenticator that a user has lost. If the user then has no second factor,
// another one must be set up at the next sign-in. Functions passed to Store.UpdateUser call it.
func (u *User) LoseAuthenticator(now time.Time, id string) (removed bool) {
	before := len(u.Authenticators)
	u.loseAuthenticators(now, func(a *Authenticator) bool { return a.ID == id && a.Kind != methodMissing })
	return len(u.Authenticators) != before || u.Authenticator(id) == nil && u.MustEnrol()
}

func (u *User) loseAuthenticators(now time.Time, lost func(*Authenticator) bool) {
	factor := func(a Authenticator) bool {
		return a.Kind == methodMissing || methods[a.Kind].second && a.Kind != MethodRecoveryCode
	}
	had := slices.ContainsFunc(u.Authenticators, factor)
	u.Authenticators = slices.DeleteFunc(u.Authenticators, func(a Authenticator) bool { return lost(&a) })
	if had && !slices.ContainsFunc(u.Authenticators, factor) {
		u.Authenticators = append(u.Authenticators, Authenticator{ID: storage.NewID(), Kind: methodMissing, CreatedAt: now})
	}
}

// Methods returns the authenticators of the user.
func (u *User) Methods() []Authenticator {
	return slices.DeleteFunc(slices.Clone(u.Authenticators), func(a Authenticator) bool { return a.Kind == methodMissing })
}
