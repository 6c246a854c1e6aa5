package authserver_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/jose"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/memory"
)

// basic sends client_credentials with any Authorization header.
func (s *scene) basic(header string) answer {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader("grant_type=client_credentials"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", header)
	return s.do(r)
}

func TestCA04_SecretsOfAnyCharacters(t *testing.T) {
	letters := []rune(" !\"#$%&'()*+,-./:;<=>?@AZ[\\]^_`az{|}~£€漢😀")
	for range 200 {
		b := make([]byte, 40)
		rand.Read(b)
		var id, secret strings.Builder
		for i, v := range b {
			(map[bool]*strings.Builder{true: &id, false: &secret})[i < 8].WriteRune(letters[int(v)%len(letters)])
		}
		s := newScene(t, scriptSetup{Clients: []testClient{{Secret: secret.String(), Client: confidential(id.String()).Client}}})
		credentials := url.QueryEscape(id.String()) + ":" + url.QueryEscape(secret.String())
		if a := s.basic("Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))); a.status != http.StatusOK {
			t.Errorf("client %q with secret %q: %d %s", id.String(), secret.String(), a.status, a.body)
		}
	}
}

func TestCA01_EmptyAndAbsentSecrets(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app"), {Client: authserver.Client{ID: "secretless", ClientMetadata: oauth.ClientMetadata{GrantTypes: []string{"client_credentials"}}}}}})
	for _, credentials := range []string{"app:", "app:null", "app:undefined", "secretless:", "secretless:x"} {
		s.basic("Basic "+base64.StdEncoding.EncodeToString([]byte(credentials))).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	}
	for _, header := range []string{"Basic", "Basic ", "Basic !", "Basic " + base64.StdEncoding.EncodeToString([]byte("app")), "Digest x", "Basic " + strings.Repeat("A", 5000)} {
		a := s.basic(header)
		a.want(t, http.StatusUnauthorized, oauth.InvalidClient)
		if a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%q gets no challenge", header)
		}
	}
}

func TestCA10_JW03_AlgorithmIsTheKeys(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app", func(c *authserver.Client) {
		c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodPrivateKeyJWT, []byte(`"$key"`)
	})}})
	claims := func() map[string]any {
		return map[string]any{"iss": "app", "sub": "app", "aud": scriptIssuer, "jti": rand.Text(), "exp": "60s"}
	}
	public, err := json.Marshal(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	// HS256 with the public key as the secret.
	forged, err := s.sign(jose.HS256, oauth.TypClientAuthentication, string(public), claims())
	if err != nil {
		t.Fatal(err)
	}
	// A key that the client did not register.
	stranger, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.ES256, "client-key", stranger)
	if err != nil {
		t.Fatal(err)
	}
	other := *s
	other.key = signer
	foreign, err := other.sign(jose.ES256, oauth.TypClientAuthentication, "", claims())
	if err != nil {
		t.Fatal(err)
	}
	good, err := s.sign(jose.ES256, oauth.TypClientAuthentication, "", claims())
	if err != nil {
		t.Fatal(err)
	}
	send := func(assertion string) answer {
		return s.post("/token", "", "grant_type", "client_credentials", "client_assertion_type", oauth.ClientAssertionTypeJWTBearer, "client_assertion", assertion)
	}
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"nOnE"}`)) + "." + strings.Split(good, ".")[1] + "."
	for _, assertion := range []string{forged, foreign, unsigned, good + "=", good + "A", strings.Split(good, ".")[0] + "." + strings.Split(good, ".")[1] + "."} {
		send(assertion).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	}
	send(good).want(t, http.StatusOK, "")
}

func TestCA16_TwoSecretsWhileOneReplacesTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
		declare := func(secrets ...string) {
			c := confidential("app").Client
			c.Secrets = secrets
			if err := s.store.Declare(t.Context(), time.Now(), "test", memory.Declaration{Clients: []authserver.Client{c}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		try := func(secret string) int {
			return s.basic("Basic " + base64.StdEncoding.EncodeToString([]byte("app:"+secret))).status
		}
		declare("new-secret-of-enough-characters", testSecret)
		if try(testSecret) != http.StatusOK || try("new-secret-of-enough-characters") != http.StatusOK {
			t.Error("within the overlap one of the secrets is refused")
		}
		declare("new-secret-of-enough-characters")
		if try(testSecret) != http.StatusUnauthorized || try("new-secret-of-enough-characters") != http.StatusOK {
			t.Error("after the overlap the old secret works, or the new one does not")
		}
	})
}

func TestCA17_FailuresTellNothingAndAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app"), confidential("gone", func(c *authserver.Client) { c.Disabled = true })}})
		wrong := func(id string) answer {
			return s.basic("Basic " + base64.StdEncoding.EncodeToString([]byte(id+":wrong")))
		}
		text := func(a answer) string { return a.Error + strings.Split(a.Description, " (ref")[0] }
		want := wrong("app")
		for _, id := range []string{"nobody", "gone"} {
			if got := wrong(id); got.status != want.status || text(got) != text(want) {
				t.Errorf("%s is told %d %q, a wrong secret %d %q", id, got.status, text(got), want.status, text(want))
			}
		}
		limited := 0
		for range 100 {
			if a := wrong("app"); a.status == http.StatusTooManyRequests {
				limited++
				if a.header.Get("Retry-After") == "" {
					t.Fatal("429 without Retry-After")
				}
			}
		}
		if limited < 30 {
			t.Errorf("of 100 wrong secrets %d were refused unseen", limited)
		}
		time.Sleep(time.Minute)
		s.post("/token", "app", "grant_type", "client_credentials").want(t, http.StatusOK, "")
	})
}
