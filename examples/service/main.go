// Command service is a program without a user: it calls an API for itself, with client
// credentials.
//
//	go run ./examples/embedding &
//	go run ./examples/api &
//	go run ./examples/service
package main

import (
	"context"
	"flag"
	"io"
	"log"
	"os"

	"github.com/valetkey/valetkey/oauth/client"
)

func main() {
	issuer := flag.String("issuer", "http://127.0.0.1:8080/auth", "the authorization server")
	api := flag.String("api", "http://127.0.0.1:8082", "URL of the API")
	secret := flag.String("secret", "service-secret-of-the-examples-only", "the client's secret")
	flag.Parse()
	if err := run(context.Background(), *issuer, *api, *secret); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, issuer, api, secret string) error {
	c, err := client.Discover(ctx, client.Config{
		Issuer: issuer, ClientID: "service", ClientSecret: secret,
		Scopes: []string{"notes.read"}, Resources: []string{api},
		DPoP: true, // the token is bound to a key of this program: a stolen one is useless
	})
	if err != nil {
		return err
	}
	// One for the whole program: it caches the token until shortly before its expiry.
	calls := c.ClientCredentialsSource().HTTPClient()
	resp, err := calls.Get(api + "/notes")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
