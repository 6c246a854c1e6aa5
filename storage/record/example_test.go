package record_test

import (
	"context"
	"fmt"
	"log"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// A store keeps records; the engine and the command line read and change them.
func ExampleStore() {
	var store record.Store = memory.New()
	ctx := context.Background()
	err := store.RegisterClient(ctx, &record.Client{
		ID:             "notes",
		ClientMetadata: oauth.ClientMetadata{ClientName: "Notes"},
		Registration:   &record.Registration{},
	}, 100)
	if err != nil {
		log.Fatal(err)
	}
	err = store.UpdateClient(ctx, "notes", func(c *record.Client) error {
		c.Disabled = true
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	client, err := store.Client(ctx, "notes")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(client.ClientName, client.Active())
	// Output: Notes false
}
