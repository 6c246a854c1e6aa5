package demo

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
)

// chatIssuer is another company's authorization server. Nothing is sent to it.
const chatIssuer = "https://login.chat.example.org"

func idJAGScene() scene {
	return scene{
		key: "idjag", title: "Another company's API: identity assertion grant (ID-JAG)", button: "Sign in and get an ID-JAG",
		about:    "In this scene, the server is the company's identity provider. An app that the user has signed in to exchanges its ID token for an ID-JAG. This is a grant for one client at another company's authorization server. The operator's rules decide which apps may get one.",
		clientID: "wiki", clientSecret: "demo-secret-of-the-wiki-0123456789", clientName: "Company wiki",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeTokenExchange},
		scopes:          []string{oauth.ScopeOpenID}, callback: "/idjag/callback",
		configure: func(_ *Demo, config *configuration.Configuration) error {
			config.TokenExchange = append(config.TokenExchange, authserver.TokenExchangeRule{
				Clients: []string{"wiki"}, Audiences: []string{chatIssuer}, Scopes: []string{"chat.read"},
				RequestedTokenTypes: []string{oauth.TokenTypeIDJAG}, SubjectTokenTypes: []string{oauth.TokenTypeIDToken},
				AudienceClientID: "wiki-at-chat",
			})
			return nil
		},
		run: runIDJAG,
		breaks: []breakage{
			{key: "elsewhere", title: "Another company", about: "Request a grant for an authorization server that no rule allows.", fresh: true, code: oauth.InvalidTarget},
			{key: "more", title: "Too much scope", about: "Request a scope that the rule does not allow.", fresh: true, code: oauth.InvalidScope},
			{key: "access", title: "Wrong token type", about: "Send the access token as if it were an ID token.", fresh: true, code: oauth.InvalidRequest},
		},
	}
}

func runIDJAG(ctx context.Context, d *Demo, w *walk) error {
	form := url.Values{
		"grant_type": {oauth.GrantTypeTokenExchange}, "requested_token_type": {oauth.TokenTypeIDJAG},
		"subject_token": {w.tokens.IDToken}, "subject_token_type": {oauth.TokenTypeIDToken},
		"audience": {chatIssuer}, "scope": {"chat.read"},
	}
	switch w.breakKey() {
	case "elsewhere":
		form.Set("audience", "https://elsewhere.example.org")
	case "more":
		form.Set("scope", "chat.read chat.delete")
	case "access":
		form.Set("subject_token", w.tokens.AccessToken)
	}
	if err := d.ask(ctx, w, form, "Exchange the ID token for an ID-JAG. Its audience is the other company's server and its client_id the app's client there, so it is useless elsewhere (draft-ietf-oauth-identity-assertion-authz-grant)."); err != nil || w.failed {
		return err
	}
	_, payload, _ := strings.Cut(w.tokens.AccessToken, ".")
	payload, _, _ = strings.Cut(payload, ".")
	claims, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return fmt.Errorf("read the ID-JAG: %w", err)
	}
	w.result = "Claims of the ID-JAG, which the wiki presents at " + chatIssuer + " as a JWT bearer grant:\n" + string(claims)
	return nil
}
