package upstream

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage"
)

// A user who signs out here is signed out at the provider too, if the operator wants that (OpenID Connect
// RP-Initiated Logout 1.0). The session here has ended before the browser gets to the provider. Where it
// continues afterwards is stored here, and in no URL, so nobody else can choose it.

const (
	// maxHintBytes limits the ID token that is sent as id_token_hint: it is part of a URL. Without it, the
	// provider may ask the user.
	maxHintBytes = 4096
	// signOutLifetime is how long a user may take to confirm the logout at the provider.
	signOutLifetime = 15 * time.Minute
)

// SignOut is a logout at a provider to begin.
type SignOut struct {
	// Browser is the secret of the browser's cookie. Only the same browser continues at Continue.
	Browser string
	// IDToken is that of the session; "" if it is not known.
	IDToken string
	// Continue is a URL, which the caller has verified; "" is the caller's own page.
	Continue string
}

// Format keeps the secret and the ID token out of logs and messages.
func (s SignOut) Format(state fmt.State, _ rune) { fmt.Fprint(state, "[logout at a provider]") }

// LogValue keeps the secret and the ID token out of structured logs.
func (s SignOut) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// pendingSignOut is the Data of a ticket.
type pendingSignOut struct {
	Provider string `json:"provider"`
	Browser  []byte `json:"browser"` // a hash
	Continue string `json:"continue,omitempty"`
}

// SignsOut reports whether users who sign out here are signed out at the provider too.
func (p *Provider) SignsOut() bool { return p.config.RPInitiatedLogout && !p.config.plain() }

// SignsOut reports whether that is so for any active provider.
func (p *Providers) SignsOut() bool {
	for _, provider := range p.Active() {
		if provider.SignsOut() {
			return true
		}
	}
	return false
}

// SignedOutPath is the path of the provider's post_logout_redirect_uri, below the issuer.
func (p *Provider) SignedOutPath() string { return "/upstream/" + p.config.ID + "/post-logout" }

// BeginSignOut returns the URL at which the provider signs the user out. The error is ErrUnavailable, also
// if the provider has no end_session_endpoint, or an internal error.
func (p *Provider) BeginSignOut(ctx context.Context, now time.Time, s SignOut) (string, error) {
	if s.Browser == "" {
		return "", errors.New("upstream: SignOut.Browser is missing")
	}
	leave, err := p.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	c, err := p.client(ctx)
	if err != nil {
		return "", err
	}
	state := rand.Text() + rand.Text()
	address, err := c.LogoutURL(client.LogoutOptions{
		IDTokenHint: s.IDToken, State: state,
		PostLogoutRedirectURI: strings.TrimSuffix(p.all.options.Issuer, "/") + p.SignedOutPath(),
	})
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	hash := sha256.Sum256([]byte(s.Browser))
	data, err := json.Marshal(pendingSignOut{Provider: p.config.ID, Browser: hash[:], Continue: s.Continue})
	if err != nil {
		return "", fmt.Errorf("encode a logout: %w", err)
	}
	ticket := storage.Ticket{Key: ticketkind.UpstreamSignOut.Hash(state), Data: data, Expires: now.Add(signOutLifetime)}
	if err := p.all.options.Store.Put(ctx, now, ticket); err != nil {
		return "", fmt.Errorf("store a logout: %w", err)
	}
	return address, nil
}

// CompleteSignOut returns where a browser continues that comes back from the provider with a state; "" is
// the caller's own page. browser is the secret of its cookie. The error is ErrOver or an internal error.
func (p *Provider) CompleteSignOut(ctx context.Context, now time.Time, state, browser string) (string, error) {
	if state == "" || len(state) > 128 || browser == "" {
		return "", ErrOver
	}
	key := ticketkind.UpstreamSignOut.Hash(state)
	ticket, err := p.all.options.Store.Get(ctx, now, key)
	if errors.Is(err, storage.ErrNotFound) {
		return "", ErrOver
	}
	if err != nil {
		return "", fmt.Errorf("find a logout: %w", err)
	}
	var found pendingSignOut
	if err := json.Unmarshal(ticket.Data, &found); err != nil {
		return "", fmt.Errorf("decode a logout: %w", err)
	}
	hash := sha256.Sum256([]byte(browser))
	if found.Provider != p.config.ID || subtle.ConstantTimeCompare(hash[:], found.Browser) != 1 {
		return "", ErrOver
	}
	err = p.all.options.Store.Spend(ctx, now, []storage.Key{key})
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
		return "", ErrOver
	}
	if err != nil {
		return "", fmt.Errorf("spend a logout: %w", err)
	}
	return found.Continue, nil
}
