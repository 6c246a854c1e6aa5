package authserver

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

var (
	ruleTokenSent = rule{
		must:    "the request has a token",
		section: "RFC 7662, section 2.1", code: oauth.InvalidRequest,
		says: "token is missing",
		fix:  "send the token in the body",
	}
	ruleIntrospectionCaller = rule{
		must:    "the caller authenticates with credentials",
		section: "RFC 7662, section 2.1", code: oauth.InvalidClient,
		says: "introspection is for authenticated clients and APIs",
		fix:  "register a client with a secret or a key for the API",
	}
	ruleTokenActive = rule{
		must:    "the token was issued here, has not expired and was not revoked",
		section: "RFC 7662, section 2.2", code: oauth.InvalidToken,
		says: "the token is not active",
		fix:  "get a new token",
	}
)

// introspect serves the introspection endpoint (RFC 7662). A token is active for the client that
// it was issued to, and for the APIs in its audience. For any other caller it is not active, like
// an unknown token.
func (c *call) introspect() error {
	if err := c.parseForm(); err != nil {
		return err
	}
	caller, err := c.authenticateClient()
	if err != nil {
		return err
	}
	if err := c.must(!caller.Public(), &ruleIntrospectionCaller); err != nil {
		return err
	}
	token := c.params.get("token")
	if err := c.must(token != "", &ruleTokenSent); err != nil {
		return err
	}
	response, err := c.introspection(caller, token)
	if errors.Is(err, errInactive) {
		// The response has no reason. The trace has it, and so does the log at level debug.
		_ = c.refuse(&ruleTokenActive, err.Error())
		response, err = (&introspectionResponse{}).json()
	}
	if err != nil {
		return err
	}
	if acceptsIntrospectionJWT(c.r.Header) {
		return c.writeIntrospectionJWT(caller, response)
	}
	noStore(c.w)
	writeBytes(c.w, http.StatusOK, mediaTypeJSON, response)
	return nil
}

// introspectionResponse is a response with the token's other claims (RFC 7662, section 2.2).
type introspectionResponse struct {
	oauth.Introspection
	extra oauth.Claims
}

// json returns the encoded response.
func (r *introspectionResponse) json() ([]byte, error) {
	o := newJSONObject()
	defer o.release()
	r.encode(o)
	encoded, err := o.end()
	if err != nil {
		return nil, fmt.Errorf("encode response: %w", err)
	}
	return bytes.Clone(encoded), nil
}

// encode appends the members of the response to o. The token's other claims cannot replace them.
func (r *introspectionResponse) encode(o *jsonObject) {
	o.boolean("active", r.Active)
	o.text("scope", r.Scope)
	o.text("client_id", r.ClientID)
	o.text("username", r.Username)
	o.text("token_type", r.TokenType)
	o.number("exp", r.Expiry)
	o.number("iat", r.IssuedAt)
	o.number("nbf", r.NotBefore)
	o.text("sub", r.Subject)
	o.audience("aud", r.Audience)
	o.text("iss", r.Issuer)
	o.text("jti", r.ID)
	o.number("auth_time", r.AuthTime)
	o.text("acr", r.ACR)
	o.array("amr", r.AMR)
	o.objects("authorization_details", r.Details)
	if r.Confirmation != nil {
		o.value("cnf", r.Confirmation)
	}
	o.number("refresh_token_timeout", r.RefreshTokenTimeout)
	o.number("authorization_expires_in", r.AuthorizationExpiresIn)
	o.claims(r.extra)
}

// introspection returns the response for a token. That of a JWT access token without
// authorization_details depends on its claims alone, so it is encoded once. Whether the token is
// active and visible is decided each time.
func (c *call) introspection(caller *client, token string) ([]byte, error) {
	if isSecret(prefixRefreshToken, token) {
		response, err := c.introspectRefreshToken(caller, token)
		if err != nil {
			return nil, err
		}
		return response.json()
	}
	t, err := c.verifyAccessToken(token)
	if err != nil {
		return nil, err
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	claims := &t.claims
	visible := claims.ClientID == caller.ID || slices.ContainsFunc(claims.Audience, func(identifier string) bool {
		r := catalogue.resource(identifier)
		return r != nil && r.MayIntrospect(caller.ID)
	})
	if !visible {
		return nil, errInactive
	}
	// What the caller sees of authorization_details depends on the caller.
	same := t.signed != nil && len(claims.Details) == 0
	if same {
		if encoded := t.signed.introspection.Load(); encoded != nil {
			return *encoded, nil
		}
	}
	response := &introspectionResponse{oauth.Introspection{
		Active: true, Scope: claims.Scope, ClientID: claims.ClientID, TokenType: claims.Confirmation.TokenType(),
		Expiry: claims.Expires, IssuedAt: claims.IssuedAt, Subject: claims.Subject, Audience: claims.Audience,
		Issuer: claims.Issuer, ID: claims.ID, AuthTime: claims.AuthTime, ACR: claims.ACR, AMR: claims.AMR,
		Details: c.visibleDetails(catalogue, caller, claims), Confirmation: claims.Confirmation,
	}, claims.Extra}
	encoded, err := response.json()
	if err == nil && same {
		t.signed.introspection.Store(&encoded)
	}
	return encoded, err
}

// introspectRefreshToken describes a refresh token to its own client. The response has no
// token_type, so that it cannot be mistaken for that of an access token.
func (c *call) introspectRefreshToken(caller *client, token string) (*introspectionResponse, error) {
	ticket, a, err := c.refreshTokenTicket(token)
	if err != nil {
		return nil, err
	}
	c.subject = a.Subject
	issued := time.UnixMilli(a.Issued)
	if !ticket.Spent.IsZero() || a.ClientID != caller.ID || !caller.issuedSince(issued) {
		return nil, errInactive
	}
	active, err := c.s.subjectActive(c.r.Context(), a.Subject, a.Session, issued)
	if err != nil {
		return nil, err
	}
	if !active {
		return nil, errInactive
	}
	return &introspectionResponse{Introspection: oauth.Introspection{
		Active: true, Scope: a.Scope.String(), ClientID: a.ClientID, Expiry: ticket.Expires.Unix(),
		Subject: c.s.subjectFor(caller, a.Subject), Issuer: c.s.config.Issuer, Audience: oauth.Audience{c.s.config.Issuer}, Details: a.Details, Confirmation: a.Confirmation,
		RefreshTokenTimeout: c.secondsUntil(ticket.Expires), AuthorizationExpiresIn: c.secondsUntil(c.familyEnds(a)),
	}}, nil
}

// refreshTokenTicket returns the ticket of a refresh token, spent or not, without spending it.
// The error is errInactive if there is none.
func (c *call) refreshTokenTicket(token string) (storage.Ticket, authorization, error) {
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, secretKey(ticketkind.RefreshToken, prefixRefreshToken, token))
	if errors.Is(err, storage.ErrNotFound) {
		return ticket, authorization{}, errInactive
	}
	if err != nil {
		return ticket, authorization{}, fmt.Errorf("look up refresh token: %w", err)
	}
	a, err := readAuthorization(ticket)
	return ticket, a, err
}

// endToken revokes an access token and the tokens that were exchanged from it.
func (c *call) endToken(t *verifiedToken) error {
	ctx, store := c.r.Context(), c.s.config.Store
	revoked := auditTokens(ctx, "token.revoked", authorization{Subject: t.user, ClientID: t.claims.ClientID}, "access token")
	if t.opaque {
		if err := store.Delete(revoked, t.key); err != nil {
			return fmt.Errorf("revoke access token: %w", err)
		}
	} else {
		if err := c.s.endStatus(ctx, c.now, &t.claims); err != nil {
			return err
		}
		if err := c.s.denyJWT(revoked, c.now, t.claims.ID, time.Unix(t.claims.Expires, 0)); err != nil {
			return err
		}
	}
	if err := store.DeleteFamily(ctx, t.descendants()); err != nil {
		return fmt.Errorf("revoke tokens that were exchanged from an access token: %w", err)
	}
	return nil
}
