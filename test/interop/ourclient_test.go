package interop

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// TestOIDCProvider tests our client and our API with the server of another project.
func TestOIDCProvider(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewUnstartedServer(nil)
	resource := "http://" + api.Listener.Addr().String()
	issuer := startProvider(t, key)
	api.Config.Handler = albums(t, issuer, resource, http.DefaultClient)
	api.Start()
	t.Cleanup(api.Close)

	t.Run("confidential client", func(t *testing.T) {
		c := discover(t, client.Config{
			Issuer: issuer, ClientID: clientID, ClientSecret: oddSecret, RedirectURI: redirectURI,
			Scopes: []string{"openid", "profile", "email", "offline_access"},
		})
		address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{LoginHint: "alice", Prompt: []string{"consent"}})
		if err != nil {
			t.Fatal(err)
		}
		callback, err := person.New("alice", "any").Visit(address, redirectURI)
		if err != nil {
			t.Fatal(err)
		}
		tokens, err := c.Callback(t.Context(), transaction, callback.Query())
		if err != nil {
			t.Fatal(err)
		}
		info, err := c.UserInfo(t.Context(), tokens)
		if err != nil {
			t.Fatal(err)
		}
		var claims struct{ Name, Email string }
		if err := info.Decode(&claims); err != nil || info.Subject != "alice" || claims.Name != "Alice Example" {
			t.Errorf("UserInfo is about %q, %q (%v)", info.Subject, claims.Name, err)
		}
		next, err := c.Refresh(t.Context(), tokens)
		if err != nil {
			t.Fatal(err)
		}
		if next.RefreshToken == tokens.RefreshToken || next.Identity.Subject != "alice" {
			t.Error("the response has no new refresh token or no ID token")
		}
		if err := c.Revoke(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Refresh(t.Context(), next); !errors.Is(err, client.ErrSignInAgain) {
			t.Errorf("after the revocation: got %v, want ErrSignInAgain", err)
		}
		if _, err := c.LogoutURL(client.LogoutOptions{IDTokenHint: next.IDToken}); err != nil {
			t.Error(err)
		}
	})
	t.Run("refusal", func(t *testing.T) {
		c := discover(t, client.Config{Issuer: issuer, ClientID: clientID, ClientSecret: oddSecret, RedirectURI: redirectURI, Scopes: []string{"openid"}})
		address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{Prompt: []string{"none"}})
		if err != nil {
			t.Fatal(err)
		}
		callback, err := person.New("alice", "any").Visit(address, redirectURI)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Callback(t.Context(), transaction, callback.Query()); !errors.Is(err, &client.Error{Code: oauth.LoginRequired}) {
			t.Errorf("got %v, want login_required", err)
		}
	})
	t.Run("native client", func(t *testing.T) {
		c := discover(t, client.Config{Issuer: issuer, ClientID: "native", RedirectURI: "http://127.0.0.1/callback", Scopes: []string{"openid"}})
		var options client.LoopbackOptions
		options.LoginHint = "alice"
		options.OpenBrowser = func(address string) error {
			request, err := url.Parse(address)
			if err != nil {
				return err
			}
			callback, err := person.New("alice", "any").Visit(address, request.Query().Get("redirect_uri"))
			if err != nil {
				return err
			}
			go func() {
				if resp, err := http.Get(callback.String()); err == nil {
					resp.Body.Close()
				}
			}()
			return nil
		}
		tokens, err := c.Loopback(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		if tokens.Identity.Subject != "alice" {
			t.Errorf("signed in %q", tokens.Identity.Subject)
		}
	})
	t.Run("service and API", func(t *testing.T) {
		c := discover(t, client.Config{
			Issuer: issuer, ClientID: serviceID, PrivateKey: key, KeyID: "one", Scopes: []string{apiScope}, Resources: []string{resource},
		})
		w := &world{api: api.URL}
		if got := call(t, w, c.ClientCredentialsSource().HTTPClient()); got.Client != serviceID {
			t.Errorf("the API saw %q", got.Client)
		}
		if got := status(t, w, http.DefaultClient); got != http.StatusUnauthorized {
			t.Errorf("without a token, the API responded with %d", got)
		}
	})
}

func discover(t *testing.T, config client.Config) *client.Client {
	t.Helper()
	c, err := client.Discover(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// startProvider starts a provider that knows the public key, and returns its issuer.
func startProvider(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	node := need(t, "node")
	command := exec.CommandContext(t.Context(), node, filepath.Join(installNode(t, "node"), "provider.mjs"))
	command.Env = append(os.Environ(),
		"CLIENT_ID="+clientID, "CLIENT_SECRET="+oddSecret, "REDIRECT_URI="+redirectURI, "API_SCOPE="+apiScope,
		"SERVICE_ID="+serviceID, "SERVICE_JWKS="+keySet(t, key, "one"))
	command.Stderr = t.Output()
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		command.Wait()
	})
	issuer, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(issuer)
}

// keySet returns the JWK Set of the public key.
func keySet(t *testing.T, key *ecdsa.PrivateKey, kid string) string {
	t.Helper()
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	set, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig", "x": encode(point[1:33]), "y": encode(point[33:]),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(set)
}
