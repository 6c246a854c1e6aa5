package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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
	stored  *refreshTokens
}

const (
	clientID     = "load"
	clientSecret = "load-secret-0123456789-0123456789-ab"
	redirectURI  = "http://127.0.0.1:9/callback"
	username     = "ada"
	password     = "engine-no-1"
	apiScope     = "photos:read"
)

const declarationsFile = `
clients:
  - client_id: ` + clientID + `
    client_secret: ` + clientSecret + `
    redirect_uris: ["` + redirectURI + `"]
    grant_types: [authorization_code, refresh_token, client_credentials]
    scope: openid profile offline_access ` + apiScope + `
    id_token_signed_response_alg: ES256
users:
  - {username: ` + username + `, password: ` + password + `, name: Ada Lovelace}
scopes:
  - {name: "` + apiScope + `", description: See your photos}
resources:
  - {identifier: "https://photos.example", scopes: ["` + apiScope + `"]}
`

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func startServer(ctx context.Context, o options, dir string) (*process, error) {
	file := filepath.Join(dir, "valetkey.yaml")
	if err := os.WriteFile(file, []byte(declarationsFile), 0o600); err != nil {
		return nil, err
	}
	// serve waits if a file was changed just now.
	written := time.Now().Add(-time.Minute)
	if err := os.Chtimes(file, written, written); err != nil {
		return nil, err
	}
	stored, err := store(ctx, o, file)
	if err != nil {
		return nil, fmt.Errorf("store %d refresh tokens: %w", o.Stored, err)
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, o.Binary, "serve", "--config", file, "--listen", address, "--issuer", "http://"+address, "--database", o.Database)
	command.Stderr = os.Stderr
	if o.Profile != "" {
		command.Env = append(os.Environ(), "VALETKEY_PROFILE="+o.Profile)
	}
	p, err := start(command, "http://"+address, "/healthz")
	if err == nil {
		p.stored = stored
	}
	return p, err
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

func startFloor(ctx context.Context, self, database, server string) (*process, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, self, "floor", address, database, server)
	command.Stderr = os.Stderr
	return start(command, "http://"+address, discoveryPath)
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
		time.Sleep(time.Millisecond)
	}
	p.stop()
	return nil, fmt.Errorf("%s did not start", command.Path)
}

func (p *process) stop() {
	// It may already have ended.
	_ = p.command.Process.Signal(syscall.SIGTERM)
	_ = p.command.Wait()
}

// cpu returns the CPU time of the process so far, user and system.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime (proc(5))
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	const ticksPerSecond = 100
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// resident returns the resident memory in MiB.
func (p *process) resident() float64 {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kB, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			if err == nil {
				return kB / 1024
			}
		}
	}
	return 0
}

var scopes = oauth.Scope{oauth.ScopeOpenID, oauth.ScopeProfile, oauth.ScopeOfflineAccess, apiScope}
