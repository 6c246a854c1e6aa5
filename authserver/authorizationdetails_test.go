package authserver_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

const accountSchema = `{"type": "object", "additionalProperties": false, "properties": {
	"actions": {"type": "array", "items": {"type": "string"}}, "locations": {"type": "array", "items": {"type": "string"}},
	"iban": {"type": "string"}, "limit": {"type": "number"}, "more": {}}}`

// detailsScene has a client that may request details of the type account.
func detailsScene(t *testing.T, change ...func(*record.Client)) *scene {
	return newScene(t, scriptSetup{
		Clients: []testClient{confidential("bank", append(change, func(c *record.Client) {
			c.AuthorizationDetailsTypes = []string{"account"}
			c.GrantTypes = append(c.GrantTypes, oauth.GrantTypeDeviceCode)
		})...)},
		AuthorizationDetailsTypes: []authserver.AuthorizationDetailsType{{
			Type: "account", Schema: json.RawMessage(accountSchema), Consent: "Account {{.iban}}{{if .limit}} up to {{.limit}}{{end}}",
		}},
	})
}

func TestRA04_DeepAndHugeDetailsAreRefusedQuickly(t *testing.T) {
	s := detailsScene(t)
	for name, details := range map[string]string{
		"deep":      `[{"type":"account","more":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}]`,
		"too deep":  `[{"type":"account","more":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}]`,
		"huge":      `[{"type":"account","more":"` + strings.Repeat("x", 1<<20) + `"}]`,
		"many":      "[" + strings.Repeat(`{"type":"account"},`, 16) + `{"type":"account"}]`,
		"none":      "[]",
		"a string":  `"account"`,
		"no type":   `[{"iban":"x"}]`,
		"type list": `[{"type":["account"]}]`,
		"null":      `[null]`,
		"trailing":  `[{"type":"account"}] x`,
	} {
		start := time.Now()
		a := s.post("/token", "bank", "grant_type", "client_credentials", "authorization_details", details)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: it took %s", name, took)
		}
		if a.status < 400 || a.status >= 500 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	s.post("/token", "bank", "grant_type", "client_credentials", "authorization_details", `[{"type":"account"}]`).want(t, http.StatusOK, "")
}

// A token request may narrow what was granted, and nothing else.
func TestRA03_DetailsCanOnlyBeNarrowed(t *testing.T) {
	const granted = `{"type":"account","actions":["read","pay"],"iban":"DE02","limit":10}`
	for requested, allowed := range map[string]bool{
		granted: true,
		`{"limit":10,"iban":"DE02","actions":["pay","read"],"type":"account"}`:                               true,
		`{"type":"account","actions":["read"],"iban":"DE02","limit":10}`:                                     true,
		`{"type":"account","actions":[],"iban":"DE02","limit":10}`:                                           false, // an empty list may mean everything
		`{"type":"account","actions":["read","delete"],"iban":"DE02","limit":10}`:                            false,
		`{"type":"account","actions":["read"],"iban":"DE02","limit":11}`:                                     false,
		`{"type":"account","actions":["read"],"iban":"DE02","limit":10.0}`:                                   false,
		`{"type":"account","actions":["read"],"iban":"DE03","limit":10}`:                                     false,
		`{"type":"account","actions":["read"],"iban":"DE02"}`:                                                false, // without a limit
		`{"type":"account","iban":"DE02","limit":10}`:                                                        false,
		`{"type":"account","actions":["read"],"iban":"DE02","limit":10,"locations":["https://example.com"]}`: false,
		`{"type":"other","actions":["read"],"iban":"DE02","limit":10}`:                                       false,
	} {
		s := detailsScene(t)
		code := s.code("ada", "bank", "authorization_details", "["+granted+"]")
		a := s.redeem("bank", code, "authorization_details", "["+requested+"]")
		if allowed && (a.status != http.StatusOK || len(a.Details) != 1) {
			t.Errorf("%s is refused: %s", requested, a.body)
		}
		if !allowed {
			a.want(t, http.StatusBadRequest, oauth.InvalidAuthorizationDetails)
		}
	}
	s := detailsScene(t)
	a := s.tokens("ada", "bank", "")
	s.refresh("bank", a.RefreshToken, "authorization_details", "["+granted+"]").want(t, http.StatusBadRequest, oauth.InvalidAuthorizationDetails)
}

func TestRegisteredClientGetsNoDetailsWithoutAUser(t *testing.T) {
	s := detailsScene(t, func(c *record.Client) { c.Registration = &record.Registration{CreatedAt: time.Now()} })
	s.post("/token", "bank", "grant_type", "client_credentials", "authorization_details", `[{"type":"account"}]`).
		want(t, http.StatusBadRequest, oauth.InvalidAuthorizationDetails)
}

// A client without a consent page leaves its details in the grant too, so that the user can see them.
func TestDetailsWithoutAConsentPageAreInTheGrant(t *testing.T) {
	s := detailsScene(t, func(c *record.Client) { c.SkipConsent = true })
	s.code("ada", "bank")
	s.code("ada", "bank", "authorization_details", `[{"type":"account","iban":"DE02"}]`)
	grant, err := s.store.Grant(t.Context(), "ada", "bank")
	if err != nil || len(grant.Details.Latest) != 1 || string(grant.Details.Latest[0].Detail) != `{"type":"account","iban":"DE02"}` {
		t.Errorf("the grant has %+v, %v", grant, err)
	}
}

// The device's details are on the consent page, and in the tokens of the device.
func TestDetailsOfADevice(t *testing.T) {
	s := detailsScene(t)
	s.post("/device_authorization", "bank", "authorization_details", `[{"type":"loan"}]`).want(t, http.StatusBadRequest, oauth.InvalidAuthorizationDetails)
	a := s.post("/device_authorization", "bank", "authorization_details", `[{"type":"account","iban":"DE02","limit":1000000}]`)
	var codes oauth.DeviceAuthorizationResponse
	if err := json.Unmarshal([]byte(a.body), &codes); err != nil {
		t.Fatal(err)
	}
	s.approve(codes.UserCode, func(shown *authserver.Interaction) {
		if details := shown.AuthorizationDetails; len(details) != 1 || details[0].Text != "Account DE02 up to 1000000" {
			t.Errorf("the consent page shows %q", details)
		}
	})
	a = s.post("/token", "bank", "grant_type", oauth.GrantTypeDeviceCode, "device_code", codes.DeviceCode)
	a.want(t, http.StatusOK, "")
	if len(a.Details) != 1 || string(a.Details[0]) != `{"type":"account","iban":"DE02","limit":1000000}` {
		t.Errorf("the token has %s", a.Details)
	}
}

func TestAuthorizationDetailsTypesAreChecked(t *testing.T) {
	for schema, want := range map[string]string{
		`{"type": "object"}`:                                                         "additionalProperties: false",
		`{"additionalProperties": true}`:                                             "additionalProperties: false",
		`{"additionalProperties": {"not": {"type": "string"}}}`:                      "additionalProperties: false",
		`{"additionalProperties": false, "properties": {"a": {"pattern": "("}}}`:     "schema",
		`{"additionalProperties": false, "$ref": "https://example.com/schema.json"}`: "schema",
		`[]`: "schema",
		`{"additionalProperties": false, "properties": {"a": {"type": "string"}}}`:      "",
		`{"unevaluatedProperties": false, "allOf": [{"properties": {"a": {}}}]}`:        "",
		`{"additionalProperties": false, "properties": {"type": {"const": "account"}}}`: "",
	} {
		declared := authserver.AuthorizationDetailsType{Type: "account", Schema: json.RawMessage(schema), Consent: "x"}
		switch err := declared.Check(); {
		case want == "" && err != nil:
			t.Errorf("%s: %v", schema, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: the error is %v, want one with %q", schema, err, want)
		}
	}
	declared := authserver.AuthorizationDetailsType{Type: "account", Schema: json.RawMessage(accountSchema), Consent: "{{.iban"}
	if err := declared.Check(); err == nil || !strings.Contains(err.Error(), "consent") {
		t.Errorf("a broken template: %v", err)
	}
}
