package identity

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// A notice about a change of the address or of a method contains a link that undoes the change, and all
// later ones: whoever had the account first outranks whoever came after. It needs no sign-in, because a
// thief may have changed everything with which the owner could sign in.

// methodChanged notifies a user of an authenticator that was added or removed; the other one is nil.
func (a *Accounts) methodChanged(ctx context.Context, now time.Time, user *User, added, removed *Authenticator, from Activity) {
	m, data := from.message(mail.KindMethodAdded, now), proofData{Purpose: purposeUndo, User: user.ID, Removed: removed}
	if added != nil {
		m.Method, data.Added = string(added.Kind), added.ID
	} else {
		m.Kind, m.Method = mail.KindMethodRemoved, string(removed.Kind)
	}
	if a.mail == nil || !user.EmailVerified() {
		return
	}
	a.notifyWithUndo(ctx, now, user, m, data)
}

// linkChanged notifies a user of a link to another provider that was added or removed; the other one is
// nil.
func (a *Accounts) linkChanged(ctx context.Context, now time.Time, user *User, added, removed *ExternalLink, from Activity) {
	m, data := from.message(mail.KindMethodAdded, now), proofData{Purpose: purposeUndo, User: user.ID}
	m.Method = string(MethodUpstream)
	if added != nil {
		data.Linked = added.ID
	} else {
		m.Kind = mail.KindMethodRemoved
		link := *removed
		link.Claims, link.Groups = nil, nil // the next sign-in sets them again
		data.Unlinked = &link
	}
	if a.mail == nil || !user.EmailVerified() {
		return
	}
	a.notifyWithUndo(ctx, now, user, m, data)
}

// notifyWithUndo sends a notice with a link that undoes a change. If the link cannot be stored, the
// notice is sent without it.
func (a *Accounts) notifyWithUndo(ctx context.Context, now time.Time, user *User, m mail.Message, data proofData) {
	m.Lifetime = undoLifetime
	if user.PasswordHash != "" {
		data.Password = hashOf("password", user.PasswordHash)
	}
	undo, err := newProof(now, data, "", undoFamily(user.ID), undoLifetime)
	if err == nil {
		err = a.store.Put(ctx, now, undo.tickets...)
	}
	if err == nil {
		m.Path = a.pages.Undo(undo.token)
	} else {
		a.logger.Log(ctx, event.LevelOf(ctx, err), "link that undoes a change not stored", "user", user.ID, "error", err)
	}
	a.notify(ctx, now, user, m)
}

// takeChange counts a change of how a user signs in. The error is *ThrottledError.
func (a *Accounts) takeChange(ctx context.Context, now time.Time, userID string) error {
	if wait := takeShared(ctx, a.limits.changes, now, ratelimit.NewKey("user", userID)); wait > 0 {
		return throttled(wait)
	}
	return nil
}

// forgetChanges gives the user all changes again. Those who had the account before have used them up.
func (a *Accounts) forgetChanges(now time.Time, userID string) {
	a.limits.changes.Forget(now, ratelimit.NewKey("user", userID))
}

// undoFamily is the ticket family of the links that undo a change of a user. It does not end with
// the user's sessions: a change of a stolen account ends them as well.
func undoFamily(userID string) string { return "undo:" + userID }

// UndoByLink returns the proof of a link that undoes a change. It changes nothing. Its Email is the
// former address; "" if the change was one of a method.
func (a *Accounts) UndoByLink(ctx context.Context, now time.Time, token string) (*Proof, error) {
	return a.proof(ctx, now, purposeUndo, ticketkind.MailedProof.Hash(token))
}

// ErrUndoNeedsPassword means that a change cannot be undone without the password that the account had
// before it.
var ErrUndoNeedsPassword = errors.New("identity: undoing the change requires the password")

// Undoing undoes a change.
type Undoing struct {
	Proof *Proof
	// Password is needed if UndoNeedsPassword says so.
	Password string
}

// Format keeps the password out of logs and messages.
func (u Undoing) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[change to undo]") }

// LogValue keeps the password out of structured logs.
func (u Undoing) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(u)) }

// UndoNeedsPassword reports whether the undo of a change would leave the account without the second factor
// that it needs now. The link alone is then not enough: with the link and a new password by mail, whoever
// reads the mailbox could sign in. possible is false if there is no password that could be asked for,
// because it was changed since, or the account had none. A link that restores an address does that anyway,
// and leaves the second factors as they are. The error is ErrProofOver or an internal error.
func (a *Accounts) UndoNeedsPassword(ctx context.Context, now time.Time, p *Proof) (needed, possible bool, err error) {
	undone, _, err := a.changesSince(ctx, now, p)
	if err != nil {
		return false, false, err
	}
	user, err := a.AnyUser(ctx, p.User)
	if errors.Is(err, storage.ErrNotFound) {
		return false, false, ErrProofOver
	}
	if err != nil {
		return false, false, err
	}
	after := user.Clone()
	after.undoAll(undone, now, time.UnixMilli(p.data.Created), true)
	return user.NeedsSecondFactor() && !after.NeedsSecondFactor(), p.hasPasswordOf(user), nil
}

// hasPasswordOf reports whether the user still has the password from when the change of a proof was made.
func (p *Proof) hasPasswordOf(user *User) bool {
	return user.PasswordHash != "" && subtle.ConstantTimeCompare(p.data.Password, hashOf("password", user.PasswordHash)) == 1
}

// Undo undoes the change of a link, and all later ones, and ends everything that was issued to the
// user. Links that earlier changes have sent keep working. The error is ErrProofOver,
// ErrIdentifierTaken, ErrUndoNeedsPassword, ErrWrongCredentials, *ThrottledError, ErrBusy,
// ErrPasswordTooLong or an internal error.
//
// The record is changed first, and the link is spent afterwards: a crash in between loses no link, and
// to undo the same changes again does nothing but end sessions.
func (a *Accounts) Undo(ctx context.Context, now time.Time, u Undoing) error {
	p := u.Proof
	undone, keys, err := a.changesSince(ctx, now, p)
	if err != nil {
		return err
	}
	proved := "" // the hash of the password that was proved
	if u.Password != "" {
		if proved, err = a.provePasswordForUndo(ctx, now, u); err != nil {
			return err
		}
	}
	var user User
	since := time.UnixMilli(p.data.Created)
	undo := func(relink bool) error {
		return a.store.UpdateUser(described(ctx, "method.change_undone"), p.User, func(stored *User) error {
			before := stored.Clone()
			stored.undoAll(undone, now, since, relink)
			if before.NeedsSecondFactor() && !stored.NeedsSecondFactor() && (proved == "" || stored.PasswordHash != proved) {
				if p.Email == "" {
					return ErrUndoNeedsPassword
				}
				stored.keepSecondFactors(before)
			}
			stored.Account.Recovery = nil
			stored.UpdatedAt = now
			stored.End(now, nil)
			user = *stored
			return nil
		})
	}
	err = undo(true)
	if errors.Is(err, ErrExternalTaken) || errors.Is(err, ErrTooManyLinks) {
		err = undo(false) // the user of the provider has another account by now
	}
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return ErrProofOver
	case errors.Is(err, ErrIdentifierTaken):
		return ErrIdentifierTaken
	case errors.Is(err, ErrUndoNeedsPassword):
		return ErrUndoNeedsPassword
	case err != nil:
		return fmt.Errorf("undo a change: %w", err)
	}
	a.forgetChanges(now, user.ID)
	if p.Email != "" {
		a.events.Record(ctx, event.EmailRestored, named(&user))
	} else {
		a.events.Record(ctx, event.MethodChangeUndone, named(&user), slog.Int("changes", len(undone)))
	}
	if err := a.store.Delete(ctx, keys...); err != nil {
		return fmt.Errorf("end the links of the changes: %w", err)
	}
	return nil
}

// changesSince returns the change of a link and the later ones, the latest first, with the keys of their
// links.
func (a *Accounts) changesSince(ctx context.Context, now time.Time, p *Proof) (changes []proofData, keys []storage.Key, err error) {
	const most = 200 // more than changePace allows in a week
	tickets, err := a.store.FindFamily(ctx, now, undoFamily(p.User), ticketkind.MailedProof, most)
	if err != nil {
		return nil, nil, fmt.Errorf("list changes: %w", err)
	}
	changes, keys = []proofData{p.data}, []storage.Key{p.key}
	for _, ticket := range tickets {
		var data proofData
		if err := json.Unmarshal(ticket.Data, &data); err != nil {
			return nil, nil, fmt.Errorf("decode a change: %w", err)
		}
		if data.Purpose == purposeUndo && ticket.Key != p.key && ticket.Spent.IsZero() && data.Created >= p.data.Created {
			changes, keys = append(changes, data), append(keys, ticket.Key)
		}
	}
	slices.SortStableFunc(changes, func(a, b proofData) int { return cmp.Compare(b.Created, a.Created) })
	return changes, keys, nil
}

// removeAddedAfter removes what was added later than a change that is undone, even if there are more
// changes than Undo reads.
func (u *User) removeAddedAfter(since time.Time) {
	later := func(added time.Time) bool { return added.UnixMilli() > since.UnixMilli() } // a change stores milliseconds
	u.Authenticators = slices.DeleteFunc(slices.Clone(u.Authenticators), func(a Authenticator) bool {
		return a.Kind != methodMissing && later(a.CreatedAt)
	})
	u.External = slices.DeleteFunc(slices.Clone(u.External), func(l ExternalLink) bool { return later(l.LinkedAt) })
}

// undoAll reverses changes, the latest first, and removes what else was added after a time.
func (u *User) undoAll(changes []proofData, now, since time.Time, relink bool) {
	for _, change := range changes {
		u.undo(&change, now, relink)
	}
	u.removeAddedAfter(since)
}

// keepSecondFactors adds those authenticators again because of which the user needed two factors before.
func (u *User) keepSecondFactors(before *User) {
	for _, a := range before.Authenticators {
		if (a.Kind == MethodTOTP || a.Kind == methodMissing) && u.Authenticator(a.ID) == nil {
			u.Authenticators = append(u.Authenticators, a)
		}
	}
}

// provePasswordForUndo checks the password from before a change, and returns its hash. The error is one of
// those of Undo.
func (a *Accounts) provePasswordForUndo(ctx context.Context, now time.Time, u Undoing) (hash string, err error) {
	user, err := a.AnyUser(ctx, u.Proof.User)
	if errors.Is(err, storage.ErrNotFound) {
		return "", ErrProofOver
	}
	if err != nil {
		return "", err
	}
	if !u.Proof.hasPasswordOf(user) {
		return "", ErrUndoNeedsPassword
	}
	// Only those who have the link get here. They have a budget of their own, so whoever reads the mailbox
	// cannot use up that of signed-in users.
	err = a.proveWithin(ctx, now, ratelimit.NewKey("undo", user.ID), user, u.Password)
	return user.PasswordHash, err
}

// undo reverses one change. A link that was removed is restored if relink is set.
func (u *User) undo(change *proofData, now time.Time, relink bool) {
	if change.Linked != "" {
		u.External = slices.DeleteFunc(slices.Clone(u.External), func(l ExternalLink) bool { return l.ID == change.Linked })
	}
	if l := change.Unlinked; l != nil && relink && u.externalLink(l.Issuer, l.Subject) == nil {
		u.External = append(slices.Clone(u.External), *l)
		u.AddEvent(now, SecurityEvent{Kind: EventMethodRestored, Detail: l.Provider})
	}
	if change.Email != "" {
		u.setEmail(change.Email, now)
		u.AddEvent(now, SecurityEvent{Kind: EventAddressRestored, Detail: change.Email})
	}
	if change.Added != "" {
		u.Authenticators = slices.DeleteFunc(u.Authenticators, func(a Authenticator) bool { return a.ID == change.Added })
	}
	if change.Removed != nil && u.Authenticator(change.Removed.ID) == nil && len(u.Authenticators) < maxAuthenticators {
		u.Authenticators = append(u.Authenticators, *change.Removed)
		u.AddEvent(now, SecurityEvent{Kind: EventMethodRestored, Detail: change.Removed.Name})
	}
}
