package doctor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/probe"
	"github.com/valetkey/valetkey/oauth/jose"
)

const (
	// slowSignature is many times what an ES256 signature takes on a slow machine.
	slowSignature = 20 * time.Millisecond
	// slowExternal is the same for a signer on another machine.
	slowExternal = 500 * time.Millisecond
	// maxKeyCache is the longest that a key set may be cached: after a leak, a revoked key is accepted
	// for so long.
	maxKeyCache = time.Hour
	// usualRotation is the default of lifetimes.key_rotation.
	usualRotation = 90 * 24 * time.Hour
)

// checkKeys reads the published keys as clients do.
func (r *run) checkKeys(ctx context.Context) string {
	if r.metadata == nil {
		return noMetadata
	}
	received, err := r.get(ctx, r.metadata.JWKSURI)
	if err != nil {
		r.find("jwks.unusable", "%s: %v", r.metadata.JWKSURI, err)
		return ""
	}
	if received.status != http.StatusOK {
		r.find("jwks.unusable", "%d for %s", received.status, r.metadata.JWKSURI)
		return ""
	}
	keys, err := jose.ParseKeySet(received.body)
	if err != nil || !keys.Verifies() {
		r.find("jwks.unusable", "%s: %v", r.metadata.JWKSURI, cmp.Or(err, errors.New("no key verifies signatures")))
		return ""
	}
	maxAge, cached := maxAgeOf(received.header.Get("Cache-Control"))
	switch {
	case !cached:
		r.find("jwks.not_cacheable", "Cache-Control: %q", received.header.Get("Cache-Control"))
	case maxAge > maxKeyCache:
		r.find("jwks.cached_too_long", "Cache-Control: %s", received.header.Get("Cache-Control"))
	}
	if age, err := strconv.Atoi(received.header.Get("Age")); err == nil && time.Duration(age)*time.Second > max(maxAge, time.Minute) {
		r.find("jwks.stale", "Age: %d for %s, which may be cached for %v", age, r.metadata.JWKSURI, maxAge)
	}
	if !r.direct {
		return ""
	}
	address, err := url.Parse(r.metadata.JWKSURI)
	if err != nil {
		return err.Error()
	}
	published, err := do(ctx, r.client.direct, http.MethodGet, r.backendURL()+address.RequestURI(), nil, "Host", r.issuer.Host)
	if err == nil && published.status == http.StatusOK && !bytes.Equal(published.body, received.body) {
		r.find("jwks.stale", "%s differs from what the server publishes at %s", r.metadata.JWKSURI, r.backend())
	}
	return ""
}

// maxAgeOf returns the max-age of Cache-Control, and whether the response may be cached.
func maxAgeOf(header string) (time.Duration, bool) {
	for directive := range strings.SplitSeq(header, ",") {
		directive = strings.ToLower(strings.TrimSpace(directive))
		if directive == "no-store" || directive == "no-cache" {
			return 0, false
		}
		if text, ok := strings.CutPrefix(directive, "max-age="); ok {
			seconds, err := strconv.Atoi(text)
			return time.Duration(seconds) * time.Second, err == nil && seconds > 0
		}
	}
	return 0, false
}

// checkSigning verifies a JWT of the server with the published keys, as clients do.
func (r *run) checkSigning(ctx context.Context) string {
	if r.answer == nil && r.directAnswer == nil {
		return r.unanswered()
	}
	a := r.directAnswer
	if a == nil {
		var err error
		if a, _, err = r.ask(ctx, probe.Question{Token: true}, http.MethodGet, "/doctor", nil); err != nil {
			return err.Error()
		}
	}
	if len(a.FailingKeys) > 0 {
		r.find("signing.external_failed", "the last signature with %s failed", strings.Join(a.FailingKeys, ", "))
		return ""
	}
	if a.SignError != "" {
		r.find("signing.failed", "%s", a.SignError)
		return ""
	}
	r.judgeSigning(a)
	if r.metadata == nil {
		return ""
	}
	received, err := r.get(ctx, r.metadata.JWKSURI)
	if err != nil || received.status != http.StatusOK {
		return "" // checkKeys has reported it
	}
	keys, err := jose.ParseKeySet(received.body)
	if err != nil {
		return ""
	}
	if _, _, err := jose.Verify(a.Token, keys, jose.Expected{Algorithms: []jose.Algorithm{jose.ES256}, Types: []string{probe.TokenType}}); err != nil && !r.found("jwks.stale") {
		r.find("signing.key_not_published", "%v, in %s", err, r.metadata.JWKSURI)
	}
	return ""
}

func (r *run) judgeSigning(a *probe.Answer) {
	slow := slowSignature
	if a.SignExternal {
		slow = slowExternal
	}
	if took := time.Duration(a.SignMicroseconds) * time.Microsecond; took > slow {
		r.find("signing.slow", "a signature takes %v", took)
	}
	if a.SignExternal {
		return // the operator decides when such a key is replaced
	}
	rotation := usualRotation
	if c := r.options.Configuration; c != nil && c.Lifetimes.KeyRotation > 0 {
		rotation = time.Duration(c.Lifetimes.KeyRotation)
	}
	if age := a.Time.Sub(a.KeySince); age > rotation+rotation/2 {
		r.find("signing.key_overdue", "the key signs since %s", a.KeySince.UTC().Format(time.DateOnly))
	}
}
