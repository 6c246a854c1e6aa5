package oauth

import "testing"

func TestResponseTypes(t *testing.T) {
	for _, name := range ResponseTypes() {
		if parsed, ok := ParseResponseType(name); !ok || parsed.String() != name {
			t.Errorf("%q parses as %q, %v", name, parsed, ok)
		}
	}
	for spelling, want := range map[string]string{
		"token id_token": "id_token token", "id_token code": "code id_token", "token code id_token": "code id_token token",
	} {
		if parsed, ok := ParseResponseType(spelling); !ok || parsed.String() != want {
			t.Errorf("%q parses as %q, %v", spelling, parsed, ok)
		}
	}
	for _, bad := range []string{"", " ", "none", "code code", "code  token", "Code", "code,token", "code token ", "device"} {
		if parsed, ok := ParseResponseType(bad); ok {
			t.Errorf("%q parses as %q", bad, parsed)
		}
	}
	m := ClientMetadata{ResponseTypes: []string{"token id_token"}}
	if !m.HasResponseType(ResponseType{IDToken: true, Token: true}) || m.HasResponseType(ResponseType{IDToken: true}) || m.HasResponseType(ResponseType{}) {
		t.Error("a client has response types that it is not registered for")
	}
}
