package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth/jose"
)

// Authorization responses as JWTs: JWT Secured Authorization Response Mode for OAuth 2.0 (JARM).

// chooseResponseJWT checks the algorithms for responses.
func (c *Client) chooseResponseJWT() error {
	switch alg := c.config.AuthorizationSigningAlg; {
	case alg == "" && c.config.AuthorizationEncryptionAlg != "":
		return errors.New("client: AuthorizationEncryptionAlg requires AuthorizationSigningAlg")
	case alg == "" || slices.Contains(jose.SigningAlgorithms(), alg):
		return nil
	case alg != jose.HS256 && alg != jose.HS384 && alg != jose.HS512:
		return fmt.Errorf("client: AuthorizationSigningAlg %q is not supported", alg)
	case c.config.ClientSecret == "":
		return fmt.Errorf("client: AuthorizationSigningAlg %s requires a ClientSecret", alg)
	}
	return nil
}

const jwtMode = ".jwt"

// jwtResponseMode returns the response mode that returns a JWT instead of parameters.
func (c *Client) jwtResponseMode(mode string) string {
	switch {
	case c.config.AuthorizationSigningAlg == "" || mode == "jwt" || strings.HasSuffix(mode, jwtMode):
		return mode
	case mode == "":
		return "jwt"
	}
	return mode + jwtMode
}

// postsForm reports whether a response mode posts a form to the redirect URI.
func postsForm(mode string) bool { return strings.TrimSuffix(mode, jwtMode) == "form_post" }

// responseState returns the state of a response, before the response is verified.
func (c *Client) responseState(response url.Values) string {
	if c.config.AuthorizationSigningAlg == "" {
		return response.Get("state")
	}
	if token, err := c.open(response.Get("response"), c.config.AuthorizationEncryptionAlg); err == nil {
		if payload, err := jose.UnverifiedPayload(token); err == nil {
			if parameters, _, err := responseParameters(payload); err == nil {
				return parameters.Get("state")
			}
		}
	}
	return ""
}

// openResponse returns the parameters in the JWT of a response (JARM, section 2.4). It checks the
// state first, so that a forged response makes the client fetch no keys, and then the provider,
// before it verifies the signature. Without AuthorizationSigningAlg it returns the response
// unchanged. Plain parameters are refused: an attacker could have removed the JWT.
func (c *Client) openResponse(ctx context.Context, t *Transaction, response url.Values) (url.Values, error) {
	if c.config.AuthorizationSigningAlg == "" || t.State == "" { // checkCallback refuses a used transaction
		return response, nil
	}
	if len(response["response"]) != 1 {
		return nil, fmt.Errorf("%w: it is not a JWT", ErrState)
	}
	token, err := c.open(response.Get("response"), c.config.AuthorizationEncryptionAlg)
	if err != nil {
		return nil, fmt.Errorf("%w: its JWT: %w", ErrState, err)
	}
	unverified, err := jose.UnverifiedPayload(token)
	if err != nil {
		return nil, fmt.Errorf("%w: its JWT: %w", ErrState, err)
	}
	parameters, claims, err := responseParameters(unverified)
	if err != nil {
		return nil, fmt.Errorf("%w: its JWT: %w", ErrState, err)
	}
	if !sameState(t, parameters) {
		return nil, ErrState
	}
	if err := c.verifyResponse(ctx, token, claims); err != nil {
		t.erase()
		return nil, err
	}
	return parameters, nil
}

// verifyResponse verifies the claims and the signature of a response.
func (c *Client) verifyResponse(ctx context.Context, token string, claims jose.Claims) error {
	switch {
	case claims.Issuer != c.metadata.Issuer:
		return fmt.Errorf("%w: iss of its JWT is %q", ErrMixUp, sanitize(claims.Issuer, 200))
	case !slices.Contains(claims.Audience, c.config.ClientID):
		return fmt.Errorf("%w: aud of its JWT does not contain the client ID", ErrCallback)
	case claims.Expires.IsZero() || !time.Now().Before(claims.Expires.Add(leeway)):
		return fmt.Errorf("%w: exp of its JWT is missing or in the past", ErrCallback)
	}
	_, _, err := c.verify(ctx, token, jose.Expected{Algorithms: []jose.Algorithm{c.config.AuthorizationSigningAlg}, Types: []string{"JWT", ""}})
	if err != nil {
		return fmt.Errorf("%w: its JWT: %w", ErrCallback, err)
	}
	return nil
}

// responseParameters returns the claims of a JWT as parameters of a response.
func responseParameters(payload []byte) (url.Values, jose.Claims, error) {
	var members map[string]json.RawMessage
	claims, err := jose.ParseClaims(payload, &members)
	if err != nil {
		return nil, claims, err
	}
	parameters := url.Values{}
	for name, raw := range members {
		var text string
		switch {
		case slices.Contains([]string{"aud", "exp", "nbf", "iat", "jti"}, name):
		case json.Unmarshal(raw, &text) == nil:
			parameters.Set(name, text)
		default: // a number, such as expires_in
			parameters.Set(name, string(raw))
		}
	}
	return parameters, claims, nil
}
