// Package authservertest starts a real Valetkey server for tests of clients and APIs: with
// endpoints, pages and keys, on a loopback port, and with a database in memory.
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

// Config configures the server. The zero value has no clients and no users.
type Config struct {
	configuration.Declarations
	Lifetimes configuration.Lifetimes
	// Claims are computed or renamed claims, and Hooks are called before a token is issued.
	// GrantTypes and TokenClaims belong to the application under test.
	Claims      []authserver.ClaimMapping
	Hooks       []configuration.Hook
	GrantTypes  []authserver.GrantType
	TokenClaims func(ctx context.Context, r authserver.TokenRequest) (oauth.Claims, error)
	// TokenExchange are the rules for token exchange; without a rule, no exchange is allowed.
	TokenExchange []authserver.TokenExchangeRule
	// TrustedIssuers are external issuers whose JWTs are accepted.
	TrustedIssuers []authserver.TrustedIssuer
	// FirstPartyApplications lets clients with FirstParty send users' passwords.
	FirstPartyApplications bool
	// Registration enables dynamic client registration; it is off by default.
	Registration configuration.Registration
	// MetadataDocuments enables client ID metadata documents; they are off by default.
	// CertificateAuthorities is a PEM file of certificate authorities for fetching them.
	MetadataDocuments      configuration.MetadataDocuments
	CertificateAuthorities string
	// Management says how the management API can be used. Users need a role.
	Management configuration.Management
	// HTTPS uses a certificate that is created for the test, see Server.Certificate. Without it
	// the issuer is an http URL, which some client libraries refuse.
	HTTPS bool
	// Database is the URL of a database; the default is one in memory.
	Database string
	// OnTrace receives the trace of checks of every request.
	OnTrace func(*record.Trace)
}

// Server is a running server.
type Server struct {
	// Issuer is the issuer identifier, a URL on loopback.
	Issuer string
	// Certificate is the certificate that clients must trust; nil without Config.HTTPS.
	Certificate *x509.Certificate
	*valetkey.Server
}

// NewServer starts a server that is closed at the end of the test.
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
			Registration: config.Registration, MetadataDocuments: config.MetadataDocuments, Management: config.Management, Claims: config.Claims, Hooks: config.Hooks,
			TokenExchange: config.TokenExchange, TrustedIssuers: config.TrustedIssuers, FirstPartyApplications: config.FirstPartyApplications,
			// The applications under test are on this machine, and are notified of logouts there.
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

// Callback opens an authorization URL, signs in and consents through the pages' forms, and
// returns the URL with the authorization response.
func (s *Server) Callback(t testing.TB, authorizationURL, redirectURI, username, password string) *url.URL {
	t.Helper()
	callback, err := person.New(username, password).Visit(authorizationURL, redirectURI)
	if err != nil {
		t.Fatalf("sign in as %s: %v", username, err)
	}
	return callback
}

// Tokens runs the complete authorization code flow of a client for a user.
func (s *Server) Tokens(t testing.TB, config client.Config, username, password string) *client.Tokens {
	t.Helper()
	config.Issuer = s.Issuer
	ctx := context.Background()
	c, err := client.Discover(ctx, config)
	if err != nil {
		t.Fatalf("discover: %v", err)
	}
	address, transaction, err := c.AuthorizationURL(ctx, client.AuthorizationOptions{})
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
