package authserver

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

// Backchannel authentication (OpenID Connect CIBA Core 1.0): a client names a user, and the user
// decides on a page of this server, usually on another device. The client gets the tokens at the
// token endpoint (grant_ciba.go), or they are pushed to it (backchannel_notify.go).

const prefixAuthReqID = "vk_br_"

const (
	// backchannelLifetime is how long the user has, unless the client requests another time.
	backchannelLifetime    = 5 * time.Minute
	backchannelMaxLifetime = 10 * time.Minute
	// backchannelOutlives is how long an expired request is kept, so that the error is expired_token.
	backchannelOutlives = 10 * time.Minute
	// backchannelRedeemable is how long the client can redeem a request that the user has approved
	// in the last moment.
	backchannelRedeemable = time.Minute
	// maxPendingBackchannel bounds the requests of one client that wait for one user.
	maxPendingBackchannel = 5
	// maxListedBackchannel bounds how many requests of a user are read.
	maxListedBackchannel = 200

	maxBindingMessage = 100 // characters
	// minNotificationToken is the length of 128 bits in base64url.
	minNotificationToken = 22
	maxNotificationToken = 1024
)

// backchannelPerUser bounds how often one client can ask one user. A request that the user approves
// does not count.
var backchannelPerUser = ratelimit.Limit{Burst: 30, Every: time.Minute}

// backchannelData is the data of a backchannel authentication request.
type backchannelData struct {
	ClientID string `json:"c"`
	// Subject is the user; "" if there is none, and the client must not learn that.
	Subject        string `json:"s,omitempty"`
	Query          string `json:"q"`
	BindingMessage string `json:"m,omitempty"`
	Began          int64  `json:"b"` // Unix milliseconds
	Expires        int64  `json:"e"` // Unix milliseconds
	// Delivery is the client's delivery mode at the time of the request.
	Delivery string `json:"d"`
	// Notification is the client_notification_token, and the auth_req_id, sealed (sealNotification).
	Notification []byte `json:"n,omitempty"`
	// Confirmation are the keys that pushed tokens are bound to.
	Confirmation *oauth.Confirmation `json:"y,omitempty"`
}

// backchannel is the backchannel authentication request of an interaction.
type backchannel struct {
	key    storage.Key
	stored backchannelData
}

// backchannelID returns the name of a request in URLs. It is the hash of the auth_req_id, so it gives
// no access to anything.
func backchannelID(key storage.Key) string { return base64.RawURLEncoding.EncodeToString(key.ID[:]) }

// backchannelKey returns the key of the request with an ID; false if the ID is malformed.
func backchannelKey(id string) (storage.Key, bool) {
	key := storage.Key{Kind: ticketkind.BackchannelRequest}
	b, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(b) != len(key.ID) {
		return key, false
	}
	copy(key.ID[:], b)
	return key, true
}

var (
	ruleBackchannelRequests = rule{
		must:    "not too many authentication requests came from this client",
		section: "CIBA Core, section 14", code: oauth.TemporarilyUnavailable,
		says: "too many requests; try again in a minute",
		fix:  "wait a minute",
	}
	ruleBackchannelPending = rule{
		must:    "the user does not have too many requests of this client to decide on",
		section: "CIBA Core, section 14", code: oauth.TemporarilyUnavailable,
		says: "this user has too many undecided requests of this client; try again later",
		fix:  "wait until the user has decided; send a request only when the user asked for it",
	}
	ruleBackchannelOutside = rule{
		must:    "with a signed request, all other parameters are in it",
		section: "CIBA Core, section 7.1.1", code: oauth.InvalidRequest,
		says: "with request, send no other authentication request parameters",
		fix:  "move the parameters into the JWT; only those that authenticate the client stay outside",
	}
	ruleBackchannelSigned = rule{
		must:    "a client with backchannel_authentication_request_signing_alg signs its authentication requests, and other clients do not",
		section: "CIBA Core, section 7.1.1", code: oauth.InvalidRequest,
		says: "send the parameter request if backchannel_authentication_request_signing_alg is registered, and only then",
		fix:  "sign the request and send it in request; or register another backchannel_authentication_request_signing_alg, or none",
	}
	ruleBackchannelJWT = rule{
		must:    "request is a JWT that the client signed with its registered asymmetric algorithm",
		section: "CIBA Core, section 7.1.1", code: oauth.InvalidRequest,
		says: "the signed authentication request cannot be verified",
		fix:  "sign it with a key of the client's jwks and backchannel_authentication_request_signing_alg",
	}
	ruleBackchannelClaims = rule{
		must:    "the signed request has iss, aud, exp, iat, nbf and jti, is for this server, and is valid now",
		section: "CIBA Core, section 7.1.1", code: oauth.InvalidRequest,
		says: "iss, aud, exp, iat, nbf or jti of the signed authentication request is missing or not valid",
		fix:  "set iss to the client_id, aud to the issuer, iat and nbf to now, exp to at most an hour later, and a new jti",
	}
	ruleBackchannelOnce = rule{
		must:    "the jti of a signed request was not used before",
		section: "CIBA Core, section 7.1.1", code: oauth.InvalidRequest,
		says: "a signed authentication request with this jti was used before",
		fix:  "sign a new request with a new jti each time",
	}
	ruleBackchannelOpenID = rule{
		must:    "scope contains openid",
		section: "CIBA Core, section 7.1", code: oauth.InvalidRequest,
		says: "scope must contain openid",
		fix:  "add openid to scope",
	}
	ruleBindingMessage = rule{
		must:    "binding_message has at most 100 printable characters",
		section: "CIBA Core, section 7.1", code: oauth.InvalidBindingMessage,
		says: "binding_message must be plain text of at most 100 printable characters",
		fix:  "send a short code or text",
	}
	ruleBindingMessageSent = rule{
		must:    "the request has a binding_message or authorization_details, if the client's profile requires it",
		section: "FAPI-CIBA, section 5.2.2", code: oauth.InvalidRequest,
		says: "binding_message is missing",
		fix:  "send a short text that the application shows too",
	}
	ruleNotificationToken = rule{
		must:    "a client with the mode ping or push sends a client_notification_token: a bearer token of 22 to 1024 characters",
		section: "CIBA Core, section 7.1", code: oauth.InvalidRequest,
		says: "client_notification_token must be a bearer token of 22 to 1024 characters",
		fix:  "send a new random token of 128 bits or more with each request",
	}
	ruleRequestedExpiry = rule{
		must:    "requested_expiry is a positive number of seconds",
		section: "CIBA Core, section 7.1", code: oauth.InvalidRequest,
		says: "requested_expiry must be a positive number of seconds",
		fix:  "send a positive integer, or leave it out",
	}
)

// backchannelAuthentication is the backchannel authentication endpoint (CIBA Core, section 7).
func (c *call) backchannelAuthentication() error {
	if err := c.parseForm(); err != nil {
		return err
	}
	if err := c.readProof(""); err != nil {
		return err
	}
	cl, err := c.authenticateClient()
	if err != nil {
		return err
	}
	if err := c.checkProof(cl); err != nil {
		return err
	}
	if err := c.must(cl.HasGrantType(oauth.GrantTypeCIBA), &ruleGrantTypeAllowed); err != nil {
		return err
	}
	if err := c.takeInteraction(cl, &ruleBackchannelRequests); err != nil {
		return err
	}
	if cl.BackchannelTokenDeliveryMode == oauth.DeliveryPush {
		// The tokens are bound to the keys that this request proves, because there is no other.
		if err := c.checkProofSent(); err != nil {
			return err
		}
		if err := c.proveCertificate(); err != nil {
			return err
		}
		if err := c.checkTokenBinding(); err != nil {
			return err
		}
	}
	used, err := c.resolveSignedRequest(cl)
	if err != nil {
		return err
	}
	data, err := c.readBackchannelRequest(cl)
	if err != nil {
		return err
	}
	hint, err := c.findHintedUser(cl)
	if err != nil {
		return err
	}
	data.Subject = hint.subject
	if err := c.countBackchannel(cl, hint); err != nil {
		return err
	}
	// After the requests are counted, because it costs a hash.
	if err := c.checkUserCode(cl, hint); err != nil {
		return err
	}
	return c.startBackchannel(cl, data, hint, used)
}

// backchannelParams returns the names of the parameters of an authentication request (CIBA Core,
// section 7.1), and of those extensions that this server supports.
func backchannelParams() []string {
	return []string{
		"acr_values", "authorization_details", "binding_message", "client_notification_token", "id_token_hint", "login_hint", "login_hint_token",
		"requested_expiry", "resource", "scope", "user_code",
	}
}

// resolveSignedRequest replaces the parameters by those of the signed request, and returns the ticket
// that marks its jti as used (CIBA Core, section 7.1.1).
func (c *call) resolveSignedRequest(cl *client) ([]storage.Ticket, error) {
	alg := cl.BackchannelAuthenticationRequestSigningAlg
	signed := c.params.has("request")
	if err := c.must(signed == (alg != "") && (signed || !c.requiresSigned(cl)), &ruleBackchannelSigned); err != nil || !signed {
		return nil, err
	}
	for _, p := range c.params {
		if slices.Contains(backchannelParams(), p.name) {
			return nil, c.refuse(&ruleBackchannelOutside, p.name)
		}
	}
	payload, err := verifyWithClientKeys(c.r.Context(), c.now, cl, c.params.get("request"), jose.Expected{
		Algorithms: []jose.Algorithm{jose.Algorithm(alg)}, Types: []string{oauth.TypRequestObject, "JWT", ""},
	})
	if err != nil {
		return nil, c.because(&ruleBackchannelJWT, err)
	}
	var members map[string]json.RawMessage
	claims, err := jose.ParseClaims(payload, &members)
	if err != nil {
		return nil, c.because(&ruleBackchannelClaims, err)
	}
	if problem := c.signedRequestProblem(cl, claims); problem != "" {
		return nil, c.refuse(&ruleBackchannelClaims, problem)
	}
	var inside params
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(backchannelParams(), name) {
			continue
		}
		values, ok := paramValues(name, members[name])
		if !ok || len(inside)+len(values) > maxParams {
			return nil, c.refuse(&ruleRequestObjectParams, name)
		}
		for _, value := range values {
			if value != "" {
				inside = append(inside, param{name, value})
			}
		}
	}
	_ = c.must(true, &ruleBackchannelClaims)
	c.params = inside
	key := ticketkind.RequestObject.Hash(cl.ID + "\x00backchannel\x00" + claims.ID)
	return []storage.Ticket{{Key: key, Expires: claims.Expires.Add(clockSkew)}}, nil
}

// signedRequestProblem returns why the registered claims of a signed request are not valid, or "".
func (c *call) signedRequestProblem(cl *client, claims jose.Claims) string {
	switch {
	case claims.Issuer != cl.ID:
		return "iss: " + claims.Issuer
	case !slices.Contains(claims.Audience, c.s.config.Issuer):
		return fmt.Sprintf("aud: %q", claims.Audience)
	case claims.Subject == cl.ID: // a client assertion is signed with the same key
		return "sub is the client_id, as in a client assertion"
	case claims.ID == "":
		return "jti is missing"
	case claims.IssuedAt.IsZero():
		return "iat is missing"
	case claims.NotBefore.IsZero():
		return "nbf is missing"
	}
	return cl.profile.signedRequestTimes().check(claims, c.now)
}

// readBackchannelRequest checks the parameters, except for the hints.
func (c *call) readBackchannelRequest(cl *client) (*backchannelData, error) {
	if _, err := c.verifyBackchannelRequest(cl); err != nil {
		return nil, err
	}
	message := c.params.get("binding_message")
	if err := c.must(isBindingMessage(message), &ruleBindingMessage); err != nil {
		return nil, err
	}
	if required := cl.profile.bindingMessage; required.applies() {
		missing := ruleBindingMessageSent
		missing.section = string(required)
		if err := c.must(message != "" || c.params.has("authorization_details"), &missing); err != nil {
			return nil, err
		}
	}
	token := c.params.get("client_notification_token")
	notified := cl.BackchannelTokenDeliveryMode != oauth.DeliveryPoll
	if err := c.must(!notified || isNotificationToken(token), &ruleNotificationToken); err != nil {
		return nil, err
	}
	lifetime := backchannelLifetime
	if requested := c.params.get("requested_expiry"); requested != "" {
		seconds, err := strconv.ParseInt(requested, 10, 32)
		if err != nil || seconds < 1 {
			return nil, c.refuse(&ruleRequestedExpiry, "requested_expiry: "+requested)
		}
		lifetime = min(time.Duration(seconds)*time.Second, backchannelMaxLifetime)
	}
	var stored params
	for _, name := range [...]string{"scope", "resource", "authorization_details", "acr_values"} {
		for _, value := range c.params.all(name) {
			stored = append(stored, param{name, value})
		}
	}
	return &backchannelData{
		ClientID: cl.ID, Query: stored.encode(), BindingMessage: message, Delivery: cl.BackchannelTokenDeliveryMode,
		Began: c.now.UnixMilli(), Expires: c.now.Add(lifetime).UnixMilli(),
	}, nil
}

// verifyBackchannelRequest checks what the client asks for, at the endpoint and again when the user
// decides.
func (c *call) verifyBackchannelRequest(cl *client) (*authorizationRequest, error) {
	if err := c.must(cl.HasGrantType(oauth.GrantTypeCIBA), &ruleGrantTypeAllowed); err != nil {
		return nil, err
	}
	asked := c.params
	defer func() { c.params = asked }()
	c.params = slices.DeleteFunc(slices.Clone(asked), func(p param) bool {
		return !slices.Contains([]string{"scope", "resource", "authorization_details", "acr_values"}, p.name)
	})
	request := &authorizationRequest{client: cl, responseType: oauth.ResponseType{Code: true}}
	if err := c.verifyScope(request); err != nil {
		return nil, err
	}
	if err := c.must(request.scope.Has(oauth.ScopeOpenID), &ruleBackchannelOpenID); err != nil {
		return nil, err
	}
	if err := c.verifyAuthorizationDetails(request); err != nil {
		return nil, err
	}
	return request, c.verifyAuthentication(request)
}

// isBindingMessage reports whether a text can be shown on a page: printable characters, of which the
// only space is U+0020, and none that changes the direction of the text.
func isBindingMessage(s string) bool {
	return utf8.RuneCountInString(s) <= maxBindingMessage && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// isNotificationToken reports whether a token can be sent as a bearer token (RFC 6750, section 2.1),
// and is long enough to be unguessable.
func isNotificationToken(s string) bool {
	if len(s) < minNotificationToken || len(s) > maxNotificationToken {
		return false
	}
	return strings.IndexFunc(strings.TrimRight(s, "="), func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/", r))
	}) < 0
}

// backchannelFamily returns the family of the requests for a user.
func backchannelFamily(user string) string { return "backchannel:" + user }

// countBackchannel refuses a request if the user has too many of this client. Other clients and other
// users are not affected. Clients that no one vouches for cannot use CIBA.
func (c *call) countBackchannel(cl *client, hint hintedUser) error {
	pending, err := c.pendingBackchannel(hint.family())
	if err != nil {
		return err
	}
	own := 0
	for _, p := range pending {
		if p.stored.ClientID == cl.ID {
			own++
		}
	}
	if own >= maxPendingBackchannel {
		return c.tooMany(&ruleBackchannelPending, pollInterval, fmt.Sprintf("%d requests are waiting", own))
	}
	key := ratelimit.NewKey(cl.ID, hint.family())
	c.s.limits.backchannel.Load(c.r.Context(), c.now, key)
	if wait := c.s.limits.backchannel.Take(c.now, key); wait > 0 {
		return c.tooMany(&ruleBackchannelPending, wait, "too many requests in the last minutes")
	}
	return nil
}

// pendingBackchannel returns the requests of a family that wait for a decision.
func (c *call) pendingBackchannel(family string) ([]backchannel, error) {
	tickets, err := c.s.config.Store.FindFamily(c.r.Context(), c.now, family, ticketkind.BackchannelRequest, maxListedBackchannel)
	if err != nil {
		return nil, fmt.Errorf("list backchannel authentication requests: %w", err)
	}
	var pending []backchannel
	for _, ticket := range tickets {
		b := backchannel{key: ticket.Key}
		if err := json.Unmarshal(ticket.Data, &b.stored); err != nil {
			return nil, fmt.Errorf("read a backchannel authentication request: %w", err)
		}
		if ticket.Spent.IsZero() && !expired(c.now, time.UnixMilli(b.stored.Expires)) {
			pending = append(pending, b)
		}
	}
	return pending, nil
}

// startBackchannel stores the request, tells the operator's hooks, and writes the response.
func (c *call) startBackchannel(cl *client, data *backchannelData, hint hintedUser, used []storage.Ticket) error {
	authReqID := newSecret(prefixAuthReqID, c.now)
	key := secretKey(ticketkind.BackchannelRequest, prefixAuthReqID, authReqID)
	if data.Delivery != oauth.DeliveryPoll {
		var err error
		if data.Notification, err = c.s.sealNotification(key, notification{c.params.get("client_notification_token"), authReqID}); err != nil {
			return err
		}
	}
	if data.Delivery == oauth.DeliveryPush {
		data.Confirmation = c.confirmation()
	}
	encoded, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode a backchannel authentication request: %w", err)
	}
	if err := c.countStoredBytes(cl, len(encoded)); err != nil {
		return err
	}
	expires := time.UnixMilli(data.Expires)
	ticket := storage.Ticket{Key: key, Family: hint.family(), Data: encoded, Expires: expires.Add(backchannelOutlives)}
	err = c.s.config.Store.Put(c.r.Context(), c.now, append(append(c.proofTickets(), used...), ticket)...)
	if replayed := c.proofReplayed(err); replayed != nil {
		return replayed
	}
	if errors.Is(err, storage.ErrExists) {
		return c.must(false, &ruleBackchannelOnce)
	}
	if err != nil {
		return fmt.Errorf("store a backchannel authentication request: %w", err)
	}
	c.proofSpent()
	if data.Subject != "" {
		if err := c.announceBackchannel(cl, &backchannel{key, *data}); err != nil {
			return err
		}
	}
	response := oauth.BackchannelAuthenticationResponse{AuthReqID: authReqID, ExpiresIn: int64(expires.Sub(c.now) / time.Second)}
	if data.Delivery != oauth.DeliveryPush {
		response.Interval = int64(pollInterval / time.Second)
	}
	return writeJSON(c.w, http.StatusOK, response)
}

// backchannel checks the client metadata of CIBA Core, section 4.
func (c *clientCheck) backchannel() {
	mode := c.BackchannelTokenDeliveryMode
	c.oneOf("backchannel_token_delivery_mode", mode, oauth.DeliveryPoll, oauth.DeliveryPing, oauth.DeliveryPush)
	c.oneOf("backchannel_authentication_request_signing_alg", c.BackchannelAuthenticationRequestSigningAlg, algorithmNames(signingAlgorithms())...)
	c.webAddress("backchannel_client_notification_endpoint", c.BackchannelClientNotificationEndpoint)
	switch {
	case !c.HasGrantType(oauth.GrantTypeCIBA):
	case mode == "":
		c.report("backchannel_token_delivery_mode", "the grant type %s needs it (CIBA Core, section 4)", oauth.GrantTypeCIBA)
	case mode == oauth.DeliveryPush && c.IDTokenSignedResponseAlg == string(algorithmNone):
		c.report("id_token_signed_response_alg", "none cannot be used with the delivery mode push: its ID token authenticates the other tokens (CIBA Core, section 10.3.1)")
	case mode != oauth.DeliveryPoll && c.BackchannelClientNotificationEndpoint == "":
		c.report("backchannel_client_notification_endpoint", "the delivery modes ping and push need it (CIBA Core, section 4)")
	case strings.Contains(c.BackchannelClientNotificationEndpoint, "#"):
		c.report("backchannel_client_notification_endpoint", "it must not have a fragment")
	}
}
