package valetkey

import (
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

var update = flag.Bool("update", false, "write the names of grant types and client authentication methods into config.schema.json")

// The schema has the names of all grant types and methods that the server supports.
func TestSchemaNamesGrantTypesAndMethods(t *testing.T) {
	metadata := metadataOfAll(t)
	file, err := os.ReadFile("config.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	want := string(file)
	for _, list := range []struct {
		before *regexp.Regexp
		indent string
		names  []string
	}{
		{regexp.MustCompile(`(?s)("description": "How the client authenticates[^}]*"enum": \[)[^\]]*\]`), "          ", metadata.TokenEndpointAuthMethodsSupported},
		// It is not in the metadata, but a client can be declared with it.
		{regexp.MustCompile(`(?s)("Default: authorization_code\."[^}]*"examples": \[)[^\]]*\]`), "            ", append(metadata.GrantTypesSupported, oauth.GrantTypePassword)},
	} {
		if !list.before.MatchString(want) {
			t.Fatalf("there is no %v in the schema", list.before)
		}
		inner := "\n" + list.indent + `  "` + strings.Join(list.names, "\",\n"+list.indent+`  "`) + "\"\n" + list.indent + "]"
		want = list.before.ReplaceAllString(want, "${1}"+inner)
	}
	if want == string(file) {
		return
	}
	if !*update {
		t.Fatal("config.schema.json does not have the names of the server's metadata; -update writes them")
	}
	if err := os.WriteFile("config.schema.json", []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// metadataOfAll returns the metadata of a server with everything enabled.
func metadataOfAll(t *testing.T) *oauth.ServerMetadata {
	t.Helper()
	private, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.ES256, "trusted", private)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.KeySet{Keys: []jose.JWK{signer.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := newTestServer(t, func(c *Config) {
		c.Registration.Mode = string(authserver.RegistrationOpen)
		c.TokenExchange = []authserver.TokenExchangeRule{{Clients: []string{"api"}, Resources: []string{"https://api.example"}}}
		c.TrustedIssuers = []authserver.TrustedIssuer{{
			Issuer: "https://idp.example", JWKS: keys, SAMLCertificates: certificateOf(t, "valetkey.example.yaml"),
			Uses:    []string{authserver.UseJWTBearer, authserver.UseSAMLBearer, authserver.UseClientAuthentication},
			Clients: []string{"api"}, SubjectByEmail: true, Scopes: oauth.Scope{"openid"},
		}}
		c.TrustedProxies = []string{"10.0.0.1"}
		c.MutualTLS = &configuration.MutualTLS{ClientCertificateHeader: "Client-Cert", ProxyVerifiesCertificates: true}
	})
	response := get(s, "https://login.example.com/.well-known/oauth-authorization-server", nil)
	var metadata oauth.ServerMetadata
	if err := json.Unmarshal(response.Body.Bytes(), &metadata); err != nil {
		t.Fatal(err)
	}
	return &metadata
}

// certificateOf returns the first PEM certificate in an indented text.
func certificateOf(t *testing.T, name string) string {
	t.Helper()
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----`).FindString(string(file))
	return strings.ReplaceAll(found, "  ", "")
}
