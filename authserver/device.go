package authserver

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// Device authorization (RFC 8628): a device without a browser requests two codes. The user
// enters the short one on a page of this server, and the device polls with the long one.

const prefixDeviceCode = "vk_dc_"

const (
	// deviceLifetime is how long the user has. It is short, because an attacker who tricks a user
	// into entering a code needs time (RFC 10027, section 6.1.2).
	deviceLifetime = 10 * time.Minute
	// deviceOutlives is how long an expired code is kept, so that the error is expired_token.
	deviceOutlives = 10 * time.Minute
	pollInterval   = 5 * time.Second
	// pollTolerance is how much the network may shorten the interval between two polls.
	pollTolerance = time.Second
)

// userCodeLetters are consonants that look different and form no words (RFC 8628, section 6.1).
// Eight of them have 34.5 bits.
const (
	userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
	userCodeLength  = 8
)

// deviceCodeData is the data of a device code.
type deviceCodeData struct {
	ClientID string `json:"c"`
	Expires  int64  `json:"e"` // Unix milliseconds
}

// userCodeData is the data of a user code: the request of the device.
type userCodeData struct {
	Device   []byte     `json:"d"` // ID of the device code
	ClientID string     `json:"c"`
	Query    string     `json:"q"`
	Address  netip.Addr `json:"a"`
	Began    int64      `json:"b"` // Unix milliseconds
}

var ruleDeviceRequests = rule{
	must:    "not too many devices requested codes from this address",
	section: "RFC 8628, section 5.1", code: oauth.TemporarilyUnavailable,
	says: "too many requests; try again in a minute",
	fix:  "wait a minute",
}

// deviceAuthorization is the device authorization endpoint (RFC 8628, section 3.1).
func (c *call) deviceAuthorization() error {
	if err := c.parseForm(); err != nil {
		return err
	}
	cl, err := c.authenticateClient()
	if err != nil {
		return err
	}
	if _, err := c.verifyDeviceRequest(cl); err != nil {
		return err
	}
	if err := c.takeInteraction(cl, &ruleDeviceRequests); err != nil {
		return err
	}
	deviceCode, userCode, err := c.newDeviceCodes(c.s.remoteAddr(c.r))
	if err != nil {
		return err
	}
	page := c.s.config.Issuer + c.s.config.Pages.Device
	return writeJSON(c.w, http.StatusOK, oauth.DeviceAuthorizationResponse{
		DeviceCode: deviceCode, UserCode: userCode, VerificationURI: page, VerificationURIComplete: page + "?user_code=" + userCode,
		ExpiresIn: int64(deviceLifetime / time.Second), Interval: int64(pollInterval / time.Second),
	})
}

// verifyDeviceRequest checks c.params, at the endpoint and again when the user decides.
func (c *call) verifyDeviceRequest(cl *client) (*authorizationRequest, error) {
	if err := c.must(cl.HasGrantType(oauth.GrantTypeDeviceCode), &ruleGrantTypeAllowed); err != nil {
		return nil, err
	}
	request := &authorizationRequest{client: cl, responseType: oauth.ResponseType{Code: true}}
	if err := c.verifyScope(request); err != nil {
		return nil, err
	}
	if err := c.verifyAuthorizationDetails(request); err != nil {
		return nil, err
	}
	return request, c.verifyAuthentication(request)
}

func (c *call) newDeviceCodes(address netip.Addr) (deviceCode, userCode string, err error) {
	deviceCode = newSecret(prefixDeviceCode, c.now)
	key := secretKey(ticketkind.DeviceCode, prefixDeviceCode, deviceCode)
	expires := c.now.Add(deviceLifetime)
	device, err := json.Marshal(deviceCodeData{ClientID: c.client.ID, Expires: expires.UnixMilli()})
	if err != nil {
		return "", "", fmt.Errorf("encode device code: %w", err)
	}
	var requested params
	for _, name := range [...]string{"scope", "resource", "authorization_details"} {
		for _, value := range c.params.all(name) {
			requested = append(requested, param{name, value})
		}
	}
	query := requested.encode()
	if err := c.countStoredBytes(c.client, len(query)); err != nil {
		return "", "", err
	}
	user, err := json.Marshal(userCodeData{
		Device: key.ID[:], ClientID: c.client.ID, Query: query, Address: address, Began: c.now.UnixMilli(),
	})
	if err != nil {
		return "", "", fmt.Errorf("encode user code: %w", err)
	}
	for range 3 {
		userCode = newUserCode()
		err = c.s.config.Store.Put(c.r.Context(), c.now,
			storage.Ticket{Key: key, Data: device, Expires: expires.Add(deviceOutlives)},
			storage.Ticket{Key: ticketkind.UserCode.Hash(readUserCode(userCode)), Data: user, Expires: expires})
		if !errors.Is(err, storage.ErrExists) { // another device has the same user code
			break
		}
	}
	if err != nil {
		return "", "", fmt.Errorf("store device code: %w", err)
	}
	return deviceCode, userCode, nil
}

// newUserCode returns a user code as it is displayed: XXXX-XXXX.
func newUserCode() string {
	var code strings.Builder
	var b [1]byte
	for code.Len() < userCodeLength+1 {
		if code.Len() == userCodeLength/2 {
			code.WriteByte('-')
		}
		// 240 is a multiple of 20, so that all letters are equally likely.
		if rand.Read(b[:]); b[0] < 240 {
			code.WriteByte(userCodeLetters[int(b[0])%len(userCodeLetters)])
		}
	}
	return code.String()
}

// readUserCode returns the letters of a user code as typed, in any case and with any separators;
// "" if it is malformed.
func readUserCode(typed string) string {
	if len(typed) > 64 {
		return ""
	}
	var code strings.Builder
	for _, r := range strings.ToUpper(typed) {
		switch {
		case strings.ContainsRune(userCodeLetters, r):
			code.WriteRune(r)
		case r >= '0' && r <= '9' || r >= 'A' && r <= 'Z':
			return ""
		}
	}
	if code.Len() != userCodeLength {
		return ""
	}
	return code.String()
}

// ErrUserCode is returned for a user code that no waiting device has.
var ErrUserCode = errors.New("authserver: no device is waiting with this user code")

// Device is a device that waits for the user's decision.
type Device struct {
	// UserCode is the code that the device displays, XXXX-XXXX.
	UserCode string
	// Address is the address from which the device sent its request, and Began the time.
	Address netip.Addr
	Began   time.Time
}

// device is the device request of an interaction.
type device struct {
	code   string // the user code's letters
	stored userCodeData
}

// deviceDecision is the data of a ticket with the user's decision.
type deviceDecision struct {
	Denied        bool           `json:"d,omitempty"`
	Authorization *authorization `json:"a,omitempty"`
}

var ruleUserCodes = rule{
	must:    "not too many user codes were tried",
	section: "RFC 8628, section 5.1", code: oauth.TemporarilyUnavailable,
	says: "too many attempts; try again in a minute",
	fix:  "wait a minute, or sign in first: attempts of signed-in users are counted separately",
}

// BeginDevice begins the interaction in which the user decides on the device that displays a user
// code, and writes the response: a redirect to the next page. If it returns an error, ErrUserCode
// or a *TryLaterError, it has not written a response.
func (s *Server) BeginDevice(w http.ResponseWriter, r *http.Request, typed string) error {
	c := s.newCall(w, r)
	who, err := s.config.Users.SignedIn(r)
	if err != nil {
		c.finish(err)
		return nil
	}
	i, err := c.beginDevice(typed, who)
	if later, ok := errors.AsType[*TryLaterError](err); ok {
		return later
	}
	if errors.Is(err, ErrUserCode) {
		return ErrUserCode
	}
	if err == nil {
		err = c.advance(i, who)
	}
	c.finish(err)
	return nil
}

// beginDevice looks up the device with a user code, unless there were too many wrong codes. There
// are two limits. The first is for each address, or for the user if one is signed in, so that
// others at the same address cannot lock them out. The second is for all attempts together, and
// refuses only those who have failed before: one guess from each of many addresses gains nothing,
// and a user who enters the correct code is not affected.
func (c *call) beginDevice(typed string, who *Authentication) (*interaction, error) {
	code := readUserCode(typed)
	if code == "" {
		return nil, ErrUserCode // malformed, so it is not counted as a guess
	}
	ownKey, allKey := ratelimit.NewKey(c.network()), ratelimit.NewKey()
	if who != nil {
		ownKey = ratelimit.NewKey("subject", who.Subject)
	}
	own, all := c.s.limits.userCodes, c.s.limits.allUserCodes
	own.Load(c.r.Context(), c.now, ownKey)
	failed := own.Used(c.now, ownKey) > 0
	if wait := own.Take(c.now, ownKey); wait > 0 { // counted before the look-up, because guesses can be parallel
		return nil, c.tooManyUserCodes(wait)
	}
	if failed {
		all.Load(c.r.Context(), c.now, allKey)
		if wait := all.Wait(c.now, allKey); wait > 0 {
			own.Undo(c.now, ownKey)
			return nil, c.tooManyUserCodes(wait)
		}
	}
	i, err := c.deviceInteraction(code)
	if errors.Is(err, ErrUserCode) {
		all.Take(c.now, allKey)
	} else {
		own.Undo(c.now, ownKey)
	}
	return i, err
}

func (c *call) tooManyUserCodes(wait time.Duration) error {
	_ = c.refuse(&ruleUserCodes, c.s.remoteAddr(c.r).String())
	return &TryLaterError{After: wholeSeconds(wait)}
}

// deviceInteraction looks up the device with a user code and verifies its request.
func (c *call) deviceInteraction(code string) (*interaction, error) {
	if code == "" {
		return nil, ErrUserCode
	}
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, ticketkind.UserCode.Hash(code))
	if errors.Is(err, storage.ErrNotFound) || err == nil && !ticket.Spent.IsZero() {
		return nil, ErrUserCode
	}
	if err != nil {
		return nil, fmt.Errorf("look up user code: %w", err)
	}
	i := &interaction{device: &device{code: code}}
	if err := json.Unmarshal(ticket.Data, &i.device.stored); err != nil {
		return nil, fmt.Errorf("read user code: %w", err)
	}
	if c.params, err = c.parseParams(i.device.stored.Query); err != nil {
		return nil, err
	}
	cl, err := c.clientByID(i.device.stored.ClientID)
	if errors.Is(err, errUnknownClient) {
		return nil, c.must(false, &ruleClientKnown)
	}
	if err != nil {
		return nil, err
	}
	c.client = cl
	audit.Identify(c.r.Context(), audit.Actor{ClientID: cl.ID})
	i.request, err = c.verifyDeviceRequest(cl)
	return i, err
}

// resumeDevice loads the request of a device and verifies it again.
func (c *call) resumeDevice(id string, data *interactionData) (*interaction, error) {
	i, err := c.deviceInteraction(data.UserCode)
	if errors.Is(err, ErrUserCode) {
		return nil, ErrInteractionExpired
	}
	if err != nil {
		return nil, err
	}
	i.id, i.began = id, time.UnixMilli(data.Began)
	return i, nil
}

// describe returns what the page shows about the device.
func (d *device) describe() *Device {
	const half = userCodeLength / 2
	return &Device{UserCode: d.code[:half] + "-" + d.code[half:], Address: d.stored.Address, Began: time.UnixMilli(d.stored.Began)}
}

// decideDevice stores the user's decision for the next poll of the device. The same operation
// ends the user code and the interaction, so that only the first decision takes effect.
func (c *call) decideDevice(i *interaction, decision deviceDecision) error {
	data, err := json.Marshal(decision)
	if err != nil {
		return fmt.Errorf("encode the decision on a device: %w", err)
	}
	key := storage.Key{Kind: ticketkind.DeviceAnswer}
	copy(key.ID[:], i.device.stored.Device)
	began := time.UnixMilli(i.device.stored.Began)
	ticket := storage.Ticket{Key: key, Data: data, Expires: began.Add(deviceLifetime + deviceOutlives)}
	page := c.s.config.Pages.Device + "?answer=denied"
	if a := decision.Authorization; a != nil {
		ticket.Grant, ticket.Family = a.Grant, a.Family
		page = c.s.config.Pages.Device + "?answer=allowed"
	}
	decided := audit.Record{Event: "device.denied", Object: audit.Object{Kind: audit.ObjectRequest}}
	if c.client != nil {
		decided.ClientID = c.client.ID
	}
	if a := decision.Authorization; a != nil {
		decided.Event, decided.Subject = "device.approved", a.Subject
		decided.Details = map[string]string{"scope": a.Scope.String(), "device_address": i.device.stored.Address.String()}
	}
	err = c.s.config.Store.Spend(audit.WithRecord(c.r.Context(), decided), c.now, []storage.Key{ticketkind.Interaction.Hash(i.id), ticketkind.UserCode.Hash(i.device.code)}, ticket)
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
		return c.must(false, &ruleInteraction)
	}
	if err != nil {
		return fmt.Errorf("store the decision on a device: %w", err)
	}
	c.redirect(c.s.basePath + page)
	return nil
}

// approveDevice grants the device what the user allowed. The device is not part of the browser's
// session: it keeps its tokens when the user signs out there.
func (c *call) approveDevice(i *interaction, a authorization) error {
	a.Session = ""
	return c.decideDevice(i, deviceDecision{Authorization: &a})
}

const invalidDeviceCode = "the device code is invalid, already used, or was issued to another client"

var (
	ruleDeviceCodeSent = rule{
		must:    "the request has a device_code",
		section: "RFC 8628, section 3.4", code: oauth.InvalidRequest,
		says: "device_code is missing",
		fix:  "send the device_code of the device authorization response",
	}
	ruleDeviceCodeKnown = rule{
		must:    "the device code was issued by this server",
		section: "RFC 8628, section 3.4", code: oauth.InvalidGrant, says: invalidDeviceCode,
		fix: "request new codes",
	}
	ruleDeviceCodeClient = rule{
		must:    "the device code was issued to this client",
		section: "RFC 8628, section 3.4", code: oauth.InvalidGrant, says: invalidDeviceCode,
		fix: "poll with the client that requested the codes",
	}
	ruleDeviceCodeUnused = rule{
		must:    "the device code was not used before; a second use revokes what was issued for the first",
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

// pollPace is how fast a device polls. Each node measures separately, so a device may poll each of
// several nodes at its own pace.
type pollPace struct {
	last     time.Time
	interval time.Duration
}

// grantDeviceCode entitles a device to tokens once the user has allowed it (RFC 8628, section
// 3.4). A poll before that costs two reads and no write.
func (c *call) grantDeviceCode() (*entitlement, error) {
	code := c.params.get("device_code")
	if err := c.must(code != "", &ruleDeviceCodeSent); err != nil {
		return nil, err
	}
	if !isSecret(prefixDeviceCode, code) {
		return nil, c.refuse(&ruleDeviceCodeKnown, "malformed")
	}
	// The decision is read first: if another poll has spent it, the code is spent as well.
	key := secretKey(ticketkind.DeviceCode, prefixDeviceCode, code)
	decisionKey := storage.Key{Kind: ticketkind.DeviceAnswer, ID: key.ID}
	decision, err := c.deviceDecision(decisionKey)
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
	if !ticket.Spent.IsZero() && decision != nil {
		if note, err = c.unansweredAttempt(ticket); err != nil {
			return nil, err
		}
	}
	switch {
	case !ticket.Spent.IsZero() && note == nil:
		if decision == nil || decision.Authorization == nil {
			return nil, c.must(false, &ruleDeviceCodeUnused)
		}
		return nil, c.replayed(*decision.Authorization, &ruleDeviceCodeUnused)
	case expired(c.now, time.UnixMilli(data.Expires)):
		return nil, c.must(false, &ruleDeviceCodeLives)
	case decision == nil:
		return nil, c.stillPending(ticket.Key, &ruleDeviceDecided, &rulePollPace)
	case decision.Denied || decision.Authorization == nil:
		return nil, c.must(false, &ruleDeviceAllowed)
	}
	a := *decision.Authorization
	if err := c.checkUserActive(a); err != nil {
		return nil, err
	}
	if err := c.checkConsent(a); err != nil {
		return nil, err
	}
	ent := &entitlement{
		authorization: a, scope: a.Scope, resources: a.Resources, idToken: a.Scope.Has(oauth.ScopeOpenID),
		spend: []storage.Key{ticket.Key, decisionKey},
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

// deviceDecision returns what the user decided; nil if they have not decided yet.
func (c *call) deviceDecision(key storage.Key) (*deviceDecision, error) {
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up the decision on a device: %w", err)
	}
	var decision deviceDecision
	if err := json.Unmarshal(ticket.Data, &decision); err != nil {
		return nil, fmt.Errorf("read the decision on a device: %w", err)
	}
	return &decision, nil
}

// stillPending returns authorization_pending, or slow_down to a device or client that polls too often.
// It must wait five seconds longer from then on (RFC 8628, section 3.5; CIBA Core, section 11).
func (c *call) stillPending(key storage.Key, decided, paced *rule) error {
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
	if err := c.must(!tooFast, paced); err != nil {
		return err
	}
	return c.must(false, decided)
}
