package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// ErrLogoutToken means that a logout token is not valid, or was used before.
var ErrLogoutToken = errors.New("upstream: the logout token is not valid")

const maxLogoutTokenBytes = 16 << 10

// ReceiveLogout verifies a logout token of the provider, and calls end with whose sessions have ended
// there: those of a subject, or one with a session ID. Each token is accepted once (OpenID Connect
// Back-Channel Logout, section 2.6). It counts as used only after end has succeeded, so the provider can
// repeat a request that failed. The error is ErrLogoutToken, ErrUnavailable, that of end, or an internal
// error.
func (p *Provider) ReceiveLogout(ctx context.Context, now time.Time, token string, end func(issuer, subject, session string) error) error {
	if p.config.plain() || token == "" || len(token) > maxLogoutTokenBytes {
		return ErrLogoutToken
	}
	leave, err := p.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	c, err := p.client(ctx)
	if err != nil {
		return err
	}
	logout, err := c.LogoutToken(ctx, token)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLogoutToken, err)
	}
	subject := logout.Subject
	if p.config.Subject != "" {
		// The sub of the token is not what identifies users of this provider.
		if subject = ""; logout.SessionID == "" {
			return fmt.Errorf("%w: it has no sid, and users of the provider are not identified by sub", ErrLogoutToken)
		}
	}
	used := storage.Ticket{Key: ticketkind.UpstreamLogout.Hash(p.config.ID + "\n" + logout.ID), Expires: logout.Expiry.Add(2 * leeway)}
	if used.Expires.After(now.Add(24 * time.Hour)) {
		return fmt.Errorf("%w: it expires more than a day from now", ErrLogoutToken)
	}
	if _, err := p.all.options.Store.Get(ctx, now, used.Key); err == nil {
		return fmt.Errorf("%w: it was used before", ErrLogoutToken)
	} else if !errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("look up a logout token: %w", err)
	}
	if err := end(p.config.userIssuer(), subject, logout.SessionID); err != nil {
		return err
	}
	if err := p.all.options.Store.Put(ctx, now, used); err != nil && !errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("store a logout token: %w", err)
	}
	return nil
}
