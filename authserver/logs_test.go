package authserver_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/memory"
)

// lockedBuffer is a log that many goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// A whole walk and its refusals, logged at debug and traced: no secret is in either.
func TestLO01_LO03_NoSecretInLogsOrLadders(t *testing.T) {
	var log lockedBuffer
	var ladders strings.Builder
	var mu sync.Mutex
	s := newSceneOn(t, scriptSetup{
		Clients: []testClient{confidential("app"), confidential("jwt", func(c *authserver.Client) {
			c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodPrivateKeyJWT, []byte(`"$key"`)
		})},
		Resources: []authserver.Resource{{Identifier: "https://api.example", AccessTokenFormat: authserver.AccessTokenOpaque}},
	}, memory.New(), func(c *authserver.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.OnTrace = func(trace *authserver.Trace) {
			mu.Lock()
			defer mu.Unlock()
			for _, check := range trace.Checks {
				ladders.WriteString(check.Detail + check.Mend + "\n")
			}
		}
	})
	code := s.code("ada", "app", "scope", "openid", "state", "state-of-the-client", "nonce", "nonce-of-the-client")
	a := s.redeem("app", code)
	opaque := s.redeem("app", s.code("ada", "app", "resource", "https://api.example"))
	b := s.refresh("app", a.RefreshToken)
	assertion, err := s.sign("ES256", oauth.TypClientAuthentication, "", map[string]any{"iss": "jwt", "sub": "jwt", "aud": "https://elsewhere.example", "jti": "1", "exp": "60s"})
	if err != nil {
		t.Fatal(err)
	}
	// Every secret in a request that is refused.
	s.redeem("app", code)
	s.redeem("app", code+"x")
	s.refresh("app", a.RefreshToken+"x")
	s.refresh("other", b.RefreshToken)
	s.post("/token", "app", "grant_type", "authorization_code", "code", s.code("ada", "app"), "redirect_uri", testCallback, "code_verifier", strings.Repeat("verifier-that-is-wrong", 3))
	s.post("/token", "", "grant_type", "client_credentials", "client_assertion_type", oauth.ClientAssertionTypeJWTBearer, "client_assertion", assertion)
	s.post("/token", "", "grant_type", "client_credentials", "client_id", "app", "client_secret", "secret-that-is-wrong")
	s.post("/introspect", "app", "token", opaque.AccessToken+"x")
	s.post("/revoke", "app", "token", b.AccessToken, "token", b.AccessToken)
	s.userinfo(a.AccessToken + "x")
	s.userinfo(opaque.AccessToken)
	s.authorize("ada", query("app", "id_token_hint", a.IDToken+"x"))
	s.do(httptest.NewRequest(http.MethodGet, "/userinfo?access_token="+opaque.AccessToken, nil))
	s.server.Close()
	if !strings.Contains(log.String(), "request refused") || ladders.Len() == 0 {
		t.Fatal("nothing was logged or traced")
	}
	for name, secret := range map[string]string{
		"code": code, "access token": a.AccessToken, "ID token": a.IDToken, "refresh token": a.RefreshToken, "successor": b.RefreshToken,
		"opaque access token": opaque.AccessToken, "assertion": assertion, "client secret": testSecret, "verifier": testVerifier,
		"wrong verifier": "verifier-that-is-wrong", "wrong secret": "secret-that-is-wrong", "state": "state-of-the-client", "nonce": "nonce-of-the-client",
	} {
		if secret == "" {
			t.Errorf("there is no %s", name)
		} else if strings.Contains(log.String(), secret) {
			t.Errorf("the %s is in the log", name)
		} else if strings.Contains(ladders.String(), secret) {
			t.Errorf("the %s is in a ladder", name)
		}
	}
}

// A ladder explains a refusal to the operator: the reference finds it, and it says what
// to mend and where the URIs differ.
func TestRefusalsAreExplained(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	w := s.authorize("", query("app", "redirect_uri", "https://client.example.com/cc"))
	body := new(bytes.Buffer)
	if _, err := body.ReadFrom(w.Body); err != nil {
		t.Fatal(err)
	}
	_, ref, _ := strings.Cut(body.String(), "Reference: ")
	if strings.Contains(body.String(), testCallback) {
		t.Error("a stranger is told what is registered")
	}
	trace, err := s.server.Trace(t.Context(), strings.TrimSpace(ref))
	if err != nil {
		t.Fatal(err)
	}
	last := trace.Checks[len(trace.Checks)-1]
	if last.OK || !strings.Contains(last.Detail, "differ at character 29") || !strings.Contains(last.Detail, testCallback) || last.Mend == "" {
		t.Errorf("the last check is %+v", last)
	}
}
