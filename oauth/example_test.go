package oauth_test

import (
	"errors"
	"fmt"

	"github.com/valetkey/valetkey/oauth"
)

// An API rejects a request whose token lacks a scope.
func Example() {
	granted, err := oauth.ParseScope("openid notes.read")
	if err != nil {
		fmt.Println(err)
		return
	}
	if !granted.Has("notes.write") {
		fmt.Println(oauth.NewChallenge("Bearer", "error", string(oauth.InsufficientScope), "scope", "notes.write"))
	}
	// Output: Bearer error="insufficient_scope", scope="notes.write"
}

func ExampleParseChallenges() {
	for _, c := range oauth.ParseChallenges(`Bearer error="invalid_token", resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`) {
		fmt.Println(c.Scheme, c.Param("error"))
		fmt.Println(c.Param("resource_metadata"))
	}
	// Output:
	// Bearer invalid_token
	// https://api.example.com/.well-known/oauth-protected-resource
}

// The port of a loopback redirect URI may differ (RFC 8252, section 7.3).
func ExampleMatchRedirectURI() {
	registered := "http://127.0.0.1/callback"
	fmt.Println(oauth.MatchRedirectURI(registered, "http://127.0.0.1:50123/callback"))
	fmt.Println(oauth.MatchRedirectURI(registered, "http://127.0.0.1:50123/other"))
	// Output:
	// true
	// false
}

// Compare the codes of protocol errors with errors.Is.
func ExampleError() {
	err := fmt.Errorf("redeem the code: %w", oauth.NewError(oauth.InvalidGrant, "the code has expired"))
	fmt.Println(err)
	fmt.Println(errors.Is(err, &oauth.Error{Code: oauth.InvalidGrant}))
	// Output:
	// redeem the code: invalid_grant: the code has expired
	// true
}
