package demo

import (
	"context"
	"net/http"
	"net/url"

	"github.com/valetkey/valetkey/oauth"
)

func passwordScene() scene {
	return scene{
		key: "password", title: "Legacy: the password grant", button: "Hand over the password and show my photos",
		about:    "The user types their password into the app, which sends it to the authorization server. The app could keep it, and a second factor is impossible. The grant is off unless a client is registered for it. Use the code flow instead, or the device flow where there is no browser.",
		clientID: "terminal", clientSecret: "demo-secret-of-the-terminal-0123456", clientName: "Old terminal",
		applicationType: oauth.ApplicationWeb, grantTypes: []string{oauth.GrantTypePassword}, scopes: []string{scopeRead},
		run: runPassword,
		breaks: []breakage{
			{key: "guess", title: "Wrong password", about: "Guess. The response is the same for a user who does not exist.", code: oauth.InvalidGrant},
			{key: "another", title: "Another application", about: "Send a password as an application that is registered for the code flow.", code: oauth.UnsupportedGrantType},
			{key: "scope", title: "Scope not granted", about: "Ask the API to delete a photo with a token for reading.", code: oauth.InsufficientScope},
		},
	}
}

func runPassword(ctx context.Context, d *Demo, w *walk) error {
	form := url.Values{"grant_type": {oauth.GrantTypePassword}, "username": {Username}, "password": {Password}, "scope": {scopeRead}}
	switch w.breakKey() {
	case "guess":
		form.Set("password", "engine-no-2")
		return d.ask(ctx, w, form, "Send a password that is not the user's")
	case "another":
		w.scene.clientID, w.scene.clientSecret = webScene().clientID, webScene().clientSecret
		return d.ask(ctx, w, form, "Send the user's password as another application")
	}
	if err := d.ask(ctx, w, form, "Send the username and password, with the client's credentials, for an access token"); err != nil || w.failed {
		return err
	}
	if w.breakKey() == "scope" {
		return d.request(ctx, w, http.MethodDelete, "/photos/1", "Call an API route that requires another scope")
	}
	return d.request(ctx, w, http.MethodGet, "/photos", "Call the API with the access token")
}
