// Command api is an API that requires access tokens. The response to requests without one says
// where clients can get it.
//
//	go run ./examples/embedding &
//	go run ./examples/api
//	curl -i http://127.0.0.1:8082/notes
package main

import (
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/valetkey/valetkey/oauth/resourceserver"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8082", "address to listen on")
	issuer := flag.String("issuer", "http://127.0.0.1:8080/auth", "the authorization server")
	browser := flag.String("browser", "http://127.0.0.1:8084", "origin of a single-page application that may call the API")
	flag.Parse()
	resource := "http://" + *listen
	guard, err := resourceserver.New(resourceserver.Config{
		Issuer: *issuer, Resource: resource, Name: "Notes",
		ScopesSupported: []string{"notes.read", "notes.write"},
	})
	if err != nil {
		log.Fatal(err)
	}
	var n notes
	mux := http.NewServeMux()
	mux.Handle("GET /notes", guard.Require("notes.read")(http.HandlerFunc(n.list)))
	mux.Handle("POST /notes", guard.Require("notes.write")(http.HandlerFunc(n.add)))
	// Clients use this document to find the authorization server.
	mux.Handle("GET "+guard.MetadataPath(), guard.Metadata())
	log.Print(resource)
	server := &http.Server{Addr: *listen, Handler: forScriptsOf(*browser, mux), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// forScriptsOf allows scripts of one origin to call the API: those of a single-page
// application that is itself a client.
func forScriptsOf(origin string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Origin")
		if r.Header.Get("Origin") == origin {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			if r.Method == http.MethodOptions {
				w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// notes has the notes of each subject: a user, or a client that calls the API for itself.
type notes struct {
	mu        sync.Mutex
	ofSubject map[string][]string
}

func (n *notes) list(w http.ResponseWriter, r *http.Request) {
	token, _ := resourceserver.TokenFromContext(r.Context()) // set by Require
	n.mu.Lock()
	texts := slices.Clone(n.ofSubject[token.Subject])
	n.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	response := struct {
		Subject string   `json:"subject"`
		Client  string   `json:"client"`
		Notes   []string `json:"notes"`
	}{token.Subject, token.ClientID, append([]string{"Water the plants"}, texts...)}
	if err := json.NewEncoder(w).Encode(response); err != nil {
		log.Print(err)
	}
}

func (n *notes) add(w http.ResponseWriter, r *http.Request) {
	token, _ := resourceserver.TokenFromContext(r.Context())
	var note struct {
		Text string `json:"text"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&note); err != nil {
		http.Error(w, `Send {"text": "…"}.`, http.StatusBadRequest)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ofSubject == nil {
		n.ofSubject = map[string][]string{}
	}
	n.ofSubject[token.Subject] = append(n.ofSubject[token.Subject], note.Text)
	w.WriteHeader(http.StatusCreated)
}
