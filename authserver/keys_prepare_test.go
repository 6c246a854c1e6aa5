package authserver_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth"
)

// A client that keeps the JWKS for its max-age can verify whatever the metadata offer.
func TestEveryOfferedAlgorithmHasAPublishedKey(t *testing.T) {
	s := newScene(t, scriptSetup{})
	if err := s.server.PrepareKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	get := func(path string, into any) {
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, scriptIssuer+path, nil))
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatal(err)
		}
	}
	var metadata oauth.ServerMetadata
	get(oauth.WellKnownOpenIDConfiguration, &metadata)
	var jwks struct {
		Keys []struct {
			Algorithm string `json:"alg"`
		} `json:"keys"`
	}
	get("/jwks", &jwks)
	var published []string
	for _, key := range jwks.Keys {
		published = append(published, key.Algorithm)
	}
	for _, alg := range metadata.IDTokenSigningAlgValuesSupported {
		switch alg {
		case "RS384", "RS512", "PS384", "PS512": // made at their first use
			continue
		case "none":
			continue
		}
		if !strings.HasPrefix(alg, "HS") && !slices.Contains(published, alg) {
			t.Errorf("%s is offered, and its key is not published: %q", alg, published)
		}
	}
}
