package upstream

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/oauth/jose"
)

// newServer starts a server with one provider.
func newServer(t *testing.T, provider upstream.Config, change func(*configuration.Configuration)) (issuer string) {
	t.Helper()
	ours, issuer := listen(t)
	config := configuration.Configuration{IdentityProviders: []upstream.Config{provider}}
	if change != nil {
		change(&config)
	}
	start(t, ours, config)
	return issuer
}

// github responds as github.com does: RFC 6749 with its peculiarities, and a JSON API.
type github struct {
	issuer string
	user   map[string]any
	emails []map[string]any
	// refuse is the error that the token endpoint responds with, with status 200.
	refuse string
}

func newGitHub(t *testing.T) *github {
	t.Helper()
	g := &github{
		user:   map[string]any{"id": json.Number("9007199254740993"), "login": "alice", "name": "Alice Example", "email": "public@example.org", "html_url": "https://github.com/alice", "blog": ""},
		emails: []map[string]any{{"email": "old@example.org", "primary": false, "verified": true}, {"email": "alice@example.org", "primary": true, "verified": true}},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/login/oauth/access_token":
			switch {
			case r.Header.Get("Accept") != "application/json": // otherwise the response is a form
				w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
			case g.refuse != "":
				writeJSON(w, http.StatusOK, map[string]string{"error": g.refuse, "error_description": "The code passed is incorrect or expired."})
			case r.PostFormValue("client_secret") != secret || r.PostFormValue("code") != "c0de" || r.PostFormValue("code_verifier") == "":
				writeJSON(w, http.StatusOK, map[string]string{"error": "incorrect_client_credentials"})
			default:
				writeJSON(w, http.StatusOK, map[string]string{"access_token": "gho_16C7e42F292c6912E7710c838347Ae178B4a", "scope": "read:user,user:email", "token_type": "bearer"})
			}
		case "/user", "/user/emails":
			var answer any = g.user
			if r.URL.Path == "/user/emails" {
				answer = g.emails
			}
			if r.Header.Get("Authorization") != "Bearer gho_16C7e42F292c6912E7710c838347Ae178B4a" || r.Header.Get("User-Agent") == "" {
				writeJSON(w, http.StatusUnauthorized, map[string]string{"message": "Bad credentials"})
				return
			}
			writeJSON(w, http.StatusOK, answer)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	g.issuer = server.URL
	return g
}

func (g *github) provider() upstream.Config {
	return upstream.Config{
		ID: "github", Preset: "github", ClientID: "valetkey", ClientSecret: secret, TrustEmail: true, Rule: "{claims: {name: claims.name}}",
		AuthorizationEndpoint: g.issuer + "/login/oauth/authorize", TokenEndpoint: g.issuer + "/login/oauth/access_token", UserinfoEndpoint: g.issuer + "/user",
	}
}

func (g *github) signIn(t *testing.T, issuer string) (b *http.Client, status int) {
	t.Helper()
	b = visitor(t)
	start, _ := post(t, b, issuer, "/sign-in/upstream", url.Values{"provider": {"github"}})
	to, err := start.Location()
	if err != nil || !strings.HasPrefix(to.String(), g.issuer+"/login/oauth/authorize?") {
		t.Fatalf("status %d leads to %v", start.StatusCode, to)
	}
	asked := to.Query()
	if asked.Get("scope") != "read:user user:email" || asked.Get("code_challenge_method") != "S256" || asked.Has("nonce") || asked.Has("max_age") {
		t.Errorf("the request is %v", asked)
	}
	response, _ := get(t, b, issuer+"/upstream/github/callback?"+url.Values{"code": {"c0de"}, "state": {asked.Get("state")}}.Encode())
	return b, response.StatusCode
}

func TestGitHub(t *testing.T) {
	g := newGitHub(t)
	issuer := newServer(t, g.provider(), nil)
	b, status := g.signIn(t, issuer)
	if status != http.StatusSeeOther {
		t.Fatalf("sign in: %d", status)
	}
	_, body := get(t, b, issuer+"/account")
	if !strings.Contains(body, "Alice Example") || !strings.Contains(body, "alice@example.org") || strings.Contains(body, "public@example.org") {
		t.Errorf("the account is not that of alice with her primary address")
	}
	// The user is the number, in all its digits, whatever else changes.
	g.user["login"], g.user["name"], g.emails[1]["email"] = "ally", "Ally Example", "ally@example.org"
	b, _ = g.signIn(t, issuer)
	if _, body = get(t, b, issuer+"/account"); !strings.Contains(body, "Ally Example") || !strings.Contains(body, "alice@example.org") {
		t.Errorf("the renamed user is not the same one")
	}
	g.user["id"], g.emails[1]["email"] = json.Number("9007199254740992"), "eve@example.org"
	b, _ = g.signIn(t, issuer)
	if _, body = get(t, b, issuer+"/account"); strings.Contains(body, "alice@example.org") || !strings.Contains(body, "eve@example.org") {
		t.Errorf("another user got the account of alice")
	}
	for name, change := range map[string]func(){
		"no id":                func() { delete(g.user, "id") },
		"the id is a fraction": func() { g.user["id"] = 1.5 },
		"a refused code":       func() { g.refuse = "bad_verification_code" },
	} {
		change()
		if b, status := g.signIn(t, issuer); status != http.StatusBadGateway {
			t.Errorf("%s: %d", name, status)
		} else if response, _ := get(t, b, issuer+"/account"); response.StatusCode != http.StatusSeeOther {
			t.Errorf("%s: signed in", name)
		}
	}
}

// An address that GitHub has not verified is not that of the account.
func TestGitHubAddressThatIsNotVerified(t *testing.T) {
	g := newGitHub(t)
	issuer := newServer(t, g.provider(), nil)
	g.emails[1]["verified"] = false
	b, _ := g.signIn(t, issuer)
	if response, body := get(t, b, issuer+"/account"); response.StatusCode != http.StatusOK || strings.Contains(body, "alice@example.org") {
		t.Errorf("the account has the address: %d", response.StatusCode)
	}
}

// Apple posts its response from its own page, checks a signed client secret, and sends the name once.
func TestApple(t *testing.T) {
	f := newFake(t)
	key, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "AuthKey_ABC123DEFG.p8")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	f.secret = func(secret string) bool { return appleAccepts(t, f.issuer, secret, key) }
	f.claims = map[string]any{"sub": "001234.abc", "email": "x7@privaterelay.appleid.com", "email_verified": "true", "is_private_email": "true", "auth_time": time.Now().Unix(), "nonce_supported": true}
	issuer := newServer(t, upstream.Config{
		ID: "apple", Preset: "apple", Issuer: f.issuer, ClientID: "com.example.login", TeamID: "DEF123GHIJ", KeyID: "ABC123DEFG", PrivateKeyFile: file,
		TrustEmail: true, Rule: "{claims: {name: claims.name}}",
	}, nil)

	signIn := func(user string) (*http.Client, *http.Response) {
		t.Helper()
		b := visitor(t)
		start, _ := post(t, b, issuer, "/sign-in/upstream", url.Values{"provider": {"apple"}})
		form := f.authorize(t, start)
		if f.asked.Get("response_mode") != "form_post" || f.asked.Get("scope") != "openid name email" {
			t.Errorf("the request is %v", f.asked)
		}
		if user != "" {
			form.Set("user", user)
		}
		held := crossSite(t, f.issuer, issuer+"/upstream/apple/callback", form)
		location := held.Header.Get("Location")
		if held.StatusCode != http.StatusSeeOther || strings.Contains(location, form.Get("code")) {
			t.Fatalf("the posted response: %d %s", held.StatusCode, location)
		}
		if again := crossSite(t, f.issuer, issuer+"/upstream/apple/callback", form); again.StatusCode != http.StatusBadRequest {
			t.Errorf("posted again: %d", again.StatusCode)
		}
		back, err := held.Location()
		if err != nil {
			t.Fatal(err)
		}
		if response, _ := get(t, visitor(t), back.String()); response.StatusCode != http.StatusBadRequest {
			t.Errorf("continued in another browser: %d", response.StatusCode)
		}
		response, _ := get(t, b, back.String())
		return b, response
	}
	b, response := signIn(`{"name":{"firstName":"Alice","lastName":"Example"},"email":"ceo@corp.example"}`)
	if response.StatusCode != http.StatusSeeOther || f.tokenRequests != 1 {
		t.Fatalf("sign in: %d", response.StatusCode)
	}
	if _, body := get(t, b, issuer+"/account"); !strings.Contains(body, "Alice Example") || !strings.Contains(body, "x7@privaterelay.appleid.com") || strings.Contains(body, "ceo@corp.example") {
		t.Error("the account has not the name and the address of alice")
	}
	b, _ = signIn("") // Apple sends the name no more
	if _, body := get(t, b, issuer+"/account"); !strings.Contains(body, "x7@privaterelay.appleid.com") || !strings.Contains(body, "Alice Example") {
		t.Error("the second sign-in lost the account or its name")
	}
	if response := crossSite(t, f.issuer, issuer+"/upstream/apple/callback", url.Values{"state": {"made up"}, "code": {"x"}}); response.StatusCode != http.StatusBadRequest {
		t.Errorf("a made-up state: %d", response.StatusCode)
	}
}

// appleAccepts checks a client secret as Apple documents it.
func appleAccepts(t *testing.T, issuer, secret string, key interface{ Public() crypto.PublicKey }) bool {
	parts := strings.Split(secret, ".")
	if len(parts) != 3 {
		return false
	}
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		t.Error(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Error(err)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(signature) != 64 {
		t.Errorf("signature: %v", err)
		return false
	}
	var h struct{ Alg, Kid string }
	var c struct {
		Iss, Sub, Aud string
		Iat, Exp      int64
	}
	if err := errors.Join(json.Unmarshal(header, &h), json.Unmarshal(payload, &c)); err != nil {
		t.Error(err)
	}
	hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	ok := ecdsa.Verify(key.Public().(*ecdsa.PublicKey), hash[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	const halfYear = 15777000
	now := time.Now().Unix()
	return ok && h.Alg == "ES256" && h.Kid == "ABC123DEFG" && c.Iss == "DEF123GHIJ" && c.Sub == "com.example.login" && c.Aud == issuer &&
		c.Iat <= now && c.Exp > now && c.Exp <= now+halfYear
}

// Microsoft identifies a user by oid and tid; sub and email identify no one.
func TestMicrosoft(t *testing.T) {
	const tenant = "1b4a2f6e-0d0a-4c6e-9f3e-5a8d7c2b1e90"
	f := newFake(t)
	user := func(oid, tid, sub, name string) {
		f.claims = map[string]any{"oid": oid, "tid": tid, "sub": sub, "name": name, "email": "alice@corp.example", "preferred_username": "alice@corp.example"}
	}
	issuer := newServer(t, upstream.Config{
		ID: "microsoft", Preset: "microsoft", Issuer: f.issuer, Tenant: tenant, ClientID: "valetkey", ClientSecret: secret, Rule: "{claims: {name: claims.name}, username: claims.oid}",
	}, nil)
	account := func() (int, string) {
		t.Helper()
		b := visitor(t)
		response, _ := f.signIn(t, b, issuer, "microsoft")
		_, body := get(t, b, issuer+"/account")
		return response.StatusCode, body
	}
	user("oid-1", tenant, "pairwise-1", "Alice Example")
	if status, body := account(); status != http.StatusSeeOther || !strings.Contains(body, "oid-1") {
		t.Fatalf("sign in: %d", status)
	}
	user("oid-1", tenant, "pairwise-2", "Alice Liddell")
	if _, body := account(); !strings.Contains(body, "Alice Liddell") || !strings.Contains(body, "oid-1") {
		t.Error("the same oid with another sub is another user")
	}
	user("oid-2", tenant, "pairwise-1", "Eve")
	if _, body := account(); strings.Contains(body, "oid-1") || !strings.Contains(body, "oid-2") {
		t.Error("another oid with the same sub and address is the same user")
	}
	user("oid-1", "9b4a2f6e-0d0a-4c6e-9f3e-5a8d7c2b1e90", "pairwise-1", "Mallory")
	if status, _ := account(); status != http.StatusBadGateway {
		t.Errorf("another tenant: %d", status)
	}
	f.claims = map[string]any{"sub": "pairwise-1", "tid": tenant}
	if status, _ := account(); status != http.StatusBadGateway {
		t.Errorf("no oid: %d", status)
	}
}

// Google is an OpenID Provider whose ID token has everything; hd is the domain of an organization.
func TestGoogle(t *testing.T) {
	f := newFake(t)
	issuer := newServer(t, upstream.Config{
		ID: "google", Preset: "google", Issuer: f.issuer, ClientID: "valetkey", ClientSecret: secret, Rule: `claims.hd == "corp.example" ? {claims: {name: claims.name}} : "Use your work account."`,
	}, nil)
	f.claims = map[string]any{"sub": "110169484474386276334", "name": "Alice Example", "email": "alice@corp.example", "email_verified": true, "hd": "corp.example"}
	b := visitor(t)
	if response, _ := f.signIn(t, b, issuer, "google"); response.StatusCode != http.StatusSeeOther {
		t.Fatalf("sign in: %d", response.StatusCode)
	}
	if _, body := get(t, b, issuer+"/account"); !strings.Contains(body, "Alice Example") {
		t.Error("the account is not that of alice")
	}
	f.claims = map[string]any{"sub": "2", "name": "Alice", "email": "alice@corp.example", "email_verified": true}
	if response, body := f.signIn(t, visitor(t), issuer, "google"); response.StatusCode != http.StatusForbidden || !strings.Contains(body, "Use your work account.") {
		t.Errorf("a private account: %d", response.StatusCode)
	}
}
