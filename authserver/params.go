package authserver

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/valetkey/valetkey/oauth"
)

// params are the parameters of a request. Each is sent at most once (RFC 6749, sections 3.1 and
// 3.2), except resource and audience (RFC 8707, section 2; RFC 8693, section 2.1). A parameter
// without a value is omitted.
type params []param

type param struct{ name, value string }

func (p params) get(name string) string {
	for i := range p {
		if p[i].name == name {
			return p[i].value
		}
	}
	return ""
}

func (p params) has(name string) bool { return p.get(name) != "" }

func (p params) all(name string) []string {
	var values []string
	for i := range p {
		if p[i].name == name {
			values = append(values, p[i].value)
		}
	}
	return values
}

// encode returns p as a query.
func (p params) encode() string {
	var b strings.Builder
	b.Grow(p.size())
	p.appendTo(&b)
	return b.String()
}

// size returns about how long p is as a query.
func (p params) size() int {
	size := 32 // for a few characters that are escaped, such as those of iss
	for _, e := range p {
		size += len(e.name) + len(e.value) + len("=&")
	}
	return size
}

// appendTo is encode after what b has already.
func (p params) appendTo(b *strings.Builder) {
	for i, e := range p {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(e.name))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(e.value))
	}
}

var (
	ruleParams = rule{
		must:    "the parameters are application/x-www-form-urlencoded, UTF-8 without control characters, at most 100, none longer than 16384 bytes",
		section: "RFC 6749, appendix B", code: oauth.InvalidRequest,
		says: "the parameters are not valid application/x-www-form-urlencoded UTF-8 within the limits",
		fix:  "encode the request with a URL library; send no more than 100 parameters",
	}
	ruleOnce = rule{
		must:    "each parameter is sent once",
		section: "RFC 6749, section 3.1", code: oauth.InvalidRequest,
		says: "a parameter is sent more than once",
		fix:  "send each parameter once; only resource and audience may be repeated",
	}
	ruleContentType = rule{
		must:    "the body is application/x-www-form-urlencoded, in UTF-8",
		section: "RFC 6749, section 3.2 and appendix B", code: oauth.InvalidRequest,
		says: "the Content-Type must be application/x-www-form-urlencoded, with no charset or UTF-8",
		fix:  "send the parameters form-encoded in the body, with that Content-Type, no other charset and no Content-Encoding",
	}
	ruleBodySize = rule{
		must:    "the body has at most 65536 bytes",
		section: "Valetkey", code: oauth.InvalidRequest,
		says: "the request body is too large: at most 65536 bytes are accepted",
		fix:  "send less",
	}
	ruleNoQuery = rule{
		must:    "the parameters of the protocol are in the body, not in the URL",
		section: "RFC 6749, sections 2.3.1 and 3.2", code: oauth.InvalidRequest,
		says: "parameters must be sent in the request body, never in the URL",
		fix:  "move the parameters to the body: URLs end up in logs",
	}
)

// parseParams parses a query or a form body. If a parameter is repeated, it returns all parameters
// with the error, for endpoints that report the error to the client.
func (c *call) parseParams(raw string) (params, error) {
	if raw == "" {
		return nil, nil
	}
	p := make(params, 0, min(strings.Count(raw, "&")+1, maxParams))
	var repeated []string
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		if len(p) == maxParams {
			return nil, c.refuse(&ruleParams, "more than 100 parameters")
		}
		name, value, _ := strings.Cut(pair, "=")
		name, ok := unescape(name)
		if !ok {
			return nil, c.refuse(&ruleParams, "a parameter name cannot be decoded")
		}
		if name == c.leftOutIfLong && len(value) > maxParamBytes {
			c.leftOut = true
			continue
		}
		value, ok = unescape(value)
		if !ok {
			return nil, c.refuse(&ruleParams, "the value of "+name+" cannot be decoded")
		}
		if value == "" {
			continue
		}
		if name != "resource" && name != "audience" && p.has(name) {
			repeated = append(repeated, name)
		}
		p = append(p, param{name, value})
	}
	if len(repeated) > 0 {
		return p, c.refuse(&ruleOnce, "sent more than once: "+strings.Join(repeated, ", "))
	}
	return p, nil
}

// unescape decodes a name or value. It refuses semicolons, which net/url and browsers interpret
// differently, and strings that a database cannot store.
func unescape(s string) (string, bool) {
	if len(s) > 3*maxParamBytes {
		return "", false
	}
	if strings.ContainsAny(s, "%+;") {
		if strings.Contains(s, ";") {
			return "", false
		}
		decoded, err := url.QueryUnescape(s)
		if err != nil {
			return "", false
		}
		s = decoded
	}
	if len(s) > maxParamBytes || !utf8.ValidString(s) {
		return "", false
	}
	for i := range len(s) {
		if s[i] == 0 {
			return "", false
		}
	}
	return s, true
}

// parseForm parses the parameters of a POST to an endpoint for programs.
func (c *call) parseForm() (err error) {
	if err := c.checkQuery(); err != nil {
		return err
	}
	c.params, err = c.parseBody()
	return err
}

func (c *call) parseBody() (params, error) {
	if !isForm(c.r.Header.Get("Content-Type")) || c.r.Header.Get("Content-Encoding") != "" {
		err := c.refuse(&ruleContentType, "Content-Type: "+c.r.Header.Get("Content-Type"))
		if c.r.Header.Get("Content-Encoding") != "" {
			oauth.AsError(err).Status = http.StatusUnsupportedMediaType
		}
		return nil, err
	}
	if c.r.ContentLength > maxFormBytes {
		return nil, c.tooLarge()
	}
	limited := c.r.Body
	if c.r.ContentLength <= 0 { // otherwise no more than that is read
		limited = http.MaxBytesReader(c.w, c.r.Body, maxFormBytes)
	}
	body, err := readBody(limited, c.r.ContentLength)
	if err != nil {
		if _, ok := err.(*http.MaxBytesError); ok {
			return nil, c.tooLarge()
		}
		return nil, c.because(&ruleParams, err)
	}
	return c.parseParams(string(body))
}

func (c *call) tooLarge() error {
	err := c.refuse(&ruleBodySize, "")
	oauth.AsError(err).Status = http.StatusRequestEntityTooLarge
	c.w.Header().Set("Connection", "close")
	return err
}

func readBody(r io.Reader, length int64) ([]byte, error) {
	if length <= 0 {
		return io.ReadAll(r)
	}
	body := make([]byte, length)
	_, err := io.ReadFull(r, body)
	return body, err
}

func isMediaType(contentType, want string) bool {
	if contentType == want {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && mediaType == want
}

// protocolParams returns the parameters that the endpoints for programs accept, by their names
// in the registry of OAuth parameters.
func protocolParams() []string {
	names := []string{
		"access_token", "acr_values", "auth_session", "authorization_details", "binding_message", "claims", "claims_locales", "client_assertion", "client_assertion_type",
		"client_id", "client_notification_token", "client_secret", "code_challenge", "code_challenge_method", "display", "dpop_jkt", "grant_type", "id_token_hint",
		"login_hint", "login_hint_token", "max_age", "nonce", "post_logout_redirect_uri", "prompt", "redirect_uri", "registration", "request",
		"request_uri", "requested_expiry", "resource", "response_mode", "response_type", "scope", "state", "token", "token_type_hint",
		"ui_locales", "user_code",
	}
	for _, g := range grantTypes() {
		names = append(names, g.params...)
	}
	return names
}

// checkQuery refuses protocol parameters in the URL of a POST. Other parameters are ignored
// (RFC 6749, section 3.2), because some clients add their own to every request.
func (c *call) checkQuery() error {
	for pair := range strings.SplitSeq(c.r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err == nil && value != "" && slices.Contains(c.s.protocolParams, name) {
			return c.refuse(&ruleNoQuery, "in the URL: "+name)
		}
	}
	return nil
}

// isForm reports whether a body is a form in UTF-8 (RFC 6749, appendix B). US-ASCII is a
// subset of it.
func isForm(contentType string) bool {
	if contentType == "application/x-www-form-urlencoded" {
		return true
	}
	mediaType, attributes, err := mime.ParseMediaType(contentType)
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return false
	}
	switch strings.ToLower(attributes["charset"]) {
	case "", "utf-8", "utf8", "us-ascii":
		return true
	}
	return false
}
