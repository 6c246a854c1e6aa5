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

const invalidAuthReqID = "the auth_req_id is invalid, already used, or was issued to another client"

var (
	ruleAuthReqIDSent = rule{
		must:    "the request has an auth_req_id",
		section: "CIBA Core, section 10.1", code: oauth.InvalidRequest,
		says: "auth_req_id is missing",
		fix:  "send the auth_req_id of the authentication response",
	}
	ruleAuthReqIDKnown = rule{
		must:    "the auth_req_id was issued by this server",
		section: "CIBA Core, section 11", code: oauth.InvalidGrant, says: invalidAuthReqID,
		fix: "send a new authentication request",
	}
	ruleAuthReqIDClient = rule{
		must:    "the auth_req_id was issued to this client",
		section: "CIBA Core, section 11", code: oauth.InvalidGrant, says: invalidAuthReqID,
		fix: "poll with the client that sent the authentication request",
	}
	ruleAuthReqIDUnused = rule{
		must:    "no tokens were issued for the auth_req_id before",
		section: "CIBA Core, section 10.1", code: oauth.InvalidGrant, says: invalidAuthReqID,
		fix: "stop polling once the tokens are issued",
	}
	ruleAuthReqIDLives = rule{
		must:    "the auth_req_id has not expired",
		section: "CIBA Core, section 11", code: oauth.ExpiredToken,
		says: "the auth_req_id has expired",
		fix:  "send a new authentication request",
	}
	ruleBackchannelPolls = rule{
		must:    "the client's delivery mode is poll or ping",
		section: "CIBA Core, section 11", code: oauth.UnauthorizedClient,
		says: "the tokens of this client are pushed to it; it cannot request them",
		fix:  "wait for the tokens, or register the delivery mode poll or ping",
	}
	ruleBackchannelDecided = rule{
		must:    "the user has decided",
		section: "CIBA Core, section 11", code: oauth.AuthorizationPending,
		says: "the user has not decided yet",
		fix:  "poll again after the interval",
	}
	ruleBackchannelPace = rule{
		must:    "the client waits for the interval between two requests",
		section: "CIBA Core, section 11", code: oauth.SlowDown,
		says: "wait five seconds longer between two requests from now on",
		fix:  "add five seconds to the interval at each slow_down",
	}
	ruleBackchannelAllowed = rule{
		must:    "the user allows the request",
		section: "CIBA Core, section 11", code: oauth.AccessDenied,
		says: "the user refused the request",
		fix:  "nothing: the user decides",
	}
)

// grantCIBA entitles a client to tokens once the user has approved its authentication request (CIBA
// Core, section 10.1). A poll before that costs two reads and no write.
//
// An auth_req_id that is presented again does not revoke the tokens, unlike a code: it never passes
// through a browser, and only the client that it was issued to can present it.
func (c *call) grantCIBA() (*entitlement, error) {
	authReqID := c.params.get("auth_req_id")
	if err := c.must(authReqID != "", &ruleAuthReqIDSent); err != nil {
		return nil, err
	}
	if err := c.must(c.client.BackchannelTokenDeliveryMode != oauth.DeliveryPush, &ruleBackchannelPolls); err != nil {
		return nil, err
	}
	if !isSecret(prefixAuthReqID, authReqID) {
		return nil, c.refuse(&ruleAuthReqIDKnown, "malformed")
	}
	key := secretKey(ticketkind.BackchannelRequest, prefixAuthReqID, authReqID)
	answer, err := c.backchannelAnswer(key)
	if err != nil {
		return nil, err
	}
	request, data, err := c.backchannelRequest(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, c.refuse(&ruleAuthReqIDKnown, "it is not in the database: expired long ago, or never issued")
	}
	if err != nil {
		return nil, err
	}
	_ = c.must(true, &ruleAuthReqIDKnown)
	if err := c.must(data.ClientID == c.client.ID, &ruleAuthReqIDClient); err != nil {
		return nil, err
	}
	if err := c.must(data.Delivery != oauth.DeliveryPush, &ruleBackchannelPolls); err != nil {
		return nil, err
	}
	var note *unknownOutcome
	switch {
	case answer == nil && !request.Spent.IsZero():
		return nil, c.refuse(&ruleAuthReqIDKnown, "the user approved it and has withdrawn the consent since")
	case answer == nil:
		if err := c.must(!expired(c.now, time.UnixMilli(data.Expires)), &ruleAuthReqIDLives); err != nil {
			return nil, err
		}
		return nil, c.stillPending(key, &ruleBackchannelDecided, &ruleBackchannelPace)
	case !answer.ticket.Spent.IsZero():
		if note, err = c.unansweredAttempt(answer.ticket); err != nil {
			return nil, err
		}
		if err := c.must(note != nil, &ruleAuthReqIDUnused); err != nil {
			return nil, err
		}
	case expired(c.now, time.UnixMilli(answer.Redeemable)):
		return nil, c.must(false, &ruleAuthReqIDLives)
	}
	if err := c.must(answer.Authorization != nil, &ruleBackchannelAllowed); err != nil {
		return nil, err
	}
	ent, err := c.backchannelEntitlement(answer)
	if err != nil {
		return nil, err
	}
	if note != nil {
		return ent, c.replaceUnanswered(ent, answer.ticket.Key, note)
	}
	return ent, nil
}

// backchannelEntitlement returns what the user's approval entitles the client to.
func (c *call) backchannelEntitlement(answer *backchannelAnswer) (*entitlement, error) {
	a := *answer.Authorization
	if err := c.checkUserActive(a); err != nil {
		return nil, err
	}
	if err := c.checkConsent(a); err != nil {
		return nil, err
	}
	ent := &entitlement{
		authorization: a, scope: a.Scope, resources: a.Resources, details: a.Details, idToken: a.Scope.Has(oauth.ScopeOpenID),
		spend: []storage.Key{answer.ticket.Key},
	}
	if c.client.HasGrantType(oauth.GrantTypeRefreshToken) {
		ent.refreshToken, ent.storeRefresh = newSecret(prefixRefreshToken, c.now), true
	}
	return ent, nil
}

// backchannelAnswer is what the user decided about a request, and its ticket.
type backchannelAnswer struct {
	// Authorization is nil if the user refused.
	Authorization *authorization `json:"a,omitempty"`
	// Redeemable is until when the client can redeem it, in Unix milliseconds.
	Redeemable int64 `json:"r"`

	ticket storage.Ticket
}

// backchannelAnswer returns what the user decided; nil if they have not decided yet.
func (c *call) backchannelAnswer(request storage.Key) (*backchannelAnswer, error) {
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, storage.Key{Kind: ticketkind.BackchannelAnswer, ID: request.ID})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up the decision on a backchannel authentication request: %w", err)
	}
	answer := &backchannelAnswer{ticket: ticket}
	if err := json.Unmarshal(ticket.Data, answer); err != nil {
		return nil, fmt.Errorf("read the decision on a backchannel authentication request: %w", err)
	}
	return answer, nil
}

// backchannelRequest returns a request, spent or not; storage.ErrNotFound if there is none.
func (c *call) backchannelRequest(key storage.Key) (storage.Ticket, *backchannelData, error) {
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, key)
	if errors.Is(err, storage.ErrNotFound) {
		return ticket, nil, err
	}
	if err != nil {
		return ticket, nil, fmt.Errorf("look up a backchannel authentication request: %w", err)
	}
	var data backchannelData
	if err := json.Unmarshal(ticket.Data, &data); err != nil {
		return ticket, nil, fmt.Errorf("read a backchannel authentication request: %w", err)
	}
	return ticket, &data, nil
}
