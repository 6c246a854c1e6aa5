// Package jose signs, verifies, encrypts and decrypts JSON Web Tokens, and reads and writes
// JSON Web Keys.
//
// It follows RFC 8725 by default. The caller lists the algorithms and types that it accepts,
// a key is used only with its own algorithm, and nothing in a token decides how the token is
// verified.
//
// go-jose parses keys; the standard library signs and verifies.
package jose
