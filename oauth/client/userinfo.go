package client

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// UserInfo is the response of the UserInfo endpoint (OpenID Connect Core, section 5.3).
type UserInfo struct {
	Subject string
	// Claims are all claims as JSON.
	Claims json.RawMessage
}

// Decode decodes the claims into a struct or map.
func (u *UserInfo) Decode(into any) error {
	if err := json.Unmarshal(u.Claims, into); err != nil {
		return fmt.Errorf("client: decode claims of UserInfo: %w", err)
	}
	return nil
}

// UserInfo fetches the claims of the user from the UserInfo endpoint. t must come from a
// sign-in with the scope "openid". The response must have the sub of its ID token, otherwise
// the access token may be that of another user (OpenID Connect Core, section 5.3.4), and the
// error wraps ErrSubject. Without an ID token, Config.UserInfoSubject determines the subject.
// The access token is not renewed; pass the tokens of a Source.
func (c *Client) UserInfo(ctx context.Context, t *Tokens) (*UserInfo, error) {
	if c.metadata.UserinfoEndpoint == "" {
		return nil, fmt.Errorf("%w: its metadata has no userinfo_endpoint", ErrUnsupported)
	}
	if t.Identity == nil && c.config.UserInfoSubject == "" {
		return nil, fmt.Errorf("%w: there is no ID token to compare with", ErrSubject)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.endpoint(c.metadata.UserinfoEndpoint), nil)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	req.Header.Set("Accept", "application/json, application/jwt")
	got, err := c.sendWithToken(req, t)
	if err != nil {
		return nil, err
	}
	if got.status != http.StatusOK {
		return nil, challengeError(got)
	}
	claims, err := c.readUserInfo(ctx, got)
	if err != nil {
		return nil, err
	}
	if t.Identity == nil {
		subject, err := subjectFrom(claims, c.config.UserInfoSubject)
		if err != nil {
			return nil, err
		}
		return &UserInfo{Subject: subject, Claims: claims}, nil
	}
	var members struct {
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal(claims, &members); err != nil {
		return nil, fmt.Errorf("%w: UserInfo is %s, not a JSON object", ErrResponse, describe(got))
	}
	if members.Subject != t.Identity.Subject {
		return nil, ErrSubject
	}
	return &UserInfo{Subject: members.Subject, Claims: claims}, nil
}

// sendWithToken sends a request to the provider with an access token.
func (c *Client) sendWithToken(req *http.Request, t *Tokens) (*response, error) {
	key, err := c.prover.keyOf(t)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", t.TokenType+" "+t.AccessToken)
	for again := false; ; again = true {
		nonce := ""
		if key != nil {
			if nonce, err = c.prover.prove(req, key, t.AccessToken); err != nil {
				return nil, err
			}
		}
		got, err := c.send(req, maxResponseBytes)
		if err != nil || key == nil {
			return got, err
		}
		if fresh := c.prover.learn(req.URL, got.header, nonce); again || !fresh || !demandsNonce(got.status, got.header) {
			return got, nil
		}
	}
}

// subjectFrom returns the member that identifies the user at a provider without OpenID
// Connect: a string or an integer. Fractions and exponents are rejected, because two users
// could get the same number.
func subjectFrom(claims json.RawMessage, name string) (string, error) {
	var members map[string]json.RawMessage
	if err := jose.ParseJSON(claims, &members); err != nil {
		return "", fmt.Errorf("%w: UserInfo is not a JSON object, or it has duplicate members", ErrResponse)
	}
	raw := members[name]
	var subject string
	if json.Unmarshal(raw, &subject) != nil && strings.Trim(string(raw), "0123456789") == "" {
		subject = string(raw)
	}
	if subject == "" || subject == "0" || len(subject) > 255 {
		return "", fmt.Errorf("%w: the member %q of UserInfo does not identify a user", ErrResponse, name)
	}
	return subject, nil
}

// readUserInfo returns the claims of a response, which may be a JWT (OpenID Connect Core,
// section 5.3.2). In a JWT, iss and aud must be correct if present.
func (c *Client) readUserInfo(ctx context.Context, got *response) (json.RawMessage, error) {
	kind, _, _ := mime.ParseMediaType(got.header.Get("Content-Type"))
	if kind != "application/jwt" {
		if c.config.UserInfoSigningAlg != "" || c.config.UserInfoEncryptionAlg != "" {
			return nil, fmt.Errorf("%w: UserInfo is %s, but must be signed or encrypted", ErrResponse, describe(got))
		}
		return got.body, nil
	}
	inside, err := c.open(string(got.body), c.config.UserInfoEncryptionAlg)
	if err != nil {
		return nil, fmt.Errorf("%w: UserInfo: %w", ErrResponse, err)
	}
	// Encrypted without a signature: the content is the claims themselves.
	if c.config.UserInfoEncryptionAlg != "" && c.config.UserInfoSigningAlg == "" && strings.HasPrefix(inside, "{") {
		return json.RawMessage(inside), nil
	}
	algorithms := c.profile.algorithms
	if c.config.UserInfoSigningAlg != "" {
		algorithms = []jose.Algorithm{c.config.UserInfoSigningAlg}
	}
	payload, _, err := c.verify(ctx, inside, jose.Expected{Algorithms: algorithms, Types: []string{"JWT", ""}})
	if err != nil {
		return nil, fmt.Errorf("%w: UserInfo: %w", ErrResponse, err)
	}
	claims, err := jose.ParseClaims(payload, nil)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: UserInfo: %w", ErrResponse, err)
	case claims.Issuer != "" && claims.Issuer != c.metadata.Issuer:
		return nil, fmt.Errorf("%w: UserInfo: iss is not the issuer of the provider", ErrResponse)
	case claims.Audience != nil && !slices.Contains(claims.Audience, c.config.ClientID):
		return nil, fmt.Errorf("%w: UserInfo: aud does not contain the client ID", ErrResponse)
	case !claims.Expires.IsZero() && !time.Now().Before(claims.Expires.Add(leeway)):
		return nil, fmt.Errorf("%w: UserInfo: it has expired", ErrResponse)
	}
	return payload, nil
}

// challengeError returns the error in the challenge for a rejected access token (RFC 6750,
// section 3).
func challengeError(got *response) error {
	for _, field := range got.header.Values("WWW-Authenticate") {
		for _, challenge := range oauth.ParseChallenges(field) {
			if code := challenge.Param("error"); code != "" {
				e := newError(code, challenge.Param("error_description"), challenge.Param("error_uri"))
				e.Status = got.status
				return e
			}
		}
	}
	return parseError(got)
}
