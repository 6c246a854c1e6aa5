package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
)

const (
	// earlyRenewal is how long before its expiry an access token is renewed, or a tenth of its
	// lifetime if that is less.
	earlyRenewal = 30 * time.Second
	// After a failed renewal a source waits before it tries again, twice as long each time
	// within these limits, and longer if the provider sends Retry-After.
	firstPause, longestPause = time.Second, time.Minute
)

// Source provides tokens and renews them shortly before they expire. Concurrent callers share
// one request to the provider. After a failure it pauses before the next request, and
// returns the old token while that is valid. It is safe for concurrent use.
type Source struct {
	base   *http.Client
	prover *prover
	// interactionID is Config.InteractionID.
	interactionID func(context.Context) string
	renew         func(context.Context, *Tokens) (*Tokens, error)
	onRefresh     func(context.Context, *Tokens) error
	flight        flight[*Tokens]

	mu       sync.Mutex
	tokens   *Tokens
	unsaved  bool // onRefresh has not stored the tokens yet
	failure  error
	failures int
	retryAt  time.Time
}

// Format keeps tokens out of logs and error messages, for every verb.
func (s *Source) Format(state fmt.State, _ rune) { io.WriteString(state, "[token source]") }

// Source returns a source that starts with t and renews the tokens with their refresh token.
// onRefresh, if not nil, must store the new tokens: the old refresh token may be used up. It
// is called before any caller gets them. If it fails, waiting callers get the error, and the
// next caller calls it again.
func (c *Client) Source(t *Tokens, onRefresh func(context.Context, *Tokens) error) *Source {
	return &Source{base: c.config.HTTPClient, prover: c.prover, interactionID: c.config.InteractionID, renew: c.Refresh, onRefresh: onRefresh, tokens: t}
}

// Tokens returns tokens with a valid access token. It renews them if necessary. If ctx is
// done, this caller stops waiting, but the shared request continues. The returned value is
// shared: do not change it.
//
// The error wraps ErrSignInAgain if the tokens cannot be renewed. Further calls then fail
// without a request.
func (s *Source) Tokens(ctx context.Context) (*Tokens, error) {
	if tokens, err := s.held(time.Now()); tokens != nil || err != nil {
		return tokens, err
	}
	return s.flight.do(ctx, s.next)
}

// held returns the result if no request is needed, else nil, nil.
func (s *Source) held(now time.Time) (*Tokens, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.unsaved:
		return nil, nil
	case s.tokens.freshAt(now):
		return s.tokens, nil
	case s.failure == nil || !errors.Is(s.failure, ErrSignInAgain) && !now.Before(s.retryAt):
		return nil, nil
	case s.tokens.validAt(now):
		return s.tokens, nil
	}
	return nil, s.failure
}

// next renews the tokens. Only one call runs at a time.
func (s *Source) next(ctx context.Context) (*Tokens, error) {
	// Another call may have completed since the caller checked.
	if tokens, err := s.held(time.Now()); tokens != nil || err != nil {
		return tokens, err
	}
	s.mu.Lock()
	tokens, unsaved := s.tokens, s.unsaved
	s.mu.Unlock()
	if !unsaved {
		renewed, err := s.renew(ctx, tokens)
		if err != nil {
			return s.failed(err, time.Now())
		}
		tokens = renewed
	}
	s.mu.Lock()
	s.tokens, s.unsaved = tokens, s.onRefresh != nil
	s.failure, s.failures = nil, 0
	s.mu.Unlock()
	if s.onRefresh == nil {
		return tokens, nil
	}
	if err := s.onRefresh(ctx, tokens); err != nil {
		return nil, fmt.Errorf("client: store refreshed tokens: %w", err)
	}
	s.mu.Lock()
	s.unsaved = false
	s.mu.Unlock()
	return tokens, nil
}

func (s *Source) failed(err error, now time.Time) (*Tokens, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pause := min(firstPause<<min(s.failures, 10), longestPause)
	pause += rand.N(pause / 2) // so that many clients do not retry at the same time
	if e, ok := errors.AsType[*Error](err); ok {
		pause = max(pause, e.RetryAfter)
	}
	s.failure, s.failures, s.retryAt = err, s.failures+1, now.Add(pause)
	if s.tokens.validAt(now) {
		return s.tokens, nil
	}
	return nil, err
}

func (t *Tokens) validAt(now time.Time) bool {
	return t != nil && t.AccessToken != "" && (t.Expiry.IsZero() || now.Before(t.Expiry))
}

func (t *Tokens) freshAt(now time.Time) bool {
	if t == nil || t.AccessToken == "" || t.Expiry.IsZero() {
		return t != nil && t.AccessToken != ""
	}
	early := min(earlyRenewal, t.Expiry.Sub(t.Issued)/10)
	return now.Before(t.Expiry.Add(-early))
}

// TokenSource returns s as an oauth2.TokenSource. Its calls stop waiting when ctx is done.
func (s *Source) TokenSource(ctx context.Context) oauth2.TokenSource {
	return tokenSource{ctx, s}
}

type tokenSource struct {
	ctx    context.Context
	source *Source
}

func (t tokenSource) Token() (*oauth2.Token, error) {
	tokens, err := t.source.Tokens(t.ctx)
	if err != nil {
		return nil, err
	}
	return tokens.OAuth2(), nil
}

// HTTPClient returns a client that adds the access token to each request, like Transport, and
// uses the transport of Config.HTTPClient.
func (s *Source) HTTPClient() *http.Client {
	base := http.DefaultTransport
	if s.base != nil && s.base.Transport != nil {
		base = s.base.Transport
	}
	return &http.Client{Transport: s.Transport(base)}
}

// Transport returns a RoundTripper that adds the access token to each request, with a proof if the
// token is bound to a key, and sends it with base; nil means http.DefaultTransport. It returns an
// error instead of sending the token unencrypted, except on loopback (RFC 6750, section 5.3), or to
// the target of a redirect to another origin.
func (s *Source) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &bearerTransport{base, s}
}

type bearerTransport struct {
	base   http.RoundTripper
	source *Source
}

func (b *bearerTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	refuse := func(err error) (*http.Response, error) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	if !secure(req.URL) {
		return refuse(errors.New("client: access tokens are sent over https only (RFC 6750, section 5.3): use an https URL for the API"))
	}
	if leavesOrigin(req) {
		return refuse(errors.New("client: the API redirects to another origin, which must not get the access token"))
	}
	tokens, err := b.source.Tokens(req.Context())
	if err != nil {
		return refuse(err)
	}
	with := req.Clone(req.Context())
	setInteractionID(with, b.source.interactionID)
	resp, err := b.source.prover.roundTrip(b.base, with, tokens)
	if resp != nil {
		resp.Request = req // leavesOrigin needs it to find the redirected request
	}
	return resp, err
}

// leavesOrigin reports whether a request follows a redirect from another origin. net/http sets
// Response to the redirect that caused the request.
func leavesOrigin(req *http.Request) bool {
	for r := req; r.Response != nil; r = r.Response.Request {
		before := r.Response.Request
		if before == nil || before.URL.Scheme != req.URL.Scheme || before.URL.Host != req.URL.Host {
			return true
		}
	}
	return false
}
