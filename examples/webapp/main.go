// Command webapp is a web application: a confidential client that signs users in and calls an
// API on their behalf. Tokens stay on the server; the browser only has a cookie.
//
//	go run ./examples/embedding &
//	go run ./examples/api &
//	go run ./examples/webapp
//
// Then open http://127.0.0.1:8081 and sign in as "demo" with "valet-parking".
package main

import (
	"context"
	"flag"
	"html/template"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8081", "address to listen on")
	issuer := flag.String("issuer", "http://127.0.0.1:8080/auth", "the authorization server")
	api := flag.String("api", "http://127.0.0.1:8082", "URL of the API")
	secret := flag.String("secret", "webapp-secret-of-the-examples-only", "the client's secret")
	flag.Parse()
	base := "http://" + *listen
	c, err := client.Discover(context.Background(), client.Config{
		Issuer: *issuer, ClientID: "webapp", ClientSecret: *secret, RedirectURI: base + "/auth/callback",
		Scopes: []string{"openid", "profile", "offline_access", "notes.read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	party, err := client.NewRelyingParty(client.RelyingPartyConfig{Client: c, UserInfo: true})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", party)
	mux.Handle("GET /{$}", party.Load(http.HandlerFunc(home)))
	mux.Handle("GET /notes", party.Require(notes(*api)))
	log.Print(base)
	server := &http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

var page = template.Must(template.New("").Parse(`<!doctype html><title>Notes</title>
{{with .Name}}<p>Hello, {{.}}.</p><p><a href="/notes">Notes</a></p><form method="post" action="/auth/sign-out"><button>Sign out</button></form>
{{else}}<p>You are not signed in. <a href="/auth/sign-in">Sign in</a></p>{{end}}`))

// home is a page for all visitors.
func home(w http.ResponseWriter, r *http.Request) {
	var claims struct{ Name string }
	if session := client.SessionFrom(r.Context()); session != nil {
		if err := session.Decode(&claims); err != nil {
			fail(w, err)
			return
		}
	}
	if err := page.Execute(w, claims); err != nil {
		log.Print(err)
	}
}

// notes is a page for signed-in users. It calls the API on their behalf.
func notes(api string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := client.SessionFrom(r.Context()).Source().HTTPClient().Get(api + "/notes")
		if err != nil {
			fail(w, err)
			return
		}
		defer resp.Body.Close()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if _, err := io.Copy(w, io.LimitReader(resp.Body, 1<<20)); err != nil {
			log.Print(err)
		}
	})
}

func fail(w http.ResponseWriter, err error) {
	log.Print(err)
	http.Error(w, "The request failed. Sign in again.", http.StatusBadGateway)
}
