package identity

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// RememberFactor remembers that a user has proved a second factor on a device, as long as the policy
// allows, and returns the secret for the cookie. It ends with everything else of the user, when the
// user signs out everywhere, and when the password or a second factor changes.
func (a *Accounts) RememberFactor(ctx context.Context, now time.Time, user *User) (secret string, err error) {
	if a.policy.RememberSecondFactor <= 0 {
		return "", errors.New("identity: the policy does not allow to remember a second factor")
	}
	secret = newSecret()
	ticket := storage.Ticket{
		Key: ticketkind.RememberedFactor.Hash(secret), Family: SessionFamily(user.ID), Data: user.factorsHash(), Expires: now.Add(a.policy.RememberSecondFactor),
	}
	if err := a.store.Put(ctx, now, ticket); err != nil {
		return "", fmt.Errorf("remember a second factor: %w", err)
	}
	return secret, nil
}

// FactorRemembered reports whether a user has proved a second factor on the device of a cookie, and has
// asked for it to be remembered.
func (a *Accounts) FactorRemembered(ctx context.Context, now time.Time, user *User, secret string) (bool, error) {
	if secret == "" || a.policy.RememberSecondFactor <= 0 {
		return false, nil
	}
	ticket, err := a.store.Get(ctx, now, ticketkind.RememberedFactor.Hash(secret))
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find a remembered second factor: %w", err)
	}
	return ticket.Family == SessionFamily(user.ID) && subtle.ConstantTimeCompare(ticket.Data, user.factorsHash()) == 1, nil
}

// factorsHash changes when the password or a second factor changes. Recovery codes are not part of it.
func (u *User) factorsHash() []byte {
	parts := []string{"second factors", u.ID, u.PasswordHash}
	for _, a := range u.Authenticators {
		if a.Kind != MethodRecoveryCode {
			parts = append(parts, a.ID)
		}
	}
	return hashOf(parts...)
}
