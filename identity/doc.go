// Package identity manages resource owners (RFC 6749, section 1.1): users, their passwords and
// their sign-in sessions. It does not know OAuth; package ui connects the two.
//
//	store.go           User, and the database interface
//	identifier.go      when two usernames or email addresses are the same
//	passwordhash.go    argon2id, and hashes imported from other systems
//	passwordpolicy.go  which passwords may be chosen
//	accounts.go        Config, New
//	passwordkind.go    constant work for every attempt, whatever hashes are stored
//	signin.go          authentication with username and password
//	limits.go          how many attempts are allowed, by device and network
//	hashqueue.go       the queue of passwords to hash
//	method.go          the methods to sign in, and what they reach together
//	authenticator.go   passkeys and others: what a user has besides the password
//	signinprogress.go  a sign-in that needs more proofs
//	factorattempt.go   how many codes may be tried
//	undo.go            links that undo changes
//	mailrequest.go     messages that strangers can ask for
//	mailrecovery.go    recovery by mail, after a delay
//	recovery.go        what lets users back in who have lost what they sign in with
//	policy.go          what is sufficient to sign in
//	rememberedfactor.go  a second factor that was proved on the same device
//	recentproof.go     what changes of the account require
//	session.go         sign-in sessions
//	sessiondata.go     how sessions are stored
//	endedsession.go    notes about sessions that have ended
//	cookie.go          cookies
//	password.go        changing a password
//	setup.go           the first administrator
//	signup.go          accounts that users create, and invitations
//	mailedproof.go     links and codes in messages
//	emailaddress.go    verifying, changing and restoring an email address
//	external.go        users of other providers, and their links to accounts
//	externalsignin.go  the account of an external user
//	externallink.go    linking and unlinking
//	externalsession.go sessions at other providers
//	reset.go           a new password for a user who has forgotten the old one
//	accountdata.go     what is kept about an account besides: former names, deletion, lock-down
//	securityevent.go   recent security events
//	remembered.go      what else is remembered about an account for a while
//	sessionuse.go      when sessions were used last; ending the others
//	lockdown.go        "this wasn't me"
//	changeusername.go  another username
//	deletion.go        deletion by the user, and maintenance of accounts
package identity
