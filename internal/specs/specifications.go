package main

import (
	"fmt"
	"strings"
)

// specification is a document that the code cites by name.
type specification struct {
	name, title, url string
	// status says in a few words how far it is implemented.
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

// specifications are those that the product implements or leans on.
func specifications() []specification {
	return []specification{
		rfc(6749, "The OAuth 2.0 Authorization Framework", "code, implicit, refresh token and client credentials grants; implicit and password (RFC 9700: SHOULD NOT, MUST NOT) for clients that name them"),
		rfc(6750, "Bearer Token Usage", "header and form body; a token in the URL is not read"),
		rfc(7009, "Token Revocation", "whole"),
		rfc(7033, "WebFinger", "the client finds a person's issuer"),
		rfc(7516, "JSON Web Encryption (JWE)", "the compact form, without compression"),
		rfc(7517, "JSON Web Key (JWK)", "public keys of signatures and encryption"),
		rfc(7515, "JSON Web Signature (JWS)", "compact serialisation, as RFC 8725 asks"),
		rfc(7518, "JSON Web Algorithms (JWA)", "whole, but for RSA1_5, PBES2 and none; none signs ID tokens of the code flow where a client asks for it"),
		rfc(7519, "JSON Web Token (JWT)", "signed tokens"),
		rfc(7521, "Assertion Framework for Client Authentication and Authorization Grants", "whole: JWTs for both, SAML for grants"),
		rfc(7522, "SAML 2.0 Profile for Client Authentication and Authorization Grants", "authorization grants; no client authentication, no encrypted assertions, RSA signatures"),
		rfc(7523, "JWT Profile for Client Authentication and Authorization Grants", "whole: clients' own assertions, those of a platform for its workloads, and trusted issuers' for people"),
		rfc(7591, "Dynamic Client Registration", "whole; off unless the operator wants it"),
		rfc(7592, "Dynamic Client Registration Management", "whole"),
		rfc(7636, "Proof Key for Code Exchange", "S256; plain is refused"),
		rfc(7638, "JSON Web Key Thumbprint", "whole"),
		rfc(7662, "Token Introspection", "whole"),
		rfc(8037, "EdDSA in JOSE", "Ed25519 and X25519"),
		rfc(8176, "Authentication Method Reference Values", "the values that sign-in can reach"),
		rfc(8252, "OAuth 2.0 for Native Apps", "loopback, private-use schemes, claimed https links"),
		rfc(8414, "Authorization Server Metadata", "whole, but for signed metadata"),
		rfc(8628, "Device Authorization Grant", "whole"),
		rfc(8693, "Token Exchange", "whole, but for SAML assertions; by rules of the operator's"),
		rfc(8707, "Resource Indicators", "whole, at both endpoints"),
		rfc(8725, "JWT Best Current Practices", "whole"),
		rfc(9068, "JWT Profile for Access Tokens", "whole"),
		rfc(9101, "JWT-Secured Authorization Request (JAR)", "by value and by reference"),
		rfc(9110, "HTTP Semantics", "challenges and methods"),
		rfc(9207, "Authorization Server Issuer Identification", "whole"),
		rfc(9470, "Step Up Authentication Challenge", "the vocabulary; clients and APIs"),
		rfc(9700, "Best Current Practice for OAuth 2.0 Security", "the default everywhere"),
		rfc(10017, "OAuth 2.0 for Browser-Based Applications", "a backend in `client`, and public clients; no token-mediating backend"),
		rfc(10027, "Security of Cross-Device Flows (BCP)", "for device authorization: request context, short lives, bounded guesses, consent each time; nothing proves that both devices are near each other"),
		rfc(9728, "Protected Resource Metadata", "served by the middleware"),
		rfc(9864, "Fully-Specified Algorithms for JOSE", "Ed25519"),
		rfc(10070, "Updates to JWT Client Authentication and Assertion-Based Authorization Grants", "client authentication; a client's setting takes what older clients send"),
		rfc(9493, "Subject Identifiers for Security Event Tokens", "email, opaque and iss_sub, for global token revocation"),
		openID("OpenID Connect Core", "openid-connect-core-1_0.html", "whole, but for self-issued providers"),
		openID("OpenID Connect Discovery", "openid-connect-discovery-1_0.html", "whole: the configuration document, and WebFinger in the client"),
		openID("OpenID Connect Registration", "openid-connect-registration-1_0.html", "whole"),
		openID("OpenID Connect RP-Initiated Logout", "openid-connect-rpinitiated-1_0.html", "whole"),
		openID("OpenID Connect Back-Channel Logout", "openid-connect-backchannel-1_0.html", "whole"),
		openID("OpenID Connect Front-Channel Logout", "openid-connect-frontchannel-1_0.html", "whole"),
		openID("OpenID Connect Session Management", "openid-connect-session-1_0.html", "whole"),
		openID("OAuth 2.0 Multiple Response Type Encoding Practices", "oauth-v2-multiple-response-types-1_0.html", "whole"),
		openID("Initiating User Registration via OpenID Connect", "openid-connect-prompt-create-1_0.html", "whole, where sign_up is set"),
		openID("OAuth 2.0 Form Post Response Mode", "oauth-v2-form-post-response-mode-1_0.html", "whole"),
		{name: "draft-ietf-oauth-status-list", title: "Token Status List (TSL)", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-status-list/", status: "experimental: draft 21, for JWT access tokens, issued and checked; not CBOR, aggregation, or lists of the past"},
		{name: "draft-parecki-oauth-global-token-revocation", title: "Global Token Revocation", url: "https://datatracker.ietf.org/doc/draft-parecki-oauth-global-token-revocation/", status: "experimental: the draft of February 2026, for clients that an operator allows it"},
		{name: "Standard Webhooks", title: "1.0.0", url: "https://www.standardwebhooks.com/", status: "what the server sends to the operator's hooks, with the symmetric signature"},
		{name: "Client ID Metadata Document", title: "draft-ietf-oauth-client-id-metadata-document", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-client-id-metadata-document/", status: "section numbers of -02; off unless the operator names hosts"},
		{name: "draft-ietf-oauth-identity-assertion-authz-grant", title: "Identity Assertion JWT Authorization Grant (ID-JAG)", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-identity-assertion-authz-grant/", status: "issued, for ID tokens and refresh tokens; and accepted"},
		{name: "draft-ietf-oauth-transaction-tokens", title: "Transaction Tokens", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-transaction-tokens/", status: "experimental: the draft of July 2026, for access tokens and ID tokens"},
		{name: "draft-ietf-oauth-first-party-apps", title: "OAuth 2.0 for First-Party Applications", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-first-party-apps/", status: "experimental: draft 03, with passwords; auth_session is not bound to a key, redirect_to_web has no request_uri"},
		{name: "OAuth 2.1", title: "draft-ietf-oauth-v2-1", url: "https://datatracker.ietf.org/doc/draft-ietf-oauth-v2-1/", status: "the default; older habits are switched on by name"},
	}
}

// attacks are the ids of the catalogue of weaknesses in the groups that are built.
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
		"DC 02 04 06 07 09 10 11 12 13 14 15 16 17 18",
	} {
		words := strings.Fields(group)
		for _, number := range words[1:] {
			ids = append(ids, words[0]+"-"+number)
		}
	}
	return ids
}
