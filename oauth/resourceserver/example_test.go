package resourceserver_test

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/oauth/resourceserver"
)

// exampleServer is an authorization server for the example, as far as an API needs it.
type exampleServer struct {
	*httptest.Server
	signer *jose.Signer
}

func startExampleServer() exampleServer {
	key, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		panic(err)
	}
	signer, err := jose.NewSigner(jose.ES256, "example", key)
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	mux.HandleFunc("GET "+oauth.WellKnownAuthorizationServer, func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(oauth.ServerMetadata{Issuer: server.URL, JWKSURI: server.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(jose.KeySet{Keys: []jose.JWK{signer.Public()}})
	})
	return exampleServer{server, signer}
}

// accessToken returns an access token of alice.
func (s exampleServer) accessToken(scope string) string {
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": s.URL, "sub": "alice", "aud": "https://api.example.com", "client_id": "app", "scope": scope,
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "auth_time": now.Unix(),
	})
	if err != nil {
		panic(err)
	}
	token, err := s.signer.Sign(oauth.TypAccessToken, claims)
	if err != nil {
		panic(err)
	}
	return token
}

// An API has a route that requires a scope, and one that also requires a recent sign-in.
func Example() {
	server := startExampleServer()
	defer server.Close()

	guard, err := resourceserver.New(resourceserver.Config{
		Issuer:          server.URL, // https://login.example.com
		Resource:        "https://api.example.com",
		ScopesSupported: []string{"notes.read", "notes.delete"},
	})
	if err != nil {
		log.Fatal(err)
	}
	list := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := resourceserver.TokenFromContext(r.Context())
		fmt.Fprintln(w, "Notes of", token.Subject)
	})
	empty := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })

	mux := http.NewServeMux()
	mux.Handle("GET /notes", guard.Require("notes.read")(list))
	mux.Handle("DELETE /notes", guard.RequireToken(resourceserver.Requirement{
		Scopes: []string{"notes.delete"}, MaxAge: 5 * time.Minute,
	})(empty))
	mux.Handle("GET "+guard.MetadataPath(), guard.Metadata())

	// What clients see.
	token := server.accessToken("notes.read")
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		request := httptest.NewRequest(method, "/notes", nil)
		request.Header.Set("Authorization", "Bearer "+token)
		response := httptest.NewRecorder()
		mux.ServeHTTP(response, request)
		fmt.Println(method, response.Code, strings.TrimSpace(response.Body.String()))
		for _, c := range oauth.ParseChallenges(response.Header().Get("WWW-Authenticate")) {
			fmt.Println(c.Param("error"), c.Param("scope"))
		}
	}
	// Output:
	// GET 200 Notes of alice
	// DELETE 403 Forbidden
	// insufficient_scope notes.delete
}

// An API accepts the tokens of a Keycloak realm and of an Okta organization.
func ExampleIssuer() {
	guard, err := resourceserver.New(resourceserver.Config{
		Resource: "https://api.example.com",
		Issuers: []resourceserver.Issuer{
			{
				Issuer: "https://sso.example.com/realms/acme", Audiences: []string{"notes-api"},
				ClientIDClaim: "azp", InsecureTypes: []string{"JWT"},
			},
			{
				Issuer: "https://acme.okta.com/oauth2/default", Audiences: []string{"api://default"},
				ScopeClaims: []string{"scp"}, ClientIDClaim: "cid", InsecureTypes: []string{""},
			},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	notes := guard.Require("notes.read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := resourceserver.TokenFromContext(r.Context())
		fmt.Fprintln(w, "Notes of", token.Subject, "at", token.Issuer)
	}))

	response := httptest.NewRecorder()
	notes.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/notes", nil))
	fmt.Println(response.Code, response.Header().Get("WWW-Authenticate"))
	// Output: 401 Bearer resource_metadata="https://api.example.com/.well-known/oauth-protected-resource", scope="notes.read"
}
