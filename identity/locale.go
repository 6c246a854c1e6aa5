package identity

import (
	"context"
	"fmt"
	"time"
)

// SetLocale stores the language that a user has chosen, a BCP 47 tag, in the claim locale; "" removes
// the claim.
func (a *Accounts) SetLocale(ctx context.Context, now time.Time, userID, locale string) error {
	err := a.store.UpdateUser(ctx, userID, func(stored *User) error {
		if stored.locale() == locale {
			return nil
		}
		if stored.Claims == nil {
			stored.Claims = map[string]any{}
		}
		stored.Claims["locale"], stored.UpdatedAt = locale, now
		if locale == "" {
			delete(stored.Claims, "locale")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store the language of a user: %w", err)
	}
	return nil
}
