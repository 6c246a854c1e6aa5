package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

var ruleRevokeToken = rule{
	must:    "the request has a token",
	section: "RFC 7009, section 2.1", code: oauth.InvalidRequest,
	says: "token is missing",
	fix:  "send the token in the body",
}

// revoke serves the revocation endpoint (RFC 7009). A refresh token is revoked with its whole
// authorization, an access token alone. The response is the same if the token does not exist or
// belongs to another client; only a failure of the store is reported.
func (c *call) revoke() error {
	if err := c.parseForm(); err != nil {
		return err
	}
	caller, err := c.authenticateClient()
	if err != nil {
		return err
	}
	token := c.params.get("token")
	if err := c.must(token != "", &ruleRevokeToken); err != nil {
		return err
	}
	// token_type_hint is not needed: the prefix of a token identifies its type.
	if isSecret(prefixRefreshToken, token) {
		err = c.revokeRefreshToken(caller, token)
	} else {
		err = c.revokeAccessToken(caller, token)
	}
	if err != nil {
		return err
	}
	noStore(c.w)
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (c *call) revokeRefreshToken(caller *client, token string) error {
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, secretKey(ticketkind.RefreshToken, prefixRefreshToken, token))
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return unavailable(fmt.Errorf("look up refresh token: %w", err))
	}
	a, err := readAuthorization(ticket)
	if err != nil {
		return err
	}
	if a.ClientID != caller.ID {
		return nil
	}
	if err := c.countEndedFamily(endedOwner{caller.ID, a.Subject}, a.Family); err != nil {
		return unavailable(err)
	}
	if err := c.s.config.Store.DeleteFamily(auditTokens(c.r.Context(), "token.revoked", a, "authorization"), a.Family); err != nil {
		return unavailable(fmt.Errorf("revoke authorization: %w", err))
	}
	return nil
}

func (c *call) revokeAccessToken(caller *client, token string) error {
	t, err := c.verifyAccessToken(token)
	if errors.Is(err, errInactive) {
		return nil
	}
	if err != nil {
		return unavailable(err)
	}
	if t.claims.ClientID != caller.ID {
		return nil
	}
	if err := c.countEnded(t); err != nil {
		return err
	}
	if err := c.endToken(t); err != nil {
		return unavailable(err)
	}
	return nil
}

// unavailable returns an error after which the client should try again (RFC 7009, section 2.2.1).
func unavailable(err error) error {
	return oauth.NewError(oauth.TemporarilyUnavailable, "the token could not be revoked; try again").WithCause(err)
}

// denyJWT stores that a JWT is revoked, until it expires.
func (s *Server) denyJWT(ctx context.Context, now time.Time, id string, expires time.Time) error {
	err := s.config.Store.Put(ctx, now, storage.Ticket{Key: ticketkind.RevokedToken.Hash(id), Expires: expires})
	if err != nil && !errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("revoke access token: %w", err)
	}
	return nil
}

// ScopeGlobalTokenRevocation is the scope of an access token that may revoke all tokens of a
// user. It has no other use.
const ScopeGlobalTokenRevocation = "global_token_revocation"

var (
	ruleGlobalRevocationBody = rule{
		must:    "the body is a JSON object whose one member sub_id is a subject identifier",
		section: "draft-parecki-oauth-global-token-revocation, section 3.2", code: oauth.InvalidRequest,
		says: "the body must be a JSON object with the member sub_id, a subject identifier (RFC 9493)",
		fix:  `send {"sub_id": {"format": "email", "email": …}}, or the format opaque or iss_sub`,
	}
	ruleGlobalRevocationFormat = rule{
		must:    "sub_id has a supported format",
		section: "RFC 9493, section 3.2", code: oauth.InvalidRequest,
		says: "the format of sub_id must be email, opaque or iss_sub, with the members of that format",
		fix:  "identify the user by email address, or by the sub at this server",
	}
	ruleGlobalRevocationCaller = rule{
		must:    "the caller authenticates, or has an access token of its own for this server",
		section: "draft-parecki-oauth-global-token-revocation, section 6.1", code: oauth.InvalidToken,
		says: "the access token is invalid, expired, or not meant for this endpoint",
		fix:  "get a token with client_credentials and the scope " + ScopeGlobalTokenRevocation,
	}
	ruleGlobalRevocationScope = rule{
		must:    "an access token has the scope " + ScopeGlobalTokenRevocation,
		section: "draft-parecki-oauth-global-token-revocation, section 6.1", code: oauth.InsufficientScope,
		says: "the access token needs the scope " + ScopeGlobalTokenRevocation,
		fix:  "declare the scope, allow it for the tool alone, and have the tool request it",
	}
	ruleGlobalRevocationAllowed = rule{
		must:    "the client may revoke all tokens of a user",
		section: "draft-parecki-oauth-global-token-revocation, section 6.1", code: oauth.AccessDenied,
		says: "the client may not revoke all tokens of a user",
		fix:  "set global_token_revocation for the client if it is a tool that may do that",
	}
	ruleGlobalRevocationSubject = rule{
		must:    "sub_id identifies a user",
		section: "draft-parecki-oauth-global-token-revocation, section 3.4.2", code: oauth.InvalidRequest,
		says: "there is no such user",
		fix:  "check whether the user has this email address or sub at this server",
	}
)

// globalTokenRevocation ends all tokens and sessions of a user. It is called by tools that the
// operator has allowed to do that (draft-parecki-oauth-global-token-revocation).
func (c *call) globalTokenRevocation() error {
	if err := c.globalRevocationCaller(); err != nil {
		switch e := oauth.AsError(err); {
		case e == nil:
		case c.schemeDPoP:
			c.challenge(err)
			return nil
		case e.Code == oauth.InvalidToken || e.Code == oauth.InsufficientScope:
			c.w.Header().Set("WWW-Authenticate", oauth.NewChallenge("Bearer", "realm", c.s.config.Issuer, "error", string(e.Code)).String())
		}
		return err
	}
	body, err := c.readJSON(&ruleGlobalRevocationBody)
	if err != nil {
		return err
	}
	id, err := c.readSubjectIdentifier(body)
	if err != nil {
		return err
	}
	subject, err := c.findSubject(id)
	if err != nil {
		return err
	}
	ctx := c.r.Context()
	// Sessions first, so that none of them can be used to get new tokens.
	if err := c.s.config.Users.EndSessions(ctx, subject); err != nil {
		return unavailable(fmt.Errorf("end sessions: %w", err))
	}
	c.s.SessionsEnded()
	if err := RevokeSubject(ctx, c.s.config.Store, subject); err != nil {
		return unavailable(err)
	}
	c.s.events.Record(ctx, event.TokenAllRevoked, c.s.namedSubject(ctx, subject), namedClient(c.client), event.Address(c.s.remoteAddr(c.r)))
	noStore(c.w)
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// RevokeSubject deletes all grants of a user: codes, tokens, and the consent itself, which an
// intruder may have given.
func RevokeSubject(ctx context.Context, store record.Store, subject string) error {
	// Twice, because a concurrent request can add a grant after the list was read.
	for range 2 {
		grants, err := store.GrantsOf(ctx, subject)
		if err != nil {
			return fmt.Errorf("list grants: %w", err)
		}
		for _, grant := range grants {
			if err := store.DeleteGrant(ctx, grant.ID); err != nil {
				return fmt.Errorf("revoke grant: %w", err)
			}
		}
	}
	return nil
}

// globalRevocationCaller authenticates the calling client, with its client credentials or with
// its own access token.
func (c *call) globalRevocationCaller() error {
	if scheme, _, _ := strings.Cut(c.r.Header.Get("Authorization"), " "); !strings.EqualFold(scheme, oauth.TokenTypeBearer) && !strings.EqualFold(scheme, oauth.TokenTypeDPoP) {
		if _, err := c.authenticateClient(); err != nil {
			return err
		}
		return c.mayRevokeGlobally()
	}
	token, err := c.accessToken()
	if err != nil {
		return err
	}
	t, err := c.verifyAccessToken(token)
	if err != nil && !errors.Is(err, errInactive) {
		return err
	}
	switch {
	case err != nil:
		return c.refuse(&ruleGlobalRevocationCaller, err.Error())
	case t.user != "" || !t.claims.Audience.Has(c.s.config.Issuer):
		return c.refuse(&ruleGlobalRevocationCaller, fmt.Sprintf("a token of %q for %q", t.claims.Subject, t.claims.Audience))
	}
	if err := c.checkSender(t, token); err != nil {
		return err
	}
	scope, err := oauth.ParseScope(t.claims.Scope)
	if err != nil || !scope.Has(ScopeGlobalTokenRevocation) {
		return c.refuse(&ruleGlobalRevocationScope, "scope: "+t.claims.Scope)
	}
	if c.client, err = c.clientByID(t.claims.ClientID); errors.Is(err, errUnknownClient) {
		return c.refuse(&ruleGlobalRevocationCaller, "the client is gone or disabled")
	} else if err != nil {
		return err
	}
	if err := c.checkProof(c.client); err != nil {
		return err
	}
	if err := c.spendProof(); err != nil {
		return err
	}
	return c.mayRevokeGlobally()
}

func (c *call) mayRevokeGlobally() error {
	if c.client.GlobalTokenRevocation && !c.client.Public() {
		return c.must(true, &ruleGlobalRevocationAllowed)
	}
	err := c.must(false, &ruleGlobalRevocationAllowed)
	oauth.AsError(err).Status = http.StatusForbidden
	return err
}

func (c *call) readSubjectIdentifier(body []byte) (oauth.SubjectIdentifier, error) {
	// All supported formats have only string members.
	var request map[string]map[string]string
	if err := jose.ParseJSON(body, &request); err != nil {
		return oauth.SubjectIdentifier{}, c.because(&ruleGlobalRevocationBody, err)
	}
	members, ok := request["sub_id"]
	if !ok || len(request) != 1 {
		return oauth.SubjectIdentifier{}, c.refuse(&ruleGlobalRevocationBody, "")
	}
	id, err := oauth.NewSubjectIdentifier(members)
	if err != nil {
		return id, c.because(&ruleGlobalRevocationFormat, err)
	}
	return id, nil
}

func (c *call) findSubject(id oauth.SubjectIdentifier) (string, error) {
	if id.Format == oauth.SubjectFormatIssSub && id.Issuer == c.s.config.Issuer {
		id = oauth.SubjectIdentifier{Format: oauth.SubjectFormatOpaque, ID: id.Subject}
	}
	subject, err := c.s.config.Users.FindSubject(c.r.Context(), id)
	if errors.Is(err, storage.ErrNotFound) {
		err := c.must(false, &ruleGlobalRevocationSubject)
		oauth.AsError(err).Status = http.StatusNotFound
		return "", err
	}
	if err != nil {
		return "", fmt.Errorf("find the user: %w", err)
	}
	return subject, nil
}
