// Command webapp is a web application: a confidential client that signs people in and
// calls an API in their name. Tokens stay on the server; the browser holds a cookie.
//
//	go run ./examples/embedding &
//	go run ./examples/api &
//	go run ./examples/webapp
//
// Then open http://127.0.0.1:8081 and sign in as "demo" with "valet-parking".
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"sync"
	"time"

	"github.com/valetkey/valetkey/client"
)

type app struct {
	oauth     *client.Client
	base, api string
	// What the server keeps for a browser, by its cookie: *client.Transaction while a
	// sign-in is under way, then *session. A real application lets them expire.
	kept sync.Map
}

type session struct {
	name, idToken string
	source        *client.Source
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8081", "address to listen on")
	issuer := flag.String("issuer", "http://127.0.0.1:8080/auth", "the authorization server")
	api := flag.String("api", "http://127.0.0.1:8082", "URL of the API")
	secret := flag.String("secret", "webapp-secret-of-the-examples-only", "the client's secret")
	flag.Parse()
	base := "http://" + *listen
	c, err := client.Discover(context.Background(), client.Config{
		Issuer: *issuer, ClientID: "webapp", ClientSecret: *secret, RedirectURI: base + "/callback",
		Scopes: []string{"openid", "profile", "offline_access", "notes.read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	a := &app{oauth: c, base: base, api: *api}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", handler(a.home))
	mux.Handle("GET /sign-in", handler(a.signIn))
	mux.Handle("GET /callback", handler(a.callback))
	mux.Handle("POST /sign-out", handler(a.signOut))
	log.Print(base)
	server := &http.Server{Addr: *listen, Handler: http.NewCrossOriginProtection().Handler(mux), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func (a *app) home(w http.ResponseWriter, r *http.Request) error {
	s, ok := a.load(r, "session").(*session)
	if !ok {
		return page.Execute(w, map[string]string{})
	}
	resp, err := s.source.HTTPClient().Get(a.api + "/notes")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	return page.Execute(w, map[string]string{"Name": s.name, "Answer": string(body)})
}

func (a *app) signIn(w http.ResponseWriter, r *http.Request) error {
	address, transaction, err := a.oauth.AuthorizationURL(client.AuthorizationOptions{})
	if err != nil {
		return err
	}
	a.keep(w, "sign-in", transaction)
	http.Redirect(w, r, address, http.StatusSeeOther)
	return nil
}

func (a *app) callback(w http.ResponseWriter, r *http.Request) error {
	transaction, ok := a.load(r, "sign-in").(*client.Transaction)
	if !ok {
		return errors.New("no sign-in is under way in this browser, or its cookies are off")
	}
	tokens, err := a.oauth.Callback(r.Context(), transaction, r.URL.Query())
	if err != nil {
		return err
	}
	info, err := a.oauth.UserInfo(r.Context(), tokens)
	if err != nil {
		return err
	}
	var claims struct{ Name string }
	if err := info.Decode(&claims); err != nil {
		return err
	}
	a.keep(w, "session", &session{claims.Name, tokens.IDToken, a.oauth.Source(tokens, nil)})
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

func (a *app) signOut(w http.ResponseWriter, r *http.Request) error {
	s, ok := a.load(r, "session").(*session)
	if !ok {
		return errors.New("nobody is signed in in this browser")
	}
	cookie, _ := r.Cookie("session") // load has just read it
	a.kept.Delete(cookie.Value)
	address, err := a.oauth.LogoutURL(client.LogoutOptions{IDTokenHint: s.idToken, PostLogoutRedirectURI: a.base + "/"})
	if err != nil {
		return err
	}
	http.Redirect(w, r, address, http.StatusSeeOther)
	return nil
}
