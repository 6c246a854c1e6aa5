package oauth_test

import (
	"testing"

	"github.com/valetkey/valetkey/oauth"
)

func TestConfirmationRequiresEveryKey(t *testing.T) {
	both := oauth.Confirmation{JWKThumbprint: "k", CertificateThumbprint: "c"}
	for name, test := range map[string]struct {
		token  *oauth.Confirmation
		proven oauth.Confirmation
		want   bool
	}{
		"bearer token":                  {nil, oauth.Confirmation{}, true},
		"bearer token with a proof":     {nil, both, true},
		"unknown confirmation":          {&oauth.Confirmation{}, both, false},
		"key proven":                    {&oauth.Confirmation{JWKThumbprint: "k"}, oauth.Confirmation{JWKThumbprint: "k"}, true},
		"another key":                   {&oauth.Confirmation{JWKThumbprint: "k"}, oauth.Confirmation{JWKThumbprint: "l"}, false},
		"nothing proven":                {&oauth.Confirmation{JWKThumbprint: "k"}, oauth.Confirmation{}, false},
		"certificate instead of key":    {&oauth.Confirmation{JWKThumbprint: "k"}, oauth.Confirmation{CertificateThumbprint: "k"}, false},
		"certificate proven":            {&oauth.Confirmation{CertificateThumbprint: "c"}, oauth.Confirmation{CertificateThumbprint: "c"}, true},
		"both required, one is missing": {&both, oauth.Confirmation{JWKThumbprint: "k"}, false},
		"both required, both proven":    {&both, both, true},
	} {
		if got := test.token.ProvenBy(test.proven); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
