package authserver

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

// SoftwareStatementIssuer is somebody whose software statements count (RFC 7591, section
// 2.3), with their public keys: JWKS, or JWKSURI, from which they are fetched.
type SoftwareStatementIssuer struct {
	Issuer  string          `json:"issuer"`
	JWKS    json.RawMessage `json:"jwks,omitempty"`
	JWKSURI string          `json:"jwks_uri,omitempty"`
}

var (
	ruleSoftwareStatement = rule{
		must:    "the software statement is a JWT that its issuer signed and that has not expired",
		section: "RFC 7591, section 3.2.2", code: oauth.InvalidSoftwareStatement,
		says: "software_statement cannot be verified",
		fix:  "send the statement as its issuer made it",
	}
	ruleSoftwareStatementIssuer = rule{
		must:    "the software statement is of an issuer that this server trusts",
		section: "RFC 7591, section 3.2.2", code: oauth.UnapprovedSoftwareStatement,
		says: "software_statement is missing, or of an issuer that is not trusted here",
		fix:  "name the issuer in registration.software_statements",
	}
)

// applySoftwareStatement puts what a software statement says in the place of what the
// client says (RFC 7591, section 2.3).
func (c *call) applySoftwareStatement(request *registrationRequest) error {
	statement := request.SoftwareStatement
	if statement == "" {
		return c.must(!c.s.registrationPolicy.RequireSoftwareStatement, &ruleSoftwareStatementIssuer)
	}
	payload, err := jose.UnverifiedPayload(statement)
	if err != nil {
		return c.because(&ruleSoftwareStatement, err)
	}
	claims, err := jose.ParseClaims(payload, nil)
	if err != nil {
		return c.because(&ruleSoftwareStatement, err)
	}
	issuer, ok := c.s.statementIssuers[claims.Issuer]
	if !ok {
		return c.refuse(&ruleSoftwareStatementIssuer, "iss: "+claims.Issuer)
	}
	if payload, err = verifyWithClientKeys(c.r.Context(), c.now, issuer, statement, jose.Expected{
		Algorithms: signingAlgorithms(), Types: []string{"", "JWT", "software-statement+jwt"},
	}); err != nil {
		return c.because(&ruleSoftwareStatement, err)
	}
	if !claims.Expires.IsZero() && !c.now.Before(claims.Expires.Add(clockSkew)) || claims.NotBefore.Sub(c.now) > clockSkew {
		return c.because(&ruleSoftwareStatement, errors.New("it has expired, or is not valid yet"))
	}
	if len(claims.Audience) > 0 && !slices.Contains(claims.Audience, c.s.config.Issuer) {
		return c.because(&ruleSoftwareStatement, errors.New("it is meant for somebody else"))
	}
	// It speaks of the software, not of this client.
	clientID, clientSecret := request.ClientID, request.ClientSecret
	problem, err := request.read(payload)
	if err != nil {
		return c.because(&ruleSoftwareStatement, err)
	}
	if problem != nil {
		return c.refuseMetadata(*problem)
	}
	request.ClientID, request.ClientSecret, request.SoftwareStatement = clientID, clientSecret, statement
	request.stated = true
	return c.must(true, &ruleSoftwareStatement)
}

// newStatementIssuers prepares the keys of those whose statements count.
func (s *Server) newStatementIssuers() map[string]*client {
	issuers := map[string]*client{}
	for _, i := range s.registrationPolicy.SoftwareStatements {
		issuers[i.Issuer] = s.newClient(&record.Client{ID: i.Issuer, ClientMetadata: oauth.ClientMetadata{JWKS: i.JWKS, JWKSURI: i.JWKSURI}})
	}
	return issuers
}
