package authserver

import (
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/oauth"
)

// The store keeps requests that wait for a user. Their size is bounded here, and their number
// in limits.go.
const (
	// maxStoredBytes bounds the parameters of one request that waits for a user.
	maxStoredBytes = 32 << 10
	// largeStoredBytes is the size above which a request also counts for the limit on all
	// addresses together.
	largeStoredBytes = 4 << 10
	// maxRegisteredBytes bounds the metadata of a client that registered itself. A declared
	// client may have maxClientBytes.
	maxRegisteredBytes = 16 << 10
)

// storedKibibytes is how much one party may have stored in a minute, beyond the first KiB of
// each request. storedKibibytesInAll is how much all large requests together may have stored.
var (
	storedKibibytes      = ratelimit.Limit{Burst: 4 << 10, Every: time.Minute / (4 << 10)}
	storedKibibytesInAll = ratelimit.Limit{Burst: 32 << 10, Every: time.Minute / (32 << 10)}
)

var (
	ruleStoredSize = rule{
		must:    "the parameters of a request that waits for the user have at most 32768 bytes together",
		section: "Valetkey", code: oauth.InvalidRequest,
		says: "the parameters are too long: together they may have 32768 bytes, encoded",
		fix:  "send less: a shorter state, claims or id_token_hint",
	}
	ruleStoredPace = rule{
		must:    "one address does not store too many bytes in a minute, nor all large requests together",
		section: "Valetkey", code: oauth.TemporarilyUnavailable,
		says: "too many large requests; try again in a minute",
		fix:  "send shorter parameters, or wait a minute",
	}
)

// storedParams returns the parameters of authorization and logout requests that are stored.
// Unknown parameters are ignored (RFC 6749, section 3.1).
func storedParams() []string {
	return []string{
		"acr_values", "claims", "claims_locales", "client_id", "code_challenge", "code_challenge_method",
		"id_token_hint", "login_hint", "max_age", "nonce", "post_logout_redirect_uri", "prompt", "redirect_uri", "registration",
		"request", "request_uri", "resource", "response_mode", "response_type", "scope", "state", "ui_locales",
	}
}

// storable returns the parameters to store, encoded.
func (p params) storable() string {
	names := storedParams()
	return slices.DeleteFunc(slices.Clone(p), func(one param) bool { return !slices.Contains(names, one.name) }).encode()
}

// countStoredBytes counts the bytes to store for a client's request, or refuses the request.
func (c *call) countStoredBytes(cl *client, bytes int) error {
	if bytes > maxStoredBytes {
		return c.refuse(&ruleStoredSize, fmt.Sprintf("%d bytes", bytes))
	}
	for range bytes >> 10 {
		if wait := c.s.limits.storedBytes.Take(c.now, c.party(cl)); wait > 0 {
			return c.tooMany(&ruleStoredPace, wait, c.s.remoteAddr(c.r).String())
		}
	}
	if bytes <= largeStoredBytes {
		return nil
	}
	for range bytes >> 10 {
		if wait := c.s.limits.allStoredBytes.Take(c.now, ratelimit.NewKey()); wait > 0 {
			return c.tooMany(&ruleStoredPace, wait, "all addresses together")
		}
	}
	return nil
}
