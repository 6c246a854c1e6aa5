// Package identity keeps resource owners (RFC 6749, section 1.1): who they are, how they
// prove it, and for how long that holds in one browser. It knows nothing of OAuth; package
// ui introduces the two.
//
//	store.go           User, and what the package asks of a database
//	identifier.go      when two usernames or e-mail addresses are the same
//	passwordhash.go    argon2id, and the hashes that other systems left
//	passwordpolicy.go  which passwords may be chosen
//	accounts.go        Config, New
//	passwordkind.go    the same work for every attempt, whatever hashes there are
//	signin.go          a username and a password become a User
//	limits.go          how many attempts are allowed, from which device and network
//	hashqueue.go       whose password is hashed next
//	session.go         sign-in sessions
//	endedsession.go    who is told that one has ended
//	cookie.go          their cookies
//	password.go        changing a password
//	setup.go           the first administrator
package identity
