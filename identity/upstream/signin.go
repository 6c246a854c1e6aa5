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
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage"
)

// pendingLifetime is how long a user may take at the provider.
const pendingLifetime = 15 * time.Minute

// Start is a sign-in to begin.
type Start struct {
	// Browser is the secret of the browser's cookie. Only the same browser can complete the sign-in.
	Browser string
	// Interaction is the authorization request that waits for the user; "" if there is none.
	Interaction string
	// Purpose says what the caller does with the result. It is returned as it is.
	Purpose string
	// UserID and Session are the signed-in user and session that a link or a confirmation is for.
	// The caller compares them with those at the end.
	UserID, Session string
	// ReturnTo is the page to continue with. The caller has verified it.
	ReturnTo string
	// Fresh requires that the provider authenticates the user again. MaxAge is how long ago it may
	// have been, if Fresh is not set; nil means any time.
	Fresh  bool
	MaxAge *time.Duration

	LoginHint string
	UILocales []string
	ACRValues []string
	Remote    netip.Addr
}

// Format keeps the secret of the browser out of logs and messages.
func (s Start) Format(state fmt.State, _ rune) { fmt.Fprint(state, "[start of a sign-in]") }

// LogValue keeps the secret of the browser out of structured logs.
func (s Start) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// pending is a stored sign-in in progress.
type pending struct {
	Provider    string              `json:"provider"`
	Transaction *client.Transaction `json:"transaction"`
	Browser     []byte              `json:"browser"` // a hash
	Interaction string              `json:"interaction,omitempty"`
	Purpose     string              `json:"purpose,omitempty"`
	UserID      string              `json:"user,omitempty"`
	Session     string              `json:"session,omitempty"`
	ReturnTo    string              `json:"return_to,omitempty"`
	Fresh       bool                `json:"fresh,omitempty"`
	Dated       bool                `json:"dated,omitempty"` // max_age: auth_time is required
	Began       int64               `json:"began"`           // Unix milliseconds
	// Response is a response that was posted from the provider's page. Browsers send no cookie with
	// such a request, so it waits for the GET that follows.
	Response url.Values `json:"response,omitempty"`
}

// Result is a completed sign-in.
type Result struct {
	Provider    *Provider
	User        *identity.ExternalUser
	Interaction string
	Purpose     string
	UserID      string
	Session     string
	ReturnTo    string
	// Fresh is set if the user has authenticated since the sign-in began.
	Fresh bool
}

// Begin starts a sign-in and returns the URL of the provider to which the browser is redirected.
// Each call has its own state, nonce and PKCE verifier, so several tabs can sign in at once.
func (p *Provider) Begin(ctx context.Context, now time.Time, start Start) (string, error) {
	if start.Browser == "" {
		return "", errors.New("upstream: Start.Browser is missing")
	}
	if wait := p.all.starts.Take(now, ratelimit.NewKey(ratelimit.Network(start.Remote))); wait > 0 {
		return "", &ThrottledError{wait}
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
	options := client.AuthorizationOptions{
		LoginHint: start.LoginHint, UILocales: start.UILocales, ACRValues: start.ACRValues, ResponseMode: p.config.preset.responseMode,
	}
	if len(options.ACRValues) == 0 && p.config.ACRValues != "" {
		options.ACRValues = strings.Fields(p.config.ACRValues)
	}
	if !p.config.plain() {
		options.MaxAge = start.MaxAge
		if start.Fresh {
			// A provider may ignore prompt. With max_age, it must say when the user signed in, and
			// the client checks that (OpenID Connect Core, section 3.1.2.1).
			none := time.Duration(0)
			options.Prompt, options.MaxAge = []string{"login"}, &none
		}
	}
	address, transaction, err := c.AuthorizationURL(ctx, options)
	if err != nil {
		return "", classify(err)
	}
	hash := sha256.Sum256([]byte(start.Browser))
	data, err := json.Marshal(pending{
		Provider: p.config.ID, Transaction: transaction, Browser: hash[:], Interaction: start.Interaction, Purpose: start.Purpose,
		UserID: start.UserID, Session: start.Session, ReturnTo: start.ReturnTo, Fresh: start.Fresh, Dated: start.MaxAge != nil, Began: now.UnixMilli(),
	})
	if err != nil {
		return "", fmt.Errorf("encode a sign-in: %w", err)
	}
	ticket := storage.Ticket{Key: ticketkind.UpstreamSignIn.Hash(transaction.State), Data: data, Expires: now.Add(pendingLifetime)}
	if err := p.all.options.Store.Put(ctx, now, ticket); err != nil {
		return "", fmt.Errorf("store a sign-in: %w", err)
	}
	return address, nil
}

// resumePrefix separates the names of posted responses from values of state.
const resumePrefix = "resume "

// Hold keeps a response that the provider's page has posted (response_mode=form_post) until the
// browser comes back with its cookie, and returns the secret for that. Only a response to a sign-in
// in progress is kept. The error is ErrOver or an internal error.
func (p *Provider) Hold(ctx context.Context, now time.Time, response url.Values) (resume string, err error) {
	state := response.Get("state")
	found, err := p.find(ctx, now, state)
	if err != nil {
		return "", err
	}
	found.Response = url.Values{}
	for _, name := range []string{"state", "code", "iss", "error", "error_description", "error_uri", "user"} {
		if values := response[name]; len(values) > 0 {
			found.Response[name] = values
		}
	}
	data, err := json.Marshal(found)
	if err != nil {
		return "", fmt.Errorf("encode a sign-in: %w", err)
	}
	if len(data) > maxPendingBytes {
		return "", fmt.Errorf("%w: it is too long", ErrResponse)
	}
	resume = rand.Text()
	ticket := storage.Ticket{Key: ticketkind.UpstreamSignIn.Hash(resumePrefix + resume), Data: data, Expires: now.Add(5 * time.Minute)}
	err = p.all.options.Store.Spend(ctx, now, []storage.Key{ticketkind.UpstreamSignIn.Hash(state)}, ticket)
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
		return "", ErrOver
	}
	if err != nil {
		return "", fmt.Errorf("store a response: %w", err)
	}
	return resume, nil
}

const maxPendingBytes = 32 << 10

// find returns an unspent sign-in of this provider by its state.
func (p *Provider) find(ctx context.Context, now time.Time, secret string) (*pending, error) {
	if secret == "" || len(secret) > 128 {
		return nil, ErrOver
	}
	ticket, err := p.all.options.Store.Get(ctx, now, ticketkind.UpstreamSignIn.Hash(secret))
	if errors.Is(err, storage.ErrNotFound) || err == nil && !ticket.Spent.IsZero() {
		return nil, ErrOver
	}
	if err != nil {
		return nil, fmt.Errorf("find a sign-in: %w", err)
	}
	var found pending
	if err := json.Unmarshal(ticket.Data, &found); err != nil {
		return nil, fmt.Errorf("decode a sign-in: %w", err)
	}
	if found.Provider != p.config.ID || found.Transaction == nil {
		// A response of one provider at the redirect URI of another (RFC 9700, section 4.4).
		return nil, fmt.Errorf("%w: the response came to the redirect URI of another provider", ErrResponse)
	}
	return &found, nil
}

// Complete completes a sign-in with the parameters of the authorization response, or with the secret
// that Hold returned as resume. browser is the secret of the browser's cookie. A sign-in is completed
// once, whatever the result is, but a request of another browser does not end it.
//
// The result is set whenever the sign-in belongs to this browser, also with an error, so that the
// page can continue where the user was; its User is nil then.
func (p *Provider) Complete(ctx context.Context, now time.Time, response url.Values, resume, browser string) (*Result, error) {
	secret := response.Get("state")
	if resume != "" {
		secret = resumePrefix + resume
	}
	found, err := p.find(ctx, now, secret)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(browser))
	if browser == "" || subtle.ConstantTimeCompare(hash[:], found.Browser) != 1 {
		return nil, fmt.Errorf("%w: another browser", ErrOver)
	}
	result := &Result{
		Provider: p, Interaction: found.Interaction, Purpose: found.Purpose, UserID: found.UserID, Session: found.Session,
		ReturnTo: found.ReturnTo, Fresh: found.Fresh,
	}
	if found.Response != nil {
		response = found.Response
	} else if response.Has("id_token") || response.Has("access_token") {
		return result, fmt.Errorf("%w: it has tokens in its query", ErrResponse)
	}
	err = p.all.options.Store.Spend(ctx, now, []storage.Key{ticketkind.UpstreamSignIn.Hash(secret)})
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
		return nil, ErrOver
	}
	if err != nil {
		return nil, fmt.Errorf("spend a sign-in: %w", err)
	}
	leave, err := p.enter(ctx)
	if err != nil {
		return result, err
	}
	defer leave()
	c, err := p.client(ctx)
	if err != nil {
		return result, err
	}
	asked := found.Transaction.Scope
	tokens, err := c.Callback(ctx, found.Transaction, response)
	if err != nil {
		return result, classify(err)
	}
	if asked.Has(oauth.ScopeOpenID) && tokens.Identity == nil {
		return result, fmt.Errorf("%w: it has no ID token", ErrResponse)
	}
	user, err := p.user(ctx, c, tokens, response)
	if err != nil {
		return result, err
	}
	if err := user.checkTime(now, found); err != nil {
		return result, err
	}
	result.User = user.ExternalUser
	return result, nil
}
