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

// Members that many kinds have.
var (
	user    = []string{"sub", "username"}
	client  = []string{"client_id", "client_name"}
	command = []string{"operator", "at"}
	refusal = []string{"reference", "endpoint", "error", "error_description", "rule", "client_id", "client_name", "unknown_client"}
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

// sampled adds a line for what outsiders can cause any number of.
func sampled(name string, level slog.Level, members []string, meaning string) *Kind {
	k := add(name, level, members, meaning)
	k.Sampled = true
	return k
}

// End users.
var (
	SignInSucceeded = add("sign_in.succeeded", info, join(user, []string{"address"}), "a user proved who they are")
	SignInFailed    = sampled("sign_in.failed", warn, join(user, []string{"unknown_account", "reason", "address"}), "an attempt to sign in failed")
	SignInThrottled = sampled("sign_in.throttled", warn, join(user, []string{"unknown_account", "retry_after", "address"}), "an attempt to sign in was refused because too many had failed; the password was not checked")

	SessionEnded     = add("session.ended", info, join(user, []string{"session"}), "a sign-in session was ended")
	SessionsAllEnded = add("session.all_ended", info, user, "all sign-in sessions of a user were ended, or all but the one in which the user asked for it")

	PasswordChanged      = add("password.changed", info, user, "a user chose a new password")
	PasswordChangeFailed = sampled("password.change_failed", warn, join(user, []string{"reason", "retry_after"}), "a signed-in user could not change the password, because the current one was wrong or too many attempts had failed")
	PasswordRehashed     = add("password.rehashed", info, user, "an imported or outdated password hash was replaced at a sign-in")

	SetupStarted    = add("setup.started", info, nil, "there are no users, and the link that creates the first one was made")
	SetupCompleted  = add("setup.completed", info, user, "the first user was created by the link")
	SignUpSucceeded = add("sign_up.succeeded", info, join(user, []string{"address"}), "an outsider created an account")
	SignUpThrottled = sampled("sign_up.throttled", warn, []string{"retry_after", "address"}, "a new account was refused because too many came from the address")

	ConsentGranted = add("consent.granted", info, join(user, client, []string{"scope", "resource", "address"}), "a user allowed an application scopes, and the APIs that they are for")
	ConsentRefused = sampled("consent.refused", info, join(user, refusal, []string{"address"}), "a user refused an application what it asked for")
	ConsentRevoked = add("consent.revoked", info, join(user, client, []string{"grant"}), "a user took back what an application had been allowed")
)

// Requests, clients and tokens.
var (
	RequestRefused = sampled("request.refused", info, join(refusal, []string{"address"}), "a request was refused; \"valetkey explain REFERENCE\" tells why")
	RequestFailed  = sampled("request.failed", fail, join(refusal, []string{"address", "cause"}), "a request failed because of the server or something that it needs")
	PageRefused    = sampled("page.refused", info, []string{"path", "error", "address"}, "a page could not be shown: the form was another site's or incomplete, or the link had expired")

	ClientAuthenticationFailed = sampled("client.authentication_failed", warn, join(refusal, []string{"reason", "address"}), "a client sent wrong credentials, or the client is not known")
	ClientRegistered           = add("client.registered", info, join(client, []string{"address"}), "a client registered itself")
	ClientDeleted              = add("client.deleted", info, join(client, []string{"address"}), "a client deleted its registration")

	TokenReplayed          = sampled("token.replayed", warn, join(user, refusal, []string{"address"}), "a code or token that is good once came a second time; all tokens of the authorization were revoked")
	TokenExchanged         = add("token.exchanged", info, join([]string{"sub"}, client, []string{"act", "impersonation", "requested_token_type", "audience"}), "a token was exchanged for another")
	TokenAssertionAccepted = add("token.assertion_accepted", info, join([]string{"sub"}, client, []string{"iss"}), "a token was issued for the assertion of a trusted issuer")
	TokenAllRevoked        = add("token.all_revoked", warn, join(user, client, []string{"address"}), "a client ended all sessions and tokens of a user (Global Token Revocation)")
)

// The server and what it depends on.
var (
	LogoutDelivered = add("logout.delivered", info, client, "a client was told by the back channel that a session ended")
	LogoutPostponed = add("logout.postponed", info, join(client, []string{"attempts", "cause"}), "a client could not be told that a session ended; the server tries again")
	LogoutGivenUp   = add("logout.given_up", warn, join(client, []string{"attempts", "cause"}), "a client was not told that a session ended; the server does not try again")

	HookFailed                = add("hook.failed", warn, []string{"hook", "cause"}, "a hook failed several times in a row; requests that need it are refused for a while")
	HookRecovered             = add("hook.recovered", info, []string{"hook"}, "a hook works again")
	KeySetFetchFailed         = sampled("key_set.fetch_failed", warn, []string{"uri", "cause"}, "a key set of a client or trusted issuer could not be fetched")
	ClientMetadataFetchFailed = sampled("client_metadata.fetch_failed", info, []string{"client_id", "cause"}, "the metadata document of a client could not be fetched or used")
	ClientLogoFetchFailed     = sampled("client_logo.fetch_failed", info, []string{"uri", "cause"}, "the logo of a client could not be fetched or shown")
	SigningKeyCreated         = add("signing_key.created", info, join([]string{"kid", "alg"}, command), "the server made a key to sign with, or for clients to encrypt to")
	ProxyNotTrusted           = add("proxy.not_trusted", warn, []string{"address"}, "a request has a proxy's header and comes from an address that trusted_proxies does not name; if that is your reverse proxy, everybody behind it counts as one address in limits and in the log")
	RateLimitNotStored        = add(ratelimit.EventStoreFailed, warn, []string{"limit", "error"}, "failures could not be counted in the database; each node limits by what it has counted itself")
	RecordsLeftOut            = add("log.left_out", warn, []string{"left_out", "count", "addresses", "address", "address_count"}, "records of one event were left out of the log, because there were too many from one address or in all")

	DeclarationsOlder    = add("declarations.older", warn, []string{"source", "modified"}, "the declarations are older than those that were applied last: nothing was applied; run \"valetkey apply\" with this file if it is right, or put the newer one in its place")
	DeclarationsConflict = add("declarations.conflict", fail, join([]string{"kind", "name", "cause"}, command), "a record could not be declared; it stays as it is")
	DeclarationsAdopted  = add("declarations.adopted", info, join([]string{"kind", "name"}, command), "a record that registered itself or signed up became a declared one")
	DeclarationsRetired  = add("declarations.retired", info, join([]string{"kind", "name"}, command), "a record that the source names no longer was retired")
	DeclarationsRestored = add("declarations.restored", info, join([]string{"kind", "name"}, command), "a retired record is named again and was restored")
	DeclarationsRemoved  = add("declarations.removed", info, join([]string{"kind", "name", "after"}, command), "a record was removed for good, after it had been retired for the time that the operator set or because the operator asked")
)

// Changes that an operator made by a command. Other events have the members at and operator
// too when a command caused them.
var (
	DeclarationsApplied       = add("declarations.applied", info, join([]string{"source", "changes"}, command), "declarations were applied")
	UserDisabled              = add("user.disabled", warn, join(user, command), "an operator disabled a user; all sessions and tokens ended")
	UserEnabled               = add("user.enabled", warn, join(user, command), "an operator enabled a user")
	UserDeleted               = add("user.deleted", warn, join(user, command), "an operator deleted a user")
	UserPasswordSet           = add("user.password_set", warn, join(user, command), "an operator set the password of a user; all sessions and tokens ended")
	UserRevoked               = add("user.revoked", warn, join(user, command), "an operator revoked all sessions, tokens and consents of a user")
	SigningKeysRevoked        = add("signing_key.revoked", warn, command, "an operator removed the old signing keys; what they signed is refused")
	InitialAccessTokenCreated = add("initial_access_token.created", info, join([]string{"uses", "note"}, command), "an operator created an initial access token")
	InitialAccessTokenRevoked = add("initial_access_token.revoked", info, join([]string{"initial_access_token"}, command), "an operator revoked an initial access token")
)

// Members says what the members of records mean, in the order in which they are documented.
var Members = []struct{ Name, Meaning string }{
	{"address", "the address of the client, behind trusted proxies"},
	{"address_count", "how many of the records that were left out had `address`, the address with most of them"},
	{"addresses", "how many addresses (IPv6: /64) the records that were left out came from; 1,000 at most are counted"},
	{"act", "the `sub` of the party that acts for the user"},
	{"after", "how long the record had been retired"},
	{"at", "when the command ran; the record is written when a server has read the event from the database"},
	{"alg", "the algorithm of a key"},
	{"attempts", "how often the server has tried"},
	{"audience", "who the new token is for"},
	{"cause", "the error behind the event, for the operator alone"},
	{"changes", "how many records were changed"},
	{"client_id", "the client; as the request named it, if the client is not known and the request has no secret"},
	{"client_name", "the name of the client, if it has one. Clients that register themselves choose theirs"},
	{"count", "how many records were left out"},
	{"endpoint", "the path of the endpoint"},
	{"error", "the OAuth error code; of a page, what was wrong"},
	{"error_description", "what the client was told"},
	{"grant", "the id of the grant"},
	{"hook", "the host of the hook"},
	{"impersonation", "true if the new token does not name the acting party"},
	{"initial_access_token", "the ID that `valetkey registration tokens` shows"},
	{"iss", "the trusted issuer"},
	{"kid", "the id of the key"},
	{"kind", "what the record is: a client, user, scope or resource"},
	{"left_out", "the event whose records were left out"},
	{"limit", "the limit that could not be counted"},
	{"modified", "when the file was last changed"},
	{"name", "the `client_id`, username, scope or identifier of the record"},
	{"note", "the operator's note"},
	{"operator", "the user of the operating system that ran the command, and the host"},
	{"path", "the path of the page"},
	{"reason", "why; the list is below"},
	{"reference", "what `valetkey explain` takes"},
	{"requested_token_type", "which kind of token was asked for"},
	{"resource", "the APIs that the user allowed the application to reach"},
	{"retry_after", "how long to wait until the next attempt"},
	{"rule", "what must hold and did not"},
	{"scope", "the scopes that the user allowed"},
	{"session", "the public name of the session, the `sid` of ID tokens"},
	{"source", "the source of the declarations"},
	{"sub", "the user's id in the database; not the pairwise `sub` that some clients get"},
	{"unknown_account", "stands for what was typed as the username when no account has it. It is the same for the same text until the server restarts. The text is not logged: it may be a password"},
	{"unknown_client", "stands for the `client_id` of a request with a secret when no client has it. The text is not logged: it may be the secret"},
	{"uses", "how many clients can register with the token"},
	{"uri", "the address, without its query"},
	{"username", "the user's name when the event happened"},
}

// Reasons of sign_in.failed, password.change_failed and client.authentication_failed.
const (
	ReasonUnknown          = "unknown"
	ReasonWrongPassword    = "wrong_password"
	ReasonNoPassword       = "no_password"
	ReasonDisabled         = "disabled"
	ReasonRetired          = "retired"
	ReasonThrottled        = "throttled"
	ReasonWrongMethod      = "wrong_method"
	ReasonWrongCredentials = "wrong_credentials"
)

// Reasons says what each reason means, in the order in which they are documented.
var Reasons = []struct{ Name, Meaning string }{
	{ReasonUnknown, "no account or client has that name"},
	{ReasonWrongPassword, "the account exists, and the password is not its own"},
	{ReasonNoPassword, "the account has no password"},
	{ReasonDisabled, "the account is disabled; the password may be right"},
	{ReasonRetired, "the configuration names the account no longer; the password may be right"},
	{ReasonThrottled, "too many attempts failed before; the password was not checked"},
	{ReasonWrongMethod, "the client is registered for another `token_endpoint_auth_method`"},
	{ReasonWrongCredentials, "the client's secret or assertion is wrong"},
}
