// Package jose signs and verifies JSON Web Tokens with the advice of RFC 8725 switched
// on: the caller names the algorithms and types that it accepts, a key is used with the
// algorithm that it is for, and nothing in a token chooses how it is verified.
//
// Keys are read by go-jose; signatures are made and checked by the standard library, over
// a header that is encoded once.
package jose
