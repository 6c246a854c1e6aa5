package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// First-party applications (draft-ietf-oauth-first-party-apps, experimental; sections are those of
// draft -04): an application of the operator asks the user for the password in its own window,
// sends it to this server, and gets a code. There is no browser to bind anything to. The code is
// useless without the code_verifier, which stays with the application.

// maxChallengeAttempts is how many wrong passwords an auth_session accepts. A user who needs more
// attempts has forgotten the password, and can reset it on the web.
const maxChallengeAttempts = 5

// challenge is the authorization challenge of an interaction.
type challenge struct {
	session storage.Key // of the auth_session; zero while there is none
	failed  int         // number of wrong passwords so far
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
		says: "username and password are required",
		fix:  "ask the user for both, and send them with the auth_session",
	}
	ruleChallengePasswordCorrect = rule{
		must:    "the username and the password are correct",
		section: "draft-ietf-oauth-first-party-apps, section 5.2.2.1", code: oauth.InsufficientAuthorization,
		says: "the username or the password is wrong",
		fix:  "ask the user again; for an account that needs more than a password, start the code flow in a browser",
	}
	ruleChallengeAttempts = rule{
		must:    "fewer than five passwords were wrong",
		section: "draft-ietf-oauth-first-party-apps, section 9.3", code: oauth.RedirectToWeb,
		says: "the username or the password was wrong too often; the user must sign in with a browser",
		fix:  "start the code flow in a browser",
	}
	ruleChallengeSufficient = rule{
		must:    "the request needs only a password: no consent, no new account, no other acr",
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
	if err := c.readProof(""); err != nil {
		return err
	}
	cl, err := c.authenticateClient()
	if err != nil {
		return err
	}
	if err := c.checkProof(cl); err != nil {
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
		return c.redirectToWeb(i, c.refuse(&ruleChallengeSufficient, "prompt: create"))
	}
	if username == "" || password == "" {
		return c.refuseAttempt(i, c.must(false, &ruleChallengePassword))
	}
	who, err := c.checkPassword(username, password, &ruleChallengePasswordCorrect)
	if e := oauth.AsError(err); e != nil && e.Code == oauth.InsufficientAuthorization {
		i.challenge.failed++
		return c.refuseAttempt(i, err)
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
		if err := c.resolveRequestObject(false); err != nil {
			return nil, err
		}
		c.params = c.authorizationParams() // a password in the object is not stored either
	}
	if err := c.bindRequestToProof(); err != nil {
		return nil, err
	}
	i.params = c.params
	i.request = &authorizationRequest{client: c.client}
	for _, verify := range [...]func(*authorizationRequest) error{
		c.verifyChallengeResponse, c.verifyUnsupported, c.verifyScope, c.verifyAuthorizationDetails, c.verifyCodeChallenge,
		c.verifyProofKey, c.verifyAuthentication,
	} {
		if err := verify(i.request); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// verifyChallengeResponse is verifyResponse without a browser: redirect_uri, response_mode and
// state have no effect. Only PKCE binds the code to the application.
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

// advanceChallenge responds with a code, or with redirect_to_web if the user must do more than
// enter a password.
func (c *call) advanceChallenge(i *interaction, who *Authentication) error {
	if wanted := i.request.acrValues; len(wanted) > 0 && !slices.Contains(wanted, who.ACR) {
		return c.redirectToWeb(i, c.refuse(&ruleChallengeSufficient, "acr: "+who.ACR))
	}
	if err := c.checkACR(i.request, who); err != nil {
		return c.redirectToWeb(i, c.refuse(&ruleChallengeSufficient, "acr: "+who.ACR))
	}
	next, grant, err := c.decide(i, who)
	if err != nil {
		return err
	}
	if next != nextComplete {
		detail := "consent is needed to " + i.request.consent.String()
		if next == nextSignIn {
			detail = "more than a password is needed"
		}
		return c.redirectToWeb(i, c.refuse(&ruleChallengeSufficient, detail))
	}
	_ = c.must(true, &ruleChallengeSufficient)
	return c.complete(i, who, grant)
}

// redirectToWeb returns a refusal with a request_uri for the browser, if the authorization endpoint
// would accept the request of the challenge (section 5.2.2.1.1). A challenge always has a
// code_challenge, without which there must be no request_uri.
func (c *call) redirectToWeb(i *interaction, refusal error) error {
	defer func(p params, rungs []rung) { c.params, c.rungs = p, rungs }(c.params, c.rungs)
	c.params = i.params
	// The application that registered one redirect URI need not send it, unless it chooses the port.
	if uris := c.client.RedirectURIs; !c.params.has("redirect_uri") && len(uris) == 1 {
		if u, err := url.Parse(uris[0]); err == nil && !oauth.IsLoopbackHost(u.Hostname()) {
			c.params = append(slices.Clone(c.params), param{"redirect_uri", uris[0]})
		}
	}
	_, err := c.verifyAuthorizationRequest()
	requestURI := ""
	if err == nil {
		requestURI, err = c.storePushedRequest(c.client)
	}
	switch e := oauth.AsError(err); {
	case err == nil:
		e = oauth.AsError(refusal)
		e.RequestURI, e.ExpiresIn = requestURI, int64(c.requestURILifetime(c.client)/time.Second)
	case e == nil || e.Code == oauth.InvalidDPoPProof: // of the store, or a replay
		return err
	}
	return refusal
}

// completeChallenge responds with the code, and ends the auth_session.
func (c *call) completeChallenge(catalogue *catalogue, i *interaction, a authorization) error {
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

// endAuthSession ends the auth_session of a challenge, if there is one, and stores put in the same
// operation.
func (c *call) endAuthSession(i *interaction, put storage.Ticket) error {
	var err error
	tickets := append(c.proofTickets(), put)
	if i.challenge.session.Kind == "" {
		err = c.s.config.Store.Put(c.r.Context(), c.now, tickets...)
	} else {
		err = c.s.config.Store.Spend(c.r.Context(), c.now, []storage.Key{i.challenge.session}, tickets...)
	}
	if replayed := c.proofReplayed(err); replayed != nil {
		return replayed
	}
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
		return c.must(false, &ruleAuthSession)
	}
	if err != nil {
		return fmt.Errorf("end auth_session: %w", err)
	}
	c.proofSpent()
	return nil
}

const prefixAuthSession = "vk_as_"

// authSessionData is the data of an auth_session. It does not contain a user: a thief of an
// auth_session still needs the password.
type authSessionData struct {
	ClientID string `json:"c"`
	Query    string `json:"q"` // the parameters of the request, verified again at each step
	Began    int64  `json:"b"` // Unix milliseconds
	Failed   int    `json:"f,omitempty"`
	// JWKThumbprint is that of the key of the client instance, or of the DPoP proof with which the
	// client began; "" if there is none.
	JWKThumbprint string `json:"j,omitempty"`
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
	ruleAuthSessionKey = rule{
		must:    "a request with an auth_session proves possession of the key that the auth_session is bound to",
		section: "draft-ietf-oauth-first-party-apps, section 9.6.1", code: oauth.InvalidSession,
		says: "the auth_session is bound to a key, and the request does not prove possession of it",
		fix:  "prove possession of the same key in each request, or start again, without an auth_session",
	}
	ruleAuthSessionRequest = rule{
		must:    "parameters that are sent again with an auth_session have not changed",
		section: "draft-ietf-oauth-first-party-apps, section 5.3.1", code: oauth.InvalidRequest,
		says: "a parameter differs from the request that the auth_session began with",
		fix:  "send the auth_session with username and password alone, or start again without it",
	}
)

// isChallengeParam reports whether a parameter is not part of the authorization request.
func isChallengeParam(name string) bool {
	switch name {
	case "client_id", "client_secret", "client_assertion", "client_assertion_type", "auth_session", "username", "password":
		return true
	}
	return false
}

// authorizationParams returns the parameters of the authorization request, without secrets.
func (c *call) authorizationParams() params {
	p := params{{"client_id", c.client.ID}}
	for _, sent := range c.params {
		if !isChallengeParam(sent.name) {
			p = append(p, sent)
		}
	}
	return p
}

// authSession returns the auth_session of the request, nil if it has none. With an auth_session, a
// public client may leave out client_id (section 5.1).
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

// resumeChallenge replaces the parameters that were sent with an auth_session by those of the
// request with which it began.
func (c *call) resumeChallenge(i *interaction, session *authSession) error {
	if session.ClientID != c.client.ID {
		return c.refuse(&ruleAuthSession, "it belongs to another client")
	}
	if bound := session.JWKThumbprint; bound != "" && bound != c.deviceKey() {
		return c.must(false, &ruleAuthSessionKey)
	}
	first, err := c.parseParams(session.Query)
	if err != nil {
		return err
	}
	for _, sent := range c.params {
		if !isChallengeParam(sent.name) && !slices.Equal(c.params.all(sent.name), first.all(sent.name)) {
			return c.refuse(&ruleAuthSessionRequest, sent.name)
		}
	}
	c.params = first
	i.began = time.UnixMilli(session.Began)
	i.challenge.session, i.challenge.failed = session.key, session.Failed
	return c.must(true, &ruleAuthSession)
}

// refuseAttempt returns a refusal with a new auth_session, so that the application can try again.
// Each auth_session is valid for one attempt, so that parallel attempts are counted too.
func (c *call) refuseAttempt(i *interaction, refusal error) error {
	if i.challenge.failed >= maxChallengeAttempts {
		if i.challenge.session.Kind != "" {
			if err := c.s.config.Store.Delete(c.r.Context(), i.challenge.session); err != nil {
				return fmt.Errorf("end auth_session: %w", err)
			}
		}
		return c.redirectToWeb(i, c.must(false, &ruleChallengeAttempts))
	}
	data, err := json.Marshal(authSessionData{
		ClientID: c.client.ID, Query: i.params.encode(), Began: i.began.UnixMilli(), Failed: i.challenge.failed,
		JWKThumbprint: c.deviceKey(),
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
