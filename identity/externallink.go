package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// LinkExternal lets an external user sign in to an account. The caller has made sure that the user of
// the account has just proved a method that it already has. The error is *RefusedError,
// ErrExternalTaken, ErrTooManyLinks, storage.ErrNotFound if the account is not active, or an internal
// error. Linking what is linked already refreshes it; a new link is notified to the user.
func (a *Accounts) LinkExternal(ctx context.Context, now time.Time, userID string, e ExternalSignIn, from Activity) error {
	admission, err := e.decide(false)
	if err != nil {
		return err
	}
	link, err := newLink(now, e.User, admission)
	if err != nil {
		return err
	}
	if err := a.takeChange(ctx, now, userID); err != nil {
		return err
	}
	var user User
	added := false
	err = a.store.UpdateUser(ctx, userID, func(stored *User) error {
		if !stored.Active() {
			return storage.ErrNotFound
		}
		added = false
		if existing := stored.externalLink(link.Issuer, link.Subject); existing != nil {
			existing.refresh(now, e.User, admission)
		} else {
			stored.External, added = append(stored.External, link), true
		}
		stored.UpdatedAt = now
		user = *stored.Clone()
		return nil
	})
	if errors.Is(err, ErrExternalTaken) {
		a.recordExternalRefusal(ctx, &user, e, err)
		return ErrExternalTaken
	}
	if err != nil {
		return fmt.Errorf("link an external user: %w", err)
	}
	if added {
		a.events.Record(ctx, event.ExternalLinked, named(&user), slog.String("provider", link.Provider), event.Address(e.Remote))
		a.linkChanged(ctx, now, &user, &link, nil, from)
	}
	return nil
}

// UnlinkExternal removes a link by its ID. What the account had from it, claims and groups, goes with
// it, and the user is notified. Sessions that began with it end, except the current one. A sign-in that
// found the link just before may still begin a session; the user sees it in the list of sessions. The
// error is ErrLastMethod if the account could not be signed in to anymore, storage.ErrNotFound, or an
// internal error.
func (a *Accounts) UnlinkExternal(ctx context.Context, now time.Time, userID, linkID string, current *Session, from Activity) error {
	if err := a.takeChange(ctx, now, userID); err != nil {
		return err
	}
	var user User
	var removed ExternalLink
	err := a.store.UpdateUser(ctx, userID, func(stored *User) error {
		i := slices.IndexFunc(stored.External, func(l ExternalLink) bool { return l.ID == linkID })
		if i < 0 {
			return storage.ErrNotFound
		}
		removed = stored.External[i]
		stored.External = slices.Delete(slices.Clone(stored.External), i, i+1)
		if !a.CanSignIn(stored) {
			return ErrLastMethod
		}
		stored.UpdatedAt = now
		user = *stored.Clone()
		return nil
	})
	if errors.Is(err, ErrLastMethod) || errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if err != nil {
		return fmt.Errorf("unlink an external user: %w", err)
	}
	a.events.Record(ctx, event.ExternalUnlinked, named(&user), slog.String("provider", removed.Provider))
	a.linkChanged(ctx, now, &user, nil, &removed, from)
	return a.endLinkedSessions(ctx, now, &removed, current)
}

// Unlink removes a link by its ID from a user whom an operator changes. The error is ErrLastMethod if it
// is the last with which the user can sign in, or storage.ErrNotFound.
func (a *Accounts) Unlink(u *User, linkID string) error {
	without := *u
	without.External = slices.DeleteFunc(slices.Clone(u.External), func(l ExternalLink) bool { return l.ID == linkID })
	switch {
	case len(without.External) == len(u.External):
		return storage.ErrNotFound
	case a.CanSignIn(u) && !a.CanSignIn(&without):
		return ErrLastMethod
	}
	u.External = without.External
	return nil
}

// endLinkedSessions ends the sessions that began with a link, except the current one.
func (a *Accounts) endLinkedSessions(ctx context.Context, now time.Time, link *ExternalLink, current *Session) error {
	isCurrent := func(reference string) bool {
		return current != nil && slices.ContainsFunc(current.Proofs, func(p ProvedMethod) bool {
			return p.Method == MethodUpstream && p.Authenticator == reference
		})
	}
	for more := true; more; {
		more = false
		tickets, err := a.store.FindFamily(ctx, now, externalFamily("subject", link.Issuer, link.Subject), ticketkind.ExternalSession, maxSessions)
		if err != nil {
			return fmt.Errorf("list sessions at a provider: %w", err)
		}
		for _, ticket := range tickets {
			var stored externalSession
			if err := json.Unmarshal(ticket.Data, &stored); err != nil {
				return fmt.Errorf("decode a session at a provider: %w", err)
			}
			if isCurrent(stored.Reference) {
				continue
			}
			if _, err := a.endSessionsWith(ctx, now, &stored); err != nil {
				return err
			}
			more = true
		}
	}
	return nil
}
