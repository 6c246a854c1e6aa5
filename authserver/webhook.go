package authserver

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

// Webhook is a service of the operator that is called before tokens are issued. It can add
// claims or refuse the request. Requests are signed according to Standard Webhooks. Responses
// are authenticated by TLS.
type Webhook struct {
	// URL is an https URL, or an http URL on loopback. The host may be in
	// Config.Outgoing.Networks.
	URL string
	// Secret signs the requests: "whsec_" followed by 24 to 64 bytes in base64.
	Secret string
	// Events are the ClaimsOf… constants for which the webhook is called; nil means access
	// tokens. With EventBackchannelAuthentication it is told about requests that wait for a user.
	Events []string
	// Timeout limits one call, and may be at most 5 seconds; zero means 2 seconds.
	Timeout time.Duration
	// Clients, Resources and GrantTypes limit the requests for which the webhook is called. nil
	// means no limit, except that without GrantTypes it is not called for client_credentials.
	Clients, Resources, GrantTypes []string
}

const (
	webhookTimeout    = 2 * time.Second
	webhookMaxTimeout = 5 * time.Second
	webhookMaxBytes   = 4 << 10 // of a response: tokens with the claims are sent in headers
	webhookMaxAtOnce  = 64      // concurrent calls of one webhook
)

// Check returns an error if the webhook is not valid.
func (w *Webhook) Check() error {
	if !isWebAddress(w.URL) {
		return fmt.Errorf("url: %q is not an https URL", w.URL)
	}
	if _, err := w.key(); err != nil {
		return err
	}
	if w.Timeout < 0 || w.Timeout > webhookMaxTimeout {
		return errors.New("timeout: must be at most 5s, because users wait for the response")
	}
	for _, name := range w.GrantTypes {
		builtIn := slices.ContainsFunc(grantTypes(), func(g grantType) bool { return g.name == name })
		if !builtIn && name != oauth.GrantTypeImplicit && !IsExtensionGrant(name) {
			return fmt.Errorf("grant_types: %q is not a grant type", name)
		}
	}
	for _, event := range w.Events {
		switch event {
		case ClaimsOfAccessToken:
		case ClaimsOfIDToken, ClaimsOfUserinfo:
			if len(w.Resources) > 0 {
				return fmt.Errorf("events: %s cannot be combined with resources: it is not issued for a resource", event)
			}
			if event == ClaimsOfUserinfo && len(w.GrantTypes) > 0 {
				return fmt.Errorf("events: %s cannot be combined with grant_types: UserInfo requests have no grant type", event)
			}
		case EventBackchannelAuthentication:
			if len(w.Resources)+len(w.GrantTypes) > 0 {
				return fmt.Errorf("events: %s cannot be combined with resources or grant_types", event)
			}
		default:
			return fmt.Errorf("events: %q is not one of access_token, id_token, userinfo, backchannel_authentication", event)
		}
	}
	return nil
}

func (w *Webhook) key() ([]byte, error) {
	text, ok := strings.CutPrefix(w.Secret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New(`secret: must be "whsec_" followed by 24 to 64 random bytes in base64: create one with echo "whsec_$(openssl rand -base64 32)"`)
	}
	return key, nil
}

// webhook is a Webhook in use.
type webhook struct {
	Webhook
	signingKey []byte
	host       string // for the log: the rest of the URL may be secret
	breaker    breaker
	calls      chan struct{} // has an element for each call in progress
}

func newWebhooks(configured []Webhook) ([]*webhook, error) {
	var hooks []*webhook
	for _, w := range configured {
		if err := w.Check(); err != nil {
			return nil, fmt.Errorf("hook: %w", err)
		}
		key, err := w.key()
		if err != nil {
			return nil, err
		}
		u, err := url.Parse(w.URL)
		if err != nil {
			return nil, fmt.Errorf("hook: %w", err)
		}
		if w.Events == nil {
			w.Events = []string{ClaimsOfAccessToken}
		}
		if w.Timeout == 0 {
			w.Timeout = webhookTimeout
		}
		hooks = append(hooks, &webhook{Webhook: w, signingKey: key, host: u.Host, calls: make(chan struct{}, webhookMaxAtOnce)})
	}
	return hooks, nil
}

// appliesTo reports whether the webhook is called for a request.
func (w *webhook) appliesTo(r *TokenRequest) bool {
	if !slices.Contains(w.Events, r.Kind) || w.Clients != nil && !slices.Contains(w.Clients, r.ClientID) {
		return false
	}
	if w.Resources != nil && !slices.ContainsFunc(r.Audience, func(a string) bool { return oauth.ContainsResource(w.Resources, a) }) {
		return false
	}
	if w.GrantTypes == nil {
		return r.GrantType != oauth.GrantTypeClientCredentials
	}
	return slices.Contains(w.GrantTypes, r.GrantType)
}

// webhookMessage is the body of a request (Standard Webhooks).
type webhookMessage struct {
	Type      string      `json:"type"`
	Timestamp time.Time   `json:"timestamp"`
	Data      webhookData `json:"data"`
}

type webhookData struct {
	Issuer    string   `json:"iss"`
	GrantType string   `json:"grant_type,omitempty"`
	ClientID  string   `json:"client_id"`
	Subject   string   `json:"sub,omitempty"`
	Scope     string   `json:"scope,omitempty"`
	Audience  []string `json:"aud,omitempty"`
	AuthTime  int64    `json:"auth_time,omitempty"`
	ACR       string   `json:"acr,omitempty"`
	AMR       []string `json:"amr,omitempty"`
	Actor     any      `json:"act,omitempty"`
}

var ruleWebhookResponds = rule{
	must:    "the hooks respond in time with a valid response",
	section: "Valetkey", code: oauth.TemporarilyUnavailable,
	says: "the server cannot decide on this request now; try again",
	fix:  "check what the hook returns; while it fails, the requests that it decides on are refused",
}

var (
	// errNoResponse: a webhook did not respond, or not in time.
	errNoResponse = errors.New("no response")
	// errNotSent: no request was sent, so the result says nothing about the webhook.
	errNotSent = errors.New("not sent")
)

// callHook returns the claims that a webhook adds. Every failure refuses the request, because the
// webhook might have refused it.
func (c *call) callHook(ctx context.Context, w *webhook, r *TokenRequest) (oauth.Claims, error) {
	now := time.Now()
	if !w.breaker.allows(now) {
		return nil, c.because(&ruleWebhookResponds, fmt.Errorf("hook %s: no response %d times in a row, so it is not called for %s", w.host, breakerFailures, breakerPause))
	}
	response, err := c.s.callWebhook(ctx, w, r, now)
	// Not counted: a client that disconnected, and a request that was not sent because too many
	// were in progress. An invalid response is not a failure: nobody waits for it, and the
	// requests of one user must not stop the hook for the others.
	switch w.breaker.record(time.Now(), !errors.Is(err, errNoResponse), ctx.Err() != nil || errors.Is(err, errNotSent)) {
	case breakerOpened:
		c.s.events.Record(ctx, event.HookFailed, slog.String("hook", w.host), slog.Any("cause", err))
	case breakerClosed:
		c.s.events.Record(ctx, event.HookRecovered, slog.String("hook", w.host))
	}
	if err != nil {
		return nil, c.because(&ruleWebhookResponds, fmt.Errorf("hook %s: %w", w.host, err))
	}
	_ = c.must(true, &ruleWebhookResponds)
	if response.refusal != nil {
		return nil, c.refusedByHook(response.refusal)
	}
	return response.claims, nil
}

func (s *Server) callWebhook(ctx context.Context, w *webhook, r *TokenRequest, now time.Time) (*webhookResponse, error) {
	select {
	case w.calls <- struct{}{}:
		defer func() { <-w.calls }()
	case <-time.After(w.Timeout / 2):
		return nil, fmt.Errorf("%w: too many requests are waiting for this hook", errNotSent)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errNotSent, ctx.Err())
	}
	// If the hook has failed while this request was queued, do not wait for it as well.
	if w.breaker.openedAfter(now) {
		return nil, fmt.Errorf("%w: the hook failed while this request was queued", errNotSent)
	}
	// The timeout starts after the wait. Otherwise the load of other requests would make the hook
	// fail.
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	message := webhookMessage{Type: r.Kind, Timestamp: now.UTC(), Data: webhookData{
		Issuer: s.config.Issuer, GrantType: r.GrantType, ClientID: r.ClientID, Subject: r.Subject, Scope: r.Scope.String(),
		Audience: r.Audience, ACR: r.ACR, AMR: r.AMR, Actor: r.Claims["act"],
	}}
	if !r.AuthTime.IsZero() {
		message.Data.AuthTime = r.AuthTime.Unix()
	}
	body, err := json.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	id, timestamp := "msg_"+storage.NewID(), strconv.FormatInt(now.Unix(), 10)
	status, contentType, document, err := s.operatorOutgoing.PostJSON(ctx, w.URL, http.Header{
		"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signWebhook(w.signingKey, id, timestamp, body)},
	}, body, webhookMaxBytes)
	if err != nil && status == 0 {
		return nil, fmt.Errorf("%w: %w", errNoResponse, err)
	}
	if err != nil {
		return nil, err
	}
	return readWebhookResponse(status, contentType, document)
}

// signWebhook returns the value of Webhook-Signature (Standard Webhooks).
func signWebhook(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// webhookResponse is the decision of a webhook: claims to add, or a refusal.
type webhookResponse struct {
	claims  oauth.Claims
	refusal *oauth.Error
}

// webhookErrors returns the codes with which a webhook may refuse.
func webhookErrors() []oauth.ErrorCode {
	return []oauth.ErrorCode{
		oauth.AccessDenied, oauth.InvalidRequest, oauth.InvalidGrant, oauth.InvalidScope, oauth.InvalidTarget,
		oauth.UnauthorizedClient, oauth.TemporarilyUnavailable,
	}
}

// readWebhookResponse parses a response. An unknown member is an error, because it may be a
// misspelled refusal.
func readWebhookResponse(status int, contentType string, document []byte) (*webhookResponse, error) {
	switch {
	case status == http.StatusNoContent:
		return &webhookResponse{}, nil
	case status != http.StatusOK:
		return nil, fmt.Errorf("the status of the response must be 200 or 204, got %d", status)
	case !isMediaType(contentType, "application/json"):
		return nil, errors.New("the Content-Type of the response must be application/json")
	}
	var members map[string]json.RawMessage
	if err := jose.ParseJSON(document, &members); err != nil || members == nil {
		return nil, errors.New("the response must be a JSON object without duplicate members")
	}
	for name := range members {
		if name != "claims" && name != "error" && name != "error_description" {
			return nil, fmt.Errorf("the response has an unknown member %q: only claims, error and error_description are allowed", clip(name))
		}
	}
	var response struct {
		Claims      oauth.Claims    `json:"claims"`
		Code        oauth.ErrorCode `json:"error"`
		Description string          `json:"error_description"`
	}
	if err := jose.ParseJSON(document, &response); err != nil {
		return nil, errors.New("a member of the response has the wrong type: claims must be an object, error and error_description strings")
	}
	if members["error"] == nil && members["error_description"] == nil {
		return &webhookResponse{claims: response.Claims}, checkClaims(response.Claims)
	}
	if members["claims"] != nil || !slices.Contains(webhookErrors(), response.Code) {
		return nil, errors.New("the response has both claims and an error, or an error code that hooks may not use")
	}
	if response.Description == "" {
		response.Description = ruleHookAllows.says
	}
	return &webhookResponse{refusal: oauth.NewError(response.Code, clip(response.Description))}, nil
}

// After breakerFailures failures in a row, a service is not called for breakerPause. Then one
// request tries it again.
const (
	breakerFailures = 5
	breakerPause    = 10 * time.Second
)

// breaker is a circuit breaker: it keeps requests from waiting for a service that is down. It is
// safe for concurrent use, and its zero value is closed, so all requests are allowed.
type breaker struct {
	mu        sync.Mutex
	failures  int
	openUntil time.Time
	opened    time.Time
	trying    bool // one request finds out whether the service is back
}

// breakerChange is the change of a breaker's state by a result.
type breakerChange int

const (
	breakerUnchanged breakerChange = iota
	breakerOpened
	breakerClosed
)

// allows reports whether a request may be sent. If it is sent, call record afterwards.
func (b *breaker) allows(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < breakerFailures {
		return true
	}
	if b.trying || now.Before(b.openUntil) {
		return false
	}
	b.trying = true
	return true
}

// openedAfter reports whether the breaker is open and has opened after a time.
func (b *breaker) openedAfter(at time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= breakerFailures && b.opened.After(at)
}

// record records the result of a request. A canceled request does not count, and neither does
// one that was not sent.
func (b *breaker) record(now time.Time, ok, canceled bool) breakerChange {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	switch {
	case canceled:
	case ok:
		wasOpen := b.failures >= breakerFailures
		b.failures = 0
		if wasOpen {
			return breakerClosed
		}
	default:
		b.failures++
		b.openUntil = now.Add(breakerPause)
		if b.failures == breakerFailures {
			b.opened = now
			return breakerOpened
		}
	}
	return breakerUnchanged
}
