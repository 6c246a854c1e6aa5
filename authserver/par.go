package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// Pushed authorization requests (RFC 9126): the client sends the request directly, authenticated,
// and the browser sends only a reference to it. Nothing in the browser's URL can change the
// request.

const (
	prefixPushedRequest = "vk_pr_"
	parPath             = "/par"
)

var (
	rulePushedRequired = rule{
		must:    "the request was pushed, if the client or the server requires that",
		section: "RFC 9126, section 4", code: oauth.InvalidRequest,
		says: "this client must push its authorization requests",
		fix:  "send the request to pushed_authorization_request_endpoint, or clear require_pushed_authorization_requests",
	}
	rulePushedKnown = rule{
		must:    "request_uri was issued to this client and has not expired",
		section: "RFC 9126, section 4", code: oauth.InvalidRequestURI,
		says: "request_uri is unknown, has expired, or was issued to another client",
		fix:  "push the request again, and redirect the browser immediately",
	}
	rulePushedUnfinished = rule{
		must:    "the user has not finished the request of request_uri",
		section: "RFC 9126, section 7.3", code: oauth.InvalidRequestURI,
		says: "the request of this request_uri is finished",
		fix:  "go back to the application and start again",
	}
	ruleNoRequestURI = rule{
		must:    "a pushed request has no request_uri",
		section: "RFC 9126, section 2.1", code: oauth.InvalidRequest,
		says: "request_uri cannot be pushed",
		fix:  "send the parameters, or a request object in request",
	}
	rulePushedRequests = rule{
		must:    "the client does not have too many unfinished pushed requests",
		section: "RFC 9126, section 2.3", code: oauth.TemporarilyUnavailable,
		says: "too many pushed authorization requests; try again later",
		fix:  "wait as long as Retry-After says; push a request only when a user signs in",
	}
)

// pushedRequestData is a stored request. Its ticket is kept until the interactions that it began
// have ended, so that each of them can spend it.
type pushedRequestData struct {
	ClientID string `json:"c"`
	Query    string `json:"q"`
	Expires  int64  `json:"e"` // of the request_uri, in Unix milliseconds
}

// requestTicket is the ticket of a request that gets one response, which spends it: a pushed request,
// or a request object.
type requestTicket struct {
	key  storage.Key
	size int // of a pushed request
}

// pushedAuthorizationRequest is the pushed authorization request endpoint (RFC 9126, section 2). It
// refuses each request that the authorization endpoint would refuse.
func (c *call) pushedAuthorizationRequest() error {
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
	if err := c.must(!c.params.has("request_uri"), &ruleNoRequestURI); err != nil {
		return err
	}
	if !c.params.has("client_id") { // it is known from the credentials
		c.params = append(c.params, param{"client_id", cl.ID})
	}
	if err := c.resolveRequestObject(true); err != nil {
		return err
	}
	if err := c.bindRequestToProof(); err != nil {
		return err
	}
	if _, err := c.verifyAuthorizationRequest(); err != nil {
		return pushedError(err)
	}
	requestURI, err := c.storePushedRequest(cl)
	if err != nil {
		return err
	}
	return writeJSON(c.w, http.StatusCreated, oauth.PushedAuthorizationResponse{
		RequestURI: requestURI, ExpiresIn: int64(c.requestURILifetime(cl) / time.Second),
	})
}

// pushedError replaces error codes that only pages have (RFC 9126, section 2.3).
func pushedError(err error) error {
	e := oauth.AsError(err)
	if e == nil {
		return err
	}
	switch e.Code {
	case PageRedirectURI, PageRedirectURIMissing, PageClientDocument:
		replaced := *e
		replaced.Code = oauth.InvalidRequest
		return &replaced
	}
	return err
}

// requestURILifetime returns how long a request_uri of a client is valid.
func (c *call) requestURILifetime(cl *client) time.Duration {
	return cl.profile.requestURILifetime.limit(c.s.lifetimes.PushedAuthorizationRequest)
}

func (c *call) storePushedRequest(cl *client) (string, error) {
	query := c.params.storable()
	if err := c.countPushedRequest(cl, len(query)); err != nil {
		return "", err
	}
	lifetime := c.requestURILifetime(cl)
	data, err := json.Marshal(pushedRequestData{ClientID: cl.ID, Query: query, Expires: c.now.Add(lifetime).UnixMilli()})
	if err != nil {
		return "", fmt.Errorf("encode pushed request: %w", err)
	}
	reference := newSecret(prefixPushedRequest, c.now)
	ticket := storage.Ticket{
		Key:  secretKey(ticketkind.PushedRequest, prefixPushedRequest, reference),
		Data: data, Expires: c.now.Add(lifetime + c.s.lifetimes.Interaction + time.Minute),
	}
	err = c.s.config.Store.Put(c.r.Context(), c.now, append(c.proofTickets(), ticket)...)
	if replayed := c.proofReplayed(err); replayed != nil {
		return "", replayed
	}
	if err != nil {
		return "", fmt.Errorf("store pushed request: %w", err)
	}
	c.proofSpent()
	return oauth.RequestURIPrefix + reference, nil
}

// requiresPushed reports whether the authorization endpoint refuses a client's other requests.
func (c *call) requiresPushed(cl *client) bool {
	return cl.RequirePushedAuthorizationRequests || c.s.config.RequirePushedAuthorizationRequests
}

// resolveRequest replaces the parameters at the authorization endpoint by those of the pushed
// request or of the request object, if there is one.
func (c *call) resolveRequest() error {
	requestURI := c.params.get("request_uri")
	reference, pushed := strings.CutPrefix(requestURI, oauth.RequestURIPrefix)
	cl, err := c.namedClient(c.params.get("client_id"))
	if errors.Is(err, errUnknownClient) || errors.Is(err, errClientDocument) {
		return nil // verifyClient reports it
	}
	if err != nil {
		return err
	}
	if pushed {
		return c.resolvePushedRequest(cl, reference)
	}
	if c.requiresPushed(cl) {
		return c.must(false, &rulePushedRequired)
	}
	return c.resolveRequestObject(false)
}

// resolvePushedRequest replaces all parameters by those of the pushed request. Parameters other than
// client_id and request_uri are ignored. A request_uri can be used again, after a reload or with the
// back button, until the user has finished: the response spends it (RFC 9126, sections 4 and 7.3).
func (c *call) resolvePushedRequest(cl *client, reference string) error {
	c.client, c.params = cl, nil // an error is a page: nothing else in the URL is trusted
	if !isSecret(prefixPushedRequest, reference) {
		return c.refuse(&rulePushedKnown, "malformed")
	}
	key := secretKey(ticketkind.PushedRequest, prefixPushedRequest, reference)
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, key)
	if errors.Is(err, storage.ErrNotFound) {
		return c.refuse(&rulePushedKnown, "unknown, or expired long ago")
	}
	if err != nil {
		return fmt.Errorf("look up pushed request: %w", err)
	}
	var stored pushedRequestData
	if err := json.Unmarshal(ticket.Data, &stored); err != nil {
		return fmt.Errorf("read pushed request: %w", err)
	}
	if stored.ClientID != cl.ID {
		return c.refuse(&rulePushedKnown, "issued to the client "+stored.ClientID)
	}
	if err := c.must(ticket.Spent.IsZero(), &rulePushedUnfinished); err != nil {
		return err
	}
	if expires := time.UnixMilli(stored.Expires); expired(c.now, expires) {
		return c.refuse(&rulePushedKnown, "expired at "+expires.UTC().Format(time.RFC3339))
	}
	_ = c.must(true, &rulePushedKnown)
	if c.params, err = c.parseParams(stored.Query); err != nil {
		return err
	}
	c.pending = &requestTicket{key: key, size: len(stored.Query)}
	return nil
}

// endPushedRequest removes a finished request from those that count for the client's limit.
func (c *call) endPushedRequest(cl *client, t *requestTicket) {
	if t.key.Kind != ticketkind.PushedRequest || !countsPushedRequests(cl) {
		return
	}
	for range pushedRequestWeight(t.size) {
		c.s.limits.pushedRequests.Undo(c.now, ratelimit.NewKey(cl.ID))
	}
}

// countsPushedRequests reports whether the unfinished requests of a client are counted. All users of
// such a client push from the addresses of its servers, so a limit for each address would be too
// low.
func countsPushedRequests(cl *client) bool { return !cl.Public() && cl.Vouched() }

// pushedRequestWeight counts large requests more than once.
func pushedRequestWeight(bytes int) int { return 1 + bytes/largeStoredBytes }

// countPushedRequest counts a request that a client pushes, or refuses it.
func (c *call) countPushedRequest(cl *client, bytes int) error {
	if !countsPushedRequests(cl) {
		if err := c.takeInteraction(cl, &rulePushedRequests); err != nil {
			return err
		}
		return c.countStoredBytes(cl, bytes)
	}
	if bytes > maxStoredBytes {
		return c.refuse(&ruleStoredSize, fmt.Sprintf("%d bytes", bytes))
	}
	for range pushedRequestWeight(bytes) {
		if wait := c.s.limits.pushedRequests.Take(c.now, ratelimit.NewKey(cl.ID)); wait > 0 {
			return c.tooMany(&rulePushedRequests, wait, cl.ID)
		}
	}
	return nil
}
