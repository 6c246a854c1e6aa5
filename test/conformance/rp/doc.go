// Command rp runs the relying-party plans of the OpenID Foundation's conformance suite
// against package client. It creates each plan of plans.json at a running suite, starts each
// module, signs in at the module's issuer with a client.RelyingParty, acts as the browser,
// and reports the suite's result and whether the relying party accepted or refused what it
// should.
//
//	go run ./test/conformance/rp --suite https://localhost:8443
package main
