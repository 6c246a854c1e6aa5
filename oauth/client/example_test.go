package client_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

// A web application leaves sign-in, session and sign-out to a RelyingParty. The paths
// /auth/sign-in, /auth/callback, /auth/sign-out and others are its own.
func ExampleRelyingParty() {
	c, err := client.Discover(context.Background(), client.Config{
		Issuer:       "https://login.example.com",
		ClientID:     "photos",
		ClientSecret: "from the environment",
		RedirectURI:  "https://photos.example.com/auth/callback",
		Scopes:       []string{"openid", "profile", "photos.read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	party, err := client.NewRelyingParty(client.RelyingPartyConfig{Client: c})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/auth/", party)
	http.Handle("/", party.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := client.SessionFrom(r.Context())
		resp, err := session.Source().HTTPClient().Get("https://api.example.com/albums")
		if err != nil {
			log.Print(err)
			http.Error(w, "The albums cannot be had now.", http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		fmt.Fprintf(w, "Albums of %s:\n", session.Subject)
		io.Copy(w, resp.Body)
	})))
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

// A native application hands the ID token of its SDK to the server, with the nonce that the
// server made for it.
func ExampleClient_VerifyIDToken() {
	ctx := context.Background()
	c, err := client.Discover(ctx, client.Config{Issuer: "https://login.example.com", ClientID: "photos"})
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /native-sign-in", func(w http.ResponseWriter, r *http.Request) {
		id, err := c.VerifyIDToken(r.Context(), r.PostFormValue("id_token"), client.IDTokenOptions{
			Nonce:     "the one in this browser's or app's session",
			ClientIDs: []string{"photos-android", "photos-ios"},
		})
		if err != nil {
			http.Error(w, "Sign in again.", http.StatusUnauthorized)
			return
		}
		fmt.Fprintln(w, "Welcome,", id.Subject)
	})
}

// A library that wants an http.Client of its own gets the tokens by its transport.
func ExampleSource_Transport() {
	c, err := client.Discover(context.Background(), client.Config{
		Issuer: "https://login.example.com", ClientID: "reports", ClientSecret: "from a file", Scopes: []string{"reports:read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	api := &http.Client{
		Transport: c.ClientCredentialsSource().Transport(http.DefaultTransport),
		Timeout:   time.Minute,
	}
	resp, err := api.Get("https://api.example.com/reports")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
}
