package authserver

import "time"

// Lifetimes of what the engine issues. A zero field means the default.
type Lifetimes struct {
	AuthorizationCode time.Duration // 1 minute (RFC 9700, section 2.1.1 via OAuth 2.1; FAPI 2.0)
	AccessToken       time.Duration // 10 minutes
	IDToken           time.Duration // 10 minutes
	// RefreshToken is how long a refresh token lasts unused; RefreshTokenMax how long its
	// family lasts in all.
	RefreshToken    time.Duration // 14 days
	RefreshTokenMax time.Duration // 30 days
	// RefreshRetry is how long the answer to a rotation may be asked for again.
	RefreshRetry time.Duration // 30 seconds
	Interaction  time.Duration // 30 minutes
	// KeyRotation is how long a key signs; KeyPublishAhead how long it is published before.
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
	set(&l.KeyRotation, 90*24*time.Hour)
	set(&l.KeyPublishAhead, 24*time.Hour)
	return l
}

// Bounds on input.
const (
	maxFormBytes     = 64 << 10
	maxParams        = 100
	maxParamBytes    = 16 << 10
	maxStateBytes    = 4 << 10
	maxNonceBytes    = 1 << 10
	maxResources     = 16
	maxClientBytes   = 64 << 10
	clockSkew        = 10 * time.Second
	maxAssertionLife = time.Hour // of a client's assertion; some libraries make them for that long
	jwksMaxAge       = 5 * time.Minute
	metadataMaxAge   = time.Hour
	catalogueMaxAge  = time.Second

	decryptionKeyAfterlife = 24 * time.Hour
	maxCachedClients       = 10_000
	// maxCachedRegisteredBytes bounds the clients in memory that registered themselves, by an
	// estimate: so much for each, and so many times its JSON.
	maxCachedRegisteredBytes = 64 << 20
	clientMemory             = 2 << 10
	clientMemoryFactor       = 5
	maxStoredRefusals        = 10_000
)
