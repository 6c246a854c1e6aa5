package authserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth"
)

// The values of prompt (OpenID Connect Core, section 3.1.2.1).
const (
	promptNone          = "none"
	promptLogin         = "login"
	promptConsent       = "consent"
	promptSelectAccount = "select_account"
	// promptCreate is defined by Initiating User Registration via OpenID Connect.
	promptCreate = "create"
)

func (s *Server) supportedPrompts() []string {
	prompts := []string{promptNone, promptLogin, promptConsent, promptSelectAccount}
	if s.config.Pages.SignUp != "" {
		prompts = append(prompts, promptCreate)
	}
	return prompts
}

// displays are the values of display (OpenID Connect Core, section 3.1.2.1). The value is not
// used, because the pages adapt to any window.
func displays() []string { return []string{"page", "popup", "touch", "wap"} }

// authorizationRequest is a fully verified request. It is created from the parameters again at
// each step, so that changes in the meantime take effect.
type authorizationRequest struct {
	client       *client
	to           redirectTarget
	responseType oauth.ResponseType
	state        string
	scope        oauth.Scope
	// consent is what the user is asked to allow: scope, and the scopes of the claims that the
	// claims parameter requests in addition.
	consent   oauth.Scope
	resources []string
	// details are the authorization details (RFC 9396).
	details []json.RawMessage
	// audience are the APIs that the tokens can be for: resources, or the APIs that have a
	// requested scope. The user is asked about them.
	audience        []string
	redirectURISent bool
	codeChallenge   string
	jwkThumbprint   string // of the key that the code is bound to; "" if there is none
	nonce           string
	prompt          []string
	maxAge          time.Duration // negative if there is no limit
	acrValues       []string
	claims          *oauth.ClaimsRequest
	hintSubject     string  // sub of id_token_hint
	hintClient      *client // the client of that ID token
	subject         string  // the only user who may decide; "" if any may
	loginHint       string
	uiLocales       []string
	claimsLocales   []string
}

// authorize is the authorization endpoint (RFC 6749, section 3.1).
func (c *call) authorize() error {
	if c.r.Method == http.MethodPost {
		return c.postAsGet()
	}
	c.direct = true
	var err error
	if c.params, err = c.parseParams(c.r.URL.RawQuery); err != nil {
		return c.refuseAuthorization(c.repeatedParams(), err)
	}
	if err := c.resolveRequest(); err != nil {
		if c.params == nil {
			return err
		}
		// The parameters outside the object say which client gets the error.
		request, _ := c.verifyClient()
		return c.refuseAuthorization(request, err)
	}
	request, err := c.verifyAuthorizationRequest()
	if err != nil {
		return c.refuseAuthorization(request, err)
	}
	who, err := c.s.config.Users.SignedIn(c.r)
	if err != nil {
		return c.refuseAuthorization(request, err)
	}
	return c.advance(&interaction{request: request, params: c.params, ticket: c.pending}, who)
}

// repeatedParams returns what is needed to report a repeated parameter to the client (RFC 6749,
// section 4.1.2.1). It returns nil if the repeated parameter identifies the client or decides
// where the response goes.
func (c *call) repeatedParams() *authorizationRequest {
	for _, name := range [...]string{"client_id", "redirect_uri", "response_mode"} {
		if len(c.params.all(name)) > 1 {
			return nil
		}
	}
	request, _ := c.verifyClient()
	if request != nil && len(c.params.all("state")) > 1 {
		request.state = ""
	}
	return request
}

// postAsGet redirects the browser to the same endpoint with the same parameters by GET. Browsers
// leave out SameSite cookies in a POST from another site, but send them with the GET, so that a
// signed-in user is recognized.
func (c *call) postAsGet() error {
	if err := c.checkQuery(); err != nil {
		return err
	}
	p, err := c.parseBody()
	if err != nil && p == nil {
		return err // repeated parameters are refused after the redirect
	}
	c.redirect(c.r.URL.EscapedPath() + "?" + c.withoutReturn(p).encode())
	return nil
}

// refuseAuthorization returns an error to the client if a redirect to the client is safe (RFC
// 6749, section 4.1.2.1), and otherwise to the user.
func (c *call) refuseAuthorization(request *authorizationRequest, err error) error {
	if request == nil || request.to.uri == "" {
		return err
	}
	if c.direct && !c.trusted(request.client) || event.ClientGone(c.r.Context(), err) {
		return err
	}
	e := c.s.protocolError(err)
	if e.Code == PageExpired {
		return err // another request of the browser got the response
	}
	e = c.referenced(e, err)
	return c.respond(request, c.authorizationResponse(request,
		param{"error", string(e.Code)}, param{"error_description", e.Description}))
}

// trusted reports whether a browser may be redirected to a client before its user has done
// anything at this server. If anyone can register a client, a link to this server that ends in an
// error at once is an open redirect (RFC 9700, section 4.11.2).
//
// A browser gets from this server to a URI of a client in these ways only:
//
//	authorization response      in every response mode: the user consented, now or before
//	authorization error         at /authorize and /authorize/continue: trusted clients only;
//	                            after the user refused consent: all clients
//	logout                      at /logout: trusted clients only; after the sign-out page: all
//	                            clients
//	front-channel logout        in frames that cannot navigate the window, to clients of the
//	                            session
//	initiate_login_uri          a link on the account page, to clients that the user allowed
//	client_uri, policy_uri, …   links on pages
//
// The users of devices and of first-party applications stay on this server's pages, and all
// other errors are pages.
func (c *call) trusted(cl *client) bool {
	if cl.Vouched() || c.s.registrationPolicy.InsecureErrorRedirects {
		return true
	}
	who, err := c.s.config.Users.SignedIn(c.r)
	if err != nil || who == nil {
		return false
	}
	_, err = c.s.config.Store.Grant(c.r.Context(), who.Subject, cl.ID)
	return err == nil
}

// authorizationResponse adds the parameters of every response: state (RFC 6749, section 4.1.2)
// and iss (RFC 9207).
func (c *call) authorizationResponse(request *authorizationRequest, p ...param) params {
	if request.state != "" {
		p = append(p, param{"state", request.state})
	}
	return append(p, param{"iss", c.s.config.Issuer})
}

// verifyClient verifies the client and the redirect URI.
func (c *call) verifyClient() (*authorizationRequest, error) {
	cl, err := c.namedClient(c.params.get("client_id"))
	if errors.Is(err, errUnknownClient) {
		return nil, c.refuse(&ruleClientKnown, "client_id: "+c.params.get("client_id"))
	}
	if errors.Is(err, errClientDocument) {
		return nil, c.because(&ruleClientDocument, err)
	}
	if err != nil {
		return nil, err
	}
	c.client = cl
	audit.Identify(c.r.Context(), audit.Actor{ClientID: cl.ID})
	_ = c.must(true, &ruleClientKnown)
	request := &authorizationRequest{client: cl}
	if request.to, err = c.verifyRedirectURI(cl); err != nil {
		return nil, err
	}
	request.redirectURISent = c.params.has("redirect_uri")
	// From here on, errors are returned to the client with its state (RFC 6749, section
	// 4.1.2.1), even if the state is too long to be accepted.
	request.state = c.params.get("state")
	return request, nil
}

var (
	ruleClientKnown = rule{
		must:    "client_id names a registered client that is not disabled",
		section: "RFC 6749, section 4.1.2.1", code: PageUnknownClient,
		says: "client_id is missing or not registered",
		fix:  "register the client, or correct client_id in the application",
	}
	ruleRedirectURIRegistered = rule{
		must:    "redirect_uri is registered for the client, character by character; on a loopback address the port may differ, and on localhost if none is registered",
		section: "RFC 9700, section 2.1", code: PageRedirectURI,
		says: "redirect_uri is not registered for this client",
		fix:  "register the redirect URI exactly as the application sends it",
	}
	ruleRedirectURINeeded = rule{
		must:    "redirect_uri is sent, unless the client has only one and the request is not OpenID Connect",
		section: "OpenID Connect Core, section 3.1.2.1", code: PageRedirectURIMissing,
		says: "redirect_uri is missing",
		fix:  "send redirect_uri",
	}
	ruleResponseType = rule{
		must:    "response_type is one of code, id_token and token, or several of them",
		section: "OAuth 2.0 Multiple Response Type Encoding Practices, section 3", code: oauth.UnsupportedResponseType,
		says: "response_type is not supported",
		fix:  "send response_type=code, or another of response_types_supported",
	}
	ruleResponseTypeSent = rule{
		must:    "response_type is sent",
		section: "RFC 6749, section 4.1.2.1", code: oauth.InvalidRequest,
		says: "response_type is missing",
		fix:  "send response_type=code",
	}
	ruleResponseTypeAllowed = rule{
		must:    "the client is registered for the response_type and the grant types that it is part of",
		section: "RFC 6749, section 4.1.2.1", code: oauth.UnauthorizedClient,
		says: "the client is not registered for this response_type",
		fix:  "use response_type=code, or add the type to the client's response_types, and authorization_code or implicit to its grant_types",
	}
	ruleResponseMode = rule{
		must:    "response_mode is one of response_modes_supported, and not query if the response has a token",
		section: "OAuth 2.0 Multiple Response Type Encoding Practices, sections 2.1 and 3", code: oauth.InvalidRequest,
		says: "response_mode must be one of response_modes_supported, and not query with a response_type that returns a token",
		fix:  "leave out response_mode, or send one of those",
	}
	ruleResponseModeRegistered = rule{
		must:    "response_mode is one of the client's response_modes",
		section: "FAPI 2.0 Message Signing, section 5.3.3", code: oauth.InvalidRequest,
		says: "the client is not registered for this response_mode",
		fix:  "send one of the client's response_modes; a client that is registered for jwt only must send response_mode=jwt",
	}
	ruleOpenIDScope = rule{
		must:    "the scope has openid if an ID token is requested",
		section: "OpenID Connect Core, section 3.2.2.1", code: oauth.InvalidRequest,
		says: "a response_type with id_token needs the scope openid",
		fix:  "add openid to scope",
	}
	ruleNonceSent = rule{
		must:    "nonce is sent if the response has an ID token",
		section: "OpenID Connect Core, sections 3.2.2.1 and 3.3.2.11", code: oauth.InvalidRequest,
		says: "nonce is required with this response_type",
		fix:  "send a random nonce for each request, and compare it with the ID token's",
	}
	ruleNoRegistration = rule{
		must:    "the request has no registration parameter",
		section: "OpenID Connect Core, section 7.2.1", code: oauth.RegistrationNotSupported,
		says: "the registration parameter is not supported",
		fix:  "register the client beforehand",
	}
	ruleStateLength = rule{
		must:    "state has at most 4096 characters, and nonce at most 1024",
		section: "Valetkey", code: oauth.InvalidRequest,
		says: "state or nonce is too long: 4096 and 1024 characters at most",
		fix:  "send a short random value and keep the rest in the application",
	}
	ruleScopeKnown = rule{
		must:    "each scope is known and allowed for the client",
		section: "RFC 6749, section 4.1.2.1", code: oauth.InvalidScope,
		says: "a scope is unknown or not allowed for this client",
		fix:  "declare the scope, or add it to the client's scope",
	}
	ruleCodeChallengeRequired = rule{
		must:    "code_challenge is sent: always by a public client, and by a confidential client unless an OpenID nonce protects the request",
		section: "RFC 9700, section 2.1.1", code: oauth.InvalidRequest,
		says: "code_challenge is required (PKCE with S256)",
		fix:  "send code_challenge and code_challenge_method=S256",
	}
	ruleCodeChallengeMethod = rule{
		must:    "code_challenge_method is S256",
		section: "RFC 9700, section 2.1.1", code: oauth.InvalidRequest,
		says: "code_challenge_method must be S256",
		fix:  "send code_challenge_method=S256; the default is plain, which protects nothing",
	}
	ruleCodeChallengeSyntax = rule{
		must:    "code_challenge is 43 characters of base64url",
		section: "RFC 7636, section 4.2", code: oauth.InvalidRequest,
		says: "code_challenge must be the base64url form of a SHA-256 hash, 43 characters without padding",
		fix:  "send BASE64URL(SHA256(code_verifier))",
	}
	rulePrompt = rule{
		must:    "prompt is none alone, or any other of the prompt_values_supported",
		section: "OpenID Connect Core, section 3.1.2.1", code: oauth.InvalidRequest,
		says: "prompt must be none alone, or any other of the prompt_values_supported",
		fix:  "correct prompt; create needs sign_up in the configuration",
	}
	ruleMaxAge = rule{
		must:    "max_age is a number of seconds",
		section: "OpenID Connect Core, section 3.1.2.1", code: oauth.InvalidRequest,
		says: "max_age must be a whole number of seconds, 0 or more",
		fix:  "correct max_age",
	}
	ruleIDTokenHint = rule{
		must:    "id_token_hint is an ID token of this server",
		section: "OpenID Connect Core, section 3.1.2.1", code: oauth.InvalidRequest,
		says: "id_token_hint is not an ID token that this server issued",
		fix:  "send an ID token of this issuer, or none",
	}
)

// verifyAuthorizationRequest checks c.params. If it returns an error, the request has a redirect
// target if and only if the error may be returned to the client.
func (c *call) verifyAuthorizationRequest() (*authorizationRequest, error) {
	request, err := c.verifyClient()
	if err != nil {
		return nil, err
	}
	for _, verify := range [...]func(*authorizationRequest) error{
		c.verifyProfile, c.verifyResponse, c.verifyUnsupported, c.verifyScope, c.verifyAuthorizationDetails, c.verifyCodeChallenge, c.verifyProofKey, c.verifyAuthentication,
	} {
		if err := verify(request); err != nil {
			return request, err
		}
	}
	return request, nil
}

// verifyRedirectURI is the only function that creates a redirectTarget.
func (c *call) verifyRedirectURI(cl *client) (redirectTarget, error) {
	target := redirectTarget{mode: c.responseMode(cl)}
	requested := c.params.get("redirect_uri")
	if requested == "" {
		openID := slices.Contains(strings.Fields(c.params.get("scope")), oauth.ScopeOpenID)
		if len(cl.RedirectURIs) != 1 || openID {
			return redirectTarget{}, c.refuse(&ruleRedirectURINeeded, "")
		}
		target.uri, target.registered = cl.RedirectURIs[0], cl.RedirectURIs[0]
		return target, nil
	}
	for _, registered := range cl.RedirectURIs {
		if oauth.MatchRedirectURI(registered, requested) || cl.anyLocalhostPort() && oauth.MatchLocalhostRedirectURI(registered, requested) {
			target.uri, target.registered = requested, registered
			return target, c.must(true, &ruleRedirectURIRegistered)
		}
	}
	return redirectTarget{}, c.refuse(&ruleRedirectURIRegistered, nearestDifference(cl.RedirectURIs, requested))
}

// anyLocalhostPort reports whether a redirect URI on localhost that is registered without a port
// matches every port. Native clients and clients that register themselves use any port that is
// free. The consent page warns the user about such redirect URIs.
func (c *client) anyLocalhostPort() bool {
	return c.ApplicationType == oauth.ApplicationNative || c.Registration != nil
}

// responseMode returns the requested response mode, or the default of the response type. If the
// requested mode is not valid, verifyResponse refuses it, and the error uses the default. A client that
// is registered only for JWTs gets them for errors too. So does one whose profile requires JWTs, if the
// mode may be in a request object that is not valid.
func (c *call) responseMode(cl *client) string {
	responseType, _ := oauth.ParseResponseType(c.params.get("response_type"))
	frontChannel := responseType.FrontChannel()
	byDefault := "query"
	if frontChannel {
		byDefault = "fragment"
	}
	requested := c.params.get("response_mode")
	if requested == modeJWT {
		return byDefault + jwtSuffix
	}
	for _, m := range responseModes() {
		if m.name == requested && cl.modeAllowed(requested, frontChannel) {
			return requested
		}
	}
	unread := c.params.has("request") || c.params.has("request_uri") // a valid object replaces these
	if cl.onlyJWTModes() || unread && !frontChannel && cl.profile.codeInJWT.applies() {
		return byDefault + jwtSuffix
	}
	return byDefault
}

func (c *call) verifyResponse(request *authorizationRequest) error {
	if err := c.must(c.params.has("response_type"), &ruleResponseTypeSent); err != nil {
		return err
	}
	responseType, ok := oauth.ParseResponseType(c.params.get("response_type"))
	if !ok {
		return c.refuse(&ruleResponseType, "response_type: "+c.params.get("response_type"))
	}
	cl := request.client
	allowed := cl.HasResponseType(responseType) &&
		(!responseType.Code || cl.HasGrantType(oauth.GrantTypeAuthorizationCode)) &&
		(!responseType.FrontChannel() || cl.HasGrantType(oauth.GrantTypeImplicit))
	if err := c.must(allowed, &ruleResponseTypeAllowed); err != nil {
		return err
	}
	request.responseType = responseType
	mode := c.params.get("response_mode")
	if err := c.must(mode == "" || mode == modeJWT || mode == request.to.mode, &ruleResponseMode); err != nil {
		return err
	}
	if mode == "" && isJWTMode(request.to.mode) || !cl.registeredMode(mode, request.to.mode) {
		return c.refuse(&ruleResponseModeRegistered, "response_mode: "+mode)
	}
	request.nonce = c.params.get("nonce")
	return c.must(len(c.params.get("state")) <= maxStateBytes && len(request.nonce) <= maxNonceBytes, &ruleStateLength)
}

func (c *call) verifyUnsupported(*authorizationRequest) error {
	return c.must(!c.params.has("registration"), &ruleNoRegistration)
}

func (c *call) verifyScope(request *authorizationRequest) error {
	catalogue, err := c.catalogue()
	if err != nil {
		return err
	}
	requested, err := oauth.ParseScope(c.params.get("scope"))
	if err != nil {
		return err
	}
	if requested == nil {
		requested = request.client.scope.Without(oauth.Scope{oauth.ScopeOpenID, oauth.ScopeOfflineAccess})
		if request.client.Scope == "" {
			requested = nil
		}
	}
	openID := requested.Has(oauth.ScopeOpenID)
	if !request.client.HasGrantType(oauth.GrantTypeRefreshToken) || !request.responseType.Code {
		// Ignored if no refresh token can be issued (OpenID Connect Core, section 11).
		requested = requested.Without(oauth.Scope{oauth.ScopeOfflineAccess})
	}
	request.scope = slices.Grow(request.scope, len(requested))
	for _, name := range requested {
		_, known := catalogue.scopes[name]
		if !known && openID {
			continue // unknown scopes are ignored (OpenID Connect Core, section 3.1.2.1)
		}
		if !known || !request.client.scope.Has(name) {
			return c.refuse(&ruleScopeKnown, "scope "+name+"; the client's scope is "+request.client.scope.String())
		}
		request.scope = append(request.scope, name)
	}
	_ = c.must(true, &ruleScopeKnown)
	if request.responseType.IDToken {
		if err := c.must(openID, &ruleOpenIDScope); err != nil {
			return err
		}
		if err := c.must(request.nonce != "", &ruleNonceSent); err != nil {
			return err
		}
	}
	request.resources, err = c.requestedResources()
	return err
}

func (c *call) verifyCodeChallenge(request *authorizationRequest) error {
	if !request.responseType.Code {
		return nil
	}
	challenge := c.params.get("code_challenge")
	method := c.params.get("code_challenge_method")
	if challenge == "" {
		cl := request.client
		nonceProtects := request.nonce != "" && request.scope.Has(oauth.ScopeOpenID)
		optional := !cl.Public() && (nonceProtects || cl.InsecureNoCodeChallenge || cl.profile.noCodeChallenge) && !cl.RequireCodeChallenge && !c.s.config.RequireCodeChallenge
		return c.must(optional && method == "", &ruleCodeChallengeRequired)
	}
	if err := c.must(method == oauth.CodeChallengeMethodS256, &ruleCodeChallengeMethod); err != nil {
		return err
	}
	request.codeChallenge = challenge
	return c.must(oauth.ValidS256Challenge(challenge), &ruleCodeChallengeSyntax)
}

// verifyAuthentication checks the parameters that say how to authenticate the user.
func (c *call) verifyAuthentication(request *authorizationRequest) (err error) {
	request.prompt = strings.Fields(c.params.get("prompt"))
	for _, value := range request.prompt {
		if !slices.Contains(c.s.supportedPrompts(), value) || value == promptNone && len(request.prompt) > 1 {
			return c.refuse(&rulePrompt, "prompt: "+c.params.get("prompt"))
		}
	}
	request.maxAge = -1
	if maxAge := c.params.get("max_age"); maxAge != "" {
		seconds, err := strconv.ParseInt(maxAge, 10, 32)
		if err != nil || seconds < 0 {
			return c.refuse(&ruleMaxAge, "max_age: "+maxAge)
		}
		request.maxAge = time.Duration(seconds) * time.Second
	} else if request.client.DefaultMaxAge != nil {
		request.maxAge = time.Duration(*request.client.DefaultMaxAge) * time.Second
	}
	request.acrValues = strings.Fields(c.params.get("acr_values"))
	if len(request.acrValues) == 0 {
		request.acrValues = request.client.DefaultACRValues
	}
	request.loginHint = clip(c.params.get("login_hint"))
	request.claimsLocales = strings.Fields(clip(c.params.get("claims_locales")))
	request.uiLocales = strings.Fields(c.params.get("ui_locales"))
	if claims := c.params.get("claims"); claims != "" && request.scope.Has(oauth.ScopeOpenID) {
		if request.claims, err = oauth.ParseClaimsRequest(claims); err != nil {
			return err
		}
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return err
	}
	request.audience = catalogue.reaches(request.client, request.resources, request.scope, request.details)
	request.consent = consentFor(catalogue, request)
	if hint := c.params.get("id_token_hint"); hint != "" {
		claims, err := c.readIDTokenHint(hint)
		if err != nil {
			return c.because(&ruleIDTokenHint, err)
		}
		request.hintSubject = claims.Subject
		request.hintClient, err = c.clientByID(claims.Audience[0])
		if errors.Is(err, errUnknownClient) {
			return c.refuse(&ruleIDTokenHint, "its client does not exist any more: "+claims.Audience[0])
		}
		if err != nil {
			return err
		}
	}
	return nil
}
