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

// ErrLogoutToken says that a logout token failed a check of OpenID Connect Back-Channel
// Logout.
var ErrLogoutToken = errors.New("client: the logout token is not valid")

// LogoutToken is what a checked logout token says (OpenID Connect Back-Channel Logout,
// section 2.4): which person, or which of their sessions at the provider, has ended. At
// least one of Subject and SessionID is there.
type LogoutToken struct {
	Issuer    string
	Subject   string
	SessionID string
	// ID is the token's jti. The caller takes each once, until Expiry.
	ID     string
	Expiry time.Time
}

// backChannelLogoutEvent is the member of events that makes a JWT a logout token.
const backChannelLogoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// LogoutToken checks a logout token that came to the back-channel logout URI (OpenID
// Connect Back-Channel Logout, section 2.6); RelyingParty does so by itself. Its expiry is
// required, as errata set 1 has it: a token that never ends could be replayed for ever.
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
		return nil, errors.New("iss is not the provider")
	case !slices.Contains(claims.Audience, c.config.ClientID):
		return nil, errors.New("aud does not name this client")
	case claims.IssuedAt.IsZero() || claims.IssuedAt.After(now.Add(leeway)):
		return nil, errors.New("iat is missing or in the future")
	case claims.Expires.IsZero() || !now.Before(claims.Expires.Add(leeway)):
		return nil, errors.New("exp is missing or past")
	case claims.ID == "":
		return nil, errors.New("jti is missing")
	case claims.Subject == "" && members.SessionID == "":
		return nil, errors.New("it has neither sub nor sid")
	case members.Nonce != nil:
		return nil, errors.New("it has a nonce, like an ID token")
	case json.Unmarshal(members.Events[backChannelLogoutEvent], &event) != nil || event == nil:
		return nil, errors.New("events does not name a back-channel logout")
	}
	return &LogoutToken{
		Issuer: claims.Issuer, Subject: claims.Subject, SessionID: members.SessionID,
		ID: claims.ID, Expiry: claims.Expires,
	}, nil
}
