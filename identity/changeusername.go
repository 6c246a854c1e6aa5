package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// formerNameLifetime is how long a username is reserved for the user who has changed it.
const formerNameLifetime = 90 * 24 * time.Hour

// Reasons of ChangeUsername, in an *InvalidUserError.
var (
	ErrManagedUsername    = errors.New("the operator of this service manages your username")
	ErrTooManyUsernames   = errors.New("you have changed your username too often; try again later")
	errUsernameNotChanged = errors.New("identity: same username")
)

// ChangeUsername changes the username of a user. The former one stays reserved: it finds the user at
// sign-in, and no one else can take it. The error is *InvalidUserError, ErrIdentifierTaken or an
// internal error.
func (a *Accounts) ChangeUsername(ctx context.Context, now time.Time, userID, name string, from Activity) error {
	canonical, err := CanonicalIdentifier(name)
	if err == nil {
		err = CheckNewUsername(name)
	}
	if err != nil {
		return &InvalidUserError{fmt.Errorf("username: %w", err)}
	}
	var user User
	err = a.store.UpdateUser(ctx, userID, func(stored *User) error {
		if !stored.Active() {
			return storage.ErrNotFound
		}
		if stored.Origin == OriginDeclared {
			return ErrManagedUsername
		}
		if stored.Username == name {
			return errUsernameNotChanged
		}
		same := func(other string) bool {
			c, err := CanonicalIdentifier(other)
			return err == nil && c == canonical
		}
		stored.dropFormerNames(now)
		former := slices.DeleteFunc(stored.Account.FormerNames, func(n FormerName) bool { return same(n.Name) })
		if !same(stored.Username) {
			if len(former) >= maxFormerNames {
				return ErrTooManyUsernames // a user must not reserve any number of names
			}
			former = append(former, FormerName{stored.Username, now.Add(formerNameLifetime).Truncate(time.Millisecond).UTC()})
		}
		stored.Account.FormerNames = former
		stored.AddEvent(now, from.event(EventUsernameChanged, stored.Username))
		stored.Username, stored.UpdatedAt = name, now
		if err := stored.Check(); err != nil {
			return &InvalidUserError{err}
		}
		user = *stored.Clone()
		return nil
	})
	switch {
	case errors.Is(err, errUsernameNotChanged):
		return nil
	case errors.Is(err, ErrIdentifierTaken):
		return ErrIdentifierTaken
	case errors.Is(err, ErrManagedUsername):
		return &InvalidUserError{ErrManagedUsername}
	case errors.Is(err, ErrTooManyUsernames):
		return &InvalidUserError{ErrTooManyUsernames}
	}
	if invalid, ok := errors.AsType[*InvalidUserError](err); ok {
		return invalid
	}
	if err != nil {
		return fmt.Errorf("change a username: %w", err)
	}
	a.events.Record(ctx, event.UsernameChanged, named(&user))
	m := from.message(mail.KindUsernameChanged, now)
	m.Address, m.Path = user.Username, a.pages.Account
	a.notify(ctx, now, &user, m)
	return nil
}
