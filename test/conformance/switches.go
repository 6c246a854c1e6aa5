package main

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// registrationSwitch matches the switches of the registration in the server's configuration.
// The settings of "outgoing" only let the server reach a suite on this machine.
var registrationSwitch = regexp.MustCompile(`, (insecure_[a-z_]+): true`)

// serverConfiguration returns the server's configuration for a run. Either all of its plans
// have switches, or none has.
func serverConfiguration(all []plan) string {
	if len(all) > 0 && all[0].WithoutSwitches {
		return registrationSwitch.ReplaceAllString(configurationFile, "")
	}
	return configurationFile
}

// switches returns the names of the insecure_… settings of the plan's clients.
func (p *plan) switches() []string {
	names := map[string]bool{}
	for _, client := range p.staticClients("") {
		for name, value := range client {
			if strings.HasPrefix(name, "insecure_") && value == true {
				names[name] = true
			}
		}
	}
	if !p.static() {
		for _, found := range registrationSwitch.FindAllStringSubmatch(serverConfiguration([]plan{*p}), -1) {
			names[found[1]] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// withoutSwitches is part of the label of a plan that ran without switches.
const withoutSwitches = "-without-switches"

// refused returns what the default settings refuse if that is why a module failed, or "".
func (p *plan) refused(ended result) string {
	if !p.WithoutSwitches || ended.Result != "FAILED" {
		return ""
	}
	because := func(reason string) bool {
		return slices.ContainsFunc(ended.Reasons, func(r string) bool { return strings.Contains(r, reason) })
	}
	switch {
	case ended.Module == "oidcc-ensure-request-without-nonce-succeeds-for-code-flow" && (because("CheckIfAuthorizationEndpointError") || because(errorPage+"/authorize")):
		return "`insecure_no_code_challenge`: an authorization request for a code needs a code challenge (PKCE), or a nonce if the client is confidential (RFC 9700, section 2.1.1). The module sends neither."
	case strings.HasSuffix(ended.Variant["client_auth_type"], "_jwt") && because("CheckTokenEndpointHttpStatus200"):
		return "`insecure_assertion_audience`: the audience of a client assertion must be the issuer (RFC 7523, section 3, as updated by RFC 10070). The module sends the URL of the token endpoint."
	case !p.static() && because(errorPage+"/authorize"):
		return "`insecure_error_redirects`: an error is shown as a page, not sent to a client that registered itself, until the end user has done something in the request (RFC 9700, section 4.11.2). The module expects a redirect."
	}
	return ""
}
