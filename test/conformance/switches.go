package main

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// The switches of the registration in the server's configuration. Those of "outgoing" let
// the server reach a suite on this machine, and change nothing else.
var registrationSwitch = regexp.MustCompile(`, (insecure_[a-z_]+): true`)

// serverConfiguration is the server's configuration for the plans, which are all with or all
// without switches.
func serverConfiguration(all []plan) string {
	if len(all) > 0 && all[0].WithoutSwitches {
		return registrationSwitch.ReplaceAllString(configurationFile, "")
	}
	return configurationFile
}

// switches are the names of the insecure_… settings that the plan's clients have.
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
