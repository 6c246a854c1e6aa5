package authserver

import (
	"mime"
	"net/url"
	"slices"
	"strings"
)

// protocolParams returns the parameters that the endpoints for programs accept, by their names
// in the registry of OAuth parameters.
func protocolParams() []string {
	names := []string{
		"access_token", "acr_values", "auth_session", "claims", "claims_locales", "client_assertion", "client_assertion_type",
		"client_id", "client_secret", "code_challenge", "code_challenge_method", "display", "grant_type", "id_token_hint",
		"login_hint", "max_age", "nonce", "post_logout_redirect_uri", "prompt", "redirect_uri", "registration", "request",
		"request_uri", "resource", "response_mode", "response_type", "scope", "state", "token", "token_type_hint",
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
