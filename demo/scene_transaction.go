package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/resourceserver"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	partyThumbnails = "thumbnail service"
	trustDomain     = "photos.internal"
	gateway         = "gateway"
	gatewaySecret   = "demo-secret-of-the-gateway-01234567"
)

func transactionScene() scene {
	return scene{
		key: "transaction", title: "Microservices behind an API: transaction tokens (experimental)", button: "Sign in and show thumbnails",
		about:    "Many services take part in one API call. A transaction token tells each of them who the user is and what the call is for, and expires within a minute. The access token goes no further than the gateway.",
		clientID: "slides", clientSecret: "demo-secret-of-the-slides-012345678", clientName: "Slide show",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeAuthorizationCode},
		scopes:          []string{scopeRead}, callback: "/transaction/callback",
		configure: func(d *Demo, config *configuration.Configuration) error {
			declareGateway(config, d.api)
			_, err := d.serve(partyThumbnails, thumbnails(d))
			return err
		},
		run: runTransaction,
		breaks: []breakage{
			{key: "access", title: "Access token at a service", about: "Pass the access token on to the service.", fresh: true, code: oauth.InvalidToken},
			{key: "key", title: "Transaction token at the API", about: "Call the API with the transaction token.", fresh: true, code: oauth.InvalidToken},
			{key: "domain", title: "Another domain", about: "Request a transaction token for services that no rule allows.", fresh: true, code: oauth.InvalidTarget},
			{key: "purpose", title: "Another purpose", about: "Request a scope that the API call does not have.", fresh: true, code: oauth.InvalidScope},
		},
	}
}

func declareGateway(config *configuration.Configuration, photos string) {
	for i := range config.Resources {
		if r := &config.Resources[i]; r.Identifier == photos {
			r.IntrospectionClients = append(r.IntrospectionClients, gateway)
		}
	}
	config.Clients = append(config.Clients, configuration.Client{ID: gateway, Secret: gatewaySecret, ClientMetadata: oauth.ClientMetadata{
		GrantTypes: []string{oauth.GrantTypeTokenExchange},
	}})
	for i := range config.Clients { // nothing in this scene waits for tokens to expire
		if c := &config.Clients[i]; c.ID == "slides" {
			c.AccessTokenLifetime = record.Duration(sceneLifetime)
		}
	}
	config.TokenExchange = append(config.TokenExchange, authserver.TokenExchangeRule{
		Clients: []string{gateway}, Audiences: []string{trustDomain}, RequestedTokenTypes: []string{oauth.TokenTypeTransaction},
	})
}

func thumbnails(d *Demo) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guard, err := resourceserver.New(resourceserver.Config{Issuer: d.issuer, Resource: "http://" + r.Host, TrustDomain: trustDomain, Logger: d.logger})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		guard.RequireTransaction(scopeRead)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token, _ := resourceserver.TransactionFromContext(r.Context())
			w.Header().Set("Content-Type", "application/json")
			// An error means that the client left.
			_ = json.NewEncoder(w).Encode(map[string]any{"thumbnails": 3, "sub": token.Subject, "on_behalf_of": token.RequestingWorkload, "transaction": token.Transaction, "details": token.Claims["tctx"]})
		})).ServeHTTP(w, r)
	})
}

func runTransaction(ctx context.Context, d *Demo, w *walk) error {
	subject := w.tokens.AccessToken
	if w.breakKey() == "access" {
		return d.callThumbnails(ctx, w, "The gateway passes the access token on to a service. A service accepts only transaction tokens (draft-ietf-oauth-transaction-tokens, section 12.2).")
	}
	w.scene.clientID, w.scene.clientSecret, w.from = gateway, gatewaySecret, partyAPI
	form := url.Values{
		"grant_type": {oauth.GrantTypeTokenExchange}, "requested_token_type": {oauth.TokenTypeTransaction},
		"subject_token": {subject}, "subject_token_type": {oauth.TokenTypeAccessToken},
		"audience": {trustDomain}, "scope": {scopeRead}, "request_details": {`{"album":"holidays"}`},
	}
	switch w.breakKey() {
	case "domain":
		form.Set("audience", "ledger.internal")
	case "purpose":
		form.Set("scope", scopeDelete)
	}
	if err := d.ask(ctx, w, form, "The gateway exchanges the user's access token for a transaction token. It describes this one call, for the services behind the API only (draft-ietf-oauth-transaction-tokens)."); err != nil || w.failed {
		return err
	}
	if w.breakKey() == "key" {
		return d.request(ctx, w, http.MethodGet, "/photos", "A service calls the API with the transaction token. It is not an access token: its type and audience differ (RFC 9068, section 4).")
	}
	return d.callThumbnails(ctx, w, "The gateway calls a service with the transaction token. The service can pass the same token on to the next one.")
}

// callThumbnails calls a service behind the API.
func (d *Demo) callThumbnails(ctx context.Context, w *walk, purpose string) error {
	r, err := http.NewRequestWithContext(recordedFrom(ctx, &w.recording, partyAPI, purpose), http.MethodGet, d.addressOf(partyThumbnails)+"/thumbnails", nil)
	if err != nil {
		return fmt.Errorf("call a service: %w", err)
	}
	r.Header.Set(resourceserver.TransactionTokenHeader, w.tokens.AccessToken)
	if err := d.deliver(w, r); err != nil || !w.failed {
		return err
	}
	w.recording.refuse(record.Check{Rule: "a service accepts only transaction tokens of its trust domain", Section: "draft-ietf-oauth-transaction-tokens, section 12.2", Detail: w.result})
	return nil
}
