// Package valetkey is an OAuth 2 authorization server and OpenID Provider as one
// http.Handler: configuration in, every part wired. The command of the same name serves
// it; other programs mount it in their own server.
package valetkey

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/storage/sqldb"
	"github.com/valetkey/valetkey/ui"
)

// Version is the version of this program; a release sets it at build time.
var Version = "0.1.0-dev"

// Config says what a Server is. The zero value of every optional field is the secure
// default.
type Config struct {
	// Configuration is what a file can say; Issuer is needed. Its declarations are applied
	// when the server is made. Listen and TLS are for Serve.
	Configuration
	// FormerSource is what an earlier release called the Source; "" if nothing.
	FormerSource string
	// Logger receives everything that is logged; nil means slog.Default().
	Logger *slog.Logger
	// OnTrace, if set, receives the ladder of checks of every protocol request.
	OnTrace func(*record.Trace)
	// TokenClaims, if set, adds claims to tokens and UserInfo, or refuses them.
	TokenClaims func(ctx context.Context, r authserver.TokenRequest) (oauth.Claims, error)
	// GrantTypes are served beside ours, to clients that are registered for them.
	GrantTypes []authserver.GrantType
}

// Server is a whole authorization server: an http.Handler for the issuer's URL and all
// below it. It is safe for concurrent use.
type Server struct {
	config   Config
	log      *slog.Logger
	events   *event.Log
	store    *sqldb.Store
	accounts *identity.Accounts
	engine   *authserver.Server
	pages    http.Handler
	notFound http.HandlerFunc
	host     string // of the issuer
	secure   bool   // the issuer is https
	proxies  proxies
	draining atomic.Bool
	// warnedOfProxy is when warnOfProxy last did, in nanoseconds; zero: never.
	warnedOfProxy atomic.Int64
	declared      declared
	readiness     readiness
	stop          context.CancelFunc
	working       sync.WaitGroup // in the background
	closing       sync.Once
	closed        error
}

// DefaultDatabase is where data goes if nothing else is said.
const DefaultDatabase = "sqlite:./valetkey.db"

// New returns a server that is ready to answer. It opens the database, brings it to this
// program's version, applies the declarations and makes signing keys where there are none.
// Close ends what it started.
func New(config Config) (*Server, error) {
	s, err := newServer(config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	err = s.start(ctx)
	if err != nil {
		return nil, errors.Join(err, s.closeParts())
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.working.Go(func() { s.keepHouse(background) })
	s.working.Go(func() { s.deliverLogouts(background) })
	return s, nil
}

// newServer returns a server that has opened nothing yet.
func newServer(config Config) (*Server, error) {
	if err := collectProblems(config.readSecretFiles); err != nil {
		return nil, err
	}
	if config.Database == "" {
		config.Database = DefaultDatabase
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Issuer == "" {
		return nil, errors.New("the issuer is missing: the URL under which people and clients reach the server")
	}
	if err := oauth.CheckIssuer(config.Issuer); err != nil {
		return nil, err
	}
	issuer, err := url.Parse(config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	s := &Server{config: config, log: config.Logger, host: issuer.Host, secure: issuer.Scheme == "https", events: event.New(config.Logger)}
	if s.proxies, err = parseProxies(config.TrustedProxies, config.ProxyHeader); err != nil {
		return nil, err
	}
	return s, nil
}

// start opens the database under the master key, and makes signing keys.
func (s *Server) start(ctx context.Context) error {
	master, err := masterKeyOf(&s.config.Configuration)
	if err != nil {
		return err
	}
	if err := s.open(ctx, master); err != nil {
		return err
	}
	return s.engine.RotateKeys(ctx)
}

// open opens the database, applies the declarations, and puts the parts together.
func (s *Server) open(ctx context.Context, master []byte) error {
	if s.config.InsecureDatabaseConnection {
		s.log.Warn("insecure_database_connection: whoever is on the network between here and the database can read and change everything")
	}
	store, secret, err := openStore(ctx, &s.config.Configuration, master, s.log)
	if err != nil {
		return err
	}
	s.store = store
	for _, warning := range s.config.Declarations.warnings(s.config.GrantTypes) {
		s.log.Warn(warning)
	}
	// Hashing passwords that are new may take longer than everything else together.
	if err := s.applyAtStart(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	counting, err := deriveKey(secret, "valetkey unknown accounts")
	if err != nil {
		return err
	}
	s.accounts, err = identity.New(identity.Config{
		Store: store, Logger: s.log, SessionLifetime: time.Duration(s.config.Lifetimes.Session), Secret: counting,
	})
	if err != nil {
		return fmt.Errorf("set up sign-in: %w", err)
	}
	pages, err := ui.New(ui.Config{
		Issuer: s.config.Issuer, Accounts: s.accounts, Store: store, Name: s.config.ServiceName, SignUp: s.config.SignUp,
		OptionalUnticked: s.config.ConsentOptionalDefault == ConsentUnticked,
		RemoteAddr:       s.proxies.clientAddress, Logger: s.log,
	})
	if err != nil {
		return fmt.Errorf("set up pages: %w", err)
	}
	enginePages := authserver.Pages{Error: pages.ErrorPage}
	if s.config.SignUp {
		enginePages.SignUp = ui.SignUpPath
	}
	outgoing, err := s.config.Outgoing.engine()
	if err != nil {
		return err
	}
	registration, err := s.config.Registration.engine()
	if err != nil {
		return err
	}
	if err := s.warnOfHooks(ctx); err != nil {
		return err
	}
	webhooks, err := s.config.webhooks()
	if err != nil {
		return err
	}
	documents, err := s.config.MetadataDocuments.engine()
	if err != nil {
		return err
	}
	s.engine, err = authserver.New(authserver.Config{
		Issuer: s.config.Issuer,
		Store:  store,
		Secret: secret,
		Users:  pages,
		Pages:  enginePages,
		SignIn: authserver.SignInSettings{
			ACRValues:          []string{ui.ACRPassword},
			BrowserStateCookie: identity.BrowserStateCookie(s.config.Issuer),
		},
		Claims: authserver.ClaimSettings{
			Mappings: s.config.Claims,
			Sources:  s.config.ClaimSources,
		},
		Hooks: authserver.Hooks{
			TokenClaims: s.config.TokenClaims,
			Webhooks:    webhooks,
			GrantTypes:  s.config.GrantTypes,
		},
		TokenExchange:          s.config.TokenExchange,
		TrustedIssuers:         s.config.TrustedIssuers,
		FirstPartyApplications: s.config.FirstPartyApplications,
		Registration:           registration,
		MetadataDocuments:      documents,
		RequireCodeChallenge:   s.config.RequireCodeChallenge,
		Lifetimes:              s.config.Lifetimes.engine(),
		Outgoing:               outgoing,
		RemoteAddr:             s.proxies.clientAddress,
		Logger:                 s.log,
		OnTrace:                s.config.OnTrace,
	})
	if err != nil {
		return fmt.Errorf("set up the engine: %w", err)
	}
	s.pages, s.notFound = pages.Handler(s.engine), pages.NotFound
	return nil
}

// Store is the database of a server.
type Store = sqldb.Store

// OpenStore opens the database of a configuration, for commands that work on it while no
// server of this process does.
func OpenStore(ctx context.Context, c *Configuration, log *slog.Logger) (*Store, error) {
	master, err := masterKeyOf(c)
	if err != nil {
		return nil, err
	}
	store, _, err := openStore(ctx, c, master, log)
	return store, err
}

// RotateKeys has new signing keys take over before their time, by the lifetimes of a
// configuration, and returns them. A server that runs on the store sees them within a
// second.
func RotateKeys(ctx context.Context, store *sqldb.Store, c *Configuration, rotation authserver.KeyRotation) ([]record.Key, error) {
	rotation.Lifetimes = c.Lifetimes.engine()
	return authserver.RotateKeys(ctx, store, time.Now(), rotation)
}

// masterKeyOf is the master key of a configuration whose database is known.
func masterKeyOf(c *Configuration) ([]byte, error) {
	if err := checkDatabase(c.Database); err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return masterKey(c)
}

func openStore(ctx context.Context, c *Configuration, master []byte, log *slog.Logger) (*sqldb.Store, []byte, error) {
	sealing, err := deriveKey(master, "valetkey seal")
	if err != nil {
		return nil, nil, err
	}
	secret, err := deriveKey(master, "valetkey engine")
	if err != nil {
		return nil, nil, err
	}
	store, err := sqldb.Open(ctx, c.Database, sqldb.Config{MasterKey: sealing, Logger: log, InsecureConnection: c.InsecureDatabaseConnection})
	if err != nil {
		return nil, nil, err
	}
	return store, secret, nil
}

// closeParts closes what open has made, whether or not it came to the end.
func (s *Server) closeParts() error {
	if s.engine != nil {
		s.engine.Close()
	}
	if s.accounts != nil {
		s.accounts.Close()
	}
	if s.store == nil {
		return nil
	}
	return s.store.Close()
}

// Close ends the background work and closes the database. Requests must have ended before.
// A second call returns what the first did.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.stop()
		s.working.Wait()
		s.closed = s.closeParts()
	})
	return s.closed
}

// SetupURL returns a one-time link that creates the first user; "" if there are users.
func (s *Server) SetupURL(ctx context.Context) (string, error) {
	token, err := s.accounts.SetupToken(ctx, time.Now())
	if err != nil || token == "" {
		return "", err
	}
	return s.config.Issuer + "/setup?token=" + url.QueryEscape(token), nil
}

// keepHouse does what must be done now and then, until ctx ends.
func (s *Server) keepHouse(ctx context.Context) {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	// RSA keys take long to make: people are served meanwhile.
	s.chore(ctx, "make signing keys", func(ctx context.Context) error { return s.engine.PrepareKeys(ctx) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-minute.C:
			s.chore(ctx, "reclaim the space of what has expired", func(ctx context.Context) error {
				_, err := s.store.Reclaim(ctx, time.Now())
				return err
			})
			s.chore(ctx, "remove retired records", func(ctx context.Context) error { return s.removeRetired(ctx) })
		case <-s.engine.KeysDue():
			s.chore(ctx, "make signing keys", func(ctx context.Context) error { return s.engine.PrepareKeys(ctx) })
		case <-hour.C:
			s.chore(ctx, "rotate signing keys", func(ctx context.Context) error { return s.engine.PrepareKeys(ctx) })
		}
	}
}

// logoutsEvery is how often this node looks for logouts that others have left, and for those
// that are to be tried again.
const logoutsEvery = 5 * time.Second

// deliverLogouts tells clients of the sessions that have ended, until ctx ends.
func (s *Server) deliverLogouts(ctx context.Context) {
	often := time.NewTicker(logoutsEvery)
	defer often.Stop()
	for {
		s.chore(ctx, "tell clients of logouts", func(ctx context.Context) error { return s.engine.DeliverLogouts(ctx) })
		select {
		case <-ctx.Done():
			return
		case <-often.C:
		case <-s.engine.LogoutsDue():
		}
	}
}

// choreTimeout is how long one thing in the background may take.
const choreTimeout = 5 * time.Minute

// chore does one thing in the background. A failure or panic is logged, and the next turn
// comes all the same.
func (s *Server) chore(ctx context.Context, what string, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, choreTimeout)
	defer cancel()
	defer func() {
		if failure := recover(); failure != nil {
			s.log.ErrorContext(ctx, "panic", "in", what, "panic", failure, "stack", string(debug.Stack()))
		}
	}()
	if err := do(ctx); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		s.log.ErrorContext(ctx, what, "error", err)
	}
}
