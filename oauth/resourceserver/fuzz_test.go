package resourceserver

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// No Authorization header is accepted except those with the valid token.
func FuzzAuthorization(f *testing.F) {
	p := newProvider(f)
	h := p.guard(f, introspecting).Require()(whoami)
	good := p.token(f, "at+jwt", map[string]any{"exp": 253402300799})
	for _, field := range []string{"Bearer " + good, "bearer  " + good, "Bearer x", "Basic YTpi", "Bearer", "", "Bearer " + good + "=", "DPoP " + good} {
		f.Add(field)
	}
	f.Fuzz(func(t *testing.T, field string) {
		scheme, token, _ := strings.Cut(field, " ")
		isGood := strings.EqualFold(scheme, "Bearer") && strings.TrimLeft(token, " ") == good
		challenge := "Bearer"
		if strings.EqualFold(scheme, "DPoP") {
			challenge = "DPoP"
		}
		switch w := call(h, field); {
		case w.Code == http.StatusOK && !isGood:
			t.Errorf("%q was accepted", field)
		case w.Code != http.StatusOK && isGood:
			t.Errorf("%q: status %d", field, w.Code)
		case w.Code >= 500:
			t.Errorf("%q: status %d", field, w.Code)
		case w.Code != http.StatusOK && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), challenge):
			t.Errorf("%q: status %d without a challenge", field, w.Code)
		}
	})
}

// An introspection response results in a token for this API, or in an error.
func FuzzIntrospectionResponse(f *testing.F) {
	s := newProvider(f).guard(f, introspecting)
	for _, response := range []string{
		`{"active":true,"aud":"` + testResource + `","sub":"alice","scope":"a b","exp":253402300799}`,
		`{"active":false}`, `{"active":true,"active":false}`, `[]`, `{"active":true,"aud":["x"]}`,
		`{"active":true,"aud":"https://API.example.com/notes"}`, // the same resource (RFC 3986, section 6.2.3)
	} {
		f.Add([]byte(response))
	}
	f.Fuzz(func(t *testing.T, response []byte) {
		token, err := s.fromIntrospection(response, time.Unix(1_800_000_000, 0))
		if (token == nil) == (err == nil) {
			t.Fatalf("%v and %v", token, err)
		}
		here := func(audience string) bool { return oauth.SameResource(audience, testResource) }
		if err == nil && (token.Claims["active"] != true || !slices.ContainsFunc(token.Audience, here)) {
			t.Errorf("accepted %q", response)
		}
	})
}
