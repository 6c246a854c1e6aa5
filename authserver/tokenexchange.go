package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

var (
	ruleRequestedTokenType = rule{
		must:    "requested_token_type is one that this server issues",
		section: "RFC 8693, section 2.1", code: oauth.InvalidRequest,
		says: "requested_token_type is not supported",
		fix:  "leave it out, or send one of the token type identifiers that docs/guides/token-exchange.md lists",
	}
	ruleRequestedJWT = rule{
		must:    "the target accepts JWTs if requested_token_type is jwt",
		section: "RFC 8693, section 3", code: oauth.InvalidTarget,
		says: "access tokens for this target are not JWTs",
		fix:  "request an access_token, or set access_token_format of the resource to jwt",
	}
	ruleExchangeUser = rule{
		must:    "the subject is a user if an ID token or refresh token is requested",
		section: "RFC 8693, section 2.2.2", code: oauth.InvalidRequest,
		says: "ID tokens and refresh tokens are issued for users only",
		fix:  "request an access token, or exchange a token that a user has authorized",
	}
	ruleExchangeIDTokenTarget = rule{
		must:    "an ID token is for the client that requests it, and the scope has openid",
		section: "RFC 8693, section 2.1", code: oauth.InvalidTarget,
		says: "an ID token is for the client that requests it, and needs the scope openid",
		fix:  "leave out resource and audience, and exchange a token with the scope openid",
	}
	ruleExchangeRefresh = rule{
		must:    "the client is registered for refresh tokens, and a rule of token_exchange lets the new token outlive the subject token",
		section: "RFC 8693, section 2.2.1", code: oauth.InvalidRequest,
		says: "the client may not get a refresh token for this subject_token",
		fix:  "add refresh_token to the client's grant_types, and set outlives_subject_token in the rule",
	}
)

// maxExchangedFamily limits a chain of exchanges by the length of its family name in bytes. It
// allows about twenty tokens.
const maxExchangedFamily = 512

var ruleExchangeChain = rule{
	must:    "the subject_token is not the end of a very long chain of exchanged tokens",
	section: "RFC 8693, section 2.1", code: oauth.InvalidRequest,
	says: "subject_token was exchanged too often",
	fix:  "exchange the token that the service was called with, not the one from its previous exchange",
}

// tokenExchange is a token exchange request.
type tokenExchange struct {
	requested       string // requested_token_type
	subject, acting *presentedToken
	act             *actor
	scope           oauth.Scope
	targets         []string // resources
	audience        string   // of a token for another server
	rule            *TokenExchangeRule
}

func (s *Server) offersTokenExchange() bool { return len(s.config.TokenExchange) > 0 }

// grantTokenExchange serves the token exchange grant (RFC 8693).
func (c *call) grantTokenExchange() (*entitlement, error) {
	t := tokenExchange{requested: c.params.get("requested_token_type")}
	if t.requested == "" {
		t.requested = oauth.TokenTypeAccessToken
	}
	rules, err := c.rulesForClient(&t)
	if err != nil {
		return nil, err
	}
	if rules, err = c.rulesForSubject(&t, rules); err != nil {
		return nil, err
	}
	switch t.requested {
	case oauth.TokenTypeIDJAG:
		return c.exchangeForIDJAG(&t, rules)
	case oauth.TokenTypeTransaction:
		return c.exchangeForTransactionToken(&t, rules)
	}
	if rules, err = c.rulesForTargets(&t, rules); err != nil {
		return nil, err
	}
	if rules, err = c.rulesForActor(&t, rules); err != nil {
		return nil, err
	}
	if err := c.entitledScope(&t, rules); err != nil {
		return nil, err
	}
	ent := c.entitleByExchange(&t)
	if c.foreign(t.subject) {
		if err := c.checkAssertionConsent(ent); err != nil {
			return nil, err
		}
	}
	c.logExchange(&t)
	switch t.requested {
	case oauth.TokenTypeIDToken:
		return ent, c.exchangeForIDToken(&t, ent)
	case oauth.TokenTypeRefreshToken:
		return ent, c.exchangeForRefreshToken(&t, ent)
	}
	return ent, nil
}

// rulesForClient returns the rules for the client and the requested type of token.
func (c *call) rulesForClient(t *tokenExchange) ([]*TokenExchangeRule, error) {
	if err := c.must(!c.client.Public(), &ruleExchangeConfidential); err != nil {
		return nil, err
	}
	if !slices.Contains(issuedTypes(), t.requested) {
		return nil, c.refuse(&ruleRequestedTokenType, t.requested)
	}
	rules := make([]*TokenExchangeRule, len(c.s.config.TokenExchange))
	for i := range rules {
		rules[i] = &c.s.config.TokenExchange[i]
	}
	rules, err := c.allowing(rules, &ruleExchangeClient, c.client.ID, func(r *TokenExchangeRule) bool { return slices.Contains(r.Clients, c.client.ID) })
	if err != nil {
		return nil, err
	}
	return c.allowing(rules, &ruleExchangeRequested, t.requested, func(r *TokenExchangeRule) bool { return r.issues(t.requested) })
}

// rulesForSubject verifies the subject token, and returns the rules that allow it.
func (c *call) rulesForSubject(t *tokenExchange, rules []*TokenExchangeRule) ([]*TokenExchangeRule, error) {
	token, tokenType := c.params.get("subject_token"), c.params.get("subject_token_type")
	if err := c.must(token != "" && tokenType != "", &subjectRules.sent); err != nil {
		return nil, err
	}
	if !slices.Contains(exchangeableTypes(), tokenType) {
		return nil, c.refuse(&subjectRules.supported, tokenType)
	}
	var err error
	if t.subject, err = c.presentedToken(token, tokenType, subjectRules); err != nil {
		return nil, err
	}
	if err := c.must(c.mayExchange(t.subject, t.requested), &subjectRules.possession); err != nil {
		return nil, err
	}
	if err := c.must(len(t.subject.descendants) <= maxExchangedFamily, &ruleExchangeChain); err != nil {
		return nil, err
	}
	return c.allowing(rules, &ruleExchangeSubject, tokenType+" of "+t.subject.issuer+" "+t.subject.clientID, func(r *TokenExchangeRule) bool {
		return r.accepts(tokenType) && r.acceptsIssuer(t.subject, c.foreign(t.subject))
	})
}

// rulesForTargets determines the APIs that the new token is for, from resource and audience (RFC
// 8693, section 2.1), and returns the rules that allow them.
func (c *call) rulesForTargets(t *tokenExchange, rules []*TokenExchangeRule) ([]*TokenExchangeRule, error) {
	audiences := c.params.all("audience")
	if t.requested == oauth.TokenTypeIDToken {
		others := slices.ContainsFunc(audiences, func(audience string) bool { return audience != c.client.ID })
		return rules, c.must(!others && !c.params.has("resource"), &ruleExchangeIDTokenTarget)
	}
	resources, err := c.requestedResources()
	if err != nil {
		return nil, err
	}
	if len(resources)+len(audiences) > maxResources {
		return nil, c.refuse(&ruleResourceSyntax, "more than 16")
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	for _, audience := range audiences {
		known := catalogue.resource(audience)
		if known == nil || !c.client.mayUse(known.Identifier) {
			return nil, c.refuse(&ruleResourceKnown, audience)
		}
		resources = append(resources, known.Identifier)
	}
	t.targets = slices.Compact(slices.Sorted(slices.Values(resources)))
	if len(t.targets) == 0 {
		for _, identifier := range rules[0].Resources {
			if known := catalogue.resource(identifier); known != nil && c.client.mayUse(known.Identifier) {
				t.targets = append(t.targets, known.Identifier)
			}
		}
		if err := c.must(len(t.targets) > 0, &ruleExchangeTarget); err != nil {
			return nil, err
		}
	}
	if rules, err = c.allowing(rules, &ruleExchangeTarget, c.targetsOf(t), func(r *TokenExchangeRule) bool { return r.covers(t.targets) }); err != nil {
		return nil, err
	}
	if t.requested != oauth.TokenTypeJWT {
		return rules, nil
	}
	opaque := slices.ContainsFunc(t.targets, func(identifier string) bool {
		return catalogue.resource(identifier).AccessTokenFormat == record.AccessTokenOpaque
	})
	return rules, c.must(!opaque, &ruleRequestedJWT)
}

func (c *call) targetsOf(t *tokenExchange) string { return oauth.Scope(t.targets).String() }

// rulesForActor verifies the actor token, if there is one, and returns the rules that allow the
// actor.
func (c *call) rulesForActor(t *tokenExchange, rules []*TokenExchangeRule) ([]*TokenExchangeRule, error) {
	token, tokenType := c.params.get("actor_token"), c.params.get("actor_token_type")
	if err := c.must((token == "") == (tokenType == ""), &ruleActorTokenType); err != nil {
		return nil, err
	}
	var err error
	detail := "no actor_token"
	if token != "" {
		if tokenType == oauth.TokenTypeRefreshToken {
			return nil, c.refuse(&actorRules.supported, tokenType)
		}
		if t.acting, err = c.presentedToken(token, tokenType, actorRules); err != nil {
			return nil, err
		}
		if err := c.must(t.acting.confirmation.ProvenBy(c.proven), &actorRules.possession); err != nil {
			return nil, err
		}
		detail = "actor " + t.acting.subject
	}
	if t.act, err = c.actorFor(t.subject, t.acting); err != nil {
		return nil, err
	}
	return c.allowing(rules, &ruleExchangeActor, detail, func(r *TokenExchangeRule) bool { return r.allowsActor(t.acting, c.client) })
}

// entitledScope applies the first rule that allows the requested scope. If the request has no
// scope, it is everything that the first rule allows, except for scopes about the user.
func (c *call) entitledScope(t *tokenExchange, rules []*TokenExchangeRule) error {
	asked, err := oauth.ParseScope(c.params.get("scope"))
	if err != nil {
		return err
	}
	allowed := func(r *TokenExchangeRule) oauth.Scope {
		return t.subject.scope.Union(r.Scopes).Intersect(c.client.scope)
	}
	rules, err = c.allowing(rules, &ruleExchangeScope, "asked: "+asked.String()+"; the subject token has: "+t.subject.scope.String()+"; the client may have: "+c.client.scope.String(),
		func(r *TokenExchangeRule) bool { return allowed(r).Covers(asked) })
	if err != nil {
		return err
	}
	t.rule, t.scope = rules[0], asked
	if asked == nil {
		// The API gets claims about the user only if the client requests them.
		t.scope = slices.DeleteFunc(allowed(t.rule), func(name string) bool { return t.requested != oauth.TokenTypeIDToken && aboutUser(name) })
	}
	return nil
}

// entitleByExchange returns the entitlement to an access token. Its tickets have a new family,
// which ends with the subject token. The subject token does not end with the new token.
func (c *call) entitleByExchange(t *tokenExchange) *entitlement {
	from := &t.subject.authorization
	id := storage.NewID()
	family := newFamily(c.now)
	if t.subject.descendants != "" {
		family = storage.Descendant(t.subject.descendants, id)
	}
	ent := &entitlement{
		authorization: authorization{
			ClientID: c.client.ID, Subject: t.subject.user, Grant: from.Grant, Family: family, Scope: t.scope,
			Resources: t.targets, Details: t.subject.details, Session: from.Session, AuthTime: from.AuthTime, ACR: from.ACR, AMR: from.AMR, Started: from.Started,
		},
		scope: t.scope, resources: t.targets, issuedTokenType: t.requested, lifetime: t.rule.lifetime(c.now, t.subject),
		ownID: id, subjectToken: t.subject, outlives: t.rule.OutlivesSubjectToken,
	}
	if t.act != nil {
		ent.authorization.Extra = oauth.Claims{claimActor: t.act}
	}
	if t.subject.user == "" && t.subject.clientID != c.client.ID {
		ent.authorization.Other = t.subject.subject
	}
	if !ent.outlives {
		ent.subjectAnchor = t.subject.anchor
	}
	return ent
}

func (c *call) exchangeForIDToken(t *tokenExchange, ent *entitlement) error {
	if err := c.must(t.subject.user != "", &ruleExchangeUser); err != nil {
		return err
	}
	if err := c.must(t.scope.Has(oauth.ScopeOpenID), &ruleExchangeIDTokenTarget); err != nil {
		return err
	}
	ent.issueInstead = func(ctx context.Context) (*oauth.TokenResponse, []storage.Ticket, error) {
		token, err := c.issueIDToken(ctx, ent, "", "")
		return &oauth.TokenResponse{
			AccessToken: token, TokenType: oauth.TokenTypeNA, IssuedTokenType: ent.issuedTokenType,
			ExpiresIn: int64(shorter(c.idTokenLifetime(), ent.lifetime) / time.Second),
		}, nil, err
	}
	return nil
}

func (c *call) exchangeForRefreshToken(t *tokenExchange, ent *entitlement) error {
	if err := c.must(t.subject.user != "", &ruleExchangeUser); err != nil {
		return err
	}
	if err := c.must(c.client.HasGrantType(oauth.GrantTypeRefreshToken) && t.rule.OutlivesSubjectToken, &ruleExchangeRefresh); err != nil {
		return err
	}
	if ent.authorization.Started == 0 {
		ent.authorization.Started = c.now.Unix()
	}
	ent.issueInstead = func(context.Context) (*oauth.TokenResponse, []storage.Ticket, error) {
		token := newSecret(prefixRefreshToken, c.now)
		expires := c.refreshTokenExpires(ent.authorization)
		ticket, err := ent.authorization.ticket(secretKey(ticketkind.RefreshToken, prefixRefreshToken, token), expires)
		return &oauth.TokenResponse{
			AccessToken: token, TokenType: oauth.TokenTypeNA, IssuedTokenType: ent.issuedTokenType,
			ExpiresIn: int64(expires.Sub(c.now) / time.Second), Scope: ent.scope.String(),
		}, []storage.Ticket{ticket}, err
	}
	return nil
}

// logExchange records which party acts for which user.
func (c *call) logExchange(t *tokenExchange) {
	acting := ""
	if t.act != nil {
		acting = t.act.Subject
	}
	c.s.events.Record(c.r.Context(), event.TokenExchanged, slog.String("sub", t.subject.subject), namedClient(c.client),
		slog.String("act", acting), slog.Bool("impersonation", t.acting == nil), slog.String("requested_token_type", t.requested), slog.Any("audience", t.targets))
}

// maxActors limits the length of a chain of actors.
const maxActors = 5

// The claims of RFC 8693, sections 4.1 and 4.4.
const (
	claimActor  = "act"
	claimMayAct = "may_act"
)

// actor is a party that acts, or may act, for the subject of a token. Only claims that identify
// the actor are meaningful (RFC 8693, section 4.1).
type actor struct {
	Issuer   string `json:"iss,omitempty"`
	Subject  string `json:"sub,omitempty"`
	ClientID string `json:"client_id,omitempty"`
	// Actor is the previous actor.
	Actor *actor `json:"act,omitempty"`
}

// readActor reads an act or may_act claim; nil if there is none.
func readActor(claim any) (*actor, error) {
	if claim == nil {
		return nil, nil
	}
	document, err := json.Marshal(claim)
	if err != nil {
		return nil, fmt.Errorf("encode actor: %w", err)
	}
	var a actor
	if err := jose.ParseJSON(document, &a); err != nil {
		return nil, fmt.Errorf("read actor: %w", err)
	}
	for at := &a; at != nil; at = at.Actor {
		if at.Subject == "" && at.ClientID == "" {
			return nil, errors.New("read actor: sub or client_id is missing")
		}
	}
	return &a, nil
}

// length returns the number of actors in the chain.
func (a *actor) length() int {
	n := 0
	for ; a != nil; a = a.Actor {
		n++
	}
	return n
}

// matches reports whether a party has the value of every member of a may_act claim.
func (a *actor) matches(party actor) bool {
	same := func(want, have string) bool { return want == "" || want == have }
	return same(a.Issuer, party.Issuer) && same(a.Subject, party.Subject) && same(a.ClientID, party.ClientID)
}

var (
	ruleActorTokenType = rule{
		must:    "actor_token and actor_token_type are sent together",
		section: "RFC 8693, section 2.1", code: oauth.InvalidRequest,
		says: "actor_token and actor_token_type must be sent together, or neither",
		fix:  "send actor_token_type with an actor_token, and not without one",
	}
	ruleActorOwn = rule{
		must:    "the actor token is not itself used by another party for its subject",
		section: "RFC 8693, section 4.1", code: oauth.InvalidRequest,
		says: "the actor_token is itself used on behalf of its subject",
		fix:  "send a token whose subject is the actor itself",
	}
	ruleMayAct = rule{
		must:    "the actor is the one that may_act of the subject token names",
		section: "RFC 8693, section 4.4", code: oauth.InvalidRequest,
		says: "may_act of the subject_token does not allow this party to act",
		fix:  "send the actor_token of the party in may_act",
	}
	ruleActors = rule{
		must:    "no more than 5 parties act for one another",
		section: "RFC 8693, section 4.1", code: oauth.InvalidRequest,
		says: "too many parties act for one another",
		fix:  "exchange a token that was exchanged fewer times",
	}
)

// actorFor returns the act claim of a new token: the current actor and the previous ones. Without
// an actor token, it is the act claim of the subject token.
func (c *call) actorFor(subject, acting *presentedToken) (*actor, error) {
	party := actor{Issuer: c.s.config.Issuer, Subject: clientSubject(c.client.ID), ClientID: c.client.ID}
	if acting != nil {
		if err := c.must(acting.act == nil, &ruleActorOwn); err != nil {
			return nil, err
		}
		party = acting.party()
	}
	if subject.mayAct != nil {
		if !subject.mayAct.matches(party) {
			return nil, c.refuse(&ruleMayAct, "may_act: "+subject.mayAct.Subject+" "+subject.mayAct.Issuer+"; acting: "+party.Subject)
		}
		_ = c.must(true, &ruleMayAct)
	}
	if acting == nil {
		return subject.act, c.must(subject.act.length() <= maxActors, &ruleActors)
	}
	act := &actor{Subject: c.subjectForClient(acting), Actor: subject.act}
	if acting.issuer != c.s.config.Issuer {
		act.Issuer = acting.issuer
	}
	return act, c.must(act.length() <= maxActors, &ruleActors)
}

// subjectForClient returns the sub of a presented token's subject for the requesting client.
func (c *call) subjectForClient(t *presentedToken) string {
	if t.user != "" {
		return c.s.subjectFor(c.client, t.user)
	}
	return t.subject
}
