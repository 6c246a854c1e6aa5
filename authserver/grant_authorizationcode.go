package authserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// The client gets the same description for every code that it cannot use. The trace for the
// operator has the reason.
const invalidCode = "the code is invalid, expired, already used, or was issued to another client"

var (
	ruleCodeSent = rule{
		must:    "the request has a code",
		section: "RFC 6749, section 4.1.3", code: oauth.InvalidRequest,
		says: "code is missing",
		fix:  "send the code of the authorization response",
	}
	ruleCodeKnown = rule{
		must:    "the code was issued by this server and has not expired",
		section: "RFC 6749, section 4.1.2", code: oauth.InvalidGrant, says: invalidCode,
		fix: "redeem the code once, within a minute of receiving it",
	}
	ruleCodeClient = rule{
		must:    "the code was issued to this client",
		section: "RFC 6749, section 4.1.3", code: oauth.InvalidGrant, says: invalidCode,
		fix: "redeem a code with the client that requested it",
	}
	ruleCodeUnused = rule{
		must:    "the code was not used before; a second use revokes what was issued for the first",
		section: "RFC 6749, section 4.1.2", code: oauth.InvalidGrant, says: invalidCode,
		fix: "find out who sends the code twice: a retrying client, or a thief",
	}
	ruleCodeRedirectURI = rule{
		must:    "redirect_uri is the one of the authorization request",
		section: "RFC 6749, section 4.1.3", code: oauth.InvalidGrant,
		says: "redirect_uri is not the one of the authorization request",
		fix:  "send the same redirect_uri in both requests",
	}
	ruleVerifierSyntax = rule{
		must:    "code_verifier has 43 to 128 unreserved characters",
		section: "RFC 7636, section 4.1", code: oauth.InvalidGrant,
		says: "code_verifier must have 43 to 128 characters of A-Z a-z 0-9 - . _ ~",
		fix:  "use a new random verifier of 43 characters for each request",
	}
	ruleVerifierSent = rule{
		must:    "code_verifier is sent, because the authorization request had a code_challenge",
		section: "RFC 7636, section 4.5", code: oauth.InvalidGrant,
		says: "code_verifier is missing",
		fix:  "send the code_verifier that belongs to the code_challenge",
	}
	ruleVerifierUnexpected = rule{
		must:    "code_verifier is sent only if the authorization request had a code_challenge",
		section: "RFC 9700, section 2.1.1", code: oauth.InvalidGrant,
		says: "code_verifier was sent, but the authorization request had no code_challenge",
		fix:  "send code_challenge in the authorization request; it may have been removed on the way",
	}
	ruleVerifierMatches = rule{
		must:    "the SHA-256 of code_verifier is the code_challenge",
		section: "RFC 7636, section 4.6", code: oauth.InvalidGrant,
		says: "code_verifier does not belong to the code_challenge of the authorization request",
		fix:  "keep the verifier with the state of its request; two tabs must not share one",
	}
	ruleConsentValid = rule{
		must:    "the user has not withdrawn their consent since",
		section: "RFC 6749, section 5.2", code: oauth.InvalidGrant,
		says: "the grant is no longer valid",
		fix:  "the user withdrew the consent on the account page; have the user authorize the client again",
	}
	ruleSubjectActive = rule{
		must:    "the user's account has been active since the authorization",
		section: "RFC 6749, section 5.2", code: oauth.InvalidGrant,
		says: "the grant is no longer valid",
		fix:  "the account was disabled or deleted since, or everything that was issued for the user was revoked, for example by a change of the password",
	}
	ruleClientActiveSince = rule{
		must:    "the client has been active since the authorization",
		section: "RFC 6749, section 5.2", code: oauth.InvalidGrant,
		says: "the grant is no longer valid",
		fix:  "the client was disabled since; have the user authorize it again",
	}
	ruleCodeSession = rule{
		must:    "the sign-in session in which the code was issued has not ended",
		section: "OpenID Connect Core, section 11", code: oauth.InvalidGrant,
		says: "the sign-in session that the grant is bound to has ended",
		fix:  "have the user sign in again",
	}
	ruleSessionActive = rule{
		must:    "the sign-in session is active, or offline_access was granted",
		section: "OpenID Connect Core, section 11", code: oauth.InvalidGrant,
		says: "the sign-in session that the grant is bound to has ended",
		fix:  "have the user sign in again, or request offline_access",
	}
)

// grantAuthorizationCode redeems a code (RFC 6749, section 4.1.3).
func (c *call) grantAuthorizationCode() (*entitlement, error) {
	code := c.params.get("code")
	if err := c.must(code != "", &ruleCodeSent); err != nil {
		return nil, err
	}
	sealed := isSealedCode(code)
	ticket, a, err := c.codeTicket(code, sealed)
	if err != nil {
		return nil, err
	}
	if err := c.must(a.ClientID == c.client.ID, &ruleCodeClient); err != nil {
		return nil, err
	}
	if a.Code == nil {
		return nil, errors.New("redeem code: it has no binding")
	}
	var note *unknownOutcome
	if !ticket.Spent.IsZero() {
		if note, err = c.unansweredAttempt(ticket); err != nil {
			return nil, err
		}
		// Only the client with the same code_verifier may try again.
		if note == nil || c.checkCodeBinding(a.Code) != nil {
			return nil, c.replayed(a, &ruleCodeUnused)
		}
	}
	// A ticket is kept for longer than the code is valid, and a sealed code can be opened later, too.
	if expired(c.now, time.UnixMilli(a.Code.Expires)) {
		return nil, c.refuse(&ruleCodeKnown, "it has expired")
	}
	if err := c.checkCodeBinding(a.Code); err != nil {
		return nil, err
	}
	if err := c.checkActiveSince(a); err != nil {
		return nil, err
	}
	ent := &entitlement{authorization: a, idToken: a.Scope.Has(oauth.ScopeOpenID), nonce: a.Code.Nonce, sealed: sealed}
	ent.authorization.Code = nil
	if sealed {
		// There is no ticket that a revocation would delete, so the session and the consent are
		// checked after the tokens are stored (recheck).
		catalogue, err := c.catalogue()
		if err != nil {
			return nil, err
		}
		ent.used = &storage.Ticket{Key: ticket.Key, Spent: c.now, Expires: codeTicketExpires(&a, c.longestAccessToken(catalogue, c.client))}
	} else {
		ent.code, ent.spend = ticket.Key, []storage.Key{ticket.Key}
		if err := c.checkCodeGranted(a); err != nil {
			return nil, err
		}
	}
	if ent.resources, err = c.narrowAudience(&a); err != nil {
		return nil, err
	}
	ent.scope = a.Scope
	if c.client.HasGrantType(oauth.GrantTypeRefreshToken) {
		ent.refreshToken, ent.storeRefresh = newSecret(prefixRefreshToken, c.now), true
	}
	if note != nil {
		ent.used = nil // it is stored already
		return ent, c.replaceUnanswered(ent, ticket.Key, note)
	}
	return ent, nil
}

// codeTicket returns the ticket and the authorization of a code. The ticket of a sealed code exists
// once the code was used; until then it has only a key.
func (c *call) codeTicket(code string, sealed bool) (storage.Ticket, authorization, error) {
	if !sealed {
		return c.ticket(ticketkind.Code, prefixCode, code, &ruleCodeKnown)
	}
	a, err := c.s.openCode(code)
	if err != nil {
		return storage.Ticket{}, a, c.refuse(&ruleCodeKnown, err.Error())
	}
	c.subject = a.Subject
	ticket := storage.Ticket{Key: secretKey(ticketkind.Code, prefixCode, code)}
	if !c.presumablyUnused(ticket.Key, &a) {
		used, err := c.s.config.Store.Get(c.r.Context(), c.now, ticket.Key)
		if err == nil {
			ticket = used
		} else if !errors.Is(err, storage.ErrNotFound) {
			return ticket, a, fmt.Errorf("look up the use of a code: %w", err)
		}
	}
	return ticket, a, c.must(true, &ruleCodeKnown)
}

// presumablyUnused reports whether there is no reason to look up whether a sealed code was used: this node
// has not seen it before, and it is valid for this request. If it was used, on another node, the tokens are
// not stored, and the grant is evaluated again (token.go) with its ticket (decision 0042).
func (c *call) presumablyUnused(key storage.Key, a *authorization) bool {
	if _, redeemed := c.s.redeemed.get(key); redeemed || a.Code == nil || a.ClientID != c.client.ID || expired(c.now, time.UnixMilli(a.Code.Expires)) {
		return false
	}
	checked := len(c.rungs)
	err := c.checkCodeBinding(a.Code)
	c.rungs = c.rungs[:checked] // it is checked again
	return err == nil
}

// ticket returns the ticket and the authorization of a secret that the client spends.
func (c *call) ticket(kind storage.Kind, prefix, secret string, known *rule) (storage.Ticket, authorization, error) {
	if !isSecret(prefix, secret) {
		return storage.Ticket{}, authorization{}, c.refuse(known, "malformed")
	}
	ticket, err := c.spendable(secretKey(kind, prefix, secret))
	if errors.Is(err, storage.ErrNotFound) {
		return ticket, authorization{}, c.refuse(known, "it is not in the database: expired, revoked, or never issued")
	}
	if err != nil {
		return ticket, authorization{}, fmt.Errorf("look up %s: %w", kind, err)
	}
	a, err := readAuthorization(ticket)
	if err != nil {
		return ticket, a, err
	}
	c.subject = a.Subject
	return ticket, a, c.must(true, known)
}

// spendable returns a ticket that is about to be spent, from the cache if this node has just
// issued it. If it was spent elsewhere meanwhile, spending it fails, and the grant is evaluated
// again (token.go).
func (c *call) spendable(key storage.Key) (storage.Ticket, error) {
	if ticket, ok := c.s.issued.get(key); ok && c.now.Before(ticket.Expires) {
		return ticket, nil
	}
	return c.s.config.Store.Get(c.r.Context(), c.now, key)
}

// replayed refuses the second use of a code or token that may be used once. It ends the whole
// family, because either use may have been a thief's (RFC 6749, section 4.1.2; RFC 9700, section
// 4.14.2).
func (c *call) replayed(a authorization, r *rule) error {
	if err := c.s.config.Store.DeleteFamily(auditTokens(c.r.Context(), "token.replayed", a, "authorization"), a.Family); err != nil {
		return fmt.Errorf("revoke after a replay: %w", err)
	}
	c.refusal = refusal{event.TokenReplayed, []slog.Attr{c.s.namedSubject(c.r.Context(), a.Subject)}}
	return c.refuse(r, "used before; all tokens of this authorization are revoked")
}

// checkCodeBinding checks that the token request matches the authorization request.
func (c *call) checkCodeBinding(b *codeBinding) error {
	// OAuth 2.1 drops redirect_uri here, because PKCE replaces it. It may be left out with PKCE,
	// and must match if it is sent.
	sent := c.params.get("redirect_uri")
	same := sent == b.RedirectURI || sent == "" && (!b.RedirectURISent || b.CodeChallenge != "")
	if !same {
		return c.refuse(&ruleCodeRedirectURI, difference(b.RedirectURI, sent))
	}
	if b.JWKThumbprint != "" {
		if err := c.must(b.JWKThumbprint == c.proven.JWKThumbprint, &ruleCodeKey); err != nil {
			return err
		}
	}
	verifier := c.params.get("code_verifier")
	if b.CodeChallenge == "" {
		return c.must(verifier == "", &ruleVerifierUnexpected)
	}
	if err := c.must(verifier != "", &ruleVerifierSent); err != nil {
		return err
	}
	if err := c.must(oauth.ValidCodeVerifier(verifier), &ruleVerifierSyntax); err != nil {
		return err
	}
	return c.must(oauth.VerifyS256(b.CodeChallenge, verifier), &ruleVerifierMatches)
}

// checkUserActive checks that the user and the client have been active since the authorization and,
// without offline_access, that the sign-in session is active.
func (c *call) checkUserActive(a authorization) error {
	if err := c.checkActiveSince(a); err != nil {
		return err
	}
	if a.Scope.Has(oauth.ScopeOfflineAccess) {
		return nil
	}
	return c.checkSessionActive(a, &ruleSessionActive)
}

// checkActiveSince checks that the user and the client have been active since the authorization.
func (c *call) checkActiveSince(a authorization) error {
	issued := time.UnixMilli(a.Issued)
	if a.ClientID == c.client.ID && !c.client.issuedSince(issued) {
		return c.must(false, &ruleClientActiveSince)
	}
	active, err := c.s.subjectActive(c.r.Context(), a.Subject, a.Session, issued)
	if err != nil {
		return err
	}
	if !active {
		return c.must(false, &ruleSubjectActive)
	}
	if a.Subject == "" || a.ClientID != c.client.ID {
		return nil
	}
	return c.checkGroups(a.Subject, true)
}

// checkSessionActive checks that the sign-in session of an authorization is active, if there is one.
func (c *call) checkSessionActive(a authorization, r *rule) error {
	if a.Session == "" {
		return nil
	}
	active, err := c.s.config.Users.SessionActive(c.r.Context(), a.Session)
	if err != nil {
		return fmt.Errorf("look up session: %w", err)
	}
	return c.must(active, r)
}

// checkCodeGranted checks that nothing has ended on which a code depends: the consent, and the
// session in which it was issued, even if its tokens will not depend on that.
func (c *call) checkCodeGranted(a authorization) error {
	if err := c.checkConsent(a); err != nil {
		return err
	}
	return c.checkSessionActive(a, &ruleCodeSession)
}

// checkFound is checkCodeGranted with what was read when the tokens were stored, if anything was.
func (c *call) checkFound(ctx context.Context, a authorization, found *record.Found) error {
	if found == nil {
		return c.checkCodeGranted(a)
	}
	if err := c.must(found.Grant, &ruleConsentValid); err != nil {
		return err
	}
	sessions, ok := c.s.config.Users.(storedSessions)
	if !ok {
		return c.checkSessionActive(a, &ruleCodeSession)
	}
	if found.Ticket == nil {
		return c.must(false, &ruleCodeSession)
	}
	active, err := sessions.SessionTicketActive(ctx, *found.Ticket)
	if err != nil {
		return fmt.Errorf("look up session: %w", err)
	}
	return c.must(active, &ruleCodeSession)
}

// checkConsent checks that the grant of an authorization still exists. Withdrawing a grant ends
// what belongs to it. But a concurrent request may store a code just afterwards, and no token may
// be issued for that.
func (c *call) checkConsent(a authorization) error {
	valid, err := c.consentValid(&a)
	if err != nil {
		return err
	}
	return c.must(valid, &ruleConsentValid)
}

func (c *call) consentValid(a *authorization) (bool, error) {
	grant, err := c.s.config.Store.Grant(c.r.Context(), a.Subject, a.ClientID)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up grant: %w", err)
	}
	return grant.ID == a.Grant, nil // otherwise it was withdrawn and given again
}
