package main

import (
	"fmt"
	"strings"
)

// specification is a document that the code cites by name.
type specification struct {
	name, title, url string
	// status describes how much of it is implemented.
	status string
}

func rfc(number int, title, status string) specification {
	return specification{
		name: fmt.Sprintf("RFC %d", number), title: title, status: status,
		url: fmt.Sprintf("https://www.rfc-editor.org/rfc/rfc%d", number),
	}
}

func openID(name, page, status string) specification {
	return specification{name: name, title: "OpenID Foundation", status: status, url: "https://openid.net/specs/" + page}
}

// specifications returns those that the product implements or refers to.
func specifications() []specification {
	return []specification{
		rfc(6238, "TOTP: Time-Based One-Time Password Algorithm", "HMAC-SHA-1, 6 digits and 30 seconds, as every authenticator application supports; each code works once"),
		rfc(6749, "The OAuth 2.0 Authorization Framework", "authorization code, refresh token and client credentials grants; implicit and password (RFC 9700: SHOULD NOT, MUST NOT) only for clients that are registered for them"),
		rfc(6750, "Bearer Token Usage", "header and form body; tokens in the URL are not accepted"),
		rfc(7009, "Token Revocation", "complete"),
		rfc(7033, "WebFinger", "the client discovers the issuer of an end user"),
		rfc(7516, "JSON Web Encryption (JWE)", "compact serialization, without compression"),
		rfc(7517, "JSON Web Key (JWK)", "public keys for signatures and encryption"),
		rfc(7515, "JSON Web Signature (JWS)", "compact serialization, as RFC 8725 recommends"),
		rfc(7518, "JSON Web Algorithms (JWA)", "complete except RSA1_5, PBES2 and none; none only for ID tokens of the code flow, for clients that are registered for it"),
		rfc(7519, "JSON Web Token (JWT)", "signed tokens"),
		rfc(7521, "Assertion Framework for Client Authentication and Authorization Grants", "complete: JWTs for both, SAML for grants"),
		rfc(7522, "SAML 2.0 Profile for Client Authentication and Authorization Grants", "authorization grants with RSA signatures; no client authentication, no encrypted assertions"),
		rfc(7523, "JWT Profile for Client Authentication and Authorization Grants", "complete: assertions of clients, of platforms for their workloads, and of trusted issuers for users"),
		rfc(7591, "Dynamic Client Registration", "complete; off by default"),
		rfc(7592, "Dynamic Client Registration Management", "complete"),
		rfc(7636, "Proof Key for Code Exchange", "S256; plain is refused"),
		rfc(7638, "JSON Web Key Thumbprint", "complete"),
		rfc(7662, "Token Introspection", "complete"),
		rfc(8037, "EdDSA in JOSE", "Ed25519 and X25519"),
		rfc(8176, "Authentication Method Reference Values", "the values that sign-in supports"),
		rfc(8252, "OAuth 2.0 for Native Apps", "loopback, private-use schemes, claimed https links"),
		rfc(8414, "Authorization Server Metadata", "complete except signed metadata"),
		rfc(8628, "Device Authorization Grant", "complete"),
		rfc(8693, "Token Exchange", "complete except SAML assertions; the operator defines the rules"),
		rfc(8705, "Mutual-TLS Client Authentication and Certificate-Bound Access Tokens", "complete, with TLS terminated by the server or by a proxy; the revocation status of certificates is checked by the proxy, if at all"),
		rfc(8707, "Resource Indicators", "complete, at both endpoints"),
		rfc(8725, "JWT Best Current Practices", "complete"),
		rfc(9068, "JWT Profile for Access Tokens", "complete"),
		rfc(9101, "JWT-Secured Authorization Request (JAR)", "complete: by value and by reference, encrypted, required for clients or the server"),
		rfc(9126, "Pushed Authorization Requests (PAR)", "complete, except that redirect URIs must be registered"),
		rfc(9110, "HTTP Semantics", "challenges and methods"),
		rfc(9207, "Authorization Server Issuer Identification", "complete"),
		rfc(9396, "Rich Authorization Requests", "types with a JSON Schema and a text for the consent page; details can be narrowed, never widened"),
		rfc(9440, "Client-Cert HTTP Header Field", "read from trusted proxies, by the server and by the middleware"),
		rfc(9449, "Demonstrating Proof of Possession (DPoP)", "complete"),
		rfc(9470, "Step Up Authentication Challenge", "server, client library, backend and middleware"),
		rfc(9700, "Best Current Practice for OAuth 2.0 Security", "the default everywhere"),
		rfc(9701, "JWT Response for OAuth Token Introspection", "complete: signed and encrypted, issued and verified; refused callers get 401 instead of 400"),
		rfc(10017, "OAuth 2.0 for Browser-Based Applications", "a backend for frontend in `oauth/client`, and public clients; no token-mediating backend"),
		rfc(10027, "Security of Cross-Device Flows (BCP)", "for device authorization and CIBA: request context, short lifetimes, limited attempts, consent every time; proximity of the devices is not proven"),
		rfc(9728, "Protected Resource Metadata", "served by the middleware"),
		rfc(9864, "Fully-Specified Algorithms for JOSE", "Ed25519"),
		rfc(10070, "Updates to JWT Client Authentication and Assertion-Based Authorization Grants", "client authentication; a setting of a client accepts the audiences of older clients"),
		rfc(9493, "Subject Identifiers for Security Event Tokens", "email, opaque and iss_sub, for Global Token Revocation"),
		openID("OpenID Connect Core", "openid-connect-core-1_0.html", "complete except self-issued providers"),
		openID("OpenID Connect Discovery", "openid-connect-discovery-1_0.html", "complete: the metadata document, and WebFinger in the client"),
		openID("OpenID Connect Registration", "openid-connect-registration-1_0.html", "complete"),
		openID("OpenID Connect RP-Initiated Logout", "openid-connect-rpinitiated-1_0.html", "complete"),
		openID("CIBA Core", "openid-client-initiated-backchannel-authentication-core-1_0.html", "Client-Initiated Backchannel Authentication: poll, ping and push, signed requests, all hints; no user codes"),
		openID("OpenID Connect Back-Channel Logout", "openid-connect-backchannel-1_0.html", "complete"),
		openID("OpenID Connect Front-Channel Logout", "openid-connect-frontchannel-1_0.html", "complete"),
		openID("OpenID Connect Session Management", "openid-connect-session-1_0.html", "complete"),
		openID("OAuth 2.0 Multiple Response Type Encoding Practices", "oauth-v2-multiple-response-types-1_0.html", "complete"),
		openID("Initiating User Registration via OpenID Connect", "openid-connect-prompt-create-1_0.html", "complete, with sign_up"),
		openID("JARM", "oauth-v2-jarm.html", "complete: signed and encrypted, every response mode, read by the client"),
		openID("FAPI 2.0 Security Profile", "fapi-security-profile-2_0-final.html", "the profile fapi2"),
		openID("FAPI 2.0 Message Signing", "fapi-message-signing-2_0-final.html", "the profile fapi2-message-signing: requests, authorization responses and introspection responses"),
		openID("FAPI 1.0 Advanced", "openid-financial-api-part-2-1_0.html", "the profile fapi1-advanced"),
		openID("FAPI 1.0 Baseline", "openid-financial-api-part-1-1_0.html", "as far as FAPI 1.0 Advanced requires it"),
		openID("OAuth 2.0 Form Post Response Mode", "oauth-v2-form-post-response-mode-1_0.html", "complete"),
		{name: "draft-ietf-oauth-status-list", title: "Token Status List (TSL)", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-status-list/", status: "experimental: draft 21, for JWT access tokens, issued and checked; no CBOR, aggregation, or historical lists"},
		{name: "draft-parecki-oauth-global-token-revocation", title: "Global Token Revocation", url: "https://datatracker.ietf.org/doc/draft-parecki-oauth-global-token-revocation/", status: "experimental: the draft of February 2026, for clients that the operator allows"},
		{name: "Standard Webhooks", title: "1.0.0", url: "https://www.standardwebhooks.com/", status: "requests to the operator's hooks, with the symmetric signature"},
		{name: "Client ID Metadata Document", title: "draft-ietf-oauth-client-id-metadata-document", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-client-id-metadata-document/", status: "draft 02, whose section numbers are cited; off unless the operator allows hosts"},
		{name: "draft-ietf-oauth-identity-assertion-authz-grant", title: "Identity Assertion JWT Authorization Grant (ID-JAG)", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-identity-assertion-authz-grant/", status: "issued for ID tokens and refresh tokens, and accepted"},
		{name: "draft-ietf-oauth-transaction-tokens", title: "Transaction Tokens", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-transaction-tokens/", status: "experimental: the draft of July 2026, for access tokens and ID tokens"},
		{name: "draft-ietf-oauth-first-party-apps", title: "OAuth 2.0 for First-Party Applications", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-first-party-apps/", status: "experimental: draft 04, with passwords; token responses have no auth_session and never ask for more authorization"},
		{name: "draft-ietf-oauth-attestation-based-client-auth", title: "OAuth 2.0 Attestation-Based Client Authentication", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-attestation-based-client-auth/", status: "experimental: draft 11, client authentication with both proofs of possession, by server and client; not at resource servers or as an additional signal"},
		{name: "draft-ietf-oauth-refresh-token-expiration", title: "OAuth 2.0 Refresh Token and Authorization Expiration", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-refresh-token-expiration/", status: "experimental: draft 03; the client library reads both members"},
		{name: "draft-ietf-oauth-security-topics-update", title: "Updates to OAuth 2.0 Security Best Current Practice", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-security-topics-update/", status: "the draft of July 2026: audience injection, cross-toolkit attacks and session fixation, in the client library"},
		{name: "OAuth 2.1", title: "draft-ietf-oauth-v2-1", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-v2-1/", status: "the default; what it removes must be enabled explicitly"},
	}
}

// attacks returns the ids of the catalogue of weaknesses for what is implemented.
func attacks() []string {
	var ids []string
	for _, group := range []string{
		"RU 01 02 03 04 06 07 08 09 10 11 12 13 14 15 17 18 19 20",
		"AC 01 02 03 04 05 06 08 09 10 11 12 13 14 15 16 17",
		"PK 01 02 03 04 05 06 07 08 09 10",
		"ST 02 03 04 05 06 07 08 09 10 11",
		"CA 01 02 03 04 05 06 07 08 09 10 12 13 14 15 16 17 18 19 20",
		"JW 01 03 04 05 06 07 08 09 10 11 12 14 15 16 17 18 19 20 21 22 23 25 26 27 28",
		"RT 01 02 03 04 05 06 08 09 10 11 12 13 14 15 16 17 19 20",
		"TX 01 02 03 04 06 07 08 09 10 11 12 13 14",
		"CN 01 03 04 05 06 07 08 09 10",
		"SE 01 02 04 05 06 07 08 09 10 11 12 13 15 16",
		"HD 01 02 03 04 05 06 07 08 09 11 12",
		"HP 01 02 04 05 06 07 08 09 10 11 12 13 15 16",
		"OR 01 02 03 04 05 06 07",
		"DS 01 04", "UN 03 05", "LO 01 03 06 07", "RE 17 26",
		"RS 01 03 04 05 06 07 08 09 10 11 12 15 16", "DV 01 03 04 05 06 07 08 09 10",
		"PP 07 12 13",
		"PR 01 02 03 04 05 07 08 09", "JA 01 02 03 04 05 06",
		"DC 02 04 06 07 09 10 11 12 13 14 15 16 17 18",
	} {
		words := strings.Fields(group)
		for _, number := range words[1:] {
			ids = append(ids, words[0]+"-"+number)
		}
	}
	return ids
}
