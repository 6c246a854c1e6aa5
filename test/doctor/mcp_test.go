package doctor

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/doctor"
	"github.com/valetkey/valetkey/oauth/resourceserver"
	"github.com/valetkey/valetkey/storage/record"
)

// mcpFault is something that is planted in an MCP server or its authorization server.
type mcpFault struct {
	name string
	// serve replaces the handler of the MCP server.
	serve func(sound http.Handler, resource string) http.Handler
	// server is the metadata of another authorization server; nil is Valetkey.
	server map[string]any
	// client is the document of the agent.
	client string
	want   []string
}

const agent = `{"client_id": "ID", "redirect_uris": ["http://127.0.0.1/callback", "http://localhost/callback"], "grant_types": ["authorization_code"], "response_types": ["code"], "token_endpoint_auth_method": "none"}`

// changed replaces members of a document that the sound handler would send at the well-known address.
func changed(members map[string]any) func(http.Handler, string) http.Handler {
	return func(sound http.Handler, _ string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, "/.well-known/") {
				sound.ServeHTTP(w, r)
				return
			}
			recorder := httptest.NewRecorder()
			sound.ServeHTTP(recorder, r)
			var document map[string]any
			if recorder.Code == http.StatusOK && json.Unmarshal(recorder.Body.Bytes(), &document) == nil {
				for name, value := range members {
					document[name] = value
				}
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Access-Control-Allow-Origin", "*")
				json.NewEncoder(w).Encode(document)
				return
			}
			w.WriteHeader(recorder.Code)
		})
	}
}

// instead responds itself at paths with a prefix.
func instead(prefix string, respond http.HandlerFunc) func(http.Handler, string) http.Handler {
	return func(sound http.Handler, _ string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, prefix) {
				respond(w, r)
				return
			}
			sound.ServeHTTP(w, r)
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

var mcpFaults = []mcpFault{
	{name: "a sound setup", client: agent},
	{name: "no token is required", serve: instead("/mcp", status(http.StatusOK)), want: []string{"mcp.not_protected"}},
	{name: "the challenge says nothing", serve: instead("/mcp", status(http.StatusUnauthorized)), want: []string{"mcp.no_challenge"}},
	{name: "there is no metadata", serve: instead("/.well-known/", status(http.StatusNotFound)), want: []string{"mcp.no_resource_metadata"}},
	{name: "metadata is a page", serve: instead("/.well-known/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }), want: []string{"mcp.metadata_not_json"}},
	{name: "metadata is redirected", serve: instead("/.well-known/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }), want: []string{"mcp.metadata_redirected"}},
	{name: "the metadata is only where the 401 says", serve: func(sound http.Handler, resource string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/metadata":
				r.URL.Path = "/.well-known/oauth-protected-resource/mcp"
				sound.ServeHTTP(w, r)
			case strings.HasPrefix(r.URL.Path, "/.well-known/"):
				w.WriteHeader(http.StatusNotFound)
			default:
				w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+strings.TrimSuffix(resource, "/mcp")+`/metadata", scope="notes.read"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
		})
	}, want: []string{"mcp.well_known_missing"}},
	{name: "the resource is another", serve: changed(map[string]any{"resource": "https://notes.example/mcp"}), want: []string{"mcp.resource_mismatch"}},
	{name: "there is no authorization server", serve: changed(map[string]any{"authorization_servers": []string{}}), want: []string{"mcp.no_authorization_server"}},
	{name: "the authorization server does not respond", serve: changed(map[string]any{"authorization_servers": []string{"http://127.0.0.1:1"}}), want: []string{"mcp.authorization_server_metadata"}},
	{name: "the issuer is another", server: map[string]any{"issuer": "https://other.example"}, want: []string{"mcp.issuer_mismatch"}},
	{name: "there is no PKCE", server: map[string]any{"code_challenge_methods_supported": []string{"plain"}}, want: []string{"mcp.no_pkce"}},
	{name: "there is no code flow", server: map[string]any{"response_types_supported": []string{"token"}}, want: []string{"mcp.no_code_grant"}},
	{name: "agents can only register", server: map[string]any{"client_id_metadata_document_supported": false, "registration_endpoint": "https://as.example/register"}, want: []string{"mcp.no_metadata_documents"}},
	{name: "agents cannot identify themselves", server: map[string]any{"client_id_metadata_document_supported": false}, want: []string{"mcp.no_registration"}},
	{name: "clients need a secret", server: map[string]any{"token_endpoint_auth_methods_supported": []string{"client_secret_basic"}}, want: []string{"mcp.no_public_clients"}},
	{name: "responses have no iss", server: map[string]any{"authorization_response_iss_parameter_supported": false}, want: []string{"mcp.no_iss"}},
	{name: "a scope is unknown", server: map[string]any{"scopes_supported": []string{"openid"}}, want: []string{"mcp.scope_unknown"}},
	{name: "the agent has another client_id", client: strings.ReplaceAll(agent, "ID", "https://agent.example/other.json"), want: []string{"mcp.client_document"}},
	{name: "the agent has a redirect URI that is not allowed", client: strings.ReplaceAll(agent, "http://localhost/callback", "cursor://callback"), want: []string{"mcp.authorization_refused"}},
}

func TestMCPFindings(t *testing.T) {
	for _, f := range mcpFaults {
		t.Run(f.name, func(t *testing.T) {
			clientID, authorities, allowed := "", "", "*"
			if f.client != "" {
				site := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					fmt.Fprint(w, strings.ReplaceAll(f.client, `"ID"`, `"`+clientID+`"`))
				}))
				t.Cleanup(site.Close)
				allowed = site.Listener.Addr().String()
				clientID = site.URL + "/client.json"
				authorities = filepath.Join(t.TempDir(), "authorities.pem")
				if err := os.WriteFile(authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw}), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			tools := httptest.NewUnstartedServer(nil)
			resource := "http://" + tools.Listener.Addr().String() + "/mcp"
			issuer := fakeServer(t, f.server)
			if f.server == nil {
				issuer = authservertest.NewServer(t, authservertest.Config{
					Declarations: configuration.Declarations{
						Scopes:    []record.Scope{{Name: "notes.read"}},
						Resources: []record.Resource{{Identifier: resource, Scopes: []string{"notes.read"}}},
					},
					MetadataDocuments:      configuration.MetadataDocuments{AllowedHosts: []string{allowed}, Scope: "notes.read"},
					CertificateAuthorities: authorities,
				}).Issuer
			}
			guard, err := resourceserver.New(resourceserver.Config{Issuer: issuer, Resource: resource, ScopesSupported: []string{"notes.read"}})
			if err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux()
			mux.Handle("/mcp", guard.Require("notes.read")(status(http.StatusOK)))
			mux.Handle("GET "+guard.MetadataPath(), guard.Metadata())
			tools.Config.Handler = mux
			if f.serve != nil {
				tools.Config.Handler = f.serve(mux, resource)
			}
			tools.Start()
			t.Cleanup(tools.Close)

			report, err := doctor.RunMCP(t.Context(), resource, clientID, doctor.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, finding := range report.Findings {
				got = append(got, finding.Name)
			}
			if slices.Sort(got); !slices.Equal(got, f.want) {
				text, _ := json.MarshalIndent(report, "", "  ")
				t.Errorf("found %q, want %q\n%s", got, f.want, text)
			}
		})
	}
}

// fakeServer returns the issuer of an authorization server that has only metadata.
func fakeServer(t *testing.T, members map[string]any) string {
	t.Helper()
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		document := map[string]any{
			"issuer": server.URL, "authorization_endpoint": server.URL + "/authorize", "token_endpoint": server.URL + "/token",
			"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"},
			"client_id_metadata_document_supported": true, "authorization_response_iss_parameter_supported": true,
			"scopes_supported": []string{"notes.read"},
		}
		for name, value := range members {
			document[name] = value
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		json.NewEncoder(w).Encode(document)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
