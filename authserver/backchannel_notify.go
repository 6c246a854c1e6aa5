package authserver

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// Notifications of backchannel authentication: the ping or push to the client once the user has
// decided (CIBA Core, section 10), and before that the message to the operator's webhooks that there
// is something to approve. All of them are sent from the store's outbox (DeliverLogouts), so that a
// restart loses none, and a receiver that hangs delays only its own.

const (
	// notificationPatience is how long a decision may take to be stored. Its notification is
	// enqueued before, so that a crash in between does not lose it.
	notificationPatience = time.Minute
	minNotificationDelay = 2 * time.Second
	maxNotificationDelay = time.Minute
	// maxNotificationResponse bounds what is read of a response. Its body is ignored.
	maxNotificationResponse = 4 << 10
)

// The first words of the IDs of messages in the outbox.
const (
	messageNotification = "backchannel "
	messageApproval     = "approval "
)

func notificationID(request storage.Key) string {
	return messageNotification + backchannelID(request)
}

// notification is what a notification of the client contains: both are secrets.
type notification struct {
	Token     string `json:"t"`
	AuthReqID string `json:"a"`
}

func (notification) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[notification]") }

// LogValue keeps the secrets out of structured logs.
func (n notification) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(n)) }

func (s *Server) newBackchannelCipher() (cipher.AEAD, error) {
	key, err := deriveKey(s.config.Secret, "valetkey backchannel notification")
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("backchannel cipher: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// sealNotification encrypts what a notification contains, because no store has a secret in plain text.
func (s *Server) sealNotification(request storage.Key, n notification) ([]byte, error) {
	plain, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("encode a notification: %w", err)
	}
	return s.backchannelCipher.Seal(nil, nil, plain, append([]byte(s.config.Issuer+"\x00notification\x00"), request.ID[:]...)), nil
}

func (s *Server) openNotification(request storage.Key, sealed []byte) (n notification, err error) {
	plain, err := s.backchannelCipher.Open(nil, nil, sealed, append([]byte(s.config.Issuer+"\x00notification\x00"), request.ID[:]...))
	if err == nil {
		err = json.Unmarshal(plain, &n)
	}
	if err != nil {
		return n, fmt.Errorf("open a notification: %w", err)
	}
	return n, nil
}

// pushContext is authenticated with the sealed tokens of a request.
func (s *Server) pushContext(request storage.Key) []byte {
	return append([]byte(s.config.Issuer+"\x00push\x00"), request.ID[:]...)
}

// wakeDelivery makes DeliverLogouts run soon.
func (s *Server) wakeDelivery() { s.SessionsEnded() }

// enqueueNotification stores the notification of a decision that is about to be stored.
func (c *call) enqueueNotification(ctx context.Context, b *backchannel) error {
	if b.stored.Delivery == oauth.DeliveryPoll {
		return nil
	}
	owner := "backchannel " + outgoing.Host(c.client.BackchannelClientNotificationEndpoint)
	if c.client.Registration != nil {
		owner = "outsider " + outgoing.Site(cmp.Or(c.client.BackchannelClientNotificationEndpoint, c.client.ID))
	}
	err := c.s.config.Store.Enqueue(ctx, storage.Message{
		ID: notificationID(b.key), Owner: owner, Data: []byte(b.stored.ClientID), Created: c.now, Due: c.now.Add(minNotificationDelay),
	})
	if err != nil {
		return fmt.Errorf("enqueue the notification of a client: %w", err)
	}
	return nil
}

// deliverNotification sends one ping or push, and then removes or postpones it. It is not sent any more
// when the client could not use it.
func (s *Server) deliverNotification(ctx context.Context, m storage.Message) {
	until, err := s.notifyClient(ctx, m)
	interrupted := ctx.Err() != nil
	ctx, cancel := storage.Uninterrupted(ctx)
	defer cancel()
	now := time.Now()
	clientID := string(m.Data)
	switch {
	case err == nil:
		err = s.config.Store.Remove(ctx, m.ID)
	case interrupted:
		err = s.config.Store.Postpone(ctx, m.ID, now)
	case errors.Is(err, errUndecided):
		err = s.config.Store.Postpone(ctx, m.ID, now.Add(minNotificationDelay))
	case errors.Is(err, errRefused) || !now.Before(until):
		s.events.Record(ctx, event.BackchannelGivenUp, s.namedClientID(clientID), slog.Int("attempts", m.Attempts), slog.Any("cause", err))
		err = s.config.Store.Fail(ctx, m.ID, now, cmp.Or(err, errors.New("the request has expired")).Error())
	default:
		s.events.Record(ctx, event.BackchannelPostponed, s.namedClientID(clientID), slog.Int("attempts", m.Attempts), slog.Any("cause", err))
		err = s.config.Store.Postpone(ctx, m.ID, now.Add(notificationDelay(m.Attempts)))
	}
	if err != nil {
		s.log.ErrorContext(ctx, "notification of a client not delivered", "error", err)
	}
}

func notificationDelay(attempts int) time.Duration {
	delay := minNotificationDelay
	for ; attempts > 1 && delay < maxNotificationDelay; attempts-- {
		delay *= 2
	}
	return min(delay, maxNotificationDelay)
}

var (
	// errUndecided: the decision is not stored yet.
	errUndecided = errors.New("the decision is not stored yet")
	// errRefused: the client does not want the notification. Sending it again would not help.
	errRefused = errors.New("the client refused the notification")
)

// notifyClient sends a ping or push, and returns until when it is worth trying again. It returns nil if
// there is nothing to send.
func (s *Server) notifyClient(ctx context.Context, m storage.Message) (until time.Time, err error) {
	now := time.Now()
	key, ok := backchannelKey(strings.TrimPrefix(m.ID, messageNotification))
	if !ok {
		return until, nil
	}
	c := s.backgroundCall(ctx, now)
	_, data, err := c.backchannelRequest(key)
	if errors.Is(err, storage.ErrNotFound) {
		return until, nil
	}
	if err != nil {
		return now.Add(time.Minute), err
	}
	answer, err := c.backchannelAnswer(key)
	if err != nil {
		return now.Add(time.Minute), err
	}
	if answer == nil {
		if now.Sub(m.Created) > notificationPatience {
			return until, nil // the decision was never stored, or the consent is withdrawn
		}
		return until, errUndecided
	}
	until = time.UnixMilli(answer.Redeemable)
	cl, err := s.client(ctx, data.ClientID)
	if errors.Is(err, errUnknownClient) || err == nil && cl.BackchannelClientNotificationEndpoint == "" {
		return until, nil
	}
	if err != nil {
		return until, err
	}
	c.client = cl
	n, err := s.openNotification(key, data.Notification)
	if err != nil {
		return until, err
	}
	var body []byte
	if data.Delivery == oauth.DeliveryPush {
		body, err = c.pushBody(key, data, answer, n)
	} else {
		body, err = json.Marshal(struct {
			AuthReqID string `json:"auth_req_id"`
		}{n.AuthReqID})
	}
	if err != nil || body == nil {
		return until, err
	}
	if err := s.postNotification(ctx, cl, n.Token, body); err != nil {
		return until, err
	}
	s.events.Record(ctx, event.BackchannelNotified, namedClient(cl), slog.String("delivery_mode", data.Delivery))
	if data.Delivery == oauth.DeliveryPush {
		err = s.config.Store.Delete(ctx, storage.Key{Kind: ticketkind.BackchannelPush, ID: key.ID})
	}
	return until, err
}

// postNotification posts to the client's notification endpoint. Redirects are not followed (CIBA Core,
// section 10.2).
func (s *Server) postNotification(ctx context.Context, cl *client, token string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, outgoing.Timeout)
	defer cancel()
	header := http.Header{"Authorization": {"Bearer " + token}}
	status, _, _, err := s.outgoingFor(cl.Client).PostJSON(ctx, cl.BackchannelClientNotificationEndpoint, header, body, maxNotificationResponse)
	if status == http.StatusOK || status == http.StatusNoContent {
		return nil
	}
	switch {
	case status == 0:
		return err
	case status < http.StatusInternalServerError && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests:
		return fmt.Errorf("%w: status %d", errRefused, status)
	}
	return fmt.Errorf("the client responded with status %d", status)
}

// backgroundCall returns a call for work without a request.
func (s *Server) backgroundCall(ctx context.Context, now time.Time) *call {
	r := (&http.Request{Method: http.MethodPost, Header: http.Header{}}).WithContext(ctx)
	return &call{
		s: s, w: discardResponse{}, r: r, now: now, endpoint: s.routes[s.basePath+"/token"],
		params: params{{"grant_type", oauth.GrantTypeCIBA}},
	}
}

// discardResponse is the response of a call without a request.
type discardResponse struct{}

func (discardResponse) Header() http.Header         { return http.Header{} }
func (discardResponse) Write(b []byte) (int, error) { return len(b), nil }
func (discardResponse) WriteHeader(int)             {}

// pushBody returns the body of a push: the tokens (CIBA Core, section 10.3.1) or an error (section 12).
// Tokens are issued once. Each further attempt sends the same ones, which are stored sealed. It returns
// nil if the client has them already.
func (c *call) pushBody(key storage.Key, data *backchannelData, answer *backchannelAnswer, n notification) ([]byte, error) {
	ctx, pushKey := c.r.Context(), storage.Key{Kind: ticketkind.BackchannelPush, ID: key.ID}
	stored, err := c.s.config.Store.Get(ctx, c.now, pushKey)
	if err == nil {
		body, err := c.s.backchannelCipher.Open(nil, nil, stored.Data, c.s.pushContext(key))
		if err != nil {
			return nil, fmt.Errorf("open the tokens of a push: %w", err)
		}
		return body, nil
	}
	if !errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("look up the tokens of a push: %w", err)
	}
	if !answer.ticket.Spent.IsZero() {
		return nil, nil
	}
	if answer.Authorization == nil {
		return pushError(n, oauth.NewError(oauth.AccessDenied, ruleBackchannelAllowed.says))
	}
	if data.Confirmation != nil {
		c.proven = *data.Confirmation
	}
	ent, err := c.backchannelEntitlement(answer)
	if err == nil {
		var body []byte
		ent.authReqID = n.AuthReqID
		ent.sealPush = func(response *oauth.TokenResponse) (storage.Ticket, error) {
			var err error
			if body, err = pushTokens(n, response); err != nil {
				return storage.Ticket{}, err
			}
			sealed := c.s.backchannelCipher.Seal(nil, nil, body, c.s.pushContext(key))
			return storage.Ticket{
				Key: pushKey, Grant: ent.authorization.Grant, Family: ent.authorization.Family, Data: sealed,
				Expires: time.UnixMilli(answer.Redeemable).Add(backchannelOutlives),
			}, nil
		}
		if _, err = c.issue(ent); err == nil {
			return body, nil
		}
	}
	if refusal := oauth.AsError(err); refusal != nil && !isServerFault(refusal) {
		c.logRefusal(refusal, err)
		return pushError(n, oauth.NewError(oauth.TransactionFailed, refusal.Description))
	}
	return nil, err
}

func pushTokens(n notification, response *oauth.TokenResponse) ([]byte, error) {
	o := newJSONObject()
	defer o.release()
	o.text("auth_req_id", n.AuthReqID)
	encodeTokenResponse(o, response)
	body, err := o.end()
	if err != nil {
		return nil, fmt.Errorf("encode the tokens of a push: %w", err)
	}
	return slices.Clone(body), nil
}

func pushError(n notification, e *oauth.Error) ([]byte, error) {
	return json.Marshal(struct {
		Code        oauth.ErrorCode `json:"error"`
		Description string          `json:"error_description,omitempty"`
		AuthReqID   string          `json:"auth_req_id"`
	}{e.Code, e.Description, n.AuthReqID})
}

// EventBackchannelAuthentication is the event of a Webhook that is told about each request that waits
// for a user.
const EventBackchannelAuthentication = "backchannel_authentication"

// approvalMessage is the body of the request to a webhook (Standard Webhooks). It has no secret.
type approvalMessage struct {
	Type      string       `json:"type"`
	Timestamp time.Time    `json:"timestamp"`
	Data      approvalData `json:"data"`
}

type approvalData struct {
	Issuer         string `json:"iss"`
	ClientID       string `json:"client_id"`
	ClientName     string `json:"client_name,omitempty"`
	Subject        string `json:"sub"`
	BindingMessage string `json:"binding_message,omitempty"`
	// ApprovalURI is the page on which the user decides, once they are signed in.
	ApprovalURI string `json:"approval_uri"`
	Expires     int64  `json:"exp"`
}

// announces reports whether a webhook is told about the requests of a client.
func (w *webhook) announces(cl *record.Client) bool {
	return slices.Contains(w.Events, EventBackchannelAuthentication) && (w.Clients == nil || slices.Contains(w.Clients, cl.ID))
}

// id names a webhook in the outbox.
func (w *webhook) id() string {
	hash := sha256.Sum256([]byte(w.URL))
	return base64.RawURLEncoding.EncodeToString(hash[:9])
}

// announceBackchannel enqueues a message to each webhook that is told about a request.
func (c *call) announceBackchannel(cl *client, b *backchannel) error {
	var messages []storage.Message
	for _, w := range c.s.webhooks {
		if w.announces(cl.Client) {
			messages = append(messages, storage.Message{
				ID: messageApproval + backchannelID(b.key) + " " + w.id(), Owner: "hook " + w.host, Created: c.now, Due: c.now,
			})
		}
	}
	if len(messages) == 0 {
		return nil
	}
	if err := c.s.config.Store.Enqueue(c.r.Context(), messages...); err != nil {
		return fmt.Errorf("enqueue the message about a backchannel authentication request: %w", err)
	}
	c.s.wakeDelivery()
	return nil
}

// deliverApproval sends one message to a webhook, and then removes or postpones it. It is not sent any
// more when the request is decided or has expired.
func (s *Server) deliverApproval(ctx context.Context, m storage.Message) {
	host, err := s.announce(ctx, m)
	interrupted := ctx.Err() != nil
	ctx, cancel := storage.Uninterrupted(ctx)
	defer cancel()
	switch {
	case err == nil:
		err = s.config.Store.Remove(ctx, m.ID)
	case interrupted:
		err = s.config.Store.Postpone(ctx, m.ID, time.Now())
	default:
		s.events.Record(ctx, event.BackchannelAnnouncementPostponed, slog.String("hook", host), slog.Int("attempts", m.Attempts), slog.Any("cause", err))
		err = s.config.Store.Postpone(ctx, m.ID, time.Now().Add(notificationDelay(m.Attempts)))
	}
	if err != nil {
		s.log.ErrorContext(ctx, "message about a backchannel authentication request not delivered", "error", err)
	}
}

func (s *Server) announce(ctx context.Context, m storage.Message) (host string, err error) {
	id, hook, _ := strings.Cut(strings.TrimPrefix(m.ID, messageApproval), " ")
	at := slices.IndexFunc(s.webhooks, func(w *webhook) bool { return w.id() == hook })
	if at < 0 {
		return "", nil // it is not configured any more
	}
	w := s.webhooks[at]
	now := time.Now()
	c := s.backgroundCall(ctx, now)
	i, err := c.loadBackchannel(id)
	if errors.Is(err, ErrNoBackchannelRequest) || oauth.AsError(err) != nil {
		return w.host, nil
	}
	if err != nil {
		return w.host, err
	}
	b := i.backchannel.stored
	body, err := json.Marshal(approvalMessage{Type: EventBackchannelAuthentication, Timestamp: now.UTC(), Data: approvalData{
		Issuer: s.config.Issuer, ClientID: b.ClientID, ClientName: c.client.ClientName, Subject: b.Subject, BindingMessage: b.BindingMessage,
		ApprovalURI: s.config.Issuer + s.config.Pages.Approve + "?request=" + id, Expires: b.Expires / 1000,
	}})
	if err != nil {
		return w.host, fmt.Errorf("encode message: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	messageID, timestamp := "msg_"+id[:22], strconv.FormatInt(now.Unix(), 10)
	status, _, _, err := s.operatorOutgoing.PostJSON(ctx, w.URL, http.Header{
		"Webhook-Id": {messageID}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signWebhook(w.signingKey, messageID, timestamp, body)},
	}, body, maxNotificationResponse)
	if status/100 == 2 {
		return w.host, nil
	}
	if status == 0 {
		return w.host, err
	}
	return w.host, fmt.Errorf("the hook responded with status %d", status)
}
