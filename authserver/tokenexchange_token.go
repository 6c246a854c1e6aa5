package authserver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

// presentedToken is a subject or actor token that was found good.
type presentedToken struct {
	issuer, subject string // iss and sub, as it says them
	// clientID is to whom it was issued, audience for whom it is meant.
	clientID string
	audience oauth.Audience
	// person is the subject here; "" for a client's own token.
	person  string
	scope   oauth.Scope
	expires time.Time
	act     *actor
	mayAct  *actor
	// authorization is what it descends from: the grant, the sign-in session.
	authorization authorization
	// anchor is what it hangs from (accesstoken.go); "" if nothing.
	anchor string
	// jti is that of a JWT access token of ours; descendants the family of what is exchanged
	// for it, "" if it is none of ours that can be revoked.
	jti, descendants string
	bound            bool // to a key that its sender must prove to have
}

// party is who acts with it as an actor token.
func (t *presentedToken) party() actor {
	return actor{Issuer: t.issuer, Subject: t.subject, ClientID: t.clientID}
}

// The two roles in which a token is presented have rules of their own, so that the answer
// says which of them is wrong. RFC 8693, section 2.2.2 has one code for everything that may
// be wrong.
type presentedRules struct{ sent, kind, good, meant, unbound, person rule }

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
		kind: rule{
			must:    parameter + "_type is supported for this parameter",
			section: "RFC 8693, section 3", code: oauth.InvalidRequest,
			says: parameter + "_type is not supported", fix: "send one of the token type identifiers of RFC 8693, section 3, that docs/guides/token-exchange.md lists",
		},
		good: about("was issued here, is of its type, has not expired and was not revoked", "RFC 8693, section 2.1",
			"is not of its type, or is invalid, expired or revoked", "get a new token; compare what it is with its type"),
		meant: about("was issued to the client that presents it, or is meant for it", "RFC 8693, section 2.1",
			"is not meant for this client", "present a token whose aud is the client, or an API that lists the client in introspection_clients"),
		unbound: about("is bound to no key", "RFC 9449, section 5",
			"is bound to a key", "exchange a bearer token: the binding would be lost"),
		person: about("is about somebody who is still there, and signed in where that is needed", "RFC 8693, section 2.2.2",
			"is about somebody whose authorization has ended", "the account was disabled or deleted, or the sign-in session has ended"),
	}
}

var (
	subjectRules = presented("subject_token")
	actorRules   = presented("actor_token")
)

// errPresented is why a token is not good, for the ladder.
type errPresented string

func (e errPresented) Error() string { return string(e) }

// presentedToken reads a token of a type, and holds that the client may present it.
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
		return nil, c.refuse(&rules.kind, tokenType)
	}
	var reason errPresented
	if errors.As(err, &reason) || errors.Is(err, errInactive) || errors.Is(err, errUnknownClient) {
		return nil, c.because(&rules.good, err)
	}
	if err != nil {
		return nil, err
	}
	_ = c.must(true, &rules.good)
	if meant, err := c.meantForClient(t); err != nil {
		return nil, err
	} else if !meant {
		return nil, c.refuse(&rules.meant, fmt.Sprintf("issued to %s, for %q", t.clientID, []string(t.audience)))
	}
	if err := c.must(!t.bound, &rules.unbound); err != nil {
		return nil, err
	}
	if t.person == "" {
		return t, nil
	}
	err = c.checkUserActive(t.authorization)
	if refusal := oauth.AsError(err); refusal != nil && refusal.Code == oauth.InvalidGrant {
		return nil, c.because(&rules.person, err)
	}
	return t, err
}

// meantForClient reports whether a token came to the client by right: it was issued to it,
// or is for an API that the client speaks for.
func (c *call) meantForClient(t *presentedToken) (bool, error) {
	if t.clientID == c.client.ID || t.audience.Has(c.client.ID) {
		return true, nil
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return false, err
	}
	if c.foreign(t) { // and meant for this server, by whose rules clients may have it
		return true, nil
	}
	return slices.ContainsFunc(t.audience, func(identifier string) bool {
		r := catalogue.resource(identifier)
		return r != nil && r.MayIntrospect(c.client.ID)
	}), nil
}

func (c *call) foreign(t *presentedToken) bool { return t.issuer != c.s.config.Issuer }

// presentedForeign reads the JWT of a trusted issuer about somebody who is here. It gives no
// scope: what a scope means there need not be what it means here.
func (c *call) presentedForeign(trust *trustedIssuer, token string) (*presentedToken, error) {
	a, err := c.verifyTrusted(trust, token, []string{"JWT", ""}, []string{c.s.config.Issuer, c.client.ID})
	var person string
	if err == nil {
		person, err = c.userOf(trust, a)
	}
	if reason, ok := errors.AsType[errAssertion](err); ok {
		return nil, errPresented(reason)
	}
	if err != nil {
		return nil, err
	}
	t := &presentedToken{
		issuer: a.Issuer, subject: a.Subject, audience: a.Audience, person: person, expires: a.Expires,
		authorization: authorization{Subject: person, Family: newFamily(c.now), Issued: c.now.UnixMilli()},
	}
	err = t.readClaims(a.members)
	t.act = a.act
	return t, err
}

// presentedJWT tells by its typ what a JWT of ours is.
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
		return nil, fmt.Errorf("read the scope of an access token of ours: %w", err)
	}
	t := &presentedToken{
		issuer: claims.Issuer, subject: claims.Subject, clientID: claims.ClientID, audience: claims.Audience,
		person: found.user, scope: scope, expires: time.Unix(claims.Expires, 0), anchor: found.anchor, authorization: found.authorization,
		jti: claims.ID, descendants: found.descendants(),
	}
	t.authorization.AuthTime, t.authorization.ACR, t.authorization.AMR = claims.AuthTime, claims.ACR, claims.AMR
	return t, t.readClaims(claims.Extra)
}

// readClaims reads who acts, who may, and whether the token is bound to a key.
func (t *presentedToken) readClaims(claims oauth.Claims) (err error) {
	if t.act, err = readActor(claims[claimActor]); err != nil {
		return errPresented(err.Error())
	}
	if t.mayAct, err = readActor(claims[claimMayAct]); err != nil {
		return errPresented(err.Error())
	}
	t.bound = claims["cnf"] != nil
	return nil
}

// presentedRefreshToken reads a refresh token without using it up. Only its own client can
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
		return nil, errPresented("it is another client's")
	}
	if !ticket.Spent.IsZero() {
		if _, err := c.lostResponse(ticket, a, token); err != nil {
			return nil, err
		}
		return nil, errPresented("it was used")
	}
	t := &presentedToken{
		issuer: c.s.config.Issuer, subject: c.s.subjectFor(c.client, a.Subject), clientID: a.ClientID, person: a.Subject,
		scope: a.Scope, expires: ticket.Expires, anchor: writeAnchor("r", ticket.Key), authorization: a,
		descendants: a.Family,
	}
	return t, t.readClaims(a.Extra)
}

// idTokenClaims is what is read of an ID token of ours.
type idTokenClaims struct {
	idTokenHint
	AuthTime int64    `json:"auth_time"`
	ACR      string   `json:"acr"`
	AMR      []string `json:"amr"`
	Actor    any      `json:"act"`
	Binding  any      `json:"cnf"`
}

// presentedIDToken reads an ID token that this server signed. Its scope is what the person
// allowed the client that it was issued to.
func (c *call) presentedIDToken(token string) (*presentedToken, error) {
	ctx := c.r.Context()
	// One that is signed with a client's secret, the client could have made itself, about
	// anybody.
	if header, err := jose.ParseHeader(token); err != nil || strings.HasPrefix(string(header.Algorithm), "HS") {
		return nil, errPresented("it is not signed with a key of this server's")
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
		return nil, errPresented("it is no ID token of this issuer, or has expired")
	}
	cl, err := c.clientByID(claims.Audience[0])
	if err != nil {
		return nil, err
	}
	if cl.SubjectType == subjectPairwise {
		return nil, errPresented("its sub is pairwise, which no one can turn back into a person: exchange the access token or refresh token")
	}
	grant, err := c.s.config.Store.Grant(ctx, claims.Subject, cl.ID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errPresented("the person has ended what they had allowed the client")
	}
	if err != nil {
		return nil, fmt.Errorf("look up grant: %w", err)
	}
	t := &presentedToken{
		issuer: claims.Issuer, subject: claims.Subject, clientID: cl.ID, audience: claims.Audience, person: claims.Subject,
		scope: grant.Scope, expires: registered.Expires,
		authorization: authorization{
			ClientID: cl.ID, Subject: claims.Subject, Grant: grant.ID, Scope: grant.Scope, Session: claims.Session,
			AuthTime: claims.AuthTime, ACR: claims.ACR, AMR: claims.AMR, Issued: registered.IssuedAt.UnixMilli(),
		},
	}
	return t, t.readClaims(oauth.Claims{claimActor: claims.Actor, "cnf": claims.Binding})
}
