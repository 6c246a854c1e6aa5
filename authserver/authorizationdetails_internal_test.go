package authserver

import (
	"encoding/json"
	"net/http/httptest"
	"testing"

	"github.com/valetkey/valetkey/storage/record"
)

// Objects that are accepted have a declared type and match its schema, as encoding/json reads them.
// Each object is no wider than itself, and an object that is narrower than another stays so when it
// is encoded again.
func FuzzAuthorizationDetails(f *testing.F) {
	for _, seed := range [][2]string{
		{`[{"type":"payment","amount":"1.00","actions":["read"]}]`, `[{"type":"payment","amount":"1.00","actions":["read","write"]}]`},
		{`[{"type":"payment","amount":"1.00","amount":"2.00"}]`, `[]`},
		{`[{"type":"other"}]`, `{"type":"payment"}`},
		{`[{"type":"payment","amount":1e999}]`, `[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]`},
		{`[{"type":"payment","amount":"\ud800"}]`, `[{"type":"payment","Amount":"1.00"}]`},
		{`[{"type":"payment","amount":"1.00"} ]`, ` [ { "type" : "payment" } ] `},
	} {
		f.Add(seed[0], seed[1])
	}
	types, err := newAuthorizationDetailsTypes([]AuthorizationDetailsType{{
		Type: "payment", Consent: "Pay {{.amount}}",
		Schema: json.RawMessage(`{"type": "object", "additionalProperties": false, "required": ["amount"], "properties": {
			"amount": {"type": "string", "maxLength": 20}, "actions": {"type": "array", "items": {"type": "string"}, "maxItems": 4}
		}}`),
	}})
	if err != nil {
		f.Fatal(err)
	}
	cl := &client{Client: &record.Client{ID: "app"}}
	cl.AuthorizationDetailsTypes = []string{"payment"}
	read := func(text string) []json.RawMessage {
		c := &call{s: &Server{detailsTypes: types}, r: httptest.NewRequest("GET", "/", nil)}
		c.params = params{{name: "authorization_details", value: text}}
		details, err := c.authorizationDetails(cl)
		if err != nil {
			return nil
		}
		return details
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		first, second := read(one), read(two)
		if len(first) > maxAuthorizationDetails {
			t.Fatalf("%d objects", len(first))
		}
		for _, a := range first {
			var object struct {
				Type    string
				Amount  *string
				Actions []string
			}
			if err := json.Unmarshal(a, &object); err != nil || object.Type != "payment" || object.Amount == nil || len(object.Actions) > 4 {
				t.Fatalf("%s is accepted: %v", a, err)
			}
			if !narrower(a, a) {
				t.Errorf("%s is wider than itself", a)
			}
			again, err := json.Marshal(a)
			if err != nil || !narrower(again, a) || !narrower(a, again) {
				t.Errorf("%s changes when it is encoded again: %s, %v", a, again, err)
			}
			for _, b := range second {
				if !narrower(a, b) {
					continue
				}
				if narrower(b, a) && len(object.Actions) == 0 && string(canonical(t, a)) != string(canonical(t, b)) {
					t.Errorf("%s and %s are each narrower than the other", a, b)
				}
			}
		}
	})
}

// canonical encodes an object with its members in order.
func canonical(t *testing.T, detail json.RawMessage) []byte {
	t.Helper()
	object, err := readDetail(detail)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}
