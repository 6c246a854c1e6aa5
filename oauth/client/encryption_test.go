package client_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
)

func newDecrypter(t *testing.T, key crypto.PrivateKey) *jose.Decrypter {
	t.Helper()
	d, err := jose.NewDecrypter("enc-1", key)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// encrypts makes the provider encrypt its signed tokens.
func (p *provider) encrypts(t *testing.T, alg jose.Algorithm, to *jose.Decrypter) {
	t.Helper()
	sign := p.sign
	p.sign = func(claims map[string]any) string {
		token, err := jose.Encrypt(alg, jose.A256GCM, to.Public(), jose.Message{ContentType: "JWT", Payload: []byte(sign(claims))})
		if err != nil {
			t.Error(err)
		}
		return token
	}
}

func TestEncryptedIDTokens(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		key  crypto.PrivateKey
		alg  jose.Algorithm // the provider's; "" for none
		want jose.Algorithm // expected by the client
		good bool
	}{
		"RSA-OAEP-256":           {key: rsaKey, alg: "RSA-OAEP-256", want: "RSA-OAEP-256", good: true},
		"ECDH-ES":                {key: newKey(t), alg: "ECDH-ES", want: "ECDH-ES", good: true},
		"not encrypted":          {key: newKey(t), want: "ECDH-ES"},
		"with another algorithm": {key: newKey(t), alg: "ECDH-ES+A256KW", want: "ECDH-ES"},
		"encrypted unexpectedly": {key: newKey(t), alg: "ECDH-ES"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			decrypter := newDecrypter(t, test.key)
			if test.alg != "" {
				p.encrypts(t, test.alg, decrypter)
			}
			c := p.discover(t, func(config *client.Config) {
				config.IDTokenEncryptionAlg, config.DecryptionKeys = test.want, []*jose.Decrypter{decrypter}
			})
			tokens, err := p.signIn(t, c, client.AuthorizationOptions{})
			if test.good != (err == nil) || err != nil && !errors.Is(err, client.ErrIDToken) {
				t.Fatalf("error is %v", err)
			}
			if test.good && (tokens.Identity.Subject != "alice" || strings.Count(tokens.IDToken, ".") != 2) {
				t.Errorf("signed in as %q with %s", tokens.Identity.Subject, tokens.IDToken)
			}
		})
	}
}

// Anybody can encrypt: the signature inside must be the provider's.
func TestEncryptionDoesNotReplaceASignature(t *testing.T) {
	p := newProvider(t)
	decrypter := newDecrypter(t, newKey(t))
	p.sign = func(claims map[string]any) string {
		payload, err := json.Marshal(claims)
		if err != nil {
			t.Error(err)
		}
		forged := encode([]byte(`{"alg":"none"}`)) + "." + encode(payload) + "."
		token, err := jose.Encrypt("ECDH-ES", jose.A256GCM, decrypter.Public(), jose.Message{ContentType: "JWT", Payload: []byte(forged)})
		if err != nil {
			t.Error(err)
		}
		return token
	}
	c := p.discover(t, func(config *client.Config) {
		config.IDTokenEncryptionAlg, config.DecryptionKeys = "ECDH-ES", []*jose.Decrypter{decrypter}
	})
	if _, err := p.signIn(t, c, client.AuthorizationOptions{}); !errors.Is(err, client.ErrIDToken) {
		t.Errorf("error is %v", err)
	}
}

func TestEncryptedWithTheSecret(t *testing.T) {
	p := newProvider(t)
	sign := p.sign
	p.sign = func(claims map[string]any) string {
		token, err := jose.EncryptSecret("A128KW", jose.A128CBCHS256, jose.SharedSecret(clientSecret), jose.Message{Payload: []byte(sign(claims))})
		if err != nil {
			t.Error(err)
		}
		return token
	}
	c := p.discover(t, func(config *client.Config) { config.IDTokenEncryptionAlg = "A128KW" })
	if _, err := p.signIn(t, c, client.AuthorizationOptions{}); err != nil {
		t.Error(err)
	}
}

func TestEncryptedUserInfo(t *testing.T) {
	decrypter := newDecrypter(t, newKey(t))
	for name, test := range map[string]struct {
		signing jose.Algorithm // expected by the client
		inside  func(*provider) string
		plain   bool
		want    error
	}{
		"only claims":               {inside: func(*provider) string { return `{"sub":"alice","name":"Alice"}` }},
		"signed too":                {signing: "ES256", inside: func(p *provider) string { return p.sign(map[string]any{"sub": "alice", "name": "Alice"}) }},
		"signed too, unexpectedly":  {inside: func(p *provider) string { return p.sign(map[string]any{"sub": "alice", "name": "Alice"}) }},
		"not signed, but required":  {signing: "ES256", inside: func(*provider) string { return `{"sub":"alice"}` }, want: client.ErrResponse},
		"another user":              {inside: func(*provider) string { return `{"sub":"mallory"}` }, want: client.ErrSubject},
		"not encrypted, but signed": {inside: func(p *provider) string { return p.sign(map[string]any{"sub": "alice"}) }, plain: true, want: client.ErrResponse},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			p.handlers["/userinfo"] = func(w http.ResponseWriter, _ *http.Request) {
				token := test.inside(p)
				if !test.plain {
					var err error
					if token, err = jose.Encrypt("ECDH-ES", jose.A256GCM, decrypter.Public(), jose.Message{Payload: []byte(token)}); err != nil {
						t.Error(err)
					}
				}
				w.Header().Set("Content-Type", "application/jwt")
				w.Write([]byte(token))
			}
			c := p.discover(t, func(config *client.Config) {
				config.UserInfoSigningAlg, config.UserInfoEncryptionAlg = test.signing, "ECDH-ES"
				config.DecryptionKeys = []*jose.Decrypter{decrypter}
			})
			tokens, err := p.signIn(t, c, client.AuthorizationOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if info, err := c.UserInfo(t.Context(), tokens); !errors.Is(err, test.want) || err == nil && info.Subject != "alice" {
				t.Errorf("error is %v, want %v", err, test.want)
			}
		})
	}
}

func TestEncryptedLogoutToken(t *testing.T) {
	decrypter := newDecrypter(t, newKey(t))
	a := newWebApp(t, func(c *client.Config, _ *client.RelyingPartyConfig) {
		c.IDTokenEncryptionAlg, c.DecryptionKeys = "ECDH-ES", []*jose.Decrypter{decrypter}
	})
	a.encrypts(t, "ECDH-ES", decrypter)
	browser := a.browser(t)
	a.signInTo(t, browser, "/")
	token := a.logoutToken(t, "logout+jwt", nil)
	if got := a.backChannel(url.Values{"logout_token": {token}}).Code; got != http.StatusBadRequest || !a.signedIn(t, browser) {
		t.Errorf("without encryption: status %d", got)
	}
	token, err := jose.Encrypt("ECDH-ES", jose.A256GCM, decrypter.Public(), jose.Message{ContentType: "JWT", Payload: []byte(token)})
	if err != nil {
		t.Fatal(err)
	}
	if got := a.backChannel(url.Values{"logout_token": {token}}).Code; got != http.StatusOK || a.signedIn(t, browser) {
		t.Errorf("status %d: %v", got, a.failure)
	}
}

func TestRegisteredEncryptionIsRequired(t *testing.T) {
	var r client.Registration
	r.IDTokenEncryptedResponseAlg, r.UserinfoEncryptedResponseAlg = "ECDH-ES", "RSA-OAEP-256"
	if config := r.Config(client.Config{}); config.IDTokenEncryptionAlg != "ECDH-ES" || config.UserInfoEncryptionAlg != "RSA-OAEP-256" {
		t.Errorf("the expected algorithms are %q and %q", config.IDTokenEncryptionAlg, config.UserInfoEncryptionAlg)
	}
}

func TestIncompleteEncryptionConfigIsRejected(t *testing.T) {
	p := newProvider(t)
	for name, change := range map[string]func(*client.Config){
		"no keys":           func(c *client.Config) { c.IDTokenEncryptionAlg = "ECDH-ES" },
		"no secret":         func(c *client.Config) { c.ClientSecret, c.UserInfoEncryptionAlg = "", "A128KW" },
		"signing algorithm": func(c *client.Config) { c.IDTokenEncryptionAlg = "ES256" },
	} {
		config := p.config()
		change(&config)
		if _, err := client.Discover(t.Context(), config); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
