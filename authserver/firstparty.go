package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// First-party applications (draft-ietf-oauth-first-party-apps, experimental; sections are
// those of the draft -03): an application of the operator's own asks the person for their
// password in its own window, sends it here, and gets a code. No browser is there to bind
// anything to; the code is worth nothing without the code_verifier, which stays with the
// application.

// maxChallengeAttempts is how many wrong passwords an auth_session takes. Whoever needs more
// has forgotten theirs, and finds help on the web.
const maxChallengeAttempts = 5

// challenge is what an interaction knows of an authorization challenge.
type challenge struct {
	session storage.Key // of the auth_session; zero while there is none
	failed  int         // passwords that were wrong so far
}

var (
	ruleFirstParty = rule{
		must:    "the client is an application of the operator",
		section: "draft-ietf-oauth-first-party-apps, section 9.1", code: oauth.UnauthorizedClient,
		says: "this client may not ask users for their passwords",
		fix:  "send the user to the authorization endpoint; set first_party only if the client is yours and users know it as yours",
	}
	ruleChallenges = rule{
		must:    "not too many requests came from this address",
		section: "draft-ietf-oauth-first-party-apps, section 9.3", code: oauth.TemporarilyUnavailable,
		says: "too many requests; try again in a minute",
		fix:  "wait a minute",
	}
	ruleChallengeCode = rule{
		must:    "response_type is code",
		section: "draft-ietf-oauth-first-party-apps, section 5.1", code: oauth.UnsupportedResponseType,
		says: "response_type must be code at this endpoint",
		fix:  "send response_type=code",
	}
	ruleChallengePassword = rule{
		must:    "the request has a username and a password",
		section: "draft-ietf-oauth-first-party-apps, section 5.3", code: oauth.InsufficientAuthorization,
		says: "username and password are needed",
		fix:  "ask the user for both, and send them with the auth_session",
	}
	ruleChallengePasswordRight = rule{
		must:    "the username and the password belong together",
		section: "draft-ietf-oauth-first-party-apps, section 5.2.2.1", code: oauth.InsufficientAuthorization,
		says: "the username or the password is wrong",
		fix:  "ask the user again; an account that needs more than a password signs in in a browser",
	}
	ruleChallengeAttempts = rule{
		must:    "fewer than five passwords were wrong",
		section: "draft-ietf-oauth-first-party-apps, section 9.3", code: oauth.RedirectToWeb,
		says: "the username or the password is wrong again; the user must sign in in a browser",
		fix:  "start the code flow in a browser",
	}
	ruleChallengeSufficient = rule{
		must:    "the request needs no more than a password: no consent, no new account, no other acr",
		section: "draft-ietf-oauth-first-party-apps, section 5.2.2.1", code: oauth.RedirectToWeb,
		says: "the user must continue in a browser",
		fix:  "start the code flow in a browser; skip_consent skips the consent page for your own applications",
	}
)

// authorizationChallenge is the authorization challenge endpoint
// (draft-ietf-oauth-first-party-apps, section 4.1).
func (c *call) authorizationChallenge() error {
	if err := c.parseForm(); err != nil {
		return err
	}
	session, err := c.authSession()
	if err != nil {
		return err
	}
	cl, err := c.authenticateClient()
	if err != nil {
		return err
	}
	if err := c.must(cl.FirstParty, &ruleFirstParty); err != nil {
		return err
	}
	username, password := c.params.get("username"), c.params.get("password")
	i, err := c.challengeInteraction(session)
	if err != nil {
		return err
	}
	if slices.Contains(i.request.prompt, promptCreate) {
		return c.refuse(&ruleChallengeSufficient, "prompt: create")
	}
	if username == "" || password == "" {
		return c.askAgain(i, c.must(false, &ruleChallengePassword))
	}
	who, err := c.checkPassword(username, password, &ruleChallengePasswordRight)
	if e := oauth.AsError(err); e != nil && e.Code == oauth.InsufficientAuthorization {
		i.challenge.failed++
		return c.askAgain(i, err)
	}
	if err != nil {
		return err
	}
	return c.advanceChallenge(i, who)
}

// challengeInteraction verifies the request: that of the session, or a new one.
func (c *call) challengeInteraction(session *authSession) (*interaction, error) {
	// Each request may leave an auth_session in the store.
	if err := c.takeInteraction(c.client, &ruleChallenges); err != nil {
		return nil, err
	}
	i := &interaction{challenge: &challenge{}, began: c.now}
	if session != nil {
		if err := c.resumeChallenge(i, session); err != nil {
			return nil, err
		}
	} else {
		c.params = c.authorizationParams()
		if err := c.resolveRequestObject(); err != nil {
			return nil, err
		}
		c.params = c.authorizationParams() // nor is a password in an object kept
	}
	i.params = c.params
	i.request = &authorizationRequest{client: c.client}
	for _, verify := range [...]func(*authorizationRequest) error{
		c.verifyChallengeResponse, c.verifyUnsupported, c.verifyScope, c.verifyCodeChallenge, c.verifyAuthentication,
	} {
		if err := verify(i.request); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// verifyChallengeResponse is verifyResponse where no browser carries the answer, so that
// redirect_uri, response_mode and state mean nothing. PKCE is all that binds the code.
func (c *call) verifyChallengeResponse(request *authorizationRequest) error {
	if err := c.must(c.params.has("response_type"), &ruleResponseTypeSent); err != nil {
		return err
	}
	if err := c.must(c.params.get("response_type") == "code", &ruleChallengeCode); err != nil {
		return err
	}
	request.responseType = oauth.ResponseType{Code: true}
	allowed := c.client.HasResponseType(request.responseType) && c.client.HasGrantType(oauth.GrantTypeAuthorizationCode)
	if err := c.must(allowed, &ruleResponseTypeAllowed); err != nil {
		return err
	}
	request.nonce = c.params.get("nonce")
	if err := c.must(len(request.nonce) <= maxNonceBytes, &ruleStateLength); err != nil {
		return err
	}
	return c.must(c.params.has("code_challenge"), &ruleCodeChallengeRequired)
}

// advanceChallenge answers with a code, or sends the person to the web where something is
// left for them to do there.
func (c *call) advanceChallenge(i *interaction, who *Authentication) error {
	if wanted := i.request.acrValues; len(wanted) > 0 && !slices.Contains(wanted, who.ACR) {
		return c.refuse(&ruleChallengeSufficient, "acr: "+who.ACR)
	}
	if err := c.checkACR(i.request, who); err != nil {
		return c.refuse(&ruleChallengeSufficient, "acr: "+who.ACR)
	}
	next, grant, err := c.decide(i, who)
	if err != nil {
		return err
	}
	if next != nextAnswer {
		return c.refuse(&ruleChallengeSufficient, "consent is needed to "+i.request.consent.String())
	}
	_ = c.must(true, &ruleChallengeSufficient)
	return c.answer(i, who, grant)
}

// answerChallenge hands out the code, and ends the auth_session with it.
func (c *call) answerChallenge(catalogue *catalogue, i *interaction, a authorization) error {
	code, ticket, err := c.newCode(a, i.request, c.longestAccessToken(catalogue, i.request.client))
	if err != nil {
		return err
	}
	if err := c.endAuthSession(i, ticket); err != nil {
		return err
	}
	c.s.issued.put(ticket.Key, ticket)
	return writeJSON(c.w, http.StatusOK, oauth.AuthorizationChallengeResponse{AuthorizationCode: code})
}

// endAuthSession stores what comes of a challenge, in the operation that ends its
// auth_session.
func (c *call) endAuthSession(i *interaction, put storage.Ticket) error {
	var err error
	if i.challenge.session.Kind == "" {
		err = c.s.config.Store.Put(c.r.Context(), c.now, put)
	} else {
		err = c.s.config.Store.Spend(c.r.Context(), c.now, []storage.Key{i.challenge.session}, put)
	}
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
		return c.must(false, &ruleAuthSession)
	}
	if err != nil {
		return fmt.Errorf("store the answer to a challenge: %w", err)
	}
	return nil
}

const prefixAuthSession = "vk_as_"

// authSessionData is what is stored. Nothing in it speaks of a person: an auth_session that
// was stolen saves the thief no password.
type authSessionData struct {
	ClientID string `json:"c"`
	Query    string `json:"q"` // the request as it came, verified anew at each step
	Began    int64  `json:"b"` // Unix milliseconds
	Failed   int    `json:"f,omitempty"`
}

type authSession struct {
	authSessionData
	key storage.Key
}

var (
	ruleAuthSession = rule{
		must:    "auth_session is the latest one of the client, at most half an hour old, and was not used before",
		section: "draft-ietf-oauth-first-party-apps, section 5.2.2.1", code: oauth.InvalidSession,
		says: "the auth_session is invalid, expired, or was used before",
		fix:  "start again, without an auth_session",
	}
	ruleAuthSessionRequest = rule{
		must:    "parameters that are sent again with an auth_session have not changed",
		section: "draft-ietf-oauth-first-party-apps, section 5.3.1", code: oauth.InvalidRequest,
		says: "a parameter differs from the request that the auth_session began with",
		fix:  "send the auth_session with username and password alone, or start again without it",
	}
)

// isChallengeParam reports whether a parameter is none of the authorization request.
func isChallengeParam(name string) bool {
	switch name {
	case "client_id", "client_secret", "client_assertion", "client_assertion_type", "auth_session", "username", "password":
		return true
	}
	return false
}

// authorizationParams returns what of c.params is the authorization request, and nothing
// that is secret.
func (c *call) authorizationParams() params {
	p := params{{"client_id", c.client.ID}}
	for _, sent := range c.params {
		if !isChallengeParam(sent.name) {
			p = append(p, sent)
		}
	}
	return p
}

// authSession finds the one that the request names, nil if it names none. A public client
// need not say who it is then (section 5.1).
func (c *call) authSession() (*authSession, error) {
	value := c.params.get("auth_session")
	if value == "" {
		return nil, nil
	}
	if !isSecret(prefixAuthSession, value) {
		return nil, c.refuse(&ruleAuthSession, "malformed")
	}
	session := &authSession{key: secretKey(ticketkind.AuthSession, prefixAuthSession, value)}
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, session.key)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !ticket.Spent.IsZero() {
		return nil, c.refuse(&ruleAuthSession, "expired, used before, or never issued")
	}
	if err != nil {
		return nil, fmt.Errorf("look up auth_session: %w", err)
	}
	if err := json.Unmarshal(ticket.Data, &session.authSessionData); err != nil {
		return nil, fmt.Errorf("read auth_session: %w", err)
	}
	if !c.params.has("client_id") && !presentsBasic(c) && !presentsAssertion(c) {
		c.params = append(c.params, param{"client_id", session.ClientID})
	}
	return session, nil
}

// resumeChallenge puts the request of a session in the place of what was sent with it.
func (c *call) resumeChallenge(i *interaction, session *authSession) error {
	if session.ClientID != c.client.ID {
		return c.refuse(&ruleAuthSession, "it belongs to another client")
	}
	began, err := c.parseParams(session.Query)
	if err != nil {
		return err
	}
	for _, sent := range c.params {
		if !isChallengeParam(sent.name) && !slices.Equal(c.params.all(sent.name), began.all(sent.name)) {
			return c.refuse(&ruleAuthSessionRequest, sent.name)
		}
	}
	c.params = began
	i.began = time.UnixMilli(session.Began)
	i.challenge.session, i.challenge.failed = session.key, session.Failed
	return c.must(true, &ruleAuthSession)
}

// askAgain refuses for now, with a new auth_session in place of the present one: each is
// good for one attempt, so that they are counted whoever sends them at once.
func (c *call) askAgain(i *interaction, refusal error) error {
	if i.challenge.failed >= maxChallengeAttempts {
		if i.challenge.session.Kind != "" {
			if err := c.s.config.Store.Delete(c.r.Context(), i.challenge.session); err != nil {
				return fmt.Errorf("end auth_session: %w", err)
			}
		}
		return c.must(false, &ruleChallengeAttempts)
	}
	data, err := json.Marshal(authSessionData{
		ClientID: c.client.ID, Query: i.params.encode(), Began: i.began.UnixMilli(), Failed: i.challenge.failed,
	})
	if err != nil {
		return fmt.Errorf("encode auth_session: %w", err)
	}
	value := newSecret(prefixAuthSession, c.now)
	err = c.endAuthSession(i, storage.Ticket{
		Key: secretKey(ticketkind.AuthSession, prefixAuthSession, value), Data: data, Expires: i.began.Add(c.s.lifetimes.Interaction),
	})
	if err != nil {
		return err
	}
	oauth.AsError(refusal).AuthSession = value
	return refusal
}
