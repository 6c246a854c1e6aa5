// Command spa serves a single-page application that is itself an OAuth client: a public client
// in the browser, with PKCE and without a backend (RFC 10017, section 6.3). If a backend is
// possible, examples/bff is the better choice.
//
//	go run ./examples/embedding &
//	go run ./examples/api &
//	go run ./examples/spa          # then open http://127.0.0.1:8084
package main

import (
	"embed"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"time"
)

//go:embed app
var app embed.FS

func main() {
	listen := flag.String("listen", "127.0.0.1:8084", "address to listen on")
	issuer := flag.String("issuer", "http://127.0.0.1:8080/auth", "the authorization server")
	api := flag.String("api", "http://127.0.0.1:8082", "URL of the API")
	flag.Parse()
	settings, err := json.Marshal(map[string]string{"issuer": *issuer, "api": *api, "clientID": "spa"})
	if err != nil {
		log.Fatal(err)
	}
	pages, err := fs.Sub(app, "app")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /settings.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprintf(w, "export const settings = %s\n", settings)
	})
	// The page can only run its own scripts and send requests to these two servers. An injected
	// script could not send a token anywhere else.
	policy := "default-src 'none'; script-src 'self'; connect-src 'self' " + *issuer + "/ " + *api + "; base-uri 'none'; frame-ancestors 'none'"
	files := http.FileServerFS(pages)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("Referrer-Policy", "no-referrer")
		files.ServeHTTP(w, r)
	})
	log.Print("http://" + *listen)
	server := &http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}
