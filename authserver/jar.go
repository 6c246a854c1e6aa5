package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

const (
	maxRequestObjectBytes = 16 << 10
	// maxRequestObjectLife applies to clients that are registered for signed objects.
	maxRequestObjectLife = time.Hour
)

var (
	ruleOneRequestObject = rule{
		must:    "the request has either request or request_uri",
		section: "RFC 9101, section 5", code: oauth.InvalidRequest,
		says: "request and request_uri cannot be used together",
		fix:  "send one of them",
	}
	ruleRequestObjectRequired = rule{
		must:    "a client that is registered for signed request objects sends one",
		section: "RFC 9101, section 10.5", code: oauth.InvalidRequest,
		says: "this client's requests must be signed request objects",
		fix:  "send request or request_uri, or clear require_signed_request_object",
	}
	ruleRequestObject = rule{
		must:    "the request object is a JWT that the client signed with its registered algorithm",
		section: "RFC 9101, section 6", code: oauth.InvalidRequestObject,
		says: "the request object cannot be verified",
		fix:  "sign it with a key of the client's jwks and request_object_signing_alg",
	}
	ruleRequestObjectUnsigned = rule{
		must:    "an unsigned request object comes from a client whose request_object_signing_alg is none",
		section: "OpenID Connect Core, section 6.1", code: oauth.InvalidRequestObject,
		says: "this client's request objects must be signed",
		fix:  "sign it, or register request_object_signing_alg none",
	}
	ruleRequestObjectClaims = rule{
		must:    "the request object is from this client, for this server, and valid now",
		section: "RFC 9101, section 4", code: oauth.InvalidRequestObject,
		says: "iss, aud, exp, nbf, iat, sub or client_id of the request object is not valid",
		fix:  "set iss to the client_id, aud to the issuer, exp to a few minutes in the future, and no sub",
	}
	ruleRequestObjectUnfinished = rule{
		must:    "the user has not finished the request of a request object with this jti",
		section: "Valetkey", code: oauth.InvalidRequestObject,
		says: "a request object with this jti was used before",
		fix:  "sign a new request object, with another jti, for each request",
	}
	ruleRequestObjectParams = rule{
		must:    "the request object contains the parameters of an authorization request, none nested",
		section: "RFC 9101, section 4", code: oauth.InvalidRequestObject,
		says: "a parameter in the request object has an invalid form, or is request or request_uri",
		fix:  "write parameters as strings, max_age as a number, claims as an object",
	}
	ruleRequestObjectAgrees = rule{
		must:    "response_type is the same outside and inside the request object",
		section: "OpenID Connect Core, section 6.1", code: oauth.InvalidRequest,
		says: "response_type differs from that in the request object",
		fix:  "send the same response_type in both",
	}
	ruleRequestURIRegistered = rule{
		must:    "request_uri is registered for the client",
		section: "OpenID Connect Core, section 6.2", code: oauth.InvalidRequestURI,
		says: "request_uri is not registered for this client",
		fix:  "add it to the client's request_uris",
	}
	ruleRequestURIFetched = rule{
		must:    "request_uri is the URL of a request object",
		section: "OpenID Connect Core, section 6.2", code: oauth.InvalidRequestURI,
		says: "the request object could not be fetched from request_uri",
		fix:  "serve it there, over https, without redirects, within five seconds, at most 16 KiB",
	}
)

// resolveRequestObject replaces a request object (RFC 9101; OpenID Connect Core, section 6) by
// its parameters. From then on the request is like any other and is stored in that form, so the
// object is fetched and verified once, and its expiry is checked once. With alone, parameters outside
// the object are ignored, as in a pushed request (RFC 9126, section 3).
func (c *call) resolveRequestObject(alone bool) error {
	byValue, byReference := c.params.has("request"), c.params.has("request_uri")
	cl, err := c.namedClient(c.params.get("client_id"))
	if errors.Is(err, errUnknownClient) || errors.Is(err, errClientDocument) {
		return nil // verifyClient reports it
	}
	if err != nil {
		return err
	}
	if !byValue && !byReference {
		return c.must(!c.requiresSigned(cl), &ruleRequestObjectRequired)
	}
	if err := c.must(byValue != byReference, &ruleOneRequestObject); err != nil {
		return err
	}
	object := c.params.get("request")
	if byReference {
		if object, err = c.fetchRequestObject(cl); err != nil {
			return err
		}
	}
	payload, err := c.openRequestObject(cl, object)
	if err != nil {
		return err
	}
	inside, err := c.requestObjectParams(cl, payload, alone)
	if err != nil {
		return err
	}
	return c.mergeRequestObject(cl, inside, alone)
}

// requiresSigned reports whether a client's requests must be signed request objects.
func (c *call) requiresSigned(cl *client) bool {
	return cl.RequireSignedRequestObject || c.s.config.RequireSignedRequestObject
}

// openRequestObject decrypts an object if it is encrypted (RFC 9101, section 6.1), verifies the
// client's signature, and returns the claims.
func (c *call) openRequestObject(cl *client, object string) ([]byte, error) {
	if jose.IsEncrypted(object) {
		inner, err := c.decrypt(cl, object, cl.RequestObjectEncryptionAlg, cl.RequestObjectEncryptionEnc)
		if err != nil {
			return nil, c.because(&ruleRequestObject, err)
		}
		object = string(inner)
	} else if cl.RequestObjectEncryptionAlg != "" && c.requiresSigned(cl) {
		return nil, c.refuse(&ruleRequestObject, "it is not encrypted with "+cl.RequestObjectEncryptionAlg)
	}
	header, err := jose.ParseHeader(object)
	if err != nil {
		return nil, c.because(&ruleRequestObject, err)
	}
	registered := jose.Algorithm(cl.RequestObjectSigningAlg)
	if header.Algorithm == "none" {
		// A client that registered itself without an algorithm may use any (OpenID Connect
		// Registration, section 2). A declared client must be declared for none.
		allowed := registered == "none" || registered == "" && cl.Registration != nil
		if !allowed || c.requiresSigned(cl) || !strings.HasSuffix(object, ".") {
			return nil, c.refuse(&ruleRequestObjectUnsigned, "")
		}
		return jose.UnverifiedPayload(object)
	}
	want := jose.Expected{Types: []string{oauth.TypRequestObject, "JWT", ""}}
	if registered != "" {
		want.Algorithms = []jose.Algorithm{registered}
	}
	if !cl.profile.signatures.allows(header.Algorithm) {
		return nil, c.refuse(&ruleRequestObject, string(header.Algorithm)+" is not allowed by the profile "+cl.profile.name)
	}
	var payload []byte
	if strings.HasPrefix(string(header.Algorithm), "HS") {
		if registered == "" {
			want.Algorithms = []jose.Algorithm{jose.HS256, jose.HS384, jose.HS512}
		}
		err = errCredentials("the client has no secret")
		for _, secret := range cl.Secrets {
			if payload, _, err = jose.VerifySecret(object, []byte(secret), want); err == nil {
				break
			}
		}
	} else {
		if registered == "" {
			want.Algorithms = signingAlgorithms()
		}
		payload, err = verifyWithClientKeys(c.r.Context(), c.now, cl, object, want)
	}
	if err != nil {
		return nil, c.because(&ruleRequestObject, err)
	}
	return payload, c.must(true, &ruleRequestObject)
}

// requestObjectTimes are limits on exp and nbf of a request object; zero means no limit. With a
// limit, the claim is required. FAPI 1.0 Advanced, section 5.2.2, and FAPI 2.0 Message Signing,
// section 5.3.1, have maxAge and maxLife, both one hour.
type requestObjectTimes struct {
	section  requirement
	maxAhead time.Duration // how far in the future exp may be
	maxAge   time.Duration // how long ago nbf may be
	maxLife  time.Duration // how long after nbf exp may be
}

// requestObjectTimes returns the limits for the request objects of a client.
func (c *call) requestObjectTimes(cl *client) requestObjectTimes {
	if c.requiresSigned(cl) {
		return cl.profile.signedRequestTimes()
	}
	return requestObjectTimes{}
}

// signedRequestTimes returns the limits for requests that must be signed.
func (p *profile) signedRequestTimes() requestObjectTimes {
	times := p.requestObject
	times.maxAhead = maxRequestObjectLife
	if times.section.applies() {
		times.maxAhead += clockSkew // nbf may be in the future, and exp is limited by nbf
	}
	return times
}

// check returns why the times of a request object are not valid, or "".
func (t requestObjectTimes) check(claims jose.Claims, now time.Time) string {
	hasExpires, hasNotBefore := !claims.Expires.IsZero(), !claims.NotBefore.IsZero()
	switch {
	case hasExpires && !now.Before(claims.Expires.Add(clockSkew)):
		return "it has expired"
	case claims.NotBefore.Sub(now) > clockSkew || claims.IssuedAt.Sub(now) > clockSkew:
		return "nbf or iat is in the future"
	case !hasExpires && (t.maxAhead > 0 || t.maxLife > 0):
		return "exp is missing"
	case !hasNotBefore && (t.maxAge > 0 || t.maxLife > 0):
		return "nbf is missing"
	case t.maxAhead > 0 && claims.Expires.Sub(now) > t.maxAhead:
		return fmt.Sprintf("exp is more than %v in the future", t.maxAhead)
	case t.maxAge > 0 && now.Sub(claims.NotBefore) > t.maxAge+clockSkew:
		return fmt.Sprintf("nbf is more than %v ago", t.maxAge)
	case t.maxLife > 0 && claims.Expires.Sub(claims.NotBefore) > t.maxLife:
		return fmt.Sprintf("exp is more than %v after nbf", t.maxLife)
	}
	return ""
}

// requestObjectParams verifies the claims of an object and returns its parameters.
func (c *call) requestObjectParams(cl *client, payload []byte, alone bool) (params, error) {
	var members map[string]json.RawMessage
	claims, err := jose.ParseClaims(payload, &members)
	if err != nil {
		return nil, c.because(&ruleRequestObjectClaims, err)
	}
	strict := c.requiresSigned(cl)
	switch {
	case claims.Issuer != "" && claims.Issuer != cl.ID:
		return nil, c.refuse(&ruleRequestObjectClaims, "iss: "+claims.Issuer)
	case len(claims.Audience) > 0 && !slices.Contains(claims.Audience, c.s.config.Issuer):
		return nil, c.refuse(&ruleRequestObjectClaims, fmt.Sprintf("aud: %q", claims.Audience))
	case claims.Subject == cl.ID:
		// A client assertion is signed with the same key (RFC 9101, section 10.8).
		return nil, c.refuse(&ruleRequestObjectClaims, "sub is the client_id, as in a client assertion")
	case strict && (claims.Issuer == "" || len(claims.Audience) == 0):
		return nil, c.refuse(&ruleRequestObjectClaims, "iss or aud is missing")
	}
	if problem := c.requestObjectTimes(cl).check(claims, c.now); problem != "" {
		return nil, c.refuse(&ruleRequestObjectClaims, problem)
	}
	if strict && !alone && claims.ID != "" && c.endpoint.page {
		if err := c.useRequestObject(cl, claims); err != nil {
			return nil, err
		}
	}
	var inside params
	for _, name := range slices.Sorted(maps.Keys(members)) {
		raw := members[name]
		if slices.Contains([]string{"iss", "aud", "sub", "exp", "nbf", "iat", "jti"}, name) {
			continue
		}
		values, ok := paramValues(name, raw)
		if !ok || len(inside)+len(values) > maxParams || name == "request" || name == "request_uri" {
			return nil, c.refuse(&ruleRequestObjectParams, name)
		}
		for _, value := range values {
			inside = append(inside, param{name, value})
		}
	}
	if id := inside.get("client_id"); id != "" && id != cl.ID {
		return nil, c.refuse(&ruleRequestObjectClaims, "client_id: "+id)
	}
	return inside, c.must(true, &ruleRequestObjectClaims)
}

// useRequestObject lets a signed request object with a jti get one response, if the client's requests
// must be signed. Until then the browser can send it again, after a reload or with the back button.
func (c *call) useRequestObject(cl *client, claims jose.Claims) error {
	key := ticketkind.RequestObject.Hash(cl.ID + "\x00" + claims.ID)
	stored, err := c.s.config.Store.Get(c.r.Context(), c.now, key)
	if errors.Is(err, storage.ErrNotFound) {
		// It is kept while the object can be sent, and while an interaction can end.
		expires := claims.Expires.Add(clockSkew)
		if ends := c.now.Add(c.s.lifetimes.Interaction + time.Minute); ends.After(expires) {
			expires = ends
		}
		if err := c.takeInteraction(cl, &ruleInteractions); err != nil {
			return err
		}
		err = c.s.config.Store.Put(c.r.Context(), c.now, storage.Ticket{Key: key, Expires: expires})
		if errors.Is(err, storage.ErrExists) { // another request of the browser was faster
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("store the jti of a request object: %w", err)
	}
	c.pending = &requestTicket{key: key}
	return c.must(stored.Spent.IsZero(), &ruleRequestObjectUnfinished)
}

// paramValues returns a member of a request object as the values of a parameter: strings
// unchanged, numbers and objects as JSON. resource and authorization_details may be arrays.
func paramValues(name string, raw json.RawMessage) (values []string, ok bool) {
	var value any
	if err := jose.ParseJSON(raw, &value); err != nil {
		return nil, false
	}
	switch v := value.(type) {
	case nil:
		return nil, true
	case string:
		values = []string{v}
	case []any:
		if name == "authorization_details" {
			values = []string{string(raw)}
			break
		}
		if name != "resource" {
			return nil, false
		}
		for _, element := range v {
			s, isString := element.(string)
			if !isString {
				return nil, false
			}
			values = append(values, s)
		}
	default: // a number, a boolean or an object
		values = []string{string(raw)}
	}
	for _, value := range values {
		if len(value) > maxParamBytes || strings.ContainsRune(value, 0) {
			return nil, false
		}
	}
	return values, true
}

// mergeRequestObject makes the parameters of the object those of the request. Parameters outside
// the object are used only in an OpenID Connect request as section 6.1 defines it, and only if
// the object does not contain them.
func (c *call) mergeRequestObject(cl *client, inside params, alone bool) error {
	outside := c.params
	openID := slices.Contains(strings.Fields(outside.get("scope")), oauth.ScopeOpenID) && outside.has("response_type")
	merged := params{{"client_id", cl.ID}}
	for _, p := range inside {
		if p.name != "client_id" && p.value != "" {
			merged = append(merged, p)
		}
	}
	if openID && !alone && !c.requiresSigned(cl) {
		if t := inside.get("response_type"); t != "" && t != outside.get("response_type") {
			return c.refuse(&ruleRequestObjectAgrees, t)
		}
		for _, p := range outside {
			if p.name != "request" && p.name != "request_uri" && !merged.has(p.name) {
				merged = append(merged, p)
			}
		}
	}
	c.params = merged
	return nil
}

// fetchRequestObject fetches the object from request_uri, which must be registered (OpenID
// Connect Core, section 6.2).
func (c *call) fetchRequestObject(cl *client) (string, error) {
	uri := c.params.get("request_uri")
	address, _, _ := strings.Cut(uri, "#") // the fragment is for caches, and there is none here
	registered := slices.ContainsFunc(cl.RequestURIs, func(r string) bool {
		r, _, _ = strings.Cut(r, "#")
		return r == address
	})
	if !registered {
		return "", c.refuse(&ruleRequestURIRegistered, nearestDifference(cl.RequestURIs, uri))
	}
	if err := c.takeInteraction(cl, &ruleInteractions); err != nil {
		return "", err
	}
	object, _, err := c.s.outgoingFor(cl.Client).Get(c.r.Context(), address, "application/oauth-authz-req+jwt, application/jwt", maxRequestObjectBytes)
	if err != nil {
		return "", c.because(&ruleRequestURIFetched, err)
	}
	return strings.TrimSpace(string(object)), c.must(true, &ruleRequestURIFetched)
}
