// Command rp runs the relying-party plans of the OpenID Foundation's conformance suite
// against package client. It creates each plan of plans.json at a suite that is running,
// starts each module, signs in at the module's issuer with a client.RelyingParty, plays
// the browser in between, and reports what the suite found, and whether the relying party
// took or refused what it should.
//
//	go run ./test/conformance/rp --suite https://localhost:8443
package main
