// Package passkey runs the two ceremonies of WebAuthn Level 3 for a relying party: it writes the
// options for the browser and verifies the responses (sections 7.1 and 7.2). It stores nothing;
// package identity keeps the credential records.
//
//	relyingparty.go  Config, New: the RP ID, the origin, and what is required of authenticators
//	challenge.go     challenges that cost no write until they are used
//	options.go       options for the browser
//	creation.go      a new passkey
//	assertion.go     the use of a passkey
//	attestation.go   which models may be used, if the operator restricts them
//	model.go         names of models, by AAGUID
package passkey
