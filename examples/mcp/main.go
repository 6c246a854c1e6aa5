// Command mcp is an MCP server behind an authorization server: it keeps notes, and its
// tools are for whoever has an access token that allows them.
//
//	go run ./examples/mcp -issuer http://127.0.0.1:8080
//
// docs/guides/mcp.md has the authorization server's side.
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
	// By this document a client that knows the MCP server alone finds the authorization
	// server (RFC 9728).
	mux.Handle("GET "+guard.MetadataPath(), guard.Metadata())
	log.Print(resource)
	server := &http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// scopes are what a request needs, by the tool that it calls. Everything else, the list of
// tools for instance, needs what reading needs.
func scopes(tool string) []string {
	if tool == "add_note" {
		return []string{"notes.read", "notes.write"}
	}
	return []string{"notes.read"}
}

// maxRequest bounds a message of a client, in bytes.
const maxRequest = 1 << 20

// byTool asks for the scopes of the tool that a request calls. A token that lacks one is
// answered 403 with insufficient_scope, and the client asks the person for more.
func byTool(guard *resourceserver.ResourceServer, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Before anything is read: strangers get no further.
		guard.Require("notes.read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
			if err != nil {
				http.Error(w, "The request is too large, or broke off.", http.StatusBadRequest)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			guard.Require(scopes(toolOf(body))...)(next).ServeHTTP(w, r)
		})).ServeHTTP(w, r)
	})
}

// toolOf returns the name of the tool that a message calls, "" for none.
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
	mcp.AddTool(server, &mcp.Tool{Name: "list_notes", Description: "List the person's notes."}, n.list)
	mcp.AddTool(server, &mcp.Tool{Name: "add_note", Description: "Write a note in the person's name."}, n.add)
	// Without sessions: each request stands on its own token.
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true})
}

// notes are kept for each person.
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

// caller returns the token of who calls a tool. It decides whether they may; byTool reads
// the message for itself, and only finds the better answer for those who may not.
func caller(ctx context.Context, tool string) (*resourceserver.Token, error) {
	token, ok := resourceserver.TokenFromContext(ctx)
	if !ok || !token.Scope.Covers(scopes(tool)) {
		return nil, errors.New("the access token does not allow this")
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
