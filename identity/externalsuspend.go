package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/storage"
)

// usersAtOnce is how many users LinkedWith reads at once.
const usersAtOnce = 500

// LinkedWith returns the accounts that are linked with users of an issuer and were not suspended: user
// IDs by subject.
func (a *Accounts) LinkedWith(ctx context.Context, issuer string) (map[string]string, error) {
	linked := map[string]string{}
	after := ""
	for {
		users, err := a.store.Users(ctx, after, usersAtOnce)
		if err != nil {
			return nil, fmt.Errorf("list users: %w", err)
		}
		for i := range users {
			for _, link := range users[i].External {
				if link.Issuer == issuer && link.SuspendedAt.IsZero() {
					linked[link.Subject] = users[i].ID
				}
			}
		}
		if len(users) < usersAtOnce {
			return linked, nil
		}
		after = users[len(users)-1].ID
	}
}

// SuspendExternal takes from an account what it has by a link, because the other party no longer lets the
// user in: sessions that began there, and everything else that was issued to a user who has no password
// here. The next sign-in there lifts it. It may be called again.
func (a *Accounts) SuspendExternal(ctx context.Context, now time.Time, userID, issuer, subject, reason string) error {
	if _, err := a.EndExternalSessions(ctx, now, issuer, subject, ""); err != nil {
		return err
	}
	var user User
	err := a.store.UpdateUser(ctx, userID, func(stored *User) error {
		link := stored.externalLink(issuer, subject)
		if link == nil || !link.SuspendedAt.IsZero() {
			return errAgain
		}
		link.SuspendedAt, stored.UpdatedAt = now, now
		if stored.PasswordHash == "" {
			stored.End(now, nil)
		}
		user = *stored.Clone()
		return nil
	})
	if errors.Is(err, errAgain) || errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("suspend a link: %w", err)
	}
	a.events.Record(ctx, event.ExternalSuspended, named(&user), slog.String("provider", user.externalLink(issuer, subject).Provider), slog.String("reason", reason))
	return nil
}
