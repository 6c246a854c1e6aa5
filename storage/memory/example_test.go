package memory_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
)

// One store has tickets, records and users, as a database has.
func ExampleNew() {
	store := memory.New()
	ctx, now := context.Background(), time.Now()
	user := &identity.User{ID: storage.NewID(), Username: "ada"}
	if err := store.CreateUser(ctx, user); err != nil {
		log.Fatal(err)
	}
	ticket := storage.Ticket{Key: storage.Kind("example").Hash("a secret"), Expires: now.Add(time.Minute)}
	if err := store.Put(ctx, now, ticket); err != nil {
		log.Fatal(err)
	}

	found, err := store.User(ctx, user.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(found.Username)
	_, err = store.Get(ctx, now.Add(time.Minute), ticket.Key)
	fmt.Println(err)
	// Output:
	// ada
	// storage: not found
}
