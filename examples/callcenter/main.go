// Command callcenter asks a user for approval while they are on the telephone. The user approves
// the request on their account page, in a browser that is not redirected (OpenID Connect CIBA).
//
//	go run ./examples/embedding &
//	go run ./examples/api &
//	go run ./examples/callcenter
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

func main() {
	issuer := flag.String("issuer", "http://127.0.0.1:8080/auth", "the authorization server")
	api := flag.String("api", "http://127.0.0.1:8082", "URL of the API")
	user := flag.String("user", "demo", "the username or email address of the user")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *issuer, *api, *user); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, issuer, api, user string) error {
	c, err := client.Discover(ctx, client.Config{
		Issuer: issuer, ClientID: "callcenter", ClientSecret: "callcenter-secret-of-the-examples",
		Scopes: []string{"openid", "notes.read"},
	})
	if err != nil {
		return err
	}
	// The user compares this text with the one on the page.
	text := rand.Text()[:5]
	request, err := c.BackchannelAuthentication(ctx, client.BackchannelRequest{LoginHint: user, BindingMessage: text})
	if err != nil {
		return err
	}
	fmt.Printf("Tell the user: approve the request %s at %s/account\n", text, issuer)
	tokens, err := c.WaitForApproval(ctx, request)
	if refusal, ok := errors.AsType[*client.Error](err); ok && refusal.Code == oauth.AccessDenied {
		return errors.New("the user denied the request")
	}
	if err != nil {
		return err
	}
	resp, err := c.Source(tokens, nil).HTTPClient().Get(api + "/notes")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
