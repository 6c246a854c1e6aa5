package authserver_test

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/ui"
)

// The engine needs a store and an implementation of Users, here the pages of package ui. A program
// with its own user database and pages implements Users itself. Most programs use package valetkey,
// which combines all parts.
func ExampleNew() {
	const issuer = "https://login.example.com"
	store := memory.New()
	accounts, err := identity.New(identity.Config{Store: store})
	if err != nil {
		log.Fatal(err)
	}
	defer accounts.Close()
	pages, err := ui.New(ui.Config{Issuer: issuer, Accounts: accounts, Store: store})
	if err != nil {
		log.Fatal(err)
	}
	engine, err := authserver.New(authserver.Config{
		Issuer: issuer,
		Store:  store,
		Secret: []byte("32 random bytes, always the same"),
		Users:  pages,
		Pages:  authserver.Pages{Error: pages.ErrorPage},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	response := httptest.NewRecorder()
	engine.ServeHTTP(response, httptest.NewRequest("GET", issuer+"/.well-known/openid-configuration", nil))
	var metadata struct {
		TokenEndpoint string `json:"token_endpoint"`
	}
	if err := json.Unmarshal(response.Body.Bytes(), &metadata); err != nil {
		log.Fatal(err)
	}
	fmt.Println(response.Code, metadata.TokenEndpoint)
	// Output: 200 https://login.example.com/token
}
