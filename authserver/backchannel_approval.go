package authserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// The user decides on a backchannel authentication request like on any other request: in an
// interaction that is bound to the browser. Only the user that the request names can decide.

// ErrNoBackchannelRequest is returned if a request does not exist, has expired, or is decided.
var ErrNoBackchannelRequest = errors.New("authserver: the request has expired or is decided")

var ruleBackchannelSubject = rule{
	must:    "the user who signs in is the one that the request names",
	section: "CIBA Core, section 8", code: PageOtherUser,
	says: "this request is for another user",
	fix:  "sign in as the user that the request names",
}

// BackchannelRequest is a backchannel authentication request that waits for the user's decision.
type BackchannelRequest struct {
	// ID names the request in URLs. It is not a secret.
	ID string
	// BindingMessage is a text that the client shows too, so that the user can compare; "" if there
	// is none.
	BindingMessage string
	Began, Expires time.Time
}

func (b *backchannel) describe() *BackchannelRequest {
	return &BackchannelRequest{
		ID: backchannelID(b.key), BindingMessage: b.stored.BindingMessage,
		Began: time.UnixMilli(b.stored.Began), Expires: time.UnixMilli(b.stored.Expires),
	}
}

// BackchannelRequests returns the requests that wait for the decision of a user, the newest first. Of
// each Interaction, Client, Scopes, Resources, AuthorizationDetails and Backchannel are set.
func (s *Server) BackchannelRequests(r *http.Request, subject string) ([]Interaction, error) {
	c := s.newCall(nil, r)
	pending, err := c.pendingBackchannel(backchannelFamily(subject))
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(pending, func(a, b backchannel) int { return cmp.Compare(b.stored.Began, a.stored.Began) })
	var shown []Interaction
	for i := range pending {
		one := s.newCall(nil, r)
		in, err := one.backchannelInteraction(&pending[i])
		if refusal := oauth.AsError(err); errors.Is(err, ErrNoBackchannelRequest) || refusal != nil && !isServerFault(refusal) {
			continue // the client has changed since, which must not hide the requests of others
		}
		if err != nil {
			return nil, err
		}
		described, err := one.describe(in, nil)
		if err != nil {
			return nil, err
		}
		shown = append(shown, *described)
	}
	return shown, nil
}

// BeginBackchannel begins the interaction in which the user decides on a request, and writes the
// response: a redirect to the next page. If it returns ErrNoBackchannelRequest, it has not written a
// response.
func (s *Server) BeginBackchannel(w http.ResponseWriter, r *http.Request, id string) error {
	c := s.newCall(w, r)
	i, err := c.loadBackchannel(id)
	if errors.Is(err, ErrNoBackchannelRequest) {
		return err
	}
	if err == nil {
		var who *Authentication
		if who, err = s.config.Users.SignedIn(r); err == nil {
			err = c.advance(i, who)
		}
	}
	c.finish(err)
	return nil
}

// DenyBackchannel refuses a request for a user. It returns ErrNoBackchannelRequest if the request is
// for another user, has expired, or is decided.
func (s *Server) DenyBackchannel(r *http.Request, id, subject string) error {
	c := s.newCall(nil, r)
	i, err := c.loadBackchannel(id)
	if err != nil {
		return err
	}
	if i.backchannel.stored.Subject != subject {
		return ErrNoBackchannelRequest
	}
	if err := c.storeBackchannelAnswer(i, nil); err != nil {
		return err
	}
	c.recordBackchannelDenied(subject)
	return nil
}

func (c *call) recordBackchannelDenied(subject string) {
	ctx := c.r.Context()
	c.s.events.Record(ctx, event.BackchannelDenied, c.s.namedSubject(ctx, subject), namedClient(c.client), event.Address(c.s.remoteAddr(c.r)))
}

// loadBackchannel returns the interaction for a request that is not decided yet.
func (c *call) loadBackchannel(id string) (*interaction, error) {
	key, ok := backchannelKey(id)
	if !ok {
		return nil, ErrNoBackchannelRequest
	}
	ticket, data, err := c.backchannelRequest(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrNoBackchannelRequest
	}
	if err != nil {
		return nil, err
	}
	if !ticket.Spent.IsZero() || expired(c.now, time.UnixMilli(data.Expires)) || data.Subject == "" {
		return nil, ErrNoBackchannelRequest
	}
	return c.backchannelInteraction(&backchannel{key, *data})
}

// backchannelInteraction verifies the request again, because the client may have changed since.
func (c *call) backchannelInteraction(b *backchannel) (*interaction, error) {
	cl, err := c.clientByID(b.stored.ClientID)
	if errors.Is(err, errUnknownClient) {
		return nil, ErrNoBackchannelRequest
	}
	if err != nil {
		return nil, err
	}
	c.client = cl
	audit.Identify(c.r.Context(), audit.Actor{ClientID: cl.ID})
	if c.params, err = c.parseParams(b.stored.Query); err != nil {
		return nil, err
	}
	i := &interaction{backchannel: b}
	i.request, err = c.verifyBackchannelRequest(cl)
	if err != nil {
		return nil, err
	}
	i.request.subject = b.stored.Subject
	return i, nil
}

// resumeBackchannel loads the request of a stored interaction.
func (c *call) resumeBackchannel(id string, data *interactionData) (*interaction, error) {
	i, err := c.loadBackchannel(data.Backchannel)
	if errors.Is(err, ErrNoBackchannelRequest) {
		return nil, ErrInteractionExpired
	}
	if err != nil {
		return nil, err
	}
	i.id, i.began = id, time.UnixMilli(data.Began)
	return i, nil
}

// approveBackchannel grants the client what the user allowed. The client is not part of the browser's
// session: it keeps its tokens when the user signs out there.
func (c *call) approveBackchannel(i *interaction, a authorization) error {
	a.Session = ""
	if err := c.storeBackchannelAnswer(i, &a); err != nil {
		if errors.Is(err, ErrNoBackchannelRequest) {
			return c.must(false, &ruleInteraction)
		}
		return err
	}
	c.s.limits.backchannel.Undo(c.now, ratelimit.NewKey(c.client.ID, backchannelFamily(a.Subject)))
	ctx := c.r.Context()
	c.s.events.Record(ctx, event.BackchannelApproved, c.s.namedSubject(ctx, a.Subject), namedClient(c.client), event.Address(c.s.remoteAddr(c.r)))
	c.redirect(c.s.basePath + c.s.config.Pages.Approve + "?answer=allowed")
	return nil
}

// denyBackchannel refuses the request of an interaction, if its user is signed in.
func (c *call) denyBackchannel(i *interaction) error {
	who, err := c.s.config.Users.SignedIn(c.r)
	if err != nil {
		return fmt.Errorf("get the signed-in user: %w", err)
	}
	if who == nil || who.Subject != i.backchannel.stored.Subject {
		return c.advance(i, who)
	}
	err = c.storeBackchannelAnswer(i, nil)
	if errors.Is(err, ErrNoBackchannelRequest) {
		return c.must(false, &ruleInteraction)
	}
	if err != nil {
		return err
	}
	c.recordBackchannelDenied(who.Subject)
	c.redirect(c.s.basePath + c.s.config.Pages.Approve + "?answer=denied")
	return nil
}

// storeBackchannelAnswer stores the user's decision; a is nil if they refused. The same operation ends
// the request and the interaction, so that only the first decision takes effect.
func (c *call) storeBackchannelAnswer(i *interaction, a *authorization) error {
	ctx, b := c.r.Context(), i.backchannel
	redeemable := time.UnixMilli(b.stored.Expires)
	if soonest := c.now.Add(backchannelRedeemable); soonest.After(redeemable) {
		redeemable = soonest
	}
	data, err := json.Marshal(backchannelAnswer{Authorization: a, Redeemable: redeemable.UnixMilli()})
	if err != nil {
		return fmt.Errorf("encode the decision on a backchannel authentication request: %w", err)
	}
	ticket := storage.Ticket{
		Key: storage.Key{Kind: ticketkind.BackchannelAnswer, ID: b.key.ID}, Data: data, Expires: redeemable.Add(backchannelOutlives),
	}
	if a != nil {
		ticket.Grant, ticket.Family = a.Grant, a.Family
	}
	spend := []storage.Key{b.key}
	if i.id != "" {
		spend = append(spend, ticketkind.Interaction.Hash(i.id))
	}
	if err := c.enqueueNotification(ctx, b); err != nil {
		return err
	}
	decided := audit.Record{Event: "backchannel.denied", Object: audit.Object{Kind: audit.ObjectRequest}}
	if c.client != nil {
		decided.ClientID = c.client.ID
	}
	if a != nil {
		decided.Event, decided.Subject = "backchannel.approved", a.Subject
		decided.Details = map[string]string{"scope": a.Scope.String()}
	}
	err = c.s.config.Store.Spend(audit.WithRecord(ctx, decided), c.now, spend, ticket)
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrExists) {
		return ErrNoBackchannelRequest
	}
	if err != nil {
		return fmt.Errorf("store the decision on a backchannel authentication request: %w", err)
	}
	c.releaseNotification(ctx, b)
	return nil
}

// releaseNotification makes the notification of a decision due. If it fails, the notification is due a
// little later.
func (c *call) releaseNotification(ctx context.Context, b *backchannel) {
	if b.stored.Delivery == oauth.DeliveryPoll {
		return
	}
	if err := c.s.config.Store.Postpone(ctx, notificationID(b.key), c.now); err != nil {
		c.s.log.WarnContext(ctx, "notification of a client delayed", "error", err, slog.String("client_id", b.stored.ClientID))
	}
	c.s.wakeDelivery()
}
