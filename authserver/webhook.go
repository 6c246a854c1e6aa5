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

// Webhook is a service of the operator's that is asked before tokens are made, and adds
// claims or refuses. Requests are signed as Standard Webhooks says; what vouches for the
// answer is TLS.
type Webhook struct {
	// URL is https, or http on loopback. It may be in Config.Outgoing.Networks.
	URL string
	// Secret signs: whsec_ and 24 to 64 bytes in base64.
	Secret string
	// Events are those of the ClaimsOf… constants for which it is asked; nil: for access
	// tokens.
	Events []string
	// Timeout is how long it may take, 5 seconds at most; 0: 2 seconds.
	Timeout time.Duration
	// Clients, Resources and GrantTypes limit the requests for which it is asked. Without
	// GrantTypes it is asked for all but client_credentials.
	Clients, Resources, GrantTypes []string
}

const (
	webhookTimeout    = 2 * time.Second
	webhookMaxTimeout = 5 * time.Second
	webhookMaxBytes   = 4 << 10 // of an answer: what it adds travels in headers
	webhookMaxAtOnce  = 64      // calls of one hook
)

// Check reports why a webhook cannot be asked.
func (w *Webhook) Check() error {
	if !isWebAddress(w.URL) {
		return fmt.Errorf("url: %q is not an https URL", w.URL)
	}
	if _, err := w.key(); err != nil {
		return err
	}
	if w.Timeout < 0 || w.Timeout > webhookMaxTimeout {
		return errors.New("timeout: it is 5s at most: people wait meanwhile")
	}
	for _, name := range w.GrantTypes {
		ours := slices.ContainsFunc(grantTypes(), func(g grantType) bool { return g.name == name })
		if !ours && name != oauth.GrantTypeImplicit && !IsExtensionGrant(name) {
			return fmt.Errorf("grant_types: there is no grant type %q", name)
		}
	}
	for _, event := range w.Events {
		switch event {
		case ClaimsOfAccessToken:
		case ClaimsOfIDToken, ClaimsOfUserinfo:
			if len(w.Resources) > 0 {
				return fmt.Errorf("events: %s is for no resource", event)
			}
			if event == ClaimsOfUserinfo && len(w.GrantTypes) > 0 {
				return fmt.Errorf("events: %s is for no grant type", event)
			}
		default:
			return fmt.Errorf("events: %q is not one of access_token, id_token, userinfo", event)
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
	calls      chan struct{} // as many as are under way
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

// asksAbout reports whether the hook is to be asked.
func (w *webhook) asksAbout(r *TokenRequest) bool {
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

// webhookMessage is the body of a request, in the form of Standard Webhooks.
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

var ruleWebhookAnswers = rule{
	must:    "the hooks respond in time with a valid response",
	section: "Valetkey", code: oauth.TemporarilyUnavailable,
	says: "the server cannot decide on this request now; try again",
	fix:  "check what the hook returns; while it fails, the requests that it decides on are refused",
}

var (
	// errNoAnswer says that a hook did not answer in time, or at all.
	errNoAnswer = errors.New("no answer")
	// errNotAsked says that a hook was not asked, which says nothing about it.
	errNotAsked = errors.New("not asked")
)

// ask returns the claims that a hook adds. Whatever goes wrong refuses the request: what
// the hook would have said is not known.
func (c *call) ask(ctx context.Context, w *webhook, r *TokenRequest) (oauth.Claims, error) {
	now := time.Now()
	if !w.breaker.allows(now) {
		return nil, c.because(&ruleWebhookAnswers, fmt.Errorf("hook %s: it did not answer %d times in a row, and is left alone", w.host, breakerFailures))
	}
	answer, err := c.s.callWebhook(ctx, w, r, now)
	// A client that went away says nothing about the hook, and neither does a request that was
	// not sent because as many as may be were under way. A wrong response makes nobody wait, so
	// one person's requests cannot shut the others out.
	switch w.breaker.note(time.Now(), !errors.Is(err, errNoAnswer), ctx.Err() != nil || errors.Is(err, errNotAsked)) {
	case breakerOpened:
		c.s.events.Record(ctx, event.HookFailed, slog.String("hook", w.host), slog.Any("cause", err))
	case breakerClosed:
		c.s.events.Record(ctx, event.HookRecovered, slog.String("hook", w.host))
	}
	if err != nil {
		return nil, c.because(&ruleWebhookAnswers, fmt.Errorf("hook %s: %w", w.host, err))
	}
	_ = c.must(true, &ruleWebhookAnswers)
	if answer.refusal != nil {
		return nil, c.refusedByHook(answer.refusal)
	}
	return answer.claims, nil
}

func (s *Server) callWebhook(ctx context.Context, w *webhook, r *TokenRequest, now time.Time) (*webhookAnswer, error) {
	select {
	case w.calls <- struct{}{}:
		defer func() { <-w.calls }()
	case <-time.After(w.Timeout / 2):
		return nil, fmt.Errorf("%w: too many requests wait for it", errNotAsked)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errNotAsked, ctx.Err())
	}
	// Those that waited for their turn do not all wait for a hook that has failed meanwhile.
	if w.breaker.openedAfter(now) {
		return nil, fmt.Errorf("%w: it failed while this request waited for its turn", errNotAsked)
	}
	// The wait is not taken from the hook's own time: it would fail for the load of others.
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
		return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	if err != nil {
		return nil, err
	}
	return readWebhookAnswer(status, contentType, document)
}

// signWebhook returns the value of Webhook-Signature (Standard Webhooks).
func signWebhook(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// webhookAnswer is what a hook decides.
type webhookAnswer struct {
	claims  oauth.Claims
	refusal *oauth.Error
}

// webhookErrors are the codes by which a hook may refuse.
func webhookErrors() []oauth.ErrorCode {
	return []oauth.ErrorCode{
		oauth.AccessDenied, oauth.InvalidRequest, oauth.InvalidGrant, oauth.InvalidScope, oauth.InvalidTarget,
		oauth.UnauthorizedClient, oauth.TemporarilyUnavailable,
	}
}

// readWebhookAnswer reads what a hook answers. A member that it does not know is an error,
// for it may be a misspelt refusal.
func readWebhookAnswer(status int, contentType string, document []byte) (*webhookAnswer, error) {
	switch {
	case status == http.StatusNoContent:
		return &webhookAnswer{}, nil
	case status != http.StatusOK:
		return nil, fmt.Errorf("it answers %d", status)
	case !isMediaType(contentType, "application/json"):
		return nil, errors.New("its answer is not application/json")
	}
	var members map[string]json.RawMessage
	if err := jose.ParseJSON(document, &members); err != nil || members == nil {
		return nil, errors.New("its answer is no JSON object with each member once")
	}
	for name := range members {
		if name != "claims" && name != "error" && name != "error_description" {
			return nil, fmt.Errorf("its answer has a member %q beside claims, error and error_description", clip(name))
		}
	}
	var answer struct {
		Claims      oauth.Claims    `json:"claims"`
		Code        oauth.ErrorCode `json:"error"`
		Description string          `json:"error_description"`
	}
	if err := jose.ParseJSON(document, &answer); err != nil {
		return nil, errors.New("its answer has a member of another type")
	}
	if members["error"] == nil && members["error_description"] == nil {
		return &webhookAnswer{claims: answer.Claims}, checkClaims(answer.Claims)
	}
	if members["claims"] != nil || !slices.Contains(webhookErrors(), answer.Code) {
		return nil, errors.New("its answer refuses with claims, or with an error that is not taken")
	}
	if answer.Description == "" {
		answer.Description = ruleHookAllows.says
	}
	return &webhookAnswer{refusal: oauth.NewError(answer.Code, clip(answer.Description))}, nil
}

// A service that failed to answer so often in a row is left alone for so long. Then one
// request tries it.
const (
	breakerFailures = 5
	breakerRest     = 10 * time.Second
)

// breaker keeps requests from waiting for a service that is down. It is safe for concurrent
// use; its zero value lets everything through.
type breaker struct {
	mu       sync.Mutex
	failures int
	rests    time.Time // until then
	opened   time.Time // when it began to rest
	trying   bool      // one request finds out whether it is back
}

// breakerChange is what a result did to a breaker.
type breakerChange int

const (
	breakerStays breakerChange = iota
	breakerOpened
	breakerClosed
)

// allows reports whether a request may go to the service. One that does is noted afterwards.
func (b *breaker) allows(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < breakerFailures {
		return true
	}
	if b.trying || now.Before(b.rests) {
		return false
	}
	b.trying = true
	return true
}

// openedAfter reports whether the service was left alone since then.
func (b *breaker) openedAfter(at time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= breakerFailures && b.opened.After(at)
}

// note takes the result of a request; one that was given up, or not sent, says nothing.
func (b *breaker) note(now time.Time, ok, givenUp bool) breakerChange {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
	switch {
	case givenUp:
	case ok:
		wasOpen := b.failures >= breakerFailures
		b.failures = 0
		if wasOpen {
			return breakerClosed
		}
	default:
		b.failures++
		b.rests = now.Add(breakerRest)
		if b.failures == breakerFailures {
			b.opened = now
			return breakerOpened
		}
	}
	return breakerStays
}
