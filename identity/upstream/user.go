package upstream

import (
	"context"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
)

// leeway is the tolerated difference between the clocks of the provider and this server.
const leeway = time.Minute

// externalUser adds methods to the result.
type externalUser struct{ *identity.ExternalUser }

// user returns the user that a response is about.
func (p *Provider) user(ctx context.Context, c *client.Client, tokens *client.Tokens, response url.Values) (externalUser, error) {
	none := externalUser{}
	user := &identity.ExternalUser{Provider: p.config.ID, Name: p.config.Name, Issuer: p.config.userIssuer(), NameOnce: p.config.preset.nameOnce}
	claims, err := p.claims(ctx, c, tokens)
	if err != nil {
		return none, err
	}
	if p.config.preset.nameOnce {
		addAppleName(claims, response.Get("user"))
	}
	if p.config.preset.tenant && claims["tid"] != p.config.Tenant {
		return none, fmt.Errorf("%w: tid is not the tenant", ErrResponse)
	}
	switch {
	case p.config.Subject != "":
		var ok bool
		if user.Subject, ok = subjectOf(claims, p.config.Subject); !ok {
			return none, fmt.Errorf("%w: the member %q does not identify a user", ErrResponse, p.config.Subject)
		}
	case tokens.Identity != nil:
		user.Subject = tokens.Identity.Subject
	}
	if user.Subject == "" {
		return none, fmt.Errorf("%w: it does not identify a user", ErrResponse)
	}
	plainNumbers(claims)
	if err := p.mapping.apply(claims); err != nil {
		return none, fmt.Errorf("map the claims of %s: %w", p.config.ID, err)
	}
	if p.config.preset.emails != "" {
		if err := p.addAddress(ctx, tokens, claims); err != nil {
			return none, err
		}
	}
	user.Claims = claims
	if email, ok := claims["email"].(string); ok && len(email) <= 254 {
		user.Email = email
		user.EmailTrusted = p.config.TrustEmail && verified(claims["email_verified"]) && identity.ValidEmailAddress(email)
	}
	if id := tokens.Identity; id != nil {
		user.AuthTime, user.AMR = id.AuthTime, id.AMR
		user.ACR = p.config.TrustedACR[id.ACR]
		user.Session.ID = id.SessionID
		if p.config.RPInitiatedLogout && len(tokens.IDToken) <= maxHintBytes {
			user.Session.IDToken = tokens.IDToken
		}
		// OpenID Connect Enterprise Extensions, section 2: a claim of the ID token.
		if expiry, ok := claims["session_expiry"].(float64); ok && expiry > 0 && expiry < 1e11 {
			user.Session.Expires = time.Unix(int64(expiry), 0)
		}
	}
	return externalUser{user}, nil
}

// claims returns what the provider says about the user. Claims of the ID token win over those of
// UserInfo: they are signed.
func (p *Provider) claims(ctx context.Context, c *client.Client, tokens *client.Tokens) (map[string]any, error) {
	if p.config.plain() {
		document, err := p.fetch(ctx, p.config.UserinfoEndpoint, tokens)
		if err != nil {
			return nil, err
		}
		return p.decode(document)
	}
	inToken, err := p.decode(tokens.Identity.Claims)
	if err != nil {
		return nil, err
	}
	if c.Metadata().UserinfoEndpoint == "" || p.config.preset.noUserInfo {
		return inToken, nil
	}
	info, err := c.UserInfo(ctx, tokens)
	if err != nil {
		return nil, classify(err)
	}
	claims, err := p.decode(info.Claims)
	if err != nil {
		return nil, err
	}
	delete(claims, "session_expiry") // only the ID token's counts
	maps.Copy(claims, inToken)
	return claims, nil
}

func (p *Provider) decode(document []byte) (map[string]any, error) {
	if err := jose.ParseJSON(document, new(map[string]any)); err != nil {
		return nil, fmt.Errorf("%w: the claims are not a JSON object, or have duplicate members", ErrResponse)
	}
	claims, err := decode(document)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	return claims, nil
}

const maxUserInfoBytes = 256 << 10

// fetch gets JSON from a URL of the operator with an access token.
func (p *Provider) fetch(ctx context.Context, address string, tokens *client.Tokens) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", address, err)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "Valetkey")
	r.Header.Set("Authorization", oauth.TokenTypeBearer+" "+tokens.AccessToken)
	response, err := p.httpClient().Do(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxUserInfoBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case response.StatusCode >= 500:
		return nil, fmt.Errorf("%w: %s responded with status %d", ErrUnavailable, address, response.StatusCode)
	case response.StatusCode != http.StatusOK || !strings.HasSuffix(kind, "json"):
		return nil, fmt.Errorf("%w: %s responded with status %d and %q", ErrResponse, address, response.StatusCode, kind)
	case len(body) > maxUserInfoBytes:
		return nil, fmt.Errorf("%w: %s sent more than %d bytes", ErrResponse, address, maxUserInfoBytes)
	}
	return body, nil
}

// checkTime checks auth_time, and replaces it where the clocks differ a little.
func (user externalUser) checkTime(now time.Time, found *pending) error {
	began := time.UnixMilli(found.Began)
	switch {
	case user.AuthTime.After(now.Add(leeway)):
		return fmt.Errorf("%w: auth_time is in the future", ErrResponse)
	case user.AuthTime.After(now):
		user.AuthTime = now
	}
	if found.Dated && user.AuthTime.IsZero() {
		return ErrNotFresh // a server without OpenID Connect does not say when the user signed in
	}
	if !found.Fresh {
		return nil
	}
	// auth_time has whole seconds, and the provider's clock may be behind.
	if user.AuthTime.IsZero() || user.AuthTime.Before(began.Add(-leeway)) {
		return ErrNotFresh
	}
	if user.AuthTime.Before(began) {
		user.AuthTime = began
	}
	return nil
}
