package upstream

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/admission"
	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage"
)

const (
	// requestTimeout limits each request to a provider. The user waits for it.
	requestTimeout = 5 * time.Second
	// metadata is fetched again after an hour. While the provider does not respond, it is used for
	// a day.
	metadataFresh = time.Hour
	metadataKept  = 24 * time.Hour
	metadataBytes = 8 << 20
	// atOnce limits the requests to one provider, so that one that hangs takes no more than that.
	atOnce = 32
)

// startsByNetwork limits the sign-ins that a network starts: each is stored until it ends.
var startsByNetwork = ratelimit.Limit{Burst: 100, Every: 5 * time.Second}

// Options are what all providers have in common.
type Options struct {
	// Issuer is that of this server; the redirect URIs are below it.
	Issuer string
	Store  storage.Tickets
	// Transport sends requests to addresses that the operator configured.
	Transport http.RoundTripper
	Logger    *slog.Logger
}

// Providers are the providers of a server. It is safe for concurrent use.
type Providers struct {
	options Options
	list    []*Provider
	clients outgoing.Cache[*client.Client]
	starts  *ratelimit.Limiter
}

// Provider is one of them.
type Provider struct {
	config  Config
	all     *Providers
	key     crypto.Signer
	secret  string
	mapping mapping
	rule    admission.Rule
	slots   chan struct{}

	logo     []byte
	logoType string
}

// New returns providers. It reads the files that the configuration names, and sends no requests.
func New(providers []Config, options Options) (*Providers, error) {
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	p := &Providers{
		options: options,
		starts:  ratelimit.New(ratelimit.Config{Name: "sign-ins with other providers", Limit: startsByNetwork, Logger: options.Logger}),
	}
	var problems []error
	CheckAll(providers, func(i int, err error) { problems = append(problems, fmt.Errorf("identity_providers[%d]: %w", i, err)) })
	for i, c := range providers {
		provider, err := p.newProvider(c.complete())
		if err != nil {
			problems = append(problems, fmt.Errorf("identity_providers[%d]: %w", i, err))
			continue
		}
		p.list = append(p.list, provider)
	}
	p.clients = outgoing.Cache[*client.Client]{
		Load: p.load, Fresh: metadataFresh, Serve: metadataKept, Keep: metadataKept,
		Rest: time.Minute, Retry: 5 * time.Second, MaxBytes: metadataBytes,
	}
	return p, errors.Join(problems...)
}

func (p *Providers) newProvider(c Config) (provider *Provider, err error) {
	provider = &Provider{config: c, all: p, slots: make(chan struct{}, atOnce)}
	if provider.secret, err = c.secret(); err != nil {
		return nil, err
	}
	if provider.key, err = c.privateKey(); err != nil {
		return nil, err
	}
	if provider.logo, provider.logoType, err = c.logo(); err != nil {
		return nil, err
	}
	if provider.mapping, err = newMapping(c.Claims); err != nil {
		return nil, err
	}
	if provider.rule, err = admission.Compile(c.Rule); err != nil {
		return nil, fmt.Errorf("rule: %w", err)
	}
	return provider, nil
}

// Close waits until no request for metadata is in progress.
func (p *Providers) Close() {
	if p != nil {
		p.clients.Wait()
	}
}

// Active returns the providers that are not disabled, in the order of the configuration.
func (p *Providers) Active() []*Provider {
	if p == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(p.list), func(provider *Provider) bool { return provider.config.Disabled })
}

// Provider returns an active provider by its ID; nil if there is none.
func (p *Providers) Provider(id string) *Provider {
	for _, provider := range p.Active() {
		if provider.config.ID == id {
			return provider
		}
	}
	return nil
}

// ForIdentifier returns the provider to which a typed name belongs, by its domain; nil if there is
// none. The name must have the form local@domain, with one @.
func (p *Providers) ForIdentifier(identifier string) *Provider {
	canonical, err := identity.CanonicalIdentifier(identifier)
	if err != nil || strings.Count(canonical, "@") != 1 {
		return nil
	}
	_, domain, _ := strings.Cut(canonical, "@")
	for _, provider := range p.Active() {
		if slices.Contains(provider.config.Domains, domain) {
			return provider
		}
	}
	return nil
}

// ID is the name of the provider in URLs, and Name its name on pages.
// ConfirmsSignIn reports whether the provider can be asked to authenticate its user again, and says when it
// did. Servers without OpenID Connect cannot.
func (p *Provider) ConfirmsSignIn() bool { return !p.config.plain() }

func (p *Provider) ID() string   { return p.config.ID }
func (p *Provider) Name() string { return p.config.Name }

// ByDomain reports whether the domain of a typed name can decide where its user signs in.
func (p *Providers) ByDomain() bool {
	return slices.ContainsFunc(p.Active(), func(provider *Provider) bool { return len(provider.config.Domains) > 0 })
}

// Logo returns the picture for the button and its media type; nil if there is none.
func (p *Provider) Logo() ([]byte, string) { return p.logo, p.logoType }

// Decide applies the operator's rule to a user.
func (p *Provider) Decide(user *identity.ExternalUser, newUser bool) (identity.Admission, error) {
	return p.rule.Decide(user, newUser)
}

// CallbackPath and LogoutPath are the paths of the provider's own redirect URI and of its
// backchannel_logout_uri, below the issuer. An own redirect URI keeps a response of one provider from
// being taken for that of another (RFC 9700, section 4.4.2.2).
func (p *Provider) CallbackPath() string { return "/upstream/" + p.config.ID + "/callback" }
func (p *Provider) LogoutPath() string   { return "/upstream/" + p.config.ID + "/backchannel-logout" }

func (p *Provider) redirectURI() string {
	return strings.TrimSuffix(p.all.options.Issuer, "/") + p.CallbackPath()
}

// FormAction returns the source for the form-action directive of a page with a form that leads to
// the provider: the scheme, because providers redirect further to hosts that are not known here.
func (p *Providers) FormAction() string {
	action := ""
	for _, provider := range p.Active() {
		u, err := url.Parse(provider.config.userIssuer())
		switch {
		case err != nil:
		case u.Scheme == "http": // loopback, in development
			return "http: https:"
		default:
			action = "https:"
		}
	}
	return action
}

// client returns the client of the provider. Its metadata is fetched when it is needed, and refreshed
// in the background.
func (p *Provider) client(ctx context.Context) (*client.Client, error) {
	c, err := p.all.clients.Get(ctx, p.config.ID, false)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return c, nil
}

// load creates the client of a provider, for the cache.
func (p *Providers) load(ctx context.Context, id string) (*client.Client, int, error) {
	i := slices.IndexFunc(p.list, func(provider *Provider) bool { return provider.config.ID == id })
	if i < 0 {
		return nil, 0, fmt.Errorf("there is no provider %q", id)
	}
	provider := p.list[i]
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c, err := provider.newClient(ctx, time.Now())
	if err != nil {
		p.options.Logger.WarnContext(ctx, "the metadata of an identity provider cannot be used", "provider", id, "error", err)
	}
	return c, 64 << 10, err
}

func (p *Provider) httpClient() *http.Client {
	return &http.Client{Transport: p.all.options.Transport, Timeout: requestTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (p *Provider) newClient(ctx context.Context, now time.Time) (*client.Client, error) {
	c := &p.config
	config := client.Config{
		Issuer: c.userIssuer(), ClientID: c.ClientID, ClientSecret: p.secret, KeyID: c.KeyID, AuthMethod: c.TokenEndpointAuthMethod,
		RedirectURI: p.redirectURI(), HTTPClient: p.httpClient(),
	}
	scope, err := oauth.ParseScope(c.Scope)
	if err != nil {
		return nil, fmt.Errorf("scope: %w", err)
	}
	config.Scopes = scope
	if c.preset.secret != nil {
		if config.ClientSecret, err = c.preset.secret(c, p.key, now); err != nil {
			return nil, err
		}
	} else if p.key != nil {
		config.PrivateKey = p.key
	}
	if c.plain() {
		return client.New(oauth.ServerMetadata{
			Issuer: c.userIssuer(), AuthorizationEndpoint: c.AuthorizationEndpoint, TokenEndpoint: c.TokenEndpoint,
			UserinfoEndpoint: c.UserinfoEndpoint,
		}, config)
	}
	discovered, err := client.Discover(ctx, config)
	if err != nil {
		return nil, err
	}
	metadata := discovered.Metadata()
	if metadata.PushedAuthorizationRequestEndpoint == "" {
		return discovered, nil
	}
	config.PushAuthorizationRequests = true
	return client.New(metadata, config)
}

// enter takes a slot for requests to the provider. The caller calls leave.
func (p *Provider) enter(ctx context.Context) (leave func(), err error) {
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	default:
		return nil, fmt.Errorf("%w: too many requests to it are waiting", ErrUnavailable)
	}
}
