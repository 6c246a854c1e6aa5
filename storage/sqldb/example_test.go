package sqldb_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"

	"github.com/valetkey/valetkey/storage/sqldb"
)

// A program opens its database with a master key, which must be the same each time.
func ExampleOpen() {
	masterKey := make([]byte, 32) // in a real program, read from a file
	rand.Read(masterKey)
	ctx := context.Background()
	store, err := sqldb.Open(ctx, "sqlite::memory:", sqldb.Config{MasterKey: masterKey})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	clients, err := store.Clients(ctx, "", 100)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(clients), "clients")
	// Output: 0 clients
}
