package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// Limits of what a client registers, so that it fits on pages and in lists.
const (
	maxClientName    = 100 // characters
	maxClientEntries = 100 // of an array
	maxLocalized     = 50
)

// registrationRequest is the body of a registration request. Unknown members are ignored (RFC
// 7591, section 2), and so are Valetkey's own settings.
type registrationRequest struct {
	oauth.ClientMetadata
	// localized has the human-readable members with a language tag, such as
	// "client_name#ja" (RFC 7591, section 2.2).
	localized         map[string]string
	SoftwareStatement string `json:"software_statement"`
	hasStatement      bool   // the software statement of a trusted issuer was applied
	// ClientID and ClientSecret are sent in a replacement (RFC 7592, section 2.2).
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// readRegistration reads the body and applies its software statement.
func (c *call) readRegistration() (*registrationRequest, error) {
	body, err := c.readJSON(&ruleRegistrationBody)
	if err != nil {
		return nil, err
	}
	request := &registrationRequest{}
	problem, err := request.read(body)
	if err != nil {
		return nil, c.because(&ruleRegistrationBody, err)
	}
	if problem != nil {
		return nil, c.refuseMetadata(*problem)
	}
	if err := c.applySoftwareStatement(request); err != nil {
		return nil, err
	}
	if problem := request.checkSizes(); problem != nil {
		return nil, c.refuseMetadata(*problem)
	}
	return request, nil
}

// readJSON reads a JSON request body. r is the rule that is broken if the body is not JSON.
func (c *call) readJSON(r *rule) ([]byte, error) {
	if !isMediaType(c.r.Header.Get("Content-Type"), "application/json") {
		return nil, c.refuse(r, "Content-Type: "+c.r.Header.Get("Content-Type"))
	}
	body, err := readBody(http.MaxBytesReader(c.w, c.r.Body, maxFormBytes), min(c.r.ContentLength, maxFormBytes))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge || c.r.ContentLength > maxFormBytes {
		return nil, c.tooLarge()
	}
	if err != nil {
		return nil, c.because(r, err)
	}
	return body, nil
}

// read reads the members of a document and replaces members that were read before. null is the
// same as a missing member (RFC 7592, section 2.2). The error is about the whole document, the
// problem about one member.
func (request *registrationRequest) read(document []byte) (*ClientProblem, error) {
	var members map[string]json.RawMessage
	if err := jose.ParseJSON(document, &members); err != nil {
		return nil, err
	}
	if members == nil {
		return nil, errors.New("not a JSON object")
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		value := members[name]
		if string(value) == "null" {
			continue
		}
		if base, tag, tagged := strings.Cut(name, "#"); tagged && slices.Contains(localizedMembers(), base) {
			if problem := request.localize(base, tag, value); problem != nil {
				return problem, nil
			}
			continue
		}
		// Members are parsed one at a time, so that an error can name the member.
		one, err := json.Marshal(map[string]json.RawMessage{name: value})
		if err != nil {
			return nil, fmt.Errorf("read member: %w", err)
		}
		if err := jose.ParseJSON(one, request); err != nil {
			return &ClientProblem{clip(name), "the value has the wrong type"}, nil
		}
	}
	return nil, nil
}

// localizedMembers returns the human-readable members (OpenID Connect Registration, section 2.1).
func localizedMembers() []string {
	return []string{"client_name", "client_uri", "logo_uri", "tos_uri", "policy_uri"}
}

// languageTag matches the syntax of BCP 47. It does not check the registry.
var languageTag = regexp.MustCompile(`^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8}){0,7}$`)

// localize stores a member in another language. A member without a text or with an invalid
// language tag is ignored, like an unknown member.
func (request *registrationRequest) localize(base, tag string, value json.RawMessage) *ClientProblem {
	var text string
	if json.Unmarshal(value, &text) != nil || text == "" || !languageTag.MatchString(tag) {
		return nil
	}
	switch {
	case base == "client_name" && len([]rune(text)) > maxClientName:
		return &ClientProblem{base, fmt.Sprintf("a name may have at most %d characters", maxClientName)}
	case base != "client_name" && !isWebAddress(text):
		return &ClientProblem{base, "must be an https URL in each language"}
	case len(request.localized) == maxLocalized:
		return &ClientProblem{base, fmt.Sprintf("at most %d members may have a language tag", maxLocalized)}
	case request.localized == nil:
		request.localized = map[string]string{}
	}
	request.localized[base+"#"+tag] = text
	return nil
}

func (request *registrationRequest) checkSizes() *ClientProblem {
	if len([]rune(request.ClientName)) > maxClientName {
		return &ClientProblem{"client_name", fmt.Sprintf("a name may have at most %d characters", maxClientName)}
	}
	for _, member := range [...]struct {
		name string
		n    int
	}{
		{"redirect_uris", len(request.RedirectURIs)}, {"post_logout_redirect_uris", len(request.PostLogoutRedirectURIs)},
		{"request_uris", len(request.RequestURIs)}, {"contacts", len(request.Contacts)}, {"grant_types", len(request.GrantTypes)},
		{"response_types", len(request.ResponseTypes)}, {"default_acr_values", len(request.DefaultACRValues)},
		{"authorization_details_types", len(request.AuthorizationDetailsTypes)},
	} {
		if member.n > maxClientEntries {
			return &ClientProblem{member.name, fmt.Sprintf("may have at most %d entries, got %d", maxClientEntries, member.n)}
		}
	}
	return nil
}

// unsupported returns a problem for each requested value that is not in the server's metadata.
func unsupported(m *oauth.ClientMetadata, server *oauth.ServerMetadata) (problems []ClientProblem) {
	if m.TLSClientCertificateBoundAccessTokens && !server.TLSClientCertificateBoundAccessTokens {
		problems = append(problems, ClientProblem{"tls_client_certificate_bound_access_tokens", "this server does not use client certificates"})
	}
	for _, member := range [...]struct {
		name, value string
		offered     []string
	}{
		{"token_endpoint_auth_method", m.TokenEndpointAuthMethod, server.TokenEndpointAuthMethodsSupported},
		{"token_endpoint_auth_signing_alg", m.TokenEndpointAuthSigningAlg, server.TokenEndpointAuthSigningAlgValuesSupported},
		{"subject_type", m.SubjectType, server.SubjectTypesSupported},
		{"id_token_signed_response_alg", m.IDTokenSignedResponseAlg, server.IDTokenSigningAlgValuesSupported},
		{"id_token_encrypted_response_alg", m.IDTokenEncryptedResponseAlg, server.IDTokenEncryptionAlgValuesSupported},
		{"id_token_encrypted_response_enc", m.IDTokenEncryptedResponseEnc, server.IDTokenEncryptionEncValuesSupported},
		{"userinfo_signed_response_alg", m.UserinfoSignedResponseAlg, server.UserinfoSigningAlgValuesSupported},
		{"authorization_signed_response_alg", m.AuthorizationSignedResponseAlg, server.AuthorizationSigningAlgValuesSupported},
		{"authorization_encrypted_response_alg", m.AuthorizationEncryptedResponseAlg, server.AuthorizationEncryptionAlgValuesSupported},
		{"authorization_encrypted_response_enc", m.AuthorizationEncryptedResponseEnc, server.AuthorizationEncryptionEncValuesSupported},
		{"introspection_signed_response_alg", m.IntrospectionSignedResponseAlg, server.IntrospectionSigningAlgValuesSupported},
		{"introspection_encrypted_response_alg", m.IntrospectionEncryptedResponseAlg, server.IntrospectionEncryptionAlgValuesSupported},
		{"introspection_encrypted_response_enc", m.IntrospectionEncryptedResponseEnc, server.IntrospectionEncryptionEncValuesSupported},
		{"userinfo_encrypted_response_alg", m.UserinfoEncryptedResponseAlg, server.UserinfoEncryptionAlgValuesSupported},
		{"userinfo_encrypted_response_enc", m.UserinfoEncryptedResponseEnc, server.UserinfoEncryptionEncValuesSupported},
		{"request_object_signing_alg", m.RequestObjectSigningAlg, server.RequestObjectSigningAlgValuesSupported},
		{"backchannel_authentication_request_signing_alg", m.BackchannelAuthenticationRequestSigningAlg, server.BackchannelAuthenticationRequestSigningAlgValuesSupported},
		{"backchannel_token_delivery_mode", m.BackchannelTokenDeliveryMode, server.BackchannelTokenDeliveryModesSupported},
		{"request_object_encryption_alg", m.RequestObjectEncryptionAlg, server.RequestObjectEncryptionAlgValuesSupported},
		{"request_object_encryption_enc", m.RequestObjectEncryptionEnc, server.RequestObjectEncryptionEncValuesSupported},
	} {
		if member.value != "" && !slices.Contains(member.offered, member.value) {
			problems = append(problems, ClientProblem{member.name, fmt.Sprintf("%q is not supported by this server", member.value)})
		}
	}
	for _, name := range m.AuthorizationDetailsTypes {
		if !slices.Contains(server.AuthorizationDetailsTypesSupported, name) {
			problems = append(problems, ClientProblem{"authorization_details_types", fmt.Sprintf("%q is not supported by this server", name)})
		}
	}
	return problems
}

// SoftwareStatementIssuer is an issuer whose software statements are accepted (RFC 7591, section
// 2.3). JWKS has its public keys, or JWKSURI is their URL.
type SoftwareStatementIssuer struct {
	Issuer  string          `json:"issuer"`
	JWKS    json.RawMessage `json:"jwks,omitempty"`
	JWKSURI string          `json:"jwks_uri,omitempty"`
}

var (
	ruleSoftwareStatement = rule{
		must:    "the software statement is a JWT that its issuer signed and that has not expired",
		section: "RFC 7591, section 3.2.2", code: oauth.InvalidSoftwareStatement,
		says: "software_statement cannot be verified",
		fix:  "send the statement unchanged",
	}
	ruleSoftwareStatementIssuer = rule{
		must:    "the issuer of the software statement is trusted",
		section: "RFC 7591, section 3.2.2", code: oauth.UnapprovedSoftwareStatement,
		says: "software_statement is missing, or its issuer is not trusted",
		fix:  "add the issuer to registration.software_statements",
	}
)

// applySoftwareStatement replaces the client's metadata with that of its software statement (RFC
// 7591, section 2.3).
func (c *call) applySoftwareStatement(request *registrationRequest) error {
	statement := request.SoftwareStatement
	if statement == "" {
		return c.must(!c.s.registrationPolicy.RequireSoftwareStatement, &ruleSoftwareStatementIssuer)
	}
	payload, err := jose.UnverifiedPayload(statement)
	if err != nil {
		return c.because(&ruleSoftwareStatement, err)
	}
	claims, err := jose.ParseClaims(payload, nil)
	if err != nil {
		return c.because(&ruleSoftwareStatement, err)
	}
	issuer, ok := c.s.statementIssuers[claims.Issuer]
	if !ok {
		return c.refuse(&ruleSoftwareStatementIssuer, "iss: "+claims.Issuer)
	}
	if payload, err = verifyWithClientKeys(c.r.Context(), c.now, issuer, statement, jose.Expected{
		Algorithms: signingAlgorithms(), Types: []string{"", "JWT", "software-statement+jwt"},
	}); err != nil {
		return c.because(&ruleSoftwareStatement, err)
	}
	if !claims.Expires.IsZero() && !c.now.Before(claims.Expires.Add(clockSkew)) || claims.NotBefore.Sub(c.now) > clockSkew {
		return c.because(&ruleSoftwareStatement, errors.New("expired, or not valid yet"))
	}
	if len(claims.Audience) > 0 && !slices.Contains(claims.Audience, c.s.config.Issuer) {
		return c.because(&ruleSoftwareStatement, errors.New("aud does not contain this server's issuer identifier"))
	}
	// A statement is about the software, not about this client, so it cannot set these members.
	clientID, clientSecret := request.ClientID, request.ClientSecret
	problem, err := request.read(payload)
	if err != nil {
		return c.because(&ruleSoftwareStatement, err)
	}
	if problem != nil {
		return c.refuseMetadata(*problem)
	}
	request.ClientID, request.ClientSecret, request.SoftwareStatement = clientID, clientSecret, statement
	request.hasStatement = true
	return c.must(true, &ruleSoftwareStatement)
}

// newStatementIssuers returns the trusted issuers of software statements with their keys.
func (s *Server) newStatementIssuers() map[string]*client {
	issuers := map[string]*client{}
	for _, i := range s.registrationPolicy.SoftwareStatements {
		issuers[i.Issuer] = s.newClient(&record.Client{ID: i.Issuer, ClientMetadata: oauth.ClientMetadata{JWKS: i.JWKS, JWKSURI: i.JWKSURI}})
	}
	return issuers
}

// The prefixes of the secrets that registration issues.
const (
	prefixRegistrationToken = "vk_ra_"
	prefixInitialToken      = "vk_ia_"
	// The prefix makes a client secret 64 bytes long, as HS512 requires (RFC 7518, section 3.2).
	prefixClientSecret = "vk_secret_"
)

// An initial access token (RFC 7591, section 3) is stored as a ticket that describes it, and one
// more ticket for each of its uses.
const (
	// familyInitialTokens is the family of the tickets that describe tokens, for listing them.
	familyInitialTokens = "initial access tokens"

	// MaxInitialAccessTokenUses is the maximum of InitialAccessToken.Uses.
	MaxInitialAccessTokenUses = 1000
	// maxInitialTokens limits how many tokens are listed or searched.
	maxInitialTokens = 1000
)

// InitialAccessToken allows its bearer to register clients.
type InitialAccessToken struct {
	// ID identifies the token. It is not a secret.
	ID string `json:"id"`
	// Note is the operator's description of the token.
	Note      string    `json:"note,omitempty"`
	Uses      int       `json:"uses"`
	Left      int       `json:"left"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (t *InitialAccessToken) family() string { return "initial access token " + t.ID }

// NewInitialAccessToken stores a new token with the Note, Uses and ExpiresAt of t, and returns
// the secret. Only a hash of the secret is stored.
func NewInitialAccessToken(ctx context.Context, store storage.Tickets, now time.Time, t InitialAccessToken) (string, error) {
	if t.Uses < 1 || t.Uses > MaxInitialAccessTokenUses {
		return "", fmt.Errorf("an initial access token may have 1 to %d uses", MaxInitialAccessTokenUses)
	}
	if !t.ExpiresAt.After(now) {
		return "", errors.New("the expiry of an initial access token must be in the future")
	}
	secret := newSecret(prefixInitialToken, now)
	t.ID, t.Left, t.CreatedAt = audit.NewReference(), 0, now.UTC().Truncate(time.Millisecond)
	data, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("encode initial access token: %w", err)
	}
	tickets := []storage.Ticket{{Key: ticketkind.InitialAccessToken.Hash(secret), Family: familyInitialTokens, Data: data, Expires: t.ExpiresAt}}
	for range t.Uses {
		tickets = append(tickets, storage.Ticket{Key: ticketkind.InitialAccessTokenUse.Hash(storage.NewID()), Family: t.family(), Expires: t.ExpiresAt})
	}
	created := audit.WithRecord(ctx, audit.Record{
		Event: "initial_access_token.created", Object: audit.Object{Kind: audit.ObjectToken, ID: t.ID, Name: t.Note},
		Details: map[string]string{"uses": strconv.Itoa(t.Uses), "expires": t.ExpiresAt.UTC().Format(time.RFC3339)},
	})
	if err := store.Put(created, now, tickets...); err != nil {
		return "", fmt.Errorf("store initial access token: %w", err)
	}
	return secret, nil
}

// InitialAccessTokens returns the tokens that have not expired, at most 1000.
func InitialAccessTokens(ctx context.Context, store storage.Tickets, now time.Time) ([]InitialAccessToken, error) {
	tickets, err := store.FindFamily(ctx, now, familyInitialTokens, ticketkind.InitialAccessToken, maxInitialTokens)
	if err != nil {
		return nil, fmt.Errorf("list initial access tokens: %w", err)
	}
	var tokens []InitialAccessToken
	for _, ticket := range tickets {
		t, err := readInitialToken(ticket)
		if err != nil {
			return nil, err
		}
		uses, err := t.unspent(ctx, store, now)
		if err != nil {
			return nil, err
		}
		t.Left = len(uses)
		tokens = append(tokens, *t)
	}
	return tokens, nil
}

// RevokeInitialAccessToken revokes the token with an ID. It returns storage.ErrNotFound if there
// is none.
func RevokeInitialAccessToken(ctx context.Context, store storage.Tickets, now time.Time, id string) error {
	tickets, err := store.FindFamily(ctx, now, familyInitialTokens, ticketkind.InitialAccessToken, maxInitialTokens)
	if err != nil {
		return fmt.Errorf("find initial access token: %w", err)
	}
	for _, ticket := range tickets {
		t, err := readInitialToken(ticket)
		if err != nil {
			return err
		}
		if t.ID != id {
			continue
		}
		if err := store.DeleteFamily(ctx, t.family(), ticketkind.InitialAccessTokenUse); err != nil {
			return fmt.Errorf("revoke initial access token: %w", err)
		}
		revoked := audit.WithRecord(ctx, audit.Record{Event: "initial_access_token.revoked", Object: audit.Object{Kind: audit.ObjectToken, ID: t.ID, Name: t.Note}})
		if err := store.Delete(revoked, ticket.Key); err != nil {
			return fmt.Errorf("revoke initial access token: %w", err)
		}
		return nil
	}
	return storage.ErrNotFound
}

func readInitialToken(ticket storage.Ticket) (*InitialAccessToken, error) {
	var t InitialAccessToken
	if err := json.Unmarshal(ticket.Data, &t); err != nil {
		return nil, fmt.Errorf("read initial access token: %w", err)
	}
	return &t, nil
}

func (t *InitialAccessToken) unspent(ctx context.Context, store storage.Tickets, now time.Time) (keys []storage.Key, err error) {
	uses, err := store.FindFamily(ctx, now, t.family(), ticketkind.InitialAccessTokenUse, MaxInitialAccessTokenUses)
	if err != nil {
		return nil, fmt.Errorf("read initial access token: %w", err)
	}
	for _, use := range uses {
		if use.Spent.IsZero() {
			keys = append(keys, use.Key)
		}
	}
	return keys, nil
}

// initialAccess returns the initial access token of a registration request. It returns nil if
// there is none and registration is open.
func (c *call) initialAccess() (*InitialAccessToken, error) {
	if c.s.registrationPolicy.Mode == RegistrationOpen && len(c.r.Header["Authorization"]) == 0 {
		return nil, nil
	}
	secret, err := c.bearerToken()
	if err != nil || !isSecret(prefixInitialToken, secret) {
		return nil, c.refuse(&ruleInitialAccessToken, "missing or malformed")
	}
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, ticketkind.InitialAccessToken.Hash(secret))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, c.refuse(&ruleInitialAccessToken, "not in the database: expired, revoked, or never issued")
	}
	if err != nil {
		return nil, fmt.Errorf("look up initial access token: %w", err)
	}
	return readInitialToken(ticket)
}

// spendInitialAccess spends one use of an initial access token. It is called last, so that a
// request with invalid metadata does not cost a use.
func (c *call) spendInitialAccess(t *InitialAccessToken) error {
	if t == nil {
		return nil
	}
	for {
		uses, err := t.unspent(c.r.Context(), c.s.config.Store, c.now)
		if err != nil {
			return err
		}
		if len(uses) == 0 {
			return c.refuse(&ruleInitialAccessToken, "no uses left: "+t.ID)
		}
		// A random one, so that concurrent requests rarely collide.
		err = c.s.config.Store.Spend(c.r.Context(), c.now, []storage.Key{uses[rand.IntN(len(uses))]})
		if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("spend initial access token: %w", err)
		}
		return c.must(true, &ruleInitialAccessToken)
	}
}
