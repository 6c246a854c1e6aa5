package authserver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// TokenExchangeRule allows clients to exchange tokens (RFC 8693). A request is refused unless a
// single rule allows all of it.
type TokenExchangeRule struct {
	// Clients are the client_ids of the clients that may exchange tokens. They must be
	// confidential.
	Clients []string `json:"clients"`
	// SubjectTokenTypes are the types of tokens that they may exchange; nil means access tokens.
	SubjectTokenTypes []string `json:"subject_token_types,omitempty"`
	// SubjectTokenClients are the client_ids of the clients that the subject token may have been
	// issued to; nil means any. In each case the token must be meant for the requesting client.
	SubjectTokenClients []string `json:"subject_token_clients,omitempty"`
	// SubjectTokenIssuers are the issuers whose tokens may be exchanged: trusted issuers with
	// the use token_exchange, and this server; nil means only this server.
	SubjectTokenIssuers []string `json:"subject_token_issuers,omitempty"`
	// RequestedTokenTypes are the types of tokens that the clients may get; nil means access
	// tokens. ID-JAGs and transaction tokens need separate rules.
	RequestedTokenTypes []string `json:"requested_token_types,omitempty"`
	// Resources are the APIs that the tokens may be for.
	Resources []string `json:"resources,omitempty"`
	// Audiences are the issuer identifiers of the authorization servers that an ID-JAG may be
	// for, or the trust domains of transaction tokens.
	Audiences []string `json:"audiences,omitempty"`
	// Scopes may be granted even if the subject token does not have them.
	Scopes []string `json:"scopes,omitempty"`
	// Impersonation makes the actor token optional. Without one, the new token looks like a
	// token of the subject itself.
	Impersonation bool `json:"impersonation,omitempty"`
	// Actors are the parties that may act for the subject (RFC 8693, section 1.1): client_ids of
	// clients, subjects of users. nil means only the requesting client.
	Actors []string `json:"actors,omitempty"`
	// MaxLifetime further limits the lifetime of the new token.
	MaxLifetime record.Duration `json:"max_lifetime,omitzero"`
	// OutlivesSubjectToken lets the new token be valid longer than the subject token.
	OutlivesSubjectToken bool `json:"outlives_subject_token,omitempty"`
	// AudienceClientID is the client_id of the requesting client at the audience of an ID-JAG;
	// "" means that it is the same as at this server.
	AudienceClientID string `json:"audience_client_id,omitempty"`
	// AudienceSubjectClient is the client_id with which the audience of an ID-JAG signs users in
	// at this server. The ID-JAG then has the sub that the audience knows; without it, the sub
	// that the requesting client knows.
	AudienceSubjectClient string `json:"audience_subject_client,omitempty"`
}

// exchangeableTypes returns the types of tokens that can be exchanged, and issuedTypes the types
// that can be requested.
func exchangeableTypes() []string {
	return []string{oauth.TokenTypeAccessToken, oauth.TokenTypeRefreshToken, oauth.TokenTypeIDToken, oauth.TokenTypeJWT}
}

func issuedTypes() []string {
	return []string{
		oauth.TokenTypeAccessToken, oauth.TokenTypeJWT, oauth.TokenTypeIDToken, oauth.TokenTypeRefreshToken,
		oauth.TokenTypeIDJAG, oauth.TokenTypeTransaction,
	}
}

// Check returns an error if the rule is not valid.
func (r *TokenExchangeRule) Check() error {
	if len(r.Clients) == 0 {
		return errors.New("clients is missing: list the clients that may exchange tokens")
	}
	for _, member := range [...]struct {
		name          string
		values, known []string
	}{
		{"subject_token_types", r.SubjectTokenTypes, exchangeableTypes()},
		{"requested_token_types", r.RequestedTokenTypes, issuedTypes()},
	} {
		for _, value := range member.values {
			if !slices.Contains(member.known, value) {
				return fmt.Errorf("%s: %q is not one of %s", member.name, value, strings.Join(member.known, ", "))
			}
		}
	}
	for _, name := range r.Scopes {
		if scope, err := oauth.ParseScope(name); err != nil || len(scope) != 1 {
			return fmt.Errorf("scopes: %q is not one scope value (RFC 6749, section 3.3)", name)
		}
	}
	if err := record.CheckOwnLifetime(r.MaxLifetime); err != nil {
		return fmt.Errorf("max_lifetime: %w", err)
	}
	return r.checkTargets()
}

func (r *TokenExchangeRule) checkTargets() error {
	grant, transaction := r.issues(oauth.TokenTypeIDJAG), r.issues(oauth.TokenTypeTransaction)
	external := grant || transaction
	onlyIDTokens := len(r.RequestedTokenTypes) == 1 && r.issues(oauth.TokenTypeIDToken)
	switch {
	case external && len(r.RequestedTokenTypes) > 1:
		return errors.New("requested_token_types: id-jag and txn_token need separate rules")
	case external && len(r.Audiences) == 0:
		return errors.New("audiences is missing: list the audiences that the tokens may have")
	case !external && len(r.Audiences) > 0:
		return errors.New("audiences is for id-jag and txn_token: for access tokens, list the APIs in resources")
	case !external && !onlyIDTokens && len(r.Resources) == 0:
		return errors.New("resources is missing: list the APIs that the tokens may be for")
	case !grant && (r.AudienceClientID != "" || r.AudienceSubjectClient != ""):
		return errors.New("audience_client_id and audience_subject_client are for id-jag")
	case r.AudienceClientID != "" && len(r.Clients) > 1:
		return errors.New("audience_client_id needs a rule for exactly one client")
	case grant && slices.ContainsFunc(r.SubjectTokenTypes, func(t string) bool {
		return t != oauth.TokenTypeIDToken && t != oauth.TokenTypeRefreshToken
	}):
		return errors.New("subject_token_types: id-jag can only be requested for an ID token or a refresh token")
	case transaction && slices.Contains(r.SubjectTokenTypes, oauth.TokenTypeRefreshToken):
		return errors.New("subject_token_types: txn_token cannot be requested for a refresh token")
	case external && (r.Impersonation || len(r.Actors) > 0):
		return errors.New("impersonation and actors cannot be used with id-jag and txn_token")
	}
	return nil
}

func (r *TokenExchangeRule) issues(tokenType string) bool {
	if r.RequestedTokenTypes == nil {
		return tokenType == oauth.TokenTypeAccessToken
	}
	return slices.Contains(r.RequestedTokenTypes, tokenType)
}

func (r *TokenExchangeRule) accepts(tokenType string) bool {
	if r.SubjectTokenTypes != nil {
		return slices.Contains(r.SubjectTokenTypes, tokenType)
	}
	if r.issues(oauth.TokenTypeIDJAG) {
		return tokenType == oauth.TokenTypeIDToken
	}
	return tokenType == oauth.TokenTypeAccessToken
}

func (r *TokenExchangeRule) acceptsIssuer(t *presentedToken, foreign bool) bool {
	if foreign || r.SubjectTokenIssuers != nil {
		if !slices.Contains(r.SubjectTokenIssuers, t.issuer) {
			return false
		}
	}
	return foreign || r.SubjectTokenClients == nil || slices.Contains(r.SubjectTokenClients, t.clientID)
}

// covers reports whether the rule allows every target.
func (r *TokenExchangeRule) covers(targets []string) bool {
	return !slices.ContainsFunc(targets, func(target string) bool { return !oauth.ContainsResource(r.Resources, target) })
}

// allowsActor reports whether the rule allows the subject of the actor token to act. acting is
// nil if there is no actor token.
func (r *TokenExchangeRule) allowsActor(acting *presentedToken, caller *client) bool {
	if acting == nil {
		return r.Impersonation
	}
	if r.Actors == nil {
		return acting.user == "" && acting.clientID == caller.ID
	}
	if acting.user != "" {
		return slices.Contains(r.Actors, acting.user)
	}
	return slices.Contains(r.Actors, acting.clientID)
}

// lifetime returns the longest lifetime of the new token; zero means no limit.
func (r *TokenExchangeRule) lifetime(now time.Time, subject *presentedToken) time.Duration {
	lifetime := time.Duration(r.MaxLifetime)
	if r.OutlivesSubjectToken {
		return lifetime
	}
	return shorter(lifetime, subject.expires.Sub(now))
}

var (
	ruleExchangeConfidential = rule{
		must:    "the client has credentials",
		section: "RFC 8693, section 5", code: oauth.UnauthorizedClient,
		says: "token exchange is for confidential clients",
		fix:  "give the client a secret or a key",
	}
	ruleExchangeClient = rule{
		must:    "a rule of token_exchange names the client",
		section: "RFC 8693, section 2.1", code: oauth.UnauthorizedClient,
		says: "the client may not exchange tokens",
		fix:  "add the client to the clients of a rule of token_exchange",
	}
	ruleExchangeRequested = rule{
		must:    "a rule of token_exchange allows the client to get the requested_token_type",
		section: "RFC 8693, section 2.2.2", code: oauth.InvalidRequest,
		says: "the client may not get tokens of this requested_token_type",
		fix:  "add the type to the requested_token_types of a rule for the client",
	}
	ruleExchangeSubject = rule{
		must:    "a rule of token_exchange allows the client to exchange a token of this type and issuer, issued to this client",
		section: "RFC 8693, section 2.2.2", code: oauth.InvalidRequest,
		says: "the client may not exchange this subject_token",
		fix:  "add its type to subject_token_types, and its client or issuer to subject_token_clients or subject_token_issuers, of a rule for the client",
	}
	ruleExchangeTarget = rule{
		must:    "a rule of token_exchange allows the client to get tokens for the target",
		section: "RFC 8693, section 2.2.2", code: oauth.InvalidTarget,
		says: "the client may not get tokens for this resource or audience",
		fix:  "add the target to the resources or audiences of a rule for the client",
	}
	ruleExchangeActor = rule{
		must:    "a rule of token_exchange allows the actor to act, or allows the client to leave out actor_token",
		section: "RFC 8693, section 2.2.2", code: oauth.InvalidRequest,
		says: "neither impersonation nor this actor is allowed: send the actor_token of a party that may act",
		fix:  "send actor_token, or set impersonation, or add the actor to the actors of a rule for the client",
	}
	ruleExchangeScope = rule{
		must:    "scope is within what the subject token has, the client may have, or a rule of token_exchange allows",
		section: "RFC 8693, section 2.1", code: oauth.InvalidScope,
		says: "scope is more than the subject token has and the client may get for it",
		fix:  "request less, add the scope to the client's scope, or to the scopes of a rule for the client",
	}
)

// allowing returns the rules that allow a request. If there are none, the request is refused.
func (c *call) allowing(rules []*TokenExchangeRule, r *rule, detail string, allows func(*TokenExchangeRule) bool) ([]*TokenExchangeRule, error) {
	var remaining []*TokenExchangeRule
	for _, candidate := range rules {
		if allows(candidate) {
			remaining = append(remaining, candidate)
		}
	}
	if len(remaining) == 0 {
		return nil, c.refuse(r, detail)
	}
	return remaining, c.must(true, r)
}
