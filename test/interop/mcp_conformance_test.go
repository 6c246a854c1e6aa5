package interop

import (
	"bufio"
	"context"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// TestMCPConformance runs those of the Model Context Protocol's conformance tests that test
// authorization servers. The others about authorization test clients, with their own server.
func TestMCPConformance(t *testing.T) {
	need(t, "npm")
	dir := installNode(t, "mcp-conformance")
	node, err := filepath.Glob(filepath.Join(dir, "node_modules", "node-linux-*", "bin", "node"))
	if err != nil || len(node) != 1 {
		unavailable(t, "there is no Node.js 22 for this machine")
	}
	_, port, _ := strings.Cut(freeAddress(t), ":")
	callback := "http://127.0.0.1:" + port + "/callback"
	const resource = "https://mcp.example.com/mcp"
	server := authservertest.NewServer(t, authservertest.Config{
		Declarations: configuration.Declarations{
			Clients: []configuration.Client{{ID: "conformance", ClientMetadata: oauth.ClientMetadata{
				ApplicationType: oauth.ApplicationNative, RedirectURIs: []string{"http://127.0.0.1/callback"}, Scope: "notes.read",
			}}},
			Users:     []configuration.User{{Username: "alice", Password: "correct horse battery"}},
			Scopes:    []record.Scope{{Name: "notes.read"}},
			Resources: []record.Resource{{Identifier: resource, Scopes: []string{"notes.read"}}},
		},
		MetadataDocuments: configuration.MetadataDocuments{AllowedHosts: []string{"*"}, Scope: "notes.read"},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, node[0], filepath.Join(dir, "node_modules", "@modelcontextprotocol", "conformance", "dist", "index.js"),
		"authorization", "--url", server.Issuer, "--client-id", "conformance", "--resource", resource, "--port", port)
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = command.Stdout
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	var address string
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		line := lines.Text()
		output.WriteString(line + "\n")
		if strings.HasPrefix(line, server.Issuer+"/authorize?") {
			address = line
		}
		if address == "" || !strings.HasPrefix(line, "Callback server started") {
			continue
		}
		back, err := person.New("alice", "correct horse battery").Visit(address, callback)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.Get(back.String())
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	err = command.Wait()
	total := regexp.MustCompile(`Total: ([0-9]+) passed, 0 failed`).FindStringSubmatch(output.String())
	if err != nil || total == nil || total[1] != "3" {
		t.Fatalf("%v:\n%s", err, output.String())
	}
	t.Logf("note: all %s checks of MCP's own conformance tests for authorization servers pass", total[1])
}
