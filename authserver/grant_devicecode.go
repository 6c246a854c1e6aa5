package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

const invalidDeviceCode = "the device code is invalid, already used, or was issued to another client"

var (
	ruleDeviceCodeSent = rule{
		must:    "the request has a device_code",
		section: "RFC 8628, section 3.4", code: oauth.InvalidRequest,
		says: "device_code is missing",
		fix:  "send the device_code of the device authorization response",
	}
	ruleDeviceCodeKnown = rule{
		must:    "the device code was issued here",
		section: "RFC 8628, section 3.4", code: oauth.InvalidGrant, says: invalidDeviceCode,
		fix: "request new codes",
	}
	ruleDeviceCodeClient = rule{
		must:    "the device code was issued to this client",
		section: "RFC 8628, section 3.4", code: oauth.InvalidGrant, says: invalidDeviceCode,
		fix: "poll with the client that asked for the codes",
	}
	ruleDeviceCodeUnused = rule{
		must:    "the device code was not used before; a second use ends what the first one issued",
		section: "RFC 6749, section 4.1.2", code: oauth.InvalidGrant, says: invalidDeviceCode,
		fix: "stop polling after the tokens are issued; find out who else has the code",
	}
	ruleDeviceCodeLives = rule{
		must:    "the device code has not expired",
		section: "RFC 8628, section 3.5", code: oauth.ExpiredToken,
		says: "the device code has expired",
		fix:  "request new codes when the user tries again",
	}
	ruleDeviceDecided = rule{
		must:    "the user has decided",
		section: "RFC 8628, section 3.5", code: oauth.AuthorizationPending,
		says: "the user has not decided yet",
		fix:  "poll again after the interval",
	}
	rulePollPace = rule{
		must:    "the device waits for the interval between two requests",
		section: "RFC 8628, section 3.5", code: oauth.SlowDown,
		says: "wait five seconds longer between two requests from now on",
		fix:  "add five seconds to the interval at each slow_down",
	}
	ruleDeviceAllowed = rule{
		must:    "the user allows the request",
		section: "RFC 8628, section 3.5", code: oauth.AccessDenied,
		says: "the user refused the request",
		fix:  "nothing: the user decides",
	}
)

// pollPace is how fast a device polls. Each node measures for itself: a device that reaches
// several nodes may poll each of them.
type pollPace struct {
	last     time.Time
	interval time.Duration
}

// grantDeviceCode gives a device its tokens once the user has allowed it (RFC 8628, section
// 3.4). A poll before that costs two reads and no write.
func (c *call) grantDeviceCode() (*entitlement, error) {
	code := c.params.get("device_code")
	if err := c.must(code != "", &ruleDeviceCodeSent); err != nil {
		return nil, err
	}
	if !isSecret(prefixDeviceCode, code) {
		return nil, c.refuse(&ruleDeviceCodeKnown, "malformed")
	}
	// The answer is read first: if another poll has spent it, the code is spent as well.
	key := secretKey(ticketkind.DeviceCode, prefixDeviceCode, code)
	answerKey := storage.Key{Kind: ticketkind.DeviceAnswer, ID: key.ID}
	answer, err := c.deviceAnswer(answerKey)
	if err != nil {
		return nil, err
	}
	ticket, data, err := c.deviceCode(key)
	if err != nil {
		return nil, err
	}
	if err := c.must(data.ClientID == c.client.ID, &ruleDeviceCodeClient); err != nil {
		return nil, err
	}
	var note *unknownOutcome
	if !ticket.Spent.IsZero() && answer != nil {
		if note, err = c.unansweredAttempt(ticket); err != nil {
			return nil, err
		}
	}
	switch {
	case !ticket.Spent.IsZero() && note == nil:
		if answer == nil || answer.Authorization == nil {
			return nil, c.must(false, &ruleDeviceCodeUnused)
		}
		return nil, c.replayed(*answer.Authorization, &ruleDeviceCodeUnused)
	case expired(c.now, time.UnixMilli(data.Expires)):
		return nil, c.must(false, &ruleDeviceCodeLives)
	case answer == nil:
		return nil, c.stillPending(ticket.Key)
	case answer.Denied || answer.Authorization == nil:
		return nil, c.must(false, &ruleDeviceAllowed)
	}
	a := *answer.Authorization
	if err := c.checkUserActive(a); err != nil {
		return nil, err
	}
	if err := c.checkConsent(a); err != nil {
		return nil, err
	}
	ent := &entitlement{
		authorization: a, scope: a.Scope, resources: a.Resources, idToken: a.Scope.Has(oauth.ScopeOpenID),
		spend: []storage.Key{ticket.Key, answerKey},
	}
	if c.client.HasGrantType(oauth.GrantTypeRefreshToken) {
		ent.refreshToken, ent.storeRefresh = newSecret(prefixRefreshToken, c.now), true
	}
	if note != nil {
		return ent, c.replaceUnanswered(ent, ticket.Key, note)
	}
	return ent, nil
}

func (c *call) deviceCode(key storage.Key) (storage.Ticket, deviceCodeData, error) {
	var data deviceCodeData
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, key)
	if errors.Is(err, storage.ErrNotFound) {
		return ticket, data, c.refuse(&ruleDeviceCodeKnown, "it is not in the database: expired long ago, or never issued")
	}
	if err != nil {
		return ticket, data, fmt.Errorf("look up device code: %w", err)
	}
	if err := json.Unmarshal(ticket.Data, &data); err != nil {
		return ticket, data, fmt.Errorf("read device code: %w", err)
	}
	return ticket, data, c.must(true, &ruleDeviceCodeKnown)
}

// deviceAnswer returns what the user decided; nil if they have not decided yet.
func (c *call) deviceAnswer(key storage.Key) (*deviceAnswer, error) {
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up the answer to a device: %w", err)
	}
	var answer deviceAnswer
	if err := json.Unmarshal(ticket.Data, &answer); err != nil {
		return nil, fmt.Errorf("read the answer to a device: %w", err)
	}
	return &answer, nil
}

// stillPending tells a device to poll again, and a device that polls too often to wait five
// seconds longer from now on (RFC 8628, section 3.5).
func (c *call) stillPending(key storage.Key) error {
	pace, ok := c.s.polls.get(key)
	if !ok {
		pace.interval = pollInterval
	}
	tooFast := ok && c.now.Sub(pace.last) < pace.interval-pollTolerance
	if tooFast {
		pace.interval += pollInterval
	}
	pace.last = c.now
	c.s.polls.put(key, pace)
	if err := c.must(!tooFast, &rulePollPace); err != nil {
		return err
	}
	return c.must(false, &ruleDeviceDecided)
}
