// Package authservertest starts a whole Valetkey server in somebody's tests: real
// endpoints, pages and keys on a loopback port, with a database in memory.
package authservertest

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

// Config says what the server knows.
type Config struct {
	configuration.Declarations
	Lifetimes configuration.Lifetimes
	// Claims are computed or renamed, Hooks asked before tokens are made; GrantTypes and
	// TokenClaims are the application's own.
	Claims      []authserver.ClaimMapping
	Hooks       []configuration.Hook
	GrantTypes  []authserver.GrantType
	TokenClaims func(ctx context.Context, r authserver.TokenRequest) (oauth.Claims, error)
	// TokenExchange says who may exchange which tokens; without a rule nobody may.
	TokenExchange []authserver.TokenExchangeRule
	// TrustedIssuers are others whose JWTs count; without one nobody's do.
	TrustedIssuers []authserver.TrustedIssuer
	// FirstPartyApplications lets clients with FirstParty send passwords.
	FirstPartyApplications bool
	// Registration lets clients register themselves; the zero value: no.
	Registration configuration.Registration
	// MetadataDocuments lets clients be known by their metadata documents; the zero value: no.
	// CertificateAuthorities is a PEM file of those to trust in fetching the documents.
	MetadataDocuments      configuration.MetadataDocuments
	CertificateAuthorities string
	// HTTPS serves with a certificate made for the test, which Server.Certificate returns.
	// Without it the issuer is an http URL, which some client libraries refuse.
	HTTPS bool
	// Database is another database than one in memory, by its URL.
	Database string
	// OnTrace receives the ladder of checks of every request.
	OnTrace func(*record.Trace)
}

// Server is a running server.
type Server struct {
	// Issuer is its issuer identifier, a URL on loopback.
	Issuer string
	// Certificate is what clients have to trust; nil without Config.HTTPS.
	Certificate *x509.Certificate
	*valetkey.Server
}

// NewServer starts a server that ends with the test.
func NewServer(t testing.TB, config Config) *Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	issuer := "http://" + listener.Addr().String()
	if config.HTTPS {
		issuer = "https://" + listener.Addr().String()
	}
	if config.Database == "" {
		config.Database = "sqlite::memory:"
	}
	server, err := valetkey.New(valetkey.Config{
		Configuration: configuration.Configuration{
			Issuer: issuer, Database: config.Database, Declarations: config.Declarations, Lifetimes: config.Lifetimes,
			Registration: config.Registration, MetadataDocuments: config.MetadataDocuments, Claims: config.Claims, Hooks: config.Hooks,
			TokenExchange: config.TokenExchange, TrustedIssuers: config.TrustedIssuers, FirstPartyApplications: config.FirstPartyApplications,
			// The applications under test are on this machine, and told of logouts there.
			Outgoing: configuration.Outgoing{
				Networks: loopback(), InsecureOutsiderNetworks: loopback(), CertificateAuthorities: config.CertificateAuthorities,
			},
		},
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})), OnTrace: config.OnTrace,
		GrantTypes: config.GrantTypes, TokenClaims: config.TokenClaims,
	})
	if err != nil {
		listener.Close()
		t.Fatalf("start the authorization server: %v", err)
	}
	httpServer := &httptest.Server{Listener: listener, Config: &http.Server{Handler: server}}
	if config.HTTPS {
		httpServer.StartTLS()
	} else {
		httpServer.Start()
	}
	t.Cleanup(func() {
		httpServer.Close()
		if err := server.Close(); err != nil {
			t.Errorf("close the authorization server: %v", err)
		}
	})
	return &Server{Issuer: issuer, Certificate: httpServer.Certificate(), Server: server}
}

// Callback opens an authorization URL as a person would, signs in and consents by the
// pages' own forms, and returns the URL at which the application receives the answer.
func (s *Server) Callback(t testing.TB, authorizationURL, redirectURI, username, password string) *url.URL {
	t.Helper()
	callback, err := person.New(username, password).Visit(authorizationURL, redirectURI)
	if err != nil {
		t.Fatalf("sign in as %s: %v", username, err)
	}
	return callback
}

// Tokens walks the whole authorization code flow of a client for a person.
func (s *Server) Tokens(t testing.TB, config client.Config, username, password string) *client.Tokens {
	t.Helper()
	config.Issuer = s.Issuer
	ctx := context.Background()
	c, err := client.Discover(ctx, config)
	if err != nil {
		t.Fatalf("discover: %v", err)
	}
	address, transaction, err := c.AuthorizationURL(client.AuthorizationOptions{})
	if err != nil {
		t.Fatalf("begin authorization: %v", err)
	}
	callback := s.Callback(t, address, config.RedirectURI, username, password)
	tokens, err := c.Callback(ctx, transaction, callback.Query())
	if err != nil {
		t.Fatalf("redeem the code: %v", err)
	}
	return tokens
}

func loopback() []string { return []string{"127.0.0.0/8", "::1/128"} }
