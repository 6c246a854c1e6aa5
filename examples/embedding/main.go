// Command embedding is an application with an embedded authorization server. It serves Valetkey
// below /auth, next to its own pages, and declares the clients, the API and the user of the
// other examples. voucher.go adds a grant type and claims.
//
//	go run ./examples/embedding
//
// Sign in as "demo" with the password "valet-parking". Data is kept in memory, or in the
// database in -database, for example sqlite:embedding.db.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	database := flag.String("database", "sqlite::memory:", "the database")
	webapp := flag.String("webapp", "http://127.0.0.1:8081", "URL of the web application")
	bff := flag.String("bff", "http://127.0.0.1:8083", "URL of the single-page application with a backend")
	spa := flag.String("spa", "http://127.0.0.1:8084", "URL of the single-page application without one")
	api := flag.String("api", "http://127.0.0.1:8082", "URL of the API")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, *database, declarations(*webapp, *bff, *spa, *api)); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, listen, database string, declared configuration.Declarations) (err error) {
	auth, err := valetkey.New(valetkey.Config{Configuration: configuration.Configuration{
		Issuer:       "http://" + listen + "/auth",
		Database:     database,
		ServiceName:  "Notes",
		Declarations: declared,
	}, GrantTypes: []authserver.GrantType{{Name: voucherGrantType, Entitle: exchangeVoucher}}, TokenClaims: tokenClaims})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, auth.Close()) }()

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "This is the application. Its authorization server is below /auth.")
	})
	mux.Handle("/auth/", auth)
	// RFC 8414, section 3.1: this path comes before the path of the issuer.
	mux.Handle("/.well-known/oauth-authorization-server/auth", auth)

	server := &http.Server{Addr: listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	log.Printf("http://%s", listen)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		drain, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return server.Shutdown(drain)
	}
}

// declarations returns what would otherwise be in a configuration file. The secrets are for
// this example only: generate real ones, for example with "openssl rand -base64 32".
func declarations(webapp, bff, spa, api string) configuration.Declarations {
	return configuration.Declarations{
		Scopes: []record.Scope{
			{Name: "notes.read", Description: "Read your notes"},
			{Name: "notes.write", Description: "Write notes for you", Optional: true},
		},
		Resources: []record.Resource{{Identifier: api, Name: "Notes", Scopes: []string{"notes.read", "notes.write"}}},
		Users:     []configuration.User{{Username: "demo", Password: "valet-parking", Name: "Demo Person", Email: "demo@example.com"}},
		Clients: []configuration.Client{
			{ID: "webapp", Secret: "webapp-secret-of-the-examples-only", ClientMetadata: oauth.ClientMetadata{
				ClientName:             "Web application",
				RedirectURIs:           []string{webapp + "/auth/callback"},
				PostLogoutRedirectURIs: []string{webapp + "/auth/signed-out"},
				GrantTypes:             []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
				Scope:                  "openid profile offline_access notes.read notes.write",
			}},
			{ID: "bff", Secret: "bff-secret-of-the-examples-only-0", ClientMetadata: oauth.ClientMetadata{
				ClientName:             "Notes in the browser",
				RedirectURIs:           []string{bff + "/auth/callback"},
				PostLogoutRedirectURIs: []string{bff + "/auth/signed-out"},
				BackchannelLogoutURI:   bff + "/auth/backchannel-logout",
				GrantTypes:             []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
				Scope:                  "openid profile offline_access notes.read",
			}},
			{ID: "spa", ClientMetadata: oauth.ClientMetadata{
				ClientName:   "Notes in the browser, without a backend",
				RedirectURIs: []string{spa + "/"},
				Scope:        "notes.read",
			}},
			{ID: "native", ClientMetadata: oauth.ClientMetadata{
				ClientName:      "Command line",
				ApplicationType: oauth.ApplicationNative,
				RedirectURIs:    []string{"http://127.0.0.1/callback"}, // any port (RFC 8252, section 7.3)
				GrantTypes:      []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
				Scope:           "openid profile notes.read",
			}},
			{ID: "service", Secret: "service-secret-of-the-examples-only", ClientMetadata: oauth.ClientMetadata{
				ClientName: "Nightly job",
				GrantTypes: []string{oauth.GrantTypeClientCredentials},
				Scope:      "notes.read",
			}},
			{ID: "television", ClientMetadata: oauth.ClientMetadata{
				ClientName:              "Living room television",
				TokenEndpointAuthMethod: oauth.AuthMethodNone,
				GrantTypes:              []string{oauth.GrantTypeDeviceCode, oauth.GrantTypeRefreshToken},
				Scope:                   "notes.read",
			}},
			{ID: "callcenter", Secret: "callcenter-secret-of-the-examples", ClientMetadata: oauth.ClientMetadata{
				ClientName:                   "Call center",
				GrantTypes:                   []string{oauth.GrantTypeCIBA, oauth.GrantTypeRefreshToken},
				BackchannelTokenDeliveryMode: oauth.DeliveryPoll,
				Scope:                        "openid notes.read",
			}},
			{ID: "kiosk", Secret: "kiosk-secret-of-the-examples-only", ClientMetadata: oauth.ClientMetadata{
				ClientName: "Kiosk",
				GrantTypes: []string{voucherGrantType},
				Scope:      "notes.read",
			}},
		},
	}
}
