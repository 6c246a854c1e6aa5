package configuration_test

import (
	"fmt"

	"github.com/valetkey/valetkey/configuration"
)

// Parse reports every problem with its line.
func ExampleParse() {
	_, err := configuration.Parse("valetkey.yaml", []byte(`
issuer: https://login.example.com
lifetimes:
  access_token: soon
clients:
  - client_id: app
    redirect_uri: https://app.example.com/callback
`))
	fmt.Println(err)
	// Output:
	// valetkey.yaml:4: lifetimes.access_token: "soon" is not a valid duration (for example, 10m or 720h)
	// valetkey.yaml:7: unknown key "redirect_uri" in clients[0]; did you mean "redirect_uris"?
}
