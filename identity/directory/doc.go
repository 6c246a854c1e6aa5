// Package directory signs users in with their password at an LDAP directory (RFC 4511), such as
// OpenLDAP or Active Directory. It returns what the directory says about a user as an
// identity.ExternalUser.
//
//   - config.go: what an operator configures, and how it is checked
//   - directories.go: all directories of a server, and which of them an identifier belongs to
//   - connection.go, pool.go: connections, their encryption and their reuse
//   - availability.go: a directory that does not respond is left alone for a while
//   - entry.go: finding a user, and checking the password
//   - account.go: whether the directory lets the user in
//   - state.go: users who are disabled or gone lose what they have
//   - groups.go: the groups of a user, also nested ones
//   - trace.go: the steps of a sign-in, for the command line
package directory
