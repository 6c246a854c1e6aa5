package upstream

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth/jose"
)

// fake is an OpenID Provider that says what a test wants, in the way that other providers do.
type fake struct {
	issuer string
	key    crypto.Signer
	// claims are those of the next ID token, besides iss, aud, iat, exp and nonce.
	claims map[string]any
	// secret checks a client_secret.
	secret func(secret string) bool
	// asked is the last authorization request, and tokenRequests counts the accepted token requests.
	asked         url.Values
	tokenRequests int
}

func newFake(t *testing.T) *fake {
	t.Helper()
	key, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{key: key, secret: func(s string) bool { return s == secret }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			writeJSON(w, http.StatusOK, map[string]any{
				"issuer": f.issuer, "authorization_endpoint": f.issuer + "/authorize", "token_endpoint": f.issuer + "/token", "jwks_uri": f.issuer + "/keys",
				"response_types_supported": []string{"code"}, "response_modes_supported": []string{"query", "form_post"}, "subject_types_supported": []string{"pairwise"},
				"id_token_signing_alg_values_supported": []string{"ES256"}, "token_endpoint_auth_methods_supported": []string{"client_secret_post"},
			})
		case "/keys":
			point, err := key.Public().(*ecdsa.PublicKey).Bytes()
			if err != nil {
				t.Error(err)
				return
			}
			encode := base64.RawURLEncoding.EncodeToString
			writeJSON(w, http.StatusOK, map[string]any{"keys": []any{map[string]string{
				"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "1", "x": encode(point[1:33]), "y": encode(point[33:]),
			}}})
		case "/authorize": // its user is signed in and has consented
			f.asked = r.URL.Query()
			http.Redirect(w, r, f.asked.Get("redirect_uri")+"?"+url.Values{"state": {f.asked.Get("state")}, "code": {f.asked.Get("nonce")}}.Encode(), http.StatusSeeOther)
		case "/token":
			f.token(t, w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	f.issuer = server.URL
	return f
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(http.ErrAbortHandler) // the server under test has disconnected
	}
}

// token is the token endpoint: it checks the client's secret, the code and the PKCE verifier.
func (f *fake) token(t *testing.T, w http.ResponseWriter, r *http.Request) {
	verifier := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if r.PostFormValue("code") != f.asked.Get("nonce") || base64.RawURLEncoding.EncodeToString(verifier[:]) != f.asked.Get("code_challenge") ||
		r.PostFormValue("redirect_uri") != f.asked.Get("redirect_uri") || !f.secret(r.PostFormValue("client_secret")) {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		return
	}
	now := time.Now()
	claims := map[string]any{
		"iss": f.issuer, "aud": f.asked.Get("client_id"), "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "nonce": f.asked.Get("nonce"),
	}
	maps.Copy(claims, f.claims)
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Error(err)
	}
	signer, err := jose.NewSigner(jose.ES256, "1", f.key)
	if err != nil {
		t.Error(err)
		return
	}
	token, err := signer.Sign("JWT", payload)
	if err != nil {
		t.Error(err)
	}
	f.tokenRequests++
	writeJSON(w, http.StatusOK, map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 3600, "id_token": token})
}

// authorize reads an authorization request, and returns the response to it.
func (f *fake) authorize(t *testing.T, toProvider *http.Response) url.Values {
	t.Helper()
	to, err := toProvider.Location()
	if err != nil || !strings.HasPrefix(to.String(), f.issuer+"/authorize?") {
		t.Fatalf("status %d leads to %v (%v)", toProvider.StatusCode, to, err)
	}
	f.asked = to.Query()
	return url.Values{"state": {f.asked.Get("state")}, "code": {f.asked.Get("nonce")}}
}

// signIn signs a browser in with a provider, whose response is in the query.
func (f *fake) signIn(t *testing.T, b *http.Client, issuer, id string) (*http.Response, string) {
	t.Helper()
	start, _ := post(t, b, issuer, "/sign-in/upstream", url.Values{"provider": {id}})
	return get(t, b, issuer+"/upstream/"+id+"/callback?"+f.authorize(t, start).Encode())
}

// crossSite posts a form from a page of another site, without cookies.
func crossSite(t *testing.T, origin, to string, form url.Values) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", origin)
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	response, err := visitor(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response
}
