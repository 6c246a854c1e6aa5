package configuration

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/oauth"
)

const completeFile = `
issuer: https://login.example.com
listen: ":8443"
database: sqlite:/var/lib/valetkey/valetkey.db
tls: {certificate: cert.pem, key: key.pem}
trusted_proxies: [10.0.0.0/8, "::1"]
lifetimes:
  access_token: 5m
log: {level: debug, format: json}
scopes:
  - name: notes.read
    description: Read your notes
    claims: [department]
    optional: true
resources:
  - identifier: https://notes.example.com
    scopes: [notes.read]
    access_token_format: opaque
    introspection_clients: [web]
clients:
  - client_id: web
    client_secret: 0123456789abcdef0123456789abcdef
    redirect_uris:
      - https://app.example.com/callback
    grant_types: [authorization_code, refresh_token]
    scope: openid profile notes.read
    default_max_age: 3600
    skip_consent: true
    resources: [https://notes.example.com]
  - client_id: native
    application_type: native
    redirect_uris: ["com.example.app:/callback", "http://127.0.0.1/callback"]
users:
  - username: ada
    password: engine no. 1
    administrator: true
    email: ada@example.com
    email_verified: true
    address: {locality: London}
    claims:
      department: analysis
      badges: [1, 2.5, {gold: true}]
`

func TestRead(t *testing.T) {
	c, err := parse("valetkey.yaml", []byte(completeFile), true)
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Duration(c.Lifetimes.AccessToken); got != 5*time.Minute {
		t.Errorf("lifetimes.access_token is %v", got)
	}
	if got := c.Clients[0].RedirectURIs; !cmp.Equal(got, []string{"https://app.example.com/callback"}) {
		t.Errorf("redirect_uris are %q", got)
	}
	if !c.Clients[0].SkipConsent || *c.Clients[0].DefaultMaxAge != 3600 {
		t.Error("the settings of the first client are not those of the file")
	}
	if native := c.Clients[1].record(); !native.Public() {
		t.Errorf("a client without credentials authenticates by %q", native.TokenEndpointAuthMethod)
	}
	claims, err := c.Users[0].claims()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"email": "ada@example.com", "email_verified": true, "address": map[string]any{"locality": "London"},
		"department": "analysis", "badges": []any{1.0, 2.5, map[string]any{"gold": true}},
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

// Every mistake is an error with its line and what to do.
func TestRE35_ConfigurationMistakes(t *testing.T) {
	client := "clients:\n  - client_id: a\n    client_secret: 0123456789abcdef\n"
	for _, test := range []struct{ name, file, want string }{
		{"misspelled key", client + "    redirect_uri: [https://a.example/cb]\n",
			`valetkey.yaml:4: unknown key "redirect_uri" in clients[0]; did you mean "redirect_uris"?`},
		{"misspelled section", "client:\n  - client_id: a\n", `valetkey.yaml:1: unknown key "client"; did you mean "clients"?`},
		{"repeated key", "issuer: https://a.example\nissuer: https://b.example\n", `valetkey.yaml:2: `},
		{"list instead of a string", "issuer: [https://a.example]\n", `valetkey.yaml:1: issuer must be a string, got a list`},
		{"string instead of a list", client + "    redirect_uris: https://a.example/cb\n", `valetkey.yaml:4: clients[0].redirect_uris must be a list, got a string`},
		{"number instead of a string", "users:\n  - username: 1\n", `valetkey.yaml:2: users[0].username must be a string, got a number: put it in quotes`},
		{"number instead of a duration", "clients:\n  - client_id: a\n    access_token_lifetime: 10\n", `valetkey.yaml:3: clients[0].access_token_lifetime: "10" is not a valid duration`},
		{"string instead of a boolean", "users:\n  - username: ada\n    email_verified: \"yes\"\n", `valetkey.yaml:3: users[0].email_verified must be true or false, got a string`},
		{"invalid duration", "lifetimes:\n  access_token: soon\n", `valetkey.yaml:2: lifetimes.access_token: "soon" is not a valid duration (for example, 10m or 720h)`},
		{"negative duration", "lifetimes:\n  access_token: -5m\n", `valetkey.yaml:2: lifetimes.access_token`},
		{"broken YAML", "clients: [\n", `valetkey.yaml:2: `},
		{"two documents", "issuer: https://a.example\n---\nissuer: https://b.example\n", `the file contains more than one YAML document`},
		{"alias bomb", "users: &a []\nclients: [*a, *a]\n", `anchors and aliases are not supported`},
		{"mapping instead of a string", "scopes:\n  - {name: {a: b}}\n", `valetkey.yaml:2: scopes[0].name must be a string, got a mapping`},
		{"boolean instead of a mapping", "log: true\n", `valetkey.yaml:1: log must be a mapping (key: value), got a boolean`},
		{"issuer with a query", "issuer: https://a.example/?x\n", `valetkey.yaml:1: issuer: `},
		{"http issuer", "issuer: http://login.example.com\n", `valetkey.yaml:1: issuer: the issuer must use https`},
		{"proxy by name", "trusted_proxies:\n  - 10.0.0.1\n  - proxy.local\n", `valetkey.yaml:3: trusted_proxies[1]: "proxy.local" is neither`},
		{"unknown database", "database: ./valetkey.db\n", `valetkey.yaml:1: database: must begin with sqlite:, postgres:// or postgresql://`},
		{"log level", "log: {level: loud}\n", `valetkey.yaml:1: log.level: "loud" is not a valid value: use one of debug, info, warn, error`},
		{"half of tls", "tls: {certificate: a.pem}\n", `valetkey.yaml:1: tls: both certificate and key are required`},
		{"empty secret", "clients:\n  - client_id: a\n    client_secret: \"\"\n    redirect_uris: [https://a.example/cb]\n", `valetkey.yaml:3: clients[0].client_secret is empty`},
		{"secret left out by a template", "clients:\n  - client_id: a\n    client_secret:\n    redirect_uris: [https://a.example/cb]\n", `valetkey.yaml:3: clients[0].client_secret has no value`},
		{"limit left out by a template", client + "    redirect_uris: [https://a.example/cb]\n    resources: []\n", `valetkey.yaml:5: clients[0].resources is empty`},
		{"switch left out by a template", "require_code_challenge:\n", `valetkey.yaml:1: require_code_challenge has no value`},
		{"missing client_id", "clients:\n  - client_name: A\n", `valetkey.yaml:2: clients[0]: client_id is required`},
		{"https client_id", "clients:\n  - client_id: https://a.example\n    redirect_uris: [https://a.example/cb]\n", `valetkey.yaml:2: clients[0].client_id: `},
		{"client_id with a space", "clients:\n  - client_id: a b\n    redirect_uris: [https://a.example/cb]\n", `valetkey.yaml:2: clients[0].client_id: `},
		{"repeated client_id", client + "    redirect_uris: [https://a.example/cb]\n  - client_id: a\n    redirect_uris: [https://a.example/cb]\n", `valetkey.yaml:5: clients[1].client_id: the client "a" is declared twice`},
		{"one resource in two forms", "resources:\n  - identifier: https://notes.example.com\n  - identifier: https://Notes.example.com:443/\n", `valetkey.yaml:3: resources[1].identifier: the resource "https://Notes.example.com:443/" is declared twice`},
		{"http redirect URI", client + "    redirect_uris:\n      - https://a.example/cb\n      - http://a.example/cb\n", `valetkey.yaml:6: clients[0].redirect_uris[1]: http is allowed for loopback only`},
		{"no redirect URI", client, `clients[0]: the grant type authorization_code needs redirect_uris`},
		{"method without secret", "clients:\n  - client_id: a\n    token_endpoint_auth_method: client_secret_basic\n    redirect_uris: [https://a.example/cb]\n", `client_secret_basic needs a client_secret`},
		{"public with secret", client + "    token_endpoint_auth_method: none\n    redirect_uris: [https://a.example/cb]\n", `valetkey.yaml:3: clients[0].client_secret: `},
		{"short HMAC key", client + "    token_endpoint_auth_method: client_secret_jwt\n    redirect_uris: [https://a.example/cb]\n", `32 bytes or more`},
		{"client_credentials in public", "clients:\n  - client_id: a\n    grant_types: [client_credentials]\n", `needs a client with credentials`},
		{"private_key_jwt without keys", "clients:\n  - client_id: a\n    token_endpoint_auth_method: private_key_jwt\n    grant_types: [client_credentials]\n", `needs jwks or jwks_uri`},
		{"symmetric key in jwks", "clients:\n  - client_id: a\n    grant_types: [client_credentials]\n    jwks: {keys: [{kty: oct, k: c2VjcmV0}]}\n", `valetkey.yaml:4: clients[0].jwks: `},
		{"http jwks_uri", "clients:\n  - client_id: a\n    grant_types: [client_credentials]\n    jwks_uri: http://a.example/jwks\n", `valetkey.yaml:4: clients[0].jwks_uri: `},
		{"neither ticked nor unticked", "consent_optional_default: off\n", `valetkey.yaml:1: consent_optional_default: "off" is neither ticked nor unticked`},
		{"first-party on the web", "first_party_applications: true\n" + client + "    redirect_uris: [https://a.example/cb]\n    first_party: true\n", `valetkey.yaml:6: clients[0].first_party: only native applications`},
		{"first-party without first_party_applications", client + "    redirect_uris: [https://a.example/cb]\n    application_type: native\n    first_party: true\n", `valetkey.yaml:6: clients[0].first_party: requires first_party_applications: true`},
		{"unknown grant type", client + "    grant_types: [passwords]\n", `valetkey.yaml:4: clients[0].grant_types[0]: "passwords" is not one of`},
		{"mapping onto the protocol", "claims: [{name: sub, from: username}]\n", `valetkey.yaml:1: claims[0]: name "sub": the claim is set by the protocol and cannot be mapped`},
		{"mapping without a value", "claims: [{name: groups}]\n", `valetkey.yaml:1: claims[0]: set one of from, value and expression`},
		{"expression of another name", "claims:\n  - name: roles\n    expression: 'persn.groups'\n", `valetkey.yaml:3: claims[0].expression: unknown name persn (1:1)`},
		{"hook without a secret", "hooks:\n  - url: https://policy.example.com\n", `valetkey.yaml:2: hooks[0]: either secret or secret_file is required`},
		{"hook with a short secret", "hooks:\n  - url: https://policy.example.com\n    secret: whsec_AAAA\n", `hooks[0]: secret: must be "whsec_" followed by 24 to 64 random bytes in base64`},
		{"hook without TLS", "hooks: [{url: 'http://policy.example.com', secret_file: f}]\n", `hooks[0]: url: "http://policy.example.com" is not an https URL`},
		{"hook with a long timeout", "hooks: [{url: 'https://policy.example.com', secret_file: f, timeout: 10s}]\n", `hooks[0]: timeout: must be at most 5s`},
		{"hook for an unknown event", "hooks: [{url: 'https://policy.example.com', secret_file: f, events: [sign_in]}]\n", `hooks[0]: events: "sign_in" is not one of access_token`},
		{"hook for APIs, of an ID token", "hooks: [{url: 'https://policy.example.com', secret_file: f, events: [id_token], resources: ['https://notes.example.com']}]\n", `hooks[0]: events: id_token cannot be combined with resources`},
		{"expression and value", "claims: [{name: roles, expression: scope, value: a}]\n", `valetkey.yaml:1: claims[0]: set one of from, value and expression`},
		{"claim source without an endpoint", "claim_sources: [{name: bank, claims: [score], endpoint: 'https://bank.example'}]\n", `valetkey.yaml:1: claim_sources[0]: set either jwt_from, or endpoint and access_token_from`},
		{"signature by a short secret", "clients:\n  - client_id: a\n    client_secret: short\n    redirect_uris: [https://a.example/cb]\n    id_token_signed_response_alg: HS256\n", `valetkey.yaml:5: clients[0].id_token_signed_response_alg: HS256 needs a client_secret of 32 bytes or more`},
		{"private_key_jwt with a key to encrypt to", "clients:\n  - client_id: a\n    grant_types: [client_credentials]\n    jwks: {keys: [{kty: EC, crv: P-256, use: enc, x: MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4, y: 4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM}]}\n", `valetkey.yaml:4: clients[0].jwks: private_key_jwt needs a key for signatures`},
		{"incomplete encryption", client + "    redirect_uris: [https://a.example/cb]\n    id_token_encrypted_response_enc: A256GCM\n", `valetkey.yaml:5: clients[0].id_token_encrypted_response_enc: it needs id_token_encrypted_response_alg`},
		{"encryption without a key", client + "    redirect_uris: [https://a.example/cb]\n    id_token_encrypted_response_alg: ECDH-ES\n", `valetkey.yaml:5: clients[0].id_token_encrypted_response_alg: ECDH-ES needs a key for encryption in jwks, or jwks_uri`},
		{"unknown algorithm", client + "    redirect_uris: [https://a.example/cb]\n    id_token_signed_response_alg: ES999\n", `valetkey.yaml:5: clients[0].id_token_signed_response_alg: "ES999" is not one of`},
		{"script as logo", client + "    redirect_uris: [https://a.example/cb]\n    logo_uri: \"javascript:alert(1)\"\n", `valetkey.yaml:5: clients[0].logo_uri: `},
		{"origin with a path", client + "    redirect_uris: [https://a.example/cb]\n    allowed_origins: [https://a.example/]\n", `allowed_origins[0]`},
		{"undeclared scope", client + "    redirect_uris: [https://a.example/cb]\n    scope: openid notes\n", `valetkey.yaml:5: clients[0].scope: the scope "notes" is not declared`},
		{"undeclared resource", client + "    redirect_uris: [https://a.example/cb]\n    resources: [https://api.example]\n", `clients[0].resources[0]: the resource "https://api.example" is not declared`},
		{"scope with a space", "scopes:\n  - name: a b\n", `valetkey.yaml:2: scopes[0].name: `},
		{"relative resource", "resources:\n  - identifier: api\n", `valetkey.yaml:2: resources[0].identifier: `},
		{"resource with a fragment", "resources:\n  - identifier: https://api.example#x\n", `valetkey.yaml:2: resources[0].identifier: `},
		{"unknown format", "resources:\n  - identifier: https://api.example\n    access_token_format: xml\n", `valetkey.yaml:3: resources[0].access_token_format: `},
		{"unknown introspection client", "resources:\n  - identifier: https://api.example\n    introspection_clients: [api]\n", `the client "api" is not declared`},
		{"user without a username", "users:\n  - name: Ada\n", `valetkey.yaml:2: users[0]: username: `},
		{"password and hash", "users:\n  - username: ada\n    password: engine no. 1\n    password_hash: $2b$10$abcdefghijklmnopqrstuv\n", `valetkey.yaml:4: users[0].password_hash: `},
		{"md5", "users:\n  - username: ada\n    password_hash: 5f4dcc3b5aa765d61d8327deb882cf99\n", `neither argon2id`},
		{"email address of another user", "users:\n  - username: ada\n    email: eve@example.com\n  - username: EVE@example.com\n", `valetkey.yaml:4: users[1]: `},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := parse("valetkey.yaml", []byte(test.file), true)
			if err == nil {
				err = c.Incomplete() // what "valetkey check" says as well
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is\n%v\nand does not contain\n%s", err, test.want)
			}
		})
	}
}

func TestAllMistakesAreReportedAtOnce(t *testing.T) {
	_, err := parse("v.yaml", []byte("isuer: https://a.example\nlog: {levle: info}\nclients: 1\n"), true)
	if err == nil || strings.Count(err.Error(), "v.yaml:") != 3 {
		t.Errorf("three mistakes are reported as\n%v", err)
	}
}

func TestJW25_ReservedClaimsAreRefused(t *testing.T) {
	for _, claim := range []string{"iss", "sub", "aud", "exp", "act", "cnf", "scope", "client_id", "email", "preferred_username"} {
		file := "users:\n  - username: ada\n    claims:\n      " + claim + ": x\n"
		if _, err := parse("v.yaml", []byte(file), true); err == nil || !strings.Contains(err.Error(), "v.yaml:4: users[0].claims."+claim) {
			t.Errorf("claims.%s: %v", claim, err)
		}
	}
	if _, err := parse("v.yaml", []byte("scopes:\n  - name: a\n    claims: [sub]\n"), true); err == nil {
		t.Error("a scope releases sub")
	}
}

func TestDeclarationsMayReferToOtherFiles(t *testing.T) {
	file := []byte("clients:\n  - client_id: a\n    redirect_uris: [https://a.example/cb]\n    scope: notes\n")
	if _, err := parse("v.yaml", file, false); err != nil {
		t.Error(err)
	}
}

func TestEnvironmentOverridesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.yaml")
	if err := os.WriteFile(path, []byte("issuer: https://a.example\nlisten: :1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VALETKEY_ISSUER", "https://b.example")
	c, err := Read(path)
	if err != nil || c.Issuer != "https://b.example" || c.Listen != ":1" {
		t.Errorf("issuer %q, listen %q, %v", c.Issuer, c.Listen, err)
	}
	t.Setenv("VALETKEY_LOG_LEVEL", "loud")
	if _, err := Read(path); err == nil {
		t.Error("an unknown log level in the environment is accepted")
	}
}

func TestUnusualFiles(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"empty file", "", "v.yaml: the file is empty or contains only comments"},
		{"comments alone", "# nothing yet\n", "v.yaml: the file is empty or contains only comments"},
		{"byte order mark and CRLF", "\ufeffissuer: https://a.example\r\nlisten: \":1\"\r\n", ""},
		{"JSON", `{"issuer": "https://a.example", "users": [{"username": "ada"}]}`, ""},
		{"text", "hello\n", "v.yaml:1: the file must be a mapping"},
		{"list", "- issuer: https://a.example\n", "v.yaml:1: the file must be a mapping"},
		{"merge key", "log:\n  <<: {level: debug}\n", `v.yaml:2: unknown key "<<" in log`},
		{"key twice in a client", "clients:\n  - client_id: a\n    client_id: b\n", "v.yaml:3: "},
		{"key twice in claims", "users:\n  - username: a\n    claims:\n      b: 1\n      b: 2\n", "v.yaml:5: "},
		{"the same wrong value as above", "clients:\n" +
			"  - {client_id: a, redirect_uris: [https://a.example/cb], client_name: \"http://a.example/cb\"}\n" +
			"  - {client_id: b, redirect_uris: [https://a.example/cb]}\n" +
			"  - {client_id: c, redirect_uris: [\"http://a.example/cb\"]}\n", "v.yaml:4: clients[2].redirect_uris[0]"},
		{"deep nesting", "users: [{username: a, claims: {b: " + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + "}}]\n", "nested too deeply"},
	} {
		_, err := parse("v.yaml", []byte(test.file), true)
		if test.want == "" && err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: the error is\n%v\nwithout\n%s", test.name, err, test.want)
		}
	}
}

func TestFilesLargerThan16MiBAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.yaml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, MaxBytes+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "larger than 16 MiB") {
		t.Errorf("the error is %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(completeFile))
	f.Add([]byte("clients: [{client_id: a, jwks: {keys: []}}]"))
	f.Add([]byte("? [a]\n: &x !!str |\n  y\n<<: *x\n"))
	f.Add([]byte("clients: [{client_id: a, application_type: native, redirect_uris: [\"a.b:/c\"], post_logout_redirect_uris: [\"a.b:/c\"]}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		// It must neither panic nor accept what validation refuses.
		c, err := parse("v.yaml", text, true)
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("accepted, but not valid: %v", err)
		}
		for _, client := range c.Clients {
			metadata := client.record().ClientMetadata.WithDefaults()
			for _, uri := range slices.Concat(metadata.RedirectURIs, metadata.PostLogoutRedirectURIs) {
				if err := oauth.CheckRedirectURI(uri, metadata.ApplicationType); err != nil {
					t.Errorf("%q is accepted: %v", uri, err)
				}
			}
		}
	})
}
