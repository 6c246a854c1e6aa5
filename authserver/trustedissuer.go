package authserver

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/saml"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// The values for TrustedIssuer.Uses.
const (
	UseJWTBearer            = "jwt_bearer"            // RFC 7523, section 2.1
	UseIdentityAssertion    = "identity_assertion"    // an ID-JAG
	UseSAMLBearer           = "saml_bearer"           // RFC 7522
	UseTokenExchange        = "token_exchange"        // RFC 8693
	UseClientAuthentication = "client_authentication" // a workload's own JWT instead of a secret
	UseLoginHint            = "login_hint"            // a login_hint_token (CIBA)
)

const defaultAssertionLifetime = time.Hour

// TrustedIssuer is an external issuer whose JWTs or SAML assertions are accepted for its Uses.
type TrustedIssuer struct {
	Issuer string `json:"issuer"`
	// JWKS has its public keys, or JWKSURI is their URL. Without both, the keys are those that
	// its metadata names (OpenID Connect Discovery, section 4).
	JWKS    json.RawMessage `json:"jwks,omitempty"`
	JWKSURI string          `json:"jwks_uri,omitempty"`
	// SAMLCertificates are the PEM certificates that it signs SAML assertions with. Issuer is
	// then its entity ID.
	SAMLCertificates string `json:"saml_certificates,omitempty"`
	// SigningAlgs are the algorithms that it may sign with; without it, all supported ones.
	SigningAlgs []string `json:"signing_algs,omitempty"`
	// Uses are the purposes for which its JWTs or assertions are accepted.
	Uses []string `json:"uses"`
	// Audience is the required aud; without it, the issuer identifier of this server or its
	// token endpoint (RFC 7523, section 3).
	Audience string `json:"audience,omitempty"`
	// MaxLifetime bounds how far the expiry may be ahead; without it, an hour.
	MaxLifetime record.Duration `json:"max_lifetime,omitzero"`
	// Clients are the client_ids of the clients that may present assertions about users.
	Clients []string `json:"clients,omitempty"`
	// Scopes bound the scope of tokens for such an assertion.
	Scopes []string `json:"scopes,omitempty"`
	// Subjects maps a sub to the identifier by which the user signs in at this server.
	Subjects map[string]string `json:"subjects,omitempty"`
	// SubjectByEmail finds users who are not in Subjects by the claim email. The issuer is then
	// trusted to put only the user's own address into it. At this server, the address must be
	// verified.
	SubjectByEmail bool `json:"subject_by_email,omitempty"`
	// Claims are required in the JWT with these values. An array must contain the value.
	Claims map[string]any `json:"claims,omitempty"`
}

// Check returns what is wrong with the settings.
func (t *TrustedIssuer) Check() error {
	uses := []string{UseJWTBearer, UseIdentityAssertion, UseSAMLBearer, UseTokenExchange, UseClientAuthentication, UseLoginHint}
	samlBearer := t.serves(UseSAMLBearer)
	switch {
	case t.Issuer == "":
		return errors.New("issuer is missing")
	case len(t.JWKS) > 0 && t.JWKSURI != "":
		return errors.New("either jwks or jwks_uri, not both")
	case samlBearer != (t.SAMLCertificates != ""):
		return errors.New("saml_certificates needs the use saml_bearer, and vice versa")
	case samlBearer && len(t.Uses) == 1: // needs no keys
	case len(t.JWKS) == 0 && !isWebAddress(t.JWKSURI) && (t.JWKSURI != "" || !isWebAddress(t.Issuer)):
		return errors.New("set jwks, or an https jwks_uri, or an https issuer whose metadata has a jwks_uri")
	case len(t.Uses) == 0:
		return errors.New("uses is missing: list what its JWTs are accepted for")
	}
	for _, use := range t.Uses {
		if !slices.Contains(uses, use) {
			return fmt.Errorf("uses: %q is not one of %s", use, strings.Join(uses, ", "))
		}
	}
	if len(t.JWKS) > 0 {
		if _, err := jose.ParseKeySet(t.JWKS); err != nil {
			return fmt.Errorf("jwks: %w", err)
		}
	}
	if samlBearer {
		if _, err := saml.ParseCertificates(t.SAMLCertificates); err != nil {
			return fmt.Errorf("saml_certificates: %w", err)
		}
	}
	for _, alg := range t.SigningAlgs {
		if !slices.Contains(signingAlgorithms(), jose.Algorithm(alg)) {
			return fmt.Errorf("signing_algs: %q is not a supported signature algorithm", alg)
		}
	}
	if err := record.CheckOwnLifetime(t.MaxLifetime); err != nil {
		return fmt.Errorf("max_lifetime: %w", err)
	}
	grants := samlBearer || t.serves(UseJWTBearer) || t.serves(UseIdentityAssertion)
	switch {
	case grants && len(t.Clients) == 0:
		return errors.New("clients is missing: list the clients that may present its assertions")
	case grants && len(t.Scopes) == 0:
		return errors.New("scopes is missing: list the scopes that its assertions may be used for")
	case (grants || t.serves(UseTokenExchange) || t.serves(UseLoginHint)) && len(t.Subjects) == 0 && !t.SubjectByEmail:
		return errors.New("subjects or subject_by_email is missing: set how a sub is mapped to a user")
	}
	return nil
}

func (t *TrustedIssuer) serves(use string) bool { return slices.Contains(t.Uses, use) }

// longest bounds how far the expiry of an assertion may be ahead.
func (t *TrustedIssuer) longest() time.Duration {
	if t.MaxLifetime != 0 {
		return time.Duration(t.MaxLifetime)
	}
	return defaultAssertionLifetime
}

// trustedIssuer is a TrustedIssuer with its keys.
type trustedIssuer struct {
	*TrustedIssuer
	keys         *client // has the keys, given or fetched
	algorithms   []jose.Algorithm
	certificates []*x509.Certificate // for SAML
}

// newTrustedIssuers returns the trusted issuers with their keys.
func (s *Server) newTrustedIssuers() (map[string]*trustedIssuer, error) {
	trusted := map[string]*trustedIssuer{}
	for i := range s.config.TrustedIssuers {
		t := &s.config.TrustedIssuers[i]
		if err := t.Check(); err != nil {
			return nil, fmt.Errorf("trusted issuer %q: %w", t.Issuer, err)
		}
		if trusted[t.Issuer] != nil || t.Issuer == s.config.Issuer {
			return nil, fmt.Errorf("trusted issuer %q: it is listed twice, or is this server", t.Issuer)
		}
		keys := s.newClient(&record.Client{ID: t.Issuer, ClientMetadata: oauth.ClientMetadata{JWKS: t.JWKS, JWKSURI: t.JWKSURI}})
		if keys.keys == nil && keys.remoteKeys == nil {
			keys.remoteKeys = s.operatorOutgoing.KeySetOfIssuer(t.Issuer)
		}
		trust := &trustedIssuer{TrustedIssuer: t, keys: keys, algorithms: signingAlgorithms()}
		if t.serves(UseSAMLBearer) {
			trust.certificates, _ = saml.ParseCertificates(t.SAMLCertificates) // Check has read them
		}
		if t.SigningAlgs != nil {
			trust.algorithms = slices.DeleteFunc(trust.algorithms, func(a jose.Algorithm) bool { return !slices.Contains(t.SigningAlgs, string(a)) })
		}
		trusted[t.Issuer] = trust
	}
	return trusted, nil
}

// trusts reports whether any issuer is trusted for a use.
func (s *Server) trusts(use string) bool {
	return slices.ContainsFunc(s.config.TrustedIssuers, func(t TrustedIssuer) bool { return t.serves(use) })
}

// errAssertion is the reason why a trusted issuer's JWT is refused, for the trace.
type errAssertion string

func (e errAssertion) Error() string { return string(e) }

// trustedFor returns the issuer that a JWT names if it is trusted for a use; otherwise nil. The
// JWT is not verified.
func (s *Server) trustedFor(token, use string) *trustedIssuer {
	if len(s.trusted) == 0 {
		return nil
	}
	payload, err := jose.UnverifiedPayload(token)
	if err != nil {
		return nil
	}
	claims, err := jose.ParseClaims(payload, nil)
	if err != nil {
		return nil
	}
	if t := s.trusted[claims.Issuer]; t != nil && t.serves(use) {
		return t
	}
	return nil
}

// assertion is a verified JWT of a trusted issuer.
type assertion struct {
	jose.Claims
	members oauth.Claims
	act     *actor // the party that acts for the subject, or nil
}

// stringClaim returns the value of a claim, or "" if it is not a string.
func (a *assertion) stringClaim(name string) string {
	value, _ := a.members[name].(string)
	return value
}

// readActor reads the claim act. Actors without an iss are those of the assertion's issuer.
func (a *assertion) readActor() (err error) {
	if a.act, err = readActor(a.members[claimActor]); err != nil || a.act.length() > maxActors {
		return errAssertion("its act is malformed, or names more than 5 actors")
	}
	for at := a.act; at != nil; at = at.Actor {
		if at.Issuer == "" {
			at.Issuer = a.Issuer
		}
	}
	return nil
}

// verifyTrusted verifies a JWT of a trusted issuer (RFC 7523, section 3). audiences are accepted
// if the issuer has no Audience. The error is an errAssertion, or a fault.
func (c *call) verifyTrusted(t *trustedIssuer, token string, types, audiences []string) (*assertion, error) {
	payload, err := verifyWithClientKeys(c.r.Context(), c.now, t.keys, token, jose.Expected{Algorithms: t.algorithms, Types: types})
	if err != nil {
		return nil, errAssertion("its signature: " + err.Error())
	}
	var a assertion
	if a.Claims, err = jose.ParseClaims(payload, &a.members); err != nil {
		return nil, errAssertion("its claims: " + err.Error())
	}
	if t.Audience != "" {
		audiences = []string{t.Audience}
	}
	longest := t.longest()
	switch now := c.now; {
	case a.Issuer != t.Issuer || a.Subject == "":
		return nil, errAssertion("its iss is not the issuer of the keys, or sub is missing")
	// If the JWT had a second audience, that party could present it here.
	case len(a.Audience) != 1 || !slices.Contains(audiences, a.Audience[0]):
		return nil, errAssertion("its only aud must be " + strings.Join(audiences, " or "))
	case a.Expires.IsZero() || !now.Before(a.Expires.Add(clockSkew)):
		return nil, errAssertion("it has no exp, or has expired")
	case a.Expires.Sub(now) > longest+clockSkew:
		return nil, errAssertion("its exp is more than " + longest.String() + " ahead")
	case a.NotBefore.Sub(now) > clockSkew || a.IssuedAt.Sub(now) > clockSkew:
		return nil, errAssertion("its nbf or iat is in the future")
	}
	if err := a.readActor(); err != nil {
		return nil, err
	}
	return &a, hasClaims(a.members, t.Claims)
}

// hasClaims checks that a JWT has the required claims.
func hasClaims(have oauth.Claims, want map[string]any) error {
	for name, value := range want {
		if !hasClaim(have[name], value) {
			return errAssertion("its claim " + name + " does not have the required value")
		}
	}
	return nil
}

func hasClaim(have, want any) bool {
	if list, ok := have.([]any); ok {
		return slices.ContainsFunc(list, func(one any) bool { return sameJSON(one, want) })
	}
	return sameJSON(have, want)
}

// sameJSON compares a value from JSON with one from YAML.
func sameJSON(a, b any) bool {
	left, err := json.Marshal(a)
	if err != nil {
		return false
	}
	right, err := json.Marshal(b)
	return err == nil && string(left) == string(right)
}

// userOf returns the user of this server that an assertion is about. The error is an
// errAssertion, or a fault.
func (c *call) userOf(t *trustedIssuer, a *assertion) (string, error) {
	identifier, byEmail := t.Subjects[a.Subject], false
	if identifier == "" && t.SubjectByEmail {
		identifier, byEmail = a.stringClaim("email"), true
		if verified, ok := a.members["email_verified"]; ok && verified != true {
			return "", errAssertion("its issuer has not verified the email address")
		}
	}
	if identifier == "" {
		return "", errAssertion("its sub is not in subjects")
	}
	// The format email also finds a username: users sign in with either.
	user, err := c.s.config.Users.FindSubject(c.r.Context(), oauth.SubjectIdentifier{Format: oauth.SubjectFormatEmail, Email: identifier})
	if errors.Is(err, storage.ErrNotFound) {
		return "", errAssertion("this server has no user for its sub or email address")
	}
	if err != nil {
		return "", fmt.Errorf("find the user of an assertion: %w", err)
	}
	if !byEmail {
		return user, nil
	}
	claims, err := c.s.config.Users.Claims(c.r.Context(), user)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return "", fmt.Errorf("look up the user of an assertion: %w", err)
	}
	if email, _ := claims["email"].(string); !strings.EqualFold(email, identifier) || claims["email_verified"] != true {
		return "", errAssertion("the email address of the user at this server is different, or not verified")
	}
	return user, nil
}
