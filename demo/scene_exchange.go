package demo

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/resourceserver"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	partyPrints = "printing API"
	scopePrints = "prints:order"

	// exchanger is the photo API in its role as a client.
	exchanger       = "photo-api"
	exchangerSecret = "demo-secret-of-the-photo-api-012345"
	otherExchanger  = "weather-api"
)

func exchangeScene() scene {
	return scene{
		key: "exchange", title: "API calls another API for the user: token exchange", button: "Sign in and order a print",
		about:    "The photo API was called with a user's token and needs the printing API. It cannot pass the token on, because the token is for the photo API only. It exchanges it for a token that is for the printing API only and says which API is acting for the user (RFC 8693).",
		clientID: "postcards", clientSecret: "demo-secret-of-the-postcards-012345", clientName: "Postcards",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeAuthorizationCode},
		scopes:          []string{scopeRead}, callback: "/exchange/callback",
		configure: func(d *Demo, config *configuration.Configuration) error {
			prints, err := d.serve(partyPrints, printing(d))
			declareExchange(config, d.api, prints)
			return err
		},
		run: runExchange,
		breaks: []breakage{
			{key: "impersonate", title: "Hide the actor", about: "Exchange without an actor token. The new token would look as if the user had called the API directly.", fresh: true, code: oauth.InvalidRequest},
			{key: "more", title: "Too much scope", about: "Request a scope that neither the user nor the operator has allowed.", fresh: true, code: oauth.InvalidScope},
			{key: "elsewhere", title: "Another target", about: "Request a token for an API that no exchange rule allows.", fresh: true, code: oauth.InvalidTarget},
			{key: "stranger", title: "Another client", about: "Another client exchanges the same token.", fresh: true, code: oauth.UnauthorizedClient},
			{key: "pass-on", title: "Pass the token on", about: "Call the printing API with the token that is for the photo API.", fresh: true, code: oauth.InvalidToken},
		},
	}
}

// declareExchange declares which client may exchange which tokens, for which API.
func declareExchange(config *configuration.Configuration, photos, prints string) {
	for i := range config.Resources {
		if r := &config.Resources[i]; r.Identifier == photos {
			r.IntrospectionClients = append(r.IntrospectionClients, exchanger, otherExchanger)
		}
	}
	config.Scopes = append(config.Scopes, record.Scope{Name: scopePrints, Description: "Order prints"})
	config.Resources = append(config.Resources, record.Resource{Identifier: prints, Name: "Printing API", Scopes: []string{scopePrints}})
	for _, id := range []string{exchanger, otherExchanger} {
		config.Clients = append(config.Clients, configuration.Client{ID: id, Secret: exchangerSecret, ClientMetadata: oauth.ClientMetadata{
			GrantTypes: []string{oauth.GrantTypeTokenExchange, oauth.GrantTypeClientCredentials}, Scope: oauth.Scope{scopeRead, scopeDelete, scopePrints}.String(),
		}})
	}
	for i := range config.Clients { // nothing in this scene waits for tokens to expire
		if c := &config.Clients[i]; c.ID == "postcards" || c.ID == exchanger || c.ID == otherExchanger {
			c.AccessTokenLifetime = record.Duration(sceneLifetime)
		}
	}
	config.TokenExchange = append(config.TokenExchange, authserver.TokenExchangeRule{
		Clients: []string{exchanger}, Resources: []string{prints}, Scopes: []string{scopePrints},
	})
}

func printing(d *Demo) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guard, err := resourceserver.New(resourceserver.Config{Issuer: d.issuer, Resource: "http://" + r.Host, Logger: d.logger})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		guard.Require(scopePrints)(http.HandlerFunc(order)).ServeHTTP(w, r)
	})
}

func order(w http.ResponseWriter, r *http.Request) {
	token, _ := resourceserver.TokenFromContext(r.Context())
	w.Header().Set("Content-Type", "application/json")
	// An error means that the client left.
	_ = json.NewEncoder(w).Encode(map[string]any{"ordered": "lighthouse.jpg", "sub": token.Subject, "act": token.Claims["act"]})
}

func runExchange(ctx context.Context, d *Demo, w *walk) error {
	prints, subject := d.addressOf(partyPrints), w.tokens.AccessToken
	w.scene.clientID, w.scene.clientSecret, w.from = exchanger, exchangerSecret, partyAPI
	switch w.breakKey() {
	case "pass-on":
		return d.requestAt(ctx, w, http.MethodPost, prints+"/orders", "Call the printing API with the photo API's token. Its aud claim names another API (RFC 9068, section 4).")
	case "stranger":
		w.scene.clientID = otherExchanger
	}
	form := url.Values{"grant_type": {oauth.GrantTypeClientCredentials}, "scope": {scopeRead}}
	if err := d.ask(ctx, w, form, "The photo API requests a token for itself. It will be the actor token, which says who acts for the user (RFC 8693, section 1.1)."); err != nil || w.failed {
		return err
	}
	form = url.Values{
		"grant_type":    {oauth.GrantTypeTokenExchange},
		"subject_token": {subject}, "subject_token_type": {oauth.TokenTypeAccessToken},
		"actor_token": {w.tokens.AccessToken}, "actor_token_type": {oauth.TokenTypeAccessToken},
		"resource": {prints}, "scope": {scopePrints},
	}
	switch w.breakKey() {
	case "impersonate":
		form.Del("actor_token")
		form.Del("actor_token_type")
	case "more":
		form.Set("scope", scopePrints+" "+scopeDelete)
	case "elsewhere":
		form.Set("resource", d.api)
	}
	if err := d.ask(ctx, w, form, "Exchange the user's token for one for the printing API. The operator's rules decide who may exchange which token for which API (RFC 8693, section 2.1)."); err != nil || w.failed {
		return err
	}
	return d.requestAt(ctx, w, http.MethodPost, prints+"/orders", "Call the printing API for the user. The token's act claim names the photo API (RFC 8693, section 4.1).")
}
