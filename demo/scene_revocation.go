package demo

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
)

const (
	partyTool  = "security tool"
	tool       = "watchtower"
	toolSecret = "demo-secret-of-the-watchtower-0123"
)

func revocationScene() scene {
	return scene{
		key: "revocation", title: "Stolen laptop: global token revocation (experimental)", button: "Sign in and end all access",
		about:    "The user's laptop was stolen. A security tool ends all of the user's sessions and tokens at once, in every app. Afterwards, you have to sign in again in the other scenes.",
		clientID: "diary", clientSecret: "demo-secret-of-the-diary-0123456789", clientName: "Diary",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		scopes:          []string{oauth.ScopeOpenID, scopeRead}, callback: "/revocation/callback",
		configure: func(_ *Demo, config *configuration.Configuration) error {
			watchtower := configuration.Client{ID: tool, Secret: toolSecret, ClientMetadata: oauth.ClientMetadata{GrantTypes: []string{oauth.GrantTypeClientCredentials}}}
			watchtower.GlobalTokenRevocation = true
			config.Clients = append(config.Clients, watchtower)
			return nil
		},
		run: runRevocation,
		breaks: []breakage{
			{key: "refresh", title: "Refresh afterwards", about: "Use the refresh token after the revocation.", fresh: true, code: oauth.InvalidGrant},
			{key: "anybody", title: "Another client", about: "An app without permission tries to end all access.", fresh: true, code: oauth.AccessDenied},
		},
	}
}

func runRevocation(ctx context.Context, d *Demo, w *walk) error {
	refreshToken := w.tokens.RefreshToken
	id, secret, from := tool, toolSecret, partyTool
	if w.breakKey() == "anybody" {
		id, secret, from = w.scene.clientID, w.scene.clientSecret, partyApp
	}
	r, err := http.NewRequestWithContext(recordedFrom(ctx, &w.recording, from, "End all sessions and tokens of ada. Only clients with this permission may do it (draft-parecki-oauth-global-token-revocation)."), http.MethodPost, d.issuer+"/global-token-revocation",
		strings.NewReader(`{"sub_id": {"format": "email", "email": "ada@example.com"}}`))
	if err != nil {
		return fmt.Errorf("revoke all tokens: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.SetBasicAuth(id, secret)
	if err := d.deliver(w, r); err != nil || w.failed {
		return err
	}
	w.result = "All of ada's access has ended. The apps notice on their next request."
	if w.breakKey() == "refresh" {
		form := url.Values{"grant_type": {oauth.GrantTypeRefreshToken}, "refresh_token": {refreshToken}}
		return d.ask(ctx, w, form, "Use the refresh token. It was revoked with everything else (RFC 6749, section 5.2).")
	}
	return nil
}
