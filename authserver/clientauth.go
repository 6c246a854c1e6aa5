package authserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth"
)

// clientAuthMethod is a way in which a client proves who it is.
type clientAuthMethod struct {
	name string
	// presented reports whether the request tries this method. A request tries one only.
	presented func(*call) bool
	// clientID returns which client the credentials claim to be.
	clientID func(*call) (string, error)
	// verify checks the credentials. cl is nil for an unknown client: the method then
	// does the same work, so that time tells nothing, and fails.
	verify func(c *call, cl *client) error
	// check reports what a client is missing for it; nil for nothing.
	check func(*clientCheck)
	// offered reports whether it is named to everybody; nil: always.
	offered func(*Server) bool
}

// clientAuthMethods is the table of methods.
func clientAuthMethods() []clientAuthMethod {
	return []clientAuthMethod{
		{name: oauth.AuthMethodClientSecretBasic, presented: presentsBasic, clientID: basicClientID, verify: verifyBasic, check: (*clientCheck).secret},
		{name: oauth.AuthMethodClientSecretPost, presented: presentsPost, clientID: postedClientID, verify: verifyPost, check: (*clientCheck).secret},
		{name: oauth.AuthMethodClientSecretJWT, presented: presentsSecretJWT, clientID: assertedClientID, verify: verifySecretJWT, check: (*clientCheck).secretOfJWT},
		{name: oauth.AuthMethodFederatedJWT, presented: presentsFederatedJWT, clientID: federatedClientID, verify: verifyFederatedJWT, check: (*clientCheck).workload, offered: (*Server).takesWorkloads},
		{name: oauth.AuthMethodPrivateKeyJWT, presented: presentsPrivateKeyJWT, clientID: assertedClientID, verify: verifyPrivateKeyJWT, check: (*clientCheck).privateKey},
		{name: oauth.AuthMethodNone, presented: presentsNone, clientID: postedClientID, verify: verifyNone, check: (*clientCheck).noSecret},
	}
}

var (
	ruleOneClientAuthMethod = rule{
		must:    "the client uses one authentication method",
		section: "RFC 6749, section 2.3", code: oauth.InvalidRequest,
		says: "more than one client authentication method is used in the request",
		fix:  "send either an Authorization header, or client_secret, or client_assertion",
	}
	ruleClientNamed = rule{
		must:    "the request names a client",
		section: "RFC 6749, section 3.2.1", code: oauth.InvalidClient,
		says: "the request names no client: client_id or client credentials are missing",
		fix:  "authenticate, or send client_id if the client is public",
	}
	ruleSameClientID = rule{
		must:    "client_id, if it is sent, names the client that authenticates",
		section: "RFC 6749, section 3.2.1", code: oauth.InvalidRequest,
		says: "client_id is not the client that authenticates",
		fix:  "send the client_id of the credentials, or leave it out",
	}
	// One rule for an unknown client, a wrong method and wrong credentials: an answer that
	// told them apart would tell which clients exist. The ladder tells the operator.
	ruleClientCredentials = rule{
		must:    "the client is registered and its credentials are valid",
		section: "RFC 6749, section 5.2", code: oauth.InvalidClient,
		says: "client authentication failed",
		fix:  "compare client_id, secret or key, and token_endpoint_auth_method with the client's registration",
	}
	ruleClientFailures = rule{
		must:    "not too many attempts with wrong credentials came from this address for this client",
		section: "RFC 6819, section 5.1.4.2.3", code: oauth.TemporarilyUnavailable,
		says: "too many failed attempts; wait as long as Retry-After says",
		fix:  "wait, and correct the credentials",
	}
)

// errCredentials is why a method refused, for the ladder.
type errCredentials string

func (e errCredentials) Error() string { return string(e) }

// authenticateClient finds out which client sent the request (RFC 6749, section 2.3).
func (c *call) authenticateClient() (*client, error) {
	if len(c.r.Header["Authorization"]) > 1 {
		return nil, c.refuse(&ruleOneClientAuthMethod, "more than one Authorization header")
	}
	var method *clientAuthMethod
	methods := clientAuthMethods()
	for i := range methods {
		if !methods[i].presented(c) {
			continue
		}
		if method != nil {
			return nil, c.refuse(&ruleOneClientAuthMethod, "both "+method.name+" and "+methods[i].name)
		}
		method = &methods[i]
	}
	if method == nil {
		return nil, c.refuse(&ruleClientNamed, "")
	}
	id, err := method.clientID(c)
	if err != nil {
		return nil, err
	}
	if named := c.params.get("client_id"); named != "" && named != id {
		return nil, c.refuse(&ruleSameClientID, "client_id "+named+", credentials of "+id)
	}
	cl, err := c.namedClient(id)
	if errors.Is(err, errClientDocument) {
		if cl == nil {
			return nil, c.because(&ruleClientDocumentNow, err)
		}
		err = nil // what it was given stays good for a day
	}
	if err != nil && !errors.Is(err, errUnknownClient) {
		return nil, err
	}
	party := c.party(cl)
	if cl != nil {
		c.allowOrigin(cl)
	}
	known := cl
	if cl != nil && !cl.takesMethod(method.name) {
		err = errCredentials("the client is registered for " + cl.TokenEndpointAuthMethod + " and used " + method.name)
		cl = nil
	}
	if failed := method.verify(c, cl); failed != nil || cl == nil {
		var reason errCredentials
		switch {
		case err != nil: // unknown client or wrong method
		case errors.As(failed, &reason):
			err = failed
		default: // the store, or a rule of the method's own
			return nil, failed
		}
		if id != "" && method.name != oauth.AuthMethodNone {
			address := c.s.remoteAddr(c.r)
			if wait := c.s.limits.failures.Take(c.now, party); wait > 0 {
				return nil, c.tooMany(&ruleClientFailures, wait, address.String())
			}
			c.refusal = c.clientNotAuthenticated(known, id, cl != nil)
		}
		return nil, c.because(&ruleClientCredentials, err)
	}
	c.client = cl
	c.climb(rung{rule: &ruleClientCredentials, ok: true, detail: c.credentials})
	return cl, nil
}

// clientNotAuthenticated is what the log says about credentials that were refused. known is
// the client that id names, nil if there is none.
func (c *call) clientNotAuthenticated(known *client, id string, rightMethod bool) refusal {
	who, reason := slog.Attr{}, event.ReasonWrongCredentials
	switch {
	case known == nil:
		who, reason = c.unverifiedClient(id), event.ReasonUnknown
	case !rightMethod:
		who, reason = namedClient(known), event.ReasonWrongMethod
	default:
		who = namedClient(known)
	}
	return refusal{event.ClientAuthenticationFailed, []slog.Attr{who, slog.String("reason", reason)}}
}

// takesMethod reports whether the client may authenticate by a method. One that an operator
// declared without naming a method may send its secret either way: some libraries use Basic
// for one request and the body for another.
func (c *client) takesMethod(name string) bool {
	if c.anySecretMethod && (name == oauth.AuthMethodClientSecretBasic || name == oauth.AuthMethodClientSecretPost) {
		return true
	}
	return c.TokenEndpointAuthMethod == name
}

// Public clients only say who they are.
func presentsNone(c *call) bool {
	return c.params.has("client_id") && !presentsBasic(c) && !presentsPost(c) && !presentsAssertion(c)
}

func (c *clientCheck) noSecret() {
	if c.secretBytes() > 0 {
		c.report("client_secret", "a client whose token_endpoint_auth_method is none must not have a secret")
	}
}

func verifyNone(_ *call, cl *client) error {
	if cl == nil {
		return errCredentials("no credentials")
	}
	return nil
}

var ruleBasicSyntax = rule{
	must:    "the Authorization header is Basic with client_id and client_secret",
	section: "RFC 6749, section 2.3.1", code: oauth.InvalidClient,
	says: "the Authorization header is not valid HTTP Basic with client credentials",
	fix:  "form-encode client_id and client_secret, join them with a colon, and encode the result in base64",
}

// client_secret_basic carries the secret in the Authorization header.
func presentsBasic(c *call) bool { return len(c.r.Header["Authorization"]) > 0 }

// basicClientID returns the client_id after form-decoding it. It is the client_id as it came
// where that one is registered and the decoded one is not, or where the body names it.
func basicClientID(c *call) (string, error) {
	raw, decoded, ok := basicPart(c.r.Header["Authorization"], 0)
	if !ok || raw == "" || !utf8.ValidString(raw) || strings.Contains(decoded, "\x00") {
		return "", c.refuse(&ruleBasicSyntax, "")
	}
	if raw == decoded || c.params.get("client_id") == decoded || oauth.IsClientIDURL(decoded) {
		return decoded, nil
	}
	if c.params.get("client_id") == raw {
		return raw, nil
	}
	_, err := c.clientByID(decoded)
	if errors.Is(err, errUnknownClient) {
		if _, err := c.clientByID(raw); err == nil {
			return raw, nil
		}
		return decoded, nil
	}
	return decoded, err
}

func (c *clientCheck) secret() {
	if c.secretBytes() == 0 {
		c.report("", "%s needs a client_secret", c.TokenEndpointAuthMethod)
	}
}

// verifyBasic takes the secret form-decoded, as RFC 6749, section 2.3.1 has it, or as it
// came: half of the clients do not encode it. Both are compared, whatever the first says.
func verifyBasic(c *call, cl *client) error {
	raw, decoded, _ := basicPart(c.r.Header["Authorization"], 1)
	failed, failedRaw := verifySecret(cl, decoded), verifySecret(cl, raw)
	switch {
	case raw == decoded:
		return failed
	case failed == nil:
		c.credentials = "the secret was form-encoded"
		return nil
	case failedRaw == nil:
		c.credentials = "the secret was not form-encoded, and was accepted unchanged"
		return nil
	case cl != nil:
		return errCredentials("the secret is wrong, both form-decoded and unchanged")
	}
	return failed
}

// client_secret_post carries the secret in the body.
func presentsPost(c *call) bool { return c.params.has("client_secret") }

func postedClientID(c *call) (string, error) {
	id := c.params.get("client_id")
	return id, c.must(id != "", &ruleClientNamed)
}

func verifyPost(c *call, cl *client) error { return verifySecret(cl, c.params.get("client_secret")) }

// basicPart returns the client_id (part 0) or the secret (part 1) of HTTP Basic, as it came
// and form-decoded (RFC 6749, section 2.3.1 and appendix B). What cannot be decoded was not
// encoded.
func basicPart(headers []string, part int) (raw, decoded string, ok bool) {
	if len(headers) != 1 {
		return "", "", false
	}
	scheme, encoded, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Basic") || len(encoded) > 4096 {
		return "", "", false
	}
	credentials, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", "", false
	}
	parts := strings.SplitN(string(credentials), ":", 2)
	if len(parts) != 2 {
		return "", "", false
	}
	raw = parts[part]
	if decoded, err = url.QueryUnescape(raw); err != nil || !utf8.ValidString(decoded) {
		decoded = raw
	}
	return raw, decoded, true
}

// verifySecret compares a secret with those that the client has, in constant time. An
// unknown client costs the same.
func verifySecret(cl *client, secret string) error {
	hash := sha256.Sum256([]byte(secret))
	if cl == nil {
		subtle.ConstantTimeCompare(hash[:], make([]byte, sha256.Size))
		return errCredentials("no such client")
	}
	same := 0
	for i := range cl.secretHashes {
		same |= subtle.ConstantTimeCompare(hash[:], cl.secretHashes[i][:])
	}
	if same != 1 || secret == "" {
		return errCredentials("the secret is wrong")
	}
	return nil
}
