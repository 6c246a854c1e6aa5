package client

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// Step-up authentication (RFC 9470): an API requires a sign-in that is newer or stronger than the
// one for which the access token was issued.

// maxACRValues limits the acr_values of a challenge, which become part of a URL.
const maxACRValues = 512

// StepUp reports whether an API refused a request because the user must authenticate again (RFC
// 9470, section 3), and returns the ACRValues and the MaxAge that it requires. Start an
// authorization with them; the new access token is accepted then. It does not read the body.
func StepUp(response *http.Response) (options AuthorizationOptions, required bool) {
	if response.StatusCode != http.StatusUnauthorized {
		return options, false
	}
	for _, field := range response.Header.Values("WWW-Authenticate") {
		for _, challenge := range oauth.ParseChallenges(field) {
			if challenge.Param("error") != string(oauth.InsufficientUserAuthentication) {
				continue
			}
			if values := challenge.Param("acr_values"); len(values) <= maxACRValues {
				options.ACRValues = strings.Fields(values)
			}
			if seconds, err := strconv.Atoi(challenge.Param("max_age")); err == nil && seconds >= 0 && seconds < 1<<31 {
				age := time.Duration(seconds) * time.Second
				options.MaxAge = &age
			}
			return options, true
		}
	}
	return options, false
}

// stepUp is what an API requires of a sign-in, in the URL of the sign-in. It is sealed, because any
// site can send the browser to sign-in, and must not choose how users authenticate.
type stepUp struct {
	ACRValues []string `json:"a,omitempty"`
	MaxAge    *int64   `json:"m,omitempty"` // seconds
}

const sealedStepUp = "step-up"

// StepUpPath returns the path that starts the sign-in that an API requires (StepUp), and then
// returns to returnTo, a path of the application; the caller can also add return_to to the path
// later. It returns "" if the response requires no sign-in. The sign-in fails with ErrStepUp if the
// provider does not reach one of the required acr_values.
func (p *RelyingParty) StepUpPath(response *http.Response, returnTo string) (string, error) {
	options, required := StepUp(response)
	if !required {
		return "", nil
	}
	want := stepUp{ACRValues: options.ACRValues}
	if options.MaxAge != nil {
		seconds := int64(*options.MaxAge / time.Second)
		want.MaxAge = &seconds
	}
	sealed, err := p.seal.close(p.sealedFor(sealedStepUp), want)
	if err != nil {
		return "", err
	}
	query := url.Values{"step_up": {sealed}}
	if returnTo != "" {
		query.Set("return_to", returnTo)
	}
	return p.base + "sign-in?" + query.Encode(), nil
}

// useStepUp changes the options of a sign-in that StepUpPath has started.
func (p *RelyingParty) useStepUp(sealed string, options *AuthorizationOptions, started *attempt) error {
	var want stepUp
	if err := p.seal.open(p.sealedFor(sealedStepUp), sealed, &want); err != nil {
		return refuse(http.StatusBadRequest, "step_up is not from this application")
	}
	if len(want.ACRValues) > 0 {
		options.ACRValues, started.ACRValues = want.ACRValues, want.ACRValues
	}
	if want.MaxAge != nil {
		age := time.Duration(*want.MaxAge) * time.Second
		options.MaxAge = &age
	}
	return nil
}

// checkStepUp checks that the provider reached one of the required acr_values. Without an acr in
// the ID token it is not known; the API decides.
func (a *attempt) checkStepUp(tokens *Tokens) error {
	if len(a.ACRValues) == 0 || tokens.Identity == nil || tokens.Identity.ACR == "" || slices.Contains(a.ACRValues, tokens.Identity.ACR) {
		return nil
	}
	return fmt.Errorf("%w: acr is %q", ErrStepUp, sanitize(tokens.Identity.ACR, 100))
}
