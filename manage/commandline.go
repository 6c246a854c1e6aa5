package manage

import (
	"context"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// commandLine returns the client of "valetkey login", which the server itself defines; nil if mode is
// CommandLineOff. Everyone can pretend to be a public client, so it gets a token only after the user
// has agreed in a browser, for what the user may manage, and with redirects to loopback alone (RFC
// 8252, section 8.6).
func commandLine(issuer, mode string) *record.Client {
	if mode == configuration.CommandLineOff {
		return nil
	}
	scope := oauth.Scope{oauth.ScopeOfflineAccess}
	for _, p := range api.Permissions() {
		scope = append(scope, string(p))
	}
	c := &record.Client{
		ID: api.CommandLineClientID,
		ClientMetadata: oauth.ClientMetadata{
			ClientName: "Valetkey command line", ApplicationType: oauth.ApplicationNative, TokenEndpointAuthMethod: oauth.AuthMethodNone,
			RedirectURIs: []string{"http://127.0.0.1/callback", "http://[::1]/callback"},
			GrantTypes:   []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken}, Scope: scope.String(),
		},
		ClientSettings: record.ClientSettings{
			Resources:            []string{Identifier(issuer)},
			RefreshTokenLifetime: record.Duration(7 * 24 * time.Hour), RefreshTokenMaxLifetime: record.Duration(30 * 24 * time.Hour),
		},
	}
	if mode == configuration.CommandLineDevice {
		c.GrantTypes = append(c.GrantTypes, oauth.GrantTypeDeviceCode)
	}
	return c
}

// client returns a stored client, or that of the command line.
func (a *API) client(ctx context.Context, id string) (*record.Client, error) {
	if a.commandLine != nil && id == a.commandLine.ID {
		defined := *a.commandLine
		defined.DeclaredBy = byServer
		return &defined, nil
	}
	return a.config.Store.Client(ctx, id)
}
