package identity_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/memory"
)

func ExampleAccounts() {
	accounts, err := identity.New(identity.Config{Store: memory.New(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	defer accounts.Close()
	ctx, now, remote := context.Background(), time.Now(), netip.MustParseAddr("192.0.2.1")

	// The first user is created with a one-time token.
	token, err := accounts.SetupToken(ctx, now)
	if err != nil {
		log.Fatal(err)
	}
	if _, err = accounts.CreateAdministrator(ctx, now, token, "ada", "ada@example.com", "analytical engine no. 1"); err != nil {
		log.Fatal(err)
	}

	_, err = accounts.Authenticate(ctx, now, identity.Attempt{Identifier: "ada", Password: "analytical engine no. 2", Remote: remote})
	fmt.Println(errors.Is(err, identity.ErrWrongCredentials))
	user, err := accounts.Authenticate(ctx, now, identity.Attempt{Identifier: "ada@example.com", Password: "analytical engine no. 1", Remote: remote})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(user.Username)
	// Output:
	// true
	// ada
}
