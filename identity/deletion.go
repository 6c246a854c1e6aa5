package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// Errors of RequestDeletion.
var (
	// ErrDeclared means that the operator has declared the user, and would create the account again.
	ErrDeclared = errors.New("identity: the operator has declared this user")
	// ErrLastAdministrator means that there would be no administrator.
	ErrLastAdministrator = errors.New("identity: the user is the last administrator")
)

// RequestDeletion asks for the deletion of an account after a while. Everything that was issued to the
// user ends at once. The user can sign in to cancel the deletion, and for nothing else. The error is
// ErrDeclared, ErrLastAdministrator, storage.ErrNotFound or an internal error.
func (a *Accounts) RequestDeletion(ctx context.Context, now time.Time, userID string, grace time.Duration, from Activity) error {
	others, err := a.store.HasAdministrator(ctx, userID)
	if err != nil {
		return fmt.Errorf("look for another administrator: %w", err)
	}
	var user User
	err = a.store.UpdateUser(ctx, userID, func(stored *User) error {
		switch {
		case !stored.Active():
			return storage.ErrNotFound
		case stored.Origin == OriginDeclared:
			return ErrDeclared
		case stored.Administrator && !others:
			return ErrLastAdministrator
		}
		stored.Account.DeleteAfter = now.Add(grace).Truncate(time.Millisecond).UTC()
		stored.AddEvent(now, from.event(EventDeletionRequested, ""))
		stored.End(now, nil)
		user = *stored.Clone()
		return nil
	})
	for _, known := range []error{storage.ErrNotFound, ErrDeclared, ErrLastAdministrator} {
		if errors.Is(err, known) {
			return known
		}
	}
	if err != nil {
		return fmt.Errorf("request the deletion of an account: %w", err)
	}
	a.events.Record(ctx, event.AccountDeletionRequested, named(&user))
	m := from.message(mail.KindDeletionRequested, now)
	m.Lifetime, m.Path = grace, a.pages.SignIn
	a.notify(ctx, now, &user, m)
	return nil
}

// CancelDeletion keeps an account whose deletion was requested. The session in which the user signed
// in to do that continues. The error is storage.ErrNotFound, if the account is gone or not being
// deleted, or an internal error.
func (a *Accounts) CancelDeletion(ctx context.Context, now time.Time, session *Session, from Activity) error {
	var user User
	err := a.store.UpdateUser(ctx, session.User.ID, func(stored *User) error {
		if !stored.MaySignIn() || !stored.BeingDeleted() {
			return storage.ErrNotFound
		}
		stored.Account.DeleteAfter = time.Time{}
		stored.AddEvent(now, from.event(EventDeletionCanceled, ""))
		stored.End(now, session)
		user = *stored.Clone()
		return nil
	})
	if errors.Is(err, storage.ErrNotFound) {
		return storage.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("cancel the deletion of an account: %w", err)
	}
	a.events.Record(ctx, event.AccountDeletionCanceled, named(&user))
	m := from.message(mail.KindDeletionCanceled, now)
	m.Path = a.pages.Account
	a.notify(ctx, now, &user, m)
	return nil
}

// maintainAtOnce is how many users Maintain reads at a time.
const maintainAtOnce = 50

// Maintain does what is due in the accounts: it erases those whose deletion was requested, sends
// notices about changes of the operator and the links of recoveries, and frees reserved usernames. Any number of nodes may call it
// at the same time: each step checks the record under its lock, and only one takes effect.
func (a *Accounts) Maintain(ctx context.Context, now time.Time) error {
	tried := map[string]bool{}
	for {
		ids, err := a.store.DueUsers(ctx, now, maintainAtOnce+len(tried))
		if err != nil {
			return fmt.Errorf("list accounts with something due: %w", err)
		}
		done := 0
		for _, id := range ids {
			if tried[id] {
				continue
			}
			tried[id] = true
			done++
			if failed := a.maintain(ctx, now, id); failed != nil && !errors.Is(failed, storage.ErrNotFound) {
				err = errors.Join(err, failed)
			}
		}
		if err != nil || done == 0 || len(tried) > 20*maintainAtOnce {
			return err
		}
	}
}

func (a *Accounts) maintain(ctx context.Context, now time.Time, id string) error {
	user, err := a.store.User(ctx, id)
	if err != nil {
		return fmt.Errorf("read an account with something due: %w", err)
	}
	if user.Erasable(now) {
		return a.erase(ctx, now, user)
	}
	if err := a.sendRecovery(ctx, now, user); err != nil {
		return err
	}
	var notices []PendingNotice
	err = a.store.UpdateUser(ctx, id, func(stored *User) error {
		notices = nil
		if a.mail != nil {
			notices, stored.Account.Notices = stored.Account.Notices, nil
		}
		if a.mail == nil {
			stored.Account.Notices = nil // nobody will ever send them
		}
		stored.dropFormerNames(now)
		return nil
	})
	if err != nil {
		return fmt.Errorf("maintain an account: %w", err)
	}
	for _, notice := range notices {
		m := mail.Message{Kind: notice.Kind, To: notice.To, Subject: id, Language: user.locale(), At: notice.At, Path: a.pages.Account}
		if !mail.Deliverable(notice.To) {
			continue
		}
		if err := a.mail.Send(ctx, now, m); err != nil && !errors.Is(err, mail.ErrTooManyWaiting) {
			a.logger.Log(ctx, event.LevelOf(ctx, err), "notice to a user not sent", "user", id, "error", err)
		}
	}
	return nil
}

// erase removes an account and everything that belongs to it.
func (a *Accounts) erase(ctx context.Context, now time.Time, user *User) error {
	if user.Administrator {
		// Two administrators may have asked at the same moment.
		others, err := a.store.HasAdministrator(ctx, user.ID)
		if err != nil {
			return fmt.Errorf("look for another administrator: %w", err)
		}
		if !others {
			a.logger.WarnContext(ctx, "an account is not deleted because it is that of the last administrator", "user", user.ID)
			return nil
		}
	}
	if err := a.store.EraseUser(ctx, now, user.ID); err != nil {
		return fmt.Errorf("erase an account: %w", err)
	}
	a.events.Record(ctx, event.AccountErased, slog.String("sub", user.ID))
	a.notify(ctx, now, user, mail.Message{Kind: mail.KindDeleted})
	return nil
}
