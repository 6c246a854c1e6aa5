package authserver

import (
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// The values of prompt (OpenID Connect Core, section 3.1.2.1).
const (
	promptNone          = "none"
	promptLogin         = "login"
	promptConsent       = "consent"
	promptSelectAccount = "select_account"
	// promptCreate is that of Initiating User Registration via OpenID Connect.
	promptCreate = "create"
)

func (s *Server) supportedPrompts() []string {
	prompts := []string{promptNone, promptLogin, promptConsent, promptSelectAccount}
	if s.config.Pages.SignUp != "" {
		prompts = append(prompts, promptCreate)
	}
	return prompts
}

// displays are the values of display (OpenID Connect Core, section 3.1.2.1). The pages fit
// whatever shows them, so nothing depends on the value.
func displays() []string { return []string{"page", "popup", "touch", "wap"} }

// authorizationRequest is a request that was verified in full. It is made from the
// parameters anew at each step, so that what changed meanwhile counts.
type authorizationRequest struct {
	client       *client
	to           redirectTarget
	responseType oauth.ResponseType
	state        string
	scope        oauth.Scope
	// consent is what the person is asked for: scope, and the scopes of the claims that the
	// claims parameter asks for beside.
	consent   oauth.Scope
	resources []string
	// audience are the APIs that the tokens can be for: resources, or those that know the
	// scope. The user is asked about them.
	audience        []string
	redirectURISent bool
	codeChallenge   string
	nonce           string
	prompt          []string
	maxAge          time.Duration // negative: not asked
	acrValues       []string
	claims          *oauth.ClaimsRequest
	hintSubject     string  // sub of id_token_hint
	hintClient      *client // whom that ID token was for
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
	if err := c.resolveRequestObject(); err != nil {
		// The client is told where the parameters outside of the object say so.
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
	return c.advance(&interaction{request: request, params: c.params}, who)
}

// repeatedParams returns as much of a request with a repeated parameter as the client needs
// to be told of it (RFC 6749, section 4.1.2.1): nil, if what repeats says who the client is
// or where the answer goes.
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

// postAsGet sends the browser back with the same parameters by GET. Another site's POST
// comes without our SameSite cookies; the GET has them, and the person who is signed in
// is recognised.
func (c *call) postAsGet() error {
	if err := c.checkQuery(); err != nil {
		return err
	}
	p, err := c.parseBody()
	if err != nil && p == nil {
		return err // a repeated parameter is refused after the redirect
	}
	c.redirect(c.r.URL.EscapedPath() + "?" + c.withoutReturn(p).encode())
	return nil
}

// refuseAuthorization answers an error to the client, if the request got so far that a
// redirect to the client is safe (RFC 6749, section 4.1.2.1), and to the person if not.
func (c *call) refuseAuthorization(request *authorizationRequest, err error) error {
	if request == nil || request.to.uri == "" {
		return err
	}
	if c.direct && !c.trusted(request.client) {
		return err
	}
	e := c.s.protocolError(err)
	e = c.referenced(e, err)
	return c.respond(request.to, c.authorizationResponse(request,
		param{"error", string(e.Code)}, param{"error_description", e.Description}))
}

// trusted reports whether a browser may be sent to a client before the person at it has
// done anything here. If anybody can register a client, a link to this server that ends at
// once in an error leads wherever they like (RFC 9700, section 4.11.2).
//
// These are all the ways by which a browser gets from here to a URI of a client:
//
//	authorization response      in every response mode: the user consented, now or before
//	authorization error         at /authorize and at the address to go on: trusted; refused
//	                            consent: the user did that
//	logout                      at /logout: trusted; after the sign-out page: the user did that
//	front-channel logout        in frames that cannot navigate the window, to clients of the
//	                            session
//	initiate_login_uri          a link on the account page, to clients that the user allowed
//	client_uri, policy_uri, …   links on pages
//
// A device's user and a first-party application's stay on our pages, and all other errors
// are pages.
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

// authorizationResponse adds what every response carries: state (RFC 6749, section 4.1.2)
// and iss (RFC 9207).
func (c *call) authorizationResponse(request *authorizationRequest, p ...param) params {
	if request.state != "" {
		p = append(p, param{"state", request.state})
	}
	return append(p, param{"iss", c.s.config.Issuer})
}

// verifyClient finds out who asks, and where the answer goes.
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
	_ = c.must(true, &ruleClientKnown)
	request := &authorizationRequest{client: cl}
	if request.to, err = c.verifyRedirectURI(cl); err != nil {
		return nil, err
	}
	request.redirectURISent = c.params.has("redirect_uri")
	// From here on the client is told, with its state (RFC 6749, section 4.1.2.1), even if that
	// is longer than what is accepted.
	request.state = c.params.get("state")
	return request, nil
}
