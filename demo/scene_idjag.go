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

// chatIssuer is another company's authorization server, to which nothing is sent.
const chatIssuer = "https://login.chat.example.org"

func idJAGScene() scene {
	return scene{
		key: "idjag", title: "Call another company's API for the user: ID-JAG", button: "Sign in and get an ID-JAG",
		about:    "In this scene, the server is the company's identity provider. An app that the user has signed in to exchanges its ID token for an ID-JAG: a grant for one client at one other authorization server, if the operator's rules allow it.",
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
			{key: "elsewhere", title: "Another company", about: "Request a grant for a server that no rule names.", fresh: true, code: oauth.InvalidTarget},
			{key: "more", title: "Ask for more", about: "Request a scope that the rule does not give.", fresh: true, code: oauth.InvalidScope},
			{key: "access", title: "Another token", about: "Send the access token, and call it an ID token.", fresh: true, code: oauth.InvalidRequest},
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
	if err := d.ask(ctx, w, form, "Exchange the ID token for a grant for the other company's server"); err != nil || w.failed {
		return err
	}
	_, payload, _ := strings.Cut(w.tokens.AccessToken, ".")
	payload, _, _ = strings.Cut(payload, ".")
	claims, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return fmt.Errorf("read the ID-JAG: %w", err)
	}
	w.answer = "Claims in the ID-JAG, which the wiki presents at " + chatIssuer + " as a JWT bearer grant:\n" + string(claims)
	return nil
}
