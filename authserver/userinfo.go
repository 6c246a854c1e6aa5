package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

var (
	ruleBearerSent = rule{
		must:    "the request has an access token",
		section: "RFC 6750, section 2", code: "",
		says: "",
		fix:  "send Authorization: Bearer with the access token",
	}
	ruleBearerSyntax = rule{
		must:    "the access token is sent once, as Authorization: Bearer or, by POST, as access_token in the body",
		section: "RFC 6750, section 2", code: oauth.InvalidRequest,
		says: "the access token must be sent once, in the Authorization header or in a form body",
		fix:  "send Authorization: Bearer and the token, once",
	}
	ruleUserinfoToken = rule{
		must:    "the access token is active and meant for this server",
		section: "OpenID Connect Core, section 5.3.1", code: oauth.InvalidToken,
		says: "the access token is invalid, expired, revoked, or meant for another API",
		fix:  "get a new token; with resource parameters, leave them out of the request for UserInfo's token",
	}
	ruleUserinfoScope = rule{
		must:    "the access token has the scope openid",
		section: "OpenID Connect Core, section 5.3", code: oauth.InsufficientScope,
		says: "the access token needs the scope openid",
		fix:  "request openid in the authorization request",
	}
)

// userinfo returns the claims that the token's scopes and the claims parameter request (OpenID
// Connect Core, section 5.3).
func (c *call) userinfo() error {
	claims, err := c.userinfoClaims()
	if err == nil {
		return c.writeUserinfo(claims)
	}
	// Otherwise a script could not read the error, and would not know that it must refresh the
	// token.
	c.allowAnyOrigin()
	if e := oauth.AsError(err); e == nil || e.HTTPStatus() >= http.StatusInternalServerError {
		return err
	}
	c.challenge(err, dpopChallenge())
	return nil
}

// writeUserinfo responds with JSON, or with a JWT that is signed, encrypted or both if the client is
// registered for that (OpenID Connect Core, section 5.3.2).
func (c *call) writeUserinfo(claims oauth.Claims) error {
	alg, encryption := c.client.UserinfoSignedResponseAlg, c.client.UserinfoEncryptedResponseAlg
	if alg == "" && encryption == "" {
		return writeJSON(c.w, http.StatusOK, claims)
	}
	contentType := ""
	if alg != "" {
		claims["iss"], claims["aud"] = c.s.config.Issuer, c.client.ID
		contentType = "JWT"
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return fmt.Errorf("encode UserInfo: %w", err)
	}
	token := string(payload)
	if alg != "" {
		if token, err = c.sign(c.client, jose.Algorithm(alg), "JWT", payload); err != nil {
			return fmt.Errorf("sign UserInfo: %w", err)
		}
	}
	if token, err = c.s.encryptTo(c.r.Context(), c.now, c.client, token, encryption, c.client.UserinfoEncryptedResponseEnc, contentType); err != nil {
		return err
	}
	noStore(c.w)
	writeBytes(c.w, http.StatusOK, "application/jwt", []byte(token))
	return nil
}

func (c *call) userinfoClaims() (oauth.Claims, error) {
	token, err := c.accessToken()
	if err != nil {
		return nil, err
	}
	t, err := c.verifyAccessToken(token)
	if errors.Is(err, errInactive) {
		return nil, c.refuse(&ruleUserinfoToken, err.Error())
	}
	if err != nil {
		return nil, err
	}
	if err := c.checkSender(t, token); err != nil {
		return nil, err
	}
	cl, err := c.clientByID(t.claims.ClientID)
	if errors.Is(err, errUnknownClient) {
		return nil, c.refuse(&ruleUserinfoToken, "the client is deleted or disabled")
	}
	if err != nil {
		return nil, err
	}
	c.client = cl
	audit.Identify(c.r.Context(), audit.Actor{ClientID: cl.ID})
	c.allowOrigin(cl)
	if !t.claims.Audience.Has(c.s.config.Issuer) {
		return nil, c.refuse(&ruleUserinfoToken, fmt.Sprintf("aud is %q", t.claims.Audience))
	}
	scope, err := oauth.ParseScope(t.claims.Scope)
	if err != nil {
		return nil, fmt.Errorf("read scope of an access token: %w", err)
	}
	if err := c.must(scope.Has(oauth.ScopeOpenID), &ruleUserinfoScope); err != nil {
		return nil, err
	}
	if err := c.checkProof(cl); err != nil {
		return nil, err
	}
	if err := c.spendProof(); err != nil {
		return nil, err
	}
	wanted := claimsWanted{scope: scope, granted: scope, resources: t.claims.Audience, locales: t.claimsLocales}
	if t.requestedClaims != nil {
		wanted.asked = t.requestedClaims.Userinfo
	}
	released, err := c.userClaims(c.r.Context(), t.user, wanted)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, c.refuse(&ruleUserinfoToken, "the user is deleted or disabled")
	}
	if err != nil {
		return nil, fmt.Errorf("read claims: %w", err)
	}
	if released, err = c.hookUserinfo(c.r.Context(), t, scope, released); err != nil {
		return nil, err
	}
	released["sub"] = t.claims.Subject
	return released, nil
}

// accessToken is bearerToken for endpoints that also accept the scheme DPoP (RFC 9449, section 7.1).
func (c *call) accessToken() (string, error) {
	headers := c.r.Header["Authorization"]
	if len(headers) != 1 {
		return c.bearerToken()
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if c.schemeDPoP = strings.EqualFold(scheme, oauth.TokenTypeDPoP); !c.schemeDPoP {
		return c.bearerToken()
	}
	if token == "" || strings.ContainsAny(token, " ,") {
		return "", c.refuse(&ruleBearerSyntax, "")
	}
	return token, nil
}

// bearerToken returns the access token (RFC 6750, sections 2.1 and 2.2). A token in the URL is
// ignored, because URLs end up in logs (OAuth 2.1).
func (c *call) bearerToken() (string, error) {
	headers := c.r.Header["Authorization"]
	var body string
	if c.r.Method == http.MethodPost && isForm(c.r.Header.Get("Content-Type")) {
		p, err := c.parseBody()
		if err != nil {
			return "", err
		}
		body = p.get("access_token")
	}
	switch {
	case len(headers) > 1 || len(headers) == 1 && body != "":
		return "", c.refuse(&ruleBearerSyntax, "")
	case len(headers) == 1:
		scheme, token, _ := strings.Cut(headers[0], " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", c.refuse(&ruleBearerSent, "another authentication scheme")
		}
		if token == "" || strings.ContainsAny(token, " ,") {
			return "", c.refuse(&ruleBearerSyntax, "")
		}
		return token, nil
	case body != "":
		return body, nil
	}
	return "", c.refuse(&ruleBearerSent, "")
}

// challenge writes the error response of a protected resource (RFC 6750, section 3). The response to
// a request without a token has only the scheme (section 3.1).
//
// others are challenges for other schemes that the endpoint accepts.
func (c *call) challenge(err error, others ...oauth.Challenge) {
	if c.endpoint.cors == corsAny {
		c.allowAnyOrigin()
	}
	e := c.s.protocolError(err)
	if e.Code == "" {
		c.setChallenges(append([]oauth.Challenge{oauth.NewChallenge("Bearer", "realm", c.s.config.Issuer)}, others...)...)
		noStore(c.w)
		writeBytes(c.w, http.StatusUnauthorized, "application/json", []byte("{}"))
		return
	}
	if e.Code != oauth.UseDPoPNonce { // not a failure, so there is no trace to refer to
		e = c.referenced(e, err)
	}
	scope := ""
	if e.Code == oauth.InsufficientScope {
		scope = oauth.ScopeOpenID
	}
	pairs := []string{"realm", c.s.config.Issuer, "error", string(e.Code), "error_description", e.Description, "scope", scope}
	if c.schemeDPoP {
		c.setChallenges(dpopChallenge(pairs...))
	} else {
		c.setChallenges(append([]oauth.Challenge{oauth.NewChallenge("Bearer", pairs...)}, others...)...)
	}
	status := e.HTTPStatus()
	if isProofError(e.Code) {
		status = http.StatusUnauthorized
	}
	writeJSONError(c.w, status, e)
}

func (c *call) setChallenges(challenges ...oauth.Challenge) {
	values := make([]string, len(challenges))
	for i, challenge := range challenges {
		values[i] = challenge.String()
	}
	c.w.Header()["Www-Authenticate"] = values
}
