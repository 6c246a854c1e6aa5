package authserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

var ruleAssertionSyntax = rule{
	must:    "client_assertion is a JWT whose sub is the client, with the matching client_assertion_type",
	section: "RFC 7523, section 2.2", code: oauth.InvalidClient,
	says: "client_assertion is malformed, or client_assertion_type is not " + oauth.ClientAssertionTypeJWTBearer,
	fix:  "send a signed JWT with iss and sub set to the client_id",
}

// presentsPrivateKeyJWT reports whether the request has a JWT that is signed with a key of the
// client, and presentsSecretJWT whether it has one that is signed with its secret (RFC 7523,
// section 2.2; OpenID Connect Core, section 9).
func presentsPrivateKeyJWT(c *call) bool {
	return presentsAssertion(c) && !strings.HasPrefix(string(assertionAlgorithm(c)), "HS") && !presentsFederatedJWT(c)
}

func presentsSecretJWT(c *call) bool {
	return presentsAssertion(c) && strings.HasPrefix(string(assertionAlgorithm(c)), "HS") && !presentsFederatedJWT(c)
}

func verifyPrivateKeyJWT(c *call, cl *client) error {
	if cl == nil {
		return errCredentials("no such client")
	}
	return c.verifyAssertion(cl, func(token string, want jose.Expected) ([]byte, error) {
		return verifyWithClientKeys(c.r.Context(), c.now, cl, token, want)
	}, signingAlgorithms())
}

func verifySecretJWT(c *call, cl *client) error {
	if cl == nil {
		return errCredentials("no such client")
	}
	return c.verifyAssertion(cl, func(token string, want jose.Expected) (payload []byte, err error) {
		err = errCredentials("the client has no secret")
		for _, secret := range cl.Secrets {
			if payload, _, err = jose.VerifySecret(token, []byte(secret), want); err == nil {
				return payload, nil
			}
		}
		return nil, err
	}, []jose.Algorithm{jose.HS256, jose.HS384, jose.HS512})
}

func (c *clientCheck) privateKey() {
	if len(c.JWKS) == 0 && c.JWKSURI == "" {
		c.report("", "private_key_jwt needs jwks or jwks_uri")
	} else if keys, err := jose.ParseKeySet(c.JWKS); len(c.JWKS) > 0 && err == nil && !keys.Verifies() {
		c.report("jwks", "private_key_jwt needs a key for signatures")
	}
}

func (c *clientCheck) secretOfJWT() {
	if c.secretBytes() < 32 {
		c.report("", "client_secret_jwt needs a client_secret of 32 bytes or more (RFC 7518, section 3.2)")
	}
}

func presentsAssertion(c *call) bool {
	return c.params.has("client_assertion") || c.params.has("client_assertion_type")
}

func assertionAlgorithm(c *call) jose.Algorithm {
	if !c.assertionRead {
		c.assertionRead = true
		if header, err := jose.ParseHeader(c.params.get("client_assertion")); err == nil {
			c.assertionAlgorithm = header.Algorithm
		}
	}
	return c.assertionAlgorithm
}

// assertedClientID returns the sub of the assertion before it is verified.
func assertedClientID(c *call) (string, error) {
	if c.params.get("client_assertion_type") != oauth.ClientAssertionTypeJWTBearer {
		return "", c.refuse(&ruleAssertionSyntax, "client_assertion_type: "+c.params.get("client_assertion_type"))
	}
	payload, err := jose.UnverifiedPayload(c.params.get("client_assertion"))
	if err != nil {
		return "", c.because(&ruleAssertionSyntax, err)
	}
	claims, err := jose.ParseClaims(payload, nil)
	if err != nil {
		return "", c.because(&ruleAssertionSyntax, err)
	}
	if claims.Subject == "" {
		return "", c.refuse(&ruleAssertionSyntax, "the assertion has no sub")
	}
	return claims.Subject, nil
}

// assertionRules are what the rules for client assertions depend on: the settings of the client.
type assertionRules struct {
	// algorithms are the accepted signature algorithms; nil means those of the method.
	algorithms []jose.Algorithm
	// typed requires the typ client-authentication+jwt (RFC 10070).
	typed bool
	// stringAudience requires that aud is a string, not an array.
	stringAudience bool
	// anyAudience also accepts the audiences of RFC 7523, in an assertion without that typ.
	anyAudience bool
}

func (c *client) assertionRules() assertionRules {
	rules := assertionRules{
		typed: c.RequireAssertionTyp, anyAudience: c.InsecureAssertionAudience || c.profile.anyAudience, stringAudience: c.profile.stringAudience.applies(),
	}
	if c.profile.signatures.section.applies() {
		rules.algorithms = c.profile.signatures.values
	}
	if c.TokenEndpointAuthSigningAlg != "" {
		rules.algorithms = []jose.Algorithm{jose.Algorithm(c.TokenEndpointAuthSigningAlg)}
	}
	return rules
}

// verifyAssertion verifies an assertion by RFC 7523, section 3, as updated by RFC 10070: this issuer
// must be the only audience. Each jti is accepted once.
func (c *call) verifyAssertion(cl *client, verify func(string, jose.Expected) ([]byte, error), algorithms []jose.Algorithm) error {
	rules := cl.assertionRules()
	if rules.algorithms != nil {
		algorithms = slices.DeleteFunc(algorithms, func(a jose.Algorithm) bool { return !slices.Contains(rules.algorithms, a) })
	}
	types := []string{oauth.TypClientAuthentication}
	if !rules.typed {
		types = append(types, "JWT", "")
	}
	payload, err := verify(c.params.get("client_assertion"), jose.Expected{Algorithms: algorithms, Types: types})
	if err != nil {
		return errCredentials("the assertion's signature: " + err.Error())
	}
	claims, err := jose.ParseClaims(payload, nil)
	if err != nil {
		return errCredentials("the assertion's claims: " + err.Error())
	}
	if rules.stringAudience && (claims.AudienceIsArray || len(claims.Audience) == 0) {
		return errCredentials("aud is not a string, as the profile " + cl.profile.name + " requires")
	}
	if err := c.checkAssertionClaims(cl, claims); err != nil {
		return err
	}
	// A client that gets use_dpop_nonce sends the assertion again, so it is not spent before.
	if err := c.checkProof(cl); err != nil {
		return err
	}
	used := storage.Ticket{Key: ticketkind.ClientAssertion.Hash(cl.ID + "\x00" + claims.ID), Expires: claims.Expires.Add(2 * clockSkew)}
	err = c.s.config.Store.Put(c.r.Context(), c.now, append(c.proofTickets(), used)...)
	if replayed := c.proofReplayed(err); replayed != nil {
		return replayed
	}
	if errors.Is(err, storage.ErrExists) {
		return errCredentials("the assertion was used before: each jti is accepted once")
	}
	if err != nil {
		return fmt.Errorf("mark client assertion as used: %w", err)
	}
	c.proofSpent()
	return nil
}

func (c *call) checkAssertionClaims(cl *client, claims jose.Claims) error {
	switch now := c.now; {
	case claims.Issuer != cl.ID || claims.Subject != cl.ID:
		return errCredentials("iss and sub are not both the client_id")
	case !c.assertionAudience(cl, claims):
		return errCredentials(fmt.Sprintf("aud is %q, not the issuer %q alone", claims.Audience, c.s.config.Issuer))
	case claims.ID == "" || len(claims.ID) > 256:
		return errCredentials("jti is missing or too long")
	case claims.Expires.IsZero():
		return errCredentials("exp is missing")
	case !now.Before(claims.Expires.Add(clockSkew)):
		return errCredentials("the assertion has expired at " + claims.Expires.UTC().Format(time.RFC3339))
	case claims.Expires.Sub(now) > maxAssertionLife+clockSkew:
		return errCredentials("exp is more than an hour in the future")
	case !claims.NotBefore.IsZero() && claims.NotBefore.Sub(now) > clockSkew:
		return errCredentials("nbf is in the future")
	case !claims.IssuedAt.IsZero() && claims.IssuedAt.Sub(now) > clockSkew:
		return errCredentials("iat is in the future")
	case !claims.IssuedAt.IsZero() && now.Sub(claims.IssuedAt) > maxAssertionLife+clockSkew:
		return errCredentials("iat is more than an hour ago")
	case !claims.IssuedAt.IsZero() && claims.Expires.Sub(claims.IssuedAt) > maxAssertionLife+clockSkew:
		return errCredentials("exp is more than an hour after iat")
	}
	return nil
}

// assertionAudience reports whether the audience of an assertion is this issuer alone: a string, or an
// array with one member (RFC 10070, section 4). For a client with insecure_assertion_audience, an
// assertion may have an audience that RFC 7523, section 3 or RFC 9126, section 2 allowed, unless its
// typ says that it follows RFC 10070: the issuer among others, the token endpoint, or the endpoint of
// the request, by its URL for clients with certificates too.
func (c *call) assertionAudience(cl *client, claims jose.Claims) bool {
	issuer := c.s.config.Issuer
	if len(claims.Audience) == 1 && claims.Audience[0] == issuer {
		return true
	}
	header, err := jose.ParseHeader(c.params.get("client_assertion"))
	if err != nil || !cl.assertionRules().anyAudience || strings.TrimPrefix(strings.ToLower(header.Type), "application/") == oauth.TypClientAuthentication {
		return false
	}
	allowed := slices.Concat([]string{issuer}, c.s.endpointURLs("/token"), c.s.endpointURLs(c.endpoint.path))
	return slices.ContainsFunc(claims.Audience, func(audience string) bool { return slices.Contains(allowed, audience) })
}

// verifyWithClientKeys verifies a JWT with the client's registered keys. If the kid is unknown, it
// fetches the jwks_uri again, once.
func verifyWithClientKeys(ctx context.Context, now time.Time, cl *client, token string, want jose.Expected) ([]byte, error) {
	keys := cl.keys
	if cl.remoteKeys != nil {
		var err error
		if keys, err = cl.remoteKeys.Get(ctx, false); err != nil {
			return nil, err
		}
	}
	if keys == nil {
		return nil, errCredentials("the client has no keys")
	}
	payload, _, err := jose.Verify(token, keys, want)
	if errors.Is(err, jose.ErrUnknownKey) && cl.remoteKeys != nil {
		if keys, err = cl.remoteKeys.Get(ctx, true); err != nil {
			return nil, err
		}
		payload, _, err = jose.Verify(token, keys, want)
	}
	return payload, err
}

func (c *clientCheck) workload() {
	if w := c.WorkloadIdentity; w == nil || w.Issuer == "" || w.Subject == "" {
		c.report("", "federated_jwt needs workload_identity with issuer and subject")
	}
}

func (s *Server) acceptsWorkloads() bool { return s.trusts(UseClientAuthentication) }

// presentsFederatedJWT reports whether the request has the JWT of a workload's platform. Such a JWT
// does not name the client, so the request must contain client_id. Unlike an assertion that the
// client signs itself, it may be used more than once, because the platform returns the same one for
// minutes.
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
		return errCredentials("the issuer of the assertion is not the one in workload_identity")
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
		return errCredentials("the assertion's sub is " + clip(a.Subject) + ", not the one in workload_identity")
	}
	return nil
}
