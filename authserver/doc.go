// Package authserver is the authorization server: the protocol engine of OAuth 2 and OpenID
// Connect, an http.Handler for one issuer. It knows clients, grants, tokens and keys. It does
// not know how users sign in, and renders no pages: it calls an interface (Users) for the one
// and redirects the browser for the other (Pages).
//
// Every check of a request is a rule with the section that requires it. "valetkey explain"
// prints the rules that a refused request passed and the one that it broke.
//
// # Files
//
// The engine:
//
//	config.go        Config, and Users: what an embedder sets and supplies
//	lifetimes.go     lifetimes; bounds on input
//	server.go        Server, one request on its way (call), errors and JSON responses
//	endpoints.go     the table of endpoints, CORS
//	params.go        parameters of a form or query
//	jsonobject.go    encodes tokens and responses without reflection
//	rule.go          rules, the trace of a request, the log of refusals
//	accepted.go      a sample of accepted requests, and recordings of more
//	limits.go        limits on what outsiders may send and have stored
//	catalogue.go     clients, scopes, resources and keys in memory
//	ticket.go        secrets, their keys in the store, and what an authorization consists of
//	authorizationdata.go  decodes most authorizations without encoding/json
//	keys.go          signing and decryption keys, the JWKS endpoint
//	signprobe.go     a signed JWT that nobody accepts, to test the keys
//	externalkey.go   signing keys in an HSM or a key management service
//	keyrotation.go   which keys the clients need, and their rotation
//	metadata.go      server metadata (RFC 8414, OpenID Connect Discovery)
//	interactionid.go  the x-fapi-interaction-id of a request
//	outgoing.go      requests that the server sends, client logos
//
// The authorization endpoint:
//
//	authorize.go           the request and its rules
//	jar.go                 request objects (RFC 9101, JAR)
//	par.go                 pushed authorization requests (RFC 9126, PAR)
//	interaction.go         what the user must still do, and the stored request
//	signinpolicy.go         how the user must have authenticated
//	interaction_pages.go   what the pages call: Authenticated, Consented, Refused
//	consent.go             what a grant covers
//	allowedgroups.go       the groups whose users may use a client
//	authorizationdetails.go  authorization details (RFC 9396)
//	authorize_response.go  the response: a code, tokens, or both; response modes
//	sealedcode.go          codes that contain their authorization
//	jarm.go                the response as a JWT (JARM)
//	device.go              device authorization (RFC 8628), from the code to the token
//	backchannel.go           backchannel authentication requests (CIBA)
//	backchannel_hint.go      the user that a backchannel request names
//	backchannel_usercode.go  the code of that user
//	backchannel_approval.go  the user's decision on it
//	backchannel_notify.go    pings and pushes to clients, messages to the operator's hooks
//	firstparty.go          authorization challenges of first-party applications
//
// The token endpoint:
//
//	token.go                    the table of grant types, and the endpoint
//	clientauth.go               client authentication: the table of methods, secrets
//	clientauth_jwt.go           client authentication with a JWT of the client or its platform
//	clientauth_attestation.go   client authentication with an attestation of the client instance
//	clientauth_certificate.go   client authentication with a certificate (RFC 8705)
//	grant_*.go                  one grant type or more in each:
//	grant_authorizationcode.go  authorization codes, PKCE
//	grant_refreshtoken.go       refresh tokens: rotation, reuse detection
//	grant_clientcredentials.go  client credentials, resource indicators
//	grant_password.go           passwords
//	grant_ciba.go               backchannel authentication requests (CIBA)
//	grant_assertion.go          JWT and SAML assertions (RFC 7523, RFC 7522)
//	trustedissuer.go            external issuers whose assertions are accepted
//	tokenexchange.go            token exchange (RFC 8693)
//	tokenexchange_token.go      the tokens that are presented for exchange
//	tokenexchange_policy.go     the operator's rules for token exchange
//	tokenexchange_issue.go      transaction tokens and ID-JAGs, issued by exchange
//	hook.go                     the embedder's claims and extension grants
//	webhook.go                  hooks that are HTTP services
//	issue.go                    issues tokens and stores what must be stored
//	claims.go                   claims about the user
//	idtoken.go                  sub, signature, encryption and hints of ID tokens
//	accesstoken.go              verifies access tokens; their claims
//	signedtoken.go              JWT access tokens that were used recently
//
// Tokens in use:
//
//	introspect.go      introspection (RFC 7662)
//	introspect_jwt.go  introspection responses as JWTs (RFC 9701)
//	revoke.go          revocation of a token (RFC 7009) or of everything of a user
//	audit.go           what changes of tickets mean, for the audit log
//	statuslist.go      token status lists
//	ownapi.go          access tokens for an API of the server itself
//	preview.go         what a client would get for a user, with the rules
//	issuedtoken.go     describes stored tokens without their secrets
//	userinfo.go        the UserInfo endpoint, bearer tokens
//
// Sender-constrained tokens:
//
//	mutualtls.go         certificates of clients, endpoint aliases (RFC 8705)
//	senderconstraint.go  the keys that tokens are bound to, and what a request proves
//	dpop.go              DPoP proofs (RFC 9449) and their nonces
//
// Clients:
//
//	client_check.go            checks of a client, declared or registered
//	profile.go                 profiles by name, such as FAPI 2.0
//	profile_rfc9700.go         compares clients with RFC 9700
//	registration.go            registration and management (RFC 7591, RFC 7592)
//	registration_request.go    registration requests, initial access tokens
//	clientidmetadata.go        Client ID Metadata Documents
//	clientidmetadata_cache.go  the cache of these documents
//
// Logout:
//
//	logout.go              RP-initiated and front-channel logout, session management
//	logout_backchannel.go  back-channel logout, and the clients of a session
//
// docs/ARCHITECTURE.md follows a code exchange through these files.
package authserver
