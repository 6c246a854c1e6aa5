package authserver

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

const (
	// transactionTokenLifetime is how long one lasts at most if its rule does not say: as
	// long as one call through all services may take.
	transactionTokenLifetime = time.Minute
	maxTransactionContext    = 4 << 10 // bytes
)

var (
	ruleTransactionScope = rule{
		must:    "the request has a scope, the purpose of the transaction, that the subject token has or a rule of token_exchange grants",
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

// exchangeForTransactionToken tells the services of a trust domain, behind the one that was
// called, for whom and for what they work (draft-ietf-oauth-transaction-tokens). What the
// client says of the request is signed as it says it: the rule trusts the client with that.
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
		Issuer: c.s.config.Issuer, IssuedAt: c.now.Unix(), Audience: t.audience, Transaction: storage.NewID(), Subject: c.subjectSeen(t.subject),
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

// transactionContext reads a parameter that is a JSON object, and leaves it as it is, to the
// last digit; nil if it was not sent.
func (c *call) transactionContext(name string) (json.RawMessage, error) {
	text := c.params.get(name)
	if text == "" {
		return nil, nil
	}
	var members map[string]any
	err := jose.ParseJSON([]byte(text), &members)
	return json.RawMessage(text), c.must(len(text) <= maxTransactionContext && err == nil && members != nil, &ruleTransactionContext)
}
