package resourceserver

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

func TestValidTokenReachesTheHandler(t *testing.T) {
	p := newProvider(t)
	s := p.guard(t, nil)
	raw := p.token(t, "at+jwt", map[string]any{
		"aud": []string{"https://other.example.com", testResource}, "acr": "urn:mfa", "auth_time": 1700000000, "extra": "x",
		"authorization_details": json.RawMessage(`[{"type":"payment","amount":12345678901234567890.10}]`),
	})
	got, err := s.Validate(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	if got.Claims["extra"] != "x" {
		t.Errorf("claims %v", got.Claims)
	}
	got.Claims = nil
	want := &Token{
		Issuer: testIssuer, Subject: "alice", ClientID: "app", Scope: oauth.Scope{"notes.read", "notes.write"}, ID: "1", ACR: "urn:mfa",
		Audience: []string{"https://other.example.com", testResource}, AuthTime: time.Unix(1700000000, 0), Expires: got.Expires,
		Details: []json.RawMessage{json.RawMessage(`{"type":"payment","amount":12345678901234567890.10}`)},
	}
	if diff := cmp.Diff(want, got); diff != "" || time.Until(got.Expires) > 5*time.Minute {
		t.Error(diff, got.Expires)
	}
	for _, authorization := range []string{"Bearer " + raw, "bearer " + raw, "BEARER  " + raw} {
		accepted(t, call(s.Require("notes.read")(whoami), authorization), "alice")
	}
	accepted(t, call(s.Require()(whoami), "Bearer "+p.token(t, "application/at+jwt", nil)), "alice")
	if _, ok := TokenFromContext(t.Context()); ok {
		t.Error("a token without a request")
	}
}

func TestRS01_IssuerAndAudienceAreRequired(t *testing.T) {
	for name, config := range map[string]Config{
		"nothing":             {},
		"no resource":         {Issuer: testIssuer},
		"no issuer":           {Resource: testResource},
		"relative resource":   {Issuer: testIssuer, Resource: "/notes"},
		"fragment":            {Issuer: testIssuer, Resource: testResource + "#x"},
		"plain http issuer":   {Issuer: "http://login.example.com", Resource: testResource},
		"issuer with a query": {Issuer: testIssuer + "?x", Resource: testResource},
	} {
		if _, err := New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, issuer := range []string{testIssuer, testIssuer + "/", "http://127.0.0.1:8080/auth"} {
		if _, err := New(Config{Issuer: issuer, Resource: testResource}); err != nil {
			t.Errorf("%s: %v", issuer, err)
		}
	}
}

func TestOnlyConfiguredAlgorithmsAreAccepted(t *testing.T) {
	p := newProvider(t)
	key, err := jose.GenerateKey(jose.EdDSA)
	if err != nil {
		t.Fatal(err)
	}
	if p.keys["ed"], err = jose.NewSigner(jose.EdDSA, "ed", key); err != nil {
		t.Fatal(err)
	}
	token := "Bearer " + p.signed(t, "ed", "at+jwt", claims(nil))
	accepted(t, call(p.guard(t, nil).Require()(whoami), token), "alice")
	strict := p.guard(t, func(c *Config) { c.Algorithms = []jose.Algorithm{jose.ES256} })
	refused(t, call(strict.Require()(whoami), token), http.StatusUnauthorized, oauth.InvalidToken)
}

func TestRS01_EveryClaimIsChecked(t *testing.T) {
	p := newProvider(t)
	h := p.guard(t, nil).Require("notes.read")(whoami)
	now := time.Now().Unix()
	for name, changes := range map[string]map[string]any{
		"no iss":                {"iss": nil},
		"another iss":           {"iss": "https://evil.example.com"},
		"iss with a slash":      {"iss": testIssuer + "/"},
		"no aud":                {"aud": nil},
		"empty aud":             {"aud": []string{}},
		"prefix of aud":         {"aud": strings.TrimSuffix(testResource, "s")},
		"no exp":                {"exp": nil},
		"expired":               {"exp": now - 11},
		"exp as a string":       {"exp": fmt.Sprint(now + 300)},
		"not before":            {"nbf": now + 60},
		"issued in the future":  {"iat": now + 60},
		"no sub":                {"sub": nil},
		"sub as number":         {"sub": 1},
		"scope as array":        {"scope": []string{"notes.read"}},
		"bound to a key":        {"cnf": map[string]string{"jkt": "x"}},
		"auth_time as a string": {"auth_time": "now"},
		"details as an object":  {"authorization_details": map[string]string{"type": "payment"}},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, call(h, "Bearer "+p.token(t, "at+jwt", changes)), http.StatusUnauthorized, oauth.InvalidToken)
		})
	}
	accepted(t, call(h, "Bearer "+p.token(t, "at+jwt", map[string]any{"exp": now - 5, "nbf": now + 5, "iat": now + 5})), "alice")
}

func TestST09_TokenForAnotherResourceIsRefused(t *testing.T) {
	p := newProvider(t)
	h := p.guard(t, nil).Require()(whoami)
	for _, audience := range []any{"https://other.example.com", []string{"https://other.example.com", "app"}, testIssuer} {
		refused(t, call(h, "Bearer "+p.token(t, "at+jwt", map[string]any{"aud": audience})), http.StatusUnauthorized, oauth.InvalidToken)
	}
}

func TestJW21_OtherJWTsAreRejected(t *testing.T) {
	p := newProvider(t)
	h := p.guard(t, nil).Require()(whoami)
	for _, typ := range []string{"", "JWT", "logout+jwt", "client-authentication+jwt", "dpop+jwt", "oauth-authz-req+jwt", "secevent+jwt", "token-introspection+jwt"} {
		w := call(h, "Bearer "+p.token(t, typ, map[string]any{"nonce": "n"}))
		refused(t, w, http.StatusUnauthorized, oauth.InvalidToken)
	}
}

func TestForgedSignaturesAreRefused(t *testing.T) {
	p, thief := newProvider(t), newProvider(t)
	h := p.guard(t, nil).Require()(whoami)
	good := p.token(t, "at+jwt", nil)
	published, err := p.keys["one"].Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	hmac, err := jose.NewSecretSigner(jose.HS256, published)
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(claims(nil))
	confused, err := hmac.Sign("at+jwt", payload)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"another key": thief.token(t, "at+jwt", nil),
		"no alg":      "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + strings.Split(good, ".")[1] + ".",
		"HMAC":        confused,
		"cut":         good[:len(good)-4],
		"opaque":      "vk_at_0123456789",
		"huge":        strings.Repeat("a", 1<<20),
		"dots":        strings.Repeat(".", 1<<16),
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, call(h, "Bearer "+token), http.StatusUnauthorized, oauth.InvalidToken)
		})
	}
}

func TestRS03_ScopesMatchExactly(t *testing.T) {
	p := newProvider(t)
	s := p.guard(t, nil)
	for _, test := range []struct {
		has   any
		needs []string
		ok    bool
	}{
		{"read", []string{"read"}, true},
		{"read write", []string{"write", "read"}, true},
		{"readwrite", []string{"read"}, false},
		{"read", []string{"readwrite"}, false},
		{"read:all", []string{"read"}, false},
		{"READ", []string{"read"}, false},
		{"read", []string{"read", "write"}, false},
		{"", []string{"read"}, false},
		{nil, []string{"read"}, false},
		{nil, nil, true},
		{"read", []string{""}, false},
		{"read,write", []string{"read"}, false},
	} {
		w := call(s.Require(test.needs...)(whoami), "Bearer "+p.token(t, "at+jwt", map[string]any{"scope": test.has}))
		if test.ok {
			accepted(t, w, "alice")
			continue
		}
		challenge := refused(t, w, http.StatusForbidden, oauth.InsufficientScope)
		if got := challenge.Param("scope"); got != strings.Join(test.needs, " ") {
			t.Errorf("scope %q for %q", got, test.needs)
		}
	}
}

func TestRS05_Challenges(t *testing.T) {
	p := newProvider(t)
	s := p.guard(t, nil)
	const metadata = "https://api.example.com/.well-known/oauth-protected-resource/notes"
	bare := refused(t, call(s.Require("notes.read")(whoami)), http.StatusUnauthorized, "")
	if bare.Param("error_description") != "" || bare.Param("resource_metadata") != metadata {
		t.Errorf("without a token: %v", bare)
	}
	// Another scheme is an unsupported authentication method, not an invalid token (RFC 6750,
	// section 3.1).
	refused(t, call(s.Require()(whoami), "Basic YTpi"), http.StatusUnauthorized, "")
	secret := p.token(t, "at+jwt", map[string]any{"iss": "https://evil.example.com", "sub": "sEcReT"})
	w := call(s.Require()(whoami), "Bearer "+secret)
	invalid := refused(t, w, http.StatusUnauthorized, oauth.InvalidToken)
	if invalid.Param("resource_metadata") != metadata {
		t.Errorf("with an invalid token: %v", invalid)
	}
	all := fmt.Sprint(w.Header(), w.Body)
	for _, leak := range []string{secret, "sEcReT", "evil", "go:", ".go"} {
		if strings.Contains(all, leak) {
			t.Errorf("the response contains %q: %s", leak, all)
		}
	}
	if w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control %q", w.Header().Get("Cache-Control"))
	}
}

func TestStepUp(t *testing.T) { // RFC 9470, section 3
	p := newProvider(t)
	h := p.guard(t, nil).RequireToken(Requirement{ACRValues: []string{"mfa", "hw"}, MaxAge: time.Minute})(whoami)
	now := time.Now().Unix()
	for _, test := range []struct {
		name    string
		changes map[string]any
		ok      bool
	}{
		{"strong and fresh", map[string]any{"acr": "hw", "auth_time": now - 10}, true},
		{"weak", map[string]any{"acr": "pwd", "auth_time": now}, false},
		{"no acr", map[string]any{"auth_time": now}, false},
		{"old", map[string]any{"acr": "mfa", "auth_time": now - 61}, false},
		{"no auth_time", map[string]any{"acr": "mfa"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := call(h, "Bearer "+p.token(t, "at+jwt", test.changes))
			if test.ok {
				accepted(t, w, "alice")
				return
			}
			c := refused(t, w, http.StatusUnauthorized, oauth.InsufficientUserAuthentication)
			if c.Param("acr_values") != "mfa hw" || c.Param("max_age") != "60" {
				t.Errorf("challenge %v", c)
			}
		})
	}
}

func TestRS06_TokensOutsideTheHeaderAreIgnored(t *testing.T) {
	p := newProvider(t)
	h := p.guard(t, nil).Require()(whoami)
	token := p.token(t, "at+jwt", nil)
	body := httptest.NewRequest(http.MethodPost, testResource, strings.NewReader("access_token="+token))
	body.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	cookie := httptest.NewRequest(http.MethodGet, testResource, nil)
	cookie.AddCookie(&http.Cookie{Name: "access_token", Value: token})
	proxy := httptest.NewRequest(http.MethodGet, testResource, nil)
	proxy.Header.Set("Proxy-Authorization", "Bearer "+token)
	for name, r := range map[string]*http.Request{
		"query": httptest.NewRequest(http.MethodGet, testResource+"?access_token="+token, nil), "body": body, "cookie": cookie, "proxy": proxy,
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			refused(t, w, http.StatusUnauthorized, "")
		})
	}
}

func TestHP09_OneWellFormedAuthorizationHeader(t *testing.T) {
	p := newProvider(t)
	h := p.guard(t, nil).Require()(whoami)
	token := p.token(t, "at+jwt", nil)
	for _, authorization := range [][]string{
		{"Bearer " + token, "Bearer " + token},
		{"Bearer " + token, "Basic YTpi"},
		{"Basic YTpi", "Bearer " + token},
		{"Bearer " + token + ", Bearer " + token},
		{"Bearer " + token + " " + token},
		{"Bearer"},
		{"Bearer "},
		{"Bearer ="},
		{"Bearer " + token + "\t"},
		{`Bearer "` + token + `"`},
		{"Bearer t\u00f6ken"},
	} {
		refused(t, call(h, authorization...), http.StatusBadRequest, oauth.InvalidRequest)
	}
	r := httptest.NewRequest(http.MethodGet, testResource+"?access_token=x", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	refused(t, w, http.StatusBadRequest, oauth.InvalidRequest)
}

func TestRS07_RequestsAreIsolated(t *testing.T) {
	p := newProvider(t)
	s := p.guard(t, introspecting)
	// A handler that changes its token must not affect other requests.
	api := httptest.NewServer(s.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := TokenFromContext(r.Context())
		subject := token.Subject
		token.Subject, token.Claims["sub"] = "mallory", "mallory"
		token.Scope[0], token.Audience[0] = "admin", "mallory"
		_, _ = io.WriteString(w, subject)
	})))
	defer api.Close()
	var wait sync.WaitGroup
	for n := range 8 {
		subject := fmt.Sprintf("user-%d", n)
		token := "opaque-" + subject
		if n%2 == 0 {
			token = p.token(t, "at+jwt", map[string]any{"sub": subject})
		} else {
			response := claims(map[string]any{"sub": subject, "active": true})
			p.with(func() { p.active[token] = response })
		}
		wait.Go(func() {
			for range 20 {
				r, _ := http.NewRequest(http.MethodGet, api.URL, nil)
				r.Header.Set("Authorization", "Bearer "+token)
				response, err := api.Client().Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				body, _ := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if string(body) != subject {
					t.Errorf("%s: status %d, %s", subject, response.StatusCode, body)
				}
			}
		})
	}
	wait.Wait()
}

func TestMetadata(t *testing.T) { // RFC 9728, section 3
	for resource, path := range map[string]string{
		"https://api.example.com":       "/.well-known/oauth-protected-resource",
		"https://api.example.com/":      "/.well-known/oauth-protected-resource",
		"https://api.example.com/notes": "/.well-known/oauth-protected-resource/notes",
		"urn:example:api":               "/.well-known/oauth-protected-resource",
	} {
		s, err := New(Config{Issuer: testIssuer, Resource: resource, ScopesSupported: []string{"notes.read"}, Name: "Notes"})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.MetadataPath(); got != path {
			t.Errorf("%s: path %s, want %s", resource, got, path)
		}
		w := httptest.NewRecorder()
		s.Metadata().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		var got oauth.ProtectedResourceMetadata
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		want := oauth.ProtectedResourceMetadata{
			Resource: resource, AuthorizationServers: []string{testIssuer}, ScopesSupported: []string{"notes.read"},
			BearerMethodsSupported: []string{"header"}, ResourceName: "Notes",
		}
		if diff := cmp.Diff(want, got); diff != "" || w.Header().Get("Content-Type") != "application/json" {
			t.Error(diff, w.Header())
		}
	}
}
