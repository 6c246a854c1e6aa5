// Package dpop implements DPoP proofs (RFC 9449): a client signs each request with its own key,
// and tokens are bound to that key. A Key creates proofs, Verify verifies them, and Nonces are
// the nonces that a server requires in them.
//
// Most programs do not need this package: oauth/client and oauth/resourceserver use it.
package dpop
