package interop

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/storage/record"
)

// Nothing listens on the port of mcpCallback: the browser stops before the request.
const mcpCallback = "http://localhost:53682/callback"

// mcpWorld is an MCP server (examples/mcp), its authorization server, and a site on which
// a client publishes its metadata.
type mcpWorld struct {
	server   string // URL of the MCP server
	document string // the client's metadata document, and its client_id
	alice    *person.Person
	visits   []string // scope of each authorization request
}

func newMCPWorld(t *testing.T) *mcpWorld {
	t.Helper()
	w := &mcpWorld{alice: person.New("alice", "correct horse battery")}
	site := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"client_id": %q, "client_name": "Example MCP Client", "redirect_uris": ["http://localhost/callback", "http://127.0.0.1/callback"],
			"grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "token_endpoint_auth_method": "none"}`, w.document)
	}))
	t.Cleanup(site.Close)
	w.document = site.URL + "/oauth/client.json"
	authorities := filepath.Join(t.TempDir(), "authorities.pem")
	if err := os.WriteFile(authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	listen := freeAddress(t)
	w.server = "http://" + listen + "/mcp"
	server := authservertest.NewServer(t, authservertest.Config{
		Declarations: configuration.Declarations{
			Users:     []configuration.User{{Username: "alice", Password: "correct horse battery"}},
			Scopes:    []record.Scope{{Name: "notes.read"}, {Name: "notes.write"}},
			Resources: []record.Resource{{Identifier: w.server, Scopes: []string{"notes.read", "notes.write"}}},
		},
		// The access token expires so soon that clients refresh before each request.
		Lifetimes:              configuration.Lifetimes{AccessToken: record.Duration(5 * time.Second)},
		Registration:           configuration.Registration{Mode: "open", AnyAllowedScope: true, Scope: "offline_access notes.read notes.write"},
		MetadataDocuments:      configuration.MetadataDocuments{AllowedHosts: []string{site.Listener.Addr().String()}, Scope: "offline_access notes.read notes.write"},
		CertificateAuthorities: authorities,
	})
	startProgram(t, "../../examples/mcp", t.TempDir(), listen, "-listen", listen, "-issuer", server.Issuer)
	return w
}

// visit follows an authorization request as the user, and returns the callback URL.
func (w *mcpWorld) visit(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	scopes := strings.Fields(u.Query().Get("scope"))
	slices.Sort(scopes)
	w.visits = append(w.visits, strings.Join(scopes, " "))
	return w.alice.Visit(address, mcpCallback)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// startProgram builds a program, runs it in a directory until the test ends, and waits
// until it listens.
func startProgram(t *testing.T, source, dir, address string, args ...string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "program")
	if err := run(exec.CommandContext(t.Context(), "go", "build", "-o", binary, source)); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), binary, args...)
	command.Dir = dir
	startCommand(t, address, command)
}

// startCommand runs a command that has the test's context until the test ends, and waits
// until it listens.
func startCommand(t *testing.T, address string, command *exec.Cmd) {
	t.Helper()
	command.Stdout, command.Stderr = t.Output(), t.Output()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() { <-ended }) // its context has been canceled by then
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		select {
		case <-tick.C:
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v", command, err)
		case <-deadline:
			t.Fatalf("%s does not listen on %s", command, address)
		}
	}
}

// mcpReport is what a client reports: the notes before and after one was added, which required
// another scope.
type mcpReport struct {
	Before, Added, After string
}

func (w *mcpWorld) check(t *testing.T, got mcpReport, visits ...string) {
	t.Helper()
	want := mcpReport{Before: "Water the plants", Added: "Noted.", After: "Water the plants\nFeed the cat"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the results of the tools (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(visits, w.visits); diff != "" {
		t.Errorf("the requested scopes (-want +got):\n%s", diff)
	}
}

// TestMCPGo uses the client of the official Go SDK. It finds the authorization server through the
// MCP server, is identified by its metadata document or registers itself, and requests more scope
// when a tool requires it.
func TestMCPGo(t *testing.T) {
	for name, config := range map[string]func(*mcpWorld) auth.AuthorizationCodeHandlerConfig{
		"metadata document": func(w *mcpWorld) auth.AuthorizationCodeHandlerConfig {
			return auth.AuthorizationCodeHandlerConfig{ClientIDMetadataDocumentConfig: &auth.ClientIDMetadataDocumentConfig{URL: w.document}}
		},
		"registration": func(*mcpWorld) auth.AuthorizationCodeHandlerConfig {
			return auth.AuthorizationCodeHandlerConfig{DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{
				Metadata: &oauthex.ClientRegistrationMetadata{
					ClientName: "Example MCP Client", RedirectURIs: []string{mcpCallback}, GrantTypes: []string{"authorization_code", "refresh_token"},
					TokenEndpointAuthMethod: "none",
				},
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newMCPWorld(t)
			config := config(w)
			config.RedirectURL, config.RequestRefreshToken = mcpCallback, true
			config.AuthorizationCodeFetcher = func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
				callback, err := w.visit(args.URL)
				if err != nil {
					return nil, err
				}
				response := callback.Query()
				return &auth.AuthorizationResult{Code: response.Get("code"), State: response.Get("state"), Iss: response.Get("iss")}, nil
			}
			handler, err := auth.NewAuthorizationCodeHandler(&config)
			if err != nil {
				t.Fatal(err)
			}
			client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
			session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: w.server, OAuthHandler: handler}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			call := func(tool string, arguments any) string {
				t.Helper()
				result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
				if err != nil {
					t.Fatal(err)
				}
				text, ok := result.Content[0].(*mcp.TextContent)
				if !ok {
					t.Fatalf("%s returns a %T", tool, result.Content[0])
				}
				return text.Text
			}
			var got mcpReport
			got.Before = call("list_notes", nil)
			got.Added = call("add_note", map[string]string{"text": "Feed the cat"})
			got.After = call("list_notes", nil)
			w.check(t, got, "notes.read offline_access", "notes.read notes.write offline_access")
		})
	}
}

// TestMCPTypeScript does the same with the official TypeScript SDK, which registers with only the
// scope of the first challenge.
func TestMCPTypeScript(t *testing.T) {
	node := need(t, "node")
	dir := installNode(t, "mcp")
	for name, byDocument := range map[string]bool{"metadata document": true, "registration": false} {
		t.Run(name, func(t *testing.T) {
			w := newMCPWorld(t)
			environment := []string{"MCP_SERVER=" + w.server, "REDIRECT_URI=" + mcpCallback}
			if byDocument {
				environment = append(environment, "CLIENT_METADATA_URL="+w.document)
			}
			var got struct {
				mcpReport
				Refreshed bool
				Client    string
			}
			converse(t, environment, w.visit, &got, node, filepath.Join(dir, "client.mjs"))
			w.check(t, got.mcpReport, "notes.read", "notes.read notes.write")
			if !got.Refreshed {
				t.Error("the refresh token was not used")
			}
			if byDocument != (got.Client == w.document) {
				t.Errorf("the client is %q", got.Client)
			}
		})
	}
}
