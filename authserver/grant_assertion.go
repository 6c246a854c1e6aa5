package authserver

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/saml"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

var (
	ruleGrantAssertionSent = rule{
		must:    "the request has an assertion",
		section: "RFC 7523, section 2.1", code: oauth.InvalidRequest,
		says: "assertion is missing",
		fix:  "send the JWT of the issuer as assertion",
	}
	ruleGrantAssertionIssuer = rule{
		must:    "the issuer of the assertion is trusted for this use and for the client",
		section: "RFC 7523, section 3", code: oauth.InvalidGrant,
		says: "the assertion is malformed, or its issuer is not trusted for this client",
		fix:  "add the issuer to trusted_issuers, with the use and the client",
	}
	ruleGrantAssertionValid = rule{
		must:    "the assertion is signed by its issuer, for this server, and valid now",
		section: "RFC 7523, section 3", code: oauth.InvalidGrant,
		says: "the assertion is not valid", // followed by the reason
		fix:  "compare aud, exp and typ with docs/guides/assertions.md, and the keys with those in trusted_issuers",
	}
	ruleGrantAssertionClient = rule{
		must:    "an ID-JAG names the client that presents it",
		section: "draft-ietf-oauth-identity-assertion-authz-grant, section 4.4", code: oauth.InvalidGrant,
		says: "the assertion was issued for another client",
		fix:  "have it issued for the client_id of the client at this server",
	}
	ruleGrantAssertionOnce = rule{
		must:    "the assertion was not used before",
		section: "RFC 7523, section 3", code: oauth.InvalidGrant,
		says: "the assertion was already used, or has no jti",
		fix:  "get a new assertion for each request",
	}
	ruleGrantAssertionUser = rule{
		must:    "the subject of the assertion is a user of this server",
		section: "RFC 7523, section 3", code: oauth.InvalidGrant,
		says: "the subject of the assertion is not a user of this server",
		fix:  "add the sub to the subjects of trusted_issuers",
	}
	ruleGrantAssertionConsent = rule{
		must:    "the user has consented, or the operator has consented for all users (skip_consent)",
		section: "RFC 6749, section 1.3", code: oauth.InvalidGrant,
		says: "the user has not consented",
		fix:  "send the user to the authorization endpoint once, or set skip_consent for the client",
	}
)

func (s *Server) offersJWTBearer() bool {
	return s.trusts(UseJWTBearer) || s.trusts(UseIdentityAssertion)
}

// grantJWTBearer accepts the JWT of a trusted issuer as a grant (RFC 7523, section 2.1), also an
// ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant, section 4.4). There is no refresh
// token: the client gets a new assertion instead.
func (c *call) grantJWTBearer() (*entitlement, error) {
	token := c.params.get("assertion")
	if err := c.must(token != "", &ruleGrantAssertionSent); err != nil {
		return nil, err
	}
	use, types := UseJWTBearer, []string{"JWT", ""}
	header, err := jose.ParseHeader(token)
	if err != nil {
		return nil, c.because(&ruleGrantAssertionIssuer, err)
	}
	if strings.EqualFold(header.Type, oauth.TypIDJAG) {
		use, types = UseIdentityAssertion, []string{oauth.TypIDJAG}
	}
	trust := c.s.trustedFor(token, use)
	if err := c.must(trust != nil && slices.Contains(trust.Clients, c.client.ID), &ruleGrantAssertionIssuer); err != nil {
		return nil, err
	}
	audiences := []string{c.s.config.Issuer}
	if use == UseJWTBearer {
		audiences = append(audiences, c.s.config.Issuer+"/token")
	}
	a, err := c.verifyTrusted(trust, token, types, audiences)
	if reason, ok := errors.AsType[errAssertion](err); ok {
		why := ruleGrantAssertionValid
		why.says += ": " + string(reason)
		return nil, c.because(&why, err)
	}
	if err != nil {
		return nil, err
	}
	allowed, resources := oauth.Scope(trust.Scopes), []string(nil)
	if use == UseIdentityAssertion {
		if allowed, resources, err = c.assertedByIDJAG(a, allowed); err != nil {
			return nil, err
		}
	}
	return c.entitleByAssertion(trust, a, allowed, resources, use == UseIdentityAssertion)
}

// entitleByAssertion entitles the client to a token on behalf of the subject of an assertion, for
// at most the allowed scope and resources; without resources, for all that are declared. If once
// is set, the assertion must have an ID, so that it can be accepted only once.
func (c *call) entitleByAssertion(trust *trustedIssuer, a *assertion, allowed oauth.Scope, resources []string, once bool) (*entitlement, error) {
	_ = c.must(true, &ruleGrantAssertionValid)
	var err error
	ent := &entitlement{}
	if ent.scope, err = c.narrowScope(allowed); err != nil {
		return nil, err
	}
	if ent.resources, err = c.narrowResources(resources); err != nil {
		return nil, err
	}
	for _, resource := range ent.resources {
		if !c.client.mayUse(resource) {
			return nil, c.refuse(&ruleResourceKnown, resource)
		}
	}
	if err := c.useAssertion(ent, a, once); err != nil {
		return nil, err
	}
	subject, err := c.userOf(trust, a)
	if _, ok := errors.AsType[errAssertion](err); ok {
		return nil, c.because(&ruleGrantAssertionUser, err)
	}
	if err != nil {
		return nil, err
	}
	ent.authorization = authorization{ClientID: c.client.ID, Subject: subject, Family: newFamily(c.now), Scope: ent.scope, Resources: ent.resources, Issued: c.now.UnixMilli()}
	if a.act != nil {
		ent.authorization.Extra = oauth.Claims{claimActor: a.act}
	}
	if err := c.checkUserActive(ent.authorization); err != nil {
		return nil, err
	}
	if err := c.checkAssertionConsent(ent); err != nil {
		return nil, err
	}
	c.s.events.Record(c.r.Context(), event.TokenAssertionAccepted, slog.String("sub", subject), namedClient(c.client), slog.String("iss", trust.Issuer))
	return ent, nil
}

// assertedByIDJAG returns the scope and the resources that an ID-JAG asserts, within what its
// issuer is trusted with.
func (c *call) assertedByIDJAG(a *assertion, allowed oauth.Scope) (oauth.Scope, []string, error) {
	if err := c.must(a.stringClaim("client_id") == c.client.ID, &ruleGrantAssertionClient); err != nil {
		return nil, nil, err
	}
	if cnf := a.members["cnf"]; cnf != nil && !readConfirmation(cnf).ProvenBy(c.proven) {
		return nil, nil, c.because(&ruleGrantAssertionValid, errAssertion("it is bound to a key, and the request does not prove possession of it"))
	}
	if a.members["scope"] != nil {
		granted, err := oauth.ParseScope(a.stringClaim("scope"))
		if err != nil {
			return nil, nil, c.because(&ruleGrantAssertionValid, err)
		}
		allowed = allowed.Intersect(granted)
	}
	var resources []string
	switch asserted := a.members["resource"].(type) {
	case nil:
	case string:
		resources = []string{asserted}
	case []any:
		for _, element := range asserted {
			s, _ := element.(string)
			resources = append(resources, s)
		}
	default:
		return nil, nil, c.because(&ruleGrantAssertionValid, errAssertion("resource is neither a string nor an array"))
	}
	return allowed, resources, nil
}

// useAssertion has the jti stored together with the tokens, so that the assertion is accepted once.
func (c *call) useAssertion(ent *entitlement, a *assertion, needed bool) error {
	if a.ID == "" {
		return c.must(!needed, &ruleGrantAssertionOnce)
	}
	key := ticketkind.GrantAssertion.Hash(a.Issuer + "\x00" + a.ID)
	_, err := c.s.config.Store.Get(c.r.Context(), c.now, key)
	if err == nil {
		return c.must(false, &ruleGrantAssertionOnce)
	}
	if !errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("look up an assertion: %w", err)
	}
	ent.put = append(ent.put, storage.Ticket{Key: key, Expires: a.Expires.Add(2 * clockSkew)})
	return c.must(true, &ruleGrantAssertionOnce)
}

// checkAssertionConsent checks that a client gets no more by an assertion than the user has
// consented to.
func (c *call) checkAssertionConsent(ent *entitlement) error {
	grant, err := c.s.config.Store.Grant(c.r.Context(), ent.authorization.Subject, c.client.ID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("look up grant: %w", err)
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return err
	}
	if grant == nil || !grant.Scope.Covers(ent.scope) || !catalogue.covers(c.client, grant, catalogue.reaches(c.client, ent.resources, ent.scope, nil)) {
		if err := c.must(c.client.SkipConsent, &ruleGrantAssertionConsent); err != nil {
			return err
		}
		if grant, err = c.recordGrant(ent.authorization.Subject, ent.scope, ent.resources); err != nil {
			return err
		}
	}
	ent.authorization.Grant = grant.ID
	return c.must(true, &ruleGrantAssertionConsent)
}

func (s *Server) offersSAMLBearer() bool { return s.trusts(UseSAMLBearer) }

// grantSAMLBearer accepts the SAML 2.0 assertion of a trusted issuer as a grant (RFC 7522, section
// 2.1). The tokens are the same as for a JWT.
func (c *call) grantSAMLBearer() (*entitlement, error) {
	encoded := c.params.get("assertion")
	if err := c.must(encoded != "", &ruleGrantAssertionSent); err != nil {
		return nil, err
	}
	unverified, err := saml.Parse(encoded)
	if err != nil {
		return nil, c.because(&ruleGrantAssertionIssuer, err)
	}
	trust := c.s.trusted[unverified.Issuer()]
	known := trust != nil && trust.serves(UseSAMLBearer) && slices.Contains(trust.Clients, c.client.ID)
	if err := c.must(known, &ruleGrantAssertionIssuer); err != nil {
		return nil, err
	}
	verified, err := unverified.Verify(c.now, trust.expectedSAML(c.s.config.Issuer))
	if reason, ok := errors.AsType[saml.InvalidError](err); ok {
		why := ruleGrantAssertionValid
		why.section, why.says = "RFC 7522, section 3", why.says+": "+string(reason)
		return nil, c.because(&why, err)
	}
	if err != nil {
		return nil, err
	}
	return c.entitleByAssertion(trust, assertionOfSAML(verified), oauth.Scope(trust.Scopes), nil, true)
}

func (t *trustedIssuer) expectedSAML(issuer string) saml.Expected {
	endpoint := issuer + "/token"
	audiences := []string{issuer, endpoint}
	if t.Audience != "" {
		audiences = []string{t.Audience}
	}
	return saml.Expected{
		Issuer:       t.Issuer,
		Certificates: t.certificates,
		Recipient:    endpoint,
		Audiences:    audiences,
		MaxLifetime:  t.longest(),
		ClockSkew:    clockSkew,
	}
}

// assertionOfSAML returns an assertion with the claims that a JWT would have.
func assertionOfSAML(a *saml.Assertion) *assertion {
	members := oauth.Claims{}
	if a.Email != "" {
		members["email"] = a.Email
	}
	return &assertion{
		Claims:  jose.Claims{Issuer: a.Issuer, Subject: a.NameID, ID: a.ID, Audience: []string{a.Audience}, Expires: a.Expires},
		members: members,
	}
}
