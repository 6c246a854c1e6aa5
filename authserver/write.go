package authserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/valetkey/valetkey/oauth"
)

// The answers for programs. Redirects are in responsemode.go; challenges of UserInfo in
// userinfo.go.

// writeJSON answers with v; nothing of it may be cached (RFC 6749, section 5.1).
func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	noStore(w)
	writeBytes(w, status, "application/json", body)
	return nil
}

// retryAfter is in how many seconds another try may succeed, where nothing else is known.
const retryAfter = "5"

func noStore(w http.ResponseWriter) {
	h := w.Header()
	h["Cache-Control"] = valueNoStore
	h["Pragma"] = valueNoCache
}

// Values that every answer shares; net/http does not write to them.
var (
	valueNoStore = []string{"no-store"}
	valueNoCache = []string{"no-cache"}
	valueNosniff = []string{"nosniff"}
	valueAny     = []string{"*"}
	valueOrigin  = []string{"Origin"}
)

func writeBytes(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h["Content-Type"] = []string{contentType}
	h["X-Content-Type-Options"] = valueNosniff
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	// An error means that the client left: there is nobody to tell.
	_, _ = w.Write(body)
}

func writeJSONError(w http.ResponseWriter, status int, e *oauth.Error) {
	body, err := json.Marshal(struct {
		Error       oauth.ErrorCode `json:"error"`
		Description string          `json:"error_description,omitempty"`
		URI         string          `json:"error_uri,omitempty"`
		AuthSession string          `json:"auth_session,omitempty"`
	}{e.Code, e.Description, e.URI, e.AuthSession})
	if err != nil { // strings always encode
		body = []byte(`{"error":"server_error"}`)
	}
	noStore(w)
	writeBytes(w, status, "application/json", body)
}

// failPage shows an error to the person at the browser.
func (c *call) failPage(err error) {
	e := c.s.protocolError(err)
	c.logRefusal(e, err)
	page := PageError{Status: e.HTTPStatus(), Code: e.Code, Description: e.Description, Reference: c.refused(err)}
	if e.Code == oauth.InvalidClient {
		page.Status = http.StatusBadRequest // nobody is asked for a password here
	}
	if c.client != nil {
		page.ClientName = c.client.name()
		if c.client.Vouched() {
			page.Client = c.client.Client
		}
	}
	c.s.writePage(c.w, c.r, page)
}

func (s *Server) writePage(w http.ResponseWriter, r *http.Request, page PageError) {
	if s.config.Pages.Error != nil {
		s.config.Pages.Error(w, r, page)
		return
	}
	noStore(w)
	if page.Status == http.StatusServiceUnavailable || page.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", retryAfter)
	}
	text := fmt.Sprintf("%s\n\n%s\n\nReference: %s\n", page.Code, page.Description, page.Reference)
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	writeBytes(w, page.Status, "text/plain; charset=utf-8", []byte(text))
}
