package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// PreviewRequest asks what a client would get, for those who manage the server.
type PreviewRequest struct {
	// Subject is the user; "" for the client's own token (client credentials).
	Subject  string
	ClientID string
	// Scope is all of the client's scope if it is nil.
	Scope     oauth.Scope
	Resources []string
}

// Preview is what a client would get. Nothing is issued or stored, no hook is called, and consent and
// sign-in are not decided.
type Preview struct {
	// Trace has the checks. Its Error is set if the request is refused; there are no tokens then.
	Trace record.Trace
	// Scope and Audience are those of the access token. Opaque says that the client does not see its
	// claims, which introspection returns.
	Scope    oauth.Scope
	Audience []string
	Opaque   bool
	// ACR is the authentication context class that the user must reach; "" if any is sufficient.
	ACR string
	// IDToken and Userinfo are nil if openid is not granted.
	AccessToken, IDToken, Userinfo []PreviewClaim
	// Hooks says that a hook is called before tokens are issued, which can add claims or refuse.
	Hooks bool
}

// PreviewClaim is a claim with the rule that put it there.
type PreviewClaim struct {
	Name  string
	Value any
	Rule  string
}

var (
	rulePreviewClient = rule{
		must:    "the client exists and is enabled",
		section: "RFC 6749, section 5.2", code: oauth.InvalidClient,
		says: "the client does not exist or is disabled", fix: "create or enable the client",
	}
	rulePreviewUser = rule{
		must:    "the user exists and is enabled",
		section: "RFC 6749, section 4.1.2.1", code: oauth.AccessDenied,
		says: "the user does not exist or is disabled", fix: "create or enable the user",
	}
)

// Preview returns what a client would get for a user, or why it would be refused.
func (s *Server) Preview(ctx context.Context, request PreviewRequest) (*Preview, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.config.Issuer+"/token", nil)
	if err != nil {
		return nil, fmt.Errorf("preview: %w", err)
	}
	c := &call{s: s, r: r, now: time.Now(), endpoint: &endpoint{path: "/token"}}
	if len(request.Scope) > 0 {
		c.params = append(c.params, param{"scope", request.Scope.String()})
	}
	for _, resource := range request.Resources {
		c.params = append(c.params, param{"resource", resource})
	}
	p := &Preview{Hooks: s.config.Hooks.TokenClaims != nil || len(s.webhooks) > 0}
	err = c.preview(p, request.Subject, request.ClientID)
	if err != nil && oauth.AsError(err) == nil {
		return nil, err
	}
	if err != nil {
		p = &Preview{Hooks: p.Hooks}
	}
	p.Trace = c.trace(err)
	return p, nil
}

func (c *call) preview(p *Preview, subject, clientID string) error {
	ctx := c.r.Context()
	cl, err := c.clientByID(clientID)
	if errors.Is(err, errUnknownClient) {
		return c.refuse(&rulePreviewClient, clientID)
	}
	if err != nil {
		return err
	}
	c.client = cl
	_ = c.must(true, &rulePreviewClient)
	scope, err := c.previewScope(subject)
	if err != nil {
		return err
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return err
	}
	ent := &entitlement{authorization: authorization{ClientID: cl.ID, Subject: subject, Scope: scope, Issued: c.now.UnixMilli()}, scope: scope}
	if ent.resources, err = c.requestedResources(); err != nil {
		return err
	}
	if p.Audience, p.Opaque, err = c.audience(catalogue, ent); err != nil {
		return err
	}
	if p.Scope, err = c.allowedScope(ctx, subject, c.scopeFor(catalogue, ent, p.Audience)); err != nil {
		return err
	}
	extra, err := c.accessTokenExtra(ctx, catalogue, ent, p.Scope, p.Audience)
	if err != nil {
		return err
	}
	lifetime := c.accessTokenLifetime(catalogue, p.Audience)
	const section = "RFC 9068, section 2.2"
	p.AccessToken = []PreviewClaim{
		{"iss", c.s.config.Issuer, section}, {"sub", c.s.subjectOf(cl, &ent.authorization), section + c.pairwiseRule()}, {"aud", p.Audience, section + "; RFC 8707, section 2"},
		{"client_id", cl.ID, section}, {"iat", c.now.Unix(), section}, {"exp", c.now.Add(lifetime).Unix(), "the lifetime is " + lifetime.String()},
	}
	if len(p.Scope) > 0 {
		p.AccessToken = append(p.AccessToken, PreviewClaim{"scope", p.Scope.String(), section})
	}
	p.AccessToken = append(p.AccessToken, c.explained(extra, func(name string) string {
		if slices.Contains(cl.AccessTokenClaims, name) {
			return "access_token_claims of the client"
		}
		for _, identifier := range p.Audience {
			if r := catalogue.resource(identifier); r != nil && slices.Contains(r.AccessTokenClaims, name) {
				return "access_token_claims of the resource " + identifier
			}
		}
		return "Valetkey"
	})...)
	if subject == "" || !p.Scope.Has(oauth.ScopeOpenID) {
		return nil
	}
	if p.ACR, err = c.requiredACR(cl, scope, subject); err != nil {
		return err
	}
	return c.previewClaims(p, catalogue, subject)
}

// previewScope checks the user and the scope of a preview.
func (c *call) previewScope(subject string) (oauth.Scope, error) {
	if subject == "" {
		if err := c.must(c.client.HasGrantType(oauth.GrantTypeClientCredentials), &ruleGrantTypeAllowed); err != nil {
			return nil, err
		}
		ent, err := c.grantClientCredentials()
		if err != nil {
			return nil, err
		}
		return ent.scope, nil
	}
	active, err := c.s.subjectActive(c.r.Context(), subject, "", c.now)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, err
	}
	if err := c.must(active, &rulePreviewUser); err != nil {
		return nil, err
	}
	if err := c.checkGroups(subject, true); err != nil {
		return nil, err
	}
	return c.passwordScope()
}

// previewClaims adds the ID token and the UserInfo response.
func (c *call) previewClaims(p *Preview, catalogue *catalogue, subject string) error {
	const section = "OpenID Connect Core, section 2"
	claims, err := c.userClaims(c.r.Context(), subject, claimsWanted{names: c.client.IDTokenClaims, granted: p.Scope, resources: p.Audience, byBrowser: true})
	if err != nil {
		return fmt.Errorf("read claims for the ID token: %w", err)
	}
	sub := PreviewClaim{"sub", c.s.subjectFor(c.client, subject), section + c.pairwiseRule()}
	p.IDToken = []PreviewClaim{{"iss", c.s.config.Issuer, section}, sub, {"aud", c.client.ID, section}}
	p.IDToken = append(p.IDToken, c.explained(claims, func(string) string { return "id_token_claims of the client" })...)
	claims, err = c.userClaims(c.r.Context(), subject, claimsWanted{scope: p.Scope, granted: p.Scope, resources: []string{c.s.config.Issuer}, byBrowser: true})
	if err != nil {
		return fmt.Errorf("read claims for UserInfo: %w", err)
	}
	p.Userinfo = append([]PreviewClaim{{"sub", sub.Value, "OpenID Connect Core, section 5.3.2" + c.pairwiseRule()}}, c.explained(claims, func(name string) string {
		for _, scope := range p.Scope {
			if catalogue.releases(oauth.Scope{scope}, name) {
				return "the scope " + scope
			}
		}
		return "Valetkey"
	})...)
	return nil
}

func (c *call) pairwiseRule() string {
	if c.client.SubjectType == subjectPairwise {
		return "; pairwise, by subject_type of the client"
	}
	return ""
}

// explained returns claims in the order of their names. why says what released a claim; a mapping of
// the operator that computed its value is added to that.
func (c *call) explained(claims oauth.Claims, why func(name string) string) []PreviewClaim {
	var explained []PreviewClaim
	for name, value := range claims {
		claim := PreviewClaim{name, value, why(name)}
		for i, m := range slices.Backward(c.s.mappings) { // the last one that applies is used
			if m.Name != name || m.Clients != nil && !slices.Contains(m.Clients, c.client.ID) {
				continue
			}
			switch {
			case m.program != nil:
				claim.Rule += fmt.Sprintf("; claims[%d] computes it", i)
			case m.From != "":
				claim.Rule += fmt.Sprintf("; claims[%d] takes it from %s", i, m.From)
			default:
				claim.Rule += fmt.Sprintf("; claims[%d] has a fixed value", i)
			}
			break
		}
		explained = append(explained, claim)
	}
	slices.SortFunc(explained, func(a, b PreviewClaim) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return explained
}
