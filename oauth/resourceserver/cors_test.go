package resourceserver_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth/resourceserver"
)

// Browsers send a preflight before a request with a token, and scripts can read errors. The
// API's handler is not called without a token, for any method.
func TestPreflightsAndChallengesInBrowsers(t *testing.T) {
	s, err := resourceserver.New(resourceserver.Config{Issuer: "https://login.example.com", Resource: "https://api.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	called := false
	guarded := s.Require("notes")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	send := func(method string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "https://api.example.com/notes", nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		guarded.ServeHTTP(w, r)
		return w
	}
	w := send(http.MethodOptions, "Origin", "https://app.example.com", "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "authorization,mcp-protocol-version")
	allowed := strings.ToLower(w.Header().Get("Access-Control-Allow-Headers"))
	if w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Origin") != "*" || w.Header().Get("Access-Control-Allow-Methods") != "PUT" ||
		!strings.Contains(allowed, "authorization") || !strings.Contains(allowed, "mcp-protocol-version") {
		t.Errorf("preflight: status %d, %v", w.Code, w.Header())
	}
	if w.Header().Get("Access-Control-Allow-Credentials") != "" {
		t.Error("cookies are allowed")
	}
	for _, refused := range []*httptest.ResponseRecorder{
		send(http.MethodGet, "Origin", "https://app.example.com"),
		send(http.MethodGet, "Origin", "https://app.example.com", "Authorization", "Bearer not a token"),
		send(http.MethodOptions), // not a preflight
	} {
		if refused.Code < 400 || refused.Header().Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(refused.Header().Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
			t.Errorf("rejected request: status %d, %v", refused.Code, refused.Header())
		}
	}
	if called {
		t.Error("the handler was called without a token")
	}

	// The CORS headers of an outer handler are kept.
	w = httptest.NewRecorder()
	w.Header().Set("Access-Control-Allow-Origin", "https://app.example.com")
	guarded.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://api.example.com/notes", nil))
	if got := w.Header().Values("Access-Control-Allow-Origin"); len(got) != 1 || got[0] != "https://app.example.com" {
		t.Errorf("the allowed origin is now %q", got)
	}
}
