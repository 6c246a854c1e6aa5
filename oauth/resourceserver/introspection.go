package resourceserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

const (
	// maxTokenBytes limits the tokens that are sent to the introspection endpoint.
	maxTokenBytes = 16 << 10
	// At most maxCachedResponses of at most maxCachedBytes each are cached.
	maxCachedResponses = 10_000
	maxCachedBytes     = 4 << 10
)

// introspect validates a token at the introspection endpoint (RFC 7662). If the endpoint
// cannot be reached, the token is not accepted.
func (s *ResourceServer) introspect(ctx context.Context, token string) (*Token, error) {
	if s.config.ClientID == "" {
		return nil, invalid("is not a JWT, and this API does not use introspection")
	}
	if len(token) > maxTokenBytes {
		return nil, invalid("is too long")
	}
	now := time.Now()
	hash := sha256.Sum256([]byte(token))
	if response, ok := s.responses.get(hash, now); ok {
		return s.fromIntrospection(response, now)
	}
	response, err := s.introspectOnce(ctx, hash, token)
	if err != nil {
		return nil, fmt.Errorf("introspect: %w", err)
	}
	t, err := s.fromIntrospection(response, now)
	if err != nil {
		return nil, err
	}
	until := now.Add(s.config.IntrospectionCache)
	if !t.Expires.IsZero() && t.Expires.Before(until) {
		until = t.Expires
	}
	if until.After(now) && len(response) <= maxCachedBytes {
		s.responses.put(hash, response, now, until)
	}
	return t, nil
}

// introspectOnce lets concurrent requests with the same token share one introspection request,
// unless caching is off.
func (s *ResourceServer) introspectOnce(ctx context.Context, hash [sha256.Size]byte, token string) ([]byte, error) {
	if s.config.IntrospectionCache <= 0 {
		return s.requestIntrospection(ctx, token)
	}
	asked := s.asking.DoChan(string(hash[:]), func() (any, error) {
		// The client of the first request may disconnect while the others still wait.
		return caught(func() (any, error) { return s.requestIntrospection(context.WithoutCancel(ctx), token) })
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case response := <-asked:
		if response.Err != nil {
			return nil, response.Err
		}
		return response.Val.([]byte), nil
	}
}

func (s *ResourceServer) requestIntrospection(ctx context.Context, token string) ([]byte, error) {
	metadata, err := s.main.documents.serverMetadata(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.main.documents.checkEndpoint(metadata.IntrospectionEndpoint); err != nil {
		return nil, fmt.Errorf("introspection_endpoint: %w", err)
	}
	form := url.Values{"token": {token}, "token_type_hint": {oauth.TokenTypeHintAccessToken}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, metadata.IntrospectionEndpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	accept := "application/json"
	if s.config.RequireSignedIntrospection {
		accept = introspectionJWT
	}
	request.Header.Set("Accept", accept)
	// RFC 6749, section 2.3.1: both parts are form-encoded first.
	request.SetBasicAuth(url.QueryEscape(s.config.ClientID), url.QueryEscape(s.config.ClientSecret))
	sent := time.Now()
	response, _, err := s.main.documents.send(request)
	if err != nil && ctx.Err() == nil {
		s.main.documents.forget() // the endpoint may have changed
	}
	if err != nil || !s.config.RequireSignedIntrospection {
		return response, err
	}
	return s.openIntrospection(ctx, string(response), sent)
}

func (s *ResourceServer) fromIntrospection(response []byte, now time.Time) (*Token, error) {
	t, claims, err := readToken(response, nil)
	if err != nil {
		return nil, fmt.Errorf("introspect: read the response: %w", err)
	}
	active, ok := t.Claims["active"].(bool)
	if !ok {
		return nil, errors.New("introspect: the response does not say whether the token is active")
	}
	if !active {
		return nil, invalid("is not active")
	}
	if kind, ok := t.Claims["token_type"]; ok && kind != "access_token" {
		// The type does not decide how the token may be used; cnf does.
		name, _ := kind.(string)
		bound := strings.EqualFold(name, oauth.TokenTypeDPoP) && t.Confirmation != nil && t.Confirmation.JWKThumbprint != ""
		if !bound && !strings.EqualFold(name, oauth.TokenTypeBearer) {
			return nil, invalid("is not a bearer token")
		}
	}
	if claims.Issuer == "" { // optional here; the response comes from the issuer itself
		claims.Issuer, t.Issuer = s.config.Issuer, s.config.Issuer
	}
	return s.check(t, claims, s.main, now)
}

// responseCache caches a limited number of responses with "active": true by the hash of the
// token. It keeps the encoded responses and decodes them for each request, so that requests
// cannot change each other's claims.
type responseCache struct {
	mu      sync.Mutex
	entries map[[sha256.Size]byte]cachedResponse
}

type cachedResponse struct {
	response []byte
	until    time.Time
}

func (c *responseCache) get(hash [sha256.Size]byte, now time.Time) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry, ok := c.entries[hash]
	if !ok || !now.Before(entry.until) {
		return nil, false
	}
	return entry.response, true
}

func (c *responseCache) put(hash [sha256.Size]byte, response []byte, now, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxCachedResponses {
		for key, entry := range c.entries {
			if !now.Before(entry.until) {
				delete(c.entries, key)
			}
		}
	}
	if c.entries == nil || len(c.entries) >= maxCachedResponses {
		c.entries = make(map[[sha256.Size]byte]cachedResponse)
	}
	c.entries[hash] = cachedResponse{response, until}
}
