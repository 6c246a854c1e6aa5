// Package valetkey is an OAuth 2.0 authorization server and OpenID Provider as one
// http.Handler. New returns a Server to mount in your own program. Its Config embeds a
// configuration.Configuration: the content of a configuration file.
//
//	valetkey.go    Config, New, Close
//	wiring.go      the parts of a Server: database, accounts, pages, engine
//	check.go       what can be checked before a start
//	declare.go     clients, users, scopes and resources that the configuration declares
//	handler.go     requests
//	deadline.go    how long a request may take
//	readiness.go   /healthz and /readyz
//	healthchecks.go  the checks of "valetkey doctor", for the management API
//	probe.go       what "valetkey doctor" asks a running server
//	serve.go       Serve: listening, TLS certificates, shutting down
//	mutualtls.go   the listener and the host for clients with certificates
//	telemetry.go   metrics, traces and the access log
//	management.go  the listener of the management API
//	auditevents.go  events in the audit log that change nothing
//	audit.go       what happens to audit records after they were written
//	background.go  what happens between requests
package valetkey

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/console"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/directory"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/internal/clientaddress"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/internal/probe"
	"github.com/valetkey/valetkey/internal/telemetry"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/manage"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// Version is the version of this program; a release sets it at build time.
var Version = "0.1.0-dev"

// Config configures a Server. The zero value of every optional field is the secure default.
type Config struct {
	// Configuration is the content of a configuration file; Issuer is required. New applies its
	// declarations. Listen is for the caller, and TLS is for Serve.
	configuration.Configuration
	// File is the path of the configuration file, for messages about what it declares; "" if there is
	// none.
	File string
	// FormerSource is the name that an earlier release gave to the Source; "" if none.
	FormerSource string
	// Logger receives everything that is logged; nil means slog.Default().
	Logger *slog.Logger
	// OnTrace, if set, receives the trace of checks of every protocol request.
	OnTrace func(*record.Trace)
	// OnMail, if set, receives every message to a user instead of a mail server or the log.
	OnMail func(*mail.Letter)
	// TokenClaims, if set, adds claims to tokens and UserInfo, or refuses to issue them.
	TokenClaims func(ctx context.Context, r authserver.TokenRequest) (oauth.Claims, error)
	// ExternalKeys are signing keys in an HSM or a key management service.
	ExternalKeys []authserver.ExternalKey
	// GrantTypes are additional grant types, for clients that are registered for them.
	GrantTypes []authserver.GrantType
}

// Server is a complete authorization server: an http.Handler for the issuer's URL and
// everything below it. It is safe for concurrent use.
type Server struct {
	config Config
	log    *slog.Logger
	events *event.Log
	// telemetry is nil if nothing is measured. The parts find it by the logger.
	telemetry *telemetry.Telemetry
	store     *database.Database
	accounts  *identity.Accounts
	mail      *mail.Outbox // nil if no messages can be sent
	// toOperator sends requests to a service of the operator; nil if there is none.
	toOperator  *outgoing.Client
	upstream    *upstream.Providers
	directories *directory.Directories
	engine      *authserver.Server
	management  *manage.API
	console     *console.Console
	pages       http.Handler
	pageRoute   func(path string) string
	notFound    http.HandlerFunc
	host        string // of the issuer
	secure      bool   // the issuer is https
	proxies     clientaddress.Proxies
	probeKeys   atomic.Pointer[[]probe.Key]
	draining    atomic.Bool
	// warnedOfProxy is when warnOfProxy last logged, in nanoseconds; zero: never.
	warnedOfProxy atomic.Int64
	declared      declared
	auditing      auditing
	auditEvents   *auditEvents
	checkpoints   chan *audit.Checkpoint // for syslog
	readiness     readiness
	health        healthChecks
	started       time.Time
	stop          context.CancelFunc
	working       sync.WaitGroup // in the background
	closing       sync.Once
	closed        error
}

// New returns a server that is ready for requests. It opens the database and migrates it,
// applies the declarations, and creates signing keys if there are none. Close releases
// everything.
func New(config Config) (*Server, error) {
	s, err := newServer(config)
	if err != nil {
		return nil, err
	}
	background, stop := context.WithCancel(asSystem(context.Background()))
	s.stop = stop
	s.health.run, s.health.start, s.health.ctx = s.diagnose, s.working.Go, background
	ctx, cancel := context.WithTimeout(asSystem(context.Background()), 2*time.Minute)
	defer cancel()
	err = s.wire(ctx)
	if err == nil {
		err = s.engine.RotateKeys(ctx)
	}
	if err != nil {
		stop()
		return nil, errors.Join(err, s.closeParts())
	}
	s.working.Go(func() { s.maintain(background) })
	s.working.Go(func() { s.deliverLogouts(background) })
	s.working.Go(func() { s.deliverMail(background) })
	for _, d := range s.directories.Active() {
		s.working.Go(func() { s.checkDirectory(background, d) })
	}
	s.working.Go(func() { s.keepAudit(background) })
	s.exportAudit(background)
	if s.telemetry.Sends() {
		s.working.Go(func() { s.telemetry.Run(background, s.log) })
	}
	return s, nil
}

// newServer returns a server that has opened nothing yet.
func newServer(config Config) (*Server, error) {
	if err := config.ReadSecretFiles(); err != nil {
		return nil, err
	}
	if config.Database == "" {
		config.Database = configuration.DefaultDatabase
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	measured, err := newTelemetry(&config.Configuration)
	if err != nil {
		return nil, err
	}
	events := newAuditEvents()
	if config.Audit.Record != configuration.AuditOff {
		config.Logger = slog.New(&auditHandler{config.Logger.Handler(), events})
	}
	config.Logger = measured.Logger(config.Logger)
	if config.Issuer == "" {
		return nil, errors.New("the issuer is missing: set it to the URL under which users and clients reach the server")
	}
	if err := oauth.CheckIssuer(config.Issuer); err != nil {
		return nil, err
	}
	if err := config.checkMail(); err != nil {
		return nil, err
	}
	issuer, err := url.Parse(config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	proxies, err := clientaddress.New(config.TrustedProxies, config.ProxyHeader)
	if err != nil {
		return nil, fmt.Errorf("trusted proxies: %w", err)
	}
	if config.InsecureDatabaseConnection {
		config.Logger.Warn("insecure_database_connection: anyone on the network between this server and the database can read and change everything")
	}
	if config.Mail != nil && config.Mail.SMTP != nil && config.Mail.SMTP.InsecureWithoutTLS {
		config.Logger.Warn("mail.smtp.insecure_without_tls: anyone on the network between this server and the mail server can read the messages and take over accounts")
	}
	return &Server{
		config:  config,
		started: time.Now(),
		log:     config.Logger,
		events:  event.New(config.Logger),
		host:    issuer.Host,
		secure:  issuer.Scheme == "https",
		proxies: proxies,

		telemetry:   measured,
		checkpoints: make(chan *audit.Checkpoint, 1),
		auditEvents: events,
	}, nil
}

// closeParts closes the parts that wire has made, also after a failure.
func (s *Server) closeParts() error {
	if s.engine != nil {
		s.engine.Close()
	}
	if s.accounts != nil {
		s.accounts.Close()
	}
	if s.toOperator != nil {
		s.toOperator.CloseIdleConnections()
	}
	if s.auditing.syslog != nil {
		s.auditing.syslog.Close()
	}
	s.upstream.Close()
	s.directories.Close()
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
