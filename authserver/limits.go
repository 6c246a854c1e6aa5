package authserver

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/oauth"
)

// Limits for each party. A party is an address, or at one address a client or a signed-in user,
// so that a stranger behind the same address cannot use up their limit.
var (
	// failedClientAuthentications slows down guessing, and bounds what it writes into the log.
	// Valid credentials are never refused.
	failedClientAuthentications = ratelimit.PerMinute(60)
	// newInteractions bounds what is stored for strangers: requests that wait for a user, device
	// codes and authorization challenges. It also bounds fetches of request objects.
	newInteractions = ratelimit.PerMinute(600)
	// wrongUserCodes is for one address or one signed-in user, wrongUserCodesInAll for all of
	// them together. With 10,000 pending codes, a thousand guesses a minute for ten minutes find
	// one with a probability of 1 in 250. The attacker has then given a stranger's device access
	// to the attacker's own account (RFC 8628, section 5.1).
	wrongUserCodes      = ratelimit.Limit{Burst: 30, Every: time.Minute}
	wrongUserCodesInAll = ratelimit.PerMinute(1000)
	// unfinishedPushedRequests bounds what a client that can authenticate has stored. A request
	// that the user has finished no longer counts.
	unfinishedPushedRequests = ratelimit.Limit{Burst: 10_000, Every: 60 * time.Millisecond}
)

// limits are the limits of the engine. User codes can be guessed, so failures are counted over
// all nodes. Client secrets that this server generates have 256 bits.
type limits struct {
	failures, interactions, userCodes, allUserCodes, registrationAttempts, storedBytes, allStoredBytes, pushedRequests, backchannel, userCodesOfClient *ratelimit.Limiter
}

func newLimits(config *Config, registrationsPerMinute int) limits {
	limiter := func(name string, limit ratelimit.Limit) ratelimit.Config {
		return ratelimit.Config{Name: name, Limit: limit, Logger: config.Logger}
	}
	shared := func(name string, limit ratelimit.Limit) *ratelimit.Limiter {
		c := limiter(name, limit)
		c.Counts = config.Store
		return ratelimit.New(c)
	}
	return limits{
		failures:             ratelimit.New(limiter("failed client authentications", failedClientAuthentications)),
		interactions:         ratelimit.New(limiter("interactions", newInteractions)),
		storedBytes:          ratelimit.New(limiter("stored KiB", storedKibibytes)),
		allStoredBytes:       ratelimit.New(limiter("all stored KiB", storedKibibytesInAll)),
		pushedRequests:       ratelimit.New(limiter("pushed authorization requests", unfinishedPushedRequests)),
		backchannel:          shared("backchannel requests of a client for a user", backchannelPerUser),
		userCodesOfClient:    shared("wrong user codes of a client for a user", wrongUserCodesOfClient),
		userCodes:            shared("wrong user codes", wrongUserCodes),
		allUserCodes:         shared("all wrong user codes", wrongUserCodesInAll),
		registrationAttempts: ratelimit.New(limiter("client registrations", ratelimit.PerMinute(registrationsPerMinute))),
	}
}

func (l *limits) close() {
	l.userCodes.Close()
	l.allUserCodes.Close()
	l.backchannel.Close()
	l.userCodesOfClient.Close()
}

func (c *call) network() string { return ratelimit.Network(c.s.remoteAddr(c.r)) }

// party is what a client's requests are counted for: the client at this address if the operator
// declared the client, otherwise the address, because strangers can have any number of clients.
func (c *call) party(cl *client) ratelimit.Key {
	if cl == nil || cl.Registration != nil {
		return ratelimit.NewKey(c.network())
	}
	return ratelimit.NewKey(c.network(), cl.ID)
}

// takeInteraction counts a record that is stored for a stranger, or refuses it with rule r.
func (c *call) takeInteraction(cl *client, r *rule) error {
	if wait := c.s.limits.interactions.Take(c.now, c.party(cl)); wait > 0 {
		return c.tooMany(r, wait, c.s.remoteAddr(c.r).String())
	}
	return nil
}

// tooMany refuses a request with a rule, and sends the time to wait in Retry-After.
func (c *call) tooMany(r *rule, wait time.Duration, detail string) error {
	c.w.Header().Set("Retry-After", strconv.Itoa(int(wholeSeconds(wait)/time.Second)))
	err := c.refuse(r, detail)
	oauth.AsError(err).Status = http.StatusTooManyRequests
	return err
}

func wholeSeconds(d time.Duration) time.Duration {
	return max(time.Second, (d + time.Second - 1).Truncate(time.Second))
}

// The store keeps requests that wait for a user. Their size is bounded here, their number by
// limits.
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
		"acr_values", "authorization_details", "claims", "claims_locales", "client_id", "code_challenge", "code_challenge_method", "dpop_jkt",
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
