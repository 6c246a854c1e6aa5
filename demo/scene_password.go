package demo

import (
	"context"
	"net/http"
	"net/url"

	"github.com/valetkey/valetkey/oauth"
)

func passwordScene() scene {
	return scene{
		key: "password", title: "Password grant: the app asks for the password", button: "Send the password and show my photos",
		about:    "The user types their password into the app, which sends it to the authorization server. The app could keep the password, and a second factor is impossible. RFC 9700, section 2.4, forbids it. The grant is off unless a client is registered for it. Use the code flow instead, or the device grant if there is no browser.",
		clientID: "terminal", clientSecret: "demo-secret-of-the-terminal-0123456", clientName: "Old terminal",
		applicationType: oauth.ApplicationWeb, grantTypes: []string{oauth.GrantTypePassword}, scopes: []string{scopeRead},
		run: runPassword,
		breaks: []breakage{
			{key: "guess", title: "Wrong password", about: "Guess the password. The response is the same for a user who does not exist.", code: oauth.InvalidGrant},
			{key: "another", title: "Another app", about: "Send the password as an app that is registered for the code flow only.", code: oauth.UnsupportedGrantType},
			{key: "scope", title: "Scope not granted", about: "Ask the API to delete a photo with a token that only allows reading.", code: oauth.InsufficientScope},
		},
	}
}

func runPassword(ctx context.Context, d *Demo, w *walk) error {
	form := url.Values{"grant_type": {oauth.GrantTypePassword}, "username": {Username}, "password": {Password}, "scope": {scopeRead}}
	switch w.breakKey() {
	case "guess":
		form.Set("password", "engine-no-2")
		return d.ask(ctx, w, form, "Send a wrong password. The error is the same for unknown users, and attempts are limited (RFC 6749, section 4.3.2).")
	case "another":
		w.scene.clientID, w.scene.clientSecret = webScene().clientID, webScene().clientSecret
		return d.ask(ctx, w, form, "Send the user's password as another app. A client may use only the grants that it is registered for (RFC 6749, section 5.2).")
	}
	if err := d.ask(ctx, w, form, "Send the username and password to get an access token. The client authenticates with its secret (RFC 6749, section 4.3.2)."); err != nil || w.failed {
		return err
	}
	if w.breakKey() == "scope" {
		return d.request(ctx, w, http.MethodDelete, "/photos/1", "Call an API route that requires another scope. The API compares it with the scope of the token (RFC 6750, section 3.1).")
	}
	return d.request(ctx, w, http.MethodGet, "/photos", callPurpose)
}
