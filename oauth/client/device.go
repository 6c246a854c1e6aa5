package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// DeviceAuthorization is the response to a device authorization request (RFC 8628, section
// 3.2). Show UserCode and VerificationURI to the user. If the screen allows it, show
// VerificationURIComplete as a QR code too, for example with
// github.com/valetkey/valetkey/deviceqr; the user compares the code next to it. Then call
// WaitForDevice.
type DeviceAuthorization struct {
	UserCode, VerificationURI string
	VerificationURIComplete   string // "" if the provider did not send it
	// DeviceCode is secret: with it, anybody can get the tokens.
	DeviceCode string
	Interval   time.Duration // the minimum time between two polls
	Expires    time.Time
	Scope      oauth.Scope // the requested scope
}

const (
	defaultPollInterval = 5 * time.Second
	maxPollInterval     = 5 * time.Minute
	maxDeviceLifetime   = time.Hour
)

// DeviceAuthorization starts the device authorization grant, for a device without a browser
// (RFC 8628, section 3.1).
func (c *Client) DeviceAuthorization(ctx context.Context) (*DeviceAuthorization, error) {
	if c.metadata.DeviceAuthorizationEndpoint == "" {
		return nil, fmt.Errorf("%w: its metadata has no device_authorization_endpoint", ErrUnsupported)
	}
	form := url.Values{"client_id": {c.config.ClientID}}
	if len(c.config.Scopes) > 0 {
		form.Set("scope", oauth.Scope(c.config.Scopes).String())
	}
	for _, resource := range c.config.Resources {
		form.Add("resource", resource)
	}
	if err := setDetails(form, c.config.AuthorizationDetails); err != nil {
		return nil, err
	}
	now := time.Now()
	got, err := c.post(ctx, c.metadata.DeviceAuthorizationEndpoint, form)
	if err != nil {
		return nil, fmt.Errorf("request device authorization: %w", err)
	}
	if got.status != http.StatusOK {
		return nil, fmt.Errorf("request device authorization: %w", parseError(got))
	}
	var r oauth.DeviceAuthorizationResponse
	if err := json.Unmarshal(got.body, &r); err != nil {
		return nil, fmt.Errorf("%w: device authorization: %w", ErrResponse, err)
	}
	if r.DeviceCode == "" || r.UserCode == "" || r.VerificationURI == "" || r.ExpiresIn <= 0 || r.Interval < 0 {
		return nil, fmt.Errorf("%w: a member of the device authorization response is missing or not valid (RFC 8628, section 3.2)", ErrResponse)
	}
	d := &DeviceAuthorization{
		UserCode: r.UserCode, VerificationURI: r.VerificationURI, VerificationURIComplete: r.VerificationURIComplete,
		Expires:    now.Add(min(time.Duration(min(r.ExpiresIn, 1<<20))*time.Second, maxDeviceLifetime)),
		DeviceCode: r.DeviceCode, Interval: defaultPollInterval, Scope: oauth.Scope(c.config.Scopes),
	}
	if r.Interval > 0 {
		d.Interval = min(time.Duration(min(r.Interval, 1<<20))*time.Second, maxPollInterval)
	}
	return d, nil
}

// WaitForDevice polls, at the provider's interval, until the user has decided, and returns the
// tokens. It fails when ctx is done, when the codes expire (an *Error with the code
// expired_token), and when the user denies access (access_denied). After a connection error
// it continues to poll, less often (RFC 8628, section 3.5).
func (c *Client) WaitForDevice(ctx context.Context, d *DeviceAuthorization) (*Tokens, error) {
	return waitForTokens(ctx, d.Interval, d.Expires, "the device code has expired", func() (*Tokens, error) { return c.PollDevice(ctx, d) })
}

// waitForTokens polls until the user has decided, until expires, or until ctx is done.
func waitForTokens(ctx context.Context, interval time.Duration, expires time.Time, expired string, poll func() (*Tokens, error)) (*Tokens, error) {
	pause := time.Duration(0)
	for {
		wait := time.NewTimer(max(interval, pause))
		pause = 0
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil, fmt.Errorf("wait for the user: %w", ctx.Err())
		case <-wait.C:
		}
		tokens, err := poll()
		refusal, responded := errors.AsType[*Error](err)
		switch {
		case err == nil:
			return tokens, nil
		case !time.Now().Before(expires):
			return nil, fmt.Errorf("wait for the user: %w", &Error{Code: oauth.ExpiredToken, Description: expired})
		case ctx.Err() != nil:
			return nil, fmt.Errorf("wait for the user: %w", ctx.Err())
		case responded && refusal.Code == oauth.AuthorizationPending:
		case responded && refusal.Code == oauth.SlowDown:
			interval = min(interval+5*time.Second, maxPollInterval)
		case responded && refusal.Status < 500 && refusal.Code != oauth.TemporarilyUnavailable:
			return nil, fmt.Errorf("wait for the user: %w", err)
		case errors.Is(err, ErrIDToken):
			return nil, err
		default:
			interval = min(2*interval, maxPollInterval)
			if responded { // it may have sent Retry-After
				pause = min(refusal.RetryAfter, time.Until(expires))
			}
		}
	}
}

// PollDevice polls once. Until the user has decided, the error is an *Error with the code
// authorization_pending or slow_down.
func (c *Client) PollDevice(ctx context.Context, d *DeviceAuthorization) (*Tokens, error) {
	tokens, err := c.requestTokens(ctx, url.Values{
		"grant_type": {oauth.GrantTypeDeviceCode}, "device_code": {d.DeviceCode},
	})
	if err != nil {
		return nil, fmt.Errorf("poll for a device: %w", err)
	}
	if len(tokens.Scope) == 0 {
		tokens.Scope = d.Scope
	}
	if !d.Scope.Has(oauth.ScopeOpenID) {
		return tokens, nil
	}
	if tokens.IDToken == "" {
		return nil, fmt.Errorf("%w: the response has none, although openid was requested", ErrIDToken)
	}
	tokens.Identity, err = c.checkIDToken(ctx, tokens, expectedIDToken{})
	return tokens, err
}
