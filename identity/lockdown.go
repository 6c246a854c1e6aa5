package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// A lock-down is for users who see on their account page that someone else has used the account
// (decision 0031). Whoever is signed in can start it, without another proof: the one who stole the
// account may have changed the password. So it must be of no use to a thief. It ends what a session
// gives, and leaves the account to those who receive its messages.

// recentChanges is how far back a lock-down looks for changes. It is as long as a change can be
// undone.
const recentChanges = undoLifetime

// ErrNoLockDown means that an account cannot be locked down, because nobody could unlock it: it has no
// verified address, or no messages can be sent.
var ErrNoLockDown = errors.New("identity: the account has no verified address with which it could be unlocked")

// CanLockDown reports whether a user can lock the account down.
func (a *Accounts) CanLockDown(user *User) bool {
	return a.mail != nil && user.EmailVerified() && mail.Deliverable(user.Email())
}

// LockDown ends everything that was issued to a user. Nobody can sign in until a new password was
// chosen with a mailed proof (ResetPassword); then the sign-in still needs the second factor. The
// message goes to the verified address. Addresses that the account had a short time ago receive a link
// that makes them the address again. The error is ErrNoLockDown, storage.ErrNotFound or an internal error.
func (a *Accounts) LockDown(ctx context.Context, now time.Time, userID string, from Activity) error {
	var user User
	err := a.store.UpdateUser(ctx, userID, func(stored *User) error {
		if !stored.Active() {
			return storage.ErrNotFound
		}
		if !a.CanLockDown(stored) {
			return ErrNoLockDown
		}
		stored.Account.LockedAt, stored.UpdatedAt = now.Truncate(time.Millisecond).UTC(), now
		stored.Account.Recovery = nil
		stored.AddEvent(now, from.event(EventLockedDown, ""))
		stored.End(now, nil)
		user = *stored.Clone()
		return nil
	})
	if errors.Is(err, ErrNoLockDown) || errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if err != nil {
		return fmt.Errorf("lock an account down: %w", err)
	}
	a.events.Record(ctx, event.AccountLockedDown, named(&user))
	m := from.message(mail.KindLockedDown, now)
	m.Path = a.pages.Forgot
	a.notify(ctx, now, &user, m)
	a.tellFormerAddresses(ctx, now, &user, from)
	return nil
}

// tellFormerAddresses sends a link to each address that the account had a short time ago. A failure is
// logged: the links that were sent with the changes are still valid.
func (a *Accounts) tellFormerAddresses(ctx context.Context, now time.Time, user *User, from Activity) {
	changes, err := a.formerAddresses(ctx, now, user)
	if err != nil {
		a.logger.Log(ctx, event.LevelOf(ctx, err), "former addresses of a locked account not notified", "user", user.ID, "error", err)
		return
	}
	for _, data := range changes {
		// The new link is as old as the one of the change: it outranks those of later changes.
		undo, err := newProof(now, data, "", undoFamily(user.ID), undoLifetime)
		if err == nil {
			setCreated(undo, data.Created)
			err = a.store.Put(ctx, now, undo.tickets...)
		}
		if err == nil {
			m := from.message(mail.KindLockedDownFormer, now)
			m.To, m.Subject, m.Username, m.Address = data.Email, user.ID, user.Username, user.Email()
			m.Path, m.Lifetime = a.pages.Undo(undo.token), undoLifetime
			err = a.mail.Send(ctx, now, m)
		}
		if err != nil && !errors.Is(err, mail.ErrTooManyWaiting) {
			a.logger.Log(ctx, event.LevelOf(ctx, err), "former address of a locked account not notified", "user", user.ID, "error", err)
		}
	}
}

// setCreated sets the time of a proof that is not stored yet.
func setCreated(p *pendingProof, created int64) {
	for i := range p.tickets {
		var data proofData
		if json.Unmarshal(p.tickets[i].Data, &data) != nil {
			continue
		}
		data.Created = created
		if encoded, err := json.Marshal(data); err == nil {
			p.tickets[i].Data = encoded
		}
	}
}

// unlock ends a lock-down after the user has chosen a new password. Links and authenticators that were
// added shortly before may be those of the thief. Links are removed, and authenticators if an older one
// remains, so that the account needs a second factor as before.
func (u *User) unlock(now time.Time) {
	if u.Account.LockedAt.IsZero() {
		return
	}
	since := u.Account.LockedAt.Add(-recentChanges)
	u.Account.LockedAt = time.Time{}
	// The account has a password now, so no link is needed to sign in. One with which the account was
	// created is nobody else's.
	u.External = slices.DeleteFunc(u.External, func(l ExternalLink) bool {
		return l.LinkedAt.After(since) && l.LinkedAt.After(u.CreatedAt.Add(time.Second))
	})
	recent := func(a Authenticator) bool { return a.CreatedAt.After(since) }
	second := func(a Authenticator) bool { return a.Kind != MethodRecoveryCode }
	if !slices.ContainsFunc(u.Authenticators, func(a Authenticator) bool { return second(a) && !recent(a) }) {
		return
	}
	kept := u.Authenticators[:0:0]
	for _, a := range u.Authenticators {
		if recent(a) {
			u.AddEvent(now, SecurityEvent{Kind: EventMethodRemoved, Detail: a.Name})
			continue
		}
		kept = append(kept, a)
	}
	u.Authenticators = kept
}
