package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

var ruleRevokeToken = rule{
	must:    "the request has a token",
	section: "RFC 7009, section 2.1", code: oauth.InvalidRequest,
	says: "token is missing",
	fix:  "send the token in the body",
}

// revoke ends a token (RFC 7009). A refresh token takes its whole authorization with it;
// an access token ends alone. The answer is the same whether the token was there,
// somebody else's, or nonsense; only a store that fails is reported.
func (c *call) revoke() error {
	if err := c.parseForm(); err != nil {
		return err
	}
	caller, err := c.authenticateClient()
	if err != nil {
		return err
	}
	token := c.params.get("token")
	if err := c.must(token != "", &ruleRevokeToken); err != nil {
		return err
	}
	// token_type_hint is not needed: our tokens say what they are.
	if isSecret(prefixRefreshToken, token) {
		err = c.revokeRefreshToken(caller, token)
	} else {
		err = c.revokeAccessToken(caller, token)
	}
	if err != nil {
		return err
	}
	noStore(c.w)
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (c *call) revokeRefreshToken(caller *client, token string) error {
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, secretKey(ticketkind.RefreshToken, prefixRefreshToken, token))
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return unavailable(fmt.Errorf("look up refresh token: %w", err))
	}
	a, err := readAuthorization(ticket)
	if err != nil {
		return err
	}
	if a.ClientID != caller.ID {
		return nil
	}
	if err := c.countEndedFamily(endedOwner{caller.ID, a.Subject}, a.Family); err != nil {
		return unavailable(err)
	}
	if err := c.s.config.Store.DeleteFamily(c.r.Context(), a.Family); err != nil {
		return unavailable(fmt.Errorf("revoke authorization: %w", err))
	}
	return nil
}

func (c *call) revokeAccessToken(caller *client, token string) error {
	t, err := c.verifyAccessToken(token)
	if errors.Is(err, errInactive) {
		return nil
	}
	if err != nil {
		return unavailable(err)
	}
	if t.claims.ClientID != caller.ID {
		return nil
	}
	if err := c.countEnded(t); err != nil {
		return err
	}
	if err := c.endToken(t); err != nil {
		return unavailable(err)
	}
	return nil
}

// unavailable asks the client to try again (RFC 7009, section 2.2.1).
func unavailable(err error) error {
	return oauth.NewError(oauth.TemporarilyUnavailable, "the token could not be revoked; try again").Because(err)
}

// denyJWT puts a JWT on the list of those that end before their time.
func (s *Server) denyJWT(ctx context.Context, now time.Time, id string, expires time.Time) error {
	err := s.config.Store.Put(ctx, now, storage.Ticket{Key: ticketkind.RevokedToken.Hash(id), Expires: expires})
	if err != nil && !errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("revoke access token: %w", err)
	}
	return nil
}
