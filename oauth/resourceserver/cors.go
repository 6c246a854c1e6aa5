package resourceserver

import (
	"net/http"
	"strings"
)

// isPreflight reports whether a request is a CORS preflight (Fetch, section 3.3.2).
// Preflights never have a token.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// writePreflight allows scripts of any origin to send the request, without cookies. The API's
// own handlers decide which origins may read the response. They are not called for the
// preflight itself, because it has no token and they may not check the method. An API with
// its own rules for preflights must handle them before this middleware.
func writePreflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	if method := r.Header.Get("Access-Control-Request-Method"); isToken(method) {
		h.Set("Access-Control-Allow-Methods", method)
	}
	// The asterisk does not include Authorization, and old browsers do not support it.
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Accept, DPoP, MCP-Protocol-Version, Mcp-Session-Id, Last-Event-ID, X-Requested-With, *")
	h.Set("Access-Control-Max-Age", "600")
	h.Add("Vary", "Access-Control-Request-Method")
	w.WriteHeader(http.StatusNoContent)
}

// isToken reports whether a method is short and has only letters, like all registered ones.
func isToken(method string) bool {
	return len(method) <= 32 && strings.IndexFunc(method, func(c rune) bool {
		return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-'
	}) < 0
}

// exposeChallenge lets scripts read an error response. It contains nothing private, and a
// client in a browser needs the challenge to know what to do. CORS headers from a handler
// before this one are kept.
func exposeChallenge(h http.Header) {
	if h.Get("Access-Control-Allow-Origin") == "" {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	h.Add("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After, DPoP-Nonce")
}
