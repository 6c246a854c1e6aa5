package cookiename_test

import (
	"strings"
	"testing"

	"github.com/valetkey/valetkey/internal/cookiename"
)

// The names never change: an upgrade would sign everyone out.
func TestNamesStay(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://id.example.com":                             "__Host-valetkey_session_3d38e146cf9f",
		"http://127.0.0.1:8080":                              "valetkey_session_d30a576c0318",
		"https://id.example.com/" + strings.Repeat("x", 500): "__Host-valetkey_session_46c7e80141a8",
	} {
		if got := cookiename.Of(issuer, "valetkey_session"); got != want {
			t.Errorf("the cookie of %.40q is %q, want %q", issuer, got, want)
		}
	}
}
