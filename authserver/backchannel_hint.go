package authserver

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

var (
	ruleOneHint = rule{
		must:    "the request has exactly one of login_hint, login_hint_token and id_token_hint",
		section: "CIBA Core, section 7.1", code: oauth.InvalidRequest,
		says: "send exactly one of login_hint, login_hint_token and id_token_hint",
		fix:  "send one hint",
	}
	ruleBackchannelIDTokenHint = rule{
		must:    "id_token_hint is an ID token that this server issued to this client",
		section: "CIBA Core, section 7.1", code: oauth.InvalidRequest,
		says: "id_token_hint is not an ID token of this server for this client",
		fix:  "send an ID token that this client received; it may have expired",
	}
	ruleLoginHintToken = rule{
		must:    "login_hint_token is a JWT of an issuer that is trusted for login hints",
		section: "CIBA Core, section 7.1", code: oauth.InvalidRequest,
		says: "login_hint_token cannot be verified",
		fix:  "check the issuer in trusted_issuers, with the use login_hint",
	}
	ruleLoginHintTokenLives = rule{
		must:    "login_hint_token has not expired",
		section: "CIBA Core, section 13", code: oauth.ExpiredLoginHintToken,
		says: "login_hint_token has expired",
		fix:  "get a new token from its issuer",
	}
	ruleUserKnown = rule{
		must:    "the hint names an active user of this server",
		section: "CIBA Core, section 13", code: oauth.UnknownUserID,
		says: "the hint does not name a user of this server",
		fix:  "check the hint; a login_hint is the email address or username with which the user signs in",
	}
)

// hintedUser is the user of a backchannel authentication request.
type hintedUser struct {
	subject string // "" if there is no such user
	hint    string
}

// family returns the family of the user's requests. If there is no such user, requests with the same
// hint count together, as they do for a user: whatever the case of the letters, and with spaces around.
func (h hintedUser) family() string {
	if h.subject != "" {
		return backchannelFamily(h.subject)
	}
	folded := strings.ToLower(strings.ToUpper(strings.TrimSpace(h.hint)))
	return backchannelFamily(fmt.Sprintf("unknown %x", sha256.Sum256([]byte(folded))))
}

// findHintedUser returns the user that the hint names. If there is no such user, a declared client
// gets unknown_user_id. A client that registered itself gets the usual response, and its request
// expires: it must not find out who has an account.
func (c *call) findHintedUser(cl *client) (hintedUser, error) {
	var hint, name string
	sent := 0
	for _, n := range [...]string{"login_hint", "login_hint_token", "id_token_hint"} {
		if c.params.has(n) {
			hint, name = c.params.get(n), n
			sent++
		}
	}
	if err := c.must(sent == 1, &ruleOneHint); err != nil {
		return hintedUser{}, err
	}
	var subject string
	var err error
	switch name {
	case "login_hint":
		// The format email also finds a username: users sign in with either.
		subject, err = c.s.config.Users.FindSubject(c.r.Context(), oauth.SubjectIdentifier{Format: oauth.SubjectFormatEmail, Email: hint})
	case "login_hint_token":
		subject, err = c.readLoginHintToken(cl, hint)
	case "id_token_hint":
		subject, err = c.readBackchannelIDTokenHint(cl, hint)
	}
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return hintedUser{}, err
	}
	known := err == nil
	if known {
		if known, err = c.s.subjectActive(c.r.Context(), subject, "", c.now); err != nil {
			return hintedUser{}, err
		}
	}
	if known {
		return hintedUser{subject, hint}, c.must(true, &ruleUserKnown)
	}
	if cl.Registration != nil {
		return hintedUser{hint: hint}, nil
	}
	return hintedUser{}, c.refuse(&ruleUserKnown, name+" names no active user")
}

// readBackchannelIDTokenHint returns the user of an ID token of this client. A pairwise sub cannot be
// traced back to the user.
func (c *call) readBackchannelIDTokenHint(cl *client, hint string) (string, error) {
	claims, err := c.readIDTokenHint(hint)
	if err != nil {
		return "", c.because(&ruleBackchannelIDTokenHint, err)
	}
	if !slices.Contains(claims.Audience, cl.ID) {
		return "", c.refuse(&ruleBackchannelIDTokenHint, "issued to another client")
	}
	if cl.SubjectType == subjectPairwise {
		return "", storage.ErrNotFound
	}
	return c.s.config.Users.FindSubject(c.r.Context(), oauth.SubjectIdentifier{Format: oauth.SubjectFormatOpaque, ID: claims.Subject})
}

// readLoginHintToken returns the user that a JWT of a trusted issuer names. CIBA Core leaves its form
// to the deployment; here it is that of an assertion (RFC 7523, section 3).
func (c *call) readLoginHintToken(cl *client, token string) (string, error) {
	trust := c.s.trustedFor(token, UseLoginHint)
	if trust == nil {
		return "", c.refuse(&ruleLoginHintToken, "its issuer is not trusted for login hints")
	}
	if len(trust.Clients) > 0 && !slices.Contains(trust.Clients, cl.ID) {
		return "", c.refuse(&ruleLoginHintToken, "its issuer is not trusted for hints from this client")
	}
	a, err := c.verifyTrusted(trust, token, []string{"", "JWT"}, []string{c.s.config.Issuer})
	if reason, ok := errors.AsType[errAssertion](err); ok {
		if c.hasExpired(token) {
			return "", c.because(&ruleLoginHintTokenLives, reason)
		}
		return "", c.because(&ruleLoginHintToken, reason)
	}
	if err != nil {
		return "", c.because(&ruleLoginHintToken, err)
	}
	subject, err := c.userOf(trust, a)
	if _, ok := errors.AsType[errAssertion](err); ok {
		return "", storage.ErrNotFound
	}
	return subject, err
}

// hasExpired reports whether the exp of a JWT has passed. The JWT need not be verified.
func (c *call) hasExpired(token string) bool {
	payload, err := jose.UnverifiedPayload(token)
	if err != nil {
		return false
	}
	claims, err := jose.ParseClaims(payload, nil)
	return err == nil && !claims.Expires.IsZero() && !c.now.Before(claims.Expires.Add(clockSkew))
}
