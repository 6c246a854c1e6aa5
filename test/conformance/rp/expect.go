package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// refusals are the modules in which the provider misbehaves, by a part of their name, and
// the error by which the relying party must refuse that. The suite itself only sees that
// no further request comes.
var refusals = []struct {
	part string
	err  error
}{
	{"discovery-issuer-mismatch", client.ErrMetadata},
	{"form-post-error", &client.Error{Code: oauth.LoginRequired}},
	{"userinfo-invalid-sub", client.ErrSubject},
	{"refresh-token-invalid-", client.ErrIDToken},
	{"test-invalid-", client.ErrIDToken},
	{"test-missing-", client.ErrIDToken},
	{"nonce-invalid", client.ErrIDToken},
	{"idtoken-sig-none", client.ErrIDToken},
	// The claims come unsigned, and nobody vouches for them.
	{"aggregated-claims", client.ErrAnswer},
}

// leftOut says why a module is not run; empty if it is.
func leftOut(module string, v variant) string {
	switch {
	case strings.Contains(module, "userinfo-bearer-body"):
		return "access tokens go in the header, as RFC 6750, section 2.2, wants of those who can"
	case strings.Contains(module, "jwks-uri-keys") && strings.HasPrefix(v["response_type"], "code "):
		return "the suite ends it when the keys are fetched, and takes the redeeming of the code that follows for a fault"
	}
	return ""
}

// judge says what is wrong with what the relying party did; empty if nothing is.
func judge(module string, took error) string {
	for _, r := range refusals {
		if !strings.Contains(module, r.part) {
			continue
		}
		if errors.Is(took, r.err) {
			return ""
		}
		return fmt.Sprintf("the relying party should refuse with %q, and did: %v", r.err, took)
	}
	if took != nil {
		return "the relying party: " + took.Error()
	}
	return ""
}
