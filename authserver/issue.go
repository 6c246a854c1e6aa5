package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

var ruleAudienceFormats = rule{
	must:    "the resources of one token agree on its format",
	section: "RFC 8707, section 2", code: oauth.InvalidTarget,
	says: "these resources cannot share one access token; request them one at a time",
	fix:  "send one resource parameter, or give the resources the same access_token_format",
}

// issue issues the tokens of an entitlement. One operation of the store spends the tickets of the
// grant and stores those of the tokens. The token endpoint issues tokens nowhere else.
func (c *call) issue(ent *entitlement) (*oauth.TokenResponse, error) {
	ctx := c.r.Context()
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	if err := c.useClient(); err != nil {
		return nil, err
	}
	a := &ent.authorization
	c.subject = a.Subject
	if a.Issued == 0 {
		a.Issued = c.now.UnixMilli()
	}
	if a.Subject == "" && a.Grant == "" {
		a.Grant = record.ClientGrant(c.client.ID)
	}
	response, put, err := c.issueToken(ctx, catalogue, ent)
	if err != nil {
		return nil, err
	}
	put = append(append(put, ent.put...), c.proofTickets()...)
	if ent.idToken {
		if response.IDToken, err = c.issueIDToken(ctx, ent, response.AccessToken, ""); err != nil {
			return nil, err
		}
	}
	if ent.refreshToken != "" {
		response.RefreshToken = ent.refreshToken
	}
	if ent.reusedRefreshToken.Kind != "" {
		if err := c.prolong(ent); err != nil {
			return nil, err
		}
	}
	if ent.storeRefresh {
		a := ent.authorization
		if a.Started == 0 {
			a.Started = c.now.Unix()
		}
		if c.client.Public() || c.instance != "" {
			a.Confirmation = c.refreshTokenKeys()
		}
		ent.refreshTokenExpires = c.refreshTokenExpires(a)
		ticket, err := a.ticket(ent.refreshKey(), ent.refreshTokenExpires)
		if err != nil {
			return nil, err
		}
		put = append(put, ticket)
		if ent.begins() && !ent.retried {
			put = append(put, c.authorizationTickets(a)...)
		}
	}
	c.setRefreshExpiration(response, ent)
	if ent.sealPush != nil {
		ticket, err := ent.sealPush(response)
		if err != nil {
			return nil, err
		}
		put = append(put, ticket)
	}
	if err = c.store(ctx, ent, put); err != nil {
		return nil, fmt.Errorf("store tokens: %w", err)
	}
	c.proofSpent()
	c.used(&ent.authorization)
	for _, ticket := range put {
		if ticket.Kind == ticketkind.RefreshToken {
			c.s.issued.put(ticket.Key, ticket)
		}
	}
	if ent.begins() {
		c.endOldest(ent.authorization)
	}
	return response, nil
}

// grantUseLifetime is how long the last use of a grant is kept.
const grantUseLifetime = 2 * 365 * 24 * time.Hour

// used notes that a client used what a user has granted it, for the user's account page.
func (c *call) used(a *authorization) {
	if a.Subject == "" || a.Grant == "" {
		return
	}
	c.s.uses.Record(storage.Use{Owner: a.Subject, Name: record.GrantUse(a.Grant), At: c.now, Remote: c.s.remoteAddr(c.r), Expires: c.now.Add(grantUseLifetime)})
}

// store stores the tokens and spends what they are issued for, in one operation.
func (c *call) store(ctx context.Context, ent *entitlement, put []storage.Ticket) (err error) {
	spend := ent.spend
	if ent.used != nil {
		put = append(put, *ent.used)
		spend = append(spend, ent.used.Key)
		c.s.redeemed.put(ent.used.Key, struct{}{})
	}
	var found *record.Found
	switch {
	case len(ent.spend) > 0:
		err = c.s.config.Store.Spend(ctx, c.now, ent.spend, put...)
	case ent.sealed:
		found, err = c.storeRedemption(ctx, &ent.authorization, put)
	case len(put) > 0:
		err = c.s.config.Store.Put(ctx, c.now, put...)
	}
	for _, key := range spend {
		c.s.issued.drop(key)
	}
	if err == nil && len(put) > 0 && (len(ent.spend) == 0 || ent.sealed) {
		err = c.recheck(ctx, ent, found)
	}
	if len(spend) > 0 && err != nil && !errors.Is(err, storage.ErrSpent) && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrExists) && oauth.AsError(err) == nil {
		c.noteUnknownOutcome(ent, put)
	}
	return err
}

// storeRedemption stores the tokens for a sealed code, and reads what they depend on in the same
// operation.
func (c *call) storeRedemption(ctx context.Context, a *authorization, put []storage.Ticket) (*record.Found, error) {
	find := record.Find{Grant: a.Grant}
	if sessions, ok := c.s.config.Users.(storedSessions); ok {
		find.Key, _ = sessions.SessionKey(a.Session)
	}
	found, err := c.s.config.Store.PutAndFind(ctx, c.now, find, put...)
	return &found, err
}

// storedSessions is implemented by Users whose sign-in sessions are tickets of Config.Store, so that
// the engine can read a session together with other records.
type storedSessions interface {
	// SessionKey returns the key of the ticket of a session; false if there is no such session.
	SessionKey(session string) (storage.Key, bool)
	// SessionTicketActive is SessionActive for the session of a ticket that was just read.
	SessionTicketActive(ctx context.Context, ticket storage.Ticket) (bool, error)
}

// recheck checks, after tokens were stored without spending a ticket, that what they are issued for
// was not revoked meanwhile: the refresh token that is not rotated, the token that is exchanged, or
// else the user's consent. A revocation after that finds the stored tokens.
//
// For a sealed code, this is the only check of the session and the consent. If it fails, the tokens
// are removed; no client has received them. found is what was read when they were stored; nil if nothing
// was.
func (c *call) recheck(ctx context.Context, ent *entitlement, found *record.Found) error {
	if ent.sealed {
		err := c.checkFound(ctx, ent.authorization, found)
		if oauth.AsError(err) != nil {
			if err := c.s.config.Store.DeleteFamily(ctx, ent.authorization.Family); err != nil {
				return fmt.Errorf("remove tokens: %w", err)
			}
		}
		return err
	}
	key := ent.reusedRefreshToken.Key
	if ent.refreshToken != "" && !ent.storeRefresh {
		key = ent.refreshKey()
	}
	if ent.subjectToken != nil {
		key, _ = readAnchor(ent.subjectToken.anchor)
		if ent.subjectToken.jti != "" {
			if err := c.s.notRevoked(ctx, c.now, ent.subjectToken.jti); errors.Is(err, errInactive) {
				return storage.ErrNotFound
			} else if err != nil {
				return err
			}
		}
	}
	if key.Kind != "" {
		_, err := c.s.config.Store.Get(ctx, c.now, key)
		return err
	}
	if a := &ent.authorization; a.Subject != "" && ent.subjectToken == nil {
		return c.checkConsent(*a)
	}
	return nil
}

func (c *call) issueToken(ctx context.Context, catalogue *catalogue, ent *entitlement) (*oauth.TokenResponse, []storage.Ticket, error) {
	if ent.issueInstead != nil {
		return ent.issueInstead(ctx)
	}
	return c.issueAccessToken(ctx, catalogue, ent)
}

// issueAccessToken issues an access token, and returns the tickets to store: that of an opaque
// token, or the anchor of a user's JWT that is issued without a code or refresh token.
func (c *call) issueAccessToken(ctx context.Context, catalogue *catalogue, ent *entitlement) (*oauth.TokenResponse, []storage.Ticket, error) {
	audience, opaque, err := c.audience(catalogue, ent)
	if err != nil {
		return nil, nil, err
	}
	scope, err := c.allowedScope(ctx, ent.authorization.Subject, c.scopeFor(catalogue, ent, audience))
	if err != nil {
		return nil, nil, err
	}
	lifetime := shorter(c.accessTokenLifetime(catalogue, audience), ent.lifetime)
	if ends, ok := c.ends(ent); ok {
		lifetime = min(lifetime, ends.Sub(c.now))
	}
	extra, err := c.accessTokenExtra(ctx, catalogue, ent, scope, audience)
	if err != nil {
		return nil, nil, err
	}
	if extra, err = c.hookAccessToken(ctx, ent, scope, audience, extra); err != nil {
		return nil, nil, err
	}
	expires := c.now.Add(lifetime)
	response := &oauth.TokenResponse{
		TokenType:       c.confirmation().TokenType(),
		ExpiresIn:       int64(lifetime / time.Second),
		Scope:           scope.String(),
		IssuedTokenType: ent.issuedTokenType,
		Details:         detailsFor(audience, ent.details),
	}
	if opaque {
		ticket, token, err := c.newOpaqueAccessToken(ent, scope, audience, extra, expires)
		response.AccessToken = token
		return response, []storage.Ticket{ticket}, err
	}
	var put []storage.Ticket
	if ent.anchor() == "" && (ent.authorization.Subject != "" || ent.outlives) {
		ent.anchorKey = newAnchor()
		ticket, err := ent.authorization.ticket(ent.anchorKey, expires)
		if err != nil {
			return nil, nil, err
		}
		put = append(put, ticket)
	}
	if catalogue.publishesStatus(audience) {
		status, tickets, err := c.newStatus(ctx, &ent.authorization, expires)
		if err != nil {
			return nil, nil, err
		}
		extra = addClaims(extra, oauth.Claims{claimStatus: status})
		put = append(put, tickets...)
	}
	response.AccessToken, err = c.signAccessToken(ctx, ent, scope, audience, extra, expires)
	return response, put, err
}

// audience returns the audience of the access token, and whether it is opaque. Without a
// resource parameter the audience is the APIs that have a granted scope, and this server's
// UserInfo endpoint if openid was granted.
func (c *call) audience(catalogue *catalogue, ent *entitlement) (audience []string, opaque bool, err error) {
	jwt := false
	audience = make([]string, 0, 2) // most tokens are for an API, and some for UserInfo, too
	add := func(r *record.Resource) {
		audience = append(audience, r.Identifier)
		if r.AccessTokenFormat == record.AccessTokenOpaque {
			opaque = true
		} else {
			jwt = true
		}
	}
	if len(ent.resources) > 0 {
		for _, identifier := range ent.resources {
			r := catalogue.resource(identifier)
			if r == nil {
				return nil, false, c.refuse(&ruleResourceKnown, identifier)
			}
			add(r)
		}
		if opaque && jwt {
			return nil, false, c.refuse(&ruleAudienceFormats, "")
		}
		return audience, opaque, nil
	}
	for i := range catalogue.resources {
		r := &catalogue.resources[i]
		if authorized := ent.authorization.Audience; authorized != nil && !oauth.ContainsResource(authorized, r.Identifier) {
			continue // declared after the authorization
		}
		if c.client.mayUse(r.Identifier) && (slices.ContainsFunc(r.Scopes, ent.scope.Has) || located(ent.details, r.Identifier)) {
			add(r)
		}
	}
	if ent.scope.Has(oauth.ScopeOpenID) || len(audience) == 0 {
		audience = append(audience, c.s.config.Issuer)
	}
	return audience, opaque, nil
}

// scopeFor returns the scope of the token without scopes that no API in its audience has.
func (c *call) scopeFor(catalogue *catalogue, ent *entitlement, audience []string) oauth.Scope {
	if len(ent.resources) == 0 {
		return ent.scope
	}
	var scope oauth.Scope
	for _, name := range ent.scope {
		known := aboutUser(name) || slices.ContainsFunc(audience, func(identifier string) bool {
			r := catalogue.resource(identifier)
			return r != nil && (len(r.Scopes) == 0 || slices.Contains(r.Scopes, name))
		})
		if known {
			scope = append(scope, name)
		}
	}
	return scope
}

// accessTokenClaims are the claims of RFC 9068, section 2.2. The jti begins with an anchor, by
// which the token can be revoked (accesstoken.go).
type accessTokenClaims struct {
	Issuer   string         `json:"iss"`
	Subject  string         `json:"sub"`
	Audience oauth.Audience `json:"aud"`
	ClientID string         `json:"client_id"`
	Expires  int64          `json:"exp"`
	IssuedAt int64          `json:"iat"`
	ID       string         `json:"jti"`
	Scope    string         `json:"scope,omitempty"`
	AuthTime int64          `json:"auth_time,omitempty"`
	ACR      string         `json:"acr,omitempty"`
	AMR      []string       `json:"amr,omitempty"`
	// Details are authorization details (RFC 9396, section 9.1).
	Details []json.RawMessage `json:"authorization_details,omitempty"`
	// Confirmation are the keys that the token is bound to.
	Confirmation *oauth.Confirmation `json:"cnf,omitempty"`
	// Extra are the other claims; Status is one of them, once it is parsed.
	Extra  oauth.Claims  `json:"-"`
	Status *oauth.Status `json:"-"`
}

// encode appends the claims to o. Extra cannot replace the other claims.
func (a *accessTokenClaims) encode(o *jsonObject) {
	o.anyText("iss", a.Issuer)
	o.anyText("sub", a.Subject)
	o.audience("aud", a.Audience)
	o.anyText("client_id", a.ClientID)
	o.anyNumber("exp", a.Expires)
	o.anyNumber("iat", a.IssuedAt)
	o.anyText("jti", a.ID)
	o.text("scope", a.Scope)
	o.number("auth_time", a.AuthTime)
	o.text("acr", a.ACR)
	o.array("amr", a.AMR)
	o.objects("authorization_details", a.Details)
	if a.Confirmation != nil {
		o.value("cnf", a.Confirmation)
	}
	o.claims(a.Extra)
}

// readAccessTokenClaims parses what encode returns.
func readAccessTokenClaims(payload []byte) (*accessTokenClaims, error) {
	var claims accessTokenClaims
	if _, err := jose.ParseClaims(payload, &claims); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(payload, &claims.Extra); err != nil {
		return nil, err
	}
	for _, name := range accessTokenClaimNames() {
		delete(claims.Extra, name)
	}
	if err := claims.readStatus(); err != nil {
		return nil, err
	}
	if len(claims.Extra) == 0 {
		claims.Extra = nil
	}
	return &claims, nil
}

// accessTokenClaimNames are the members of accessTokenClaims.
func accessTokenClaimNames() []string {
	return []string{"iss", "sub", "aud", "client_id", "exp", "iat", "jti", "scope", "auth_time", "acr", "amr", "cnf", "authorization_details"}
}

func (c *call) signAccessToken(ctx context.Context, ent *entitlement, scope oauth.Scope, audience []string, extra oauth.Claims, expires time.Time) (string, error) {
	signer, err := c.signer(jose.Algorithm(c.client.AccessTokenSignedResponseAlg))
	if err != nil {
		return "", err
	}
	a := &ent.authorization
	claims := accessTokenClaims{
		Issuer: c.s.config.Issuer, Subject: c.s.subjectOf(c.client, a), Audience: audience, ClientID: c.client.ID,
		Expires: expires.Unix(), IssuedAt: c.now.Unix(), ID: ent.jti(),
		Scope: scope.String(), AuthTime: a.AuthTime, ACR: a.ACR, AMR: a.AMR,
		Details: detailsFor(audience, ent.details), Confirmation: c.confirmation(), Extra: extra,
	}
	o := newJSONObject()
	defer o.release()
	claims.encode(o)
	payload, err := o.end()
	if err != nil {
		return "", fmt.Errorf("encode access token: %w", err)
	}
	token, err := c.s.signWith(c.r.Context(), signer, oauth.TypAccessToken, payload)
	if err != nil {
		return "", fmt.Errorf("sign access token: %w", err)
	}
	if len(token) > maxAccessTokenBytes {
		return "", fmt.Errorf("the access token has %d bytes, and APIs read no more than %d: remove claims", len(token), maxAccessTokenBytes)
	}
	return token, nil
}

// maxAccessTokenBytes is the longest token that package jose, and so the resource server, reads.
const maxAccessTokenBytes = 16 << 10

// subjectOf returns the sub of the access tokens of an authorization.
func (s *Server) subjectOf(cl *client, a *authorization) string {
	switch {
	case a.Subject != "":
		return s.subjectFor(cl, a.Subject)
	case a.Other != "":
		return a.Other
	}
	return clientSubject(cl.ID)
}

// clientSubject returns the sub of a client's own token: its client_id (RFC 9068, section 2.2).
// The subject of a user is 128 random bits in base64url. A client_id of that form gets a prefix,
// so that no client can pass for a user (RFC 9700, section 4.15).
func clientSubject(clientID string) string {
	if len(clientID) == 22 {
		return "client:" + clientID
	}
	return clientID
}

func (c *call) newOpaqueAccessToken(ent *entitlement, scope oauth.Scope, audience []string, extra oauth.Claims, expires time.Time) (storage.Ticket, string, error) {
	token := newSecret(prefixAccessToken, c.now)
	a := ent.authorization
	a.Scope, a.Resources, a.Claims = scope, ent.resources, ent.authorization.Claims
	a.Details = detailsFor(audience, ent.details)
	a.Extra, a.Confirmation = extra, c.confirmation()
	a.Opaque = &opaqueToken{Audience: audience, IssuedAt: c.now.Unix()}
	ticket, err := a.ticket(secretKey(ticketkind.AccessToken, prefixAccessToken, token), expires)
	return ticket, token, err
}

// issueIDToken issues an ID token (OpenID Connect Core, sections 2, 3.1.3.6 and 3.3.2.11), bound
// to the access token and the code that are issued with it, if there are any.
func (c *call) issueIDToken(ctx context.Context, ent *entitlement, accessToken, code string) (string, error) {
	alg := jose.Algorithm(c.client.IDTokenSignedResponseAlg)
	a := &ent.authorization
	var claims oauth.Claims
	// Without an access token, the client cannot get the claims of the scopes from UserInfo
	// (OpenID Connect Core, section 5.4).
	alone := accessToken == "" && code == ""
	if alone || a.Claims != nil && len(a.Claims.IDToken) > 0 || len(c.client.IDTokenClaims) > 0 {
		wanted := claimsWanted{names: c.client.IDTokenClaims, granted: ent.scope, resources: ent.resources, locales: a.ClaimsLocales, byBrowser: c.endpoint.page}
		if alone {
			wanted.scope = ent.scope
		}
		if a.Claims != nil {
			wanted.asked = a.Claims.IDToken
		}
		var err error
		if claims, err = c.userClaims(ctx, a.Subject, wanted); err != nil {
			return "", fmt.Errorf("read claims for the ID token: %w", err)
		}
	}
	claims, err := c.hookIDToken(ctx, ent, claims)
	if err != nil {
		return "", err
	}
	o := newJSONObject()
	defer o.release()
	o.anyText("iss", c.s.config.Issuer)
	o.anyText("sub", c.s.subjectFor(c.client, a.Subject))
	o.anyText("aud", c.client.ID)
	o.anyText("azp", c.client.ID)
	o.anyNumber("exp", c.now.Add(shorter(c.idTokenLifetime(), ent.lifetime)).Unix())
	o.anyNumber("iat", c.now.Unix())
	o.number("auth_time", a.AuthTime)
	if accessToken != "" && alg != algorithmNone { // an unsigned ID token has no hash algorithm for at_hash
		o.anyText("at_hash", jose.LeftHash(alg, accessToken))
	}
	if code != "" {
		o.anyText("c_hash", jose.LeftHash(alg, code))
	}
	if ent.state != "" {
		o.anyText("s_hash", jose.LeftHash(alg, ent.state))
	}
	if ent.authReqID != "" { // CIBA Core, section 10.3.1
		o.text(oauth.ClaimAuthReqID, ent.authReqID)
		if ent.refreshToken != "" {
			o.text(oauth.ClaimRefreshTokenHash, jose.LeftHash(alg, ent.refreshToken))
		}
	}
	o.text("nonce", ent.nonce)
	o.text("acr", a.ACR)
	o.array("amr", a.AMR)
	o.text("sid", c.s.sessionFor(c.client, a.Session))
	if act := a.Extra[claimActor]; act != nil {
		o.value(claimActor, act)
	}
	o.claims(claims)
	payload, err := o.end()
	if err != nil {
		return "", fmt.Errorf("encode ID token: %w", err)
	}
	token, err := c.sign(c.client, alg, oauth.TypIDToken, payload)
	if err != nil {
		return "", fmt.Errorf("sign ID token: %w", err)
	}
	return c.s.encryptTo(ctx, c.now, c.client, token, c.client.IDTokenEncryptedResponseAlg, c.client.IDTokenEncryptedResponseEnc, "JWT")
}
