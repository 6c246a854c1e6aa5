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
	nonces map[string]string     // by code
	pushed map[string]url.Values // by request_uri
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
	s := &exampleServer{signer: signer, nonces: map[string]string{}, pushed: map[string]url.Values{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", s.metadata)
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		sendJSON(w, jose.KeySet{Keys: []jose.JWK{signer.Public()}})
	})
	mux.HandleFunc("GET /authorize", s.authorize)
	mux.HandleFunc("POST /device", s.device)
	mux.HandleFunc("POST /par", s.par)
	mux.HandleFunc("POST /token", s.token)
	s.Server = httptest.NewServer(mux)
	return s
}

func (s *exampleServer) metadata(w http.ResponseWriter, _ *http.Request) {
	sendJSON(w, oauth.ServerMetadata{
		Issuer: s.URL, AuthorizationEndpoint: s.URL + "/authorize", TokenEndpoint: s.URL + "/token",
		PushedAuthorizationRequestEndpoint: s.URL + "/par",
		DeviceAuthorizationEndpoint:        s.URL + "/device", JWKSURI: s.URL + "/keys",
		ResponseTypesSupported: []string{"code"}, IDTokenSigningAlgValuesSupported: []string{"ES256"},
	})
}

func (s *exampleServer) authorize(w http.ResponseWriter, r *http.Request) {
	code, request := rand.Text(), r.URL.Query()
	s.mu.Lock()
	if pushed, ok := s.pushed[request.Get("request_uri")]; ok {
		request = pushed
	}
	s.nonces[code] = request.Get("nonce")
	s.mu.Unlock()
	response := url.Values{"code": {code}, "state": {request.Get("state")}}
	if request.Get("response_mode") == "jwt" {
		response = url.Values{"response": {s.sign("JWT", map[string]any{
			"iss": s.URL, "aud": request.Get("client_id"), "exp": time.Now().Add(time.Minute).Unix(),
			"code": code, "state": request.Get("state"),
		})}}
	}
	http.Redirect(w, r, request.Get("redirect_uri")+"?"+response.Encode(), http.StatusFound)
}

// par accepts pushed authorization requests, plain or as a request object.
func (s *exampleServer) par(w http.ResponseWriter, r *http.Request) {
	r.ParseForm()
	request := r.PostForm
	if object := request.Get("request"); object != "" {
		payload, err := jose.UnverifiedPayload(object)
		if err != nil {
			panic(err)
		}
		var claims map[string]any
		if err := json.Unmarshal(payload, &claims); err != nil {
			panic(err)
		}
		for name, value := range claims {
			request.Set(name, fmt.Sprint(value))
		}
	}
	requestURI := oauth.RequestURIPrefix + rand.Text()
	s.mu.Lock()
	s.pushed[requestURI] = request
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(oauth.PushedAuthorizationResponse{RequestURI: requestURI, ExpiresIn: 60})
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
		if clientID == "" { // private_key_jwt
			if payload, err := jose.UnverifiedPayload(r.FormValue("client_assertion")); err == nil {
				if claims, err := jose.ParseClaims(payload, nil); err == nil {
					clientID = claims.Subject
				}
			}
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
	return s.sign(oauth.TypIDToken, map[string]any{
		"iss": s.URL, "sub": "alice", "aud": clientID, "nonce": nonce, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	})
}

func (s *exampleServer) sign(typ string, claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	token, err := s.signer.Sign(typ, payload)
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

// redirectOf opens a URL in a browser, and returns where it is redirected.
func redirectOf(address string) *url.URL {
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(address)
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	location, err := resp.Location()
	if err != nil {
		panic(err)
	}
	return location
}

func sendJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}
