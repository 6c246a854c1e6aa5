package authserver

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth/jose"
)

// JWT Secured Authorization Response Mode for OAuth 2.0 (JARM): the parameters of the response are
// the claims of a JWT that this server signs, and encrypts if the client is registered for it.

const (
	// responseJWTLifetime is how long the JWT of a response is valid (JARM, section 2.1). The code
	// in it expires earlier.
	responseJWTLifetime = 5 * time.Minute

	// modeJWT is query.jwt or fragment.jwt, whichever is the default of the response type (JARM,
	// section 2.3.4).
	modeJWT   = "jwt"
	jwtSuffix = ".jwt"
)

// inJWT returns a response as the parameter response, a JWT (JARM, section 2).
func (c *call) inJWT(cl *client, response params) (params, error) {
	claims := make(map[string]any, len(response)+3)
	for _, p := range response {
		claims[p.name] = p.value
	}
	claims["iss"], claims["aud"] = c.s.config.Issuer, cl.ID
	claims["exp"] = c.now.Add(responseJWTLifetime).Unix()
	payload, err := json.Marshal(claims)
	if err != nil {
		return nil, fmt.Errorf("encode authorization response: %w", err)
	}
	alg := jose.Algorithm(cmp.Or(cl.AuthorizationSignedResponseAlg, string(jose.RS256)))
	token, err := c.sign(cl, alg, "JWT", payload)
	if err != nil {
		return nil, fmt.Errorf("sign authorization response: %w", err)
	}
	token, err = c.s.encryptTo(c.r.Context(), c.now, cl, token, cl.AuthorizationEncryptedResponseAlg, cl.AuthorizationEncryptedResponseEnc, "JWT")
	if err != nil {
		return nil, err
	}
	return params{{"response", token}}, nil
}

// isJWTMode reports whether a response mode returns a JWT.
func isJWTMode(mode string) bool { return strings.HasSuffix(mode, jwtSuffix) }

// onlyJWTModes reports whether no other mode is registered for the client.
func (c *client) onlyJWTModes() bool {
	return c.ResponseModes != nil && !slices.ContainsFunc(c.ResponseModes, func(mode string) bool { return mode != modeJWT && !isJWTMode(mode) })
}

// registeredMode reports whether the client may use a response mode, requested by its name or as the
// default of the response type (FAPI 2.0 Message Signing, section 5.3.3). To be registered for jwt is
// to be registered for the mode that it stands for.
func (c *client) registeredMode(requested, mode string) bool {
	if c.ResponseModes == nil || slices.Contains(c.ResponseModes, mode) {
		return true
	}
	return requested == modeJWT && slices.Contains(c.ResponseModes, modeJWT)
}

// modeAllowed reports whether a response mode may be used. Tokens must not be in a query (OAuth 2.0
// Multiple Response Type Encoding Practices, section 3.0), unless they are encrypted (JARM, section
// 2.3.1).
func (c *client) modeAllowed(mode string, frontChannel bool) bool {
	switch mode {
	case "query":
		return !frontChannel
	case "query.jwt":
		return !frontChannel || c.AuthorizationEncryptedResponseAlg != ""
	}
	return true
}
