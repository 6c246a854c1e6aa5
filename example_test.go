package valetkey_test

import (
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
)

// An application mounts its own authorization server below /auth.
func ExampleNew() {
	server, err := valetkey.New(valetkey.Config{
		Configuration: configuration.Configuration{
			Issuer:   "https://app.example.com/auth",
			Database: "sqlite::memory:",
			Declarations: configuration.Declarations{
				Clients: []configuration.Client{{ID: "app", ClientMetadata: oauth.ClientMetadata{
					RedirectURIs: []string{"https://app.example.com/callback"},
				}}},
			},
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	mux := http.NewServeMux()
	mux.Handle("/auth/", server)
	mux.Handle("/.well-known/oauth-authorization-server/auth", server) // RFC 8414, section 3.1

	response := httptest.NewRecorder()
	mux.ServeHTTP(response, httptest.NewRequest(http.MethodGet, "https://app.example.com/.well-known/oauth-authorization-server/auth", nil))
	var metadata oauth.ServerMetadata
	if err := json.NewDecoder(response.Body).Decode(&metadata); err != nil {
		log.Fatal(err)
	}
	fmt.Println(metadata.AuthorizationEndpoint)
	// Output: https://app.example.com/auth/authorize
}
