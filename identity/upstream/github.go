package upstream

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/valetkey/valetkey/oauth/client"
)

// addAddress sets email and email_verified from the list of a GitHub user's addresses. The email of
// /user is a public address that need not be the primary one
// (https://docs.github.com/rest/users/emails).
func (p *Provider) addAddress(ctx context.Context, tokens *client.Tokens, claims map[string]any) error {
	delete(claims, "email")
	delete(claims, "email_verified")
	document, err := p.fetch(ctx, p.emails(), tokens)
	if err != nil {
		return err
	}
	var addresses []struct {
		Email    string `json:"email"`
		Primary  bool   `json:"primary"`
		Verified bool   `json:"verified"`
	}
	if err := json.Unmarshal(document, &addresses); err != nil {
		return fmt.Errorf("%w: the list of addresses cannot be read", ErrResponse)
	}
	for _, address := range addresses {
		if address.Primary {
			claims["email"], claims["email_verified"] = address.Email, address.Verified
		}
	}
	return nil
}

// emails is below the userinfo_endpoint, also at GitHub Enterprise Server.
func (p *Provider) emails() string { return p.config.UserinfoEndpoint + "/emails" }
