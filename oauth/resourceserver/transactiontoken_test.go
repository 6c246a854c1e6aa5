package resourceserver

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/oauth"
)

const testTrustDomain = "trust-domain.example"

func transactionGuard(t *testing.T, p *provider) *ResourceServer {
	return p.guard(t, func(c *Config) { c.TrustDomain = testTrustDomain })
}

func transactionClaims(changes map[string]any) map[string]any {
	all := map[string]any{"aud": testTrustDomain, "txn": "97053963-771d-49cc-a4e3-20aad399c312", "req_wl": "apigateway.trust-domain.example", "tctx": map[string]any{"action": "BUY"}, "client_id": nil, "jti": nil}
	for name, value := range changes {
		all[name] = value
	}
	return all
}

func callWithTransaction(handler http.Handler, tokens ...string) *http.Response {
	r := httptest.NewRequest(http.MethodGet, testResource, nil)
	for _, token := range tokens {
		r.Header.Add(TransactionTokenHeader, token)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Result()
}

func TestTransactionTokenReachesTheHandler(t *testing.T) {
	p := newProvider(t)
	raw := p.token(t, "txntoken+jwt", transactionClaims(nil))
	var forwarded string
	handler := transactionGuard(t, p).RequireTransaction("notes.read")(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got, ok := TransactionFromContext(r.Context())
		if !ok {
			t.Fatal("no token")
		}
		if context, _ := got.Claims["tctx"].(map[string]any); context["action"] != "BUY" {
			t.Errorf("claims %v", got.Claims)
		}
		next := httptest.NewRequest(http.MethodGet, testResource, nil)
		got.Forward(next)
		forwarded = next.Header.Get("Txn-Token")
		got.Claims, got.raw = nil, ""
		want := TransactionToken{Transaction: "97053963-771d-49cc-a4e3-20aad399c312", Subject: "alice", Scope: oauth.Scope{"notes.read", "notes.write"}, RequestingWorkload: "apigateway.trust-domain.example", Expires: got.Expires}
		if diff := cmp.Diff(want, *got, cmp.AllowUnexported(TransactionToken{})); diff != "" {
			t.Error(diff)
		}
	}))
	if response := callWithTransaction(handler, raw); response.StatusCode != http.StatusOK {
		t.Errorf("status %d", response.StatusCode)
	}
	if forwarded != raw {
		t.Errorf("the next service got %q", forwarded)
	}
}

func TestTransactionTokenIsRefused(t *testing.T) {
	p := newProvider(t)
	good := p.token(t, "txntoken+jwt", transactionClaims(nil))
	for _, test := range []struct {
		name   string
		tokens []string
		status int
	}{
		{"none", nil, http.StatusUnauthorized},
		{"two", []string{good, good}, http.StatusUnauthorized},
		{"not a JWT", []string{"secret"}, http.StatusUnauthorized},
		{"an access token of the same user", []string{p.token(t, "at+jwt", transactionClaims(nil))}, http.StatusUnauthorized},
		{"a plain JWT", []string{p.token(t, "JWT", transactionClaims(nil))}, http.StatusUnauthorized},
		{"another trust domain", []string{p.token(t, "txntoken+jwt", transactionClaims(map[string]any{"aud": "other.example"}))}, http.StatusUnauthorized},
		{"the API itself as audience", []string{p.token(t, "txntoken+jwt", transactionClaims(map[string]any{"aud": testResource}))}, http.StatusUnauthorized},
		{"another issuer", []string{p.token(t, "txntoken+jwt", transactionClaims(map[string]any{"iss": "https://evil.example.com"}))}, http.StatusUnauthorized},
		{"expired", []string{p.token(t, "txntoken+jwt", transactionClaims(map[string]any{"exp": 1700000000}))}, http.StatusUnauthorized},
		{"without exp", []string{p.token(t, "txntoken+jwt", transactionClaims(map[string]any{"exp": nil}))}, http.StatusUnauthorized},
		{"without iat", []string{p.token(t, "txntoken+jwt", transactionClaims(map[string]any{"iat": nil}))}, http.StatusUnauthorized},
		{"without txn", []string{p.token(t, "txntoken+jwt", transactionClaims(map[string]any{"txn": nil}))}, http.StatusUnauthorized},
		{"without req_wl", []string{p.token(t, "txntoken+jwt", transactionClaims(map[string]any{"req_wl": nil}))}, http.StatusUnauthorized},
		{"changed", []string{good[:len(good)-4] + "AAAA"}, http.StatusUnauthorized},
		{"less scope", []string{p.token(t, "txntoken+jwt", transactionClaims(map[string]any{"scope": "notes.write"}))}, http.StatusForbidden},
	} {
		handler := transactionGuard(t, p).RequireTransaction("notes.read")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			t.Errorf("%s: it reached the handler", test.name)
		}))
		response := callWithTransaction(handler, test.tokens...)
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != test.status || !strings.HasPrefix(string(body), `{"error":"in`) || strings.Contains(string(body), "eyJ") || response.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: %d %s", test.name, response.StatusCode, body)
		}
	}
}

// A transaction token is not accepted as an access token.
func TestTransactionTokenIsNotAnAccessToken(t *testing.T) {
	p := newProvider(t)
	token := p.token(t, "txntoken+jwt", transactionClaims(map[string]any{"aud": []string{testTrustDomain, testResource}, "client_id": "app"}))
	refused(t, call(transactionGuard(t, p).Require()(whoami), "Bearer "+token), http.StatusUnauthorized, "invalid_token")
	response := callWithTransaction(p.guard(t, nil).RequireTransaction()(whoami), p.token(t, "txntoken+jwt", transactionClaims(nil)))
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without a trust domain: status %d", response.StatusCode)
	}
}
