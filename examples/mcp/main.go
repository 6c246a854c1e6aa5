// Command mcp is an MCP server that stores notes. Its tools require access tokens with the
// right scopes.
//
//	go run ./examples/mcp -issuer http://127.0.0.1:8080
//
// docs/guides/mcp.md describes the configuration of the authorization server.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/valetkey/valetkey/oauth/resourceserver"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8085", "address to listen on")
	issuer := flag.String("issuer", "http://127.0.0.1:8080", "the authorization server")
	flag.Parse()
	resource := "http://" + *listen + "/mcp"
	guard, err := resourceserver.New(resourceserver.Config{
		Issuer: *issuer, Resource: resource, Name: "Notes", ScopesSupported: []string{"notes.read"},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", byTool(guard, newServer()))
	// Clients use this document to find the authorization server (RFC 9728).
	mux.Handle("GET "+guard.MetadataPath(), guard.Metadata())
	log.Print(resource)
	server := &http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// scopes returns the scopes that a tool requires. Other requests, such as the list of tools,
// require the same as reading.
func scopes(tool string) []string {
	if tool == "add_note" {
		return []string{"notes.read", "notes.write"}
	}
	return []string{"notes.read"}
}

// maxRequest is the maximum size of a message.
const maxRequest = 1 << 20

// byTool requires the scopes of the tool that a request calls. If the token lacks one, the
// response is 403 with insufficient_scope, and the client can ask the user for more access.
func byTool(guard *resourceserver.ResourceServer, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Check the token before reading the body.
		guard.Require("notes.read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
			if err != nil {
				http.Error(w, "The request is too large or incomplete.", http.StatusBadRequest)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			guard.Require(scopes(toolOf(body))...)(next).ServeHTTP(w, r)
		})).ServeHTTP(w, r)
	})
}

// toolOf returns the name of the tool that a message calls, or "".
func toolOf(body []byte) string {
	var message struct {
		Method string `json:"method"`
		Params struct {
			Name string `json:"name"`
		} `json:"params"`
	}
	if json.Unmarshal(body, &message) != nil || message.Method != "tools/call" {
		return ""
	}
	return message.Params.Name
}

func newServer() http.Handler {
	n := &notes{ofSubject: map[string][]string{}}
	server := mcp.NewServer(&mcp.Implementation{Name: "notes", Version: "1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "list_notes", Description: "List the user's notes."}, n.list)
	mcp.AddTool(server, &mcp.Tool{Name: "add_note", Description: "Write a note for the user."}, n.add)
	// Stateless, because each request has its own token.
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true})
}

// notes has the notes of each user.
type notes struct {
	mu        sync.Mutex
	ofSubject map[string][]string
}

func (n *notes) list(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
	token, err := caller(ctx, "list_notes")
	if err != nil {
		return nil, nil, err
	}
	n.mu.Lock()
	texts := slices.Clone(n.ofSubject[token.Subject])
	n.mu.Unlock()
	return answer(strings.Join(append([]string{"Water the plants"}, texts...), "\n")), nil, nil
}

// caller returns the token of a tool call and checks its scopes. This is the decisive check:
// byTool parses the message separately, only to send a better error response.
func caller(ctx context.Context, tool string) (*resourceserver.Token, error) {
	token, ok := resourceserver.TokenFromContext(ctx)
	if !ok || !token.Scope.Covers(scopes(tool)) {
		return nil, errors.New("the access token does not have the required scope")
	}
	return token, nil
}

type note struct {
	Text string `json:"text"`
}

func (n *notes) add(ctx context.Context, _ *mcp.CallToolRequest, note note) (*mcp.CallToolResult, any, error) {
	token, err := caller(ctx, "add_note")
	if err != nil {
		return nil, nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ofSubject[token.Subject] = append(n.ofSubject[token.Subject], note.Text)
	return answer("Noted."), nil, nil
}

func answer(text string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}
