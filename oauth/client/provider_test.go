package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

// provider is an OpenID Provider that signs any claims. It uses HTTP over pipes in memory, so
// that tests can run in a synctest bubble. It has its own cryptography, so that errors in the
// packages under test cannot cancel each other out.
type provider struct {
	issuer string
	http   *http.Client
	key    *ecdsa.PrivateKey
	kid    string
	// signedInAt is the auth_time of all users.
	signedInAt time.Time

	mu       sync.Mutex
	metadata map[string]any
	codes    map[string]url.Values // authorization requests by code
	requests []request
	handlers map[string]http.HandlerFunc // replace the handler of a path
	response func(map[string]any)        // changes a token response
	claims   func(map[string]any)        // changes the claims of an ID token
	sign     func(claims map[string]any) string
}

type request struct {
	path   string
	form   url.Values
	header http.Header
}

const (
	clientID     = "app: one" // needs form-encoding in Basic credentials
	clientSecret = "s3cret:% +"
	redirectURI  = "https://app.example/callback"
)

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{
		issuer: "http://localhost", key: newKey(t), kid: "one", signedInAt: time.Now().Add(-time.Minute),
		codes: map[string]url.Values{}, handlers: map[string]http.HandlerFunc{},
	}
	p.metadata = map[string]any{
		"issuer":                                p.issuer,
		"authorization_endpoint":                p.issuer + "/authorize?tenant=1",
		"token_endpoint":                        p.issuer + "/token",
		"userinfo_endpoint":                     p.issuer + "/userinfo",
		"revocation_endpoint":                   p.issuer + "/revoke",
		"end_session_endpoint":                  p.issuer + "/logout",
		"jwks_uri":                              p.issuer + "/jwks",
		"response_types_supported":              []string{"code"},
		"id_token_signing_alg_values_supported": []string{"ES256", "none"},
		"authorization_response_iss_parameter_supported": true,
	}
	p.sign = func(claims map[string]any) string {
		return signES256(t, p.key, map[string]any{"alg": "ES256", "kid": p.kid}, claims)
	}
	listener := pipeListener{make(chan net.Conn), make(chan struct{}), sync.OnceFunc(func() {})}
	listener.once = sync.OnceFunc(func() { close(listener.closed) })
	server := &http.Server{Handler: p}
	go server.Serve(listener)
	transport := &http.Transport{DialContext: listener.dial}
	p.http = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	return p
}

func (p *provider) config() client.Config {
	return client.Config{
		Issuer: p.issuer, ClientID: clientID, ClientSecret: clientSecret,
		RedirectURI: redirectURI, Scopes: []string{"openid", "api"}, HTTPClient: p.http,
	}
}

func (p *provider) discover(t *testing.T, change func(*client.Config)) *client.Client {
	t.Helper()
	config := p.config()
	if change != nil {
		change(&config)
	}
	c, err := client.Discover(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// authorize acts for the user and the browser, and returns the parameters for the redirect URI.
func (p *provider) authorize(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	code := rand.Text()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes[code] = u.Query()
	return url.Values{"code": {code}, "state": {u.Query().Get("state")}, "iss": {p.issuer}}
}

// signIn completes a sign-in.
func (p *provider) signIn(t *testing.T, c *client.Client, options client.AuthorizationOptions) (*client.Tokens, error) {
	t.Helper()
	address, transaction, err := c.AuthorizationURL(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	return c.Callback(t.Context(), transaction, p.authorize(t, address))
}

// count returns the number of requests to a path.
func (p *provider) count(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, r := range p.requests {
		if r.path == path {
			n++
		}
	}
	return n
}

// last returns the last request to a path.
func (p *provider) last(t *testing.T, path string) request {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.requests) - 1; i >= 0; i-- {
		if p.requests[i].path == path {
			return p.requests[i]
		}
	}
	t.Fatalf("no request to %s", path)
	return request{}
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.ParseForm()
	p.mu.Lock()
	p.requests = append(p.requests, request{r.URL.Path, maps.Clone(r.Form), r.Header.Clone()})
	handler := p.handlers[r.URL.Path]
	p.mu.Unlock()
	if handler != nil {
		handler(w, r)
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		writeJSON(w, http.StatusOK, p.metadata)
	case "/jwks":
		writeJSON(w, http.StatusOK, map[string]any{"keys": []any{publicJWK(p.key, p.kid)}})
	case "/token":
		p.token(w, r)
	case "/userinfo":
		writeJSON(w, http.StatusOK, map[string]any{"sub": "alice", "name": "Alice"})
	case "/revoke":
	default:
		http.NotFound(w, r)
	}
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	response := map[string]any{"access_token": rand.Text(), "token_type": "bearer", "expires_in": 3600}
	asked := url.Values{}
	switch r.Form.Get("grant_type") {
	case "authorization_code":
		code := r.Form.Get("code")
		asked = p.codes[code]
		delete(p.codes, code)
		sum := sha256.Sum256([]byte(r.Form.Get("code_verifier")))
		if asked == nil || encode(sum[:]) != asked.Get("code_challenge") || r.Form.Get("redirect_uri") != asked.Get("redirect_uri") {
			writeJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
			return
		}
		response["refresh_token"] = rand.Text()
	case "refresh_token":
		response["refresh_token"] = rand.Text()
	case "client_credentials":
		if p.response != nil {
			p.response(response)
		}
		writeJSON(w, http.StatusOK, response)
		return
	}
	sum := sha256.Sum256([]byte(response["access_token"].(string)))
	now := time.Now()
	claims := map[string]any{
		"iss": p.issuer, "sub": "alice", "aud": clientID, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"auth_time": p.signedInAt.Unix(), "at_hash": encode(sum[:16]),
	}
	if nonce := asked.Get("nonce"); nonce != "" {
		claims["nonce"] = nonce
	}
	if p.claims != nil {
		p.claims(claims)
	}
	response["id_token"] = p.sign(claims)
	if p.response != nil {
		p.response(response)
	}
	writeJSON(w, http.StatusOK, response)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicJWK(key *ecdsa.PrivateKey, kid string) map[string]any {
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		panic(err)
	}
	return map[string]any{
		"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "alg": "ES256",
		"x": encode(point[1:33]), "y": encode(point[33:]),
	}
}

func signingInput(t *testing.T, header, claims map[string]any) string {
	t.Helper()
	h, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return encode(h) + "." + encode(c)
}

func signES256(t *testing.T, key *ecdsa.PrivateKey, header, claims map[string]any) string {
	t.Helper()
	input := signingInput(t, header, claims)
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + encode(signature[:])
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// pipeListener connects clients and a server in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   func()
}

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l pipeListener) Close() error   { l.once(); return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (l pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, errors.New("the provider is down")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// endless writes until the client disconnects, and returns the number of bytes.
func endless(w http.ResponseWriter, chunk string) int {
	total := 0
	for {
		n, err := io.WriteString(w, chunk)
		if total += n; err != nil {
			return total
		}
	}
}

// drip sends a byte every second until the client disconnects.
func drip(w http.ResponseWriter, r *http.Request) {
	for {
		io.WriteString(w, " ")
		http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-time.After(time.Second):
		}
	}
}
