package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/dpop"
)

// dpopServer requires proofs with its nonce.
type dpopServer struct {
	t       *testing.T
	nonce   string
	refused int
	keys    []string // thumbprints of accepted proofs
	ids     map[string]bool
}

// accept verifies the proof of a request, or refuses it with a status.
func (d *dpopServer) accept(w http.ResponseWriter, r *http.Request, uri, token string, status int) bool {
	proof, err := dpop.Verify(r.Header.Get("DPoP"), dpop.Expected{Method: r.Method, URIs: []string{uri}, AccessToken: token, Now: time.Now()})
	if err != nil {
		d.t.Errorf("%s: %v", uri, err)
		w.WriteHeader(http.StatusBadRequest)
		return false
	}
	if d.ids == nil {
		d.ids = map[string]bool{}
	}
	if d.ids[proof.ID] {
		d.t.Error("a proof was used twice")
	}
	d.ids[proof.ID] = true
	w.Header().Set("DPoP-Nonce", d.nonce)
	if proof.Nonce != d.nonce {
		d.refused++
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce", algs="ES256"`)
		}
		writeJSON(w, status, map[string]string{"error": "use_dpop_nonce"})
		return false
	}
	d.keys = append(d.keys, proof.Thumbprint)
	return true
}

// dpopProvider returns a provider whose token endpoint requires proofs.
func dpopProvider(t *testing.T) (*provider, *dpopServer) {
	p := newProvider(t)
	tokens, info := &dpopServer{t: t, nonce: "as-1"}, &dpopServer{t: t, nonce: "as-1"}
	p.metadata["dpop_signing_alg_values_supported"] = []string{"ES256"}
	p.response = func(response map[string]any) { response["token_type"] = "DPoP" }
	p.handlers["/token"] = func(w http.ResponseWriter, r *http.Request) {
		if tokens.accept(w, r, p.issuer+"/token", "", http.StatusBadRequest) {
			p.token(w, r)
		}
	}
	p.handlers["/userinfo"] = func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "DPoP ")
		if ok && info.accept(w, r, p.issuer+"/userinfo", token, http.StatusUnauthorized) {
			writeJSON(w, http.StatusOK, map[string]any{"sub": "alice"})
		}
	}
	return p, tokens
}

func withDPoP(c *client.Config) { c.DPoP = true }

func TestDPoPBindsTheCodeAndItsTokens(t *testing.T) {
	p, server := dpopProvider(t)
	c := p.discover(t, withDPoP)
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	jkt := transaction.DPoPKey.Thumbprint()
	if !strings.Contains(address, "dpop_jkt="+jkt) {
		t.Errorf("no dpop_jkt in %s", address)
	}
	// The transaction is stored until the user returns.
	stored, err := json.Marshal(transaction)
	if err != nil {
		t.Fatal(err)
	}
	transaction = &client.Transaction{}
	if err := json.Unmarshal(stored, transaction); err != nil {
		t.Fatal(err)
	}
	tokens, err := c.Callback(t.Context(), transaction, p.authorize(t, address))
	if err != nil {
		t.Fatal(err)
	}
	if tokens.TokenType != "DPoP" || tokens.DPoPKey.Thumbprint() != jkt || transaction.DPoPKey != nil {
		t.Errorf("%s, key %v; the transaction has %v", tokens.TokenType, tokens.DPoPKey, transaction.DPoPKey)
	}
	if server.refused != 1 {
		t.Errorf("%d requests without a nonce", server.refused)
	}
	if _, err := c.UserInfo(t.Context(), tokens); err != nil {
		t.Error(err)
	}
	// The tokens are stored with their key, in a session. A later process renews them.
	if stored, err = json.Marshal(tokens); err != nil {
		t.Fatal(err)
	}
	again := &client.Tokens{}
	if err := json.Unmarshal(stored, again); err != nil {
		t.Fatal(err)
	}
	server.nonce = "as-2"
	renewed, err := p.discover(t, withDPoP).Refresh(t.Context(), again)
	if err != nil || renewed.DPoPKey.Thumbprint() != jkt {
		t.Fatalf("%v %v", renewed, err)
	}
	for _, key := range server.keys {
		if key != jkt {
			t.Errorf("a proof of the key %s, want %s", key, jkt)
		}
	}
}

func TestDPoPKeysDifferAndCanBeConfigured(t *testing.T) {
	p, server := dpopProvider(t)
	c := p.discover(t, withDPoP)
	for range 2 {
		if _, err := p.signIn(t, c, client.AuthorizationOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(server.keys) != 2 || server.keys[0] == server.keys[1] {
		t.Errorf("two users have the keys %q", server.keys)
	}
	key, err := dpop.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	own := p.discover(t, func(c *client.Config) { c.DPoPKey = key })
	tokens, err := p.signIn(t, own, client.AuthorizationOptions{})
	if err != nil || tokens.DPoPKey != nil || server.keys[2] != key.Thumbprint() {
		t.Errorf("%v %v %q", tokens, err, server.keys)
	}
	if _, err := own.UserInfo(t.Context(), tokens); err != nil {
		t.Error(err)
	}
	if _, err := c.UserInfo(t.Context(), tokens); err == nil {
		t.Error("a client without the key uses the token")
	}
}

func TestDPoPIsNotDowngraded(t *testing.T) {
	p, _ := dpopProvider(t)
	p.response = nil // the provider ignores the proof
	if _, err := p.signIn(t, p.discover(t, withDPoP), client.AuthorizationOptions{}); !errors.Is(err, client.ErrResponse) {
		t.Errorf("a bearer token: %v", err)
	}
	p.metadata["dpop_signing_alg_values_supported"] = []string{"PS256"}
	config := p.config()
	config.DPoP = true
	if _, err := client.Discover(t.Context(), config); !errors.Is(err, client.ErrUnsupported) {
		t.Errorf("a provider without ES256: %v", err)
	}
	p.metadata["dpop_signing_alg_values_supported"] = []string{"ES256"}
	config.ResponseType = "code id_token token"
	if _, err := client.Discover(t.Context(), config); err == nil {
		t.Error("a token in the front channel")
	}
}

// A provider that rejects every nonce gets two requests, and no more.
func TestDPoPNonceIsRetriedOnce(t *testing.T) {
	p, server := dpopProvider(t)
	count := 0
	p.handlers["/token"] = func(w http.ResponseWriter, r *http.Request) {
		count++
		server.nonce = "nonce-" + strings.Repeat("x", count)
		server.accept(w, r, p.issuer+"/token", "", http.StatusBadRequest)
	}
	_, err := p.discover(t, withDPoP).ClientCredentials(t.Context())
	if !errors.Is(err, &client.Error{Code: oauth.UseDPoPNonce}) || count != 2 {
		t.Errorf("%d requests: %v", count, err)
	}
}

// Each assertion is accepted once, so a repeated request has a new one.
func TestDPoPRetryHasANewAssertion(t *testing.T) {
	p, _ := dpopProvider(t)
	c := p.discover(t, func(c *client.Config) { c.DPoP, c.ClientSecret, c.PrivateKey = true, "", newKey(t) })
	if _, err := c.ClientCredentials(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range p.requests {
		if r.path == "/token" {
			seen[r.form.Get("client_assertion")] = true
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d assertions", len(seen))
	}
}

func TestTransportSendsProofsWithTheNonceOfEachAPI(t *testing.T) {
	p, _ := dpopProvider(t)
	source := p.discover(t, withDPoP).ClientCredentialsSource()
	var bodies []string
	apis := map[string]*dpopServer{"http://localhost": {t: t, nonce: "first"}, "http://127.0.0.1": {t: t, nonce: "second"}}
	h := &http.Client{Transport: source.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		if r.Body != nil {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			bodies = append(bodies, string(body))
		}
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "DPoP ")
		origin := r.URL.Scheme + "://" + r.URL.Host
		if !ok || !apis[origin].accept(w, r, origin+r.URL.Path, token, http.StatusUnauthorized) {
			return w.Result(), nil
		}
		return w.Result(), nil
	}))}
	for range 2 {
		for origin := range apis {
			resp, err := h.Post(origin+"/notes?a=b", "text/plain", strings.NewReader("hello"))
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%s: %v %v", origin, resp, err)
			}
			resp.Body.Close()
		}
	}
	for origin, api := range apis {
		if api.refused != 1 || len(api.keys) != 2 {
			t.Errorf("%s: %d requests without its nonce, %d accepted", origin, api.refused, len(api.keys))
		}
	}
	for _, body := range bodies {
		if body != "hello" {
			t.Errorf("the body of a repeated request is %q", body)
		}
	}
	// A body that cannot be repeated is sent once; the next request has the nonce.
	apis["http://localhost"].nonce = "third"
	for i, want := range []int{http.StatusUnauthorized, http.StatusOK} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/notes", io.MultiReader(strings.NewReader("hello")))
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := h.Do(r); err != nil || resp.StatusCode != want {
			t.Errorf("%d: %v %v", i, resp, err)
		}
	}
}

func TestDPoPKeysAreNotPrinted(t *testing.T) {
	p, _ := dpopProvider(t)
	tokens, err := p.signIn(t, p.discover(t, withDPoP), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := tokens.DPoPKey.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if printed := fmt.Sprintf("%v %+v %#v %v %+v", *tokens, tokens, tokens, tokens.DPoPKey, *tokens.DPoPKey); strings.Contains(printed, string(text)) {
		t.Error("the key is printed")
	}
}
