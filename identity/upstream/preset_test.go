package upstream_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
)

// documents answers requests by their URL, and records the URLs.
type documents struct {
	byURL map[string]string
	asked []string
}

func (d *documents) RoundTrip(r *http.Request) (*http.Response, error) {
	d.asked = append(d.asked, r.URL.String())
	body, ok := d.byURL[r.URL.String()]
	if !ok {
		return nil, errors.New("no such document: " + r.URL.String())
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func metadata(issuer, authorizationEndpoint string) string {
	encoded, err := json.Marshal(map[string]any{
		"issuer": issuer, "authorization_endpoint": authorizationEndpoint, "token_endpoint": issuer + "/token", "jwks_uri": issuer + "/keys",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
	})
	if err != nil {
		panic(err)
	}
	return string(encoded)
}

// Presets lead to the documented addresses of their providers.
func TestPresetsLeadToTheirProviders(t *testing.T) {
	const tenant = "1b4a2f6e-0d0a-4c6e-9f3e-5a8d7c2b1e90"
	key, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.p8")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	const microsoft = "https://login.microsoftonline.com/" + tenant + "/v2.0"
	transport := &documents{byURL: map[string]string{
		"https://accounts.google.com/.well-known/openid-configuration": metadata("https://accounts.google.com", "https://accounts.google.com/o/oauth2/v2/auth"),
		microsoft + "/.well-known/openid-configuration":                metadata(microsoft, "https://login.microsoftonline.com/"+tenant+"/oauth2/v2.0/authorize"),
		"https://appleid.apple.com/.well-known/openid-configuration":   metadata("https://appleid.apple.com", "https://appleid.apple.com/auth/authorize"),
		"https://github.com/login/oauth/access_token":                  `{"access_token":"t","token_type":"bearer","scope":"read:user,user:email"}`,
		"https://api.github.com/user":                                  `{"id":1,"login":"alice"}`,
		"https://api.github.com/user/emails":                           `[{"email":"alice@example.org","primary":true,"verified":true}]`,
	}}
	providers, err := upstream.New([]upstream.Config{
		{ID: "google", Preset: "google", ClientID: "c", ClientSecret: "s"},
		{ID: "microsoft", Preset: "microsoft", Tenant: tenant, ClientID: "c", ClientSecret: "s"},
		{ID: "apple", Preset: "apple", ClientID: "c", TeamID: "T", KeyID: "K", PrivateKeyFile: file},
		{ID: "github", Preset: "github", ClientID: "c", ClientSecret: "s"},
	}, upstream.Options{Issuer: "https://login.example.com", Store: memory.New(), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(providers.Close)
	for id, want := range map[string]string{
		"google":    "https://accounts.google.com/o/oauth2/v2/auth?",
		"microsoft": "https://login.microsoftonline.com/" + tenant + "/oauth2/v2.0/authorize?",
		"apple":     "https://appleid.apple.com/auth/authorize?",
		"github":    "https://github.com/login/oauth/authorize?",
	} {
		address, err := providers.Provider(id).Begin(t.Context(), time.Now(), upstream.Start{Browser: "b"})
		if err != nil || !strings.HasPrefix(address, want) {
			t.Errorf("%s leads to %s (%v)", id, address, err)
		}
		u, err := url.Parse(address)
		if err != nil || u.Query().Get("redirect_uri") != "https://login.example.com/upstream/"+id+"/callback" {
			t.Errorf("%s: the request is %v", id, u)
		}
		if id != "github" {
			continue
		}
		// Its responses have the parameter iss (RFC 9207).
		response := url.Values{"state": {u.Query().Get("state")}, "code": {"c"}, "iss": {"https://github.com/login/oauth"}}
		result, err := providers.Provider(id).Complete(t.Context(), time.Now(), response, "", "b")
		if err != nil || result.User.Issuer != "https://github.com/login/oauth" || result.User.Subject != "1" || result.User.Email != "alice@example.org" || result.User.EmailTrusted {
			t.Errorf("github: %+v, %v", result, err)
		}
	}
	if !slices.Contains(transport.asked, "https://api.github.com/user/emails") {
		t.Errorf("requests: %q", transport.asked)
	}
}

// GitHub Enterprise Server has users of its own, so its endpoints come together.
func TestGitHubEnterpriseServer(t *testing.T) {
	c := upstream.Config{ID: "ghe", Preset: "github", ClientID: "c", ClientSecret: "s", AuthorizationEndpoint: "https://ghe.example/login/oauth/authorize"}
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), "token_endpoint") {
		t.Errorf("one endpoint of another server: %v", err)
	}
	c.TokenEndpoint, c.UserinfoEndpoint = "https://ghe.example/login/oauth/access_token", "https://ghe.example/api/v3/user"
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	both := []upstream.Config{c, {ID: "github", Preset: "github", ClientID: "c", ClientSecret: "s"}}
	upstream.CheckAll(both, func(i int, err error) { t.Errorf("[%d]: %v", i, err) })
}
