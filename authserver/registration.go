package authserver

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// RegistrationMode says who may register a client.
type RegistrationMode string

// The modes. "" is RegistrationOff.
const (
	RegistrationOff RegistrationMode = "off"
	// RegistrationInitialAccessToken requires a token that an operator issued (RFC 7591,
	// section 3).
	RegistrationInitialAccessToken RegistrationMode = "initial_access_token"
	// RegistrationOpen lets anyone register.
	RegistrationOpen RegistrationMode = "open"
)

// RegistrationPolicy configures whether clients may register themselves, and with which metadata.
type RegistrationPolicy struct {
	Mode RegistrationMode
	// Scope bounds what such a client may request; nil means the standard scopes.
	Scope oauth.Scope
	// RedirectSchemes are private-use schemes without a dot that redirect URIs of such clients
	// may have, whatever their application_type is: "cursor", for instance.
	RedirectSchemes []string
	// AnyAllowedScope lets an unvouched client request all of Scope later, whatever scope it
	// registered. Some clients register the scope that they need first, and request more when an
	// API requires it (RFC 6750, section 3.1).
	AnyAllowedScope bool
	// UnusedLifetime is how long a client is kept before its first use; zero means 24 hours.
	UnusedLifetime time.Duration
	// MaxClients limits the number of registered clients; zero means 100,000. Beyond that, new
	// clients replace the oldest ones that were never used.
	MaxClients int
	// PerMinute is how often one address, or one initial access token, may try to register or
	// change a registration in a minute; zero means 20.
	PerMinute int
	// SoftwareStatements are the issuers whose statements are accepted. RequireSoftwareStatement
	// refuses clients without one.
	SoftwareStatements       []SoftwareStatementIssuer
	RequireSoftwareStatement bool
	// Profile is the profile of each client that registers; "" means the server's.
	Profile string
	// InsecureNoCodeChallenge and InsecureAssertionAudience are the values of these settings for
	// each client that registers.
	InsecureNoCodeChallenge   bool
	InsecureAssertionAudience bool
	// InsecureErrorRedirects redirects the browser after an error or logout even to an unvouched
	// client that the user has never allowed anything. Without it, the user sees a page.
	InsecureErrorRedirects bool
}

func (p RegistrationPolicy) on() bool {
	return p.Mode == RegistrationOpen || p.Mode == RegistrationInitialAccessToken
}

func (p RegistrationPolicy) withDefaults() RegistrationPolicy {
	if p.UnusedLifetime == 0 {
		p.UnusedLifetime = 24 * time.Hour
	}
	if p.MaxClients == 0 {
		p.MaxClients = 100_000
	}
	if p.PerMinute == 0 {
		p.PerMinute = 20
	}
	return p
}

var (
	ruleRegistrationPace = rule{
		must:    "an address registers no more clients in a minute than the configuration allows",
		section: "RFC 7591, section 5", code: oauth.InvalidRequest,
		says: "too many registrations from this address; try again in a minute",
		fix:  "wait a minute, or raise registration.per_minute",
	}
	ruleRegistrationNumber = rule{
		must:    "no more clients register themselves than the configuration allows",
		section: "RFC 7591, section 5", code: oauth.TemporarilyUnavailable,
		says: "no more clients can be registered at the moment",
		fix:  "raise registration.max_clients",
	}
	ruleInitialAccessToken = rule{
		must:    "the request has an initial access token with uses left",
		section: "RFC 7591, section 3", code: oauth.InvalidToken,
		says: "an initial access token is needed: it is missing, expired or used up",
		fix:  "get one from the operator: valetkey registration token",
	}
	ruleRegistrationBody = rule{
		must:    "the body is a JSON object of client metadata",
		section: "RFC 7591, section 3.1", code: oauth.InvalidClientMetadata,
		says: "the body must be application/json, an object of client metadata with each member once and of its type",
		fix:  "send Content-Type: application/json and the members of RFC 7591, section 2",
	}
	ruleClientMetadata = rule{
		must:    "the client metadata is valid and supported",
		section: "RFC 7591, section 2", code: oauth.InvalidClientMetadata,
		fix: "correct the member",
	}
	ruleRegisteredRedirectURI = rule{
		must:    "the redirect URIs may be registered",
		section: "RFC 7591, section 3.2.2", code: oauth.InvalidRedirectURI,
		fix: "correct the redirect URI",
	}
)

// serveRegistration serves the client registration endpoint (RFC 7591, section 3; OpenID Connect
// Registration, section 3). With a client_id in the query, it serves the client configuration
// endpoint of that client (RFC 7592, section 2).
func (c *call) serveRegistration() error {
	if c.r.Method != http.MethodPost || c.r.URL.Query().Has("client_id") {
		return c.manageRegistration()
	}
	err := c.register()
	if e := oauth.AsError(err); e != nil && e.Code == oauth.InvalidToken {
		c.challenge(err)
		return nil
	}
	return err
}

func (c *call) register() error {
	initial, err := c.mayRegister()
	if err != nil {
		return err
	}
	request, err := c.readRegistration()
	if err != nil {
		return err
	}
	client := &record.Client{
		// Longer than a user's subject, so that one cannot be mistaken for the other (RFC 9700,
		// section 4.15).
		ID: "client-" + storage.NewID(),
		Registration: &record.Registration{
			Initial: initial != nil, CreatedAt: c.now.UTC().Truncate(time.Millisecond), UnusedUntil: c.now.Add(c.s.registrationPolicy.UnusedLifetime).UTC().Truncate(time.Millisecond),
		},
	}
	if err := c.fillClient(client, request); err != nil {
		return err
	}
	token := newSecret(prefixRegistrationToken, c.now)
	hash := sha256.Sum256([]byte(token))
	client.Registration.TokenHash = hash[:]
	if err := c.spendInitialAccess(initial); err != nil {
		return err
	}
	err = c.s.config.Store.RegisterClient(c.r.Context(), client, c.s.registrationPolicy.MaxClients)
	if errors.Is(err, record.ErrTooManyClients) {
		return c.refuse(&ruleRegistrationNumber, "")
	}
	if err != nil {
		return err
	}
	if err := c.s.prepareKeysFor(c.r.Context(), client, c.now); err != nil {
		return err
	}
	c.s.events.Record(c.r.Context(), event.ClientRegistered, clientMembers(client), event.Address(c.s.remoteAddr(c.r)))
	return c.writeClient(http.StatusCreated, client, token)
}

// mayRegister checks the mode and the rate limit. Failed requests count too, because they may
// have caused a fetch. An initial access token has its own limit for all addresses together.
func (c *call) mayRegister() (*InitialAccessToken, error) {
	initial, err := c.initialAccess()
	party := ratelimit.NewKey(c.network())
	if initial != nil {
		party = ratelimit.NewKey("initial access token", initial.ID)
	}
	if err := c.pace(party); err != nil {
		return nil, err
	}
	return initial, err
}

func (c *call) pace(party ratelimit.Key) error {
	if wait := c.s.limits.registrationAttempts.Take(c.now, party); wait > 0 {
		return c.tooMany(&ruleRegistrationPace, wait, "")
	}
	return nil
}

// fillClient fills the record with the requested metadata, or refuses it. Values that the policy
// does not allow are left out, and the response has the result (RFC 7591, section 2).
func (c *call) fillClient(client *record.Client, request *registrationRequest) error {
	catalogue, err := c.catalogue()
	if err != nil {
		return err
	}
	r := client.Registration
	r.Localized, r.SoftwareStatement = request.localized, request.SoftwareStatement
	// After a replacement, an initial access token still vouches for the client. A software
	// statement vouches only for the request that it is sent with.
	r.Vouched = request.hasStatement || r.Initial
	m := request.ClientMetadata
	client.ClientMetadata = m
	problems := c.s.limitRegistered(client, c.s.registrationPolicy)
	m = client.ClientMetadata
	client.InsecureNoCodeChallenge = c.s.registrationPolicy.InsecureNoCodeChallenge
	client.InsecureAssertionAudience = c.s.registrationPolicy.InsecureAssertionAudience
	if len(client.Secrets) == 0 && needsSecret(&m) {
		client.Secrets = []string{newSecret(prefixClientSecret, c.now)}
	}
	problems = append(problems, c.s.registeredProblems(client, catalogue)...)
	if len(problems) == 0 {
		if problem := c.s.checkSector(c.r.Context(), &m); problem != nil {
			problems = append(problems, *problem)
		}
	}
	if len(problems) == 0 {
		return c.must(true, &ruleClientMetadata)
	}
	return c.refuseMetadata(problems...)
}

// limitRegistered limits the metadata of a client that registers itself to what a policy allows,
// and fills in the defaults.
func (s *Server) limitRegistered(client *record.Client, policy RegistrationPolicy) []ClientProblem {
	m := &client.ClientMetadata
	problems := policy.limit(m, client.Registration.Vouched)
	client.Profile = policy.Profile
	if p, problem := effectiveProfile(client, s.config.Profile); problem == nil {
		p.preset(client)
	}
	*m = m.WithDefaults()
	client.RedirectSchemes = policy.RedirectSchemes
	if kept := registrable(client, m.RedirectURIs); len(kept) > 0 {
		m.RedirectURIs = kept
	} // else they are refused, with the reason
	m.PostLogoutRedirectURIs = registrable(client, m.PostLogoutRedirectURIs)
	return problems
}

// registrable returns the redirect URIs that can be registered. The response has them (RFC 7591,
// section 3.2.1). A client may send the URIs of all its applications: if the scheme of one is
// refused, the others must still work.
func registrable(c *record.Client, uris []string) []string {
	return slices.DeleteFunc(slices.Clone(uris), func(uri string) bool {
		return oauth.CheckRedirectURI(uri, c.ApplicationType, c.RedirectSchemes...) != nil
	})
}

// registeredProblems returns the problems of a client that registers itself.
func (s *Server) registeredProblems(client *record.Client, catalogue *catalogue) []ClientProblem {
	m := &client.ClientMetadata
	var problems []ClientProblem
	if client.Profile == "" { // CheckClient checks the client's own
		problems = CheckClientProfile(*client, s.config.Profile)
	}
	problems = slices.Concat(problems, CheckClient(*client), unsupported(m, s.describe(catalogue)))
	if e := m.BackchannelClientNotificationEndpoint; e != "" && !s.outsiderOutgoing.Permits(e) {
		problems = append(problems, ClientProblem{"backchannel_client_notification_endpoint", "its host is not public"})
	}
	if m.ApplicationType == oauth.ApplicationWeb && m.HasGrantType(oauth.GrantTypeImplicit) {
		for _, uri := range m.RedirectURIs {
			if strings.HasPrefix(uri, "http:") {
				problems = append(problems, ClientProblem{"redirect_uris", "a web client of the implicit grant may have https URIs only (OpenID Connect Registration, section 2)"})
			}
		}
	}
	return problems
}

// refuseMetadata refuses client metadata. The response has one problem, preferably one of a
// redirect URI; the trace has all of them.
func (c *call) refuseMetadata(problems ...ClientProblem) error {
	broken, first := &ruleClientMetadata, problems[0]
	var all []string
	for _, p := range problems {
		if all = append(all, p.String()); broken != &ruleRegisteredRedirectURI && strings.HasPrefix(p.Member, "redirect_uris") {
			broken, first = &ruleRegisteredRedirectURI, p
		}
	}
	err := c.refuse(broken, strings.Join(all, "; "))
	oauth.AsError(err).Description = oauth.NewError(broken.code, clip(first.String())).Description
	return err
}

// allowedScope returns the largest scope that a client may register.
func (p RegistrationPolicy) allowedScope() oauth.Scope {
	if p.Scope != nil {
		return p.Scope
	}
	var scope oauth.Scope
	for _, standard := range standardScopes() {
		scope = append(scope, standard.Name)
	}
	return scope
}

// limit removes what registration does not allow: scopes that are not in the policy, and grant
// types that are unknown, that only an operator can allow, or that no response type needs.
func (p RegistrationPolicy) limit(m *oauth.ClientMetadata, vouched bool) (problems []ClientProblem) {
	if asked, err := oauth.ParseScope(m.Scope); err == nil {
		allowed := p.allowedScope()
		if asked == nil {
			asked = allowed
		}
		// A record without a scope would allow all scopes.
		if m.Scope = asked.Intersect(allowed).String(); m.Scope == "" {
			problems = append(problems, ClientProblem{"scope", "none of these scopes is allowed for clients that register themselves"})
		}
	}
	if m.ResponseTypes == nil && (m.GrantTypes == nil || m.HasGrantType(oauth.GrantTypeAuthorizationCode)) {
		m.ResponseTypes = []string{"code"}
	}
	var grants []string
	for _, name := range m.ResponseTypes {
		t, _ := oauth.ParseResponseType(name)
		if t.Code && !slices.Contains(grants, oauth.GrantTypeAuthorizationCode) {
			grants = append(grants, oauth.GrantTypeAuthorizationCode)
		}
		if t.FrontChannel() && !slices.Contains(grants, oauth.GrantTypeImplicit) {
			grants = append(grants, oauth.GrantTypeImplicit)
		}
	}
	for _, name := range []string{oauth.GrantTypeRefreshToken, oauth.GrantTypeClientCredentials, oauth.GrantTypeCIBA} {
		// APIs that require no scope would accept a client_credentials token of a stranger, and a
		// stranger with CIBA could send requests to any user.
		if m.HasGrantType(name) && (name == oauth.GrantTypeRefreshToken || vouched) {
			grants = append(grants, name)
		}
	}
	m.GrantTypes = grants
	return problems
}

// needsSecret reports whether anything that the client registers for needs a secret.
func needsSecret(m *oauth.ClientMetadata) bool {
	if strings.HasPrefix(m.TokenEndpointAuthMethod, "client_secret_") {
		return true
	}
	for _, algorithm := range []string{m.IDTokenSignedResponseAlg, m.UserinfoSignedResponseAlg, m.AuthorizationSignedResponseAlg, m.IntrospectionSignedResponseAlg, m.RequestObjectSigningAlg} {
		if strings.HasPrefix(algorithm, "HS") {
			return true
		}
	}
	for _, algorithm := range []string{m.IDTokenEncryptedResponseAlg, m.UserinfoEncryptedResponseAlg, m.AuthorizationEncryptedResponseAlg, m.IntrospectionEncryptedResponseAlg, m.RequestObjectEncryptionAlg} {
		if encryptsWithSecret(jose.Algorithm(algorithm)) {
			return true
		}
	}
	return false
}

func (c *call) writeClient(status int, client *record.Client, token string) error {
	information := oauth.ClientInformation{
		ClientID: client.ID, ClientIDIssuedAt: client.Registration.CreatedAt.Unix(), RegistrationAccessToken: token,
		RegistrationClientURI: c.s.config.Issuer + registrationPath + "?client_id=" + url.QueryEscape(client.ID),
		SoftwareStatement:     client.Registration.SoftwareStatement, ClientMetadata: client.ClientMetadata,
	}
	if len(client.Secrets) > 0 {
		information.ClientSecret, information.ClientSecretExpiresAt = client.Secrets[0], new(int64)
	}
	if len(client.Registration.Localized) == 0 {
		return writeJSON(c.w, status, information)
	}
	encoded, err := json.Marshal(information)
	if err != nil {
		return fmt.Errorf("encode client: %w", err)
	}
	members := map[string]any{}
	if err := json.Unmarshal(encoded, &members); err != nil {
		return fmt.Errorf("encode client: %w", err)
	}
	for name, text := range client.Registration.Localized {
		members[name] = text
	}
	return writeJSON(c.w, status, members)
}

// useClient records the first use of a client that registered itself, so that it is kept.
func (c *call) useClient() error {
	r := c.client.Registration
	if r == nil || r.UnusedUntil.IsZero() || c.client.usedBefore.Load() {
		return nil
	}
	err := c.s.config.Store.UpdateClient(c.r.Context(), c.client.ID, func(stored *record.Client) error {
		if !active(stored, c.now) {
			return storage.ErrNotFound
		}
		if stored.Registration != nil {
			stored.Registration.UnusedUntil = time.Time{}
		}
		return nil
	})
	if errors.Is(err, storage.ErrNotFound) { // just removed
		c.s.forget()
		if c.endpoint.page {
			return c.refuse(&ruleClientKnown, "client_id: "+c.client.ID)
		}
		return c.because(&ruleClientCredentials, errUnknownClient)
	}
	if err != nil {
		return fmt.Errorf("record the first use of a client: %w", err)
	}
	c.client.usedBefore.Store(true)
	return nil
}

var (
	ruleRegistrationToken = rule{
		must:    "the request has the registration access token of the client in client_id",
		section: "RFC 7592, section 2", code: oauth.InvalidToken,
		says: "the registration access token is missing, or belongs to another client",
		fix:  "send Authorization: Bearer with the registration_access_token of the registration",
	}
	ruleReplacement = rule{
		must:    "a replacement names the client, and its current secret if it names one",
		section: "RFC 7592, section 2.2", code: oauth.InvalidClientMetadata,
		says: "client_id or client_secret in the body is not that of this client",
		fix:  "send the client_id, and the client_secret that was issued, or none",
	}
)

// manageRegistration serves the client configuration endpoint (RFC 7592, section 2), where a
// client reads, replaces or deletes its own registration.
func (c *call) manageRegistration() error {
	client, token, err := c.registeredClient()
	if oauth.AsError(err) != nil {
		c.challenge(err)
		return nil
	}
	if err != nil {
		return err
	}
	switch c.r.Method {
	case http.MethodPut:
		return c.replaceClient(client, token)
	case http.MethodDelete:
		if err := c.s.config.Store.DeleteClient(c.r.Context(), client.ID); err != nil {
			return fmt.Errorf("delete client: %w", err)
		}
		c.s.forget()
		c.s.events.Record(c.r.Context(), event.ClientDeleted, clientMembers(client), event.Address(c.s.remoteAddr(c.r)))
		noStore(c.w)
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return c.writeClient(http.StatusOK, client, token)
}

// registeredClient returns the client that a registration access token belongs to. An unknown
// client gets the same response as a wrong token (RFC 7592, section 2.1).
func (c *call) registeredClient() (*record.Client, string, error) {
	p, err := c.parseParams(c.r.URL.RawQuery)
	if err != nil {
		return nil, "", err
	}
	token, err := c.bearerToken()
	if err != nil {
		return nil, "", err
	}
	if !isSecret(prefixRegistrationToken, token) {
		return nil, "", c.refuse(&ruleRegistrationToken, "malformed")
	}
	client, err := c.s.config.Store.Client(c.r.Context(), p.get("client_id"))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, "", c.refuse(&ruleRegistrationToken, "there is no such client")
	}
	if err != nil {
		return nil, "", fmt.Errorf("read client: %w", err)
	}
	hash := sha256.Sum256([]byte(token))
	if !active(client, c.now) || client.Registration == nil || subtle.ConstantTimeCompare(hash[:], client.Registration.TokenHash) != 1 {
		return nil, "", c.refuse(&ruleRegistrationToken, "not the token of "+client.ID)
	}
	return client, token, c.must(true, &ruleRegistrationToken)
}

// replaceClient replaces the client's metadata. Members that are left out get their default (RFC
// 7592, section 2.2).
func (c *call) replaceClient(client *record.Client, token string) error {
	// Rate-limited, because each replacement makes all nodes reload their catalogue.
	if err := c.pace(ratelimit.NewKey(c.network())); err != nil {
		return err
	}
	request, err := c.readRegistration()
	if err != nil {
		return err
	}
	secret := ""
	if len(client.Secrets) > 0 {
		secret = client.Secrets[0]
	}
	if request.ClientID != client.ID || request.ClientSecret != "" && subtle.ConstantTimeCompare([]byte(request.ClientSecret), []byte(secret)) != 1 {
		return c.refuse(&ruleReplacement, "client_id: "+request.ClientID)
	}
	if !needsSecret(&request.ClientMetadata) && request.TokenEndpointAuthMethod != "" {
		client.Secrets = nil
	}
	if err := c.fillClient(client, request); err != nil {
		return err
	}
	err = c.s.config.Store.UpdateClient(c.r.Context(), client.ID, func(stored *record.Client) error {
		if stored.Registration == nil || !active(stored, c.now) || !bytes.Equal(stored.Registration.TokenHash, client.Registration.TokenHash) {
			return storage.ErrNotFound // changed in the meantime
		}
		replaceMetadata(stored, client)
		*client = *stored
		return nil
	})
	if errors.Is(err, storage.ErrNotFound) {
		return c.refuse(&ruleRegistrationToken, "the client is gone")
	}
	if err != nil {
		return fmt.Errorf("replace client: %w", err)
	}
	if err := c.s.prepareKeysFor(c.r.Context(), client, c.now); err != nil {
		return err
	}
	c.s.forget()
	return c.writeClient(http.StatusOK, client, token)
}

// replaceMetadata copies the values of a replacement into the stored client. It keeps the
// current values of everything else: whether the client was used, and the operator's settings.
func replaceMetadata(stored, replacement *record.Client) {
	stored.ClientMetadata = replacement.ClientMetadata
	stored.RedirectSchemes, stored.Profile = replacement.RedirectSchemes, replacement.Profile
	stored.InsecureNoCodeChallenge = replacement.InsecureNoCodeChallenge
	stored.InsecureAssertionAudience = replacement.InsecureAssertionAudience
	if len(replacement.Secrets) == 0 || len(stored.Secrets) == 0 {
		stored.Secrets = replacement.Secrets
	}
	r := stored.Registration
	r.Localized, r.SoftwareStatement, r.Vouched = replacement.Registration.Localized, replacement.Registration.SoftwareStatement, replacement.Registration.Vouched
}
