package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

func TestOtherClaims(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, nil)
	// The registry is another claims provider, on the same host in this test.
	registryKey := newKey(t)
	p.handlers["/registry/jwks"] = func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"keys": []any{publicJWK(registryKey, "r")}})
	}
	registry, err := client.New(
		oauth.ServerMetadata{Issuer: p.issuer + "/registry", JWKSURI: p.issuer + "/registry/jwks"},
		client.Config{Issuer: p.issuer + "/registry", ClientID: "any", HTTPClient: p.http})
	if err != nil {
		t.Fatal(err)
	}
	byRegistry := func(claims map[string]any) string {
		claims["iss"] = p.issuer + "/registry"
		return signES256(t, registryKey, map[string]any{"alg": "ES256", "kid": "r"}, claims)
	}
	p.handlers["/claims"] = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer theirs" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/jwt")
		fmt.Fprint(w, byRegistry(map[string]any{"credit_score": 650, "email": "not@asked.example"}))
	}
	unsigned := encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(`{"address":"1 High St"}`)) + "."
	for name, test := range map[string]struct {
		source any
		want   map[string]string
		err    error
	}{
		"by the provider":           {source: map[string]any{"JWT": p.sign(map[string]any{"address": "1 High St"})}, want: map[string]string{"address": `"1 High St"`}},
		"aggregated":                {source: map[string]any{"JWT": byRegistry(map[string]any{"address": "1 High St", "credit_score": 1})}, want: map[string]string{"address": `"1 High St"`, "credit_score": "1"}},
		"distributed":               {source: map[string]any{"endpoint": p.issuer + "/claims", "access_token": "theirs"}, want: map[string]string{"credit_score": "650"}},
		"with another token":        {source: map[string]any{"endpoint": p.issuer + "/claims", "access_token": "other"}, err: client.ErrResponse},
		"token with a line break":   {source: map[string]any{"endpoint": p.issuer + "/claims", "access_token": "a\r\nX: 1"}, err: client.ErrResponse},
		"endpoint unencrypted":      {source: map[string]any{"endpoint": "http://claims.example/"}, err: client.ErrResponse},
		"endpoint with a password":  {source: map[string]any{"endpoint": "https://a:b@claims.example/"}, err: client.ErrResponse},
		"endpoint that is a script": {source: map[string]any{"endpoint": "javascript:alert(1)"}, err: client.ErrResponse},
		"nothing":                   {source: map[string]any{}, err: client.ErrResponse},
		"unsigned":                  {source: map[string]any{"JWT": unsigned}, err: client.ErrResponse},
		"expired":                   {source: map[string]any{"JWT": byRegistry(map[string]any{"address": "x", "exp": time.Now().Add(-time.Hour).Unix()})}, err: client.ErrResponse},
		"by an untrusted issuer":    {source: map[string]any{"JWT": p.sign(map[string]any{"iss": "https://evil.example", "address": "x"})}, err: client.ErrResponse},
		"signed by another issuer":  {source: map[string]any{"JWT": p.sign(map[string]any{"iss": p.issuer + "/registry", "address": "x"})}, err: client.ErrResponse},
		"an access token":           {source: map[string]any{"JWT": signES256(t, p.key, map[string]any{"alg": "ES256", "kid": p.kid, "typ": "at+jwt"}, map[string]any{"address": "x"})}, err: client.ErrResponse},
	} {
		t.Run(name, func(t *testing.T) {
			claims := mustJSON(t, map[string]any{
				"sub": "alice", "_claim_names": map[string]any{"address": "src", "credit_score": "src", "email": "elsewhere"},
				"_claim_sources": map[string]any{"src": test.source},
			})
			got, err := c.OtherClaims(t.Context(), claims, registry)
			if !errors.Is(err, test.err) {
				t.Errorf("error is %v, want %v", err, test.err)
			}
			found := map[string]string{}
			for name, value := range got {
				found[name] = string(value)
			}
			if diff := cmp.Diff(test.want, found); diff != "" && len(found)+len(test.want) > 0 {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
			if err != nil && strings.Contains(err.Error(), "theirs") {
				t.Errorf("the error contains a token: %v", err)
			}
		})
	}
	// The registry is accepted only if it is trusted.
	alone := mustJSON(t, map[string]any{
		"_claim_names":   map[string]any{"address": "a", "phone_number": "b"},
		"_claim_sources": map[string]any{"a": map[string]any{"JWT": byRegistry(map[string]any{"address": "x"})}, "b": map[string]any{"JWT": p.sign(map[string]any{"phone_number": "1"})}},
	})
	if got, err := c.OtherClaims(t.Context(), alone); !errors.Is(err, client.ErrResponse) || len(got) != 1 || got["phone_number"] == nil {
		t.Errorf("without trust: %v, %v", maps.Collect(maps.All(got)), err)
	}
}

func TestOtherClaimsAreLimited(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, nil)
	sources := map[string]any{}
	for i := range 11 {
		sources[fmt.Sprint(i)] = map[string]any{"endpoint": p.issuer + "/claims"}
	}
	for _, claims := range []json.RawMessage{mustJSON(t, map[string]any{"_claim_sources": sources}), json.RawMessage(`[]`), json.RawMessage(`{"_claim_names":[]}`)} {
		if _, err := c.OtherClaims(t.Context(), claims); !errors.Is(err, client.ErrResponse) {
			t.Errorf("%s: %v", claims, err)
		}
	}
	if p.count("/claims") != 0 {
		t.Error("requests were sent to the endpoints")
	}
	if got, err := c.OtherClaims(t.Context(), json.RawMessage(`{"sub":"alice"}`)); err != nil || len(got) != 0 {
		t.Errorf("without claim sources: %v, %v", got, err)
	}
}
