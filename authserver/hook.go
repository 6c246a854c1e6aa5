package authserver

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// The values of TokenRequest.Kind: what claims are for.
const (
	ClaimsOfAccessToken = "access_token"
	ClaimsOfIDToken     = "id_token"
	ClaimsOfUserinfo    = "userinfo"
)

// TokenRequest is what a hook learns of a token, or of an answer of UserInfo, before it is
// made. It holds no secret and no token. What it holds must not be changed.
type TokenRequest struct {
	// Kind is one of the ClaimsOf… constants.
	Kind string
	// GrantType is how the client asks: implicit at the authorization endpoint, "" at
	// UserInfo.
	GrantType string
	ClientID  string
	// Subject is the person by the name that they have here, which need not be the sub that
	// the client sees; "" for a client's own token.
	Subject string
	Scope   oauth.Scope
	// Audience are those whom an access token is for.
	Audience []string
	// AuthTime, ACR and AMR say how the person proved who they are; AuthTime is zero if they
	// did not.
	AuthTime time.Time
	ACR      string
	AMR      []string
	// Claims are those that are there already beside the protocol's own, and act, which says
	// who acts for the subject (RFC 8693, section 4.1).
	Claims oauth.Claims
}

var ruleHookAllows = rule{
	must:    "the operator's hooks allow the tokens",
	section: "RFC 6749, section 5.2", code: oauth.AccessDenied,
	says: "the tokens were refused",
	fix:  "see why the hook refuses",
}

// ruleHookAnswers tells the client nothing: the operator's own code is at fault.
var ruleHookAnswers = rule{
	must:    "what the operator brings answers, and names no claim of the protocol's",
	section: "Valetkey", code: oauth.ServerError,
	says: "the request failed; the operator can look up the reference",
	fix:  "fix the hook or grant type that fails",
}

// hooked reports whether there are hooks at all. Without them they cost nothing.
func (s *Server) hooked() bool { return s.config.Hooks.TokenClaims != nil || len(s.webhooks) > 0 }

// hookClaims asks the operator's hooks, one after the other, what to add to a token, and
// whether it may be made at all. What one says, a later one does not change.
func (c *call) hookClaims(ctx context.Context, r *TokenRequest) (oauth.Claims, error) {
	claims, err := c.ownTokenClaims(ctx, r)
	for _, w := range c.s.webhooks {
		if err != nil {
			break
		}
		if !w.asksAbout(r) {
			continue
		}
		var more oauth.Claims
		more, err = c.ask(ctx, w, r)
		claims = addClaims(more, claims)
	}
	if err != nil {
		return nil, c.inWordsOf(r.Kind, err)
	}
	_ = c.must(true, &ruleHookAllows)
	return claims, nil
}

// ownTokenClaims asks the embedder's function.
func (c *call) ownTokenClaims(ctx context.Context, r *TokenRequest) (oauth.Claims, error) {
	if c.s.config.Hooks.TokenClaims == nil {
		return nil, nil
	}
	claims, err := c.s.config.Hooks.TokenClaims(ctx, *r)
	if refusal := oauth.AsError(err); refusal != nil {
		return nil, c.refusedByHook(refusal)
	}
	if err == nil {
		err = checkClaims(claims)
	}
	if err != nil {
		return nil, c.because(&ruleHookAnswers, fmt.Errorf("TokenClaims, %s: %w", r.Kind, err))
	}
	return claims, nil
}

func (c *call) refusedByHook(refusal *oauth.Error) error {
	c.climb(rung{rule: &ruleHookAllows, detail: clip(refusal.Error())})
	return refusal
}

// inWordsOf returns a refusal with a code and a status of the endpoint that it is for.
func (c *call) inWordsOf(kind string, err error) error {
	e := *oauth.AsError(err)
	if c.endpoint.page && !slices.Contains(authorizationErrors(), e.Code) {
		e.Code = oauth.AccessDenied
	}
	if kind == ClaimsOfUserinfo && e.HTTPStatus() == http.StatusBadRequest {
		e.Status = http.StatusForbidden
	}
	return &e
}

// authorizationErrors are the codes of RFC 6749, section 4.1.2.1, that a decision about
// tokens can have.
func authorizationErrors() []oauth.ErrorCode {
	return []oauth.ErrorCode{
		oauth.InvalidRequest, oauth.UnauthorizedClient, oauth.AccessDenied, oauth.InvalidScope, oauth.InvalidTarget,
		oauth.ServerError, oauth.TemporarilyUnavailable,
	}
}

// tokenRequest is what hooks learn of an exchange.
func (c *call) tokenRequest(kind string, ent *entitlement, scope oauth.Scope, audience []string, claims oauth.Claims) *TokenRequest {
	a := &ent.authorization
	r := &TokenRequest{
		Kind: kind, GrantType: c.params.get("grant_type"), ClientID: c.client.ID, Subject: a.Subject, Scope: scope,
		Audience: audience, ACR: a.ACR, AMR: a.AMR, Claims: claims,
	}
	if c.endpoint.page {
		r.GrantType = oauth.GrantTypeImplicit
	}
	if a.AuthTime > 0 {
		r.AuthTime = time.Unix(a.AuthTime, 0)
	}
	return r
}

// hookAccessToken adds what hooks say to the claims of an access token beside those of RFC
// 9068. A refreshed token has what they say then.
func (c *call) hookAccessToken(ctx context.Context, ent *entitlement, scope oauth.Scope, audience []string, claims oauth.Claims) (oauth.Claims, error) {
	if !c.s.hooked() {
		return claims, nil
	}
	more, err := c.hookClaims(ctx, c.tokenRequest(ClaimsOfAccessToken, ent, scope, audience, claims))
	return addClaims(more, claims), err
}

// hookIDToken adds what hooks say to the claims of an ID token.
func (c *call) hookIDToken(ctx context.Context, ent *entitlement, claims oauth.Claims) (oauth.Claims, error) {
	if !c.s.hooked() {
		return claims, nil
	}
	more, err := c.hookClaims(ctx, c.tokenRequest(ClaimsOfIDToken, ent, ent.scope, []string{c.client.ID}, claims))
	return addClaims(more, claims), err
}

// hookUserinfo adds what hooks say to the claims of an answer of UserInfo.
func (c *call) hookUserinfo(ctx context.Context, t *verifiedToken, scope oauth.Scope, claims oauth.Claims) (oauth.Claims, error) {
	if !c.s.hooked() {
		return claims, nil
	}
	r := &TokenRequest{
		Kind: ClaimsOfUserinfo, ClientID: c.client.ID, Subject: t.user, Scope: scope,
		Audience: t.claims.Audience, ACR: t.claims.ACR, AMR: t.claims.AMR, Claims: claims,
	}
	if t.claims.AuthTime > 0 {
		r.AuthTime = time.Unix(t.claims.AuthTime, 0)
	}
	more, err := c.hookClaims(ctx, r)
	return addClaims(more, claims), err
}

// addClaims adds claims to those that are there already, which stay as they are.
func addClaims(more, there oauth.Claims) oauth.Claims {
	if len(more) == 0 {
		return there
	}
	all := maps.Clone(more)
	maps.Copy(all, there)
	return all
}
