// Package management tests the management API with a program that reads its OpenAPI document and
// knows nothing else about it.
package management

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/manage"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

const secret = "0123456789abcdef0123456789abcdef"

// TestSchemathesis sends requests with a token of each role that the document allows, and some that it
// does not. No response may be a 5xx or differ from the document. Which role may use which operation is
// tested in package manage.
func TestSchemathesis(t *testing.T) {
	program := installSchemathesis(t)
	for _, role := range api.Roles() {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			issuer, token := serve(t, role)
			effort := []string{"--phases", "fuzzing", "--mode", "positive", "--max-examples", "1"}
			if role == api.RoleAdministrator { // the others are refused most requests
				effort = []string{"--phases", "coverage,fuzzing", "--max-examples", "2"}
			}
			run(t, program, issuer, token, append(effort, "--exclude-operation-id", "rotate-keys")...)
			if role == api.RoleAdministrator { // this can end the token, so it comes last
				run(t, program, issuer, token, append(effort, "--include-operation-id", "rotate-keys")...)
			}
		})
	}
}

func run(t *testing.T, program, issuer, token string, selection ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	arguments := append([]string{"run", manage.Identifier(issuer) + "/openapi.json", "--header", "Authorization: Bearer " + token,
		"--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method,allow_header_conformance,use_after_free",
		"--seed", "1", "--generation-deterministic",
		"--suppress-health-check", "all", "--warnings", "off", "--no-color", "--continue-on-failure"}, selection...)
	command := exec.CommandContext(ctx, program, arguments...)
	command.Dir = t.TempDir()
	output, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("schemathesis: %v\n%s", err, output)
	}
	if !strings.Contains(string(output), " passed") && !strings.Contains(string(output), "generated") {
		t.Errorf("schemathesis has tested nothing:\n%s", output)
	}
}

// serve starts a server and returns its issuer and an access token of a service account with a role.
func serve(t *testing.T, role api.Role) (issuer, token string) {
	t.Helper()
	var s *valetkey.Server
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.ServeHTTP(w, r) }))
	t.Cleanup(listener.Close)
	issuer = listener.URL
	var scope oauth.Scope
	for _, p := range api.Permissions() {
		scope = append(scope, string(p))
	}
	config := valetkey.Config{
		Configuration: configuration.Configuration{Issuer: issuer, Database: "sqlite:" + filepath.Join(t.TempDir(), "test.db"), Source: "test"},
		Logger:        slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	config.Users = []configuration.User{{Username: "ada", Subject: "ada", Administrator: true}}
	config.Clients = []configuration.Client{{ID: "account", Secret: secret,
		ClientMetadata: oauth.ClientMetadata{GrantTypes: []string{oauth.GrantTypeClientCredentials}, Scope: scope.String()},
		ClientSettings: record.ClientSettings{Role: string(role), Resources: []string{manage.Identifier(issuer)}}}}
	var err error
	if s, err = valetkey.New(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	form := url.Values{"grant_type": {oauth.GrantTypeClientCredentials}, "resource": {manage.Identifier(issuer)}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("account", secret)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil || body.AccessToken == "" {
		t.Fatalf("no access token: %s, %v", response.Status, err)
	}
	return issuer, body.AccessToken
}

// installSchemathesis returns the program. It is installed once for each version of requirements.txt.
func installSchemathesis(t *testing.T) string {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	pins, err := os.ReadFile("requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	sum := sha256.Sum256(pins)
	dir := filepath.Join(cache, "valetkey-management", hex.EncodeToString(sum[:8]))
	program := filepath.Join(dir, "bin", "schemathesis")
	installed := filepath.Join(dir, "installed")
	if _, err := os.Stat(installed); err == nil {
		return program
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	requirements, err := filepath.Abs("requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []*exec.Cmd{
		exec.CommandContext(ctx, python, "-m", "venv", "--clear", dir),
		exec.CommandContext(ctx, filepath.Join(dir, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "-r", requirements),
	} {
		if output, err := command.CombinedOutput(); err != nil {
			problem := fmt.Sprintf("schemathesis cannot be installed: %v\n%s", err, output)
			if os.Getenv("CI") != "" {
				t.Fatal(problem)
			}
			t.Skip(problem)
		}
	}
	if err := os.WriteFile(installed, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return program
}
