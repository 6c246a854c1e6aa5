package client_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// exampleServer is an authorization server for the examples. Its only user, alice, is always
// signed in and allows everything. It accepts any client.
type exampleServer struct {
	*httptest.Server
	signer *jose.Signer

	mu     sync.Mutex
	nonces map[string]string // by code
}

func startExampleServer() *exampleServer {
	key, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		panic(err)
	}
	signer, err := jose.NewSigner(jose.ES256, "example", key)
	if err != nil {
		panic(err)
	}
	s := &exampleServer{signer: signer, nonces: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", s.metadata)
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(w, jose.KeySet{Keys: []jose.JWK{signer.Public()}})
	})
	mux.HandleFunc("GET /authorize", s.authorize)
	mux.HandleFunc("POST /device", s.device)
	mux.HandleFunc("POST /token", s.token)
	s.Server = httptest.NewServer(mux)
	return s
}

func (s *exampleServer) metadata(w http.ResponseWriter, _ *http.Request) {
	sendJSON(w, oauth.ServerMetadata{
		Issuer: s.URL, AuthorizationEndpoint: s.URL + "/authorize", TokenEndpoint: s.URL + "/token",
		DeviceAuthorizationEndpoint: s.URL + "/device", JWKSURI: s.URL + "/keys",
		ResponseTypesSupported: []string{"code"}, IDTokenSigningAlgValuesSupported: []string{"ES256"},
	})
}

func (s *exampleServer) authorize(w http.ResponseWriter, r *http.Request) {
	code := rand.Text()
	s.mu.Lock()
	s.nonces[code] = r.FormValue("nonce")
	s.mu.Unlock()
	response := url.Values{"code": {code}, "state": {r.FormValue("state")}}
	http.Redirect(w, r, r.FormValue("redirect_uri")+"?"+response.Encode(), http.StatusFound)
}

func (s *exampleServer) device(w http.ResponseWriter, _ *http.Request) {
	sendJSON(w, oauth.DeviceAuthorizationResponse{
		DeviceCode: rand.Text(), UserCode: "WDJB-MJHT", VerificationURI: "https://login.example.com/device", ExpiresIn: 600, Interval: 1,
	})
}

func (s *exampleServer) token(w http.ResponseWriter, r *http.Request) {
	response := oauth.TokenResponse{AccessToken: "access-token-of-alice", TokenType: "Bearer", ExpiresIn: 3600}
	switch r.FormValue("grant_type") {
	case oauth.GrantTypeClientCredentials:
		response.AccessToken = "access-token-of-nightly-report"
	case oauth.GrantTypeAuthorizationCode:
		clientID, _, _ := r.BasicAuth()
		if clientID == "" {
			clientID = r.FormValue("client_id")
		}
		s.mu.Lock()
		nonce := s.nonces[r.FormValue("code")]
		s.mu.Unlock()
		response.IDToken = s.idToken(clientID, nonce)
	}
	sendJSON(w, response)
}

func (s *exampleServer) idToken(clientID, nonce string) string {
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": s.URL, "sub": "alice", "aud": clientID, "nonce": nonce, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	})
	if err != nil {
		panic(err)
	}
	token, err := s.signer.Sign(oauth.TypIDToken, claims)
	if err != nil {
		panic(err)
	}
	return token
}

// startExampleAPI starts an API that responds with the access token that it gets.
func startExampleAPI() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("Authorization"))
	}))
}

func sendJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}
