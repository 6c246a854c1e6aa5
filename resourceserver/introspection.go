package resourceserver

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// maxTokenBytes bounds what is sent to the introspection endpoint.
const maxTokenBytes = 16 << 10

// introspect asks the authorization server about a token (RFC 7662). If it does not
// answer, nobody is let through.
func (s *ResourceServer) introspect(ctx context.Context, token string) (*Token, error) {
	if s.config.ClientID == "" {
		return nil, invalid("is not a JWT that this API could check")
	}
	if len(token) > maxTokenBytes {
		return nil, invalid("is too long")
	}
	now := time.Now()
	hash := sha256.Sum256([]byte(token))
	if t, ok := s.answers.get(hash, now); ok {
		return t, nil
	}
	answer, err := s.ask(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("introspect: %w", err)
	}
	t, err := s.fromIntrospection(answer, now)
	if err != nil {
		return nil, err
	}
	if life := s.config.IntrospectionCache; life > 0 {
		until := now.Add(life)
		if !t.Expires.IsZero() && t.Expires.Before(until) {
			until = t.Expires
		}
		s.answers.put(hash, t, now, until)
	}
	return t, nil
}

func (s *ResourceServer) ask(ctx context.Context, token string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	metadata, err := s.issuer.serverMetadata(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkEndpoint(metadata.IntrospectionEndpoint); err != nil {
		return nil, err
	}
	form := url.Values{"token": {token}, "token_type_hint": {oauth.TokenTypeHintAccessToken}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, metadata.IntrospectionEndpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	// RFC 6749, section 2.3.1: both parts are form-encoded first.
	request.SetBasicAuth(url.QueryEscape(s.config.ClientID), url.QueryEscape(s.config.ClientSecret))
	return s.issuer.send(request)
}

func (s *ResourceServer) fromIntrospection(answer []byte, now time.Time) (*Token, error) {
	var in oauth.Introspection
	all := map[string]any{}
	if err := errors.Join(json.Unmarshal(answer, &in), json.Unmarshal(answer, &all)); err != nil {
		return nil, fmt.Errorf("introspect: the answer cannot be read: %w", err)
	}
	expires := time.Time{}
	if in.Expiry != 0 {
		expires = time.Unix(in.Expiry, 0)
	}
	switch {
	case !in.Active:
		return nil, invalid("is not active")
	case in.Issuer != "" && in.Issuer != s.config.Issuer:
		return nil, invalid("was issued by another server")
	case !in.Audience.Has(s.config.Resource):
		return nil, invalid("is meant for another API")
	case !expires.IsZero() && !now.Before(expires):
		return nil, invalid("has expired")
	case in.NotBefore != 0 && time.Unix(in.NotBefore, 0).Sub(now) > s.config.ClockSkew:
		return nil, invalid("is not valid yet")
	case in.TokenType != "" && !strings.EqualFold(in.TokenType, oauth.TokenTypeBearer) && in.TokenType != "access_token":
		return nil, invalid("is not a bearer token")
	}
	scope, err := oauth.ParseScope(in.Scope)
	if err != nil {
		return nil, invalid("has a malformed scope")
	}
	t := &Token{
		Subject: in.Subject, ClientID: in.ClientID, Scope: scope, Audience: in.Audience,
		Expires: expires, ID: in.ID, ACR: in.ACR, Claims: all,
	}
	if in.AuthTime != 0 {
		t.AuthTime = time.Unix(in.AuthTime, 0)
	}
	return t, nil
}

// answerCache keeps answers "active" by the hash of the token, a bounded number of them.
type answerCache struct {
	mu      sync.Mutex
	entries map[[sha256.Size]byte]cachedAnswer
}

type cachedAnswer struct {
	token *Token
	until time.Time
}

const maxCachedAnswers = 10_000

func (c *answerCache) get(hash [sha256.Size]byte, now time.Time) (*Token, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry, ok := c.entries[hash]
	if !ok || !now.Before(entry.until) {
		return nil, false
	}
	return entry.token, true
}

func (c *answerCache) put(hash [sha256.Size]byte, t *Token, now, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxCachedAnswers {
		for key, entry := range c.entries {
			if !now.Before(entry.until) {
				delete(c.entries, key)
			}
		}
	}
	if c.entries == nil || len(c.entries) >= maxCachedAnswers {
		c.entries = make(map[[sha256.Size]byte]cachedAnswer)
	}
	c.entries[hash] = cachedAnswer{t, until}
}
