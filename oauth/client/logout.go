package client

import (
	"fmt"
	"net/url"
	"strings"
)

// LogoutOptions are the parameters of OpenID Connect RP-Initiated Logout, section 2.
type LogoutOptions struct {
	// IDTokenHint is the raw ID token of the sign-in to end.
	IDTokenHint string
	LogoutHint  string
	// PostLogoutRedirectURI is the registered URI to which the browser is redirected
	// afterwards. State is added to it.
	PostLogoutRedirectURI string
	State                 string
	UILocales             []string
}

// LogoutURL returns the URL that signs the user out at the provider. Redirect the browser to
// it.
func (c *Client) LogoutURL(options LogoutOptions) (string, error) {
	if c.metadata.EndSessionEndpoint == "" {
		return "", fmt.Errorf("%w: its metadata has no end_session_endpoint", ErrUnsupported)
	}
	endpoint, err := url.Parse(c.metadata.EndSessionEndpoint)
	if err != nil {
		return "", fmt.Errorf("%w: end_session_endpoint: %w", ErrMetadata, err)
	}
	query := endpoint.Query()
	for _, p := range []struct{ name, value string }{
		{"client_id", c.config.ClientID},
		{"id_token_hint", options.IDTokenHint},
		{"logout_hint", options.LogoutHint},
		{"post_logout_redirect_uri", options.PostLogoutRedirectURI},
		{"state", options.State},
		{"ui_locales", strings.Join(options.UILocales, " ")},
	} {
		if p.value != "" {
			query.Set(p.name, p.value)
		}
	}
	endpoint.RawQuery = query.Encode()
	return endpoint.String(), nil
}
