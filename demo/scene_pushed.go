package demo

import (
	"context"
	"fmt"
	"net/http"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

func pushedScene() scene {
	return scene{
		key: "pushed", title: "Changed request: plain and pushed (PAR)", button: "Sign in with a plain request that is changed on its way",
		about:    "The app only wants to see photos. A browser extension changes the authorization request so that it asks for permission to delete photos, too. In a plain request nobody notices, unless the user reads the consent page. A pushed request (RFC 9126) goes directly from the app to the server, and the browser gets only a reference to it.",
		clientID: "frames", clientSecret: "demo-secret-of-the-frames-012345678", clientName: "Picture frames",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeAuthorizationCode},
		scopes:          []string{scopeRead, scopeDelete}, callback: "/pushed/callback",
		adjust: func(_ *Demo, config *client.Config) { config.Scopes = []string{scopeRead} },
		start:  startTampered,
		run:    runTampered,
		breaks: []breakage{
			{key: "pushed", title: "The same with a pushed request", about: "The app pushes the request. The extension makes the same change as before.", fresh: true, code: oauth.InsufficientScope},
			{key: "guess", title: "Invented reference", about: "Send the browser to the server with a reference that the server has not issued.", fresh: true, code: pageError},
			{key: "other", title: "Another app's reference", about: "Use the reference with the client_id of another app.", fresh: true, code: pageError},
			{key: "again", title: "Old reference", about: "Use the reference again after the user has finished.", fresh: true, code: pageError},
		},
	}
}

// startTampered returns the address that the browser opens after the extension has changed it.
func startTampered(ctx context.Context, d *Demo, w *walk) error {
	app := d.clients[w.scene.key]
	if w.breakage != nil {
		var err error
		app, err = client.New(app.Metadata(), client.Config{
			Issuer: d.issuer, ClientID: w.scene.clientID, ClientSecret: w.scene.clientSecret, RedirectURI: d.app + w.scene.callback,
			Scopes: []string{scopeRead}, PushAuthorizationRequests: true, HTTPClient: &http.Client{Transport: d.recorder()},
		})
		if err != nil {
			return fmt.Errorf("the app that pushes: %w", err)
		}
	}
	address, transaction, err := app.AuthorizationURL(recorded(ctx, &w.recording, "Push the authorization request to the server. The app authenticates with its secret, and gets a reference for the browser (RFC 9126, section 2)."), client.AuthorizationOptions{})
	if err != nil {
		return err
	}
	w.transaction = transaction
	w.address, err = changed(address, "scope", scopeRead+" "+scopeDelete)
	return err
}

func runTampered(ctx context.Context, d *Demo, w *walk) error {
	var address string
	var err error
	var purpose string
	switch w.breakKey() {
	case "", "pushed":
		purpose = "Call an API route that deletes a photo. The app never asked for this permission, but its token has it: the server cannot know that the request was changed (RFC 9126, section 1)."
		if w.breakage != nil {
			purpose = "Call an API route that deletes a photo. The token does not allow it: the server used the parameters that the app had pushed, and ignored the scope in the URL (RFC 9126, section 4; RFC 9101, section 6.3)."
		}
		if err := d.request(ctx, w, http.MethodDelete, "/photos/1", purpose); err != nil || w.failed {
			return err
		}
		w.result = "The photo is deleted. The app had asked for permission to see photos only."
		return nil
	case "guess":
		purpose = "Open the authorization endpoint with an invented reference. References are random and belong to one client (RFC 9126, section 7.1)."
		address, err = changed(w.address, "request_uri", "urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c")
	case "other":
		purpose = "Open the authorization endpoint with the reference, but for another app. The server compares the client_id with the client that pushed the request (RFC 9126, section 4)."
		if address, _, err = d.pushAgain(ctx, w); err == nil {
			address, err = changed(address, "client_id", webScene().clientID)
		}
	case "again":
		purpose = "Open the authorization endpoint with the same reference again. The user has finished (RFC 9126, section 7.3)."
		address = w.address
	}
	if err != nil {
		return err
	}
	w.from = partyBrowser
	return d.send(ctx, w, http.MethodGet, address, "", "", purpose)
}

// pushAgain pushes another request, which nobody has opened.
func (d *Demo) pushAgain(ctx context.Context, w *walk) (string, *client.Transaction, error) {
	again := &walk{scene: w.scene, breakage: w.breakage}
	err := startTampered(ctx, d, again)
	return again.address, again.transaction, err
}
