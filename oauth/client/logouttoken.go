package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// ErrLogoutToken means that a logout token is not valid by OpenID Connect Back-Channel Logout.
var ErrLogoutToken = errors.New("client: the logout token is not valid")

// LogoutToken contains the claims of a validated logout token (OpenID Connect Back-Channel
// Logout, section 2.4): which user, or which of the user's sessions at the provider, was
// signed out. At least one of Subject and SessionID is set.
type LogoutToken struct {
	Issuer    string
	Subject   string
	SessionID string
	// ID is the jti of the token. The caller must accept each only once, until Expiry.
	ID     string
	Expiry time.Time
}

// backChannelLogoutEvent is the member of events that makes a JWT a logout token.
const backChannelLogoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// LogoutToken validates a logout token that was sent to the back-channel logout URI (OpenID
// Connect Back-Channel Logout, section 2.6). RelyingParty does this by itself. exp is required
// (errata set 1), because a token without it could be replayed forever.
func (c *Client) LogoutToken(ctx context.Context, token string) (*LogoutToken, error) {
	inside, err := c.open(token, c.config.IDTokenEncryptionAlg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogoutToken, err)
	}
	payload, _, err := c.verify(ctx, inside, jose.Expected{
		Algorithms: c.idToken, Types: []string{oauth.TypLogoutToken, "JWT", ""},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogoutToken, err)
	}
	logout, err := c.checkLogoutTokenClaims(payload, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogoutToken, err)
	}
	return logout, nil
}

func (c *Client) checkLogoutTokenClaims(payload []byte, now time.Time) (*LogoutToken, error) {
	var members struct {
		SessionID string                     `json:"sid"`
		Events    map[string]json.RawMessage `json:"events"`
		Nonce     json.RawMessage            `json:"nonce"`
	}
	claims, err := jose.ParseClaims(payload, &members)
	if err != nil {
		return nil, err
	}
	var event map[string]json.RawMessage
	switch {
	case claims.Issuer != c.metadata.Issuer:
		return nil, errors.New("iss is not the issuer of the provider")
	case !slices.Contains(claims.Audience, c.config.ClientID):
		return nil, errors.New("aud does not contain the client ID")
	case claims.IssuedAt.IsZero() || claims.IssuedAt.After(now.Add(leeway)):
		return nil, errors.New("iat is missing or in the future")
	case claims.Expires.IsZero() || !now.Before(claims.Expires.Add(leeway)):
		return nil, errors.New("exp is missing or in the past")
	case claims.ID == "":
		return nil, errors.New("jti is missing")
	case claims.Subject == "" && members.SessionID == "":
		return nil, errors.New("it has neither sub nor sid")
	case members.Nonce != nil:
		return nil, errors.New("it has a nonce, like an ID token")
	case json.Unmarshal(members.Events[backChannelLogoutEvent], &event) != nil || event == nil:
		return nil, errors.New("events does not contain a back-channel logout")
	}
	return &LogoutToken{
		Issuer: claims.Issuer, Subject: claims.Subject, SessionID: members.SessionID,
		ID: claims.ID, Expiry: claims.Expires,
	}, nil
}
