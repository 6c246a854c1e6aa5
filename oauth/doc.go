// Package oauth defines the protocol types that clients, APIs and authorization servers
// share: error codes, metadata, token responses, claims, scopes, PKCE, WWW-Authenticate
// challenges and redirect URIs.
//
// Applications usually import package client below it, and APIs package resourceserver. Both
// use these types in their own functions.
//
// It imports only the standard library, does no I/O and reads no clock.
package oauth
