package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

const partyCompany = "company's provider"

// The company's provider, and its users: one of the staff, and a guest.
const (
	companyID       = "company"
	companyClient   = "demo"
	companySecret   = "demo-secret-of-the-company-012345678"
	staffName       = "grace"
	staffPassword   = "compiler-no-1"
	guestName       = "guest"
	guestPassword   = "visitor-no-1"
	companyStaff    = `claims.preferred_username == "` + staffName + `" ? {claims: {name: claims.name}} : "Only staff may sign in."`
	companyCallback = "/upstream/" + companyID + "/callback"
)

func upstreamScene() scene {
	return scene{
		key: "upstream", title: "Another provider: sign in with the company's account", button: "Sign in with the company’s account",
		about: "The authorization server sends its users to another OpenID Provider, a second Valetkey. On the sign-in page, choose “Continue with Example Corp”, and sign in there as " + staffName + " with the password " + staffPassword +
			". The first time, an account is created by the operator's rule. Sign out before you go on with other scenes.",
		clientID: "intranet", clientSecret: "demo-secret-of-the-intranet-01234567", clientName: "Intranet",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeAuthorizationCode}, scopes: []string{oauth.ScopeOpenID, oauth.ScopeProfile},
		callback:  "/upstream/callback",
		configure: configureUpstream, start: startUpstream, run: runUpstream,
		user: func(*Demo) *person.Person { return companyUser(staffName, staffPassword) },
		breaks: []breakage{
			{key: "rule", title: "User whom the rule refuses", about: "A guest of the company signs in at its provider. The operator's rule admits only its staff.", only: true, code: pageError},
			{key: "csrf", title: "Someone else's response", about: "An attacker signs in at the provider, and has the user's browser open the response, so that the user works in the attacker's account.", only: true, code: pageError},
		},
	}
}

func companyUser(username, password string) *person.Person {
	p := person.New(username, password)
	p.Provider = companyID
	return p
}

// configureUpstream starts the company's provider, a server of its own.
func configureUpstream(d *Demo, c *configuration.Configuration) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.company = "http://" + listener.Addr().String()
	d.parties[listener.Addr().String()] = partyCompany
	provider, err := valetkey.New(valetkey.Config{
		Configuration: configuration.Configuration{
			Issuer: d.company, Database: "sqlite::memory:", ServiceName: "Example Corp",
			Declarations: configuration.Declarations{
				Users: []configuration.User{
					{Username: staffName, Password: staffPassword, Name: "Grace Hopper"},
					{Username: guestName, Password: guestPassword, Name: "A Guest"},
				},
				Clients: []configuration.Client{{ID: companyClient, Secret: companySecret, ClientMetadata: oauth.ClientMetadata{
					ClientName: "Valetkey demo", GrantTypes: []string{oauth.GrantTypeAuthorizationCode}, RedirectURIs: []string{d.issuer + companyCallback},
					Scope: oauth.Scope{oauth.ScopeOpenID, oauth.ScopeProfile}.String(),
				}}},
			},
		},
		Logger: d.logger,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	d.provider = provider
	d.serveOn(listener, provider)
	c.IdentityProviders = append(c.IdentityProviders, upstream.Config{
		ID: companyID, Name: "Example Corp", Issuer: d.company, ClientID: companyClient, ClientSecret: companySecret, Scope: "openid profile", Rule: companyStaff,
	})
	c.Outgoing.Networks = append(c.Outgoing.Networks, "127.0.0.1")
	return nil
}

// startUpstream asks for a new sign-in, which a browser with a session would skip.
func startUpstream(ctx context.Context, d *Demo, w *walk) error {
	var err error
	w.address, w.transaction, err = d.clients[w.scene.key].AuthorizationURL(ctx, client.AuthorizationOptions{Prompt: []string{"login"}})
	return err
}

func runUpstream(ctx context.Context, d *Demo, w *walk) error {
	if w.breakKey() != "" {
		return d.attackUpstream(ctx, w)
	}
	identity := w.tokens.Identity
	shown, err := json.MarshalIndent(map[string]any{"iss": identity.Issuer, "sub": identity.Subject, "acr": identity.ACR}, "", "  ")
	if err != nil {
		return fmt.Errorf("show the ID token: %w", err)
	}
	w.result = "The app knows only the authorization server, which found the account by the issuer and the sub of the company's provider: " + string(shown)
	return nil
}

// attackUpstream completes a sign-in at the provider that the authorization server must refuse.
func (d *Demo) attackUpstream(ctx context.Context, w *walk) error {
	address, _, err := d.clients[w.scene.key].AuthorizationURL(ctx, client.AuthorizationOptions{})
	if err != nil {
		return err
	}
	rule := record.Check{Rule: "the operator's rule admits the user", Section: "identity_providers.rule"}
	purpose, name, password := "The provider has redirected the browser back. The server redeems the code, and evaluates the rule for what the provider says about the user.", guestName, guestPassword
	if w.breakKey() == "csrf" {
		rule = record.Check{Rule: "the response belongs to a sign-in that this browser has started", Section: "RFC 6749, section 10.12"}
		purpose = "The user's browser opens the attacker's response. Its state belongs to another browser (RFC 6749, section 10.12)."
		name, password = staffName, staffPassword
	}
	attacker := companyUser(name, password)
	response, err := attacker.Visit(address, d.issuer+companyCallback)
	if err != nil {
		return fmt.Errorf("sign in at the company's provider: %w", err)
	}
	browser := &http.Client{Transport: d.recorder(), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	request, err := http.NewRequestWithContext(recordedFrom(ctx, &w.recording, partyBrowser, purpose), http.MethodGet, response.String(), nil)
	if err != nil {
		return fmt.Errorf("open the response: %w", err)
	}
	if w.breakKey() == "rule" { // the guest's own browser
		for _, cookie := range attacker.Cookies(d.issuer + companyCallback) {
			request.AddCookie(cookie)
		}
	}
	answer, err := browser.Do(request)
	if err != nil {
		return fmt.Errorf("open the response: %w", err)
	}
	if err := answer.Body.Close(); err != nil {
		return fmt.Errorf("open the response: %w", err)
	}
	if w.failed = answer.StatusCode >= http.StatusBadRequest; !w.failed {
		w.result = "The browser is signed in."
		return nil
	}
	w.recording.refuse(rule)
	w.result = "Refused: " + rule.Rule
	return nil
}
