package ui_test

import (
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/ui"
)

// The engine is created with the pages, and the pages are then served for that engine.
func ExampleUI_Handler() {
	const issuer = "https://login.example.com"
	store := memory.New()
	accounts, err := identity.New(identity.Config{Store: store})
	if err != nil {
		log.Fatal(err)
	}
	defer accounts.Close()
	pages, err := ui.New(ui.Config{Issuer: issuer, Accounts: accounts, Store: store, Name: "Example"})
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
	handler := pages.Handler(engine)

	response := httptest.NewRecorder()
	handler.ServeHTTP(response, httptest.NewRequest("GET", issuer+"/account", nil))
	fmt.Println(response.Code, response.Header().Get("Location"))
	// Output: 303 /sign-in
}
