package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/declare"
	"github.com/valetkey/valetkey/oauth"
)

// process is a server under load.
type process struct {
	url     string
	command *exec.Cmd
	started time.Duration // from exec to the first 200
}

const (
	clientID     = "load"
	clientEdDSA  = "load-eddsa"
	clientJWT    = "load-jwt"
	clientFAPI   = "load-fapi2"
	clientSecret = "load-secret-0123456789-0123456789-ab"
	redirectURI  = "http://127.0.0.1:9/callback"
	// secureRedirectURI is that of clientFAPI.
	secureRedirectURI = "https://app.example/callback"
	username          = "ada"
	password          = "engine-no-1"
	apiScope          = "photos:read"
)

var scopes = oauth.Scope{oauth.ScopeOpenID, oauth.ScopeProfile, oauth.ScopeOfflineAccess, apiScope}

// declarationsFile returns the configuration; jwk is the key of the clients that authenticate with
// JWTs.
func declarationsFile(jwk []byte) string {
	client := func(id, algorithm string) string {
		return `
  - client_id: ` + id + `
    client_secret: ` + clientSecret + `
    redirect_uris: ["` + redirectURI + `"]
    grant_types: [authorization_code, refresh_token, client_credentials]
    scope: openid profile offline_access ` + apiScope + `
    id_token_signed_response_alg: ` + algorithm + `
    access_token_signed_response_alg: ` + algorithm
	}
	return `
trusted_proxies: [127.0.0.1]
sign_up: true
clients:` + client(clientID, es256) + client(clientEdDSA, edDSA) + `
  - client_id: ` + clientJWT + `
    token_endpoint_auth_method: private_key_jwt
    token_endpoint_auth_signing_alg: ES256
    jwks: {keys: [` + string(jwk) + `]}
    grant_types: [client_credentials]
    scope: ` + apiScope + `
    access_token_signed_response_alg: ES256
  - client_id: ` + clientFAPI + `
    profile: fapi2
    token_endpoint_auth_method: private_key_jwt
    token_endpoint_auth_signing_alg: ES256
    jwks: {keys: [` + string(jwk) + `]}
    redirect_uris: ["` + secureRedirectURI + `"]
    grant_types: [authorization_code, refresh_token]
    scope: openid profile offline_access ` + apiScope + `
    dpop_bound_access_tokens: true
    require_pushed_authorization_requests: true
    id_token_signed_response_alg: ES256
    access_token_signed_response_alg: ES256
users:
  - {username: ` + username + `, password: ` + password + `, name: Ada Lovelace}
scopes:
  - {name: "` + apiScope + `", description: See your photos}
resources:
  - {identifier: "https://photos.example", scopes: ["` + apiScope + `"]}
`
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// server is a server with a filled database.
type server struct {
	*target
	o      options
	config string
}

// startServer fills the database and starts the nodes.
func startServer(ctx context.Context, o options, dir, provider string, client keys) (*server, error) {
	jwk, err := client.publicJWK()
	if err != nil {
		return nil, err
	}
	document, err := json.Marshal(jwk)
	if err != nil {
		return nil, err
	}
	s := &server{&target{}, o, filepath.Join(dir, "valetkey.yaml")}
	secretFile := filepath.Join(dir, "provider.secret")
	if err := os.WriteFile(secretFile, []byte(clientSecret), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.config, []byte(declarationsFile(document)+providerSection(provider, secretFile)+o.settings), 0o600); err != nil {
		return nil, err
	}
	// serve waits if a file was changed just now.
	written := time.Now().Add(-time.Minute)
	if err := os.Chtimes(s.config, written, written); err != nil {
		return nil, err
	}
	if s.stored, err = store(ctx, o, s.config); err != nil {
		return nil, fmt.Errorf("store %d refresh tokens: %w", o.Stored, err)
	}
	for range o.Nodes {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		if s.url == "" {
			s.url = "http://" + strings.Replace(address, "127.0.0.1", "localhost", 1) // passkeys need a domain
		}
		node, err := s.start(ctx, address, o.Profile)
		if err != nil {
			s.stop()
			return nil, err
		}
		s.nodes = append(s.nodes, node)
	}
	return s, nil
}

func (s *server) start(ctx context.Context, address, profile string) (*process, error) {
	command := exec.CommandContext(ctx, s.o.Binary, "serve", "--config", s.config, "--listen", address, "--issuer", s.url, "--database", s.o.Database)
	command.Stderr = warnings{os.Stderr}
	command.Env = os.Environ()
	if profile != "" {
		command.Env = append(command.Env, "VALETKEY_PROFILE="+profile)
	}
	return start(command, "http://"+address, "/healthz")
}

// warnings writes log records except those of level INFO and of sign-ins.
type warnings struct{ io.Writer }

func (w warnings) Write(text []byte) (int, error) {
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte("level=INFO")) || bytes.Contains(line, []byte("event=sign_in.")) {
			continue
		}
		if _, err := w.Writer.Write(line); err != nil {
			return 0, err
		}
	}
	return len(text), nil
}

// restarts is how often a start is measured.
const restarts = 7

// startTime stops the nodes and returns how long a start takes with the database of the load: the
// median of several starts, from exec to the first 200.
func (s *server) startTime(ctx context.Context) (time.Duration, error) {
	s.stop()
	var took []time.Duration
	for range restarts {
		address, err := freeAddress()
		if err != nil {
			return 0, err
		}
		node, err := s.start(ctx, address, "")
		if err != nil {
			return 0, err
		}
		node.stop()
		took = append(took, node.started)
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// store fills the database with the declared records and with refresh tokens of the user.
func store(ctx context.Context, o options, file string) (*refreshTokens, error) {
	c := configuration.Configuration{Database: o.Database}
	s, err := database.Open(ctx, &c, nil)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	declarations, err := configuration.ReadDeclarations(file)
	if err != nil {
		return nil, err
	}
	if _, err := declare.Apply(ctx, s.Store, &declarations.Declarations, declare.Options{Source: "file:valetkey.yaml"}); err != nil {
		return nil, err
	}
	if err := storeAccounts(ctx, s.Store); err != nil {
		return nil, err
	}
	user, err := s.Store.UserByIdentifier(ctx, username)
	if err != nil {
		return nil, err
	}
	stored, err := newRefreshTokens(o.Stored, user.ID)
	if err != nil {
		return nil, err
	}
	return stored, stored.fill(ctx, s.Store, o.Database)
}

// startFloor starts as many processes as the server has nodes: with more nodes, fewer callers share a
// commit.
func startFloor(ctx context.Context, self, database, server string, nodes int, client keys) (*target, error) {
	public, err := client.marshalPublic()
	if err != nil {
		return nil, err
	}
	floor := &target{}
	for range nodes {
		address, err := freeAddress()
		if err != nil {
			floor.stop()
			return nil, err
		}
		command := exec.CommandContext(ctx, self, "floor", address, database, server, public)
		command.Stderr = os.Stderr
		node, err := start(command, "http://"+address, discoveryPath)
		if err != nil {
			floor.stop()
			return nil, err
		}
		floor.nodes = append(floor.nodes, node)
	}
	floor.url = floor.nodes[0].url
	return floor, nil
}

func start(command *exec.Cmd, url, health string) (*process, error) {
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	began := time.Now()
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &process{url: url, command: command}
	for time.Since(began) < 30*time.Second {
		response, err := http.Get(url + health)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				p.started = time.Since(began)
				return p, nil
			}
		}
		time.Sleep(time.Millisecond / 2)
	}
	p.stop()
	return nil, fmt.Errorf("%s did not start", command.Path)
}

func (p *process) stop() {
	// It may already have ended.
	_ = p.command.Process.Signal(syscall.SIGTERM)
	_ = p.command.Wait()
}

// memory is in MiB.
type memory struct {
	Resident float64 `json:"resident_mib"`
	// Own is what only this process uses. The rest is the program file, which processes share and
	// the kernel can drop.
	Own float64 `json:"own_mib"`
}

func (p *process) memory() (m memory) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		return m
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name != "VmRSS" && name != "RssAnon" {
			continue
		}
		kB, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
		if err != nil {
			continue
		}
		if name == "VmRSS" {
			m.Resident = kB / 1024
		} else {
			m.Own = kB / 1024
		}
	}
	return m
}
