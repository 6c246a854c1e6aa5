package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
)

// A service calls an API for itself.
func Example() {
	server, api := startExampleServer(), startExampleAPI()
	defer server.Close()
	defer api.Close()

	c, err := client.Discover(context.Background(), client.Config{
		Issuer:       server.URL, // https://login.example.com
		ClientID:     "nightly-report",
		ClientSecret: "from the environment",
		Scopes:       []string{"photos.read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	httpClient := c.ClientCredentialsSource().HTTPClient() // one for the whole program
	resp, err := httpClient.Get(api.URL + "/albums")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("the API got %s\n", body)
	// Output: the API got Bearer access-token-of-nightly-report
}

// A web application leaves sign-in, sessions and sign-out to a RelyingParty, which serves
// /auth/sign-in, /auth/callback, /auth/sign-out and others.
func ExampleRelyingParty() {
	server := startExampleServer()
	defer server.Close()
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()

	c, err := client.Discover(context.Background(), client.Config{
		Issuer:       server.URL, // https://login.example.com
		ClientID:     "photos",
		ClientSecret: "from the environment",
		RedirectURI:  app.URL + "/auth/callback", // https://photos.example.com/auth/callback
		Scopes:       []string{"openid", "profile"},
	})
	if err != nil {
		log.Fatal(err)
	}
	party, err := client.NewRelyingParty(client.RelyingPartyConfig{Client: c})
	if err != nil {
		log.Fatal(err)
	}
	mux.Handle("/auth/", party)
	mux.Handle("/", party.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := client.SessionFrom(r.Context())
		fmt.Fprintf(w, "Albums of %s", session.Subject)
		// session.Source().HTTPClient() calls APIs with the user's access token.
	})))

	// A browser without a session is redirected to sign in, and back.
	jar, err := cookiejar.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	resp, err := browser.Get(app.URL + "/albums")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s\n", resp.Request.URL.Path, page)
	// Output: /albums: Albums of alice
}

// A single-page application calls its API through its backend, without an access token in the
// browser.
func ExampleBackend() {
	server, api := startExampleServer(), startExampleAPI()
	defer server.Close()
	defer api.Close()
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	defer app.Close()

	c, err := client.Discover(context.Background(), client.Config{
		Issuer:       server.URL,
		ClientID:     "photos",
		ClientSecret: "from the environment",
		RedirectURI:  app.URL + "/auth/callback",
		Scopes:       []string{"openid", "photos.read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	party, err := client.NewRelyingParty(client.RelyingPartyConfig{Client: c})
	if err != nil {
		log.Fatal(err)
	}
	backend, err := client.NewBackend(client.BackendConfig{
		Party: party,
		APIs:  map[string]string{"/api/": api.URL + "/"}, // https://api.example.com/v1/
	})
	if err != nil {
		log.Fatal(err)
	}
	mux.Handle("/auth/", backend)
	mux.Handle("/api/", backend)
	// The files of the single-page application.
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<!doctype html>") })

	// What the browser and the script of the application do.
	jar, err := cookiejar.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	call := func() string {
		req, err := http.NewRequest(http.MethodGet, app.URL+"/api/albums", nil)
		if err != nil {
			log.Fatal(err)
		}
		req.Header.Set("Sec-Fetch-Site", "same-origin") // browsers send it
		resp, err := browser.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusUnauthorized {
			return "sign in first"
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			log.Fatal(err)
		}
		return "the API got " + string(body)
	}
	fmt.Println(call())
	resp, err := browser.Get(app.URL + "/auth/sign-in")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(call())
	// Output:
	// sign in first
	// the API got Bearer access-token-of-alice
}

// A command-line program signs its user in through the system's browser.
func ExampleClient_Loopback() {
	server, api := startExampleServer(), startExampleAPI()
	defer server.Close()
	defer api.Close()

	ctx := context.Background()
	c, err := client.Discover(ctx, client.Config{
		Issuer:   server.URL, // https://login.example.com
		ClientID: "photos-cli",
		Scopes:   []string{"openid", "photos.read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := c.Loopback(ctx, client.LoopbackOptions{
		// Without OpenBrowser, the system's browser is used.
		OpenBrowser: func(url string) error {
			go http.Get(url)
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("signed in as", tokens.Identity.Subject)

	resp, err := c.Source(tokens, nil).HTTPClient().Get(api.URL + "/albums")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("the API got %s\n", body)
	// Output:
	// signed in as alice
	// the API got Bearer access-token-of-alice
}

// A device without a browser shows a code, which the user enters in a browser elsewhere.
func ExampleClient_DeviceAuthorization() {
	server := startExampleServer()
	defer server.Close()

	ctx := context.Background()
	c, err := client.Discover(ctx, client.Config{
		Issuer:   server.URL, // https://login.example.com
		ClientID: "television",
		Scopes:   []string{"photos.read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	device, err := c.DeviceAuthorization(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("Go to %s and enter %s\n", device.VerificationURI, device.UserCode)
	tokens, err := c.WaitForDevice(ctx, device)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(tokens.AccessToken)
	// Output:
	// Go to https://login.example.com/device and enter WDJB-MJHT
	// access-token-of-alice
}

// A native application gets an ID token from its SDK and sends it to its server, which
// validates it.
func ExampleClient_VerifyIDToken() {
	server := startExampleServer()
	defer server.Close()

	ctx := context.Background()
	c, err := client.Discover(ctx, client.Config{Issuer: server.URL, ClientID: "photos"})
	if err != nil {
		log.Fatal(err)
	}
	idToken := server.idToken("photos-android", "nonce-from-the-server")
	id, err := c.VerifyIDToken(ctx, idToken, client.IDTokenOptions{
		Nonce:     "nonce-from-the-server",
		ClientIDs: []string{"photos-android", "photos-ios"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("signed in as", id.Subject)

	_, err = c.VerifyIDToken(ctx, idToken, client.IDTokenOptions{Nonce: "another nonce", ClientIDs: []string{"photos-android"}})
	fmt.Println(err)
	// Output:
	// signed in as alice
	// client: the ID token is not valid: nonce does not match the request
}

// Libraries that need an http.Client get the access tokens from its transport.
func ExampleSource_Transport() {
	server, api := startExampleServer(), startExampleAPI()
	defer server.Close()
	defer api.Close()

	c, err := client.Discover(context.Background(), client.Config{
		Issuer: server.URL, ClientID: "reports", ClientSecret: "from a file", Scopes: []string{"reports.read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	httpClient := &http.Client{
		Transport: c.ClientCredentialsSource().Transport(http.DefaultTransport),
		Timeout:   time.Minute,
	}
	resp, err := httpClient.Get(api.URL + "/reports")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

// A client of a bank: the authorization request is signed and pushed, so that the browser sends only
// a reference to it, and the response is a JWT that the provider signed.
func ExampleConfig_pushAuthorizationRequests() {
	server := startExampleServer()
	defer server.Close()

	key, err := jose.GenerateKey(jose.PS256) // its public key is in the jwks of the client
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	c, err := client.Discover(ctx, client.Config{
		Issuer: server.URL, ClientID: "bank", PrivateKey: key, KeyID: "2026", SigningAlg: jose.PS256,
		RedirectURI: "https://bank.example.com/callback", Scopes: []string{"openid"},
		PushAuthorizationRequests: true,
		RequestObjectSigningAlg:   jose.PS256,
		AuthorizationSigningAlg:   jose.ES256,
	})
	if err != nil {
		log.Fatal(err)
	}
	address, transaction, err := c.AuthorizationURL(ctx, client.AuthorizationOptions{})
	if err != nil {
		log.Fatal(err)
	}
	authorization, err := url.Parse(address)
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(authorization.Query())) {
		fmt.Println("the browser sends", name)
	}
	// The browser follows the URL, the user signs in, and the browser comes back.
	callback := redirectOf(address)
	for name := range callback.Query() {
		fmt.Println("the browser returns", name)
	}
	tokens, err := c.Callback(ctx, transaction, callback.Query())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("signed in:", tokens.Identity.Subject)
	// Output:
	// the browser sends client_id
	// the browser sends request_uri
	// the browser returns response
	// signed in: alice
}

// A web application without a RelyingParty uses the authorization code flow itself.
func ExampleClient_Callback() {
	server := startExampleServer()
	defer server.Close()

	ctx := context.Background()
	c, err := client.Discover(ctx, client.Config{
		Issuer: server.URL, ClientID: "photos", ClientSecret: "from the environment",
		RedirectURI: "https://photos.example.com/callback", Scopes: []string{"openid"},
	})
	if err != nil {
		log.Fatal(err)
	}
	address, transaction, err := c.AuthorizationURL(ctx, client.AuthorizationOptions{})
	if err != nil {
		log.Fatal(err)
	}
	stored, err := json.Marshal(transaction) // in the session of this browser
	if err != nil {
		log.Fatal(err)
	}

	// The browser goes to the authorization server and comes back to the redirect URI.
	callback := redirectOf(address)

	var started client.Transaction
	if err := json.Unmarshal(stored, &started); err != nil {
		log.Fatal(err)
	}
	tokens, err := c.Callback(ctx, &started, callback.Query())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("signed in as", tokens.Identity.Subject)
	// Output: signed in as alice
}
