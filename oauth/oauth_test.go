package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// RFC 7636, appendix B.
func TestPKCEExample(t *testing.T) {
	const verifier, challenge = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	if got := S256Challenge(verifier); got != challenge {
		t.Errorf("the challenge is %s", got)
	}
	if !VerifyS256(challenge, verifier) || VerifyS256(challenge, challenge) || VerifyS256("", verifier) {
		t.Error("VerifyS256 returns a wrong result")
	}
	if v := NewCodeVerifier(); !ValidCodeVerifier(v) || v == NewCodeVerifier() {
		t.Errorf("a new verifier is %q", v)
	}
	if ValidS256Challenge(challenge+"=") || ValidS256Challenge(challenge[:42]+"N") || !ValidS256Challenge(challenge) {
		t.Error("ValidS256Challenge returns a wrong result")
	}
}

// RFC 6750, section 3, and RFC 9110, section 11.6.1.
func TestChallengeExamples(t *testing.T) {
	got := NewChallenge("Bearer", "realm", "example", "error", "invalid_token", "error_description", "The access token expired", "scope", "")
	if got.String() != `Bearer realm="example", error="invalid_token", error_description="The access token expired"` {
		t.Errorf("%s", got)
	}
	parsed := ParseChallenges(`Basic realm="simple", Newauth realm="apps", type=1, title="Login to \"apps\""`)
	want := []Challenge{
		{Scheme: "Basic", Params: []ChallengeParam{{"realm", "simple"}}},
		{Scheme: "Newauth", Params: []ChallengeParam{{"realm", "apps"}, {"type", "1"}, {"title", `Login to "apps"`}}},
	}
	if diff := cmp.Diff(want, parsed); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if injected := NewChallenge("Bearer", "realm", "a\"\r\nX: y\\é").String(); injected != `Bearer realm="a\"??X: y\\?"` {
		t.Errorf("%s", injected)
	}
}

func TestScopeSets(t *testing.T) {
	scope, err := ParseScope(" openid  profile openid ")
	if err != nil || scope.String() != "openid profile" {
		t.Fatalf("%q (%v)", scope, err)
	}
	other := Scope{"profile", "email"}
	for got, want := range map[string]string{
		scope.Intersect(other).String(): "profile", scope.Without(other).String(): "openid", scope.Union(other).String(): "openid profile email",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if scope.Covers(other) || !scope.Covers(Scope{"openid"}) || !scope.Covers(nil) {
		t.Error("Covers returns a wrong result")
	}
}

// OpenID Connect Core, section 5.5.
func TestClaimsRequestExample(t *testing.T) {
	c, err := ParseClaimsRequest(`{"userinfo": {"given_name": {"essential": true}, "nickname": null, "http://example.info/claims/groups": null},
		"id_token": {"auth_time": {"essential": true}, "acr": {"values": ["urn:mace:incommon:iap:silver"]}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Userinfo) != 3 || !c.Userinfo["given_name"].Essential || c.Userinfo["nickname"] != nil {
		t.Errorf("%+v", c.Userinfo)
	}
	acr := c.IDToken["acr"]
	if !acr.Accepts("urn:mace:incommon:iap:silver") || acr.Accepts("other") || !c.IDToken["auth_time"].Accepts(1) || !c.IDToken["absent"].Accepts("x") {
		t.Errorf("%+v", c.IDToken)
	}
	for _, bad := range []string{"", "{", "[]", `"x"`, `{"id_token": 1}`, `{} {}`} {
		if _, err := ParseClaimsRequest(bad); AsError(err) == nil {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestErrorsAreSafeToSend(t *testing.T) {
	err := fmt.Errorf("redeem: %w", NewError(InvalidGrant, "a\"b\\c\nd é").WithCause(errors.New("the cause")))
	e := AsError(err)
	if e == nil || e.Description != "a'b'c'd '" || e.HTTPStatus() != 400 {
		t.Errorf("%+v", e)
	}
	if !errors.Is(err, &Error{Code: InvalidGrant}) || errors.Is(err, &Error{Code: InvalidClient}) {
		t.Error("errors.Is does not compare the code")
	}
}

// RFC 8414, section 3.1.
func TestWellKnownURL(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://example.com":         "https://example.com/.well-known/oauth-authorization-server",
		"https://example.com/issuer1": "https://example.com/.well-known/oauth-authorization-server/issuer1",
	} {
		if got, err := WellKnownURL(issuer, WellKnownAuthorizationServer); err != nil || got != want {
			t.Errorf("%s: %s (%v)", issuer, got, err)
		}
	}
}

// RFC 7519, section 4.1.3.
func TestAudienceIsAStringOrAnArray(t *testing.T) {
	for text, want := range map[string]Audience{`"a"`: {"a"}, `["a","b"]`: {"a", "b"}} {
		var got Audience
		if err := json.Unmarshal([]byte(text), &got); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v (%v)", text, got, err)
		}
		if written, err := json.Marshal(got); err != nil || string(written) != text {
			t.Errorf("%s is encoded as %s (%v)", text, written, err)
		}
	}
	if err := json.Unmarshal([]byte(`{"a":1}`), new(Audience)); err == nil {
		t.Error("an object is accepted as an audience")
	}
}
