package client

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
)

// BackchannelRequest is a backchannel authentication request (OpenID Connect CIBA Core, section 7.1).
// Exactly one of LoginHint, LoginHintToken and IDTokenHint is required.
type BackchannelRequest struct {
	// LoginHint is the user's identifier at the provider, such as an email address.
	LoginHint string
	// LoginHintToken is a token that names the user, in a form that the provider accepts.
	LoginHintToken string
	// IDTokenHint is an ID token that the client received for the user.
	IDTokenHint string
	// Scopes are requested instead of Config.Scopes, unless they are nil. They must contain openid.
	Scopes []string
	// BindingMessage is a short text that the application and the provider both show.
	BindingMessage string
	// UserCode is a code that only the user knows, if the provider requires one.
	UserCode string
	// ACRValues are the requested authentication context classes, the preferred one first.
	ACRValues []string
	// RequestedExpiry is how long the user should have; 0 leaves that to the provider.
	RequestedExpiry time.Duration
	// AuthorizationDetails say in detail what the user is asked to allow (RFC 9396).
	AuthorizationDetails []any
	// Notify is set if the client is registered for the delivery mode ping or push, so that the
	// request needs a notification token.
	Notify bool
}

// Format keeps the hints and the user code out of logs and error messages.
func (BackchannelRequest) Format(s fmt.State, _ rune) { io.WriteString(s, "[backchannel request]") }

// LogValue keeps the hints and the user code out of structured logs.
func (BackchannelRequest) LogValue() slog.Value { return slog.StringValue("[backchannel request]") }

// BackchannelAuthentication is a request that waits for the user's decision. An application with
// notifications stores it under its AuthReqID until Expires; it can be encoded as JSON.
type BackchannelAuthentication struct {
	// AuthReqID is secret: the client gets the tokens with it.
	AuthReqID string `json:"auth_req_id"`
	// NotificationToken is the bearer token of notifications, a secret; "" without notifications.
	NotificationToken string        `json:"client_notification_token,omitempty"`
	Interval          time.Duration `json:"interval"` // the minimum time between two polls
	Expires           time.Time     `json:"expires"`
	Scope             oauth.Scope   `json:"scope"` // the requested scope
	// DPoPKey is the key that the tokens are bound to; nil for bearer tokens, and with
	// Config.DPoPKey.
	DPoPKey *dpop.Key `json:"dpop_key,omitempty"`
}

// Format keeps the secrets out of logs and error messages.
func (BackchannelAuthentication) Format(s fmt.State, _ rune) {
	io.WriteString(s, "[backchannel authentication]")
}

// LogValue keeps the secrets out of structured logs.
func (BackchannelAuthentication) LogValue() slog.Value {
	return slog.StringValue("[backchannel authentication]")
}

// BackchannelAuthentication asks a user for approval on another device (CIBA Core, section 7). With an
// asymmetric Config.RequestObjectSigningAlg, the request is signed (section 7.1.1). Afterwards call
// WaitForApproval, or, if the client is registered for ping or push, wait for a notification
// (BackchannelHandler).
func (c *Client) BackchannelAuthentication(ctx context.Context, r BackchannelRequest) (*BackchannelAuthentication, error) {
	if c.metadata.BackchannelAuthenticationEndpoint == "" {
		return nil, fmt.Errorf("%w: its metadata has no backchannel_authentication_endpoint", ErrUnsupported)
	}
	b := &BackchannelAuthentication{Interval: defaultPollInterval, Scope: c.config.Scopes}
	if r.Scopes != nil {
		b.Scope = r.Scopes
	}
	if !b.Scope.Has(oauth.ScopeOpenID) {
		return nil, errors.New("client: the scope of a backchannel authentication request must contain openid")
	}
	if r.Notify {
		b.NotificationToken = rand.Text()
	}
	key, err := c.prover.newKey()
	if err != nil {
		return nil, err
	}
	b.DPoPKey = c.prover.stored(key)
	now := time.Now()
	form, err := c.backchannelForm(r, b, now)
	if err != nil {
		return nil, err
	}
	got, err := c.postBound(ctx, c.metadata.BackchannelAuthenticationEndpoint, form, key)
	if err != nil {
		return nil, fmt.Errorf("request backchannel authentication: %w", err)
	}
	if got.status != http.StatusOK {
		return nil, fmt.Errorf("request backchannel authentication: %w", parseError(got))
	}
	var response oauth.BackchannelAuthenticationResponse
	if err := json.Unmarshal(got.body, &response); err != nil {
		return nil, fmt.Errorf("%w: backchannel authentication: %w", ErrResponse, err)
	}
	if !printable(response.AuthReqID) || response.ExpiresIn <= 0 || response.Interval < 0 {
		return nil, fmt.Errorf("%w: a member of the backchannel authentication response is missing or not valid (CIBA Core, section 7.3)", ErrResponse)
	}
	b.AuthReqID = response.AuthReqID
	b.Expires = now.Add(min(time.Duration(min(response.ExpiresIn, 1<<20))*time.Second, maxDeviceLifetime)).Round(0)
	if response.Interval > 0 {
		b.Interval = min(time.Duration(min(response.Interval, 1<<20))*time.Second, maxPollInterval)
	}
	return b, nil
}

// backchannelForm returns the parameters of a request, in a JWT if it is signed.
func (c *Client) backchannelForm(r BackchannelRequest, b *BackchannelAuthentication, now time.Time) (url.Values, error) {
	form := url.Values{"scope": {b.Scope.String()}}
	hints := 0
	for name, value := range map[string]string{"login_hint": r.LoginHint, "login_hint_token": r.LoginHintToken, "id_token_hint": r.IDTokenHint} {
		if value != "" {
			form.Set(name, value)
			hints++
		}
	}
	if hints != 1 {
		return nil, errors.New("client: a backchannel authentication request needs exactly one of LoginHint, LoginHintToken and IDTokenHint")
	}
	for name, value := range map[string]string{
		"binding_message": r.BindingMessage, "user_code": r.UserCode, "acr_values": strings.Join(r.ACRValues, " "),
		"client_notification_token": b.NotificationToken,
	} {
		if value != "" {
			form.Set(name, value)
		}
	}
	if r.RequestedExpiry > 0 {
		form.Set("requested_expiry", strconv.FormatInt(int64((r.RequestedExpiry+time.Second-1)/time.Second), 10))
	}
	for _, resource := range c.config.Resources {
		form.Add("resource", resource)
	}
	if len(r.AuthorizationDetails) > 0 {
		details, err := json.Marshal(r.AuthorizationDetails)
		if err != nil {
			return nil, fmt.Errorf("client: encode authorization details: %w", err)
		}
		form.Set("authorization_details", string(details))
	}
	if c.requestSigner != nil && !strings.HasPrefix(string(c.config.RequestObjectSigningAlg), "HS") {
		return c.signedBackchannelForm(form, now)
	}
	form.Set("client_id", c.config.ClientID)
	return form, nil
}

// signedBackchannelForm moves all parameters into a JWT (CIBA Core, section 7.1.1).
func (c *Client) signedBackchannelForm(form url.Values, now time.Time) (url.Values, error) {
	claims := map[string]any{
		"iss": c.config.ClientID, "aud": c.metadata.Issuer, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(requestObjectLifetime).Unix(),
	}
	for name, values := range form {
		switch {
		case name == "authorization_details":
			claims[name] = json.RawMessage(values[0])
		case len(values) == 1:
			claims[name] = values[0]
		default:
			claims[name] = values
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return nil, fmt.Errorf("client: encode the signed authentication request: %w", err)
	}
	request, err := c.requestSigner.Sign(oauth.TypRequestObject, payload)
	if err != nil {
		return nil, fmt.Errorf("client: sign the authentication request: %w", err)
	}
	return url.Values{"request": {request}, "client_id": {c.config.ClientID}}, nil
}

// WaitForApproval polls, at the provider's interval, until the user has decided, and returns the
// tokens. It fails when ctx is done, when the request expires (an *Error with the code expired_token),
// and when the user denies it (access_denied). After a connection error it continues to poll, less
// often.
func (c *Client) WaitForApproval(ctx context.Context, b *BackchannelAuthentication) (*Tokens, error) {
	return waitForTokens(ctx, b.Interval, b.Expires, "the request has expired", func() (*Tokens, error) { return c.PollBackchannel(ctx, b) })
}

// PollBackchannel polls once. Until the user has decided, the error is an *Error with the code
// authorization_pending or slow_down.
func (c *Client) PollBackchannel(ctx context.Context, b *BackchannelAuthentication) (*Tokens, error) {
	key, err := c.backchannelKey(b)
	if err != nil {
		return nil, err
	}
	tokens, err := c.requestBoundTokens(ctx, url.Values{"grant_type": {oauth.GrantTypeCIBA}, "auth_req_id": {b.AuthReqID}}, key)
	if err != nil {
		return nil, fmt.Errorf("poll for an approval: %w", err)
	}
	return c.approvedTokens(ctx, b, tokens, expectedIDToken{})
}

// backchannelKey returns the key that the tokens are bound to; nil for bearer tokens.
func (c *Client) backchannelKey(b *BackchannelAuthentication) (*dpop.Key, error) {
	switch {
	case !c.prover.enabled:
		return nil, nil
	case b.DPoPKey != nil:
		return b.DPoPKey, nil
	case c.prover.fixed != nil:
		return c.prover.fixed, nil
	}
	return nil, errors.New("client: the backchannel authentication has no DPoPKey")
}

func (c *Client) approvedTokens(ctx context.Context, b *BackchannelAuthentication, tokens *Tokens, want expectedIDToken) (*Tokens, error) {
	if len(tokens.Scope) == 0 {
		tokens.Scope = b.Scope
	}
	if tokens.IDToken == "" {
		return nil, fmt.Errorf("%w: the response has none", ErrIDToken)
	}
	var err error
	tokens.Identity, err = c.checkIDToken(ctx, tokens, want)
	return tokens, err
}

// maxNotificationBytes bounds a notification: one with tokens is as large as a token response.
const maxNotificationBytes = 256 << 10

// BackchannelHandler serves the client's backchannel_client_notification_endpoint (CIBA Core, sections
// 10.2, 10.3 and 12), for pings and for pushed tokens.
type BackchannelHandler struct {
	Client *Client
	// Pending returns the authentication with an auth_req_id that the application has stored; nil if
	// there is none. It must be safe for concurrent use.
	Pending func(ctx context.Context, authReqID string) (*BackchannelAuthentication, error)
	// Done is called with the tokens, or with the *Error for which there are none, such as
	// access_denied. If it returns an error, the provider is asked to send the notification again.
	// The provider may send a notification twice. It must be safe for concurrent use.
	Done func(ctx context.Context, b *BackchannelAuthentication, tokens *Tokens, err error) error
	// Logger receives the reasons why notifications are refused; nil means slog.Default().
	Logger *slog.Logger
}

// backchannelNotification is the body of a ping, of pushed tokens, or of an error.
type backchannelNotification struct {
	AuthReqID   string `json:"auth_req_id"`
	AccessToken string `json:"access_token"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// ServeHTTP handles one notification. The response is 204 when the application has its result.
func (h *BackchannelHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, err := h.receive(w, r)
	if err != nil {
		logger := h.Logger
		if logger == nil {
			logger = slog.Default()
		}
		logger.WarnContext(r.Context(), "backchannel notification refused", "status", status, "error", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
}

func (h *BackchannelHandler) receive(w http.ResponseWriter, r *http.Request) (status int, err error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return http.StatusMethodNotAllowed, errors.New("the method is not POST")
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return http.StatusUnsupportedMediaType, errors.New("the Content-Type is not application/json")
	}
	now := time.Now()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNotificationBytes))
	if err != nil {
		return http.StatusRequestEntityTooLarge, fmt.Errorf("read the notification: %w", err)
	}
	var n backchannelNotification
	if err := jose.ParseJSON(body, &n); err != nil || n.AuthReqID == "" {
		return http.StatusBadRequest, errors.New("the notification is not a JSON object with auth_req_id")
	}
	ctx := r.Context()
	b, err := h.Pending(ctx, n.AuthReqID)
	if err != nil {
		return http.StatusServiceUnavailable, fmt.Errorf("look up the authentication: %w", err)
	}
	if b == nil { // perhaps the application has not stored it yet
		return http.StatusServiceUnavailable, errors.New("the authentication is unknown")
	}
	token, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if b.NotificationToken == "" || b.AuthReqID != n.AuthReqID || !isBearer ||
		subtle.ConstantTimeCompare([]byte(token), []byte(b.NotificationToken)) != 1 {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return http.StatusUnauthorized, errors.New("the notification has another token")
	}
	tokens, err := h.result(ctx, b, &n, &response{http.StatusOK, r.Header, body}, now)
	if _, refused := errors.AsType[*Error](err); err != nil && !refused {
		return http.StatusServiceUnavailable, err
	}
	if refusal, _ := errors.AsType[*Error](err); refusal != nil && (refusal.Status >= 500 || isPending(refusal.Code)) {
		return http.StatusServiceUnavailable, err
	}
	if err := h.Done(ctx, b, tokens, err); err != nil {
		return http.StatusServiceUnavailable, fmt.Errorf("handle the result: %w", err)
	}
	return http.StatusNoContent, nil
}

func isPending(code oauth.ErrorCode) bool {
	return code == oauth.AuthorizationPending || code == oauth.SlowDown || code == oauth.TemporarilyUnavailable
}

// result returns the pushed tokens, or requests them after a ping.
func (h *BackchannelHandler) result(ctx context.Context, b *BackchannelAuthentication, n *backchannelNotification, got *response, now time.Time) (*Tokens, error) {
	switch {
	case n.Error != "":
		return nil, newError(n.Error, n.Description, "")
	case n.AccessToken == "":
		return h.Client.PollBackchannel(ctx, b)
	}
	key, err := h.Client.backchannelKey(b)
	if err != nil {
		return nil, err
	}
	tokens, err := parseTokens(got, now, key)
	if err != nil {
		return nil, err
	}
	tokens.DPoPKey = h.Client.prover.stored(key)
	return h.Client.approvedTokens(ctx, b, tokens, expectedIDToken{accessTokenHash: true, authReqID: b.AuthReqID, refreshToken: tokens.RefreshToken})
}
