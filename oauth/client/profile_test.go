package client_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
)

// fapiProvider is a provider that meets the FAPI profiles.
func fapiProvider(t *testing.T) *provider {
	t.Helper()
	p := newProvider(t)
	p.metadata["pushed_authorization_request_endpoint"] = p.issuer + "/par"
	p.metadata["dpop_signing_alg_values_supported"] = []string{"ES256"}
	p.handlers["/par"] = func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		p.mu.Lock()
		p.codes["urn:example:pushed"] = r.Form
		p.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(map[string]any{"request_uri": "urn:example:pushed", "expires_in": 60})
	}
	p.response = func(response map[string]any) { response["token_type"] = "DPoP" }
	return p
}

// fapi2 is a configuration that meets FAPI2.
func (p *provider) fapi2(t *testing.T) client.Config {
	t.Helper()
	config := p.config()
	config.Profile, config.ClientSecret, config.DPoP = client.FAPI2, "", true
	config.PrivateKey, config.KeyID = newKey(t), "k"
	return config
}

func TestProfilesNameTheRulesThatAConfigurationBreaks(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	proofs, err := dpop.NewKey(jose.RS256, rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*client.Config, map[string]any)
		want   string // part of the error; "" for none
	}{
		{"nothing", func(*client.Config, map[string]any) {}, ""},
		{"client_secret_basic", func(c *client.Config, _ map[string]any) { c.PrivateKey, c.ClientSecret = nil, clientSecret }, "private_key_jwt or a certificate"},
		{"client_secret_jwt", func(c *client.Config, _ map[string]any) {
			c.PrivateKey, c.ClientSecret, c.AuthMethod = nil, strings.Repeat("s", 32), oauth.AuthMethodClientSecretJWT
		}, "private_key_jwt or a certificate"},
		{"a public client", func(c *client.Config, _ map[string]any) { c.PrivateKey = nil }, "private_key_jwt or a certificate"},
		{"bearer tokens", func(c *client.Config, _ map[string]any) { c.DPoP = false }, "must be bound to a key"},
		{"tokens bound to a certificate", func(c *client.Config, _ map[string]any) { c.DPoP, c.Certificate = false, newCertificate(t) }, ""},
		{"no PAR at the provider", func(_ *client.Config, m map[string]any) { delete(m, "pushed_authorization_request_endpoint") }, "pushed_authorization_request_endpoint"},
		{"another audience", func(c *client.Config, m map[string]any) { c.AssertionAudience = m["token_endpoint"].(string) }, "aud of client assertions"},
		{"code id_token", func(c *client.Config, _ map[string]any) { c.ResponseType = "code id_token" }, "response type must be code"},
		{"RS256 assertions", func(c *client.Config, _ map[string]any) { c.PrivateKey, c.SigningAlg = rsaKey, jose.RS256 }, "signatures must be"},
		{"RS256 responses", func(c *client.Config, _ map[string]any) { c.AuthorizationSigningAlg = jose.RS256 }, "signatures must be"},
		{"RS256 ID tokens", func(c *client.Config, _ map[string]any) { c.IDTokenSigningAlg = jose.RS256 }, "signatures must be"},
		{"HS256 ID tokens", func(c *client.Config, _ map[string]any) {
			c.IDTokenSigningAlg, c.ClientSecret, c.AuthMethod = jose.HS256, strings.Repeat("s", 32), oauth.AuthMethodPrivateKeyJWT
		}, "signatures must be"},
		{"a provider that signs ID tokens with RS256 only", func(_ *client.Config, m map[string]any) {
			m["id_token_signing_alg_values_supported"] = []string{"RS256"}
		}, "signature algorithms"},
		{"unsigned requests", func(c *client.Config, _ map[string]any) { c.RequestObjectSigningAlg = "none" }, "signatures must be"},
		{"RS256 proofs", func(c *client.Config, m map[string]any) {
			c.DPoPKey, m["dpop_signing_alg_values_supported"] = proofs, []string{"RS256"}
		}, "signatures must be"},
		{"an RSA key", func(c *client.Config, _ map[string]any) { c.PrivateKey = rsaKey }, ""},
		{"message signing without signed responses", func(c *client.Config, _ map[string]any) { c.Profile = client.FAPI2MessageSigning }, "AuthorizationSigningAlg"},
		{"message signing", func(c *client.Config, _ map[string]any) {
			c.Profile, c.AuthorizationSigningAlg = client.FAPI2MessageSigning, jose.ES256
		}, ""},
		{"an unknown profile", func(c *client.Config, _ map[string]any) { c.Profile = "fapi3" }, `"fapi3" is not supported`},
		{"FAPI 1 with DPoP", func(c *client.Config, _ map[string]any) { c.Profile = client.FAPI1Advanced }, "bound to a certificate"},
		{"FAPI 1 with a plain code", func(c *client.Config, _ map[string]any) {
			c.Profile, c.DPoP, c.Certificate = client.FAPI1Advanced, false, newCertificate(t)
		}, "response must be signed"},
		{"FAPI 1 with an ID token in front", func(c *client.Config, _ map[string]any) {
			c.Profile, c.DPoP, c.Certificate, c.ResponseType = client.FAPI1Advanced, false, newCertificate(t), "code id_token"
		}, ""},
		{"FAPI 1 with JARM", func(c *client.Config, _ map[string]any) {
			c.Profile, c.DPoP, c.Certificate, c.AuthorizationSigningAlg = client.FAPI1Advanced, false, newCertificate(t), jose.PS256
		}, ""},
		{"FAPI 1 with EdDSA", func(c *client.Config, _ map[string]any) {
			c.Profile, c.DPoP, c.Certificate, c.AuthorizationSigningAlg = client.FAPI1Advanced, false, newCertificate(t), jose.EdDSA
		}, "PS256 or ES256"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := fapiProvider(t)
			config := p.fapi2(t)
			test.change(&config, p.metadata)
			_, err := client.Discover(t.Context(), config)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%v, want an error with %q", err, test.want)
			}
		})
	}
	// All broken rules are named.
	p := fapiProvider(t)
	config := p.fapi2(t)
	config.PrivateKey, config.DPoP = nil, false
	_, err = client.Discover(t.Context(), config)
	if err == nil || strings.Count(err.Error(), "FAPI 2.0 Security Profile, section 5.3.3.1") != 2 {
		t.Errorf("%v", err)
	}
}

func TestFAPI2PushesSignsWithoutRS256AndRequiresIssuer(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := fapiProvider(t)
	delete(p.metadata, "authorization_response_iss_parameter_supported")
	config := p.fapi2(t)
	config.PrivateKey = rsaKey
	c, err := client.Discover(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	begin := func() *client.Transaction {
		t.Helper()
		address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(address, "request_uri=urn") || strings.Contains(address, "redirect_uri=") {
			t.Errorf("the request is not pushed: %s", address)
		}
		return transaction
	}
	transaction := begin()
	header, _, _ := strings.Cut(p.last(t, "/par").form.Get("client_assertion"), ".")
	if decoded, err := base64.RawURLEncoding.DecodeString(header); err != nil || !strings.Contains(string(decoded), `"alg":"PS256"`) {
		t.Errorf("the assertion has the header %s, %v", decoded, err)
	}
	response := p.authorizePushed(transaction)
	response.Del("iss")
	if _, err := c.Callback(t.Context(), transaction, response); !errors.Is(err, client.ErrMixUp) {
		t.Errorf("a response without iss: %v", err)
	}
	transaction = begin()
	if _, err := c.Callback(t.Context(), transaction, p.authorizePushed(transaction)); err != nil {
		t.Error(err)
	}
}

// authorizePushed returns the response to the pushed request.
func (p *provider) authorizePushed(transaction *client.Transaction) url.Values {
	p.mu.Lock()
	defer p.mu.Unlock()
	code := rand.Text()
	p.codes[code] = p.codes["urn:example:pushed"]
	return url.Values{"code": {code}, "state": {transaction.State}, "iss": {p.issuer}}
}

// FAPI 1.0 Advanced, section 5.2.3.1: the ID token is a detached signature of the response.
func TestFAPI1ChecksTheStateHashAndTheScope(t *testing.T) {
	leftHalf := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return base64.RawURLEncoding.EncodeToString(sum[:16])
	}
	for name, test := range map[string]struct {
		stateHash func(state string) any
		scope     string
		want      error
		age       time.Duration
	}{
		"an old ID token": {func(state string) any { return leftHalf(state) }, "openid api", client.ErrIDToken, time.Hour},
		"valid":           {func(state string) any { return leftHalf(state) }, "openid api", nil, 0},
		"no s_hash":       {func(string) any { return nil }, "openid api", client.ErrIDToken, 0},
		"another s_hash":  {func(string) any { return leftHalf("another") }, "openid api", client.ErrIDToken, 0},
		"a smaller scope": {func(state string) any { return leftHalf(state) }, "openid", nil, 0},
		"a larger scope":  {func(state string) any { return leftHalf(state) }, "openid api payments", client.ErrResponse, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := fapiProvider(t)
			p.response = func(response map[string]any) { response["scope"] = test.scope }
			config := p.fapi2(t)
			config.Profile, config.DPoP, config.Certificate, config.ResponseType = client.FAPI1Advanced, false, newCertificate(t), "code id_token"
			c, err := client.Discover(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(address, "request=") {
				t.Errorf("the request is not signed: %s", address)
			}
			code := rand.Text()
			p.mu.Lock()
			p.codes[code] = map[string][]string{
				"nonce": {transaction.Nonce}, "code_challenge": {oauth.S256Challenge(transaction.CodeVerifier)}, "redirect_uri": {redirectURI}, "client_id": {clientID},
			}
			p.mu.Unlock()
			claims := map[string]any{
				"iss": p.issuer, "sub": "alice", "aud": clientID, "nonce": transaction.Nonce, "c_hash": leftHalf(code),
				"iat": time.Now().Add(-test.age).Unix(), "exp": time.Now().Add(time.Minute).Unix(),
			}
			if hash := test.stateHash(transaction.State); hash != nil {
				claims["s_hash"] = hash
			}
			response := map[string][]string{"code": {code}, "state": {transaction.State}, "iss": {p.issuer}, "id_token": {p.sign(claims)}}
			if _, err := c.Callback(t.Context(), transaction, response); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}
