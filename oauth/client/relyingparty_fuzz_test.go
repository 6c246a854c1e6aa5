package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

func FuzzLocalPath(f *testing.F) {
	for _, seed := range []string{"/", "/a?b#c", "//x", `/\x`, "/\t/x", "https://x", "/%2f%2fx", "/a/../..//x", "//@"} {
		f.Add(seed)
	}
	base, err := url.Parse("https://app.example/auth/callback")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, given string) {
		got := localPath(given, "")
		if got == "" {
			return
		}
		// Browsers do this before they resolve a reference.
		seen := strings.NewReplacer("\t", "", "\r", "", "\n", "", `\`, "/").Replace(strings.TrimSpace(got))
		u, err := base.Parse(seen)
		if err != nil || u.Host != "app.example" || u.Scheme != "https" || u.User != nil || strings.HasPrefix(u.Path, "//") {
			t.Errorf("%q leads to %v", given, u)
		}
	})
}

func FuzzLogoutTokenClaims(f *testing.F) {
	f.Add(`{"iss":"https://op.example","aud":"app","iat":1,"exp":2,"jti":"j","sid":"s","events":{"http://schemas.openid.net/event/backchannel-logout":{}}}`)
	f.Add(`{"iss":"https://op.example","aud":["app"],"sub":"a","events":[]}`)
	c, err := New(oauth.ServerMetadata{Issuer: "https://op.example"}, Config{Issuer: "https://op.example", ClientID: "app"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		logout, err := c.checkLogoutTokenClaims([]byte(payload), time.Unix(1, 0))
		if err == nil && (logout.Issuer != "https://op.example" || logout.ID == "" || logout.Subject+logout.SessionID == "") {
			t.Errorf("taken: %+v", logout)
		}
	})
}

func FuzzNormalizeIdentifier(f *testing.F) {
	for _, seed := range []string{"alice@example.com", "acct:a@b@example.com:8443", "https://example.com/a?b#c", "example.com", "//@", "acct:@", "a@[::1]", "https://u:p@example.com"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, identifier string) {
		resource, host, err := normalizeIdentifier(identifier)
		if err != nil {
			return
		}
		u, err := url.Parse("https://" + host + "/.well-known/webfinger")
		if err != nil || u.Host != host || u.User != nil || u.Path != "/.well-known/webfinger" || u.RawQuery != "" {
			t.Errorf("%q: request to host %q", identifier, host)
		}
		if !strings.HasPrefix(resource, "acct:") && !strings.HasPrefix(resource, "https:") || strings.Contains(resource, "#") && !strings.HasPrefix(resource, "acct:") {
			t.Errorf("%q: request for resource %q", identifier, resource)
		}
	})
}

// nowhere fails every request.
type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("nowhere") }

func FuzzOtherClaims(f *testing.F) {
	f.Add(`{"_claim_names":{"a":"s"},"_claim_sources":{"s":{"JWT":"eyJhbGciOiJub25lIn0.eyJhIjoxfQ."}}}`)
	f.Add(`{"_claim_names":{"a":"s"},"_claim_sources":{"s":{"endpoint":"https://x.example/","access_token":"t"}}}`)
	c, err := New(oauth.ServerMetadata{Issuer: "https://op.example", JWKSURI: "https://op.example/jwks"},
		Config{Issuer: "https://op.example", ClientID: "app", HTTPClient: &http.Client{Transport: nowhere{}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, claims string) {
		// No JWT can be verified, so there are no claims.
		if found, _ := c.OtherClaims(t.Context(), json.RawMessage(claims)); len(found) > 0 {
			t.Errorf("found %v", found)
		}
	})
}
