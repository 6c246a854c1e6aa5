package storage_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
)

// A ticket is spent once. The same operation stores what replaces it.
func ExampleTickets() {
	var store storage.Tickets = memory.New()
	ctx, now := context.Background(), time.Now()

	const kind storage.Kind = "example"
	first := storage.Ticket{Key: kind.Hash("the first secret"), Family: "a sign-in", Expires: now.Add(time.Minute)}
	second := storage.Ticket{Key: kind.Hash("the second secret"), Family: "a sign-in", Expires: now.Add(time.Minute)}
	if err := store.Put(ctx, now, first); err != nil {
		log.Fatal(err)
	}
	fmt.Println(store.Spend(ctx, now, []storage.Key{first.Key}, second))

	err := store.Spend(ctx, now, []storage.Key{first.Key})
	fmt.Println(errors.Is(err, storage.ErrSpent))

	// Everything that began with the same sign-in ends together.
	if err := store.DeleteFamily(ctx, "a sign-in"); err != nil {
		log.Fatal(err)
	}
	_, err = store.Get(ctx, now, second.Key)
	fmt.Println(errors.Is(err, storage.ErrNotFound))
	// Output:
	// <nil>
	// true
	// true
}
