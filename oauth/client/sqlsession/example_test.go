package sqlsession_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log"

	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/client/sqlsession"
)

// An application that runs in several processes keeps its sessions in its database.
func Example() {
	ctx := context.Background()
	db := sql.OpenDB(newExampleDB())   // sql.Open("pgx", os.Getenv("DATABASE_URL"))
	key := bytes.Repeat([]byte{1}, 32) // a secret, the same in each process

	// Each process has a store, and uses it in its client.RelyingPartyConfig.
	open := func() *sqlsession.Store {
		store, err := sqlsession.New(sqlsession.Config{DB: db, Dialect: sqlsession.PostgreSQL, Key: key})
		if err != nil {
			log.Fatal(err)
		}
		if err := store.CreateTable(ctx); err != nil {
			log.Fatal(err)
		}
		return store
	}
	if err := open().Put(ctx, &client.Session{ID: "1", Issuer: "https://login.example.com", Subject: "alice", Tokens: &client.Tokens{}}); err != nil {
		log.Fatal(err)
	}
	session, err := open().Get(ctx, "1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(session.Subject)
	// Output: alice
}
