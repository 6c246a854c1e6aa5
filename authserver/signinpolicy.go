package authserver

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// SignInPolicy says how users must have authenticated. Its classes are those of
// SignInSettings.ACRValues. All methods must be safe for concurrent use.
type SignInPolicy interface {
	// RequiredACR returns the weakest class that is sufficient for a request; "" if any is.
	RequiredACR(ctx context.Context, r SignInRequest) (string, error)
	// ReachableACR returns the strongest class that a user can reach.
	ReachableACR(ctx context.Context, subject string) (string, error)
}

// SignInRequest is what a user signs in for.
type SignInRequest struct {
	Subject string
	Client  *record.Client
	Scope   oauth.Scope
}

var ruleSignInClass = rule{
	must:    "the user can authenticate as this request requires",
	section: "OpenID Connect Core, section 5.5.1.1", code: oauth.UnmetAuthenticationRequirement,
	says: "the user cannot authenticate as this request requires",
	fix:  "let the user set up another way to sign in on the account page, or change the rules of sign_in",
}

// includes reports whether a class is at least as strong as another one. Every class includes "".
func (c *call) includes(acr, other string) bool {
	classes := c.s.config.SignIn.ACRValues // weakest first
	at := slices.Index(classes, other)
	return other == "" || acr == other || at >= 0 && slices.Index(classes, acr) >= at
}

// requiredACR returns the class that the operator's policy requires of a user for a request.
func (c *call) requiredACR(client *client, scope oauth.Scope, subject string) (string, error) {
	policy := c.s.config.SignIn.Policy
	if policy == nil {
		return "", nil
	}
	acr, err := policy.RequiredACR(c.r.Context(), SignInRequest{Subject: subject, Client: client.Client, Scope: scope})
	if err != nil {
		return "", fmt.Errorf("get the class that a user must reach: %w", err)
	}
	return acr, nil
}

// lacksClass reports whether a signed-in user must prove more: because the policy requires it, or
// because the client asks for a class that the user can reach (RFC 9470, section 5). If the user cannot
// reach what the client asks for, acr_values are ignored (OpenID Connect Core, section 3.1.2.1), and
// checkACR refuses an essential claim.
func (c *call) lacksClass(i *interaction, who *Authentication) (bool, error) {
	policy := c.s.config.SignIn.Policy
	if policy == nil {
		return false, nil
	}
	required, err := c.requiredACR(i.request.client, i.request.scope, who.Subject)
	if err != nil || !c.includes(who.ACR, required) {
		return err == nil, err
	}
	if slices.Contains(i.request.prompt, promptNone) {
		return false, nil
	}
	wanted := c.strongerACRs(i.request, who)
	if len(wanted) == 0 {
		return false, nil
	}
	reachable, err := policy.ReachableACR(c.r.Context(), who.Subject)
	if err != nil {
		return false, fmt.Errorf("get the class that a user can reach: %w", err)
	}
	return slices.ContainsFunc(wanted, func(acr string) bool { return c.includes(reachable, acr) }), nil
}

// strongerACRs returns the classes that the client asks for, if the user has reached none of them.
func (c *call) strongerACRs(request *authorizationRequest, who *Authentication) []string {
	var wanted []string
	if essential := request.essentialACR(); essential != nil {
		if _, ok := c.reportedACR(request, who.ACR); !ok {
			wanted = append(wanted, essential.Strings()...)
		}
	}
	if !slices.ContainsFunc(request.acrValues, func(acr string) bool { return c.includes(who.ACR, acr) }) {
		wanted = append(wanted, request.acrValues...)
	}
	return slices.DeleteFunc(wanted, func(acr string) bool { return !slices.Contains(c.s.config.SignIn.ACRValues, acr) })
}

// essentialACR returns the acr that the claims parameter calls essential; nil if it does not.
func (r *authorizationRequest) essentialACR() *oauth.ClaimRequest {
	if r.claims == nil {
		return nil
	}
	if requested := r.claims.IDToken["acr"]; requested != nil && requested.Essential {
		return requested
	}
	return nil
}

// reportedACR returns the class that the client is told: the one that the user has reached, or the
// strongest one that the client calls essential and that this one includes. If there is none, ok is
// false.
func (c *call) reportedACR(request *authorizationRequest, reached string) (acr string, ok bool) {
	requested := request.essentialACR()
	if requested == nil || requested.Accepts(reached) {
		return reached, true
	}
	classes := c.s.config.SignIn.ACRValues
	for i := slices.Index(classes, reached) - 1; i >= 0; i-- {
		if requested.Accepts(classes[i]) {
			return classes[i], true
		}
	}
	return reached, false
}

// describeSignIn sets what the sign-in page must know.
func (c *call) describeSignIn(shown *Interaction, i *interaction, who *Authentication) {
	shown.Scope = i.request.scope
	if requested := i.request.essentialACR(); requested != nil {
		shown.EssentialACRValues = requested.Strings()
	}
	maxAge := i.request.maxAge
	if slices.Contains(i.request.prompt, promptLogin) || slices.Contains(i.request.prompt, promptCreate) ||
		maxAge >= 0 && (who == nil || c.now.Sub(who.Time) > maxAge && !i.since(who.Time)) {
		shown.ProvedSince = i.began
	}
}

// Insufficient is called when a user has proved what they can, and that is not what the interaction
// requires. It writes the response: the error unmet_authentication_requirements to the client.
func (s *Server) Insufficient(w http.ResponseWriter, r *http.Request, id string) {
	c := s.newCall(w, r)
	c.finish(c.withInteraction(id, func(i *interaction) error {
		if i.device != nil || i.backchannel != nil { // others may be able to decide
			return c.must(false, &ruleSignInClass)
		}
		if err := c.abandonInteraction(i); err != nil {
			return err
		}
		return c.refuseAuthorization(i.request, c.must(false, &ruleSignInClass))
	}))
}

// needsStepUp is lacksClass for acr_values without a policy: the page is not known to be able to raise
// a session, so one new sign-in is asked for, and what it reaches is accepted.
func (c *call) needsStepUp(request *authorizationRequest, who *Authentication) bool {
	if c.s.config.SignIn.Policy != nil || slices.Contains(request.prompt, promptNone) {
		return false
	}
	classes := c.s.config.SignIn.ACRValues // weakest first
	reached, stronger := slices.Index(classes, who.ACR), false
	for _, acr := range request.acrValues {
		switch asked := slices.Index(classes, acr); {
		case acr == who.ACR || asked >= 0 && asked <= reached:
			return false
		case asked > reached:
			stronger = true
		}
	}
	return stronger
}
