// Package ticketkind is the table of all ticket kinds, so that no two parts of the server use
// the same one. The kind is part of the hash under which a ticket is stored: a secret of one
// kind is never found as another.
//
// Each entry says what the ticket is, which file owns it, what puts it and what spends or
// deletes it. "expiry" means that it is never spent, and is removed when it expires.
// storage.KindStatus is part of the storage contract and is declared there.
package ticketkind

import "github.com/valetkey/valetkey/storage"

// The kinds of the authorization server.
const (
	// Code is an authorization code. The ticket of a sealed code (authserver/sealedcode.go) says
	// only that the code was used: it has no data, grant or family, so that it outlives the tokens.
	//   File: authserver/authorize_response.go
	//   Put: the authorization response; for a sealed code, the token endpoint, as spent
	//   Spent: the token endpoint (authserver/grant_authorizationcode.go)
	Code storage.Kind = "code"
	// RefreshToken is a refresh token.
	//   File: authserver/issue.go
	//   Put: the token endpoint, with the access token
	//   Spent: rotation at the token endpoint (authserver/grant_refreshtoken.go)
	RefreshToken storage.Kind = "refresh"
	// AccessToken is an opaque access token.
	//   File: authserver/issue.go
	//   Put: the token endpoint
	//   Spent: expiry, or revocation (authserver/revoke.go)
	AccessToken storage.Kind = "access"
	// Anchor is what a JWT access token belongs to that was issued without a code or refresh
	// token, so that it can be revoked.
	//   File: authserver/accesstoken.go
	//   Put: the token endpoint
	//   Spent: expiry, or the end of its family or grant
	Anchor storage.Kind = "anchor"
	// RevokedToken is the jti of a JWT access token that was revoked before it expired.
	//   File: authserver/revoke.go
	//   Put: the revocation endpoint
	//   Spent: expiry
	RevokedToken storage.Kind = "revoked"
	// Authorization is one authorization of a user for a client that limits how many are
	// active at once. Its family is the user and the client, its data the authorization's
	// family.
	//   File: authserver/grant_refreshtoken.go
	//   Put: the token endpoint, with the first refresh token
	//   Spent: a newer authorization beyond the limit
	Authorization storage.Kind = "authorization"
	// ManagementRequest is a request to the management API with an Idempotency-Key, and
	// ManagementResponse the response to it, encrypted.
	//   File: manage/idempotency.go
	//   Put: the first request with the key
	//   Spent: expiry, or a refusal of the request
	ManagementRequest storage.Kind = "management_request"
	// ManagementResponse is described at ManagementRequest.
	//   File: manage/idempotency.go
	//   Put: the end of the first request with the key
	//   Spent: expiry
	ManagementResponse storage.Kind = "management_response"
	// Recording keeps the accepted requests of a client or user while it lasts. All recordings are one
	// family.
	//   File: authserver/accepted.go
	//   Put: the management API
	//   Spent: expiry, or the management API
	Recording storage.Kind = "recording"
	// UnknownOutcome is a note about a ticket with the same ID. The database did not confirm that
	// it was spent, so the client was told to try again (docs/decisions/0009).
	//   File: authserver/token.go
	//   Put: the token endpoint, after the failure
	//   Spent: the next attempt at the token endpoint
	UnknownOutcome storage.Kind = "unsettled"
	// Interaction is an authorization or logout request that is waiting for the user.
	//   File: authserver/interaction.go
	//   Put: the authorization, device and logout pages
	//   Spent: the response (authserver/authorize_response.go), or the user's refusal
	Interaction storage.Kind = "interaction"
	// PushedRequest is a pushed authorization request.
	//   File: authserver/par.go
	//   Put: the pushed authorization request endpoint
	//   Spent: the response (authserver/authorize_response.go), or the user's refusal
	PushedRequest storage.Kind = "pushed"
	// RequestObject is the jti of a request object that gets one response.
	//   File: authserver/jar.go
	//   Put: the authorization endpoint
	//   Spent: the response (authserver/authorize_response.go), or the user's refusal
	RequestObject storage.Kind = "requestobject"
	// AuthSession is an authorization challenge that is waiting for a password.
	//   File: authserver/firstparty.go
	//   Put: the authorization challenge endpoint
	//   Spent: the challenge that succeeds, or is replaced
	AuthSession storage.Kind = "authsession"
	// DeviceCode is the code with which a device polls.
	//   File: authserver/device.go
	//   Put: the device authorization endpoint
	//   Spent: the token endpoint (authserver/device.go)
	DeviceCode storage.Kind = "devicecode"
	// UserCode is the code that the user types.
	//   File: authserver/device.go
	//   Put: the device authorization endpoint
	//   Spent: the user's decision (authserver/device.go)
	UserCode storage.Kind = "usercode"
	// DeviceAnswer is the user's decision about a device, stored under the ID of the device
	// code.
	//   File: authserver/device.go
	//   Put: the user's decision
	//   Spent: the token endpoint (authserver/device.go)
	DeviceAnswer storage.Kind = "deviceanswer"
	// BackchannelRequest is a backchannel authentication request (CIBA). The family is that of the
	// user's requests.
	//   File: authserver/backchannel.go
	//   Put: the backchannel authentication endpoint
	//   Spent: the user's decision (authserver/backchannel_approval.go)
	BackchannelRequest storage.Kind = "backchannelrequest"
	// BackchannelAnswer is the user's decision about a backchannel authentication request, stored
	// under the ID of the request.
	//   File: authserver/backchannel_approval.go
	//   Put: the user's decision
	//   Spent: the token endpoint (authserver/grant_ciba.go), or the push of the tokens
	BackchannelAnswer storage.Kind = "backchannelanswer"
	// BackchannelPush is a sealed token response that is being pushed to a client, stored under the
	// ID of the request.
	//   File: authserver/backchannel_notify.go
	//   Put: the first attempt to push it
	//   Spent: expiry, or the client's confirmation
	BackchannelPush storage.Kind = "backchannelpush"
	// ClientAssertion is the jti of a client assertion that was used.
	//   File: authserver/clientauth_jwt.go
	//   Put: client authentication
	//   Spent: expiry
	ClientAssertion storage.Kind = "assertion"
	// AttestationProof is the jti of a proof of possession that was used with a client attestation.
	//   File: authserver/clientauth_attestation.go
	//   Put: client authentication
	//   Spent: expiry
	AttestationProof storage.Kind = "attestationproof"
	// GrantAssertion is the jti of an assertion that was used as a grant.
	//   File: authserver/grant_assertion.go
	//   Put: the token endpoint
	//   Spent: expiry
	GrantAssertion storage.Kind = "grantassertion"
	// GrantOnce marks what an extension grant may use only once (Entitlement.Once).
	//   File: authserver/hook.go
	//   Put: the token endpoint
	//   Spent: expiry
	GrantOnce storage.Kind = "once"
	// DPoPProof is the jti of a DPoP proof that was used.
	//   File: authserver/dpop.go
	//   Put: the request, with its result
	//   Spent: expiry
	DPoPProof storage.Kind = "dpopproof"
	// InitialAccessToken is an initial access token for client registration.
	//   File: authserver/registration_request.go
	//   Put: NewInitialAccessToken
	//   Spent: RevokeInitialAccessToken
	InitialAccessToken storage.Kind = "initial"
	// InitialAccessTokenUse is one remaining use of an initial access token.
	//   File: authserver/registration_request.go
	//   Put: NewInitialAccessToken
	//   Spent: client registration
	InitialAccessTokenUse storage.Kind = "initial-use"
	// KnownDocument is a client_id that is a URL and whose client was once granted something.
	//   File: authserver/clientidmetadata.go
	//   Put: consent
	//   Spent: expiry
	KnownDocument storage.Kind = "known_document"
	// Participant is a client that takes part in a sign-in session: it got an ID token, or a
	// code for one, and must be notified when the session ends (OpenID Connect Back-Channel
	// Logout, section 2.3). The data is the client_id, or a participantNote.
	//   File: authserver/logout_backchannel.go
	//   Put: the response with the client's first ID token in the session
	//   Spent: expiry, or logout
	Participant storage.Kind = "participant"
	// StatusBlock is a block of status list indexes that a node has taken.
	//   File: internal/statusindex/statusindex.go
	//   Put: the token endpoint, when the node has used up its last block
	//   Spent: expiry
	StatusBlock storage.Kind = "status block"
)

// The kinds of package identity.
const (
	// Session is a sign-in session at a browser.
	//   File: identity/session.go
	//   Put: sign-in
	//   Spent: sign-out, or a new sign-in at the same browser
	Session storage.Kind = "session"
	// RememberedDevice is a browser at which a user has signed in before.
	//   File: identity/session.go
	//   Put: sign-in
	//   Spent: expiry, or "sign out on all devices"
	RememberedDevice storage.Kind = "device"
	// RememberedFactor is a browser in which a user need not prove a second factor for a while.
	//   File: identity/rememberedfactor.go
	//   Put: the second factor, if the user chooses so
	//   Spent: expiry, or "sign out on all devices"
	RememberedFactor storage.Kind = "second factor"
	// KnownNetwork is a network from which a user has signed in before.
	//   File: identity/limits.go
	//   Put: sign-in
	//   Spent: expiry, or "sign out on all devices"
	KnownNetwork storage.Kind = "network"
	// MailedProof is the secret of a link in a message to a user.
	//   File: identity/mailedproof.go
	//   Put: the request for the message
	//   Spent: the use of the link or its code
	MailedProof storage.Kind = "mailed proof"
	// MailRequest is how the browser that asked for a message finds the MailedProof with the code.
	//   File: identity/mailedproof.go
	//   Put: the request for the message
	//   Spent: expiry
	MailRequest storage.Kind = "mail request"
	// MailedCodeAttempt is one of the attempts to enter the code of a message.
	//   File: identity/mailedproof.go
	//   Put: the attempt
	//   Spent: expiry
	MailedCodeAttempt storage.Kind = "mailed code attempt"
	// SignInProgress is a sign-in of a user in a browser that needs more proofs.
	//   File: identity/signinprogress.go
	//   Put: the first proof
	//   Spent: the next proof
	SignInProgress storage.Kind = "sign-in"
	// TOTPCode is the code of a step of an authenticator application, which was used.
	//   File: identity/totp.go
	//   Put: the use
	//   Spent: expiry
	TOTPCode storage.Kind = "totp code"
	// UpstreamSignIn is a sign-in that waits for the response of another provider.
	//   File: identity/upstream/signin.go
	//   Put: the redirect to the provider
	//   Spent: the response
	UpstreamSignIn storage.Kind = "upstream sign-in"
	// UpstreamLogout is the jti of a logout token of another provider that was used.
	//   File: identity/upstream/logout.go
	//   Put: the back-channel logout
	//   Spent: expiry
	UpstreamLogout storage.Kind = "upstream logout"
	// UpstreamSignOut is a logout at another provider that the user comes back from.
	//   File: identity/upstream/signout.go
	//   Put: the redirect to the provider
	//   Spent: the return
	UpstreamSignOut storage.Kind = "upstream sign-out"
	// ExternalSession is a session at another provider in which a user signed in here. The family is
	// that of the external user.
	//   File: identity/externalsession.go
	//   Put: sign-in through the provider
	//   Spent: expiry, or the provider's logout
	ExternalSession storage.Kind = "external session"
	// SetupToken creates the first administrator.
	//   File: identity/setup.go
	//   Put: the start of a server without users
	//   Spent: the setup page
	SetupToken storage.Kind = "setup"
	// EndedSession is a note that a session has ended, from which logout messages follow. It is
	// stored in the operation that ends the session, so that no message is lost in a crash.
	//   File: identity/endedsession.go
	//   Put: the end of the session
	//   Spent: logout delivery (authserver/logout_backchannel.go)
	EndedSession storage.Kind = "session ended"
	// PasskeyChallenge is the challenge of a ceremony with a passkey that succeeded. Nothing is stored
	// for a challenge that is not used.
	//   File: identity/passkey.go
	//   Put: the response of the browser
	//   Spent: expiry
	PasskeyChallenge storage.Kind = "passkey challenge"
	// RemovedPasskey is a passkey that its user has removed, by its credential ID.
	//   File: identity/passkey.go
	//   Put: the removal
	//   Spent: expiry
	RemovedPasskey storage.Kind = "passkey removed"
)
