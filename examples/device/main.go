// Command device is a program on a device without a browser, such as a television or a server
// that is used over SSH. It shows a code, and the user allows access in a browser on another
// device (RFC 8628).
//
//	go run ./examples/embedding &
//	go run ./examples/api &
//	go run ./examples/device
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"

	"github.com/valetkey/valetkey/deviceqr"
	"github.com/valetkey/valetkey/oauth/client"
)

func main() {
	issuer := flag.String("issuer", "http://127.0.0.1:8080/auth", "the authorization server")
	api := flag.String("api", "http://127.0.0.1:8082", "URL of the API")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *issuer, *api); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, issuer, api string) error {
	c, err := client.Discover(ctx, client.Config{Issuer: issuer, ClientID: "television", Scopes: []string{"notes.read"}})
	if err != nil {
		return err
	}
	device, err := c.DeviceAuthorization(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("Go to %s and enter %s\n", device.VerificationURI, device.UserCode)
	if device.VerificationURIComplete != "" {
		code, err := deviceqr.Encode(device.VerificationURIComplete)
		if err != nil {
			return err
		}
		fmt.Printf("or scan this QR code. Check that the page shows the same code.\n\n%s\n", code)
	}
	tokens, err := c.WaitForDevice(ctx, device)
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
