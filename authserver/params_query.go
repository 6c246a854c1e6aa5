package authserver

import (
	"mime"
	"net/url"
	"slices"
	"strings"
)

// protocolParams are the parameters that the endpoints for programs take, by their names in
// the registry of OAuth parameters.
func protocolParams() []string {
	return []string{
		"access_token", "acr_values", "actor_token", "actor_token_type", "assertion", "audience", "auth_session",
		"claims", "claims_locales", "client_assertion", "client_assertion_type", "client_id", "client_secret", "code", "code_challenge",
		"code_challenge_method", "code_verifier", "device_code", "display", "grant_type", "id_token_hint", "login_hint", "max_age", "nonce",
		"password", "post_logout_redirect_uri", "prompt", "redirect_uri", "refresh_token", "registration", "request", "request_uri", "requested_token_type",
		"resource", "response_mode", "response_type", "scope", "state", "subject_token", "subject_token_type", "token",
		"token_type_hint", "ui_locales", "user_code", "username",
	}
}

// checkQuery refuses protocol parameters in the URL of a POST. Others are ignored (RFC 6749,
// section 3.2): some clients add one of their own to every request.
func (c *call) checkQuery() error {
	for pair := range strings.SplitSeq(c.r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err == nil && value != "" && slices.Contains(protocolParams(), name) {
			return c.refuse(&ruleNoQuery, "in the URL: "+name)
		}
	}
	return nil
}

// isForm reports whether a body is a form in UTF-8, which is what RFC 6749, appendix B asks
// for. US-ASCII is a part of it.
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
