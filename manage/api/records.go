package api

import (
	"encoding/json"
	"time"

	"github.com/valetkey/valetkey/storage/record"
)

// Scope is a scope that clients may request.
type Scope struct {
	// ETag is the version of the record, from and for the headers ETag and If-Match.
	ETag string `json:"-"`

	Name string `json:"name"`
	ScopeMembers
	Origin
}

// ScopeMembers are the members of a scope that can be set.
type ScopeMembers struct {
	Description string   `json:"description,omitempty" maxLength:"1000" doc:"What the scope allows, in plain words for users"`
	Claims      []string `json:"claims,omitempty" doc:"Claims about the user that the scope releases"`
	Optional    bool     `json:"optional,omitempty" doc:"Users can deselect it on the consent page"`
}

// ScopePage is a page of scopes.
type ScopePage struct {
	Scopes []Scope `json:"scopes"`
	Page
}

// Resource is a protected resource, an API.
type Resource struct {
	// ETag is the version of the record, from and for the headers ETag and If-Match.
	ETag string `json:"-"`

	Identifier string `json:"identifier" maxLength:"1024"`
	ResourceMembers
	Origin
}

// ResourceMembers are the members of a resource that can be set. They have the names of a
// configuration file.
type ResourceMembers struct {
	Name                 string          `json:"name,omitempty" maxLength:"255"`
	Scopes               []string        `json:"scopes,omitempty"`
	AccessTokenFormat    string          `json:"access_token_format,omitempty" enum:"jwt,opaque"`
	IntrospectionClients []string        `json:"introspection_clients,omitempty"`
	AccessTokenLifetime  record.Duration `json:"access_token_lifetime,omitzero"`
	StatusList           bool            `json:"status_list,omitempty"`
	AccessTokenClaims    []string        `json:"access_token_claims,omitempty"`
}

// ResourcePage is a page of resources.
type ResourcePage struct {
	Resources []Resource `json:"resources"`
	Page
}

// Origin says where a record comes from.
type Origin struct {
	// DeclaredBy is the file that declares the record, which cannot be changed here then.
	DeclaredBy string     `json:"declared_by,omitempty" doc:"The file that declares the record; it is changed there. \"server\" means that the server itself defines it."`
	RetiredAt  *time.Time `json:"retired_at,omitempty" doc:"When the declaration was removed"`
}

// Section is a part of the configuration that is only in a file.
type Section struct {
	DeclaredBy string                     `json:"declared_by" doc:"The file that is to be changed"`
	Settings   map[string]json.RawMessage `json:"settings" doc:"By the names of the file; secrets are left out"`
}

// Session is a sign-in session of a user.
type Session struct {
	ID         string     `json:"id"`
	AuthTime   time.Time  `json:"auth_time"`
	AMR        []string   `json:"amr" doc:"How the user authenticated (RFC 8176)"`
	ACR        string     `json:"acr,omitempty"`
	UserAgent  string     `json:"user_agent,omitempty"`
	Address    string     `json:"address,omitempty"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty"`
	ExpiresAt  time.Time  `json:"expires_at"`
}

// SessionList has the sessions of a user, at most 100.
type SessionList struct {
	Sessions []Session `json:"sessions"`
}

// Grant is what a user has allowed a client.
type Grant struct {
	ID        string   `json:"id"`
	Subject   string   `json:"sub"`
	ClientID  string   `json:"client_id"`
	Scope     string   `json:"scope"`
	Declined  string   `json:"declined,omitempty" doc:"Optional scopes that the user deselected"`
	Resources []string `json:"resources,omitempty"`
	// AuthorizationDetails are the latest that the user allowed (RFC 9396), the oldest first.
	AuthorizationDetails []GrantedDetail `json:"authorization_details,omitempty" doc:"The latest authorization details that the user allowed (RFC 9396), the oldest first"`
	EarlierDetails       bool            `json:"earlier_authorization_details,omitempty" doc:"There were others before, which are not stored anymore"`
	CreatedAt            time.Time       `json:"created_at"`
	UpdatedAt            time.Time       `json:"updated_at"`
}

// GrantedDetail is an authorization details object that a user allowed.
type GrantedDetail struct {
	Detail json.RawMessage `json:"detail" doc:"As the client sent it"`
	At     time.Time       `json:"at"`
}

// GrantPage is a page of grants.
type GrantPage struct {
	Grants []Grant `json:"grants"`
	Page
}

// Token is a token that was issued, without its secret. Access tokens that are JWTs and belong to a
// refresh token are not listed: they end with it.
type Token struct {
	Reference string    `json:"reference" doc:"Identifies the token; it cannot be used as a token"`
	Kind      string    `json:"kind" enum:"refresh_token,access_token" doc:"access_token also stands for a JWT that was issued without a refresh token"`
	ClientID  string    `json:"client_id"`
	Subject   string    `json:"sub,omitempty"`
	Scope     string    `json:"scope,omitempty"`
	Resources []string  `json:"resources,omitempty"`
	IssuedAt  time.Time `json:"issued_at" doc:"When its authorization was issued"`
	ExpiresAt time.Time `json:"expires_at"`
	Bound     bool      `json:"bound" doc:"Only the holder of a key can use it"`
}

// The values of Token.Kind.
const (
	TokenRefresh = "refresh_token"
	TokenAccess  = "access_token"
)

// TokenList has the tokens of a user or client, at most 1000.
type TokenList struct {
	Tokens []Token `json:"tokens"`
}

// Key is a key of the server. Its private part is never shown.
type Key struct {
	ID             string     `json:"kid"`
	Algorithm      string     `json:"alg"`
	Use            string     `json:"use" enum:"sig,enc"`
	Status         string     `json:"status" enum:"published,active,replaced" doc:"published: signs later; active: signs now; replaced: only verifies what it signed"`
	External       bool       `json:"external,omitempty" doc:"The private key is in an external signer, and the server does not rotate it"`
	Failing        bool       `json:"failing,omitempty" doc:"The last signature of the external signer failed on this node"`
	CreatedAt      time.Time  `json:"created_at"`
	SignsFrom      time.Time  `json:"signs_from"`
	PublishedUntil *time.Time `json:"published_until,omitempty" doc:"When it is removed; absent if it has no successor"`
}

// KeyList has all keys.
type KeyList struct {
	Keys []Key `json:"keys"`
}

// Rotation replaces keys.
type Rotation struct {
	Algorithm string `json:"alg,omitempty" maxLength:"64" doc:"The algorithm whose key is replaced; every one that has a key if it is left out"`
	Now       bool   `json:"now,omitempty" doc:"The new key signs at once, also if clients have an older key set in memory"`
	Revoke    bool   `json:"revoke,omitempty" doc:"Also removes the old keys at once: nothing that they signed is valid any longer"`
}

// InitialAccessToken lets clients register themselves.
type InitialAccessToken struct {
	ID        string    `json:"id"`
	Note      string    `json:"note,omitempty"`
	Uses      int       `json:"uses"`
	Left      int       `json:"left"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// InitialAccessTokenList has the tokens that are valid, at most 1000.
type InitialAccessTokenList struct {
	Mode   string               `json:"mode" doc:"off, initial_access_token or open; it is set in the configuration file"`
	Tokens []InitialAccessToken `json:"initial_access_tokens"`
}

// NewInitialAccessToken is an initial access token to create.
type NewInitialAccessToken struct {
	Note      string          `json:"note,omitempty" maxLength:"255"`
	Uses      int             `json:"uses,omitempty" minimum:"1" maximum:"1000" doc:"How many clients can register with it; 1 if it is left out"`
	ExpiresIn record.Duration `json:"expires_in,omitzero" doc:"Such as 24h, the default"`
}

// CreatedInitialAccessToken is a new initial access token.
type CreatedInitialAccessToken struct {
	Token     string    `json:"initial_access_token" doc:"Shown this once"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Explanation is the ladder of checks of a refused request.
type Explanation struct {
	record.Trace
}

// ExplanationPage is a page of explanations, the newest first.
type ExplanationPage struct {
	Explanations []Explanation `json:"explanations"`
	Page
}

// Recording keeps every accepted request of a client, a user, or a user of a client while it lasts.
type Recording struct {
	ID        string    `json:"id"`
	ClientID  string    `json:"client_id,omitempty"`
	Subject   string    `json:"sub,omitempty"`
	BeganAt   time.Time `json:"began_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// NewRecording begins a recording. ClientID or Subject is required.
type NewRecording struct {
	ClientID string          `json:"client_id,omitempty" maxLength:"512"`
	Subject  string          `json:"sub,omitempty" maxLength:"255"`
	Lifetime record.Duration `json:"lifetime,omitempty" doc:"How long, such as 10m, which is the default; at most 1h"`
}

// RecordingList are all recordings that have not ended.
type RecordingList struct {
	Recordings []Recording `json:"recordings"`
}

// Message is a message that waits to be sent, or that was given up. Its content is not shown.
type Message struct {
	ID        string     `json:"id"`
	Outbox    string     `json:"outbox" enum:"clients,users,events" doc:"clients: such as logout tokens; users: mail; events: audit records for webhooks"`
	Receiver  string     `json:"receiver"`
	CreatedAt time.Time  `json:"created_at"`
	DueAt     *time.Time `json:"due_at,omitempty" doc:"When it is tried next; a message that was given up has none"`
	Attempts  int        `json:"attempts" doc:"How often it was tried; it has failed as often, or is being sent"`
	FailedAt  *time.Time `json:"failed_at,omitempty" doc:"When it was given up"`
	Cause     string     `json:"cause,omitempty" doc:"Why it was given up"`
}

// MessagePage is a page of messages.
type MessagePage struct {
	Messages []Message `json:"messages"`
	Page
}

// Preview is what a client would get for a user. Nothing is issued; consent and sign-in are not decided.
type Preview struct {
	Refused     bool           `json:"refused"`
	Error       string         `json:"error,omitempty"`
	Description string         `json:"error_description,omitempty"`
	Checks      []record.Check `json:"checks" doc:"The last one is the rule that refuses the request, if it is refused"`
	Scope       string         `json:"scope,omitempty"`
	Audience    []string       `json:"audience,omitempty"`
	Opaque      bool           `json:"opaque,omitempty" doc:"The access token is opaque: introspection returns its claims"`
	ACR         string         `json:"acr,omitempty" doc:"How the user must authenticate"`
	AccessToken []PreviewClaim `json:"access_token,omitempty"`
	IDToken     []PreviewClaim `json:"id_token,omitempty"`
	Userinfo    []PreviewClaim `json:"userinfo,omitempty"`
	Hooks       bool           `json:"hooks,omitempty" doc:"A hook is called before tokens are issued, and can add claims or refuse"`
}

// PreviewClaim is a claim with the rule that put it there.
type PreviewClaim struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
	Rule  string          `json:"rule"`
}

// PreviewRequest selects a Preview.
type PreviewRequest struct {
	Subject   string // "" for a client's own token
	ClientID  string
	Scope     string // "" for all of the client's
	Resources []string
}
