// Package oauth is the vocabulary that all four roles of OAuth 2.0 share: errors,
// metadata, clients, tokens, claims, scopes, PKCE, challenges and redirect URIs.
//
// It imports the standard library only, does no I/O and reads no clock, so that a
// client or an API that uses it links nothing of the server.
package oauth
