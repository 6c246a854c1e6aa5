package authserver

import (
	"errors"
	"slices"

	"github.com/valetkey/valetkey/oauth"
)

func (s *Server) takesSAMLAssertions() bool { return s.trusts(UseSAMLBearer) }

// exchangeSAMLBearer takes the SAML 2.0 assertion of a trusted issuer as a grant (RFC 7522,
// section 2.1). What it gives is decided as for a JWT.
func (c *call) exchangeSAMLBearer() (*exchange, error) {
	encoded := c.params.get("assertion")
	if err := c.must(encoded != "", &ruleGrantAssertionSent); err != nil {
		return nil, err
	}
	root, err := parseSAML(encoded)
	if err != nil {
		return nil, c.because(&ruleGrantAssertionIssuer, err)
	}
	trust := c.s.trusted[samlIssuer(root)]
	known := trust != nil && trust.serves(UseSAMLBearer) && slices.Contains(trust.Clients, c.client.ID)
	if err := c.must(known, &ruleGrantAssertionIssuer); err != nil {
		return nil, err
	}
	a, err := c.verifySAML(trust, root)
	if reason, ok := errors.AsType[errAssertion](err); ok {
		why := ruleGrantAssertionGood
		why.section, why.says = "RFC 7522, section 3", why.says+": "+string(reason)
		return nil, c.because(&why, err)
	}
	if err != nil {
		return nil, err
	}
	return c.exchangeAssertion(trust, a, oauth.Scope(trust.Scopes), nil, true)
}
