package event

import (
	"log/slog"

	"github.com/valetkey/valetkey/internal/ratelimit"
)

const (
	info = slog.LevelInfo
	warn = slog.LevelWarn
	fail = slog.LevelError
)

// Members of many kinds.
var (
	user    = []string{"sub", "username"}
	client  = []string{"client_id", "client_name"}
	command = []string{"operator", "at"}
	refusal = []string{"reference", "endpoint", "error", "error_description", "rule", "client_id", "client_name", "unknown_client", "interaction_id"}
)

func join(lists ...[]string) []string {
	var all []string
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

// Kinds is the table of all events, in the order in which they are documented.
var Kinds []*Kind

// add adds a line to the table.
func add(name string, level slog.Level, members []string, meaning string) *Kind {
	k := &Kind{Name: name, Level: level, Members: members, Meaning: meaning}
	Kinds = append(Kinds, k)
	return k
}

// sampled adds a line for an event that anyone can cause any number of times.
func sampled(name string, level slog.Level, members []string, meaning string) *Kind {
	k := add(name, level, members, meaning)
	k.Sampled = true
	return k
}

// End users.
var (
	SignInSucceeded = add("sign_in.succeeded", info, join(user, []string{"address"}), "a user signed in")
	SignInFailed    = sampled("sign_in.failed", warn, join(user, []string{"unknown_account", "reason", "cause", "address"}), "a sign-in attempt failed")
	SignInThrottled = sampled("sign_in.throttled", warn, join(user, []string{"unknown_account", "retry_after", "address"}), "a sign-in attempt was refused because too many attempts had failed; the password was not checked")

	SessionEnded     = add("session.ended", info, join(user, []string{"session"}), "a sign-in session was ended")
	SessionsAllEnded = add("session.all_ended", info, user, "all sign-in sessions of a user were ended, or all except the current one")

	PasswordChanged      = add("password.changed", info, user, "a user changed the password")
	PasswordChangeFailed = sampled("password.change_failed", warn, join(user, []string{"reason", "retry_after"}), "a signed-in user could not change the password, because the current one was wrong or too many attempts had failed")
	UserCodeSet          = add("user_code.set", info, user, "a user set the code that applications need to ask them for approval")
	UserCodeRemoved      = add("user_code.removed", info, user, "a user removed that code")
	PasswordRehashed     = add("password.rehashed", info, user, "an imported or outdated password hash was replaced at a sign-in")

	BreachedPasswordsFailed = sampled("password.breach_check_failed", warn, []string{"cause"}, "the service for breached passwords failed; a new password was accepted without asking it")

	SignInRequested        = sampled("sign_in.requested", info, join(user, []string{"unknown_account", "reason", "address"}), "an email with which a user can sign in was requested; if there is a reason, none was sent")
	PasswordResetRequested = sampled("password.reset_requested", info, join(user, []string{"unknown_account", "reason", "address"}), "an email with which a user can choose a new password was requested; if there is a reason, none was sent")
	PasswordReset          = add("password.reset", warn, user, "a user chose a new password with an email; all sessions and tokens ended")
	RecoveryCodeUsed       = add("recovery_code.used", warn, join(user, []string{"left"}), "a user signed in with a recovery code")
	EmailVerified          = add("email.verified", info, user, "a user confirmed an email address, which is now the address of the account")
	EmailReleased          = add("email.released", warn, user, "an account lost an email address that it never verified, because its owner verified it for another account")
	EmailRestored          = add("email.restored", warn, user, "a user undid a change of the email address; all sessions and tokens ended")

	MethodAdded      = add("method.added", warn, join(user, []string{"method", "authenticator"}), "a user added a way to sign in")
	PasskeySignCount = add("passkey.sign_count", warn, join(user, []string{"authenticator", "refused"}), "the signature counter of a passkey did not increase, so someone may have a copy of its key; the sign-in is refused if the passkey cannot be copied by its authenticator")
	MethodRemoved    = add("method.removed", warn, join(user, []string{"method", "authenticator"}), "a user removed a way to sign in")

	MethodChangeUndone = add("method.change_undone", warn, join(user, []string{"changes"}), "a user undid a change to how they sign in, with the link in a notice; all sessions and tokens ended")
	UserRecovered      = add("user.recovered", warn, user, "a user recovered the account: with a link from an operator or after the delay of a recovery by mail, and all ways to sign in were replaced by a new password; or with an email and a recovery code. All sessions and tokens ended")
	RecoveryRequested  = sampled("recovery.requested", info, join(user, []string{"unknown_account", "reason", "address"}), "an email with which a user can begin a recovery by mail was requested; if there is a reason, none was sent")
	RecoveryBegun      = add("recovery.begun", warn, user, "a user who reads the mailbox of an account began a recovery; it can be completed after a delay, and stopped until then")
	RecoveryStopped    = add("recovery.stopped", warn, user, "a user stopped a recovery by mail")
	RecoveryReady      = add("recovery.ready", warn, user, "the delay of a recovery by mail is over; the link that completes it was sent")

	UsernameChanged          = add("username.changed", info, user, "a user changed the username")
	AccountLockedDown        = add("account.locked_down", warn, user, "a user reported that someone else used the account; all sessions and tokens ended, and a new password is required")
	AccountExported          = add("account.exported", info, user, "a user downloaded the data of the account")
	AccountDeletionRequested = add("account.deletion_requested", warn, user, "a user asked for the deletion of the account; all sessions and tokens ended")
	AccountDeletionCanceled  = add("account.deletion_canceled", info, user, "a user kept an account whose deletion was requested")
	AccountErased            = add("account.erased", warn, []string{"sub"}, "an account was erased at the request of its user")

	SetupStarted      = add("setup.started", info, nil, "there are no users; a link to create the first one was issued")
	SetupCompleted    = add("setup.completed", info, user, "the first user was created with the setup link")
	ExternalSignedUp  = add("external.signed_up", info, join(user, []string{"provider", "address"}), "a user of another provider signed in for the first time, and got an account")
	ExternalLinked    = add("external.linked", info, join(user, []string{"provider", "address"}), "a user linked the account with a user of another provider")
	ExternalUnlinked  = add("external.unlinked", info, join(user, []string{"provider"}), "a user removed the link to a user of another provider")
	ExternalRefused   = sampled("external.refused", warn, join(user, []string{"provider", "reason", "address"}), "a user of another provider could not sign in")
	ExternalSignedOut = add("external.signed_out", info, join(user, []string{"provider", "sessions"}), "another provider ended sessions of a user, with a logout token or at the end of its own session")
	ExternalSuspended = add("external.suspended", warn, join(user, []string{"provider", "reason"}), "a directory no longer lets a user in; the sessions that began there ended and, if the user has no password here, all other sessions and tokens too")
	AccountClaimed    = add("account.claimed", warn, join(user, []string{"provider", "address"}), "an account had an email address that was never confirmed, and the owner of that address signed in with a trusted provider; the account now belongs to the owner, without its former password, other methods, sessions and grants")

	SignUpSucceeded = add("sign_up.succeeded", info, join(user, []string{"address"}), "a user created an account")
	SignUpThrottled = sampled("sign_up.throttled", warn, []string{"retry_after", "address"}, "a new account was refused because too many were created from the address")

	ConsentGranted = add("consent.granted", info, join(user, client, []string{"scope", "resource", "address"}), "a user granted an application scopes and access to APIs")
	ConsentRefused = sampled("consent.refused", info, join(user, refusal, []string{"address"}), "a user refused the consent that an application requested")
	ConsentRevoked = add("consent.revoked", info, join(user, client, []string{"grant"}), "a user revoked the access of an application")
)

// Requests, clients and tokens.
var (
	RequestRefused = sampled("request.refused", info, join(refusal, []string{"address"}), "a request was refused; run \"valetkey explain REFERENCE\" for the reason")
	RequestFailed  = sampled("request.failed", fail, join(refusal, []string{"address", "cause"}), "a request failed because of an error in the server or in a service that it depends on")
	PageRefused    = sampled("page.refused", info, []string{"path", "error", "address"}, "a page was not shown: the form was incomplete or came from another site, or the link had expired")

	ClientAuthenticationFailed = sampled("client.authentication_failed", warn, join(refusal, []string{"reason", "address"}), "a client sent invalid credentials, or the client is unknown")
	ClientRegistered           = add("client.registered", info, join(client, []string{"address"}), "a client registered itself")
	ClientDeleted              = add("client.deleted", info, join(client, []string{"address"}), "a client deleted its registration")

	TokenReplayed          = sampled("token.replayed", warn, join(user, refusal, []string{"address"}), "a one-time code or token was used again; all tokens of the authorization were revoked")
	TokenExchanged         = add("token.exchanged", info, join([]string{"sub"}, client, []string{"act", "impersonation", "requested_token_type", "audience"}), "a token was exchanged for another")
	TokenAssertionAccepted = add("token.assertion_accepted", info, join([]string{"sub"}, client, []string{"iss"}), "a token was issued for an assertion of a trusted issuer")
	TokenAllRevoked        = add("token.all_revoked", warn, join(user, client, []string{"address"}), "a client ended all sessions and tokens of a user (Global Token Revocation)")
)

// The server and what it depends on.
var (
	BackchannelApproved              = add("backchannel.approved", info, join(user, client, []string{"address"}), "a user approved a backchannel authentication request")
	BackchannelDenied                = add("backchannel.denied", info, join(user, client, []string{"address"}), "a user denied a backchannel authentication request")
	BackchannelNotified              = add("backchannel.notified", info, join(client, []string{"delivery_mode"}), "a client was notified of the decision on a backchannel authentication request: by a ping, or with the pushed tokens")
	BackchannelPostponed             = add("backchannel.postponed", info, join(client, []string{"attempts", "cause"}), "a client could not be notified of a decision; the server will try again")
	BackchannelGivenUp               = add("backchannel.given_up", warn, join(client, []string{"attempts", "cause"}), "a client could not be notified of a decision before the request expired; the server will not try again")
	BackchannelAnnouncementPostponed = add("backchannel.announcement_postponed", warn, []string{"hook", "attempts", "cause"}, "a hook could not be told about a backchannel authentication request; the server will try again until the request expires")

	LogoutDelivered = add("logout.delivered", info, client, "a client was notified of a logout through the back channel")
	LogoutPostponed = add("logout.postponed", info, join(client, []string{"attempts", "cause"}), "a client could not be notified of a logout; the server will try again")
	LogoutGivenUp   = add("logout.given_up", warn, join(client, []string{"attempts", "cause"}), "a client could not be notified of a logout; the server will not try again")

	MailSent      = add("mail.sent", info, []string{"message", "sub", "attempts"}, "a mail server accepted an email to a user")
	MailPostponed = add("mail.postponed", warn, []string{"message", "sub", "attempts", "cause"}, "an email to a user could not be sent; the server will try again")
	MailFailed    = add("mail.failed", fail, []string{"message", "sub", "attempts", "cause"}, "an email to a user could not be sent; the server will not try again")

	HookFailed                = add("hook.failed", warn, []string{"hook", "cause"}, "a hook failed several times in a row; requests that need it are refused for a while")
	HookRecovered             = add("hook.recovered", info, []string{"hook"}, "a hook works again")
	KeySetFetchFailed         = sampled("key_set.fetch_failed", warn, []string{"uri", "cause"}, "a key set of a client or trusted issuer could not be fetched")
	ClientMetadataFetchFailed = sampled("client_metadata.fetch_failed", info, []string{"client_id", "cause"}, "the metadata document of a client could not be fetched or used")
	ClientLogoFetchFailed     = sampled("client_logo.fetch_failed", info, []string{"uri", "cause"}, "the logo of a client could not be fetched or shown")
	SigningKeyCreated         = add("signing_key.created", info, join([]string{"kid", "alg"}, command), "signing or encryption key created")
	ProxyNotTrusted           = add("proxy.not_trusted", warn, []string{"address"}, "a request with a proxy header came from an address that is not in trusted_proxies; if it is your reverse proxy, add it: otherwise all users behind it share one address in rate limits and in the log")
	RateLimitNotStored        = add(ratelimit.EventStoreFailed, warn, []string{"limit", "error"}, "failures could not be counted in the database; each node applies limits to its own count")
	RecordsLeftOut            = add("log.left_out", warn, []string{"left_out", "count", "addresses", "address", "address_count"}, "records of one event were omitted from the log because there were too many from one address or in total")

	DeclarationsOlder     = add("declarations.older", warn, []string{"source", "modified"}, "the declarations are older than those that were applied last, so they were not applied; if this file is correct, run \"valetkey apply\" with it, otherwise replace it with the newer one")
	DeclarationsConflict  = add("declarations.conflict", fail, join([]string{"kind", "name", "cause"}, command), "a record could not be declared; the stored record was not changed")
	DeclarationsAdopted   = add("declarations.adopted", info, join([]string{"kind", "name"}, command), "a self-registered client or signed-up account became a declared one")
	DeclarationsDisplaced = add("declarations.displaced", warn, join([]string{"kind", "name"}, command), "a signed-up account lost a username or an address to a declared user")
	DeclarationsRetired   = add("declarations.retired", info, join([]string{"kind", "name"}, command), "a record was retired because its source no longer declares it")
	DeclarationsRestored  = add("declarations.restored", info, join([]string{"kind", "name"}, command), "a retired record was restored because it is declared again")
	DeclarationsRemoved   = add("declarations.removed", info, join([]string{"kind", "name", "after"}, command), "a record was permanently removed, because it had been retired for long enough or the operator removed it")
)

// Changes that an operator made by a command. Other events have the members at and operator
// too when a command caused them.
var (
	DeclarationsApplied       = add("declarations.applied", info, join([]string{"source", "changes"}, command), "declarations were applied")
	UserDisabled              = add("user.disabled", warn, join(user, command), "an operator disabled a user; all sessions and tokens ended")
	UserEnabled               = add("user.enabled", warn, join(user, command), "an operator enabled a user")
	UserDeleted               = add("user.deleted", warn, join(user, command), "an operator deleted a user")
	UserPasswordSet           = add("user.password_set", warn, join(user, command), "an operator set the password of a user; all sessions and tokens ended")
	UserRecoveryLinkCreated   = add("user.recovery_link_created", warn, join(user, command), "an operator created a link for a user who has lost every way to sign in")
	UserMethodRemoved         = add("user.method_removed", warn, join(user, []string{"method", "authenticator"}, command), "an operator removed a way to sign in that a user had lost; all sessions and tokens ended")
	UserInvited               = add("user.invited", info, command, "an operator created an invitation to sign up")
	UserRevoked               = add("user.revoked", warn, join(user, command), "an operator revoked all sessions, tokens and consents of a user")
	SigningKeysRevoked        = add("signing_key.revoked", warn, command, "an operator removed the old signing keys; what they signed is refused")
	InitialAccessTokenCreated = add("initial_access_token.created", info, join([]string{"uses", "note"}, command), "an operator created an initial access token")
	InitialAccessTokenRevoked = add("initial_access_token.revoked", info, join([]string{"initial_access_token"}, command), "an operator revoked an initial access token")
)

// Members explains the members of records, in the order in which they are documented.
var Members = []struct{ Name, Meaning string }{
	{"provider", "the ID of an identity provider"},
	{"sessions", "a number of sessions"},
	{"address", "the IP address of the client, behind trusted proxies"},
	{"address_count", "how many of the omitted records came from `address`, the most frequent one"},
	{"addresses", "the number of addresses (IPv6: /64) of the omitted records; at most 1,000 are counted"},
	{"act", "the `sub` of the party that acts for the user"},
	{"after", "how long the record was retired"},
	{"at", "when the command ran; the record is written when a server has read the event from the database"},
	{"alg", "the algorithm of the key"},
	{"attempts", "the number of attempts so far"},
	{"audience", "the audience of the new token"},
	{"authenticator", "the public id of a sign-in method, such as a passkey"},
	{"cause", "the underlying error; only the operator sees it"},
	{"changes", "how many records were changed"},
	{"client_id", "the client; if it is unknown and the request has no secret, the value from the request"},
	{"client_name", "the name of the client, if it has one. Clients that register themselves choose their names"},
	{"count", "the number of omitted records"},
	{"endpoint", "the path of the endpoint"},
	{"error", "the OAuth error code; for a page, the reason"},
	{"error_description", "the error description that the client received"},
	{"grant", "the id of the grant"},
	{"delivery_mode", "how the client gets its tokens: ping or push"},
	{"hook", "the host of the hook"},
	{"impersonation", "true if the new token does not name the acting party"},
	{"interaction_id", "the `x-fapi-interaction-id` of the request"},
	{"initial_access_token", "the ID that `valetkey registration tokens` shows"},
	{"iss", "the trusted issuer"},
	{"kid", "the id of the key"},
	{"kind", "the kind of record: client, user, scope or resource"},
	{"left", "the number of recovery codes that the user still has"},
	{"left_out", "the event whose records were omitted"},
	{"limit", "the limit that could not be counted"},
	{"method", "a way to sign in: `password`, `passkey`, `totp`, `recovery_code`, `email` or `upstream`"},
	{"message", "the kind of email, the name of its template"},
	{"modified", "when the file was last changed"},
	{"name", "the `client_id`, username, scope or identifier of the record"},
	{"note", "the operator's note"},
	{"operator", "the user of the operating system that ran the command, and the host"},
	{"path", "the path of the page"},
	{"reason", "the reason, from the list below"},
	{"refused", "whether the sign-in was refused"},
	{"reference", "the reference for `valetkey explain`"},
	{"requested_token_type", "the requested type of token"},
	{"resource", "the APIs that the user granted access to"},
	{"retry_after", "how long to wait before the next attempt"},
	{"rule", "the rule that the request breaks"},
	{"scope", "the granted scopes"},
	{"session", "the public id of the session: the `sid` of ID tokens"},
	{"source", "the source of the declarations"},
	{"sub", "the user's id in the database; not the pairwise `sub` that some clients get"},
	{"unknown_account", "replaces a username that no account has. The same username has the same value until the server restarts. The username itself is not logged, because it may be a password"},
	{"unknown_client", "replaces an unknown `client_id` in a request with a secret. The `client_id` itself is not logged, because it may be the secret"},
	{"uses", "how many clients can register with the token"},
	{"uri", "the URI, without its query"},
	{"username", "the username at the time of the event"},
}

// Reasons of sign_in.failed, password.change_failed, password.reset_requested, sign_in.requested and client.authentication_failed.
const (
	ReasonUnknown          = "unknown"
	ReasonWrongPassword    = "wrong_password"
	ReasonWrongCode        = "wrong_code"
	ReasonSecondFactor     = "second_factor"
	ReasonNoPassword       = "no_password"
	ReasonDisabled         = "disabled"
	ReasonRetired          = "retired"
	ReasonThrottled        = "throttled"
	ReasonNoAddress        = "no_address"
	ReasonWrongMethod      = "wrong_method"
	ReasonPasskey          = "passkey"
	ReasonWrongCredentials = "wrong_credentials"
	ReasonDirectory        = "directory"
)

// Reasons explains the reasons, in the order in which they are documented.
var Reasons = []struct{ Name, Meaning string }{
	{ReasonUnknown, "no account or client has that name"},
	{ReasonWrongPassword, "the account exists, and the password is wrong"},
	{ReasonWrongCode, "the account exists, and the code for its second factor is wrong"},
	{ReasonSecondFactor, "the password is right, but the account needs a second factor, which cannot be asked for there"},
	{ReasonNoPassword, "the account has no password"},
	{ReasonDisabled, "the account is disabled; the password may be correct"},
	{ReasonRetired, "the configuration no longer declares the account; the password may be correct"},
	{ReasonDirectory, "the directory did not accept the password, or did not respond"},
	{"locked", "the directory has locked the account; the password may be correct"},
	{"expired", "the account at the directory has expired; the password may be correct"},
	{"password_expired", "the directory wants the user to change the password first"},
	{ReasonThrottled, "too many attempts have failed; the password was not checked"},
	{ReasonNoAddress, "the account has no verified email address"},
	{ReasonPasskey, "the passkey was not accepted; `cause` says why, for example `unknown_passkey` or `wrong_signature`"},
	{ReasonWrongMethod, "the client is registered for another `token_endpoint_auth_method`"},
	{ReasonWrongCredentials, "the client's secret or assertion is wrong"},
}
