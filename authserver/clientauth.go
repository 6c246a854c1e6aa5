package authserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth"
)

// clientAuthMethod is a client authentication method.
type clientAuthMethod struct {
	name string
	// presented reports whether the request uses this method. A request must use only one.
	presented func(*call) bool
	// clientID returns the client_id that the credentials claim.
	clientID func(*call) (string, error)
	// verify checks the credentials. If the client is unknown, cl is nil: verify then does the
	// same work, so that the time reveals nothing, and fails.
	verify func(c *call, cl *client) error
	// check reports what a client needs for the method and does not have.
	check func(*clientCheck)
	// offered reports whether the metadata lists the method; nil means always.
	offered func(*Server) bool
	// byRegistration: the parameters have nothing but client_id, like those of a public client,
	// because the credentials are a certificate, which belongs to the connection, or headers. So the
	// client's registration decides.
	byRegistration bool
}

// clientAuthMethods is the table of methods.
func clientAuthMethods() []clientAuthMethod {
	return []clientAuthMethod{
		{name: oauth.AuthMethodClientSecretBasic, presented: presentsBasic, clientID: basicClientID, verify: verifyBasic, check: (*clientCheck).secret},
		{name: oauth.AuthMethodClientSecretPost, presented: presentsPost, clientID: postedClientID, verify: verifyPost, check: (*clientCheck).secret},
		{name: oauth.AuthMethodClientSecretJWT, presented: presentsSecretJWT, clientID: assertedClientID, verify: verifySecretJWT, check: (*clientCheck).secretOfJWT},
		{name: oauth.AuthMethodFederatedJWT, presented: presentsFederatedJWT, clientID: federatedClientID, verify: verifyFederatedJWT, check: (*clientCheck).workload, offered: (*Server).acceptsWorkloads},
		{name: oauth.AuthMethodPrivateKeyJWT, presented: presentsPrivateKeyJWT, clientID: assertedClientID, verify: verifyPrivateKeyJWT, check: (*clientCheck).privateKey},
		{name: oauth.AuthMethodTLSClient, presented: presentsNothing, byRegistration: true, clientID: postedClientID, verify: verifyTLSClient, check: (*clientCheck).certificateSubject, offered: (*Server).offersTLSClientAuth},
		{name: oauth.AuthMethodSelfSignedTLS, presented: presentsNothing, byRegistration: true, clientID: postedClientID, verify: verifySelfSignedTLS, check: (*clientCheck).registeredCertificates, offered: (*Server).offersMutualTLS},
		{name: oauth.AuthMethodAttestation, presented: presentsAttestation, byRegistration: true, clientID: attestedClientID, verify: verifyAttestation, check: (*clientCheck).attester},
		{name: oauth.AuthMethodAttestationDPoP, presented: presentsAttestationWithDPoP, byRegistration: true, clientID: attestedClientID, verify: verifyAttestationWithDPoP, check: (*clientCheck).attester},
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
	// There is one rule for an unknown client, a wrong method and wrong credentials, because
	// different errors would reveal which clients exist. The trace has the reason for the
	// operator.
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

// errCredentials is why a method refused, for the trace.
type errCredentials string

func (e errCredentials) Error() string { return string(e) }

// authenticateClient authenticates the client that sent the request (RFC 6749, section 2.3).
func (c *call) authenticateClient() (*client, error) {
	if len(c.r.Header["Authorization"]) > 1 {
		return nil, c.refuse(&ruleOneClientAuthMethod, "more than one Authorization header")
	}
	var method *clientAuthMethod
	methods := c.s.authMethods
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
		err = nil // the last document stays valid for a day
	}
	if err != nil && !errors.Is(err, errUnknownClient) {
		return nil, err
	}
	if cl != nil {
		c.allowOrigin(cl)
	}
	if method.name == oauth.AuthMethodNone && cl != nil {
		if at := slices.IndexFunc(methods, func(m clientAuthMethod) bool { return m.byRegistration && m.name == cl.TokenEndpointAuthMethod }); at >= 0 {
			method = &methods[at]
		}
	}
	known := cl
	if cl != nil && !cl.acceptsMethod(method.name) {
		err = errCredentials("the client is registered for " + cl.TokenEndpointAuthMethod + " and used " + method.name)
		cl = nil
	}
	if failed := method.verify(c, cl); failed != nil || cl == nil {
		var reason errCredentials
		switch {
		case err != nil: // unknown client or wrong method
		case errors.As(failed, &reason):
			err = failed
		default: // an error of the store, or the refusal of a rule of the method
			return nil, failed
		}
		if id != "" && method.name != oauth.AuthMethodNone {
			address := c.s.remoteAddr(c.r)
			if wait := c.s.limits.failures.Take(c.now, c.party(known)); wait > 0 {
				return nil, c.tooMany(&ruleClientFailures, wait, address.String())
			}
			c.refusal = c.clientNotAuthenticated(known, id, cl != nil)
		}
		return nil, c.because(&ruleClientCredentials, err)
	}
	c.client = cl
	audit.Identify(c.r.Context(), audit.Actor{Kind: audit.KindClient, ID: cl.ID, Name: cl.ClientName})
	c.climb(rung{rule: &ruleClientCredentials, ok: true, detail: c.credentials})
	return cl, c.checkProfile(cl)
}

// clientNotAuthenticated returns the log record about credentials that were refused. known is the
// client with that id, nil if there is none.
func (c *call) clientNotAuthenticated(known *client, id string, acceptedMethod bool) refusal {
	who, reason := slog.Attr{}, event.ReasonWrongCredentials
	switch {
	case known == nil:
		who, reason = c.unverifiedClient(id), event.ReasonUnknown
	case !acceptedMethod:
		who, reason = namedClient(known), event.ReasonWrongMethod
	default:
		who = namedClient(known)
	}
	return refusal{event.ClientAuthenticationFailed, []slog.Attr{who, slog.String("reason", reason)}}
}

// acceptsMethod reports whether the client may authenticate with a method. A client that the
// operator declared without a method may send its secret either way, because some libraries use
// Basic for one request and the body for another.
func (c *client) acceptsMethod(name string) bool {
	if c.anySecretMethod && (name == oauth.AuthMethodClientSecretBasic || name == oauth.AuthMethodClientSecretPost) {
		return true
	}
	return c.TokenEndpointAuthMethod == name
}

// presentsNone reports whether the request has a client_id and no credentials, as for a public
// client.
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

// presentsBasic reports whether the request has an Authorization header, which contains the secret
// for client_secret_basic.
func presentsBasic(c *call) bool { return len(c.r.Header["Authorization"]) > 0 }

// basicClientID returns the form-decoded client_id. It returns the client_id without decoding if
// only that one is registered, or if the body contains it.
func basicClientID(c *call) (string, error) {
	raw, decoded, ok := c.basicPart(0)
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

// verifyBasic accepts the secret form-encoded, as RFC 6749, section 2.3.1 requires, or not, because
// half of the clients do not encode it. If the two forms differ, it always compares both.
func verifyBasic(c *call, cl *client) error {
	raw, decoded, _ := c.basicPart(1)
	failed := verifySecret(cl, decoded)
	if raw == decoded { // depends on what was sent, not on the client
		return failed
	}
	failedRaw := verifySecret(cl, raw)
	switch {
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

// presentsPost reports whether the body contains the secret (client_secret_post).
func presentsPost(c *call) bool { return c.params.has("client_secret") }

func postedClientID(c *call) (string, error) {
	id := c.params.get("client_id")
	return id, c.must(id != "", &ruleClientNamed)
}

func verifyPost(c *call, cl *client) error { return verifySecret(cl, c.params.get("client_secret")) }

// basicPart returns a part of the credentials in the Authorization header.
func (c *call) basicPart(part int) (raw, decoded string, ok bool) {
	if c.basic == "" {
		c.basic = decodeBasic(c.r.Header["Authorization"])
	}
	return basicPart(c.basic, part)
}

// decodeBasic returns the credentials of HTTP Basic, "" if there are none.
func decodeBasic(headers []string) string {
	if len(headers) != 1 {
		return ""
	}
	scheme, encoded, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Basic") || len(encoded) > 4096 {
		return ""
	}
	credentials, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return ""
	}
	return string(credentials)
}

// basicPart returns the client_id (part 0) or the secret (part 1) of HTTP Basic, unchanged and
// form-decoded (RFC 6749, section 2.3.1 and appendix B). If it cannot be decoded, it was not
// encoded.
func basicPart(credentials string, part int) (raw, decoded string, ok bool) {
	id, secret, ok := strings.Cut(credentials, ":")
	if !ok {
		return "", "", false
	}
	if raw = id; part == 1 {
		raw = secret
	}
	var err error
	if decoded, err = url.QueryUnescape(raw); err != nil || !utf8.ValidString(decoded) {
		decoded = raw
	}
	return raw, decoded, true
}

// verifySecret compares a secret with those of the client in constant time. It does the same work
// for an unknown client.
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
