package client

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
)

// CallbackRequest is Callback for an application that uses several providers or several clients of
// one provider, as an agent with many tools does, or that connects accounts with its own users.
// r is the request to the redirect URI. CallbackRequest also checks
// (draft-ietf-oauth-security-topics-update-03, sections 2.2 and 2.3)
//
//   - that r came to the redirect URI of the transaction. Give each connection its own redirect URI,
//     such as https://app.example.com/connections/42/callback, so that no server can make the
//     browser return to the connection of another. A proxy must forward the Host header;
//   - that userSession is the AuthorizationOptions.UserSession that the transaction was started
//     with, so that no one completes a link that another user has started. Pass the session of r:
//     never a value from its URL. It is empty if the transaction was started without one.
//
// Parameters are taken from the query, or from the form of a POST request. Tokens in a query are
// rejected. If a check fails, no request is sent, and the transaction is erased unless the response
// has another state. Errors are those of Callback.
func (c *Client) CallbackRequest(r *http.Request, t *Transaction, userSession string) (*Tokens, error) {
	response, err := responseParametersOf(r)
	if err != nil {
		return nil, err
	}
	if t.State != "" && subtle.ConstantTimeCompare([]byte(c.responseState(response)), []byte(t.State)) != 1 {
		return nil, ErrState
	}
	if subtle.ConstantTimeCompare([]byte(hashSession(userSession)), []byte(t.UserSession)) != 1 {
		t.erase()
		return nil, fmt.Errorf("%w: it was started in the session of another user", ErrTransaction)
	}
	if !sentTo(r, t.RedirectURI) {
		t.erase()
		return nil, fmt.Errorf("%w: the response came to another redirect URI than the one of the request", ErrMixUp)
	}
	return c.complete(r.Context(), t, response)
}

// responseParametersOf returns the parameters of an authorization response from a query or a form.
func responseParametersOf(r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost {
		response := r.URL.Query()
		if response.Has("id_token") || response.Has("access_token") {
			return nil, fmt.Errorf("%w: it has tokens in its query", ErrCallback)
		}
		return response, nil
	}
	r.Body = http.MaxBytesReader(nil, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCallback, err)
	}
	return r.PostForm, nil
}

// sentTo reports whether a request was sent to a redirect URI. Schemes are not compared, because a
// proxy may terminate TLS.
func sentTo(r *http.Request, redirectURI string) bool {
	want, err := url.Parse(redirectURI)
	if err != nil || r.Host != want.Host || r.URL.EscapedPath() != want.EscapedPath() {
		return false
	}
	query := r.URL.Query()
	for name, values := range want.Query() {
		if len(query[name]) != len(values) || query.Get(name) != values[0] {
			return false
		}
	}
	return true
}

// hashSession returns a hash of the session of a user, "" for none.
func hashSession(session string) string {
	if session == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(session))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
