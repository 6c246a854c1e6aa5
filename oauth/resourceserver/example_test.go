package resourceserver_test

import (
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/oauth/resourceserver"
)

// An API with a route that needs a scope, and one that also needs a recent sign-in.
func Example() {
	guard, err := resourceserver.New(resourceserver.Config{
		Issuer:          "https://login.example.com",
		Resource:        "https://api.example.com",
		ScopesSupported: []string{"notes.read", "notes.delete"},
	})
	if err != nil {
		log.Fatal(err)
	}
	list := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := resourceserver.TokenFromContext(r.Context())
		fmt.Fprintln(w, "The notes of", token.Subject)
	})
	empty := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })

	mux := http.NewServeMux()
	mux.Handle("GET /notes", guard.Require("notes.read")(list))
	mux.Handle("DELETE /notes", guard.RequireToken(resourceserver.Requirement{
		Scopes: []string{"notes.delete"}, MaxAge: 5 * time.Minute,
	})(empty))
	mux.Handle("GET "+guard.MetadataPath(), guard.Metadata())

	fmt.Println(guard.MetadataPath())
	// Output: /.well-known/oauth-protected-resource
}

// An API that takes the tokens of a Keycloak realm and of an Okta organization.
func ExampleIssuer() {
	guard, err := resourceserver.New(resourceserver.Config{
		Resource: "https://api.example.com",
		Issuers: []resourceserver.Issuer{
			{
				Issuer: "https://sso.example.com/realms/acme", Audiences: []string{"notes-api"},
				ClientIDClaim: "azp", InsecureTypes: []string{"JWT"},
			},
			{
				Issuer: "https://acme.okta.com/oauth2/default", Audiences: []string{"api://default"},
				ScopeClaims: []string{"scp"}, ClientIDClaim: "cid", InsecureTypes: []string{""},
			},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("GET /notes", guard.Require("notes.read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := resourceserver.TokenFromContext(r.Context())
		fmt.Fprintln(w, "The notes of", token.Subject, "at", token.Issuer)
	})))
}
