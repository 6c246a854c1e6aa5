package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

// presentedToken is a verified subject or actor token.
type presentedToken struct {
	issuer, subject string // the claims iss and sub
	// clientID is the client that the token was issued to.
	clientID string
	audience oauth.Audience
	// user is the subject in the user database, or "" for a client's own token.
	user    string
	scope   oauth.Scope
	expires time.Time
	act     *actor
	mayAct  *actor
	// details are the authorization details of the token.
	details []json.RawMessage
	// authorization is the one that the token was issued for, with its grant and session.
	authorization authorization
	// anchor identifies the ticket that the token belongs to (accesstoken.go), or "".
	anchor string
	// jti is the jti of a JWT access token of this server. descendants is the family of tokens
	// that are exchanged from it, or "" if the token cannot be revoked at this server.
	jti, descendants string
	// confirmation are the keys that the token is bound to.
	confirmation *oauth.Confirmation
}

// party returns the actor if this is the actor token.
func (t *presentedToken) party() actor {
	return actor{Issuer: t.issuer, Subject: t.subject, ClientID: t.clientID}
}

// presentedRules are the rules for a presented token. Subject and actor tokens have separate
// ones, so that the response shows which token is wrong: RFC 8693, section 2.2.2 has only one
// code for both.
type presentedRules struct{ sent, supported, valid, intended, possession, userActive rule }

func presented(parameter string) *presentedRules {
	about := func(must, section, says, fix string) rule {
		return rule{must: "the " + parameter + " " + must, section: section, code: oauth.InvalidRequest, says: parameter + " " + says, fix: fix}
	}
	return &presentedRules{
		sent: rule{
			must:    "the request has " + parameter + " and " + parameter + "_type",
			section: "RFC 8693, section 2.1", code: oauth.InvalidRequest,
			says: parameter + " or " + parameter + "_type is missing", fix: "send both",
		},
		supported: rule{
			must:    parameter + "_type is supported for this parameter",
			section: "RFC 8693, section 3", code: oauth.InvalidRequest,
			says: parameter + "_type is not supported", fix: "send one of the token type identifiers of RFC 8693, section 3, that docs/guides/token-exchange.md lists",
		},
		valid: about("has the type in "+parameter+"_type, is from this server or a trusted issuer, has not expired and was not revoked", "RFC 8693, section 2.1",
			"does not have the type in "+parameter+"_type, or is invalid, expired or revoked", "get a new token, and check "+parameter+"_type"),
		intended: about("was issued to the client that presents it, or is meant for it", "RFC 8693, section 2.1",
			"is not meant for this client", "present a token whose aud is the client, or an API that lists the client in introspection_clients"),
		possession: about("is not bound to a key, or the request proves possession of a key that the new token is bound to", "RFC 9449, section 5",
			"is bound to a key, and the new token would not be",
			"send a DPoP proof or use the client certificate, with the same key if the token was issued to this client; only access tokens are issued for a bound token"),
		userActive: about("belongs to an active user, with a sign-in session if it depends on one", "RFC 8693, section 2.2.2",
			"belongs to a user who is not active or has signed out", "sign in again; check whether the account was disabled or deleted"),
	}
}

var (
	subjectRules = presented("subject_token")
	actorRules   = presented("actor_token")
)

// errPresented is the reason why a token is not valid, for the trace.
type errPresented string

func (e errPresented) Error() string { return string(e) }

// presentedToken verifies a token of a type, and checks that the client may present it.
func (c *call) presentedToken(token, tokenType string, rules *presentedRules) (*presentedToken, error) {
	var t *presentedToken
	var err error
	foreign := c.s.trustedFor(token, UseTokenExchange)
	switch tokenType {
	case oauth.TokenTypeAccessToken:
		t, err = c.presentedAccessToken(token)
	case oauth.TokenTypeRefreshToken:
		t, err = c.presentedRefreshToken(token)
	case oauth.TokenTypeIDToken, oauth.TokenTypeJWT:
		switch {
		case foreign != nil:
			t, err = c.presentedForeign(foreign, token)
		case tokenType == oauth.TokenTypeJWT:
			t, err = c.presentedJWT(token)
		default:
			t, err = c.presentedIDToken(token)
		}
	default:
		return nil, c.refuse(&rules.supported, tokenType)
	}
	var reason errPresented
	if errors.As(err, &reason) || errors.Is(err, errInactive) || errors.Is(err, errUnknownClient) {
		return nil, c.because(&rules.valid, err)
	}
	if err != nil {
		return nil, err
	}
	_ = c.must(true, &rules.valid)
	if intended, err := c.intendedForClient(t); err != nil {
		return nil, err
	} else if !intended {
		return nil, c.refuse(&rules.intended, fmt.Sprintf("issued to %s, for %q", t.clientID, []string(t.audience)))
	}
	if t.user == "" {
		return t, nil
	}
	err = c.checkUserActive(t.authorization)
	if refusal := oauth.AsError(err); refusal != nil && refusal.Code == oauth.InvalidGrant {
		return nil, c.because(&rules.userActive, err)
	}
	return t, err
}

// intendedForClient reports whether a token was issued to the client, or is for an API that the
// client may introspect tokens for.
func (c *call) intendedForClient(t *presentedToken) (bool, error) {
	if t.clientID == c.client.ID || t.audience.Has(c.client.ID) {
		return true, nil
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return false, err
	}
	if c.foreign(t) { // its audience was checked, and the rules say which clients may exchange it
		return true, nil
	}
	return slices.ContainsFunc(t.audience, func(identifier string) bool {
		r := catalogue.resource(identifier)
		return r != nil && r.MayIntrospect(c.client.ID)
	}), nil
}

func (c *call) foreign(t *presentedToken) bool { return t.issuer != c.s.config.Issuer }

// presentedForeign verifies the JWT of a trusted issuer about a user of this server. The result
// has no scope, because scopes can have another meaning at the issuer.
func (c *call) presentedForeign(trust *trustedIssuer, token string) (*presentedToken, error) {
	a, err := c.verifyTrusted(trust, token, []string{"JWT", ""}, []string{c.s.config.Issuer, c.client.ID})
	var user string
	if err == nil {
		user, err = c.userOf(trust, a)
	}
	if reason, ok := errors.AsType[errAssertion](err); ok {
		return nil, errPresented(reason)
	}
	if err != nil {
		return nil, err
	}
	t := &presentedToken{
		issuer: a.Issuer, subject: a.Subject, audience: a.Audience, user: user, expires: a.Expires,
		authorization: authorization{Subject: user, Family: newFamily(c.now), Issued: c.now.UnixMilli()},
	}
	err = t.readClaims(a.members)
	t.act = a.act
	return t, err
}

// presentedJWT verifies an access token or ID token of this server, depending on its typ.
func (c *call) presentedJWT(token string) (*presentedToken, error) {
	header, err := jose.ParseHeader(token)
	if err != nil {
		return nil, errPresented(err.Error())
	}
	if header.Type == oauth.TypAccessToken {
		return c.presentedAccessToken(token)
	}
	return c.presentedIDToken(token)
}

func (c *call) presentedAccessToken(token string) (*presentedToken, error) {
	found, err := c.verifyAccessToken(token)
	if err != nil {
		return nil, err
	}
	claims := &found.claims
	scope, err := oauth.ParseScope(claims.Scope)
	if err != nil {
		return nil, fmt.Errorf("read the scope of an access token: %w", err)
	}
	authorization, err := found.ownAuthorization()
	if err != nil {
		return nil, err
	}
	t := &presentedToken{
		issuer: claims.Issuer, subject: claims.Subject, clientID: claims.ClientID, audience: claims.Audience,
		user: found.user, scope: scope, expires: time.Unix(claims.Expires, 0), anchor: found.anchor, authorization: authorization,
		jti: claims.ID, descendants: found.descendants(), details: claims.Details, confirmation: claims.Confirmation,
	}
	t.authorization.AuthTime, t.authorization.ACR, t.authorization.AMR = claims.AuthTime, claims.ACR, slices.Clone(claims.AMR)
	return t, t.readClaims(claims.Extra)
}

// readClaims reads the claims act, may_act and cnf.
func (t *presentedToken) readClaims(claims oauth.Claims) (err error) {
	if t.act, err = readActor(claims[claimActor]); err != nil {
		return errPresented(err.Error())
	}
	if t.mayAct, err = readActor(claims[claimMayAct]); err != nil {
		return errPresented(err.Error())
	}
	if claims["cnf"] != nil {
		t.confirmation = &oauth.Confirmation{} // not a token of this server that a client can use: no proof is accepted
	}
	return nil
}

// presentedRefreshToken verifies a refresh token without spending it. Only its own client can
// present it.
func (c *call) presentedRefreshToken(token string) (*presentedToken, error) {
	if !isSecret(prefixRefreshToken, token) {
		return nil, errPresented("malformed")
	}
	ticket, a, err := c.refreshTokenTicket(token)
	if err != nil {
		return nil, err
	}
	if a.ClientID != c.client.ID || a.Subject == "" {
		return nil, errPresented("it was issued to another client")
	}
	if !ticket.Spent.IsZero() {
		if _, _, err := c.lostResponse(ticket, a, token); err != nil {
			return nil, err
		}
		return nil, errPresented("it was already used")
	}
	t := &presentedToken{
		issuer: c.s.config.Issuer, subject: c.s.subjectFor(c.client, a.Subject), clientID: a.ClientID, user: a.Subject,
		scope: a.Scope, expires: ticket.Expires, anchor: writeAnchor("r", ticket.Key), authorization: a,
		descendants: a.Family, details: a.Details, confirmation: a.Confirmation,
	}
	return t, t.readClaims(a.Extra)
}

// idTokenClaims are the claims of a presented ID token.
type idTokenClaims struct {
	idTokenHint
	AuthTime int64    `json:"auth_time"`
	ACR      string   `json:"acr"`
	AMR      []string `json:"amr"`
	Actor    any      `json:"act"`
	Binding  any      `json:"cnf"`
}

// presentedIDToken verifies an ID token of this server. The scope of the result is what the user
// has allowed the client that the ID token was issued to.
func (c *call) presentedIDToken(token string) (*presentedToken, error) {
	ctx := c.r.Context()
	// A client could have forged an ID token that is signed with its own secret, for any user.
	if header, err := jose.ParseHeader(token); err != nil || strings.HasPrefix(string(header.Algorithm), "HS") {
		return nil, errPresented("it is not signed with a private key of this server")
	}
	payload, err := c.verifyIDToken(token)
	if err != nil {
		return nil, errPresented(err.Error())
	}
	var claims idTokenClaims
	registered, err := jose.ParseClaims(payload, &claims)
	if err != nil {
		return nil, errPresented(err.Error())
	}
	if claims.Issuer != c.s.config.Issuer || claims.Subject == "" || len(claims.Audience) != 1 || !c.now.Before(registered.Expires) {
		return nil, errPresented("it is not an ID token of this server, or it has expired")
	}
	cl, err := c.clientByID(claims.Audience[0])
	if err != nil {
		return nil, err
	}
	if cl.SubjectType == subjectPairwise {
		return nil, errPresented("its sub is pairwise, so the user cannot be looked up: exchange the access token or refresh token")
	}
	grant, err := c.s.config.Store.Grant(ctx, claims.Subject, cl.ID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errPresented("the user has revoked access for the client")
	}
	if err != nil {
		return nil, fmt.Errorf("look up grant: %w", err)
	}
	t := &presentedToken{
		issuer: claims.Issuer, subject: claims.Subject, clientID: cl.ID, audience: claims.Audience, user: claims.Subject,
		scope: grant.Scope, expires: registered.Expires,
		authorization: authorization{
			ClientID: cl.ID, Subject: claims.Subject, Grant: grant.ID, Scope: grant.Scope, Session: claims.Session,
			AuthTime: claims.AuthTime, ACR: claims.ACR, AMR: claims.AMR, Issued: registered.IssuedAt.UnixMilli(),
		},
	}
	return t, t.readClaims(oauth.Claims{claimActor: claims.Actor, "cnf": claims.Binding})
}
