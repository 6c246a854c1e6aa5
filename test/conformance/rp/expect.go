package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// refusals are the modules in which the provider misbehaves, by a part of their name, and
// the error that the relying party must return. The suite only sees that no further request
// arrives.
var refusals = []struct {
	part string
	err  error
}{
	{"discovery-issuer-mismatch", client.ErrMetadata},
	{"authorization-response-iss", client.ErrMixUp},
	{"state-fails", client.ErrState},
	{"jarm-without-iss", client.ErrMixUp},
	{"jarm-with-invalid-iss", client.ErrMixUp},
	{"ensure-jarm-", client.ErrCallback},
	{"iat-is-week-in-past", client.ErrIDToken},
	{"usingrsa15", client.ErrIDToken},
	// It is optional there, because the access token is not in the same response.
	{"fapi1-advanced-final-client-test-missing-athash", nil},
	{"form-post-error", &client.Error{Code: oauth.LoginRequired}},
	{"userinfo-invalid-sub", client.ErrSubject},
	{"refresh-token-invalid-", client.ErrIDToken},
	{"test-invalid-", client.ErrIDToken},
	{"test-missing-", client.ErrIDToken},
	{"nonce-invalid", client.ErrIDToken},
	{"idtoken-sig-none", client.ErrIDToken},
	// The claims are not signed.
	{"aggregated-claims", client.ErrResponse},
}

// leftOut returns why a module is not run, or "".
func leftOut(module string, v variant) string {
	switch {
	case strings.Contains(module, "userinfo-bearer-body"):
		return "package client sends access tokens in the header, as RFC 6750, section 2.2, requires of clients that can"
	case strings.Contains(module, "jwks-uri-keys") && strings.HasPrefix(v["response_type"], "code "):
		return "the suite ends the module when the keys are fetched, and reports the token request that follows as an error"
	}
	return ""
}

// judge returns what the relying party did wrong, or "".
func judge(module string, took error) string {
	for _, r := range refusals {
		if !strings.Contains(module, r.part) {
			continue
		}
		if errors.Is(took, r.err) {
			return ""
		}
		return fmt.Sprintf("the relying party returned %v, want %q", took, r.err)
	}
	if took != nil {
		return "the relying party: " + took.Error()
	}
	return ""
}
