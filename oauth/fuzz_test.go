package oauth

import (
	"net/url"
	"strings"
	"testing"
)

func FuzzParseScope(f *testing.F) {
	for _, seed := range []string{"openid profile", " a  b ", "a a", `"`, "é", strings.Repeat("a ", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		scope, err := ParseScope(s)
		if err != nil {
			return
		}
		again, err := ParseScope(scope.String())
		if err != nil || again.String() != scope.String() || len(scope) > MaxScopes {
			t.Errorf("%q parses as %q, and then as %q (%v)", s, scope, again, err)
		}
	})
}

func FuzzParseChallenges(f *testing.F) {
	for _, seed := range []string{
		`Bearer realm="example", error="invalid_token"`, `Basic realm=x, Bearer error="a\"b"`, `Negotiate a87421==`, `Bearer a="`, `,,=`, `a b=c d=e`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		for _, c := range ParseChallenges(field) {
			if c.Scheme == "" {
				t.Fatalf("%q has a challenge without a scheme", field)
			}
			written := c.String()
			again := ParseChallenges(written)
			if len(again) != 1 || again[0].String() != written {
				t.Errorf("%q is encoded as %q, which parses as %+v", field, written, again)
			}
		}
	})
}

// A matching URI has the host and the path of the registered one.
func FuzzMatchRedirectURI(f *testing.F) {
	f.Add("http://127.0.0.1/cb", "http://127.0.0.1:1234/cb")
	f.Add("http://[::1]/cb?x", "http://[::1]:1/cb?x")
	f.Add("http://127.0.0.1/cb", "http://127.0.0.1:1234@evil.test/cb")
	f.Add("https://app.example/cb", "https://app.example/cb")
	f.Add("http://127.0.0.1", "http://127.0.0.1:99999")
	f.Fuzz(func(t *testing.T, registered, requested string) {
		if CheckRedirectURI(registered, ApplicationNative) != nil || !MatchRedirectURI(registered, requested) {
			return
		}
		want, err := url.Parse(registered)
		if err != nil {
			t.Fatalf("%q is accepted for registration but cannot be parsed", registered)
		}
		got, err := url.Parse(requested)
		if err != nil || got.Hostname() != want.Hostname() || got.Scheme != want.Scheme || got.EscapedPath() != want.EscapedPath() || got.RawQuery != want.RawQuery || got.User != nil || got.Fragment != "" {
			t.Errorf("%q matches %q (%v)", requested, registered, err)
		}
	})
}

// A redirect URI that is accepted has an unambiguous host.
func FuzzCheckRedirectURI(f *testing.F) {
	for _, seed := range []string{"https://app.example/cb", "javascript:alert(1)", "http://127.0.0.1:1/cb", "com.example.app:/cb", "https://a@b/", "https://a/../b", "\tjavascript:x", "https:\\\\evil"} {
		f.Add(seed, ApplicationWeb)
		f.Add(seed, ApplicationNative)
	}
	f.Fuzz(func(t *testing.T, uri, applicationType string) {
		if CheckRedirectURI(uri, applicationType) != nil {
			return
		}
		u, err := url.Parse(uri)
		if err != nil || u.User != nil || u.Fragment != "" || strings.ContainsAny(uri, " \t\r\n\\#<>\"") {
			t.Fatalf("%q is accepted (%v)", uri, err)
		}
		switch u.Scheme {
		case "https":
		case "http":
			if !IsLoopbackHost(u.Hostname()) {
				t.Errorf("%q is accepted", uri)
			}
		default:
			if applicationType != ApplicationNative || !strings.Contains(u.Scheme, ".") {
				t.Errorf("%q is accepted for %q", uri, applicationType)
			}
		}
	})
}

func FuzzParseClaimsRequest(f *testing.F) {
	for _, seed := range []string{
		`{"userinfo":{"given_name":{"essential":true},"nickname":null},"id_token":{"auth_time":{"essential":true},"acr":{"values":["urn:mace:incommon:iap:silver"]}}}`,
		`{}`, `null`, `[]`, `{"id_token":{"sub":{"value":"248289761001"}}}`, strings.Repeat(`{"a":`, 50), `{"id_token":{"a":{"value":{"b":[1]}}}} x`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseClaimsRequest(s)
		if err != nil {
			if AsError(err) == nil {
				t.Errorf("%q: %v is not a protocol error", s, err)
			}
			return
		}
		for _, r := range c.IDToken {
			r.Accepts("x")
			r.Strings()
		}
	})
}
