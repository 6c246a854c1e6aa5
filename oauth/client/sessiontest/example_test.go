package sessiontest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/client/sessiontest"
)

// Session returns sessions for tests of the store's own features.
func ExampleSession() {
	ctx := context.Background()
	store := client.NewMemorySessions(1)
	first, second := sessiontest.Session(), sessiontest.Session()
	for _, s := range []*client.Session{first, second} {
		if err := store.Put(ctx, s); err != nil {
			log.Fatal(err)
		}
	}
	for _, s := range []*client.Session{first, second} {
		got, err := store.Get(ctx, s.ID)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(got != nil)
	}
	// Output:
	// false
	// true
}
