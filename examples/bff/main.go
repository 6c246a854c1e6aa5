// Command bff is a single-page application with a backend. The page in the browser has no
// tokens; the backend signs users in and calls the API for the page (RFC 10017, section 6.1).
//
//	go run ./examples/embedding &
//	go run ./examples/api &
//	go run ./examples/bff          # then open http://127.0.0.1:8083
package main

import (
	"context"
	"embed"
	"flag"
	"io/fs"
	"log"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

//go:embed app
var app embed.FS

func main() {
	listen := flag.String("listen", "127.0.0.1:8083", "address to listen on")
	issuer := flag.String("issuer", "http://127.0.0.1:8080/auth", "the authorization server")
	api := flag.String("api", "http://127.0.0.1:8082", "URL of the API")
	flag.Parse()
	handler, err := newHandler("http://"+*listen, *issuer, *api)
	if err != nil {
		log.Fatal(err)
	}
	log.Print("http://" + *listen)
	server := &http.Server{Addr: *listen, Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func newHandler(base, issuer, api string) (http.Handler, error) {
	c, err := client.Discover(context.Background(), client.Config{
		Issuer: issuer, ClientID: "bff", ClientSecret: "bff-secret-of-the-examples-only-0",
		RedirectURI: base + "/auth/callback", Scopes: []string{"openid", "profile", "notes.read", "offline_access"},
	})
	if err != nil {
		return nil, err
	}
	party, err := client.NewRelyingParty(client.RelyingPartyConfig{Client: c, UserInfo: true, CookiePrefix: "bff-"})
	if err != nil {
		return nil, err
	}
	backend, err := client.NewBackend(client.BackendConfig{Party: party, APIs: map[string]string{"/api/": api}})
	if err != nil {
		return nil, err
	}
	pages, err := fs.Sub(app, "app")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", backend)
	mux.Handle("/api/", backend)
	mux.Handle("/", withPolicy(c.Metadata().EndSessionEndpoint, http.FileServerFS(pages)))
	return mux, nil
}

// withPolicy restricts the page to its own scripts and its own origin. form-action includes the
// provider, because the sign-out form redirects there.
func withPolicy(endSession string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'; form-action 'self' "+endSession+"; base-uri 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}
