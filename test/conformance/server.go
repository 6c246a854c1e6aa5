package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// configurationFile is the server's configuration, with variables for what differs per run.
//
//go:embed valetkey.yaml
var configurationFile string

// server is a running "valetkey serve".
type server struct {
	issuer  string
	program string
	config  string
	process *exec.Cmd
	log     *os.File
	api     *api
}

// startServer builds the program and starts it with the clients of the plans.
func startServer(ctx context.Context, directory, database string, s *suite, all []plan) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	server := &server{
		issuer: fmt.Sprintf("https://localhost:%d", port), program: filepath.Join(directory, "valetkey"), config: filepath.Join(directory, "valetkey.yaml"),
	}
	if server.api, err = listenAPI(); err != nil {
		return nil, fmt.Errorf("start the API: %w", err)
	}
	if err := server.api.start(server.issuer); err != nil {
		return nil, fmt.Errorf("start the API: %w", err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", server.program, "github.com/valetkey/valetkey/cmd/valetkey")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the server: %w\n%s", err, output)
	}
	if err := server.configure(ctx, directory, database, s, all); err != nil {
		return nil, err
	}
	if server.log, err = os.Create(filepath.Join(directory, "server.log")); err != nil {
		return nil, err
	}
	server.process = exec.CommandContext(ctx, server.program, "serve", "--config", server.config, "--listen", fmt.Sprintf("127.0.0.1:%d", port))
	server.process.Cancel = func() error { return server.process.Process.Signal(os.Interrupt) }
	server.process.Stdout, server.process.Stderr = server.log, server.log
	if err := server.process.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	return server, server.wait(ctx)
}

// freePort returns a port that nothing listens on.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

func (s *server) configure(ctx context.Context, directory, database string, suite *suite, all []plan) error {
	authorities, err := suite.certificates(ctx)
	if err != nil {
		return err
	}
	certificate, key, err := newCertificate()
	if err != nil {
		return err
	}
	keys, clientAuthority, err := newClientKeys()
	if err != nil {
		return err
	}
	mutualTLSPort, err := freePort()
	if err != nil {
		return err
	}
	var clients []map[string]any
	for i := range all {
		if all[i].fapi() {
			all[i].keys = keys
		}
		clients = append(clients, all[i].staticClients(suite.url)...)
	}
	clients = append(clients, map[string]any{"client_id": apiClientID, "client_secret": apiClientSecret, "grant_types": []string{"client_credentials"}})
	declared, err := json.Marshal(clients)
	if err != nil {
		return err
	}
	if database == "" {
		database = "sqlite:" + filepath.Join(directory, "valetkey.db")
	}
	text := os.Expand(serverConfiguration(all), func(name string) string {
		return map[string]string{
			"DIRECTORY": directory, "ISSUER": s.issuer, "DATABASE": database, "CLIENTS": string(declared),
			"MUTUAL_TLS_PORT": strconv.Itoa(mutualTLSPort), "API": s.api.url, "API_CLIENT": apiClientID,
		}[name]
	})
	for name, content := range map[string][]byte{
		"authorities.pem": authorities, "client-authority.pem": clientAuthority, "certificate.pem": certificate, "key.pem": key, "valetkey.yaml": []byte(text),
	} {
		if err := os.WriteFile(filepath.Join(directory, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) wait(ctx context.Context) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	var before string
	for range 30 {
		// At its first start a server creates keys while it is serving. A module that
		// watches the keys must not start before all of them exist.
		if response, err := client.Get(s.issuer + "/jwks"); err == nil {
			keys, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if strings.Contains(string(keys), `"RS256"`) && string(keys) == before {
				return nil
			}
			before = string(keys)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(3 * time.Second):
		}
	}
	return fmt.Errorf("the server does not respond: see %s", s.log.Name())
}

// commit returns the commit that the server is built from, with the suffix "-dirty" if files
// have changed, or "" outside of a repository.
func commit(ctx context.Context) string {
	output, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude", "*").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(output))
}

// rotateKeys rotates the keys, as an operator does between two steps of the module.
func (s *server) rotateKeys(ctx context.Context) error {
	output, err := exec.CommandContext(ctx, s.program, "keys", "rotate", "--now", "--algorithm", "RS256", "--config", s.config).CombinedOutput()
	if err != nil {
		return fmt.Errorf("rotate keys: %w\n%s", err, output)
	}
	return nil
}

// apiURL returns the URL of the API that FAPI plans call.
func (s *server) apiURL() string {
	if s.api == nil {
		return ""
	}
	return s.api.url
}

func (s *server) stop() {
	if s.api != nil {
		s.api.stop()
	}
	if s.process != nil && s.process.Process != nil {
		_ = s.process.Process.Signal(os.Interrupt)
		_ = s.process.Wait()
	}
}

// newCertificate returns a certificate for localhost. The suite does not verify it. Its key is an RSA
// key, because FAPI 1.0 Advanced, section 8.5 allows no cipher suite with ECDSA.
func newCertificate() (certificate, key []byte, err error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}
