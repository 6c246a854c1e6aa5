package authserver

import (
	"cmp"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// Lifetimes are the lifetimes of codes, tokens and keys. A zero field means the default.
type Lifetimes struct {
	AuthorizationCode time.Duration // 1 minute (RFC 9700, section 2.1.1 via OAuth 2.1; FAPI 2.0)
	AccessToken       time.Duration // 10 minutes
	IDToken           time.Duration // 10 minutes
	// RefreshToken is how long an unused refresh token is valid. RefreshTokenMax is how long all
	// refresh tokens of one authorization are valid together.
	RefreshToken    time.Duration // 14 days
	RefreshTokenMax time.Duration // 30 days
	// RefreshRetry is how long after a rotation the old refresh token returns the same new one.
	RefreshRetry time.Duration // 30 seconds
	Interaction  time.Duration // 30 minutes
	// PushedAuthorizationRequest is how long a request_uri is valid.
	PushedAuthorizationRequest time.Duration // 5 minutes
	// KeyRotation is how long a key signs. KeyPublishAhead is how long it is published before.
	KeyRotation     time.Duration // 90 days
	KeyPublishAhead time.Duration // 24 hours
}

func (l Lifetimes) withDefaults() Lifetimes {
	set := func(field *time.Duration, value time.Duration) {
		if *field == 0 {
			*field = value
		}
	}
	set(&l.AuthorizationCode, time.Minute)
	set(&l.AccessToken, 10*time.Minute)
	set(&l.IDToken, 10*time.Minute)
	set(&l.RefreshToken, 14*24*time.Hour)
	set(&l.RefreshTokenMax, 30*24*time.Hour)
	set(&l.RefreshRetry, 30*time.Second)
	set(&l.Interaction, 30*time.Minute)
	set(&l.PushedAuthorizationRequest, 5*time.Minute)
	set(&l.KeyRotation, 90*24*time.Hour)
	set(&l.KeyPublishAhead, 24*time.Hour)
	return l
}

// Limits.
const (
	maxFormBytes     = 64 << 10
	maxParams        = 100
	maxParamBytes    = 16 << 10
	maxStateBytes    = 4 << 10
	maxNonceBytes    = 1 << 10
	maxResources     = 16
	maxClientBytes   = 64 << 10
	clockSkew        = 10 * time.Second
	maxAssertionLife = time.Hour // of a client's assertion; some libraries issue them for an hour
	jwksMaxAge       = 5 * time.Minute
	metadataMaxAge   = time.Hour
	catalogueMaxAge  = time.Second

	decryptionKeyRetention = 24 * time.Hour
	maxCachedClients       = 10_000
	// maxCachedRegisteredBytes limits the memory for clients that registered themselves. It is
	// estimated as clientMemory for each plus clientMemoryFactor times its JSON.
	maxCachedRegisteredBytes = 64 << 20
	clientMemory             = 2 << 10
	clientMemoryFactor       = 5
	maxStoredRefusals        = 10_000
	maxStoredAccepted        = 5_000
)

// accessTokenLifetime returns the lifetime of an access token: the shortest one for a resource of
// its audience. For one resource that is the shorter of the settings of the resource and the
// client, or the default if neither has one.
func (c *call) accessTokenLifetime(catalogue *catalogue, audience []string) time.Duration {
	own := time.Duration(c.client.AccessTokenLifetime)
	var lifetime time.Duration
	for _, identifier := range audience {
		// UserInfo of this server is not a declared resource and has no limit: it sees revocations
		// immediately.
		if r := catalogue.resource(identifier); r != nil {
			lifetime = shorter(lifetime, cmp.Or(shorter(time.Duration(r.AccessTokenLifetime), own), c.s.lifetimes.AccessToken))
		}
	}
	return cmp.Or(lifetime, own, c.s.lifetimes.AccessToken)
}

// shorter returns the shorter of two durations. Zero means no limit.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}

// longestAccessToken returns an upper bound for the lifetime of a client's access tokens, for any
// resource.
func (c *call) longestAccessToken(catalogue *catalogue, client *client) time.Duration {
	longest := max(c.s.lifetimes.AccessToken, time.Duration(client.AccessTokenLifetime))
	for i := range catalogue.resources {
		longest = max(longest, time.Duration(catalogue.resources[i].AccessTokenLifetime))
	}
	return longest
}

func (c *call) idTokenLifetime() time.Duration {
	return cmp.Or(time.Duration(c.client.IDTokenLifetime), c.s.lifetimes.IDToken)
}

// ends returns when the authorization ends if it has a refresh token: when that expires. No token
// of the authorization is valid after that.
func (c *call) ends(ent *entitlement) (time.Time, bool) {
	if ent.refreshToken == "" && ent.reusedRefreshToken.Kind == "" {
		return time.Time{}, false
	}
	return c.refreshTokenExpires(ent.authorization), true
}

// refreshTokenExpires returns when a refresh token expires that is issued or used now.
func (c *call) refreshTokenExpires(a authorization) time.Time {
	unused := c.now.Add(c.refreshTokenLifetime())
	if ends := c.familyEnds(a); ends.Before(unused) {
		return ends
	}
	return unused
}

// refreshTokenLifetime returns how long an unused refresh token is valid.
func (c *call) refreshTokenLifetime() time.Duration {
	return cmp.Or(time.Duration(c.client.RefreshTokenLifetime), c.s.lifetimes.RefreshToken)
}

func (c *call) refreshRetry() time.Duration {
	return cmp.Or(time.Duration(c.client.RefreshRetry), c.s.lifetimes.RefreshRetry)
}

// familyEnds returns when the last refresh token of an authorization expires.
func (c *call) familyEnds(a authorization) time.Time {
	began := c.now
	if a.Started != 0 {
		began = time.Unix(a.Started, 0)
	}
	return began.Add(c.familyLifetime())
}

func (c *call) familyLifetime() time.Duration {
	return cmp.Or(time.Duration(c.client.RefreshTokenMaxLifetime), c.s.lifetimes.RefreshTokenMax)
}

// prolong extends the expiry of a refresh token that is not rotated. It skips changes below an
// eighth of the lifetime, so that most refreshes do not write to the store.
func (c *call) prolong(ent *entitlement) error {
	expires := c.refreshTokenExpires(ent.authorization)
	ent.refreshTokenExpires = ent.reusedRefreshToken.Expires
	if drift := expires.Sub(ent.reusedRefreshToken.Expires).Abs(); drift < c.refreshTokenLifetime()/8 {
		return nil
	}
	ent.refreshTokenExpires = expires
	if err := c.s.config.Store.SetExpires(c.r.Context(), c.now, ent.reusedRefreshToken.Key, expires); err != nil {
		return fmt.Errorf("extend refresh token: %w", err)
	}
	return nil
}

// setRefreshExpiration sets how long the refresh token is valid if it is not used, and how long the
// authorization is valid (draft-ietf-oauth-refresh-token-expiration, section 6.1).
func (c *call) setRefreshExpiration(response *oauth.TokenResponse, ent *entitlement) {
	if ent.refreshTokenExpires.IsZero() {
		return
	}
	response.RefreshTokenTimeout = c.secondsUntil(ent.refreshTokenExpires)
	response.AuthorizationExpiresIn = c.secondsUntil(c.familyEnds(ent.authorization))
}

func (c *call) secondsUntil(t time.Time) int64 { return int64(t.Sub(c.now) / time.Second) }

// reuses reports whether the client's refresh tokens are not rotated. Those of a public client
// are not sender-constrained, so they are always rotated (RFC 9700, section 4.14.2).
func (c *client) reuses() bool { return c.RefreshTokenReuse && !c.Public() }
