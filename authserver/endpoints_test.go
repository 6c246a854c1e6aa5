package authserver_test

import (
	"slices"
	"testing"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/storage/record"
)

// allowed_origins are compared with the Origin header character by character, so they must be
// written as browsers send them.
func TestAllowedOriginsAreSerializedOrigins(t *testing.T) {
	for origin, want := range map[string]bool{
		"https://app.example.com": true, "https://app.example.com:8443": true, "http://localhost:5173": true,
		"capacitor://localhost": true, "ionic://localhost": true, "tauri://localhost": true, "app://bundle": true,
		"chrome-extension://abcdefghijklmnop": true, "moz-extension://6f1b5c0e-0000-4000-8000-000000000000": true,
		"https://app.example.com/": false, "https://app.example.com:443": false, "https://App.example.com": false,
		"https://user@app.example.com": false, "null": false, "*": false, "": false, "file://": false, "file://localhost": false,
		"data://x": false, "javascript://x": false, "blob://x": false, "about://blank": false, "capacitor://": false, "capacitor:localhost": false,
		"Capacitor://localhost": false,
	} {
		problems := authserver.CheckClient(confidential("app", func(c *record.Client) { c.AllowedOrigins = []string{origin} }).Client)
		accepted := !slices.ContainsFunc(problems, func(p authserver.ClientProblem) bool { return p.Member == "allowed_origins[0]" })
		if accepted != want {
			t.Errorf("%q: accepted %v, want %v (%v)", origin, accepted, want, problems)
		}
	}
}
