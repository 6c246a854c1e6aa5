// Command native is a command-line program: a public client that signs the user in through the
// system's browser and calls an API on the user's behalf. Desktop and mobile applications work
// in the same way: they have no secret, and PKCE protects the code.
//
//	go run ./examples/embedding &
//	go run ./examples/api &
//	go run ./examples/native
//
// With -print it prints the URL instead of opening a browser.
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
	show := flag.Bool("print", false, "print the URL instead of opening a browser")
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
	// To stay signed in, a program stores the tokens in a file with mode 0600 or in the system's
	// keychain, and stores renewed ones in the function that it passes to Source.
	resp, err := c.Source(tokens, nil).HTTPClient().Get(api + "/notes")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
