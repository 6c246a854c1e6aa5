package authserver

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

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
		must:    "the client is an application of the operator's own",
		section: "draft-ietf-oauth-first-party-apps, section 9.1", code: oauth.UnauthorizedClient,
		says: "this client may not ask people for their passwords",
		fix:  "send the person to the authorization endpoint; set first_party for the client only if it is yours and people know it as yours",
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
		says: "response_type must be code here",
		fix:  "send response_type=code",
	}
	ruleChallengePassword = rule{
		must:    "the request has a username and a password",
		section: "draft-ietf-oauth-first-party-apps, section 5.3", code: oauth.InsufficientAuthorization,
		says: "username and password are needed",
		fix:  "ask the person for both, and send them with the auth_session",
	}
	ruleChallengePasswordRight = rule{
		must:    "the username and the password belong together",
		section: "draft-ietf-oauth-first-party-apps, section 5.2.2.1", code: oauth.InsufficientAuthorization,
		says: "the username or the password is wrong",
		fix:  "ask the person again; an account that needs more than a password signs in on the web",
	}
	ruleChallengeAttempts = rule{
		must:    "fewer than five passwords were wrong",
		section: "draft-ietf-oauth-first-party-apps, section 9.3", code: oauth.RedirectToWeb,
		says: "the username or the password is wrong, again; the person signs in on the web",
		fix:  "begin the code flow in a browser",
	}
	ruleChallengeSufficient = rule{
		must:    "a password is all that the request needs: no consent, no new account, no other acr",
		section: "draft-ietf-oauth-first-party-apps, section 5.2.2.1", code: oauth.RedirectToWeb,
		says: "the person must go on in a browser",
		fix:  "begin the code flow in a browser; skip_consent spares people the consent page of an application that is yours",
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
func (c *call) answerChallenge(i *interaction, a authorization) error {
	catalogue, err := c.catalogue()
	if err != nil {
		return err
	}
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
