// Package client has the tests of oauth/client that need a server or a database. They are
// here so that the module of the client library requires neither.
package client
