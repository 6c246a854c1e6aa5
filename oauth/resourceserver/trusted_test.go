package resourceserver

import (
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// world is a network of authorization servers, by host.
type world map[string]http.Handler

func (w world) RoundTrip(r *http.Request) (*http.Response, error) {
	handler := w[r.URL.Host]
	if handler == nil {
		handler = http.NotFoundHandler()
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}

// vendor is the server of another vendor, which signs with RS256 and its own typ.
type vendor struct {
	issuer, host string
	jwksPath     string
	signer       *jose.Signer
}

var vendorKey = func() *jose.Signer {
	key, err := jose.GenerateKey(jose.RS256)
	if err != nil {
		panic(err)
	}
	signer, err := jose.NewSigner(jose.RS256, "vendor", key)
	if err != nil {
		panic(err)
	}
	return signer
}()

func (v vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == v.jwksPath {
		// One bad key must not make the others unusable.
		public, _ := json.Marshal(v.signer.Public())
		writeJSON(w, map[string]any{"keys": []any{json.RawMessage(public), map[string]any{"kty": "oct", "k": "AA"}, "odd"}})
		return
	}
	if "https://"+r.Host+r.URL.Path == stripped(v.issuer)+oauth.WellKnownOpenIDConfiguration {
		writeJSON(w, oauth.ServerMetadata{Issuer: v.issuer, JWKSURI: "https://" + v.host + v.jwksPath})
		return
	}
	http.NotFound(w, r)
}

func stripped(s string) string {
	if s[len(s)-1] == '/' {
		return s[:len(s)-1]
	}
	return s
}

const (
	entraTenant = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
	entraAPI    = "00001111-aaaa-2222-bbbb-3333cccc4444"
)

// otherServers are servers whose tokens differ from RFC 9068, each with the configuration that
// accepts its access tokens, one of its access tokens, and an ID token. The claims are from
// the vendors' documentation.
var otherServers = map[string]struct {
	vendor vendor
	trust  Issuer
	typ    string
	access map[string]any
	id     map[string]any
	want   Token
}{
	"Keycloak": {
		vendor: vendor{host: "sso.example.com", jwksPath: "/realms/acme/protocol/openid-connect/certs"},
		trust: Issuer{
			Issuer: "https://sso.example.com/realms/acme", Audiences: []string{"notes-api"}, ClientIDClaim: "azp",
			InsecureTypes: []string{"JWT"},
		},
		typ: "JWT",
		access: map[string]any{
			"jti": "onrtac:312ee6", "aud": []string{"notes-api", "account"}, "sub": "f3a1", "typ": "Bearer", "azp": "web", "sid": "5b0c", "acr": "1",
			"allowed-origins": []string{"https://app.example.com"}, "realm_access": map[string]any{"roles": []string{"offline_access"}},
			"resource_access": map[string]any{"account": map[string]any{"roles": []string{"view-profile"}}},
			"scope":           "openid notes.read email", "email_verified": true, "preferred_username": "alice",
		},
		id:   map[string]any{"aud": "notes-api", "sub": "f3a1", "typ": "ID", "azp": "web", "at_hash": "x", "acr": "1"},
		want: Token{Subject: "f3a1", ClientID: "web", Scope: oauth.Scope{"openid", "notes.read", "email"}, ACR: "1"},
	},
	"Keycloak without an audience mapper": {
		vendor: vendor{host: "sso.example.com", jwksPath: "/realms/acme/protocol/openid-connect/certs"},
		trust: Issuer{
			Issuer: "https://sso.example.com/realms/acme", ClientIDClaim: "azp", InsecureTypes: []string{"JWT"}, InsecureClientIDs: []string{"web"},
		},
		typ:    "JWT",
		access: map[string]any{"aud": "account", "sub": "f3a1", "typ": "Bearer", "azp": "web", "scope": "notes.read"},
		id:     map[string]any{"aud": "web", "sub": "f3a1", "typ": "ID", "azp": "web", "at_hash": "x"},
		want:   Token{Subject: "f3a1", ClientID: "web", Scope: oauth.Scope{"notes.read"}},
	},
	"Entra ID, version 1": {
		vendor: vendor{host: "login.microsoftonline.com", jwksPath: "/" + entraTenant + "/discovery/keys"},
		trust: Issuer{
			Issuer: "https://sts.windows.net/" + entraTenant + "/", JWKSURI: "https://login.microsoftonline.com/" + entraTenant + "/discovery/keys",
			Audiences: []string{"api://" + entraAPI}, ScopeClaims: []string{"scp", "roles"}, ClientIDClaim: "appid", InsecureTypes: []string{"JWT"},
		},
		typ: "JWT",
		access: map[string]any{
			"aud": "api://" + entraAPI, "nbf": 1, "acr": "1", "aio": "AXQ", "amr": []string{"pwd"}, "appid": "app-1", "appidacr": "0", "ipaddr": "203.0.113.1",
			"name": "Alice", "oid": "o1", "rh": "0.", "scp": "notes.read", "roles": []string{"Notes.Admin"}, "sub": "pair", "tid": entraTenant, "uti": "u", "ver": "1.0",
		},
		id:   map[string]any{"aud": "api://" + entraAPI, "sub": "pair", "nonce": "n", "oid": "o1", "tid": entraTenant, "ver": "1.0"},
		want: Token{Subject: "pair", ClientID: "app-1", Scope: oauth.Scope{"notes.read", "Notes.Admin"}, ACR: "1"},
	},
	"Entra ID, version 2": {
		vendor: vendor{host: "login.microsoftonline.com", jwksPath: "/" + entraTenant + "/discovery/v2.0/keys"},
		trust: Issuer{
			Issuer: "https://login.microsoftonline.com/" + entraTenant + "/v2.0", Audiences: []string{entraAPI},
			ScopeClaims: []string{"scp"}, ClientIDClaim: "azp", InsecureTypes: []string{"JWT"},
		},
		typ: "JWT",
		access: map[string]any{
			"aud": entraAPI, "nbf": 1, "aio": "ATQ", "azp": "app-1", "azpacr": "0", "name": "Alice", "oid": "o1", "preferred_username": "alice@example.com",
			"rh": "0.", "scp": "notes.read notes.write", "sub": "pair", "tid": entraTenant, "uti": "u", "ver": "2.0",
		},
		id:   map[string]any{"aud": entraAPI, "sub": "pair", "name": "Alice", "nonce": "n", "oid": "o1", "tid": entraTenant, "ver": "2.0"},
		want: Token{Subject: "pair", ClientID: "app-1", Scope: oauth.Scope{"notes.read", "notes.write"}},
	},
	"Auth0": {
		vendor: vendor{host: "acme.eu.auth0.com", jwksPath: "/.well-known/jwks.json"},
		trust:  Issuer{Issuer: "https://acme.eu.auth0.com/", ScopeClaims: []string{"permissions"}, ClientIDClaim: "azp", InsecureTypes: []string{"JWT"}},
		typ:    "JWT",
		access: map[string]any{
			"sub": "auth0|6553da60", "aud": []string{testResource, "https://acme.eu.auth0.com/userinfo"}, "azp": "K1AU", "scope": "openid profile notes.read",
			"permissions": []string{"notes.read", "notes.write"},
		},
		id:   map[string]any{"aud": testResource, "sub": "auth0|6553da60", "nonce": "n", "sid": "s"},
		want: Token{Subject: "auth0|6553da60", ClientID: "K1AU", Scope: oauth.Scope{"notes.read", "notes.write"}},
	},
	"Auth0, RFC 9068 profile": {
		vendor: vendor{host: "acme.eu.auth0.com", jwksPath: "/.well-known/jwks.json"},
		trust:  Issuer{Issuer: "https://acme.eu.auth0.com/"},
		typ:    "at+jwt",
		access: map[string]any{
			"sub": "auth0|6553da60", "aud": []string{testResource, "https://acme.eu.auth0.com/userinfo"}, "client_id": "K1AU", "jti": "j", "scope": "notes.read",
		},
		id:   map[string]any{"aud": testResource, "sub": "auth0|6553da60", "client_id": "K1AU"},
		want: Token{Subject: "auth0|6553da60", ClientID: "K1AU", Scope: oauth.Scope{"notes.read"}},
	},
	"Okta": {
		vendor: vendor{host: "acme.okta.com", jwksPath: "/oauth2/default/v1/keys"},
		trust: Issuer{
			Issuer: "https://acme.okta.com/oauth2/default", Audiences: []string{"api://default"}, ScopeClaims: []string{"scp"}, ClientIDClaim: "cid",
			InsecureTypes: []string{""},
		},
		access: map[string]any{
			"ver": 1, "jti": "AT.0mP4", "aud": "api://default", "cid": "0oab", "uid": "00ud", "scp": []string{"openid", "notes.read"}, "auth_time": 1311280970, "sub": "alice@example.com",
		},
		id:   map[string]any{"ver": 1, "jti": "ID.4eAW", "aud": "api://default", "sub": "00ud", "idp": "00o1", "nonce": "n", "at_hash": "x", "amr": []string{"pwd"}},
		want: Token{Subject: "alice@example.com", ClientID: "0oab", Scope: oauth.Scope{"openid", "notes.read"}},
	},
	"Cognito": {
		vendor: vendor{host: "cognito-idp.eu-west-1.amazonaws.com", jwksPath: "/eu-west-1_EXAMPLE/.well-known/jwks.json"},
		trust: Issuer{
			Issuer:        "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE",
			InsecureTypes: []string{""}, InsecureClientIDs: []string{"1h57"},
		},
		access: map[string]any{
			"sub": "a1b2", "device_key": "k", "cognito:groups": []string{"admin"}, "client_id": "1h57", "origin_jti": "o", "event_id": "e", "version": 2,
			"token_use": "access", "scope": "notes/read", "auth_time": 1676313851, "jti": "j", "username": "alice",
		},
		id:   map[string]any{"aud": "1h57", "sub": "a1b2", "client_id": "1h57", "token_use": "id", "at_hash": "x", "cognito:username": "alice"},
		want: Token{Subject: "a1b2", ClientID: "1h57", Scope: oauth.Scope{"notes/read"}},
	},
}

func signedBy(t *testing.T, signer *jose.Signer, typ, issuer string, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": issuer, "iat": time.Now().Unix(), "exp": time.Now().Unix() + 300}
	maps.Copy(all, claims)
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign(typ, payload)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func foreignGuard(t *testing.T, network world, config Config) *ResourceServer {
	t.Helper()
	if config.Resource == "" {
		config.Resource = testResource
	}
	config.HTTPClient, config.Logger = &http.Client{Transport: network}, slog.New(slog.NewTextHandler(io.Discard, nil))
	guard, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return guard
}

func TestTokensOfOtherServers(t *testing.T) {
	for name, test := range otherServers {
		t.Run(name, func(t *testing.T) {
			v := test.vendor
			v.issuer, v.signer = test.trust.Issuer, vendorKey
			network := world{v.host: v, "login.example.com": newProvider(t)}
			guard := foreignGuard(t, network, Config{Issuers: []Issuer{test.trust}})
			access := signedBy(t, v.signer, test.typ, v.issuer, test.access)
			token, err := guard.Validate(t.Context(), access)
			if err != nil {
				t.Fatal(err)
			}
			if token.Issuer != v.issuer || token.Subject != test.want.Subject || token.ClientID != test.want.ClientID ||
				!slices.Equal(token.Scope, test.want.Scope) || token.ACR != test.want.ACR {
				t.Errorf("got %+v", token)
			}
			refuse := func(what, token string, guard *ResourceServer) {
				t.Helper()
				if got, err := guard.Validate(t.Context(), token); oauth.AsError(err) == nil || oauth.AsError(err).Code != oauth.InvalidToken {
					t.Errorf("%s: %+v, %v", what, got, err)
				}
			}
			idTyp := "JWT"
			if test.typ != "at+jwt" {
				idTyp = test.typ
			}
			refuse("an ID token", signedBy(t, v.signer, idTyp, v.issuer, test.id), guard)
			other := maps.Clone(test.access)
			other["aud"] = "https://other.example.com"
			other["azp"], other["client_id"] = "other", "other"
			refuse("for another API", signedBy(t, v.signer, test.typ, v.issuer, other), guard)
			stranger := newProvider(t).keys["one"]
			refuse("forged", signedBy(t, stranger, test.typ, v.issuer, test.access), guard)
			refuse("of another tenant", signedBy(t, v.signer, test.typ, "https://sso.example.com/realms/other", test.access), guard)
			if test.typ == "at+jwt" {
				return
			}
			// Each relaxation must be configured.
			strict := test.trust
			strict.InsecureTypes = nil
			if strict.Audiences == nil {
				strict.Audiences = []string{testResource}
			}
			refuse("without InsecureTypes", access, foreignGuard(t, network, Config{Issuers: []Issuer{strict}}))
			strict = test.trust
			if strict.InsecureClientIDs != nil {
				strict.InsecureClientIDs = nil
				refuse("without InsecureClientIDs", access, foreignGuard(t, network, Config{Issuers: []Issuer{strict}}))
			}
		})
	}
}

// The iss of a token selects its keys and its audiences. Relaxations for one issuer do not
// apply to another.
func TestIssuersAreIsolated(t *testing.T) {
	own, other := newProvider(t), newProvider(t)
	other.issuer = "https://other.example.com"
	network := world{"login.example.com": own, "other.example.com": other}
	guard := foreignGuard(t, network, Config{Issuer: own.issuer, Issuers: []Issuer{{
		Issuer: other.issuer, Audiences: []string{"notes"}, InsecureTypes: []string{"JWT"}, ScopeClaims: []string{"scp"},
	}}})
	for name, test := range map[string]struct {
		signer *provider
		typ    string
		claims map[string]any
		good   bool
	}{
		"own":                              {own, "at+jwt", nil, true},
		"other's":                          {other, "at+jwt", map[string]any{"iss": other.issuer, "aud": "notes", "scp": []string{"notes.read"}}, true},
		"other's as JWT":                   {other, "JWT", map[string]any{"iss": other.issuer, "aud": "notes"}, true},
		"own as JWT":                       {own, "JWT", nil, false},
		"own, signed by other":             {other, "at+jwt", nil, false},
		"other's, signed by own":           {own, "at+jwt", map[string]any{"iss": other.issuer, "aud": "notes"}, false},
		"own, for other's audience":        {own, "at+jwt", map[string]any{"aud": "notes"}, false},
		"other's, for own audience":        {other, "at+jwt", map[string]any{"iss": other.issuer}, false},
		"without iss":                      {own, "at+jwt", map[string]any{"iss": nil}, false},
		"of an untrusted issuer":           {own, "at+jwt", map[string]any{"iss": "https://evil.example.com"}, false},
		"of the issuer with another slash": {own, "at+jwt", map[string]any{"iss": own.issuer + "/"}, false},
	} {
		_, err := guard.Validate(t.Context(), test.signer.token(t, test.typ, test.claims))
		if (err == nil) != test.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	h := guard.Require("notes.read")(whoami)
	accepted(t, call(h, "Bearer "+other.token(t, "at+jwt", map[string]any{"iss": other.issuer, "aud": "notes", "scope": nil, "scp": []string{"notes.read"}})), "alice")
	// The scope is read from that issuer's claims.
	refused(t, call(h, "Bearer "+other.token(t, "at+jwt", map[string]any{"iss": other.issuer, "aud": "notes"})), http.StatusForbidden, oauth.InsufficientScope)
	refused(t, call(h, "Bearer "+own.token(t, "at+jwt", map[string]any{"scope": []string{"notes.read"}})), http.StatusUnauthorized, oauth.InvalidToken)

	w := httptest.NewRecorder()
	guard.Metadata().ServeHTTP(w, httptest.NewRequest(http.MethodGet, guard.MetadataPath(), nil))
	var metadata oauth.ProtectedResourceMetadata
	if err := json.Unmarshal(w.Body.Bytes(), &metadata); err != nil || !slices.Equal(metadata.AuthorizationServers, []string{own.issuer, other.issuer}) {
		t.Errorf("the metadata has %v (%v)", metadata.AuthorizationServers, err)
	}
}

// A token of another issuer is not sent to the introspection endpoint.
func TestTokensAreIntrospectedOnlyAtTheirIssuer(t *testing.T) {
	own, other := newProvider(t), newProvider(t)
	other.issuer = "https://other.example.com"
	guard := foreignGuard(t, world{"login.example.com": own, "other.example.com": other}, Config{
		Issuer: own.issuer, ClientID: "api", ClientSecret: "secret", IntrospectAll: true,
		Issuers: []Issuer{{Issuer: other.issuer}},
	})
	if _, err := guard.Validate(t.Context(), other.token(t, "at+jwt", map[string]any{"iss": other.issuer})); err != nil {
		t.Error(err)
	}
	if n := own.hit("/introspect"); n != 0 {
		t.Errorf("the token was sent to the other issuer %d times", n)
	}
}

func TestMalformedScopeClaims(t *testing.T) {
	own := newProvider(t)
	guard := foreignGuard(t, world{"login.example.com": own}, Config{Issuers: []Issuer{{Issuer: own.issuer, ScopeClaims: []string{"scope", "scp"}}}})
	for name, scp := range map[string]any{
		"numbers": []any{7}, "null inside": []any{nil}, "a space inside": []any{"notes.read notes.write"}, "empty": []any{""},
		"an object": map[string]any{}, "a number": 7, "a quote": `"`,
	} {
		if token, err := guard.Validate(t.Context(), own.token(t, "at+jwt", map[string]any{"scp": scp})); err == nil {
			t.Errorf("%s: scope %v", name, token.Scope)
		}
	}
	token, err := guard.Validate(t.Context(), own.token(t, "at+jwt", map[string]any{"scp": []any{"more"}}))
	if err != nil || token.Scope.String() != "notes.read notes.write more" {
		t.Errorf("%v, %v", token, err)
	}
}

func TestIssuersAreChecked(t *testing.T) {
	for name, config := range map[string]Config{
		"no authorization server":      {Resource: testResource},
		"no audience":                  {Issuers: []Issuer{{Issuer: testIssuer}}},
		"an empty audience":            {Issuers: []Issuer{{Issuer: testIssuer, Audiences: []string{""}}}},
		"an empty client":              {Issuers: []Issuer{{Issuer: testIssuer, Audiences: []string{"a"}, InsecureClientIDs: []string{""}}}},
		"twice":                        {Issuer: testIssuer, Resource: testResource, Issuers: []Issuer{{Issuer: testIssuer}}},
		"keys over http":               {Issuers: []Issuer{{Issuer: testIssuer, Audiences: []string{"a"}, JWKSURI: "http://login.example.com/keys"}}},
		"unencrypted":                  {Issuers: []Issuer{{Issuer: "http://login.example.com", Audiences: []string{"a"}}}},
		"introspection without Issuer": {ClientID: "api", Issuers: []Issuer{{Issuer: testIssuer, Audiences: []string{"a"}}}},
		"no resource":                  {Issuer: testIssuer},
		"a resource that is not a URI": {Issuer: testIssuer, Resource: "notes"},
	} {
		if _, err := New(config); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
