package client

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// IDToken contains the claims of a validated ID token (OpenID Connect Core, section 2).
type IDToken struct {
	Issuer   string         `json:"iss"`
	Subject  string         `json:"sub"`
	Audience oauth.Audience `json:"aud"`
	Expiry   time.Time      `json:"exp"`
	IssuedAt time.Time      `json:"iat"`
	// AuthTime is when the user signed in; zero without auth_time.
	AuthTime  time.Time `json:"auth_time,omitzero"`
	Nonce     string    `json:"nonce,omitempty"`
	ACR       string    `json:"acr,omitempty"`
	AMR       []string  `json:"amr,omitempty"`
	SessionID string    `json:"sid,omitempty"`
	// Claims are all claims as JSON.
	Claims json.RawMessage `json:"claims"`
}

// Decode decodes the claims into a struct or map.
func (t *IDToken) Decode(into any) error {
	if err := json.Unmarshal(t.Claims, into); err != nil {
		return fmt.Errorf("client: decode claims of the ID token: %w", err)
	}
	return nil
}

// expectedIDToken is what is expected of one ID token, in addition to the checks for all.
type expectedIDToken struct {
	nonce string // "" if none was sent
	// anyNonce disables the check of the nonce. clientIDs are accepted in addition to the
	// client's own ID.
	anyNonce  bool
	clientIDs []string
	maxAge    *int64   // seconds
	before    *IDToken // the previous ID token, in a refresh
	code      string   // from the same response; "" if it had none
	state     string   // from the same response; "" if there is none or it is not known
	// codeHash, accessTokenHash and stateHash require c_hash, at_hash and s_hash.
	codeHash, accessTokenHash, stateHash bool
	// authReqID requires that the token was pushed for this request, and rt_hash if there is a
	// refresh token (CIBA Core, section 10.3.1); "" if it was not pushed.
	authReqID    string
	refreshToken string
}

// checkIDToken validates an ID token by OpenID Connect Core, section 3.1.3.7, and in a refresh
// also by section 12.2.
func (c *Client) checkIDToken(ctx context.Context, tokens *Tokens, want expectedIDToken) (*IDToken, error) {
	// Keep the decrypted token: the provider accepts it as id_token_hint.
	inside, err := c.open(tokens.IDToken, c.config.IDTokenEncryptionAlg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIDToken, err)
	}
	tokens.IDToken = inside
	payload, header, err := c.verifyIDToken(ctx, tokens.IDToken)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIDToken, err)
	}
	id, err := c.checkIDTokenClaims(payload, header.Algorithm, tokens.AccessToken, want, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIDToken, err)
	}
	return id, nil
}

// verifyIDToken verifies the signature. A typ, if present, must be JWT, so that no other kind
// of token is accepted as an ID token (RFC 8725, section 3.11).
func (c *Client) verifyIDToken(ctx context.Context, token string) ([]byte, jose.Header, error) {
	return c.verify(ctx, token, jose.Expected{Algorithms: c.idToken, Types: []string{oauth.TypIDToken, ""}})
}

func (c *Client) checkIDTokenClaims(payload []byte, alg jose.Algorithm, accessToken string, want expectedIDToken, now time.Time) (*IDToken, error) {
	ours := func(party string) bool { return party == c.config.ClientID || slices.Contains(want.clientIDs, party) }
	var members struct {
		AuthTime        *float64 `json:"auth_time"`
		Nonce           *string  `json:"nonce"`
		ACR             string   `json:"acr"`
		AMR             []string `json:"amr"`
		AuthorizedParty *string  `json:"azp"`
		AccessTokenHash string   `json:"at_hash"`
		CodeHash        string   `json:"c_hash"`
		StateHash       string   `json:"s_hash"` // FAPI 1.0 Advanced, section 5.1
		SessionID       string   `json:"sid"`

		AuthReqID        string `json:"urn:openid:params:jwt:claim:auth_req_id"`
		RefreshTokenHash string `json:"urn:openid:params:jwt:claim:rt_hash"`
	}
	claims, err := jose.ParseClaims(payload, &members)
	if err != nil {
		return nil, err
	}
	id := &IDToken{
		Issuer: claims.Issuer, Subject: claims.Subject, Audience: oauth.Audience(claims.Audience),
		Expiry: claims.Expires, IssuedAt: claims.IssuedAt,
		ACR: members.ACR, AMR: members.AMR, SessionID: members.SessionID,
		Claims: json.RawMessage(payload),
	}
	if members.Nonce != nil {
		id.Nonce = *members.Nonce
	}
	if members.AuthTime != nil {
		id.AuthTime = time.Unix(int64(*members.AuthTime), 0)
	}
	switch {
	case id.Issuer != c.metadata.Issuer:
		return nil, errors.New("iss is not the issuer of the provider")
	case id.Subject == "" || len(id.Subject) > 255:
		return nil, errors.New("sub is missing or longer than 255 characters")
	case !slices.ContainsFunc(id.Audience, ours):
		return nil, errors.New("aud does not contain the client ID")
	case len(id.Audience) > 1 && members.AuthorizedParty == nil:
		return nil, errors.New("aud has several values, and azp is missing")
	case members.AuthorizedParty != nil && !ours(*members.AuthorizedParty):
		return nil, errors.New("azp is not the client ID")
	case id.Expiry.IsZero() || !now.Before(id.Expiry.Add(leeway)):
		return nil, errors.New("exp is missing or in the past")
	case id.IssuedAt.IsZero() || id.IssuedAt.After(now.Add(leeway)):
		return nil, errors.New("iat is missing or in the future")
	case c.profile.freshIDTokens && want.before == nil && id.IssuedAt.Before(now.Add(-transactionLifetime-leeway)):
		return nil, errors.New("iat is too far in the past")
	case claims.NotBefore.After(now.Add(leeway)):
		return nil, errors.New("nbf is in the future")
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(want.nonce)) != 1 && want.before == nil && !want.anyNonce:
		return nil, errors.New("nonce does not match the request")
	}
	if !hashed(alg, members.AccessTokenHash, accessToken, want.accessTokenHash) {
		return nil, errors.New("at_hash is missing or does not match the access token")
	}
	if !hashed(alg, members.CodeHash, want.code, want.codeHash) {
		return nil, errors.New("c_hash is missing or does not match the code")
	}
	if !hashed(alg, members.StateHash, want.state, want.stateHash) {
		return nil, errors.New("s_hash is missing or does not match the state")
	}
	if want.authReqID != "" {
		if subtle.ConstantTimeCompare([]byte(members.AuthReqID), []byte(want.authReqID)) != 1 {
			return nil, errors.New("the claim auth_req_id is missing, or names another request")
		}
		if !hashed(alg, members.RefreshTokenHash, want.refreshToken, want.refreshToken != "") {
			return nil, errors.New("rt_hash is missing or does not match the refresh token")
		}
	}
	if want.maxAge != nil {
		oldest := now.Add(-time.Duration(*want.maxAge)*time.Second - leeway)
		if id.AuthTime.IsZero() || id.AuthTime.Before(oldest) {
			return nil, errors.New("auth_time is missing or older than max_age")
		}
	}
	if err := want.before.checkSuccessor(id); err != nil {
		return nil, err
	}
	return id, nil
}

// hashed reports whether at_hash or c_hash matches its token or code (OpenID Connect Core,
// sections 3.1.3.8, 3.2.2.9 and 3.3.2.10). It may be missing unless it is required.
func hashed(alg jose.Algorithm, hash, value string, required bool) bool {
	if hash == "" || value == "" {
		return !required
	}
	return subtle.ConstantTimeCompare([]byte(jose.LeftHash(alg, value)), []byte(hash)) == 1
}

// checkSuccessor checks that a refreshed ID token is about the same user and the same sign-in
// (OpenID Connect Core, section 12.2).
func (t *IDToken) checkSuccessor(next *IDToken) error {
	switch {
	case t == nil:
		return nil
	case next.Subject != t.Subject:
		return errors.New("sub changed in a refresh")
	case next.Nonce != "" && next.Nonce != t.Nonce:
		return errors.New("nonce changed in a refresh")
	case !next.AuthTime.IsZero() && !t.AuthTime.IsZero() && !next.AuthTime.Equal(t.AuthTime):
		return errors.New("auth_time changed in a refresh")
	}
	return nil
}
