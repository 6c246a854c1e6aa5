package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// A user who has lost everything but the mailbox gets back in after a delay, if the operator allows that
// (Recovery.MailDelay). In the meantime, everyone who can use the account is told, and anyone of them can
// stop it: by a link in the messages, and on the pages after a sign-in.

const (
	// PurposeRecovery is to begin a recovery after a delay.
	PurposeRecovery Purpose = "begin_recovery"
	// The link of these messages has no code.
	purposeStopRecovery Purpose = "stop_recovery"

	recoveryRequestLifetime = time.Hour
	// mailRecoveryLifetime is how long the link is valid that is sent when the delay is over.
	mailRecoveryLifetime = 24 * time.Hour
)

// MailRecovery is a recovery by mail that waits for its delay, or for the use of its link.
type MailRecovery struct {
	ID        string    `json:"id"`
	StartedAt time.Time `json:"started_at"`
	ReadyAt   time.Time `json:"ready_at"`
	// SentAt is when the link was sent; zero before.
	SentAt time.Time `json:"sent_at,omitzero"`
	// Email is the address to which messages go. If the account gets another one, the recovery ends.
	Email string `json:"email"`
}

// due returns when something happens next.
func (r *MailRecovery) due() time.Time {
	if r.SentAt.IsZero() {
		return r.ReadyAt
	}
	return r.SentAt.Add(mailRecoveryLifetime)
}

// RequestRecovery sends a message with which a user can begin a recovery, and returns the public name of
// the request. The error is that of sendToAccount.
func (a *Accounts) RequestRecovery(ctx context.Context, now time.Time, r MailRequest) (request string, err error) {
	return a.sendToAccount(ctx, now, r, accountMail{
		purpose: PurposeRecovery, kind: mail.KindRecovery, lifetime: recoveryRequestLifetime, event: event.RecoveryRequested,
		take: func(from *place) bool { return takeShared(ctx, a.limits.recoveries, now, from.total) == 0 },
		refuses: func(user *User) string {
			if user.suspended() || user.BeingDeleted() || a.recovery.MailDelay <= 0 {
				return failureReason(user)
			}
			return ""
		},
	})
}

// BeginRecovery begins a recovery with a proof, and returns when it can be completed. If one waits
// already, it returns that one. Its messages go to the verified address, and to those that the account had
// a short time ago. The error is ErrProofOver or an internal error.
func (a *Accounts) BeginRecovery(ctx context.Context, now time.Time, p *Proof, from Activity) (ready time.Time, err error) {
	if a.recovery.MailDelay <= 0 || p.data.Purpose != PurposeRecovery {
		return time.Time{}, ErrProofOver
	}
	var user User
	begun := false
	err = a.store.UpdateUser(ctx, p.User, func(stored *User) error {
		begun = false
		if stored.suspended() || stored.BeingDeleted() || !stored.EmailVerified() || stored.Email() != p.Email {
			return ErrProofOver
		}
		if stored.Account.Recovery == nil {
			begun = true
			ready := now.Add(a.recovery.MailDelay).Truncate(time.Millisecond).UTC()
			stored.Account.Recovery = &MailRecovery{ID: storage.NewID(), StartedAt: now.Truncate(time.Millisecond).UTC(), ReadyAt: ready, Email: p.Email}
			stored.AddEvent(now, from.event(EventRecoveryBegun, ""))
		}
		user = *stored.Clone()
		return nil
	})
	if errors.Is(err, ErrProofOver) || errors.Is(err, storage.ErrNotFound) {
		return time.Time{}, ErrProofOver
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("begin a recovery: %w", err)
	}
	if err := a.spend(ctx, now, p); err != nil && !errors.Is(err, ErrProofOver) {
		return time.Time{}, err
	}
	if begun {
		a.events.Record(ctx, event.RecoveryBegun, named(&user))
		a.tellOfRecovery(ctx, now, &user, from)
	}
	return user.Account.Recovery.ReadyAt, nil
}

// tellOfRecovery sends messages with a link that stops a recovery. A failure is logged: the pages tell
// of it too.
func (a *Accounts) tellOfRecovery(ctx context.Context, now time.Time, user *User, from Activity) {
	recovery := user.Account.Recovery
	addresses := []string{recovery.Email}
	changes, err := a.formerAddresses(ctx, now, user)
	for _, change := range changes {
		addresses = append(addresses, change.Email)
	}
	for _, address := range addresses {
		lifetime := recovery.ReadyAt.Sub(now) + mailRecoveryLifetime
		stop, failed := newProof(now, proofData{Purpose: purposeStopRecovery, User: user.ID, Email: address, Recovery: recovery.ID}, "", undoFamily(user.ID), lifetime)
		if failed == nil {
			failed = a.store.Put(ctx, now, stop.tickets...)
		}
		if failed == nil {
			m := from.message(mail.KindRecoveryBegun, now)
			m.To, m.Subject, m.Username, m.Language = address, user.ID, user.Username, user.locale()
			m.Lifetime, m.Path = recovery.ReadyAt.Sub(now), a.pages.StopRecovery(stop.token)
			failed = a.mail.Send(ctx, now, m)
		}
		if failed != nil && !errors.Is(failed, mail.ErrTooManyWaiting) {
			err = errors.Join(err, failed)
		}
	}
	if err != nil {
		a.logger.ErrorContext(ctx, "messages about a recovery not sent", "user", user.ID, "error", err)
	}
}

// RecoveryToStop returns the proof of a link that stops a recovery. It changes nothing. The error is
// ErrProofOver or an internal error.
func (a *Accounts) RecoveryToStop(ctx context.Context, now time.Time, token string) (*Proof, error) {
	return a.proof(ctx, now, purposeStopRecovery, ticketkind.MailedProof.Hash(token))
}

// StopRecoveryByLink stops the recovery of a link. The error is ErrProofOver, if it is over, or an internal
// error.
func (a *Accounts) StopRecoveryByLink(ctx context.Context, now time.Time, p *Proof, from Activity) error {
	if err := a.stopRecovery(ctx, now, p.User, p.data.Recovery, from); err != nil {
		return err
	}
	return a.spend(ctx, now, p)
}

// StopRecovery stops the recovery of a signed-in user. It is not an error if there is none.
func (a *Accounts) StopRecovery(ctx context.Context, now time.Time, userID string, from Activity) error {
	err := a.stopRecovery(ctx, now, userID, "", from)
	if errors.Is(err, ErrProofOver) {
		return nil
	}
	return err
}

// stopRecovery stops a recovery by its ID; "" means any.
func (a *Accounts) stopRecovery(ctx context.Context, now time.Time, userID, id string, from Activity) error {
	var user User
	err := a.store.UpdateUser(ctx, userID, func(stored *User) error {
		if stored.Account.Recovery == nil || id != "" && stored.Account.Recovery.ID != id {
			return ErrProofOver
		}
		stored.Account.Recovery = nil
		stored.AddEvent(now, from.event(EventRecoveryStopped, ""))
		user = *stored.Clone()
		return nil
	})
	if errors.Is(err, ErrProofOver) || errors.Is(err, storage.ErrNotFound) {
		return ErrProofOver
	}
	if err != nil {
		return fmt.Errorf("stop a recovery: %w", err)
	}
	a.events.Record(ctx, event.RecoveryStopped, named(&user))
	m := from.message(mail.KindRecoveryStopped, now)
	m.Path = a.pages.Account
	a.notify(ctx, now, &user, m)
	return nil
}

// sendRecovery sends the link of a recovery whose delay is over. It is sent before the record says so: a
// crash in between, or two nodes at the same moment, send two links, of which one can be used.
func (a *Accounts) sendRecovery(ctx context.Context, now time.Time, user *User) error {
	recovery := user.Account.Recovery
	if recovery == nil || now.Before(recovery.due()) {
		return nil
	}
	send := recovery.SentAt.IsZero() && a.mail != nil && a.recovery.MailDelay > 0 && !user.suspended() && user.EmailVerified() && user.Email() == recovery.Email
	if send {
		data := proofData{Purpose: purposeRecovery, User: user.ID, Email: recovery.Email, Password: hashOf("password", user.PasswordHash), Recovery: recovery.ID}
		proof, err := newProof(now, data, "", SessionFamily(user.ID), mailRecoveryLifetime)
		if err == nil {
			err = a.store.Put(ctx, now, proof.tickets...)
		}
		if err != nil {
			return fmt.Errorf("store the link of a recovery: %w", err)
		}
		m := mail.Message{Kind: mail.KindRecoveryReady, Path: a.pages.Recover(proof.token), Lifetime: mailRecoveryLifetime, Expires: now.Add(mailRecoveryLifetime), At: recovery.StartedAt}
		a.notify(ctx, now, user, m)
		a.events.Record(ctx, event.RecoveryReady, named(user))
	}
	return a.store.UpdateUser(ctx, user.ID, func(stored *User) error {
		if stored.Account.Recovery == nil || stored.Account.Recovery.ID != recovery.ID {
			return nil
		}
		if !send {
			stored.Account.Recovery = nil
			return nil
		}
		sent := *stored.Account.Recovery
		sent.SentAt = now.Truncate(time.Millisecond).UTC()
		stored.Account.Recovery = &sent
		return nil
	})
}

// formerAddresses returns the changes of the address that can still be undone, one for each former address.
func (a *Accounts) formerAddresses(ctx context.Context, now time.Time, user *User) ([]proofData, error) {
	tickets, err := a.store.FindFamily(ctx, now, undoFamily(user.ID), ticketkind.MailedProof, 200)
	if err != nil {
		return nil, fmt.Errorf("list former addresses: %w", err)
	}
	var changes []proofData
	for _, ticket := range tickets {
		var data proofData
		if err := json.Unmarshal(ticket.Data, &data); err != nil {
			return nil, fmt.Errorf("decode a change: %w", err)
		}
		known := data.Email == user.Email() || slices.ContainsFunc(changes, func(c proofData) bool { return c.Email == data.Email })
		if data.Purpose == purposeUndo && data.Email != "" && ticket.Spent.IsZero() && !known {
			changes = append(changes, data)
		}
	}
	return changes, nil
}
