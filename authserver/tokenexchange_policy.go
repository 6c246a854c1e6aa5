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

// TokenExchangeRule lets clients exchange tokens (RFC 8693). What no rule lets them is
// refused. One rule allows a request as a whole, or another does.
type TokenExchangeRule struct {
	// Clients are the client_ids of those that may ask. They have credentials.
	Clients []string `json:"clients"`
	// SubjectTokenTypes are what they may exchange; left out: access tokens.
	SubjectTokenTypes []string `json:"subject_token_types,omitempty"`
	// SubjectTokenClients are the client_ids to which the subject token was issued; left
	// out: any. It must be meant for the client that asks all the same.
	SubjectTokenClients []string `json:"subject_token_clients,omitempty"`
	// SubjectTokenIssuers are those whose tokens may be exchanged: trusted issuers with the
	// use token_exchange, and this server; left out: this server alone.
	SubjectTokenIssuers []string `json:"subject_token_issuers,omitempty"`
	// RequestedTokenTypes are what they may get; left out: access tokens. ID-JAGs and
	// transaction tokens stand in rules of their own.
	RequestedTokenTypes []string `json:"requested_token_types,omitempty"`
	// Resources are the APIs for which the tokens may be.
	Resources []string `json:"resources,omitempty"`
	// Audiences are the authorization servers for which an ID-JAG may be, by their issuer
	// identifiers, or the trust domains of transaction tokens.
	Audiences []string `json:"audiences,omitempty"`
	// Scopes may be granted although the subject token does not have them.
	Scopes []string `json:"scopes,omitempty"`
	// Impersonation lets the client do without an actor token: nothing in the new token
	// tells it from the subject's own.
	Impersonation bool `json:"impersonation,omitempty"`
	// Actors are who may act for the subject (RFC 8693, section 1.1): client_ids for clients,
	// subjects for people. Left out: nobody but the client that asks.
	Actors []string `json:"actors,omitempty"`
	// MaxLifetime is how long the new token lasts at most, beside what holds for all tokens
	// of its kind and for the subject token.
	MaxLifetime record.Duration `json:"max_lifetime,omitzero"`
	// OutlivesSubjectToken lets the new token last longer than the subject token.
	OutlivesSubjectToken bool `json:"outlives_subject_token,omitempty"`
	// AudienceClientID is the client_id of the client at the audience of an ID-JAG; left out:
	// the same as here.
	AudienceClientID string `json:"audience_client_id,omitempty"`
	// AudienceSubjectClient is the client_id by which the audience of an ID-JAG signs people
	// in here, so that it knows them by the same sub; left out: people have the sub that the
	// client knows.
	AudienceSubjectClient string `json:"audience_subject_client,omitempty"`
}

// exchangeableTypes are the types of tokens that can be exchanged, issuedTypes those that
// can be asked for.
func exchangeableTypes() []string {
	return []string{oauth.TokenTypeAccessToken, oauth.TokenTypeRefreshToken, oauth.TokenTypeIDToken, oauth.TokenTypeJWT}
}

func issuedTypes() []string {
	return []string{
		oauth.TokenTypeAccessToken, oauth.TokenTypeJWT, oauth.TokenTypeIDToken, oauth.TokenTypeRefreshToken,
		oauth.TokenTypeIDJAG, oauth.TokenTypeTransaction,
	}
}

// Check reports why a rule cannot stand.
func (r *TokenExchangeRule) Check() error {
	if len(r.Clients) == 0 {
		return errors.New("clients is missing: who may exchange tokens")
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
	abroad := grant || transaction
	onlyIDTokens := len(r.RequestedTokenTypes) == 1 && r.issues(oauth.TokenTypeIDToken)
	switch {
	case abroad && len(r.RequestedTokenTypes) > 1:
		return errors.New("requested_token_types: id-jag and txn_token need separate rules")
	case abroad && len(r.Audiences) == 0:
		return errors.New("audiences is missing: which audiences the tokens may have")
	case !abroad && len(r.Audiences) > 0:
		return errors.New("audiences is for id-jag and txn_token; resources are the APIs of access tokens")
	case !abroad && !onlyIDTokens && len(r.Resources) == 0:
		return errors.New("resources is missing: which APIs the tokens may be for")
	case !grant && (r.AudienceClientID != "" || r.AudienceSubjectClient != ""):
		return errors.New("audience_client_id and audience_subject_client are for id-jag")
	case r.AudienceClientID != "" && len(r.Clients) > 1:
		return errors.New("audience_client_id needs a rule for exactly one client")
	case grant && slices.ContainsFunc(r.SubjectTokenTypes, func(t string) bool {
		return t != oauth.TokenTypeIDToken && t != oauth.TokenTypeRefreshToken
	}):
		return errors.New("subject_token_types: an ID-JAG is issued for an ID token or a refresh token")
	case transaction && slices.Contains(r.SubjectTokenTypes, oauth.TokenTypeRefreshToken):
		return errors.New("subject_token_types: no transaction token is issued for a refresh token")
	case abroad && (r.Impersonation || len(r.Actors) > 0):
		return errors.New("impersonation and actors are for tokens that APIs accept")
	}
	return nil
}

func (r *TokenExchangeRule) issues(tokenType string) bool {
	if r.RequestedTokenTypes == nil {
		return tokenType == oauth.TokenTypeAccessToken
	}
	return slices.Contains(r.RequestedTokenTypes, tokenType)
}

func (r *TokenExchangeRule) takes(tokenType string) bool {
	if r.SubjectTokenTypes != nil {
		return slices.Contains(r.SubjectTokenTypes, tokenType)
	}
	if r.issues(oauth.TokenTypeIDJAG) {
		return tokenType == oauth.TokenTypeIDToken
	}
	return tokenType == oauth.TokenTypeAccessToken
}

func (r *TokenExchangeRule) takesFrom(t *presentedToken, foreign bool) bool {
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

// lets reports whether the rule lets somebody act; nil is nobody, by an actor token.
func (r *TokenExchangeRule) lets(acting *presentedToken, asking *client) bool {
	if acting == nil {
		return r.Impersonation
	}
	if r.Actors == nil {
		return acting.person == "" && acting.clientID == asking.ID
	}
	if acting.person != "" {
		return slices.Contains(r.Actors, acting.person)
	}
	return slices.Contains(r.Actors, acting.clientID)
}

// lifetime bounds what is made of a subject token; 0 does not.
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
		must:    "a rule of token_exchange lets the client have the requested_token_type",
		section: "RFC 8693, section 2.2.2", code: oauth.InvalidRequest,
		says: "the client may not get tokens of this requested_token_type",
		fix:  "add the type to the requested_token_types of a rule for the client",
	}
	ruleExchangeSubject = rule{
		must:    "a rule of token_exchange lets the client exchange tokens of this type, issued to that client",
		section: "RFC 8693, section 2.2.2", code: oauth.InvalidRequest,
		says: "the client may not exchange this subject_token",
		fix:  "add its type to subject_token_types, and its client or issuer to subject_token_clients or subject_token_issuers, of a rule for the client",
	}
	ruleExchangeTarget = rule{
		must:    "a rule of token_exchange lets the client have tokens for the target",
		section: "RFC 8693, section 2.2.2", code: oauth.InvalidTarget,
		says: "the client may not get tokens for this resource or audience",
		fix:  "add the target to the resources or audiences of a rule for the client",
	}
	ruleExchangeActor = rule{
		must:    "a rule of token_exchange lets the actor act, or lets the client leave out actor_token",
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

// allowing returns those rules that hold for a request; where none does, it is refused.
func (c *call) allowing(rules []*TokenExchangeRule, r *rule, detail string, holds func(*TokenExchangeRule) bool) ([]*TokenExchangeRule, error) {
	var left []*TokenExchangeRule
	for _, candidate := range rules {
		if holds(candidate) {
			left = append(left, candidate)
		}
	}
	if len(left) == 0 {
		return nil, c.refuse(r, detail)
	}
	return left, c.must(true, r)
}
