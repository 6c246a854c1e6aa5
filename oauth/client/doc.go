// Package client signs users in to applications with OpenID Connect and gets OAuth 2.0 access
// tokens for calling APIs. It works with any standard authorization server or OpenID Provider.
//
// Start with Discover, which fetches the provider's metadata and returns a Client. Then use
//
//   - RelyingParty in a web application: sign-in, sessions and sign-out as an http.Handler,
//   - Backend in front of a single-page application, so that the browser gets no tokens,
//   - Client.Loopback in a command-line or desktop program,
//   - Client.DeviceAuthorization on a device without a browser,
//   - Client.ClientCredentialsSource in a service that calls an API for itself,
//   - Client.TokenExchange in an API that calls another API for its user.
//
// A Source keeps tokens valid for many goroutines. It provides an http.Client and an
// oauth2.TokenSource. AuthorizationURL and Callback are the authorization code flow without
// a RelyingParty.
//
// Data from outside is checked: endpoints must use https, responses are limited in size and
// time, redirects are not followed, issuers are compared exactly, and no claim of an ID token
// is returned before the token is validated. Requests are not retried, so as not to add load
// to a provider in trouble.
package client
