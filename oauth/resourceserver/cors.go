package resourceserver

import (
	"net/http"
	"strings"
)

// isPreflight reports whether a browser asks if a script may send a request (Fetch, section
// 3.3.2). It never carries a token.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// writePreflight lets a script of any origin send the request, without cookies. Who may read
// the response is for the API's own handlers to say. They are not called here: they may not
// look at the method, and there is no token. An API that answers preflights by its own rules
// does so in front of this middleware.
func writePreflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	if method := r.Header.Get("Access-Control-Request-Method"); isToken(method) {
		h.Set("Access-Control-Allow-Methods", method)
	}
	// The asterisk does not cover Authorization, and old browsers do not know it.
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Accept, DPoP, MCP-Protocol-Version, Mcp-Session-Id, Last-Event-ID, X-Requested-With, *")
	h.Set("Access-Control-Max-Age", "600")
	h.Add("Vary", "Access-Control-Request-Method")
	w.WriteHeader(http.StatusNoContent)
}

// isToken reports whether a method is short and of letters, as all registered ones are.
func isToken(method string) bool {
	return len(method) <= 32 && strings.IndexFunc(method, func(c rune) bool {
		return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-'
	}) < 0
}

// exposeChallenge lets scripts read a refusal: it reveals nothing private, and a client in a
// browser must see the challenge to know what to do. What a handler in front of this one said
// of the origin stays.
func exposeChallenge(h http.Header) {
	if h.Get("Access-Control-Allow-Origin") == "" {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	h.Add("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After")
}
