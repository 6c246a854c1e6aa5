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
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// Bounds on what a client registers, so that no page or list is buried by it.
const (
	maxClientName    = 100 // characters
	maxClientEntries = 100 // of an array
	maxLocalized     = 50
)

// registrationRequest is what a client says of itself. Members that are not known are
// ignored (RFC 7591, section 2), and Valetkey's own settings are not among the known.
type registrationRequest struct {
	oauth.ClientMetadata
	// localized are the human-readable members with a language tag, such as
	// "client_name#ja" (RFC 7591, section 2.2).
	localized         map[string]string
	SoftwareStatement string `json:"software_statement"`
	stated            bool   // a software statement of a trusted issuer is part of it
	// In a replacement (RFC 7592, section 2.2).
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// readRegistration reads the body, and what a software statement says in its place.
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
	if problem := request.bounded(); problem != nil {
		return nil, c.refuseMetadata(*problem)
	}
	return request, nil
}

// readJSON reads the body of a request to an endpoint that takes JSON; r is the rule
// that it must be that.
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

// read takes the members of a document, in the place of what was read before. A null
// counts as left out (RFC 7592, section 2.2). The error is that of the whole document; the
// problem that of a member.
func (request *registrationRequest) read(document []byte) (*ClientProblem, error) {
	var members map[string]json.RawMessage
	if err := jose.ParseJSON(document, &members); err != nil {
		return nil, err
	}
	if members == nil {
		return nil, errors.New("it is not an object")
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
		// One at a time, so that the member which is not of its type can be named.
		one, err := json.Marshal(map[string]json.RawMessage{name: value})
		if err != nil {
			return nil, fmt.Errorf("read member: %w", err)
		}
		if err := jose.ParseJSON(one, request); err != nil {
			return &ClientProblem{clip(name), "it is not of its type"}, nil
		}
	}
	return nil, nil
}

// localizedMembers are those that people read (OpenID Connect Registration, section 2.1).
func localizedMembers() []string {
	return []string{"client_name", "client_uri", "logo_uri", "tos_uri", "policy_uri"}
}

// languageTag is the form of the tags of BCP 47, without their registry.
var languageTag = regexp.MustCompile(`^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8}){0,7}$`)

// localize keeps a member in another language. What has no text or no language is ignored,
// as what is not known is.
func (request *registrationRequest) localize(base, tag string, value json.RawMessage) *ClientProblem {
	var text string
	if json.Unmarshal(value, &text) != nil || text == "" || !languageTag.MatchString(tag) {
		return nil
	}
	switch {
	case base == "client_name" && len([]rune(text)) > maxClientName:
		return &ClientProblem{base, fmt.Sprintf("a name has at most %d characters", maxClientName)}
	case base != "client_name" && !isWebAddress(text):
		return &ClientProblem{base, "it is not an https URL, in one of the languages"}
	case len(request.localized) == maxLocalized:
		return &ClientProblem{base, fmt.Sprintf("there are more than %d members with a language", maxLocalized)}
	case request.localized == nil:
		request.localized = map[string]string{}
	}
	request.localized[base+"#"+tag] = text
	return nil
}

func (request *registrationRequest) bounded() *ClientProblem {
	if len([]rune(request.ClientName)) > maxClientName {
		return &ClientProblem{"client_name", fmt.Sprintf("a name has at most %d characters", maxClientName)}
	}
	for _, member := range [...]struct {
		name string
		n    int
	}{
		{"redirect_uris", len(request.RedirectURIs)}, {"post_logout_redirect_uris", len(request.PostLogoutRedirectURIs)},
		{"request_uris", len(request.RequestURIs)}, {"contacts", len(request.Contacts)}, {"grant_types", len(request.GrantTypes)},
		{"response_types", len(request.ResponseTypes)}, {"default_acr_values", len(request.DefaultACRValues)},
	} {
		if member.n > maxClientEntries {
			return &ClientProblem{member.name, fmt.Sprintf("there are more than %d", maxClientEntries)}
		}
	}
	return nil
}

// unsupported lists what the client asks for and the server's own metadata does not offer.
func unsupported(m *oauth.ClientMetadata, server *oauth.ServerMetadata) (problems []ClientProblem) {
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
		{"userinfo_encrypted_response_alg", m.UserinfoEncryptedResponseAlg, server.UserinfoEncryptionAlgValuesSupported},
		{"userinfo_encrypted_response_enc", m.UserinfoEncryptedResponseEnc, server.UserinfoEncryptionEncValuesSupported},
		{"request_object_signing_alg", m.RequestObjectSigningAlg, server.RequestObjectSigningAlgValuesSupported},
		{"request_object_encryption_alg", m.RequestObjectEncryptionAlg, server.RequestObjectEncryptionAlgValuesSupported},
		{"request_object_encryption_enc", m.RequestObjectEncryptionEnc, server.RequestObjectEncryptionEncValuesSupported},
	} {
		if member.value != "" && !slices.Contains(member.offered, member.value) {
			problems = append(problems, ClientProblem{member.name, fmt.Sprintf("%q is not supported by this server", member.value)})
		}
	}
	return problems
}

// SoftwareStatementIssuer is an issuer whose software statements are accepted (RFC 7591, section
// 2.3), with its public keys: JWKS, or JWKSURI, from which they are fetched.
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
		return c.because(&ruleSoftwareStatement, errors.New("it has expired, or is not valid yet"))
	}
	if len(claims.Audience) > 0 && !slices.Contains(claims.Audience, c.s.config.Issuer) {
		return c.because(&ruleSoftwareStatement, errors.New("it is for another audience"))
	}
	// It speaks of the software, not of this client.
	clientID, clientSecret := request.ClientID, request.ClientSecret
	problem, err := request.read(payload)
	if err != nil {
		return c.because(&ruleSoftwareStatement, err)
	}
	if problem != nil {
		return c.refuseMetadata(*problem)
	}
	request.ClientID, request.ClientSecret, request.SoftwareStatement = clientID, clientSecret, statement
	request.stated = true
	return c.must(true, &ruleSoftwareStatement)
}

// newStatementIssuers prepares the keys of those whose statements count.
func (s *Server) newStatementIssuers() map[string]*client {
	issuers := map[string]*client{}
	for _, i := range s.registrationPolicy.SoftwareStatements {
		issuers[i.Issuer] = s.newClient(&record.Client{ID: i.Issuer, ClientMetadata: oauth.ClientMetadata{JWKS: i.JWKS, JWKSURI: i.JWKSURI}})
	}
	return issuers
}

// The prefixes of what registration gives out.
const (
	prefixRegistrationToken = "vk_ra_"
	prefixInitialToken      = "vk_ia_"
	// As long as it is, a client secret has the 64 bytes that HS512 asks for (RFC 7518,
	// section 3.2).
	prefixClientSecret = "vk_secret_"
)

// An initial access token (RFC 7591, section 3) is a ticket that says what it is for, and
// one more ticket for each registration that it is good for.
const (
	// familyInitialTokens holds the tickets of the first kind, so that they can be listed.
	familyInitialTokens = "initial access tokens"

	// MaxInitialAccessTokenUses is how many registrations one token can be good for.
	MaxInitialAccessTokenUses = 1000
	// maxInitialTokens is how many of them are looked through.
	maxInitialTokens = 1000
)

// InitialAccessToken lets its bearer register clients.
type InitialAccessToken struct {
	// ID names the token; it is no secret.
	ID string `json:"id"`
	// Note is the operator's, to know the token again.
	Note      string    `json:"note,omitempty"`
	Uses      int       `json:"uses"`
	Left      int       `json:"left"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (t *InitialAccessToken) family() string { return "initial access token " + t.ID }

// NewInitialAccessToken stores a new token with the Note, Uses and ExpiresAt of t, and
// returns the secret, which is not stored.
func NewInitialAccessToken(ctx context.Context, store storage.Tickets, now time.Time, t InitialAccessToken) (string, error) {
	if t.Uses < 1 || t.Uses > MaxInitialAccessTokenUses {
		return "", fmt.Errorf("an initial access token may have 1 to %d uses", MaxInitialAccessTokenUses)
	}
	if !t.ExpiresAt.After(now) {
		return "", errors.New("the expiry of an initial access token must be in the future")
	}
	secret := newSecret(prefixInitialToken, now)
	t.ID, t.Left, t.CreatedAt = newReference(), 0, now.UTC().Truncate(time.Millisecond)
	data, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("encode initial access token: %w", err)
	}
	tickets := []storage.Ticket{{Key: ticketkind.InitialAccessToken.Hash(secret), Family: familyInitialTokens, Data: data, Expires: t.ExpiresAt}}
	for range t.Uses {
		tickets = append(tickets, storage.Ticket{Key: ticketkind.InitialAccessTokenUse.Hash(storage.NewID()), Family: t.family(), Expires: t.ExpiresAt})
	}
	if err := store.Put(ctx, now, tickets...); err != nil {
		return "", fmt.Errorf("store initial access token: %w", err)
	}
	return secret, nil
}

// InitialAccessTokens lists the tokens that have not expired, at most a thousand.
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

// RevokeInitialAccessToken ends a token by its ID; storage.ErrNotFound if there is none.
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
		if err := store.Delete(ctx, ticket.Key); err != nil {
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

// initialAccess finds the initial access token of a registration, which one that is open
// need not have; nil if there is none.
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
		return nil, c.refuse(&ruleInitialAccessToken, "it is not in the database: expired, revoked, or never issued")
	}
	if err != nil {
		return nil, fmt.Errorf("look up initial access token: %w", err)
	}
	return readInitialToken(ticket)
}

// spendInitialAccess uses up one registration. It comes last, so that a mistake in the
// metadata costs nothing.
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
			return c.refuse(&ruleInitialAccessToken, "it has no uses left: "+t.ID)
		}
		// Any of them, so that those who come at once seldom meet.
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
