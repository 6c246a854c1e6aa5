package authserver

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

const (
	// transactionTokenLifetime is the longest lifetime of a transaction token if its rule has no
	// max_lifetime: enough for one request to pass through all services.
	transactionTokenLifetime = time.Minute
	maxTransactionContext    = 4 << 10 // bytes
)

var (
	ruleTransactionScope = rule{
		must:    "the request has a scope, the purpose of the transaction, which the subject token has or a rule of token_exchange allows",
		section: "draft-ietf-oauth-transaction-tokens, sections 11.1 and 13.6", code: oauth.InvalidScope,
		says: "scope is missing, or more than the subject token has and the client may get for it",
		fix:  "send scope, and add it to the scopes of a rule for the client",
	}
	ruleTransactionContext = rule{
		must:    "request_context and request_details are JSON objects of at most 4096 bytes",
		section: "draft-ietf-oauth-transaction-tokens, section 11.1", code: oauth.InvalidRequest,
		says: "request_context and request_details must be JSON objects of at most 4096 bytes",
		fix:  "send one JSON object in each, without duplicate members",
	}
)

// transactionClaims are the claims of a transaction token
// (draft-ietf-oauth-transaction-tokens, section 9.2).
type transactionClaims struct {
	Issuer             string          `json:"iss"`
	IssuedAt           int64           `json:"iat"`
	Audience           string          `json:"aud"` // the trust domain
	Expires            int64           `json:"exp"`
	Transaction        string          `json:"txn"`
	Subject            string          `json:"sub"`
	Scope              string          `json:"scope"`
	TransactionContext json.RawMessage `json:"tctx,omitempty"`
	RequestContext     json.RawMessage `json:"rctx,omitempty"`
	RequestingWorkload string          `json:"req_wl"`
	Actor              *actor          `json:"act,omitempty"`
}

// exchangeForTransactionToken issues a transaction token, which the services of a trust domain
// pass on to each other (draft-ietf-oauth-transaction-tokens). The client's description of the
// request is signed unchanged: the rule trusts the client with that.
func (c *call) exchangeForTransactionToken(t *tokenExchange, rules []*TokenExchangeRule) (*entitlement, error) {
	rules, err := c.rulesForOtherServer(t, rules)
	if err != nil {
		return nil, err
	}
	if t.scope, err = oauth.ParseScope(c.params.get("scope")); err != nil {
		return nil, err
	}
	detail := "asked: " + t.scope.String() + "; the subject token has: " + t.subject.scope.String()
	rules, err = c.allowing(rules, &ruleTransactionScope, detail, func(r *TokenExchangeRule) bool {
		return len(t.scope) > 0 && t.subject.scope.Union(r.Scopes).Covers(t.scope)
	})
	if err != nil {
		return nil, err
	}
	t.rule = rules[0]
	claims := transactionClaims{
		Issuer: c.s.config.Issuer, IssuedAt: c.now.Unix(), Audience: t.audience, Transaction: storage.NewID(), Subject: c.subjectForClient(t.subject),
		Scope: t.scope.String(), RequestingWorkload: c.client.ID, Actor: t.act,
	}
	if claims.RequestContext, err = c.transactionContext("request_context"); err != nil {
		return nil, err
	}
	if claims.TransactionContext, err = c.transactionContext("request_details"); err != nil {
		return nil, err
	}
	lifetime := t.rule.lifetime(c.now, t.subject)
	if t.rule.MaxLifetime == 0 {
		lifetime = shorter(lifetime, transactionTokenLifetime)
	}
	claims.Expires = c.now.Add(lifetime).Unix()
	c.logExchange(t)
	ent := c.entitleByExchange(t)
	ent.issueInstead = func(ctx context.Context) (*oauth.TokenResponse, []storage.Ticket, error) {
		payload, err := json.Marshal(claims)
		if err != nil {
			return nil, nil, fmt.Errorf("encode transaction token: %w", err)
		}
		return c.signedInstead(ctx, t, oauth.TypTransactionToken, payload, lifetime)
	}
	return ent, nil
}

// transactionContext returns a parameter that is a JSON object, byte for byte, or nil if it was
// not sent.
func (c *call) transactionContext(name string) (json.RawMessage, error) {
	text := c.params.get(name)
	if text == "" {
		return nil, nil
	}
	var members map[string]any
	err := jose.ParseJSON([]byte(text), &members)
	return json.RawMessage(text), c.must(len(text) <= maxTransactionContext && err == nil && members != nil, &ruleTransactionContext)
}

// idJAGLifetime is the longest lifetime of an ID-JAG, which clients use immediately.
const idJAGLifetime = 5 * time.Minute

var (
	ruleOtherServerAudience = rule{
		must:    "the request has exactly one audience",
		section: "draft-ietf-oauth-identity-assertion-authz-grant, section 4.3; draft-ietf-oauth-transaction-tokens, section 11.1", code: oauth.InvalidRequest,
		says: "send one audience",
		fix:  "send the issuer identifier of the other authorization server, or the name of the trust domain, as audience",
	}
	ruleOtherServerActor = rule{
		must:    "there is no actor_token",
		section: "draft-ietf-oauth-identity-assertion-authz-grant, section 4.3", code: oauth.InvalidRequest,
		says: "this requested_token_type does not support actor_token",
		fix:  "leave out actor_token, or first exchange the subject token with it",
	}
	ruleIDJAGSubject = rule{
		must:    "the subject token is for a user and was issued to the client",
		section: "draft-ietf-oauth-identity-assertion-authz-grant, section 4.3.3", code: oauth.InvalidRequest,
		says: "an ID-JAG is issued for an ID token or refresh token that the client itself has received",
		fix:  "present the client's own ID token or refresh token",
	}
	ruleOtherServerScope = rule{
		must:    "scope is within what a rule of token_exchange allows",
		section: "RFC 8693, section 2.1", code: oauth.InvalidScope,
		says: "the client may not get this scope for this audience",
		fix:  "add the scope to the scopes of a rule for the client",
	}
)

// idJAGClaims are the claims of an Identity Assertion JWT Authorization Grant
// (draft-ietf-oauth-identity-assertion-authz-grant, section 3.1).
type idJAGClaims struct {
	Issuer   string         `json:"iss"`
	Subject  string         `json:"sub"`
	Audience string         `json:"aud"`
	ClientID string         `json:"client_id"`
	ID       string         `json:"jti"`
	Expires  int64          `json:"exp"`
	IssuedAt int64          `json:"iat"`
	Resource oauth.Audience `json:"resource,omitempty"`
	Scope    string         `json:"scope,omitempty"`
	Actor    *actor         `json:"act,omitempty"`
	AuthTime int64          `json:"auth_time,omitempty"`
	ACR      string         `json:"acr,omitempty"`
	AMR      []string       `json:"amr,omitempty"`
}

// exchangeForIDJAG issues an ID-JAG, with which a client gets tokens for a user from another
// authorization server that trusts this one
// (draft-ietf-oauth-identity-assertion-authz-grant, section 4.3).
func (c *call) exchangeForIDJAG(t *tokenExchange, rules []*TokenExchangeRule) (*entitlement, error) {
	if err := c.must(t.subject.user != "" && t.subject.clientID == c.client.ID, &ruleIDJAGSubject); err != nil {
		return nil, err
	}
	rules, err := c.rulesForOtherServer(t, rules)
	if err != nil {
		return nil, err
	}
	asked, err := oauth.ParseScope(c.params.get("scope"))
	if err != nil {
		return nil, err
	}
	rules, err = c.allowing(rules, &ruleOtherServerScope, "asked: "+asked.String(), func(r *TokenExchangeRule) bool { return oauth.Scope(r.Scopes).Covers(asked) })
	if err != nil {
		return nil, err
	}
	t.rule, t.scope = rules[0], asked
	if asked == nil {
		t.scope = t.rule.Scopes
	}
	c.logExchange(t)
	ent := c.entitleByExchange(t)
	ent.issueInstead = func(ctx context.Context) (*oauth.TokenResponse, []storage.Ticket, error) { return c.idJAG(ctx, t) }
	return ent, nil
}

// rulesForOtherServer determines the audience of a token that is not for a declared resource, and
// returns the rules that allow it.
func (c *call) rulesForOtherServer(t *tokenExchange, rules []*TokenExchangeRule) ([]*TokenExchangeRule, error) {
	if err := c.must(!c.params.has("actor_token") && !c.params.has("actor_token_type"), &ruleOtherServerActor); err != nil {
		return nil, err
	}
	audiences, resources := c.params.all("audience"), c.params.all("resource")
	if err := c.must(len(audiences) == 1, &ruleOtherServerAudience); err != nil {
		return nil, err
	}
	if len(resources) > maxResources {
		return nil, c.refuse(&ruleResourceSyntax, "more than 16")
	}
	for _, resource := range resources {
		if u, err := url.Parse(resource); err != nil || !u.IsAbs() || u.Fragment != "" {
			return nil, c.refuse(&ruleResourceSyntax, resource)
		}
	}
	t.audience, t.targets, t.act = audiences[0], resources, t.subject.act
	return c.allowing(rules, &ruleExchangeTarget, t.audience+" "+c.targetsOf(t), func(r *TokenExchangeRule) bool {
		return slices.Contains(r.Audiences, t.audience) && r.covers(resources)
	})
}

func (c *call) idJAG(ctx context.Context, t *tokenExchange) (*oauth.TokenResponse, []storage.Ticket, error) {
	subjectClient := c.client
	if id := t.rule.AudienceSubjectClient; id != "" {
		var err error
		if subjectClient, err = c.clientByID(id); err != nil {
			return nil, nil, fmt.Errorf("audience_subject_client %q: %w", id, err)
		}
	}
	lifetime := shorter(idJAGLifetime, t.rule.lifetime(c.now, t.subject))
	a := &t.subject.authorization
	claims := idJAGClaims{
		Issuer: c.s.config.Issuer, Subject: c.s.subjectFor(subjectClient, t.subject.user), Audience: t.audience, ClientID: c.client.ID,
		ID: storage.NewID(), Expires: c.now.Add(lifetime).Unix(), IssuedAt: c.now.Unix(), Resource: t.targets, Scope: t.scope.String(),
		Actor: t.act, AuthTime: a.AuthTime, ACR: a.ACR, AMR: a.AMR,
	}
	if t.rule.AudienceClientID != "" {
		claims.ClientID = t.rule.AudienceClientID
	}
	// With the email address, the other server can find users who have not signed in there yet.
	// It is added only if the client may see it too.
	var email oauth.Claims
	if t.subject.scope.Has(oauth.ScopeEmail) {
		var err error
		email, err = c.userClaims(ctx, t.subject.user, claimsWanted{scope: oauth.Scope{oauth.ScopeEmail}, granted: t.subject.scope})
		if err != nil {
			return nil, nil, fmt.Errorf("read claims for an ID-JAG: %w", err)
		}
		maps.DeleteFunc(email, func(name string, _ any) bool { return name != "email" && name != "email_verified" })
	}
	payload, err := oauth.EncodeWith(claims, email)
	if err != nil {
		return nil, nil, fmt.Errorf("encode ID-JAG: %w", err)
	}
	return c.signedInstead(ctx, t, oauth.TypIDJAG, payload, lifetime)
}

// signedInstead returns a token response with a JWT that is not an access token.
func (c *call) signedInstead(ctx context.Context, t *tokenExchange, typ string, payload []byte, lifetime time.Duration) (*oauth.TokenResponse, []storage.Ticket, error) {
	signer, err := c.signer("")
	if err != nil {
		return nil, nil, err
	}
	token, err := c.s.signWith(ctx, signer, typ, payload)
	if err != nil {
		return nil, nil, fmt.Errorf("sign %s: %w", typ, err)
	}
	return &oauth.TokenResponse{
		AccessToken: token, TokenType: oauth.TokenTypeNA, IssuedTokenType: t.requested,
		ExpiresIn: int64(lifetime / time.Second), Scope: t.scope.String(),
	}, nil, nil
}
