// Command native is a program on the command line: a public client that borrows the
// person's browser for the sign-in and calls an API in their name. A native or
// single-page application works alike: it has no secret, and PKCE ties the code to it.
//
//	go run ./examples/embedding &
//	go run ./examples/api &
//	go run ./examples/native
//
// With -print it prints the address instead of opening a browser.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

func main() {
	issuer := flag.String("issuer", "http://127.0.0.1:8080/auth", "the authorization server")
	api := flag.String("api", "http://127.0.0.1:8082", "URL of the API")
	show := flag.Bool("print", false, "print the address for the browser instead of opening it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *issuer, *api, *show); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, issuer, api string, show bool) error {
	c, err := client.Discover(ctx, client.Config{
		Issuer: issuer, ClientID: "native", RedirectURI: "http://127.0.0.1/callback",
		Scopes: []string{"openid", "profile", "notes.read"},
	})
	if err != nil {
		return err
	}
	var options client.LoopbackOptions
	if show {
		options.OpenBrowser = func(address string) error {
			_, err := fmt.Println(address)
			return err
		}
	}
	patience, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	tokens, err := c.Loopback(patience, options)
	if err != nil {
		return err
	}
	// A program that runs again would keep the tokens, in a file of mode 0600 or in the
	// system's keychain, and store them anew in the function given to Source.
	resp, err := c.Source(tokens, nil).HTTPClient().Get(api + "/notes")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
