package sqlsession_test

import (
	"context"
	"database/sql"
	"encoding/base64"
	"log"
	"os"

	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/client/sqlsession"
)

// An application that runs in several processes keeps its sessions in its own database.
func Example() {
	ctx := context.Background()
	db, err := sql.Open("pgx", os.Getenv("DATABASE_URL")) // with the driver of the application
	if err != nil {
		log.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(os.Getenv("SESSION_KEY")) // 32 bytes, the same in each process
	if err != nil {
		log.Fatal(err)
	}
	sessions, err := sqlsession.New(sqlsession.Config{DB: db, Dialect: sqlsession.PostgreSQL, Key: key})
	if err != nil {
		log.Fatal(err)
	}
	if err := sessions.CreateTable(ctx); err != nil {
		log.Fatal(err)
	}
	c, err := client.Discover(ctx, client.Config{
		Issuer: "https://login.example.com", ClientID: "photos", ClientSecret: os.Getenv("CLIENT_SECRET"),
		RedirectURI: "https://photos.example.com/auth/callback", Scopes: []string{"openid", "offline_access"},
	})
	if err != nil {
		log.Fatal(err)
	}
	party, err := client.NewRelyingParty(client.RelyingPartyConfig{Client: c, Sessions: sessions, CookieKey: key})
	if err != nil {
		log.Fatal(err)
	}
	_ = party
}
