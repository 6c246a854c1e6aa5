package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	partyProvider  = "identity provider"
	partyPlatform  = "platform"
	providerIssuer = "https://idp.example.net"
	platformIssuer = "https://kubernetes.default.svc.cluster.local"
	cleanerAccount = "system:serviceaccount:photos:cleaner"
)

func assertionScene() scene {
	return scene{
		key: "assertion", title: "Users of another identity provider: JWT bearer grant", button: "Get an assertion and call the API",
		about:    "The user's company has its own identity provider, which this server trusts for one client and one scope. The provider issues a JWT (an ID-JAG) that lets the app act for the user, and the app exchanges it for an access token. No browser is involved.",
		clientID: "assistant", clientSecret: "demo-secret-of-the-assistant-012345", clientName: "Company assistant",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeJWTBearer},
		scopes:          []string{scopeRead, scopeDelete},
		configure: func(d *Demo, config *configuration.Configuration) error {
			return d.abroad.declare(config)
		},
		run: runAssertion,
		breaks: []breakage{
			{key: "again", title: "Replay the assertion", about: "Present an assertion that has already been used.", code: oauth.InvalidGrant},
			{key: "forged", title: "Forged assertion", about: "Present an assertion with a signature from an untrusted key.", code: oauth.InvalidGrant},
			{key: "other", title: "Another client's assertion", about: "Present an assertion that was issued for another client.", code: oauth.InvalidGrant},
			{key: "nobody", title: "Unknown user", about: "Present an assertion about a user who has no account here.", code: oauth.InvalidGrant},
			{key: "more", title: "Too much scope", about: "Request a scope that the provider is not trusted for.", code: oauth.InvalidScope},
		},
	}
}

func workloadScene() scene {
	return scene{
		key: "workload", title: "Service without a secret: workload identity federation", button: "Get a token and call the API",
		about:    "The platform that a service runs on, such as Kubernetes, gives it a short-lived JWT with its identity. The service authenticates with that JWT, so there is no secret to distribute or leak.",
		clientID: "cleaner", clientName: "Cleaner", applicationType: oauth.ApplicationWeb,
		grantTypes: []string{oauth.GrantTypeClientCredentials}, scopes: []string{scopeRead},
		run: runWorkload,
		breaks: []breakage{
			{key: "neighbour", title: "Another service", about: "Authenticate with the JWT of another service on the same platform.", code: oauth.InvalidClient},
			{key: "elsewhere", title: "Wrong audience", about: "Authenticate with a JWT that the platform issued for another server.", code: oauth.InvalidClient},
			{key: "forged", title: "Forged JWT", about: "Authenticate with a JWT that the platform did not sign.", code: oauth.InvalidClient},
		},
	}
}

// abroad signs as external issuers: one that the server trusts and one that it does not.
type abroad struct{ trusted, stranger *jose.Signer }

func (a *abroad) declare(config *configuration.Configuration) error {
	for _, signer := range []**jose.Signer{&a.trusted, &a.stranger} {
		private, err := jose.GenerateKey(jose.ES256)
		if err != nil {
			return err
		}
		if *signer, err = jose.NewSigner(jose.ES256, "demo", private); err != nil {
			return err
		}
	}
	keys, err := json.Marshal(jose.KeySet{Keys: []jose.JWK{a.trusted.Public()}})
	if err != nil {
		return fmt.Errorf("encode the keys of external issuers: %w", err)
	}
	config.TrustedIssuers = append(config.TrustedIssuers,
		authserver.TrustedIssuer{
			Issuer: providerIssuer, JWKS: keys, Uses: []string{authserver.UseIdentityAssertion},
			Clients: []string{"assistant"}, Scopes: []string{scopeRead}, Subjects: map[string]string{"00u1a2b3": Username},
		},
		authserver.TrustedIssuer{Issuer: platformIssuer, JWKS: keys, Uses: []string{authserver.UseClientAuthentication}})
	for i := range config.Clients {
		switch c := &config.Clients[i]; c.ID {
		case "assistant":
			c.SkipConsent = true // the company has consented for its users
		case "cleaner":
			c.TokenEndpointAuthMethod = oauth.AuthMethodFederatedJWT
			c.WorkloadIdentity = &record.WorkloadIdentity{Issuer: platformIssuer, Subject: cleanerAccount}
		}
	}
	return nil
}

// sign issues a JWT as an external issuer and records it.
func (a *abroad) sign(w *walk, from, typ, purpose string, claims map[string]any) (string, error) {
	claims["iat"], claims["exp"] = time.Now().Unix(), time.Now().Add(5*time.Minute).Unix()
	payload, err := json.MarshalIndent(claims, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode a JWT: %w", err)
	}
	signer := a.trusted
	if w.breakKey() == "forged" {
		signer = a.stranger
	}
	w.recording.add(Message{From: from, To: partyApp, Purpose: purpose, Response: string(payload)})
	return signer.Sign(typ, payload)
}

func runAssertion(ctx context.Context, d *Demo, w *walk) error {
	claims := map[string]any{
		"iss": providerIssuer, "sub": "00u1a2b3", "aud": d.issuer, "client_id": w.scene.clientID, "jti": rand.Text(),
		"resource": d.api, "scope": scopeRead,
	}
	form := url.Values{"grant_type": {oauth.GrantTypeJWTBearer}}
	switch w.breakKey() {
	case "other":
		claims["client_id"] = "another-client"
	case "nobody":
		claims["sub"] = "00u9z9z9"
	case "more":
		form.Set("scope", scopeDelete)
	}
	assertion, err := d.abroad.sign(w, partyProvider, oauth.TypIDJAG, "The identity provider issues an ID-JAG to the app. Audience and client_id limit it to this server and this client, jti to one use (RFC 7523, section 3).", claims)
	if err != nil {
		return err
	}
	form.Set("assertion", assertion)
	if err := d.ask(ctx, w, form, "Exchange the assertion for an access token. The server checks signature, issuer, audience, client and expiry (RFC 7523, section 3), and what this issuer is trusted for."); err != nil || w.failed {
		return err
	}
	if w.breakKey() == "again" {
		return d.ask(ctx, w, form, "Present the same assertion again. Its jti has been used (RFC 7523, section 3).")
	}
	return d.request(ctx, w, http.MethodGet, "/photos", callPurpose)
}

func runWorkload(ctx context.Context, d *Demo, w *walk) error {
	claims := map[string]any{"iss": platformIssuer, "sub": cleanerAccount, "aud": []string{d.issuer}}
	switch w.breakKey() {
	case "neighbour":
		claims["sub"] = "system:serviceaccount:photos:default"
	case "elsewhere":
		claims["aud"] = []string{platformIssuer}
	}
	assertion, err := d.abroad.sign(w, partyPlatform, "JWT", "The platform writes a JWT to the service's files and replaces it before it expires. Its aud claim limits it to this server.", claims)
	if err != nil {
		return err
	}
	form := url.Values{
		"grant_type": {oauth.GrantTypeClientCredentials}, "scope": {scopeRead}, "client_id": {w.scene.clientID},
		"client_assertion_type": {oauth.ClientAssertionTypeJWTBearer}, "client_assertion": {assertion},
	}
	if err := d.ask(ctx, w, form, "Request a token, with the JWT as the client's credential. The server checks its signature, issuer, subject and audience (RFC 7523, section 3; RFC 7521, section 4.2)."); err != nil || w.failed {
		return err
	}
	return d.request(ctx, w, http.MethodGet, "/photos", callPurpose)
}
