package client_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync"

	"github.com/valetkey/valetkey/client"
)

// A web application keeps each sign-in that is under way in its session, and sends the
// browser to the provider and back.
func Example_webApplication() {
	c, err := client.Discover(context.Background(), client.Config{
		Issuer:       "https://login.example.com",
		ClientID:     "photos",
		ClientSecret: "from the environment",
		RedirectURI:  "https://photos.example.com/callback",
		Scopes:       []string{"openid", "profile", "photos.read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	var sessions sync.Map // of a real application's kind

	http.HandleFunc("GET /sign-in", func(w http.ResponseWriter, r *http.Request) {
		address, transaction, err := c.AuthorizationURL(client.AuthorizationOptions{})
		if err != nil {
			http.Error(w, "The sign-in cannot begin.", http.StatusInternalServerError)
			return
		}
		sessions.Store(transaction.State, transaction)
		http.SetCookie(w, &http.Cookie{
			Name: "__Host-sign-in", Value: transaction.State, Path: "/",
			Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		})
		http.Redirect(w, r, address, http.StatusSeeOther)
	})
	http.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie("__Host-sign-in")
		if err != nil {
			http.Error(w, "Your browser sent no cookie; sign in again.", http.StatusBadRequest)
			return
		}
		transaction, ok := sessions.LoadAndDelete(cookie.Value)
		if !ok {
			http.Error(w, "This sign-in is finished; begin again.", http.StatusBadRequest)
			return
		}
		tokens, err := c.Callback(r.Context(), transaction.(*client.Transaction), r.URL.Query())
		if err != nil {
			log.Print(err)
			http.Error(w, "You are not signed in.", http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, "Welcome, %s.", tokens.Identity.Subject)
	})
}

// A program on the command line borrows the person's browser.
func ExampleClient_Loopback() {
	ctx := context.Background()
	c, err := client.Discover(ctx, client.Config{
		Issuer:   "https://login.example.com",
		ClientID: "photos-cli",
		Scopes:   []string{"openid", "offline_access", "photos.read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := c.Loopback(ctx, client.LoopbackOptions{})
	if err != nil {
		log.Fatal(err)
	}
	api := c.Source(tokens, nil).HTTPClient()
	resp, err := api.Get("https://photos.example.com/albums")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	albums, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", albums)
}

// A service calls an API in its own name.
func ExampleClient_ClientCredentialsSource() {
	c, err := client.Discover(context.Background(), client.Config{
		Issuer:       "https://login.example.com",
		ClientID:     "nightly-report",
		ClientSecret: "from the environment",
		Scopes:       []string{"photos.read"},
		Resources:    []string{"https://photos.example.com"},
	})
	if err != nil {
		log.Fatal(err)
	}
	api := c.ClientCredentialsSource().HTTPClient() // one for the whole program
	resp, err := api.Get("https://photos.example.com/albums")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
}
