package authserver

import (
	"errors"

	"github.com/valetkey/valetkey/oauth"
)

func (c *clientCheck) workload() {
	if w := c.WorkloadIdentity; w == nil || w.Issuer == "" || w.Subject == "" {
		c.report("", "federated_jwt needs workload_identity with issuer and subject")
	}
}

func (s *Server) takesWorkloads() bool { return s.trusts(UseClientAuthentication) }

// Such a JWT says nothing of the client that presents it: the request names that by
// client_id. Unlike an assertion that a client makes itself it may come more than once,
// since the platform hands out the same one for minutes.
func presentsFederatedJWT(c *call) bool {
	return presentsAssertion(c) && c.s.trustedFor(c.params.get("client_assertion"), UseClientAuthentication) != nil
}

func federatedClientID(c *call) (string, error) {
	if c.params.get("client_assertion_type") != oauth.ClientAssertionTypeJWTBearer {
		return "", c.refuse(&ruleAssertionSyntax, "client_assertion_type: "+c.params.get("client_assertion_type"))
	}
	return c.params.get("client_id"), c.must(c.params.has("client_id"), &ruleClientNamed)
}

func verifyFederatedJWT(c *call, cl *client) error {
	if cl == nil || cl.WorkloadIdentity == nil {
		return errCredentials("no such client, or none with a workload_identity")
	}
	want := cl.WorkloadIdentity
	token := c.params.get("client_assertion")
	trust := c.s.trustedFor(token, UseClientAuthentication)
	if trust == nil || trust.Issuer != want.Issuer {
		return errCredentials("the assertion is not of the issuer in workload_identity")
	}
	a, err := c.verifyTrusted(trust, token, []string{"JWT", ""}, []string{c.s.config.Issuer})
	if err == nil {
		err = hasClaims(a.members, want.Claims)
	}
	if reason, ok := errors.AsType[errAssertion](err); ok {
		return errCredentials("the assertion: " + string(reason))
	}
	if err != nil {
		return err
	}
	if a.Subject != want.Subject {
		return errCredentials("the assertion's sub is " + clip(a.Subject) + ", not that in workload_identity")
	}
	return nil
}
