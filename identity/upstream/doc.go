// Package upstream signs users in through other providers: OpenID Providers by their issuer, and
// OAuth 2.0 authorization servers by a mapping of their endpoints. It is built on oauth/client, which
// verifies what a provider sends. What it returns about a user is an identity.ExternalUser.
//
//	config.go    Config: a provider in the configuration
//	preset.go    Google, Microsoft, Apple and GitHub
//	provider.go  Providers and Provider: metadata, keys and clients, fetched when they are needed
//	signin.go    a sign-in in progress: Begin, Hold, Complete
//	user.go      the response of a provider as an ExternalUser
//	claims.go    JSON pointers and expressions for the claims of a provider
//	github.go    the verified address of a GitHub user
//	apple.go     the secret of a client of Apple, and the name that Apple sends once
//	logout.go    back-channel logout of a provider
//	signout.go   a logout here that ends the session at the provider too
//	errors.go    what can go wrong, for the pages
//
// SAML service providers would be another package that returns ExternalUser.
// SCIM and imports write accounts with links (identity.ExternalLink) before their users sign in.
package upstream
