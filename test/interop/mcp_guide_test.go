package interop

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/valetkey/valetkey/internal/person"
)

// TestMCPGuide follows docs/guides/mcp.md: it runs the program with the configuration, and an agent
// that knows only the MCP server's URL. Only the ports differ.
func TestMCPGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/guides/mcp.md")
	if err != nil {
		t.Fatal(err)
	}
	login, tools := freeAddress(t), freeAddress(t)
	guide := strings.NewReplacer("127.0.0.1:8080", login, "127.0.0.1:8085", tools).Replace(string(text))
	dir := t.TempDir()
	program, configuration := filepath.Join(dir, "main.go"), filepath.Join(dir, "valetkey.yaml")
	for path, language := range map[string]string{program: "go", configuration: "yaml"} {
		_, rest, _ := strings.Cut(guide, "```"+language+"\n")
		block, _, ok := strings.Cut(rest, "```")
		if !ok {
			t.Fatalf("the guide has no %s code block", language)
		}
		if err := os.WriteFile(path, []byte(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startProgram(t, "../../cmd/valetkey", dir, login, "serve", "--config", configuration)
	startProgram(t, program, dir, tools)

	response, err := http.Get("http://" + tools + "/mcp")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if challenge := response.Header.Get("WWW-Authenticate"); !strings.Contains(guide, "Www-Authenticate: "+challenge+"\n") {
		t.Errorf("the guide does not show the challenge %s", challenge)
	}

	ada := person.New("ada", "engine no. 1")
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		RedirectURL: mcpCallback,
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "Agent", RedirectURIs: []string{mcpCallback}, TokenEndpointAuthMethod: "none",
		}},
		AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			callback, err := ada.Visit(args.URL, mcpCallback)
			if err != nil {
				return nil, err
			}
			response := callback.Query()
			return &auth.AuthorizationResult{Code: response.Get("code"), State: response.Get("state"), Iss: response.Get("iss")}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).
		Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: "http://" + tools + "/mcp", OAuthHandler: handler}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "list_notes"})
	if err != nil {
		t.Fatal(err)
	}
	content, ok := result.Content[0].(*mcp.TextContent)
	if !ok {
		t.Fatalf("the tool returns a %T", result.Content[0])
	}
	if !strings.HasPrefix(content.Text, "Water the plants of ") {
		t.Errorf("the tool returns %q", content.Text)
	}
}
