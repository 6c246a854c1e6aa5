package authserver

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// JWT Response for OAuth Token Introspection (RFC 9701): the response is a claim of a JWT that this
// server signs, and encrypts if the caller is registered for it.

const mediaTypeIntrospectionJWT = "application/" + oauth.TypIntrospection

// acceptsIntrospectionJWT reports whether a request accepts a JWT (RFC 9701, section 4). It gets a
// JWT if it also accepts JSON.
func acceptsIntrospectionJWT(h http.Header) bool {
	for _, accept := range h["Accept"] {
		for accepted := range strings.SplitSeq(accept, ",") {
			mediaType, parameters, _ := strings.Cut(accepted, ";")
			if strings.EqualFold(strings.TrimSpace(mediaType), mediaTypeIntrospectionJWT) && !refusedByWeight(parameters) {
				return true
			}
		}
	}
	return false
}

// refusedByWeight reports whether the parameters of a media range have the weight 0, which means
// "not acceptable" (RFC 9110, section 12.4.2).
func refusedByWeight(parameters string) bool {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		if strings.EqualFold(name, "q") {
			weight, err := strconv.ParseFloat(value, 64)
			return err == nil && weight == 0
		}
	}
	return false
}

// writeIntrospectionJWT responds with a JWT (RFC 9701, section 5). It has neither sub nor exp, so
// that it cannot be used as an access token.
func (c *call) writeIntrospectionJWT(caller *client, response []byte) error {
	payload, err := json.Marshal(struct {
		Issuer        string          `json:"iss"`
		Audience      string          `json:"aud"`
		IssuedAt      int64           `json:"iat"`
		Introspection json.RawMessage `json:"token_introspection"`
	}{c.s.config.Issuer, caller.ID, c.now.Unix(), response})
	if err != nil {
		return fmt.Errorf("encode introspection response: %w", err)
	}
	alg := jose.Algorithm(cmp.Or(caller.IntrospectionSignedResponseAlg, string(jose.RS256)))
	token, err := c.sign(caller, alg, oauth.TypIntrospection, payload)
	if err != nil {
		return fmt.Errorf("sign introspection response: %w", err)
	}
	token, err = c.s.encryptTo(c.r.Context(), c.now, caller, token, caller.IntrospectionEncryptedResponseAlg, caller.IntrospectionEncryptedResponseEnc, "JWT")
	if err != nil {
		return err
	}
	noStore(c.w)
	writeBytes(c.w, http.StatusOK, mediaTypeIntrospectionJWT, []byte(token))
	return nil
}
