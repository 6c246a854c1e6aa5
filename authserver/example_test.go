package authserver_test

import (
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth/jose"
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

// keyService stands for the client of a key management service, which never gives out the private key.
type keyService struct{ key crypto.Signer }

func (k keyService) Public() crypto.PublicKey { return k.key.Public() }

func (k keyService) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), rand, digest, opts)
}

// SignContext would send a request with this context.
func (k keyService) SignContext(_ context.Context, rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.key.Sign(rand, digest, opts)
}

// Tokens can be signed with keys that the server does not have. The key set has their public parts.
func ExampleExternalKey() {
	key, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		log.Fatal(err)
	}
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
		Issuer: issuer, Store: store, Secret: []byte("32 random bytes, always the same"), Users: pages,
		ExternalKeys: []authserver.ExternalKey{{ID: "2026-11", Algorithm: jose.ES256, Signer: keyService{key}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	response := httptest.NewRecorder()
	engine.ServeHTTP(response, httptest.NewRequest("GET", issuer+"/jwks", nil))
	keys, err := jose.ParseKeySet(response.Body.Bytes())
	if err != nil {
		log.Fatal(err)
	}
	for _, k := range keys.Keys {
		if k.Algorithm() == jose.ES256 {
			fmt.Println(k.KeyID())
		}
	}
	// Output: 2026-11
}
