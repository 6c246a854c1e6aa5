// Command spa serves a single-page application that is an OAuth client itself: a public
// client in the browser, with PKCE and no server of its own but for its files (RFC 10017,
// section 6.3). Where there can be a backend, examples/bff is the better choice.
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
	// Only its own scripts run, and only these two are reached: a script that somebody
	// smuggles in has nowhere to send a token.
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
