package main

import (
	"fmt"
	"maps"
	"strings"
)

// fapiPlans returns the plans of the FAPI profiles, with the profile plain_fapi.
func fapiPlans() []plan {
	var all []plan
	add := func(label, name string, pairs ...string) {
		variant := map[string]string{"fapi_profile": "plain_fapi"}
		for i := 0; i < len(pairs); i += 2 {
			variant[pairs[i]] = pairs[i+1]
		}
		all = append(all, plan{Label: label, Name: name, Variant: variant})
	}
	const (
		securityProfile = "fapi2-security-profile-final-test-plan"
		messageSigning  = "fapi2-message-signing-final-test-plan"
	)
	methods, constraints := []string{"private_key_jwt", "mtls"}, []string{"dpop", "mtls"}
	for _, method := range methods {
		for _, constraint := range constraints {
			for _, openid := range []string{"plain_oauth", "openid_connect"} {
				for _, request := range []string{"simple", "rar"} {
					add(dashed("fapi2-"+method+"-"+constraint+"-"+openid+"-"+request), securityProfile,
						"client_auth_type", method, "sender_constrain", constraint, "openid", openid, "authorization_request_type", request)
				}
			}
			add(dashed("fapi2-client-credentials-"+method+"-"+constraint), securityProfile,
				"fapi_profile", "fapi_client_credentials_grant", "client_auth_type", method, "sender_constrain", constraint, "openid", "plain_oauth", "authorization_request_type", "simple")
		}
	}
	for _, signing := range []string{signedRequests, "unsigned"} {
		for _, mode := range []string{"plain_response", "jarm"} {
			prefix := "fapi2-message-" + strings.TrimSuffix(signing, "_non_repudiation") + "-" + strings.TrimSuffix(mode, "_response")
			add(prefix+"-private-key-jwt-dpop", messageSigning, "fapi_request_method", signing, "fapi_response_mode", mode,
				"client_auth_type", "private_key_jwt", "sender_constrain", "dpop", "openid", "openid_connect", "authorization_request_type", "simple")
			add(prefix+"-mtls-mtls", messageSigning, "fapi_request_method", signing, "fapi_response_mode", mode,
				"client_auth_type", "mtls", "sender_constrain", "mtls", "openid", "plain_oauth", "authorization_request_type", "rar")
		}
	}
	for _, method := range methods {
		for _, request := range []string{"by_value", "pushed"} {
			for _, mode := range []string{"plain_response", "jarm"} {
				add(dashed("fapi1-"+method+"-"+request+"-"+strings.TrimSuffix(mode, "_response")), "fapi1-advanced-final-test-plan",
					"client_auth_type", method, "fapi_auth_request_method", request, "fapi_response_mode", mode)
			}
		}
	}
	return all
}

// fapi reports whether the plan is one of fapiPlans.
func (p *plan) fapi() bool { return strings.HasPrefix(p.Name, "fapi") }

func (p *plan) isFAPI1() bool { return strings.HasPrefix(p.Name, "fapi1-") }

// withOpenID reports whether the clients of a FAPI plan request ID tokens.
func (p *plan) withOpenID() bool {
	return p.isFAPI1() || p.isCIBA() || p.Variant["openid"] == "openid_connect"
}

// withNonces reports whether the server and the API require nonces in DPoP proofs. Both cases are
// tested: some modules send proofs that only a server without nonces refuses.
func (p *plan) withNonces() bool {
	return p.Variant["sender_constrain"] == "dpop" && p.Variant["openid"] == "openid_connect"
}

const (
	accountsScope  = "accounts"
	signedRequests = "signed_non_repudiation"
)

func (p *plan) fapiScope() string {
	if p.withOpenID() {
		return "openid " + accountsScope
	}
	return accountsScope
}

// paymentDetails is what the plans with rich authorization requests ask for.
var paymentDetails = map[string]any{"type": "payment_initiation", "amount": "123.50", "currency": "EUR", "creditor": "Merchant A"}

// profile returns the name of the profile that the clients of a FAPI plan have. It sets every rule
// but the choice between DPoP and mutual TLS.
func (p *plan) profile() string {
	switch {
	case p.isFAPI1():
		return "fapi1-advanced"
	case p.isCIBA():
		return "fapi-ciba"
	case p.Variant["fapi_request_method"] == signedRequests && p.Variant["fapi_response_mode"] == "jarm":
		return "fapi2-message-signing"
	}
	return "fapi2"
}

// fapiClients returns the two clients of a FAPI plan. They authenticate with the keys or
// certificates of keys. The certificate of the first is issued by an authority, and that of the
// second is signed by itself.
func (p *plan) fapiClients(suiteURL string) []map[string]any {
	base := suiteURL + "/test/a/" + p.alias()
	var clients []map[string]any
	for i, name := range []string{"client", "client2"} {
		c := map[string]any{
			"client_id":   p.clientID(name),
			"client_name": "Conformance " + p.Label,
			"profile":     p.profile(),
			"scope":       p.fapiScope(),
		}
		if p.withOpenID() { // a module requests every claim
			c["scope"] = p.fapiScope() + " profile email address phone"
		}
		switch {
		case p.Variant["client_auth_type"] == "private_key_jwt":
			c["token_endpoint_auth_method"] = "private_key_jwt"
		case i == 0:
			c["token_endpoint_auth_method"] = "tls_client_auth"
			c["tls_client_auth_subject_dn"] = "CN=client,O=Conformance"
		default:
			c["token_endpoint_auth_method"] = "self_signed_tls_client_auth"
		}
		if p.Variant["sender_constrain"] == "dpop" {
			c["dpop_bound_access_tokens"], c["require_dpop_nonce"] = true, p.withNonces()
		} else {
			c["tls_client_certificate_bound_access_tokens"] = true
		}
		if p.keys != nil {
			c["jwks"] = p.keys[i].publicJWKS()
		}
		switch {
		case p.Variant["fapi_profile"] == "fapi_client_credentials_grant":
			c["grant_types"] = []string{"client_credentials"}
		case p.isCIBA():
			p.cibaClient(c, base)
		default:
			p.codeClient(c, base)
		}
		clients = append(clients, c)
	}
	return clients
}

// codeClient adds what the clients of the plans with the authorization endpoint need.
func (p *plan) codeClient(c map[string]any, base string) {
	c["redirect_uris"] = []string{base + "/callback", base + "/callback?dummy1=lorem&dummy2=ipsum"}
	c["grant_types"], c["response_types"] = []string{"authorization_code", "refresh_token"}, []string{"code"}
	if p.isFAPI1() && p.Variant["fapi_response_mode"] == "plain_response" {
		c["grant_types"], c["response_types"] = []string{"authorization_code", "implicit", "refresh_token"}, []string{"code id_token"}
	}
	if p.Variant["fapi_request_method"] == signedRequests {
		c["require_signed_request_object"] = true
	}
	if p.Variant["fapi_auth_request_method"] == "pushed" {
		c["require_pushed_authorization_requests"] = true
	}
	if p.Variant["authorization_request_type"] == "rar" {
		c["authorization_details_types"] = []string{"payment_initiation"}
	}
}

// fapiConfiguration returns the configuration of a FAPI plan in the suite.
func (p *plan) fapiConfiguration(issuer, api string) map[string]any {
	metadata := "openid-configuration"
	if !p.withOpenID() {
		metadata = "oauth-authorization-server"
	}
	resource := api + accountsPath
	if p.withNonces() {
		resource = api + noncePath
	}
	c := map[string]any{
		"alias": p.alias(), "description": "Valetkey, " + p.Label, "publish": "no",
		"server": map[string]any{
			"discoveryUrl": fmt.Sprintf("%s/.well-known/%s", issuer, metadata), "allow_unexpected_metadata_fields": unknownMetadata(),
		},
		"resource": map[string]any{"resourceUrl": resource, "richAuthorizationRequest": []any{paymentDetails}},
	}
	for i, name := range []string{"client", "client2"} {
		suffix := strings.TrimPrefix(name, "client")
		c[name] = map[string]any{
			"client_id": p.clientID(name), "scope": p.fapiScope(), "jwks": p.keys[i].privateJWKS(),
			"dpop_signing_alg": []string{"PS256", "ES256"}[i],
		}
		c["mtls"+suffix] = map[string]any{"cert": p.keys[i].certificatePEM(), "key": p.keys[i].keyPEM()}
		if p.isCIBA() {
			maps.Copy(c[name].(map[string]any), map[string]any{"hint_type": "login_hint", "hint_value": "ada", "acr_value": "1"})
		}
	}
	if p.isCIBA() {
		c["automated_ciba_approval_url"] = api + approvePath + p.Label + "?action={action}&auth_req_id={auth_req_id}"
	}
	return c
}
