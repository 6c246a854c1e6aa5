// Package demo runs OAuth on loopback ports: an authorization server, an application of each
// client type and an API. Under each result it shows the messages that led to it. Nothing is
// simulated: every message is sent over HTTP, and every refusal is real.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/valetkey/valetkey"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/softauthenticator"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

// The user who signs in to the demo.
const (
	Username = "ada"
	Password = "engine-no-1"
)

// Lifetimes of access tokens. They are short, so that visitors can see a token expire, and even
// shorter for Check, which waits for three of them.
const (
	accessTokenLifetime = 15 * time.Second
	checkTokenLifetime  = 2 * time.Second
)

const (
	scopeRead   = "photos:read"
	scopeDelete = "photos:delete"
)

// Demo is a running demo. It is safe for concurrent use.
type Demo struct {
	issuer, app, api string // URLs
	company          string // the issuer of the scene with another provider
	provider         *valetkey.Server
	server           *valetkey.Server
	servers          []*http.Server
	traces           traces
	visitors         visitors
	clients          map[string]*client.Client // by scene
	parties          map[string]string         // names of the scenes' own servers, by host
	logger           *slog.Logger
	policy           policyService
	abroad           abroad
	saml             samlProvider
	backend          backend
	mcp              agents
	inbox            inbox
	apps             apps
	passkeys         devices
	temporary        []string // files to remove
}

// Start starts all servers on free loopback ports. Access tokens expire after lifetime, or after
// 15 seconds if it is 0. The servers' errors are written to log.
func Start(ctx context.Context, log io.Writer, lifetime time.Duration) (*Demo, error) {
	lifetime = cmp.Or(lifetime, accessTokenLifetime)
	d := &Demo{
		visitors: visitors{byID: map[string]*visitor{}}, parties: map[string]string{}, clients: map[string]*client.Client{},
		apps: apps{keys: map[string]string{}}, passkeys: devices{byUser: map[string]*softauthenticator.Authenticator{}},
		logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	var listeners [3]net.Listener
	for i := range listeners {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("start the demo: %w", err)
		}
		listeners[i] = listener
	}
	// Passkeys need a domain.
	d.issuer = fmt.Sprintf("http://localhost:%d", listeners[0].Addr().(*net.TCPAddr).Port)
	d.app = "http://" + listeners[1].Addr().String()
	d.api = "http://" + listeners[2].Addr().String()
	config := configuration.Configuration{
		Issuer: d.issuer, Database: "sqlite::memory:", ServiceName: "Valetkey demo", Declarations: d.declarations(),
		Lifetimes: configuration.Lifetimes{AccessToken: record.Duration(lifetime)},
	}
	for _, scene := range scenes() {
		if scene.configure == nil {
			continue
		}
		if err := scene.configure(d, &config); err != nil {
			return nil, errors.Join(fmt.Errorf("prepare the scene %s: %w", scene.key, err), d.Close())
		}
	}
	var err error
	if d.server, err = valetkey.New(valetkey.Config{Configuration: config, Logger: d.logger, OnTrace: d.traces.add, OnMail: d.inbox.add}); err != nil {
		return nil, errors.Join(fmt.Errorf("start the demo's authorization server: %w", err), d.Close())
	}
	api, err := d.apiHandler(d.logger)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	for i, handler := range []http.Handler{d.server, d.appHandler(), api} {
		d.serveOn(listeners[i], handler)
	}
	for _, scene := range scenes() {
		if scene.clientID == "" {
			continue
		}
		config := client.Config{
			Issuer: d.issuer, ClientID: scene.clientID, ClientSecret: scene.clientSecret, Scopes: scene.scopes,
			HTTPClient: &http.Client{Transport: d.recorder()}, ResponseType: scene.responseType,
		}
		if scene.callback != "" {
			config.RedirectURI = d.app + scene.callback
		}
		if scene.adjust != nil {
			scene.adjust(d, &config)
		}
		if d.clients[scene.key], err = client.Discover(ctx, config); err != nil {
			return nil, errors.Join(fmt.Errorf("start the demo's application %s: %w", scene.clientID, err), d.Close())
		}
	}
	return d, nil
}

// URL returns the URL of the demo's page.
func (d *Demo) URL() string { return d.app + "/" }

// serve starts a scene's own server on a free loopback port and returns its URL. The messages
// show its name.
func (d *Demo) serve(name string, handler http.Handler) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	d.serveOn(listener, handler)
	d.parties[listener.Addr().String()] = name
	return "http://" + listener.Addr().String(), nil
}

// addressOf returns the URL of a party's server.
func (d *Demo) addressOf(party string) string {
	for address, name := range d.parties {
		if name == party {
			return "http://" + address
		}
	}
	return ""
}

func (d *Demo) serveOn(listener net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(d.logger.Handler(), slog.LevelDebug)}
	d.servers = append(d.servers, server)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			d.logger.Error("demo server stopped", "error", err)
		}
	}()
}

// Close stops all servers.
func (d *Demo) Close() error {
	var err error
	for _, server := range d.servers {
		err = errors.Join(err, server.Close())
	}
	for _, server := range []*valetkey.Server{d.server, d.provider} {
		if server != nil {
			err = errors.Join(err, server.Close())
		}
	}
	for _, file := range d.temporary {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

// declarations returns what an operator would declare in YAML.
func (d *Demo) declarations() configuration.Declarations {
	verified := true
	declared := configuration.Declarations{
		Users: []configuration.User{{
			Username: Username, Password: Password, Name: "Ada Lovelace", GivenName: "Ada",
			Email: "ada@example.com", EmailVerified: &verified,
		}},
		Scopes: []record.Scope{
			{Name: scopeRead, Description: "See your photos"},
			{Name: scopeDelete, Description: "Delete your photos"},
		},
		Resources: []record.Resource{{
			Identifier: d.api, Name: "Photo API", Scopes: []string{scopeRead, scopeDelete},
		}},
	}
	for _, scene := range scenes() {
		if scene.clientID == "" {
			continue
		}
		c := configuration.Client{ID: scene.clientID, Secret: scene.clientSecret, ClientMetadata: oauth.ClientMetadata{
			ClientName: scene.clientName, GrantTypes: scene.grantTypes, ApplicationType: scene.applicationType,
			Scope: oauth.Scope(scene.scopes).String(),
		}}
		if scene.responseType != "" {
			c.ResponseTypes = []string{scene.responseType}
		}
		switch {
		case scene.callback == "":
		case scene.applicationType == oauth.ApplicationNative:
			// Without a port: a native application listens on any free one (RFC 8252, section
			// 7.3).
			c.RedirectURIs = []string{"http://127.0.0.1" + scene.callback}
		default:
			c.RedirectURIs = []string{d.app + scene.callback}
			c.PostLogoutRedirectURIs = []string{d.app + "/"}
		}
		declared.Clients = append(declared.Clients, c)
	}
	return declared
}
