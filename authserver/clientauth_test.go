package authserver_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// basic sends a client credentials request with an Authorization header.
func (s *scene) basic(header string) apiResponse {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader("grant_type=client_credentials"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", header)
	return s.do(r)
}

func TestCA04_SecretsWithAnyCharacters(t *testing.T) {
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

// Many clients do not form-encode the parts of HTTP Basic credentials, for example "curl -u".
func TestCA04_CredentialsWithoutFormEncoding(t *testing.T) {
	letters := []rune(" !\"#$%&'()*+,-./;<=>?@AZ[\\]^_`az{|}~45£€漢😀")
	for range 200 {
		b := make([]byte, 40)
		rand.Read(b)
		var id, secret strings.Builder
		for i, v := range b {
			(map[bool]*strings.Builder{true: &id, false: &secret})[i < 8].WriteRune(letters[int(v)%len(letters)])
		}
		secret.WriteString("%41+:%zz"[rand.Text()[0]%5:])
		s := newScene(t, scriptSetup{Clients: []testClient{{Secret: secret.String(), Client: confidential(id.String()).Client}}})
		if a := s.basic("Basic " + base64.StdEncoding.EncodeToString([]byte(id.String()+":"+secret.String()))); a.status != http.StatusOK {
			t.Errorf("client %q with secret %q: %d %s", id.String(), secret.String(), a.status, a.body)
		}
		s.basic("Basic "+base64.StdEncoding.EncodeToString([]byte(id.String()+":"+secret.String()+"+"))).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	}
}

// If both the form-decoded and the unchanged client_id are registered, the decoded one is used,
// unless the body has the other one.
func TestCA04_ClientIDsThatDifferInTheirEncoding(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{
		{Secret: "secret-of-the-client-with-a-space", Client: confidential("a b").Client},
		{Secret: "secret-of-the-client-with-a-plus", Client: confidential("a+b").Client},
	}})
	send := func(credentials, body string) apiResponse {
		r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader("grant_type=client_credentials"+body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(credentials)))
		return s.do(r)
	}
	send("a+b:secret-of-the-client-with-a-space", "").want(t, http.StatusOK, "")
	send("a%2Bb:secret-of-the-client-with-a-plus", "").want(t, http.StatusOK, "")
	send("a+b:secret-of-the-client-with-a-plus", "&client_id=a%2Bb").want(t, http.StatusOK, "")
	send("a+b:secret-of-the-client-with-a-plus", "").want(t, http.StatusUnauthorized, oauth.InvalidClient)
	send("a+b:secret-of-the-client-with-a-plus", "&client_id=a+b").want(t, http.StatusUnauthorized, oauth.InvalidClient)
}

func TestCA04_TheTraceShowsHowTheSecretWasEncoded(t *testing.T) {
	var last record.Trace
	s := newSceneOn(t, scriptSetup{Clients: []testClient{{Secret: "pass+word/of/the%20client", Client: confidential("app").Client}}}, memory.New(), func(c *authserver.Config) {
		c.OnTrace = func(t *record.Trace) { last = *t }
	})
	for secret, want := range map[string]string{
		"pass+word/of/the%20client":                  "the secret was not form-encoded, and was accepted unchanged",
		url.QueryEscape("pass+word/of/the%20client"): "the secret was form-encoded",
		"pass+ford": "the secret is wrong, both form-decoded and unchanged",
	} {
		s.basic("Basic " + base64.StdEncoding.EncodeToString([]byte("app:"+secret)))
		if !slices.ContainsFunc(last.Checks, func(c record.Check) bool { return c.Detail == want }) {
			t.Errorf("%s: %+v", secret, last.Checks)
		}
		if strings.Contains(fmt.Sprintf("%+v", last), "word") {
			t.Error("the trace contains the secret")
		}
	}
}

// A declared client without a method may send its secret in either place. A client with a method, and
// one that registered itself, must use its method.
func TestCA03_DeclaredClientsWithoutAMethodMayUseEither(t *testing.T) {
	method := func(name string) func(*record.Client) {
		return func(c *record.Client) { c.TokenEndpointAuthMethod = name }
	}
	s := newScene(t, scriptSetup{Clients: []testClient{
		confidential("either"), confidential("basic", method("client_secret_basic")), confidential("post", method("client_secret_post")),
		confidential("registered", func(c *record.Client) { c.Registration = &record.Registration{} }),
	}})
	for id, want := range map[string][2]int{"either": {200, 200}, "basic": {200, 401}, "post": {401, 200}, "registered": {200, 401}} {
		basic := s.basic("Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+testSecret)))
		post := s.post("/token", "", "grant_type", "client_credentials", "client_id", id, "client_secret", testSecret)
		if basic.status != want[0] || post.status != want[1] {
			t.Errorf("%s: client_secret_basic %d, client_secret_post %d, want %v", id, basic.status, post.status, want)
		}
	}
	s.post("/token", "", "grant_type", "client_credentials", "client_id", "either").want(t, http.StatusUnauthorized, oauth.InvalidClient)
	s.post("/token", "", "grant_type", "client_credentials", "client_id", "either", "client_secret", "wrong").want(t, http.StatusUnauthorized, oauth.InvalidClient)
}

func TestCA01_EmptyAndAbsentSecrets(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app"), {Client: record.Client{ID: "secretless", ClientMetadata: oauth.ClientMetadata{GrantTypes: []string{"client_credentials"}}}}}})
	for _, credentials := range []string{"app:", "app:null", "app:undefined", "secretless:", "secretless:x"} {
		s.basic("Basic "+base64.StdEncoding.EncodeToString([]byte(credentials))).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	}
	for _, header := range []string{"Basic", "Basic ", "Basic !", "Basic " + base64.StdEncoding.EncodeToString([]byte("app")), "Digest x", "Basic " + strings.Repeat("A", 5000)} {
		a := s.basic(header)
		a.want(t, http.StatusUnauthorized, oauth.InvalidClient)
		if a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("the response to %q has no challenge", header)
		}
	}
}

func TestCA10_JW03_TheKeyDeterminesTheAlgorithm(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) {
		c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodPrivateKeyJWT, []byte(`"$key"`)
	})}})
	claims := func() map[string]any {
		return map[string]any{"iss": "app", "sub": "app", "aud": scriptIssuer, "jti": rand.Text(), "exp": "60s"}
	}
	public, err := json.Marshal(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	// Use the public key as the secret for HS256.
	forged, err := s.sign(jose.HS256, oauth.TypClientAuthentication, string(public), claims())
	if err != nil {
		t.Fatal(err)
	}
	// The key is not registered for the client.
	unregistered, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.ES256, "client-key", unregistered)
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
	send := func(assertion string) apiResponse {
		return s.post("/token", "", "grant_type", "client_credentials", "client_assertion_type", oauth.ClientAssertionTypeJWTBearer, "client_assertion", assertion)
	}
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"nOnE"}`)) + "." + strings.Split(good, ".")[1] + "."
	for _, assertion := range []string{forged, foreign, unsigned, good + "=", good + "A", strings.Split(good, ".")[0] + "." + strings.Split(good, ".")[1] + "."} {
		send(assertion).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	}
	send(good).want(t, http.StatusOK, "")
}

// An assertion that is valid for an hour is accepted only once in that hour.
func TestCA07_LongLivedAssertionsAreAcceptedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) {
			c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodPrivateKeyJWT, []byte(`"$key"`)
		})}}, store, nil)
		assertion, err := s.sign(jose.ES256, oauth.TypClientAuthentication, "", map[string]any{"iss": "app", "sub": "app", "aud": scriptIssuer, "jti": rand.Text(), "iat": "0s", "exp": "3600s"})
		if err != nil {
			t.Fatal(err)
		}
		send := func() apiResponse {
			return s.post("/token", "", "grant_type", "client_credentials", "client_assertion_type", oauth.ClientAssertionTypeJWTBearer, "client_assertion", assertion)
		}
		send().want(t, http.StatusOK, "")
		for range 6 {
			time.Sleep(10 * time.Minute)
			if _, err := store.Reclaim(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
			send().want(t, http.StatusUnauthorized, oauth.InvalidClient)
		}
	})
}

func TestCA16_BothSecretsAreValidDuringRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
		declare := func(secrets ...string) {
			c := confidential("app").Client
			c.Secrets = secrets
			if err := s.store.Declare(t.Context(), time.Now(), "test", memory.Declaration{Clients: []record.Client{c}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		status := func(secret string) int {
			return s.basic("Basic " + base64.StdEncoding.EncodeToString([]byte("app:"+secret))).status
		}
		declare("new-secret-of-enough-characters", testSecret)
		if status(testSecret) != http.StatusOK || status("new-secret-of-enough-characters") != http.StatusOK {
			t.Error("during the overlap, a secret is refused")
		}
		declare("new-secret-of-enough-characters")
		if status(testSecret) != http.StatusUnauthorized || status("new-secret-of-enough-characters") != http.StatusOK {
			t.Error("after the overlap, the old secret is accepted or the new one is refused")
		}
	})
}

func TestCA17_FailuresAreUniformAndLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app"), confidential("disabled", func(c *record.Client) { c.Disabled = true })}})
		wrong := func(id string) apiResponse {
			return s.basic("Basic " + base64.StdEncoding.EncodeToString([]byte(id+":wrong")))
		}
		text := func(a apiResponse) string { return a.Error + strings.Split(a.Description, " (ref")[0] }
		want := wrong("app")
		for _, id := range []string{"unknown", "disabled"} {
			if got := wrong(id); got.status != want.status || text(got) != text(want) {
				t.Errorf("%s gets %d %q, a wrong secret gets %d %q", id, got.status, text(got), want.status, text(want))
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
			t.Errorf("%d of 100 wrong secrets were rate-limited", limited)
		}
		time.Sleep(time.Minute)
		s.post("/token", "app", "grant_type", "client_credentials").want(t, http.StatusOK, "")
	})
}
