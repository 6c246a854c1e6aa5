package client_test

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

// ID tokens from the SDK of a native application or from One Tap.
func TestVerifyIDToken(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, nil)
	now := time.Now()
	hour := time.Hour
	base := map[string]any{"iss": p.issuer, "sub": "alice", "aud": clientID, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	for name, test := range map[string]struct {
		claims  map[string]any
		options client.IDTokenOptions
		good    bool
	}{
		"without a nonce":             {good: true},
		"the expected nonce":          {claims: map[string]any{"nonce": "n"}, options: client.IDTokenOptions{Nonce: "n"}, good: true},
		"another nonce":               {claims: map[string]any{"nonce": "m"}, options: client.IDTokenOptions{Nonce: "n"}},
		"a missing nonce":             {options: client.IDTokenOptions{Nonce: "n"}},
		"an unexpected nonce":         {claims: map[string]any{"nonce": "n"}},
		"the SDK's own nonce":         {claims: map[string]any{"nonce": "n"}, options: client.IDTokenOptions{InsecureAnyNonce: true}, good: true},
		"azp of the Android app":      {claims: map[string]any{"azp": "android"}, options: client.IDTokenOptions{ClientIDs: []string{"android"}}, good: true},
		"azp of another app":          {claims: map[string]any{"azp": "mallory"}, options: client.IDTokenOptions{ClientIDs: []string{"android"}}},
		"for the iOS app":             {claims: map[string]any{"aud": "ios", "azp": "ios"}, options: client.IDTokenOptions{ClientIDs: []string{"ios"}}, good: true},
		"for the iOS app, not listed": {claims: map[string]any{"aud": "ios"}},
		"expired":                     {claims: map[string]any{"exp": now.Add(-2 * time.Minute).Unix()}},
		"of another provider":         {claims: map[string]any{"iss": "https://evil.example"}},
		"signed in long ago":          {claims: map[string]any{"auth_time": now.Add(-2 * time.Hour).Unix()}, options: client.IDTokenOptions{MaxAge: &hour}},
		"signed in a minute ago":      {claims: map[string]any{"auth_time": now.Add(-time.Minute).Unix()}, options: client.IDTokenOptions{MaxAge: &hour}, good: true},
		"with another access token":   {claims: map[string]any{"at_hash": "77QmUPtjPfzWtF2AnpK9RQ"}, options: client.IDTokenOptions{AccessToken: "a"}},
	} {
		claims := maps.Clone(base)
		maps.Copy(claims, test.claims)
		id, err := c.VerifyIDToken(t.Context(), p.sign(claims), test.options)
		switch {
		case test.good && (err != nil || id.Subject != "alice"):
			t.Errorf("%s: %v", name, err)
		case !test.good && !errors.Is(err, client.ErrIDToken):
			t.Errorf("%s: got %v, want ErrIDToken", name, err)
		}
	}
	forged := signES256(t, newKey(t), map[string]any{"alg": "ES256", "kid": "one"}, base)
	if _, err := c.VerifyIDToken(t.Context(), forged, client.IDTokenOptions{}); !errors.Is(err, client.ErrIDToken) {
		t.Errorf("forged: %v", err)
	}
	access := signES256(t, p.key, map[string]any{"alg": "ES256", "kid": "one", "typ": "at+jwt"}, base)
	if _, err := c.VerifyIDToken(t.Context(), access, client.IDTokenOptions{}); !errors.Is(err, client.ErrIDToken) {
		t.Errorf("an access token: %v", err)
	}
}
