// Package manage is the management API: everything that an operator can see or change, as an HTTP API
// at /manage/v1 of the issuer, with an OpenAPI 3.1 document that is generated from the types of
// package manage/api.
//
// Every operation is registered with the permission that it needs (register), and one function checks
// all of them (authorize). An operation without a permission cannot be registered.
//
//	manage.go     API, Config, the handler
//	authorize.go  who calls, and whether they may
//	operation.go  registers an operation
//	commandline.go  the client of the command line, which needs no declaration
//	idempotency.go  requests that are repeated
//	inprocess.go  calls from within the process, for pages that have signed the user in
//	problem.go    errors (RFC 9457)
//	record.go     versions of records (ETag, If-Match), pages of a list
//	clients.go    clients of the authorization server
//	users.go      users
//	userchange.go changes of users, recovery links, invitations
//	declarations.go  compares declarations with what is stored, and applies them
//	scopes.go, resources.go, configuration.go, sessions.go, grants.go, tokens.go, keys.go,
//	registrations.go, explanations.go, outbox.go, auditlog.go, auditchain.go, preview.go, health.go
//	              what their names say
package manage

import (
	"cmp"
	"context"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// Config configures an API. Logger and File are optional.
type Config struct {
	Issuer string
	// Version is the version of the program.
	Version  string
	Store    *database.Database
	Accounts *identity.Accounts
	// RecoveryPath and InvitationPath return the paths of the pages that links lead to.
	RecoveryPath, InvitationPath func(token string) string
	// Lifetimes are those of the engine.
	Lifetimes authserver.Lifetimes
	// Configuration is shown, without secrets.
	Configuration *configuration.Configuration
	// Engine verifies access tokens. Its Config.OwnAPI is OwnAPI.
	Engine *authserver.Server
	// RemoteAddr returns the address of the caller behind trusted proxies.
	RemoteAddr func(r *http.Request) netip.Addr
	Logger     *slog.Logger
	// State returns the state of this node, and Checks what is wrong with it.
	State  func(context.Context) State
	Checks func(context.Context) Checks
	// Replay puts the first records that a filter selects into the outbox of a webhook again, and returns
	// how many. last is the ID of the last record that it has read, or "" if there are no more.
	Replay func(ctx context.Context, webhook string, filter audit.Filter, dryRun bool) (sent int, last string, err error)
	// File is the path of the file that has the declarations of this server; "" if there is none.
	File string
}

// API serves the management API. It is safe for concurrent use.
type API struct {
	config Config
	log    *slog.Logger
	base   string // path of the API
	// mux and huma have the operations once prepare has returned.
	mux     *http.ServeMux
	huma    huma.API
	prepare func()
	tagKey  []byte // of ETags
	// responses encrypts stored responses.
	responses cipher.AEAD
	// document returns the OpenAPI document.
	document func() ([]byte, error)
	// metadata is that of the protected resource (RFC 9728), at metadataPath.
	metadata     []byte
	metadataPath string
	commandLine  *record.Client // nil if it is off
}

// New returns an API.
func New(config Config) (*API, error) {
	issuer, err := url.Parse(config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	a := &API{config: config, log: config.Logger, base: issuer.Path + api.Path, mux: http.NewServeMux()}
	if a.tagKey, err = database.Derive(config.Store.Secret, "valetkey management versions"); err != nil {
		return nil, err
	}
	if a.responses, err = newResponseCipher(config.Store.Secret); err != nil {
		return nil, err
	}
	// A node that nobody manages does not need the operations. They would take a quarter of the CPU time
	// of a start.
	a.prepare = sync.OnceFunc(a.registerAll)
	a.document = sync.OnceValues(func() ([]byte, error) {
		a.prepare()
		return json.Marshal(a.huma.OpenAPI())
	})
	a.metadataPath = oauth.WellKnownProtectedResource + a.base
	ownAPI := OwnAPI(config.Issuer, config.Store, config.Configuration.Management)
	a.commandLine = ownAPI.Client
	own := ownAPI.Resource
	if a.metadata, err = json.Marshal(oauth.ProtectedResourceMetadata{
		// Whoever asks for all of these names each: ScopeAll is left out (RFC 9728, section 2, allows it).
		Resource: own.Identifier, AuthorizationServers: []string{config.Issuer}, ScopesSupported: slices.DeleteFunc(slices.Clone(own.Scopes), func(s string) bool { return s == api.ScopeAll }),
		BearerMethodsSupported: []string{"header"}, ResourceName: own.Name,
	}); err != nil {
		return nil, fmt.Errorf("encode the metadata of the API: %w", err)
	}
	return a, nil
}

// registerAll registers all operations.
func (a *API) registerAll() {
	a.huma = humago.NewWithPrefix(a.mux, a.base, a.openAPI())
	a.huma.UseMiddleware(a.authorize)
	a.registerWhoami()
	a.registerClients()
	a.registerUsers()
	a.registerUserChanges()
	a.registerScopes()
	a.registerResources()
	a.registerConfiguration()
	a.registerSessions()
	a.registerGrants()
	a.registerTokens()
	a.registerKeys()
	a.registerRegistrations()
	a.registerExplanations()
	a.registerOutbox()
	a.registerAudit()
	a.registerAuditChain()
	a.registerPreview()
	a.registerDeclarations()
	a.registerHealth()
	a.mux.HandleFunc("/", a.elsewhere)
}

// Identifier returns the identifier of the API as a protected resource of an issuer (RFC 8707).
func Identifier(issuer string) string { return issuer + api.Path }

// OwnAPI describes the API for authserver.Config: its scopes are the permissions, and a token has at
// most those that the role of its user has, or that of its client for the client's own token.
func OwnAPI(issuer string, store *database.Database, settings configuration.Management) *authserver.OwnAPI {
	own := &authserver.OwnAPI{
		Resource: record.Resource{Identifier: Identifier(issuer), Name: "Management of this server"},
		Alias:    settings.MCPURL, Client: commandLine(issuer, settings.CommandLine),
	}
	for _, p := range api.Permissions() {
		own.Resource.Scopes = append(own.Resource.Scopes, string(p))
		own.Scopes = append(own.Scopes, record.Scope{Name: string(p), Description: p.Description(), Optional: true})
	}
	own.Resource.Scopes = append(own.Resource.Scopes, api.ScopeAll)
	own.Scopes = append(own.Scopes, record.Scope{Name: api.ScopeAll, Description: api.ScopeAllDescription, Optional: true})
	own.Allowed = func(ctx context.Context, subject, clientID string) (oauth.Scope, error) {
		role, err := roleNow(ctx, store, subject, clientID)
		if err != nil {
			return nil, err
		}
		var scope oauth.Scope
		for _, p := range role.Permissions() {
			scope = append(scope, string(p))
		}
		if len(scope) > 0 {
			scope = append(scope, api.ScopeAll)
		}
		return scope, nil
	}
	return own
}

// roleNow returns the role of a user, or of a client if subject is "", as it is stored now.
func roleNow(ctx context.Context, store *database.Database, subject, clientID string) (api.Role, error) {
	if subject != "" {
		user, err := store.User(ctx, subject)
		if errors.Is(err, storage.ErrNotFound) {
			return api.RoleNone, nil // a user of another issuer
		}
		if err != nil {
			return api.RoleNone, fmt.Errorf("find the role of a user: %w", err)
		}
		return roleOf(user), nil
	}
	client, err := store.Client(ctx, clientID)
	if errors.Is(err, storage.ErrNotFound) {
		return api.RoleNone, nil
	}
	if err != nil {
		return api.RoleNone, fmt.Errorf("find the role of a client: %w", err)
	}
	return roleOfClient(client), nil
}

// roleOf returns what a user may manage now.
func roleOf(u *identity.User) api.Role {
	if !u.Active() {
		return api.RoleNone
	}
	return heldRole(u)
}

// heldRole returns the role of a user, who may be disabled.
func heldRole(u *identity.User) api.Role {
	if u.Administrator {
		return api.RoleAdministrator
	}
	if role := api.Role(u.Account.Role); role.Valid() && role != api.RoleAdministrator {
		return role
	}
	return api.RoleNone
}

// roleOfClient returns what a client may manage now with its own tokens.
func roleOfClient(c *record.Client) api.Role {
	if role := api.Role(c.Role); c.Active() && c.Registration == nil && role.Valid() {
		return role
	}
	return api.RoleNone
}

// fileOf returns the file of a source of declarations, or its name if it is another server's; "" for
// no source.
func (a *API) fileOf(source string) string {
	if source != "" && source == a.config.Configuration.Source {
		return cmp.Or(a.config.File, source)
	}
	return source
}

func (a *API) openAPI() huma.Config {
	config := huma.DefaultConfig("Valetkey management API", a.config.Version)
	config.Info.Description = "Errors are problem details (RFC 9457). A change of an existing record requires If-Match with the ETag that was read."
	config.Servers = []*huma.Server{{URL: Identifier(a.config.Issuer)}}
	// Nothing is served that needs no permission, except the document, which ServeHTTP serves.
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil // no $schema members
	config.RejectUnknownQueryParameters = true
	scopes := map[string]string{api.ScopeAll: api.ScopeAllDescription}
	for _, p := range api.Permissions() {
		scopes[string(p)] = p.Description()
	}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{securityScheme: {
		Type: "oauth2",
		Flows: &huma.OAuthFlows{
			AuthorizationCode: &huma.OAuthFlow{AuthorizationURL: a.config.Issuer + "/authorize", TokenURL: a.config.Issuer + "/token", Scopes: scopes},
			ClientCredentials: &huma.OAuthFlow{TokenURL: a.config.Issuer + "/token", Scopes: scopes},
		},
	}}
	return config
}

// Handles reports whether a path belongs to the API.
func (a *API) Handles(path string) bool {
	return path == a.base || strings.HasPrefix(path, a.base+"/") || path == a.metadataPath
}

// ServeHTTP serves requests with an access token.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		switch r.URL.Path {
		case a.base + "/openapi.json":
			document, err := a.document()
			if err != nil {
				a.log.ErrorContext(r.Context(), "OpenAPI document not written", "error", err)
				writeProblem(w, http.StatusInternalServerError, "the document could not be written; the log has the reason")
				return
			}
			writeDocument(w, "application/openapi+json", document)
			return
		case a.metadataPath:
			writeDocument(w, "application/json", a.metadata)
			return
		}
	}
	a.prepare()
	a.mux.ServeHTTP(w, r)
}

// writeDocument writes a document that everyone may read.
func writeDocument(w http.ResponseWriter, contentType string, document []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "public, max-age=3600")
	_, _ = w.Write(document)
}

// elsewhere responds to requests that no operation handles.
func (a *API) elsewhere(w http.ResponseWriter, r *http.Request) {
	var methods []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := a.mux.Handler(other); pattern != "/" {
			methods = append(methods, method)
		}
	}
	if methods == nil {
		writeProblem(w, http.StatusNotFound, "there is no operation at this address; "+a.base+"/openapi.json describes all of them")
		return
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	writeProblem(w, http.StatusMethodNotAllowed, "the methods at this address are "+strings.Join(methods, ", "))
}
