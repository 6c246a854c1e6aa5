package authserver_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/memory"
)

func TestJW25_MappingsToProtocolClaimsAreRefused(t *testing.T) {
	base := newScene(t, scriptSetup{}).config
	for _, name := range append(slices.Clone(oauth.ProtocolClaims), "", "iss#de", "_claim_sources") {
		config := base
		config.Claims.Mappings = []authserver.ClaimMapping{{Name: name, From: "nickname"}}
		if _, err := authserver.New(config); err == nil {
			t.Errorf("a mapping to %q is accepted", name)
		}
		config = base
		config.Claims.Sources = []authserver.ClaimSource{{Name: "bank", Claims: []string{name}, JWTFrom: "bank_jwt"}}
		if _, err := authserver.New(config); err == nil {
			t.Errorf("a source of %q is accepted", name)
		}
	}
	for _, source := range []authserver.ClaimSource{
		{Name: "bank", Claims: []string{"score"}},
		{Name: "bank", Claims: []string{"score"}, Endpoint: "https://bank.example"},
		{Name: "bank", Claims: []string{"score"}, Endpoint: "http://bank.example", AccessTokenFrom: "token"},
		{Name: "bank", Claims: []string{"score"}, JWTFrom: "jwt", Endpoint: "https://bank.example", AccessTokenFrom: "token"},
		{Name: "bank", JWTFrom: "jwt"},
		{Claims: []string{"score"}, JWTFrom: "jwt"},
	} {
		if source.Check() == nil {
			t.Errorf("%+v is accepted", source)
		}
	}
}

func TestClaimTypesSupportedListsTheSources(t *testing.T) {
	bank := authserver.ClaimSource{Name: "bank", Claims: []string{"score"}, Endpoint: "https://bank.example", AccessTokenFrom: "token"}
	registry := authserver.ClaimSource{Name: "registry", Claims: []string{"degree"}, JWTFrom: "jwt"}
	for _, test := range []struct {
		sources []authserver.ClaimSource
		types   []string
	}{
		{nil, []string{"normal"}},
		{[]authserver.ClaimSource{registry}, []string{"normal", "aggregated"}},
		{[]authserver.ClaimSource{bank, registry}, []string{"normal", "aggregated", "distributed"}},
	} {
		s := newSceneOn(t, scriptSetup{}, memory.New(), func(c *authserver.Config) { c.Claims.Sources = test.sources })
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, scriptIssuer+oauth.WellKnownOpenIDConfiguration, nil))
		var m oauth.ServerMetadata
		if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.types, m.ClaimTypesSupported); diff != "" {
			t.Error(diff)
		}
		for _, source := range test.sources {
			if !slices.Contains(m.ClaimsSupported, source.Claims[0]) {
				t.Errorf("%s is not among %q", source.Claims[0], m.ClaimsSupported)
			}
		}
	}
}
