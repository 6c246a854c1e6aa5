package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// plan is a test plan of the suite with a choice of variants.
type plan struct {
	// Label is the plan's name here, and its alias at the suite.
	Label   string
	Name    string
	Variant map[string]string
	// WithoutSwitches runs the plan without the insecure_… switches.
	WithoutSwitches bool
	// keys are those of the clients of a FAPI plan.
	keys []clientKey
}

const certification = "-certification-test-plan"

var responseTypes = []string{"code", "id_token", "id_token token", "code id_token", "code token", "code id_token token"}

// plans returns the plans that the server must pass.
func plans() []plan {
	var all []plan
	add := func(label, name string, variant map[string]string) {
		all = append(all, plan{Label: label, Name: name, Variant: variant})
	}
	discovery := func(more ...string) map[string]string {
		v := map[string]string{"server_metadata": "discovery"}
		for i := 0; i < len(more); i += 2 {
			v[more[i]] = more[i+1]
		}
		return v
	}
	for _, registration := range []string{"static_client", "dynamic_client"} {
		short := strings.TrimSuffix(registration, "_client")
		for _, name := range []string{"basic", "implicit", "hybrid", "formpost-basic", "formpost-implicit", "formpost-hybrid"} {
			add(name+"-"+short, "oidcc-"+name+certification, discovery("client_registration", registration))
		}
		for _, name := range []string{"rp-initiated-logout", "session-management", "frontchannel-rp-initiated-logout", "backchannel-rp-initiated-logout"} {
			add(name+"-"+short, "oidcc-"+name+certification, map[string]string{"client_registration": registration, "response_type": "code"})
		}
	}
	add("3rdparty-init-login", "oidcc-3rdparty-init-login"+certification, map[string]string{"response_type": "code"})
	add("config", "oidcc-config"+certification, nil)
	for _, t := range responseTypes {
		add("dynamic-"+dashed(t), "oidcc-dynamic"+certification, map[string]string{"response_type": t})
	}
	for _, method := range []string{"client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt"} {
		add("all-"+dashed(method), "oidcc-test-plan", testPlan("client_auth_type", method))
	}
	// The suite sends no code challenge, so a public client cannot get a code.
	none := testPlan("client_auth_type", "none")
	none["response_type"] = "id_token token"
	add("all-none", "oidcc-test-plan", none)
	for _, t := range responseTypes[1:] {
		add("all-"+dashed(t), "oidcc-test-plan", testPlan("response_type", t))
	}
	add("all-form-post", "oidcc-test-plan", testPlan("response_mode", "form_post"))
	return slices.Concat(all, fapiPlans(), cibaPlans())
}

func testPlan(name, value string) map[string]string {
	v := map[string]string{
		"client_registration": "dynamic_client", "client_auth_type": "client_secret_basic",
		"response_type": "code", "response_mode": "default",
	}
	v[name] = value
	return v
}

func dashed(s string) string { return strings.NewReplacer(" ", "-", "_", "-").Replace(s) }

func (p *plan) static() bool {
	return p.fapi() || p.Variant["client_registration"] == "static_client"
}

// frames reports whether the plan needs a browser with frames and scripts.
func (p *plan) frames() bool {
	return strings.HasPrefix(p.Label, "session") || strings.HasPrefix(p.Label, "frontchannel")
}

// staticClients returns the clients that the server's configuration declares for a plan.
func (p *plan) staticClients(suiteURL string) []map[string]any {
	switch {
	case p.fapi():
		return p.fapiClients(suiteURL)
	case !p.static():
		return nil
	}
	base := suiteURL + "/test/a/" + p.alias()
	var clients []map[string]any
	for _, name := range []string{"client", "client2", "client_secret_post"} {
		method := "client_secret_basic"
		if name == "client_secret_post" {
			method = "client_secret_post"
		}
		c := map[string]any{
			"client_id": p.clientID(name), "client_secret": p.secret(name), "token_endpoint_auth_method": method,
			"client_name":                  "Conformance " + p.Label,
			"redirect_uris":                []string{base + "/callback", base + "/callback?dummy1=lorem&dummy2=ipsum"},
			"post_logout_redirect_uris":    []string{base + "/post_logout_redirect"},
			"grant_types":                  []string{"authorization_code", "implicit", "refresh_token"},
			"response_types":               responseTypes,
			"scope":                        "openid profile email address phone offline_access",
			"id_token_signed_response_alg": "RS256", "request_object_signing_alg": "none",
			"insecure_no_code_challenge": true,
			"initiate_login_uri":         base + "/third_party_initiated_login_url",
		}
		if strings.HasPrefix(p.Label, "backchannel") {
			c["backchannel_logout_uri"], c["backchannel_logout_session_required"] = base+"/backchannel_logout", true
		}
		if strings.HasPrefix(p.Label, "frontchannel") {
			c["frontchannel_logout_uri"], c["frontchannel_logout_session_required"] = base+"/frontchannel_logout", true
		}
		if p.WithoutSwitches {
			maps.DeleteFunc(c, func(name string, _ any) bool { return strings.HasPrefix(name, "insecure_") })
		}
		clients = append(clients, c)
	}
	return clients
}

func (p *plan) alias() string { return "valetkey-" + p.Label }
func (p *plan) clientID(name string) string {
	return p.Label + "-" + strings.ReplaceAll(name, "_", "-")
}
func (p *plan) secret(name string) string {
	return fmt.Sprintf("%s-conformance-secret-0123456789", p.clientID(name))
}

// configuration returns the plan's configuration in the suite. api is the URL of the API that
// FAPI plans call.
func (p *plan) configuration(issuer, api string) map[string]any {
	if p.fapi() {
		return p.fapiConfiguration(issuer, api)
	}
	c := map[string]any{
		"alias": p.alias(), "description": "Valetkey, " + p.Label, "publish": "no",
		"server": map[string]any{
			"discoveryUrl": issuer + "/.well-known/openid-configuration", "login_hint": "ada", "allow_unexpected_metadata_fields": unknownMetadata(),
		},
	}
	for _, name := range []string{"client", "client2", "client_secret_post"} {
		if p.static() {
			c[name] = map[string]any{"client_id": p.clientID(name), "client_secret": p.secret(name)}
		} else if name != "client_secret_post" {
			c[name] = map[string]any{"client_name": "Conformance " + p.Label}
		}
	}
	return c
}

// unknownMetadata returns the members of the metadata that the suite does not know: those of drafts.
func unknownMetadata() []string { return []string{"refresh_token_expiration_types_supported"} }

// find returns the plans that --plan selects; all of them for "".
func find(asked string) []plan {
	if asked == "" {
		return plans()
	}
	return slices.DeleteFunc(plans(), func(p plan) bool {
		return !slices.ContainsFunc(strings.Split(asked, ","), func(a string) bool {
			return p.Label == a || p.Name == a || strings.HasSuffix(a, "*") && strings.HasPrefix(p.Label, strings.TrimSuffix(a, "*"))
		})
	})
}
