package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// mcpRun walks the discovery of an MCP server as its clients do (Model Context Protocol, revision
// 2026-07-28, Authorization).
type mcpRun struct {
	*run
	resource *url.URL
	clientID string
	// challenge are the parameters of WWW-Authenticate.
	challenge map[string]string
	document  *resourceMetadata
	servers   []*oauth.ServerMetadata
}

// resourceMetadata is protected resource metadata (RFC 9728, section 2).
type resourceMetadata struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	ScopesSupported      []string `json:"scopes_supported"`
}

// RunMCP checks the MCP server at a URL. If clientID is the URL of an agent's metadata document, it
// begins an authorization as that agent would. Of the options it uses Roots, ConnectTo and Now.
func RunMCP(ctx context.Context, resource, clientID string, o Options) (*Report, error) {
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	u, err := url.Parse(resource)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not the URL of an MCP server, such as https://notes.example.com/mcp", resource)
	}
	o.Issuer, o.Configuration = resource, nil
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &run{options: o, issuer: u, report: newReport(resource), client: newClient(o, addressOf(u))}
	defer r.client.close()
	r.replace = strings.NewReplacer("{issuer}", resource, "{host}", u.Host, "{name}", u.Hostname(), "{path}", u.Path,
		"{config}", "valetkey.yaml", "{backend}", r.backend())
	m := &mcpRun{run: r, resource: u, clientID: clientID}
	for _, check := range []struct {
		name string
		run  func(context.Context) string
	}{
		{"tls", r.checkTLS},
		{"challenge", m.checkChallenge},
		{"protected resource metadata", m.checkDocument},
		{"authorization server metadata", m.checkServers},
		{"proof key for code exchange", m.each(m.judgePKCE)},
		{"registration", m.each(m.judgeRegistration)},
		{"responses", m.each(m.judgeResponses)},
		{"scopes", m.each(m.judgeScopes)},
		{"authorization", m.checkAuthorization},
	} {
		r.perform(ctx, check.name, func(_ *run, ctx context.Context) string { return check.run(ctx) })
	}
	r.report.sort()
	return r.report, nil
}

// checkChallenge calls the server without a token, as an agent does first.
func (m *mcpRun) checkChallenge(ctx context.Context) string {
	if m.resource.Scheme == "http" && !oauth.IsLoopbackHost(m.resource.Hostname()) {
		m.find("mcp.not_https", "%s", m.resource)
	}
	const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2026-07-28","capabilities":{},"clientInfo":{"name":"valetkey doctor","version":"1"}}}`
	received, err := do(ctx, m.client.outside, http.MethodPost, m.resource.String(), []byte(initialize),
		"Content-Type", "application/json", "Accept", "application/json, text/event-stream", "Origin", foreignOrigin)
	if err != nil {
		m.find("mcp.unreachable", "%v", err)
		return ""
	}
	m.reached = true
	switch {
	case received.redirects():
		m.find("mcp.redirected", "%d to %s", received.status, received.header.Get("Location"))
	case received.status != http.StatusUnauthorized:
		m.find("mcp.not_protected", "%d for a request without a token", received.status)
	default:
		m.challenge = bearerChallenge(received.header.Values("WWW-Authenticate"))
		if m.challenge["resource_metadata"] == "" {
			m.find("mcp.no_challenge", "WWW-Authenticate: %s", strings.Join(received.header.Values("WWW-Authenticate"), ", "))
		}
	}
	return ""
}

// bearerChallenge returns the parameters of the first challenge of the scheme Bearer or DPoP (RFC 9110,
// section 11.6.1).
func bearerChallenge(values []string) map[string]string {
	for _, value := range values {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
		if !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "DPoP") {
			continue
		}
		parameters := map[string]string{}
		for rest != "" {
			name, after, found := strings.Cut(strings.TrimLeft(rest, ", "), "=")
			if !found {
				break
			}
			var text string
			if strings.HasPrefix(after, `"`) {
				text, rest, _ = strings.Cut(after[1:], `"`)
			} else {
				text, rest, _ = strings.Cut(after, ",")
			}
			parameters[strings.ToLower(strings.TrimSpace(name))] = text
		}
		return parameters
	}
	return nil
}

// checkDocument reads the protected resource metadata where the 401 says, and then at the well-known
// addresses: with the path of the resource, and at the root.
func (m *mcpRun) checkDocument(ctx context.Context) string {
	if !m.reached {
		return "the MCP server does not respond"
	}
	origin := m.resource.Scheme + "://" + m.resource.Host
	path := strings.TrimSuffix(m.resource.Path, "/")
	wellKnown := origin + oauth.WellKnownProtectedResource + path
	document, seen := m.readDocument(ctx, wellKnown)
	if named := m.challenge["resource_metadata"]; named != "" && named != wellKnown {
		there, seenThere := m.readDocument(ctx, named)
		if there != nil && document == nil {
			m.find("mcp.well_known_missing", "%s", seen)
		}
		if there != nil {
			document = there // agents try it first
		} else {
			m.find("mcp.no_resource_metadata", "%s, which the 401 names", seenThere)
		}
	}
	if document == nil && path != "" {
		document, _ = m.readDocument(ctx, origin+oauth.WellKnownProtectedResource)
	}
	if document == nil {
		if !m.found("mcp.metadata_not_json", "mcp.metadata_redirected") {
			m.find("mcp.no_resource_metadata", "%s", seen)
		}
		return ""
	}
	m.document = document
	if document.Resource != m.resource.String() && document.Resource != strings.TrimSuffix(m.resource.String(), "/") {
		m.find("mcp.resource_mismatch", "resource is %q, and the URL is %s", document.Resource, m.resource)
	}
	if len(document.AuthorizationServers) == 0 {
		m.find("mcp.no_authorization_server", "authorization_servers is missing or empty")
	}
	return ""
}

// readDocument returns the document at an address, or nil and what was seen there.
func (m *mcpRun) readDocument(ctx context.Context, address string) (*resourceMetadata, string) {
	var document resourceMetadata
	seen := m.readJSON(ctx, address, &document)
	if seen != "" {
		return nil, seen
	}
	return &document, ""
}

// readJSON reads a document of metadata, and returns what was seen instead if there is none.
func (m *mcpRun) readJSON(ctx context.Context, address string, to any) string {
	received, err := m.get(ctx, address, "Origin", foreignOrigin, "MCP-Protocol-Version", "2026-07-28")
	if err != nil {
		return fmt.Sprintf("%s: %v", address, err)
	}
	if received.redirects() {
		m.find("mcp.metadata_redirected", "%d to %s for %s", received.status, received.header.Get("Location"), address)
	}
	if received.status != http.StatusOK {
		return fmt.Sprintf("%d for %s", received.status, address)
	}
	media, _, err := mime.ParseMediaType(received.header.Get("Content-Type"))
	if err == nil && media == "application/json" {
		err = json.Unmarshal(received.body, to)
	}
	if err != nil || media != "application/json" {
		m.find("mcp.metadata_not_json", "Content-Type %q for %s", received.header.Get("Content-Type"), address)
		return "no JSON at " + address
	}
	if received.header.Get("Access-Control-Allow-Origin") == "" {
		m.find("mcp.cors", "no Access-Control-Allow-Origin for %s", address)
	}
	return ""
}

// maxServers is how many authorization servers are looked at.
const maxServers = 5

// checkServers reads the metadata of each authorization server, at the addresses that agents try, in
// their order.
func (m *mcpRun) checkServers(ctx context.Context) string {
	if m.document == nil {
		return "there is no protected resource metadata"
	}
	for _, issuer := range m.document.AuthorizationServers[:min(len(m.document.AuthorizationServers), maxServers)] {
		u, err := url.Parse(issuer)
		if err != nil || u.Host == "" {
			m.find("mcp.authorization_server_metadata", "%q is not a URL", issuer)
			continue
		}
		origin, path := u.Scheme+"://"+u.Host, strings.TrimSuffix(u.Path, "/")
		addresses := []string{origin + oauth.WellKnownAuthorizationServer + path, origin + oauth.WellKnownOpenIDConfiguration + path}
		if path != "" {
			addresses = append(addresses, origin+path+oauth.WellKnownOpenIDConfiguration)
		}
		var metadata *oauth.ServerMetadata
		var seen []string
		for _, address := range addresses {
			found := &oauth.ServerMetadata{}
			if problem := m.readJSON(ctx, address, found); problem != "" {
				seen = append(seen, problem)
				continue
			}
			metadata = found
			break
		}
		if metadata == nil {
			m.find("mcp.authorization_server_metadata", "%s", strings.Join(seen, "; "))
			continue
		}
		if metadata.Issuer != issuer {
			m.find("mcp.issuer_mismatch", "authorization_servers has %q, and the metadata has the issuer %q", issuer, metadata.Issuer)
		}
		m.servers = append(m.servers, metadata)
	}
	return ""
}

// each returns a check of every authorization server.
func (m *mcpRun) each(judge func(*oauth.ServerMetadata)) func(context.Context) string {
	return func(context.Context) string {
		if len(m.servers) == 0 {
			return "there is no metadata of an authorization server"
		}
		for _, server := range m.servers {
			judge(server)
		}
		return ""
	}
}

func (m *mcpRun) judgePKCE(s *oauth.ServerMetadata) {
	if !slices.Contains(s.CodeChallengeMethodsSupported, "S256") {
		m.find("mcp.no_pkce", "code_challenge_methods_supported of %s: %q", s.Issuer, s.CodeChallengeMethodsSupported)
	}
	if !slices.Contains(s.ResponseTypesSupported, "code") || s.AuthorizationEndpoint == "" || s.TokenEndpoint == "" {
		m.find("mcp.no_code_grant", "response_types_supported of %s: %q", s.Issuer, s.ResponseTypesSupported)
	}
}

func (m *mcpRun) judgeRegistration(s *oauth.ServerMetadata) {
	switch {
	case s.ClientIDMetadataDocumentSupported:
	case s.RegistrationEndpoint != "":
		m.find("mcp.no_metadata_documents", "%s has a registration_endpoint only", s.Issuer)
	default:
		m.find("mcp.no_registration", "%s has neither client_id_metadata_document_supported nor a registration_endpoint", s.Issuer)
	}
	// Agents on users' machines redirect to loopback, and have no secret (RFC 8252, section 8).
	if methods := s.TokenEndpointAuthMethodsSupported; len(methods) > 0 && !slices.Contains(methods, oauth.AuthMethodNone) {
		m.find("mcp.no_public_clients", "token_endpoint_auth_methods_supported of %s: %q", s.Issuer, methods)
	}
}

func (m *mcpRun) judgeResponses(s *oauth.ServerMetadata) {
	if !s.AuthorizationResponseIssParameterSupported {
		m.find("mcp.no_iss", "authorization_response_iss_parameter_supported is missing at %s", s.Issuer)
	}
}

// judgeScopes compares the scopes that agents will request with those that can be requested: the ones
// in the challenge, or else all in the metadata.
func (m *mcpRun) judgeScopes(s *oauth.ServerMetadata) {
	for scope := range strings.FieldsSeq(m.scope()) {
		if len(s.ScopesSupported) > 0 && !slices.Contains(s.ScopesSupported, scope) {
			m.find("mcp.scope_unknown", "%s is not in scopes_supported of %s", scope, s.Issuer)
		}
	}
}

// checkAuthorization reads the document of an agent and sends an authorization request for each of its
// redirect URIs, as the agent would. Nobody signs in, so nothing comes of it.
func (m *mcpRun) checkAuthorization(ctx context.Context) string {
	switch {
	case m.clientID == "":
		return "it needs the client_id of an agent (--client-id)"
	case len(m.servers) == 0:
		return "there is no metadata of an authorization server"
	}
	redirectURIs, why := m.redirectURIs(ctx)
	if why != "" {
		m.find("mcp.client_document", "%s", why)
		return ""
	}
	for _, server := range m.servers {
		for _, redirectURI := range redirectURIs[:min(len(redirectURIs), maxRedirectURIs)] {
			m.authorize(ctx, server, redirectURI)
		}
	}
	return ""
}

// maxRedirectURIs is how many redirect URIs of an agent are tried.
const maxRedirectURIs = 5

// redirectURIs returns the redirect URIs of the agent's document, or what is wrong with it
// (draft-ietf-oauth-client-id-metadata-document, section 4).
func (m *mcpRun) redirectURIs(ctx context.Context) (uris []string, why string) {
	received, err := m.get(ctx, m.clientID)
	if err != nil {
		return nil, fmt.Sprintf("%s: %v", m.clientID, err)
	}
	if received.status != http.StatusOK {
		return nil, fmt.Sprintf("%d for %s; redirects are not followed", received.status, m.clientID)
	}
	var document struct {
		ClientID     string   `json:"client_id"`
		RedirectURIs []string `json:"redirect_uris"`
	}
	if err := json.Unmarshal(received.body, &document); err != nil {
		return nil, fmt.Sprintf("%s is not JSON: %v", m.clientID, err)
	}
	if document.ClientID != m.clientID {
		return nil, fmt.Sprintf("client_id in the document is %q", document.ClientID)
	}
	if len(document.RedirectURIs) == 0 {
		return nil, "the document has no redirect_uris"
	}
	return document.RedirectURIs, ""
}

// authorize sends an authorization request.
func (m *mcpRun) authorize(ctx context.Context, s *oauth.ServerMetadata, redirectURI string) {
	target, err := url.Parse(s.AuthorizationEndpoint)
	redirect, redirectErr := url.Parse(redirectURI)
	if err != nil || redirectErr != nil {
		return
	}
	// An agent listens on any free port (RFC 8252, section 7.3).
	if redirect.Scheme == "http" && oauth.IsLoopbackHost(redirect.Hostname()) && redirect.Port() == "" {
		redirect.Host += ":51004"
	}
	query := target.Query()
	query.Set("response_type", "code")
	query.Set("client_id", m.clientID)
	query.Set("redirect_uri", redirect.String())
	query.Set("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM") // RFC 7636, appendix B
	query.Set("code_challenge_method", "S256")
	query.Set("state", "doctor")
	query.Set("resource", m.document.Resource)
	if scope := m.scope(); scope != "" {
		query.Set("scope", scope)
	}
	target.RawQuery = query.Encode()
	received, err := m.get(ctx, target.String())
	if err != nil {
		m.find("mcp.authorization_refused", "%s: %v", s.AuthorizationEndpoint, err)
		return
	}
	location, err := url.Parse(received.header.Get("Location"))
	switch {
	case received.status >= 400:
		m.find("mcp.authorization_refused", "%d for redirect_uri=%s", received.status, redirect)
	case err == nil && location.Query().Get("error") != "":
		m.find("mcp.authorization_refused", "%s for redirect_uri=%s: %s", location.Query().Get("error"), redirect, location.Query().Get("error_description"))
	}
}

// scope returns the scope that an agent requests.
func (m *mcpRun) scope() string {
	if challenged := m.challenge["scope"]; challenged != "" {
		return challenged
	}
	return strings.Join(m.document.ScopesSupported, " ")
}
