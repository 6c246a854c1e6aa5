package upstream

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

// withApp makes a provider the only way to sign in to the client app.
func withApp(c *configuration.Configuration) {
	c.PasswordSignIn, c.Contact = configuration.PasswordSignInOff, "help@corp.example"
	c.Scopes = []record.Scope{{Name: "groups", Description: "See your groups", Claims: []string{"groups"}}}
	c.Clients = []configuration.Client{{ID: "app", ClientMetadata: oauth.ClientMetadata{
		ClientName: "App", RedirectURIs: []string{callback}, TokenEndpointAuthMethod: oauth.AuthMethodNone, Scope: "openid profile email groups",
	}, ClientSettings: record.ClientSettings{SkipConsent: true}}}
}

func corp(f *fake) upstream.Config {
	return upstream.Config{ID: "corp", Name: "Example Corp", Issuer: f.issuer, ClientID: "valetkey", ClientSecret: secret, Rule: "true"}
}

// signInWith is signIn with options.
func signInWith(t *testing.T, c *client.Client, p *person.Person, options client.AuthorizationOptions) (*client.Tokens, error) {
	t.Helper()
	address, transaction, err := c.AuthorizationURL(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	response, err := p.Visit(address, callback)
	if err != nil {
		return nil, err
	}
	return c.Callback(t.Context(), transaction, response.Query())
}

// A name in a domain of a provider leads there at once, and no other name does.
func TestADomainLeadsToItsProvider(t *testing.T) {
	f := newFake(t)
	provider := corp(f)
	provider.Domains = []string{"corp.example"}
	issuer := newServer(t, provider, func(c *configuration.Configuration) {
		c.Users = []configuration.User{{Username: "carol", Password: password, Email: "carol@corp.example", EmailVerified: verified()}}
	})
	f.claims = map[string]any{"sub": "1", "preferred_username": "alice"}
	b := visitor(t)
	routed, _ := post(t, b, issuer, "/sign-in", url.Values{"identifier": {" Alice@CORP.example "}, "password": {"typed by mistake"}})
	response := f.authorize(t, routed)
	if hint := f.asked.Get("login_hint"); !strings.EqualFold(strings.TrimSpace(hint), "alice@corp.example") || strings.Contains(routed.Header.Get("Location"), "mistake") {
		t.Errorf("the request is %v", f.asked)
	}
	if response, _ := get(t, b, issuer+"/upstream/corp/callback?"+response.Encode()); response.StatusCode != http.StatusSeeOther {
		t.Errorf("sign in: %d", response.StatusCode)
	}
	// The same response for a name with an account, without one, and without a password.
	for _, name := range []string{"carol@corp.example", "nobody@corp.example"} {
		routed, _ := post(t, visitor(t), issuer, "/sign-in", url.Values{"identifier": {name}, "password": {""}})
		f.authorize(t, routed)
	}
	for _, name := range []string{"alice@sub.corp.example", "alice@evilcorp.example", "alice@x@corp.example", "corp.example", "alice@corp.example.evil.example"} {
		if response, _ := post(t, visitor(t), issuer, "/sign-in", url.Values{"identifier": {name}, "password": {"x"}}); response.Header.Get("Location") != "" {
			t.Errorf("%q leads to %s", name, response.Header.Get("Location"))
		}
	}
	if response, _ := post(t, visitor(t), issuer, "/sign-in", url.Values{"identifier": {"carol"}, "password": {password}}); response.StatusCode != http.StatusSeeOther || strings.HasPrefix(response.Header.Get("Location"), f.issuer) {
		t.Errorf("a local user by username: %d", response.StatusCode)
	}
}

// max_age and prompt=login of a client reach the provider, and its auth_time is checked and reported.
func TestTheProviderIsAskedToAuthenticateAgain(t *testing.T) {
	f := newFake(t)
	issuer := newServer(t, corp(f), withApp)
	app, alice := newClient(t, issuer, "app"), person.New("alice", "")
	at := func(ago time.Duration) time.Time {
		signedIn := time.Now().Add(-ago).Truncate(time.Second)
		f.claims = map[string]any{"sub": "1", "auth_time": signedIn.Unix()}
		return signedIn
	}
	hour := time.Hour
	withMaxAge, login := client.AuthorizationOptions{MaxAge: &hour}, client.AuthorizationOptions{Prompt: []string{"login"}}

	then := at(30 * time.Minute)
	tokens, err := signInWith(t, app, alice, withMaxAge)
	if err != nil {
		t.Fatal(err)
	}
	if f.asked.Get("max_age") != "3600" || f.asked.Has("prompt") || !tokens.Identity.AuthTime.Equal(then) {
		t.Errorf("max_age: asked %v, auth_time %v instead of %v", f.asked, tokens.Identity.AuthTime, then)
	}
	at(2 * time.Hour)
	if _, err := signInWith(t, app, person.New("alice", ""), withMaxAge); err == nil {
		t.Error("max_age: a sign-in of two hours ago was accepted")
	}
	f.claims = map[string]any{"sub": "1"}
	if _, err := signInWith(t, app, person.New("alice", ""), withMaxAge); err == nil {
		t.Error("max_age: a response without auth_time was accepted")
	}

	at(30 * time.Minute) // the provider ignores prompt=login
	if _, err := signInWith(t, app, alice, login); err == nil {
		t.Error("prompt=login: a sign-in of half an hour ago was accepted")
	}
	if f.asked.Get("prompt") != "login" || f.asked.Get("max_age") != "0" {
		t.Errorf("prompt=login: asked %v", f.asked)
	}
	at(0)
	if tokens, err = signInWith(t, app, alice, login); err != nil || time.Since(tokens.Identity.AuthTime) > 10*time.Minute {
		t.Errorf("prompt=login: %v", err)
	}
	at(-10 * time.Minute)
	if _, err := signInWith(t, app, person.New("alice", ""), client.AuthorizationOptions{}); err == nil {
		t.Error("an auth_time in the future was accepted")
	}
}

// A session here ends with the one at the provider that session_expiry limits.
func TestSessionExpiryOfTheProvider(t *testing.T) {
	f := newFake(t)
	issuer := newServer(t, corp(f), nil)
	signIn := func(expiry time.Time) (*http.Client, int) {
		t.Helper()
		f.claims = map[string]any{"sub": "1", "session_expiry": expiry.Unix()}
		b := visitor(t)
		response, _ := f.signIn(t, b, issuer, "corp")
		return b, response.StatusCode
	}
	signedIn := func(b *http.Client) bool {
		t.Helper()
		response, _ := get(t, b, issuer+"/account")
		return response.StatusCode == http.StatusOK
	}
	if b, status := signIn(time.Now().Add(-time.Minute)); status < 400 || signedIn(b) {
		t.Errorf("a session that has expired: %d", status)
	}
	long, _ := signIn(time.Now().Add(time.Hour))
	end := time.Now().Add(3 * time.Second)
	short, status := signIn(end)
	if status != http.StatusSeeOther {
		t.Fatalf("sign in: %d", status)
	}
	if !signedIn(short) && time.Now().Before(end.Truncate(time.Second)) {
		t.Error("the session ended too early")
	}
	for deadline := time.Now().Add(2 * time.Minute); signedIn(short); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the session continues two minutes after session_expiry")
		}
	}
	if !signedIn(long) {
		t.Error("a session with a later session_expiry ended, too")
	}
}

// An acr of the provider counts only if the operator maps it, and so does its amr.
func TestTrustedACR(t *testing.T) {
	f := newFake(t)
	const mfa = "https://refeds.org/profile/mfa"
	provider := corp(f)
	provider.ACRValues, provider.TrustedACR = mfa, map[string]string{mfa: "2"}
	issuer := newServer(t, provider, withApp)
	app := newClient(t, issuer, "app")
	for _, test := range []struct {
		acr, want string
		amr       []string
	}{
		{mfa, "2", []string{"mfa", "otp", "pwd"}},
		{"https://refeds.org/profile/sfa", "1", nil},
		{"2", "1", nil},
		{"phr", "1", nil},
	} {
		f.claims = map[string]any{"sub": "1", "acr": test.acr, "amr": []string{"otp", "pwd", "mfa", "made-up"}}
		tokens, err := signInWith(t, app, person.New("alice", ""), client.AuthorizationOptions{})
		if err != nil {
			t.Fatal(err)
		}
		amr := slices.Sorted(slices.Values(tokens.Identity.AMR))
		if tokens.Identity.ACR != test.want || !slices.Equal(amr, test.amr) {
			t.Errorf("acr %q: acr %q, amr %q", test.acr, tokens.Identity.ACR, amr)
		}
		if f.asked.Get("acr_values") != mfa {
			t.Errorf("the request is %v", f.asked)
		}
	}
}

// The server authenticates at the provider with a key.
func TestPrivateKeyJWT(t *testing.T) {
	key, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "client.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	point, err := key.Public().(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	keys, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "login-1", "x": encode(point[1:33]), "y": encode(point[33:]),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	theirs, provider := listen(t)
	ours, issuer := listen(t)
	start(t, theirs, configuration.Configuration{Declarations: configuration.Declarations{
		Clients: []configuration.Client{{ID: "valetkey", ClientMetadata: oauth.ClientMetadata{
			ClientName: "Login", RedirectURIs: []string{issuer + "/upstream/corp/callback"}, Scope: "openid profile email",
			TokenEndpointAuthMethod: oauth.AuthMethodPrivateKeyJWT, JWKS: keys,
		}, ClientSettings: record.ClientSettings{SkipConsent: true}}},
		Users: []configuration.User{{Username: "alice", Password: password}},
	}})
	config := configuration.Configuration{IdentityProviders: []upstream.Config{{
		ID: "corp", Issuer: provider, ClientID: "valetkey", PrivateKeyFile: file, KeyID: "login-1", Rule: "true",
	}}}
	withApp(&config)
	start(t, ours, config)
	if _, err := signIn(t, newClient(t, issuer, "app"), person.New("alice", password)); err != nil {
		t.Error(err)
	}
}

// A server without OpenID Connect is described by its endpoints and a mapping.
func TestAServerWithoutOpenIDConnect(t *testing.T) {
	user := map[string]any{"id": 7, "profile": map[string]any{"display_name": "Alice Example"}, "email": "alice@forge.example", "confirmed_at": "2026-01-01"}
	forge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/oauth/authorize":
			q := r.URL.Query()
			http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"state": {q.Get("state")}, "code": {"c0de"}}.Encode(), http.StatusSeeOther)
		case "/oauth/token":
			if id, password, ok := r.BasicAuth(); !ok || id != "valetkey" || password != secret {
				writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
				return
			}
			writeJSON(w, http.StatusOK, map[string]any{"access_token": "t0ken", "token_type": "Bearer"})
		case "/api/user":
			writeJSON(w, http.StatusOK, user)
		}
	}))
	t.Cleanup(forge.Close)
	issuer := newServer(t, upstream.Config{
		ID: "forge", Name: "Forge", ClientID: "valetkey", ClientSecret: secret, Scope: "read_user", Subject: "/id", Rule: "true", TrustEmail: true,
		AuthorizationEndpoint: forge.URL + "/oauth/authorize", TokenEndpoint: forge.URL + "/oauth/token", UserinfoEndpoint: forge.URL + "/api/user",
		Claims: map[string]string{"name": "/profile/display_name", "email": "/email", "email_verified": "claims.confirmed_at != nil"},
	}, withApp)
	app := newClient(t, issuer, "app")
	tokens, err := signIn(t, app, person.New("alice", ""))
	if err != nil {
		t.Fatal(err)
	}
	if claims := userInfo(t, app, tokens); claims["name"] != "Alice Example" || claims["email"] != "alice@forge.example" || claims["email_verified"] != true {
		t.Errorf("claims: %v", claims)
	}
	hour := time.Hour
	for name, options := range map[string]client.AuthorizationOptions{"max_age": {MaxAge: &hour}, "prompt=login": {Prompt: []string{"login"}}} {
		if _, err := signInWith(t, app, person.New("alice", ""), options); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("%s, although the server does not say when its user signed in: %v", name, err)
		}
	}
	user = map[string]any{"id": 8, "email": "eve@forge.example", "confirmed_at": nil, "email_verified": true}
	other, err := signIn(t, app, person.New("eve", ""))
	if err != nil {
		t.Fatal(err)
	}
	if claims := userInfo(t, app, other); other.Identity.Subject == tokens.Identity.Subject || claims["email"] != nil {
		t.Errorf("claims of a user whose address is not confirmed: %v", claims)
	}
}
