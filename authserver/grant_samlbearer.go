package authserver

import (
	"errors"
	"slices"

	"github.com/valetkey/valetkey/internal/saml"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

func (s *Server) offersSAMLBearer() bool { return s.trusts(UseSAMLBearer) }

// grantSAMLBearer accepts the SAML 2.0 assertion of a trusted issuer as a grant (RFC
// 7522, section 2.1). It leads to the same tokens as a JWT.
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
