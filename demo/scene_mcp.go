package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/resourceserver"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	partyMCPServer = "MCP server"
	partyMCPClient = "MCP client"
	scopeNotes     = "notes:read"
)

func mcpScene() scene {
	return scene{
		key: "mcp", title: "AI agent: connect to an MCP server", button: "Connect to the MCP server",
		about:     "An MCP client only knows the URL of an MCP server. The server says which authorization server to use (RFC 9728). The client is not registered there: its client_id is the URL of a document that describes it. The token works only at that MCP server (RFC 8707).",
		configure: func(d *Demo, config *configuration.Configuration) error { return d.mcp.configure(d, config) },
		run:       func(ctx context.Context, d *Demo, w *walk) error { return d.mcp.run(ctx, d, w) },
		resume:    func(ctx context.Context, d *Demo, w *walk) error { return d.mcp.resume(ctx, d, w) },
		breaks: []breakage{
			{key: "elsewhere", title: "Another client's document", about: "Use a client_id whose document contains another client_id.", code: pageError},
			{key: "redirect", title: "Another redirect URI", about: "Ask the server to send the code to an address that is not in the document.", code: pageError},
			{key: "foreign", title: "Token for another API", about: "Call the MCP server with a token for the photo API.", code: oauth.InvalidToken},
		},
	}
}

// agents runs the MCP server, its client and the site where clients publish their documents.
type agents struct {
	server, client, site string
	responses            sync.Map // queries that arrived at the client's redirect URI, by state
}

// agentWalk is what the client remembers while the user is at the authorization server.
type agentWalk struct {
	client      *client.Client
	transaction *client.Transaction
}

func (a *agents) configure(d *Demo, config *configuration.Configuration) (err error) {
	if a.server, err = d.serve(partyMCPServer, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.serveMCP(d, w, r) })); err != nil {
		return err
	}
	a.server += "/mcp"
	if a.client, err = d.serve(partyMCPClient, http.HandlerFunc(a.callback)); err != nil {
		return err
	}
	if err := a.publish(d, config); err != nil {
		return fmt.Errorf("publish client documents: %w", err)
	}
	host := strings.TrimPrefix(a.site, "https://")
	config.MetadataDocuments = configuration.MetadataDocuments{AllowedHosts: []string{host}, Scope: scopeNotes}
	config.Scopes = append(config.Scopes, record.Scope{Name: scopeNotes, Description: "Read your notes"})
	config.Resources = append(config.Resources, record.Resource{Identifier: a.server, Name: "Notes (MCP server)", Scopes: []string{scopeNotes}, AccessTokenLifetime: record.Duration(sceneLifetime)})
	return nil
}

// publish starts an https site whose certificate the authorization server trusts.
func (a *agents) publish(d *Demo, config *configuration.Configuration) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	certificate := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, certificate, certificate, key.Public(), key)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp("", "valetkey-demo-*.pem")
	if err != nil {
		return err
	}
	d.temporary = append(d.temporary, file.Name())
	if err := pem.Encode(file, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	config.Outgoing.CertificateAuthorities = file.Name()
	config.Outgoing.InsecureOutsiderNetworks = []string{"127.0.0.1"} // the client is on this machine
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		return err
	}
	a.site = "https://" + listener.Addr().String()
	d.serveOn(listener, http.HandlerFunc(a.document))
	return nil
}

// document serves the client's metadata document at its client_id.
func (a *agents) document(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	document := oauth.ClientMetadata{
		ClientName: "Notes agent", RedirectURIs: []string{"http://127.0.0.1/callback"},
		TokenEndpointAuthMethod: oauth.AuthMethodNone, GrantTypes: []string{oauth.GrantTypeAuthorizationCode},
	}
	// An error means that the client left.
	_ = json.NewEncoder(w).Encode(struct {
		ClientID string `json:"client_id"`
		oauth.ClientMetadata
	}{a.site + "/agent.json", document}) // also at /impostor.json
}

// callback serves the client's redirect URI: a page of a program on the user's computer.
func (a *agents) callback(w http.ResponseWriter, r *http.Request) {
	a.responses.Store(r.URL.Query().Get("state"), r.URL.Query())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Referrer-Policy", "no-referrer")
	// An error means that the client left.
	_, _ = io.WriteString(w, `<!DOCTYPE html><html lang="en"><title>Notes agent</title><h1>Connected</h1><p>Close this page and go back to the demo.</p></html>`)
}

// serveMCP responds to the one message that the scene sends, behind the middleware.
func (a *agents) serveMCP(d *Demo, w http.ResponseWriter, r *http.Request) {
	guard, err := resourceserver.New(resourceserver.Config{Issuer: d.issuer, Resource: a.server, Name: partyMCPServer, ScopesSupported: []string{scopeNotes}, Logger: d.logger})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if r.URL.Path == guard.MetadataPath() {
		guard.Metadata().ServeHTTP(w, r)
		return
	}
	guard.Require(scopeNotes)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// An error means that the client left.
		_, _ = io.WriteString(w, `{"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "Water the plants"}]}}`)
	})).ServeHTTP(w, r)
}

const callTool = `{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_notes"}}`

// call sends the client's message to the MCP server.
func (a *agents) call(ctx context.Context, d *Demo, w *walk, token, purpose string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(recordedFrom(ctx, &w.recording, partyMCPClient, purpose), http.MethodPost, a.server, strings.NewReader(callTool))
	if err != nil {
		return nil, fmt.Errorf("call the MCP server: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := (&http.Client{Transport: d.recorder()}).Do(r)
	if err != nil {
		return nil, fmt.Errorf("call the MCP server: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("call the MCP server: %w", err)
	}
	w.failed, w.result = response.StatusCode >= 400, string(body)
	if w.failed {
		w.result = response.Header.Get("WWW-Authenticate")
	}
	return response, nil
}

func (a *agents) run(ctx context.Context, d *Demo, w *walk) error {
	if w.breakKey() == "foreign" {
		service := serviceScene()
		w.scene.clientID, w.scene.clientSecret = service.clientID, service.clientSecret
		form := url.Values{"grant_type": {oauth.GrantTypeClientCredentials}, "scope": {scopeRead}}
		if err := d.ask(ctx, w, form, "A service requests a token for the photo API."); err != nil || w.failed {
			return err
		}
		_, err := a.call(ctx, d, w, w.tokens.AccessToken, "Call a tool with that token. Its aud claim names another API (RFC 9068, section 4).")
		return err
	}
	w.from = partyMCPClient
	response, err := a.call(ctx, d, w, "", "Call a tool without a token. The response names the resource metadata, which leads to the authorization server (RFC 9728, section 5.1).")
	if err != nil {
		return err
	}
	w.failed = false
	challenges := oauth.ParseChallenges(response.Header.Get("WWW-Authenticate"))
	if len(challenges) == 0 || response.StatusCode != http.StatusUnauthorized {
		return fmt.Errorf("the MCP server requires no token: %s", response.Status)
	}
	if err := d.send(ctx, w, http.MethodGet, challenges[0].Param("resource_metadata"), "", "", "Read the resource metadata of the MCP server. It names the authorization server (RFC 9728, section 3)."); err != nil || w.failed {
		return err
	}
	path := "/agent.json"
	if w.breakKey() == "elsewhere" {
		path = "/impostor.json"
	}
	config := client.Config{
		Issuer: d.issuer, ClientID: a.site + path, RedirectURI: a.client + "/callback", Scopes: []string{scopeNotes}, Resources: []string{a.server},
		HTTPClient: &http.Client{Transport: d.recorder()},
	}
	if w.breakKey() == "redirect" {
		config.RedirectURI = a.client + "/elsewhere"
	}
	c, err := client.Discover(recordedFrom(ctx, &w.recording, partyMCPClient, "Read the authorization server's metadata. It lists the endpoints, and that clients may identify themselves by a document (RFC 8414)."), config)
	if err != nil {
		return err
	}
	address, transaction, err := c.AuthorizationURL(ctx, client.AuthorizationOptions{})
	if err != nil {
		return err
	}
	if w.breakage != nil {
		return d.send(ctx, w, http.MethodGet, address, "", "", "Send the user to the authorization server. It fetches the document at the client_id, which must contain the same client_id and the redirect URI (draft-ietf-oauth-client-id-metadata-document).")
	}
	w.state = agentWalk{c, transaction}
	w.waits, w.waitsFor = address, "The client opens the user's browser. The consent page shows the host of the client's document and warns that no one has used this client here before."
	w.result = "The client is waiting for the user."
	return nil
}

func (a *agents) resume(ctx context.Context, d *Demo, w *walk) error {
	agent := w.state.(agentWalk)
	answer, ok := a.responses.LoadAndDelete(agent.transaction.State)
	if !ok {
		w.result = "The user has not opened the page yet."
		return nil
	}
	tokens, err := agent.client.Callback(recordedFrom(ctx, &w.recording, partyMCPClient, "Exchange the code for a token. The resource parameter limits the token to this MCP server (RFC 8707, section 2.2), and PKCE proves that this client started the sign-in."), agent.transaction, answer.(url.Values))
	if err != nil {
		return w.refused(err)
	}
	w.waits, w.tokens = "", tokens
	_, err = a.call(ctx, d, w, tokens.AccessToken, "Call the tool again, with the token. The MCP server checks signature, issuer, audience, expiry and scope (RFC 9068, section 4).")
	return err
}
