// Package client is the OAuth 2.0 client: an application that asks a person's leave, or
// uses its own, to call an API. It speaks to any authorization server or OpenID Provider
// that keeps to the standards.
//
// Discover reads what a provider says of itself; New takes it from the caller. Register
// makes the application known where the provider lets it. A RelyingParty does for a web
// application all that signing people in and out takes. Below it, a Client signs people in
// (AuthorizationURL and Callback, or Loopback for programs without a web server), takes
// tokens for itself (ClientCredentials), and keeps tokens fresh for many goroutines at once
// (Source, which yields an http.Client and an oauth2.TokenSource).
//
// What comes from outside is not believed: endpoints are https, answers are bounded in
// size and time, redirects are not followed, issuers are compared character by
// character, and an ID token is checked in full before anybody sees a claim of it.
// Nothing is retried, so that a provider in trouble is not troubled more.
package client
