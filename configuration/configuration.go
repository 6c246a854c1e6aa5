// Package configuration defines, reads and checks the configuration of a Valetkey server: the
// settings and declarations of a configuration file, and environment variables. Errors report
// every problem with its line. A program that embeds the server uses the same types.
//
//	configuration.go  Configuration and its settings
//	declarations.go   Declarations: clients, users, scopes and resources
//	members.go        the members that a declaration names; the input for a store
//	read.go           reading a file
//	yaml.go           YAML to Go, with lines
//	yamlscalar.go     strings, numbers, true, false and null
//	environment.go    the environment variables
//	secretfile.go     secrets in files of their own
//	check.go          checks
//	warnings.go       warnings and recommendations about valid settings
//	hooks.go          webhooks
//	mail.go           messages to users
//	passkeys.go       passkeys
//	signin.go         what is sufficient to sign in
//	sandbox.go        what the process may do with files
//	upstream.go       other providers that users sign in with
//	mutualtls.go      certificates of clients
//	audit.go          the audit log
//	telemetry.go      metrics and traces
//	profile.go        profiles of the server and its clients
//	report.go         compares clients with profiles and RFC 9700
//	engine.go         creates the authserver.Config
//	printing.go       secrets are never printed
package configuration

import (
	"fmt"
	"regexp"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity/directory"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/ui/theme"
)

// Configuration is the content of a configuration file. Its members have the names that the
// RFCs use; config.schema.json describes them for editors.
type Configuration struct {
	// Issuer is the issuer identifier: the URL under which users and clients reach the server.
	Issuer string `json:"issuer,omitempty"`
	// Listen is the address to listen on, as host:port.
	Listen string `json:"listen,omitempty"`
	// Database is sqlite:PATH or a postgres:// URL.
	Database string `json:"database,omitempty"`
	// DatabaseFile is a file that contains Database, which may include a password.
	DatabaseFile string `json:"database_file,omitempty"`
	// InsecureDatabaseConnection allows a PostgreSQL server on another host without TLS. Anyone
	// on the network in between can read and change everything.
	InsecureDatabaseConnection bool `json:"insecure_database_connection,omitempty"`
	TLS                        *TLS `json:"tls,omitempty"`
	// MutualTLS lets clients use certificates (RFC 8705).
	MutualTLS *MutualTLS `json:"mutual_tls,omitempty"`
	// TrustedProxies are the addresses or networks whose X-Forwarded-For header is trusted. If
	// ProxyHeader names Forwarded (RFC 7239), that header is trusted instead.
	TrustedProxies []string `json:"trusted_proxies,omitempty"`
	ProxyHeader    string   `json:"proxy_header,omitempty"`
	// MasterKeyFile contains 32 bytes in base64url. The environment variable
	// VALETKEY_MASTER_KEY overrides it.
	MasterKeyFile string `json:"master_key_file,omitempty"`
	// MasterKeyCommand is a program with its arguments that prints the key, so that a key management
	// service can hold it. It runs at start, without a shell, and has 30 seconds.
	MasterKeyCommand []string `json:"master_key_command,omitempty"`
	// PreviousMasterKeyFile and PreviousMasterKeyCommand are where the key comes from that was in force
	// before, while the master key is rotated ("valetkey masterkey rotate"). The environment variable
	// VALETKEY_PREVIOUS_MASTER_KEY overrides them.
	PreviousMasterKeyFile    string   `json:"previous_master_key_file,omitempty"`
	PreviousMasterKeyCommand []string `json:"previous_master_key_command,omitempty"`
	// ServiceName is the name of the service on the pages.
	ServiceName string `json:"service_name,omitempty"`
	// Theme is how the pages and messages look.
	Theme *theme.Settings `json:"theme,omitempty"`
	// PageTemplates is a directory with templates that replace those of pages.
	PageTemplates string `json:"page_templates,omitempty"`
	// Source is the name under which the database remembers what this file declares. A file that
	// replaces this one must have the same Source. The command's default is the issuer. Records
	// that the source no longer declares are retired. If Source is empty, nothing is retired.
	Source string `json:"source,omitempty"`
	// SignUp lets users create their own accounts. SignUpRequires is what they need: SignUpInvitation,
	// SignUpEmailDomain, or nothing. SignUpEmailDomains are the domains of their email addresses.
	SignUp             bool     `json:"sign_up,omitempty"`
	SignUpRequires     string   `json:"sign_up_requires,omitempty"`
	SignUpEmailDomains []string `json:"sign_up_email_domains,omitempty"`
	// SignIn says what is sufficient to sign in.
	SignIn SignIn `json:"sign_in,omitzero"`
	// PasswordReset is how users who have forgotten their password choose another:
	// PasswordResetMail or PasswordResetOff.
	PasswordReset string `json:"password_reset,omitempty"`
	// Recovery says how users get back in who have lost what they sign in with.
	Recovery Recovery `json:"recovery,omitzero"`
	// UsernameChange lets users change their usernames. AccountDeletion is whether they can delete
	// their accounts: AccountDeletionOn, the default, or AccountDeletionOff.
	UsernameChange  bool   `json:"username_change,omitempty"`
	AccountDeletion string `json:"account_deletion,omitempty"`
	// LocationDatabase is a file in the MaxMind DB format, from which the account page takes the
	// approximate places of addresses.
	LocationDatabase string `json:"location_database,omitempty"`
	// EmailSignIn lets users sign in with a message to their verified address instead of the password.
	EmailSignIn bool `json:"email_sign_in,omitempty"`
	// MinimumPasswordLength is the minimum length of passwords that users choose who have no second
	// factor. The default is 15; with a second factor, 8 characters are enough.
	MinimumPasswordLength int `json:"minimum_password_length,omitempty"`
	// Passkeys says how users sign in with passkeys.
	Passkeys Passkeys `json:"passkeys,omitzero"`
	// BreachedPasswordService is the address of a service with the range API of Have I Been Pwned,
	// which is asked about new passwords.
	BreachedPasswordService string `json:"breached_password_service,omitempty"`
	// IdentityProviders are other providers that users sign in with.
	IdentityProviders []upstream.Config `json:"identity_providers,omitempty"`
	// Directories are LDAP directories at which users sign in with their passwords there.
	Directories []directory.Config `json:"directories,omitempty"`
	// PasswordSignIn is PasswordSignInOff if users sign in only with identity providers; the default is
	// PasswordSignInOn.
	PasswordSignIn string `json:"password_sign_in,omitempty"`
	// Contact is where users who may not sign in can ask for help: an email address or an https URL.
	Contact string `json:"contact,omitempty"`
	// Mail is how messages to users are sent. Without it, an https issuer sends none.
	Mail *Mail `json:"mail,omitempty"`
	// ConsentOptionalDefault is how the consent page shows optional scopes the first time:
	// ConsentTicked, the default, or ConsentUnticked. Later it shows the user's last choice.
	ConsentOptionalDefault string `json:"consent_optional_default,omitempty"`
	// FirstPartyApplications lets clients with first_party send users' passwords to the server.
	FirstPartyApplications bool `json:"first_party_applications,omitempty"`
	// Profile sets the rules of every client that has no profile of its own: oauth2.1, the default,
	// or another one of authserver.Profiles. If it is set, the profile of a client must not be
	// weaker.
	Profile string `json:"profile,omitempty"`
	// RequireCodeChallenge requires PKCE of every client, also of confidential OpenID clients
	// that send a nonce.
	RequireCodeChallenge bool `json:"require_code_challenge,omitempty"`
	// RequirePushedAuthorizationRequests requires every client to push its authorization requests
	// (RFC 9126).
	RequirePushedAuthorizationRequests bool `json:"require_pushed_authorization_requests,omitempty"`
	// RequireSignedRequestObject requires signed request objects of every client (RFC 9101).
	RequireSignedRequestObject bool `json:"require_signed_request_object,omitempty"`
	// DPoP says what is required of DPoP proofs (RFC 9449).
	DPoP              DPoP              `json:"dpop,omitzero"`
	Lifetimes         Lifetimes         `json:"lifetimes,omitzero"`
	Outgoing          Outgoing          `json:"outgoing,omitzero"`
	Registration      Registration      `json:"registration,omitzero"`
	MetadataDocuments MetadataDocuments `json:"client_id_metadata_documents,omitzero"`
	Log               Log               `json:"log,omitzero"`
	// Sandbox says what the process may do with files once it handles requests.
	Sandbox Sandbox `json:"sandbox,omitzero"`
	// Management is where the management API is served.
	Management Management `json:"management,omitzero"`
	// Audit is the audit log.
	Audit Audit `json:"audit,omitzero"`
	// Telemetry are metrics and traces.
	Telemetry Telemetry `json:"telemetry,omitzero"`
	// Claims are claims under other names, with fixed values, or computed. ClaimSources are
	// other claims providers (OpenID Connect Core, section 5.6.2).
	Claims       []authserver.ClaimMapping `json:"claims,omitempty"`
	ClaimSources []authserver.ClaimSource  `json:"claim_sources,omitempty"`
	// TrustedIssuers are external issuers whose JWTs are accepted.
	TrustedIssuers []authserver.TrustedIssuer `json:"trusted_issuers,omitempty"`
	// AuthorizationDetailsTypes are the types of authorization details that clients may use (RFC
	// 9396).
	AuthorizationDetailsTypes []authserver.AuthorizationDetailsType `json:"authorization_details_types,omitempty"`
	// TokenExchange are the rules by which clients may exchange tokens (RFC 8693).
	TokenExchange []authserver.TokenExchangeRule `json:"token_exchange,omitempty"`
	// Hooks are services that are called before a token is issued.
	Hooks []Hook `json:"hooks,omitempty"`
	Declarations
}

// DefaultDatabase is the database of a configuration that names none.
const DefaultDatabase = "sqlite:./valetkey.db"

// The values of Configuration.ConsentOptionalDefault.
const (
	ConsentTicked   = "ticked"
	ConsentUnticked = "unticked"
)

// DPoP says what is required of DPoP proofs.
type DPoP struct {
	// RequireNonce requires a nonce of this server in every proof. A client with
	// require_dpop_nonce needs one anyway.
	RequireNonce bool `json:"require_nonce,omitempty"`
	// MaxAge is how far the time of a proof may differ from the server's; the default is 60s.
	MaxAge record.Duration `json:"max_age,omitzero"`
}

// TLS names the files of a certificate and its key. They are read again when they change.
type TLS struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// Outgoing lists the private addresses that the server may connect to: to fetch documents
// that clients name, and to notify clients of a logout. Without it, only public addresses are
// allowed.
type Outgoing struct {
	// Networks are private networks, or addresses, that the operator's own URLs may resolve to:
	// hooks, trusted issuers, and the metadata of declared clients.
	Networks []string `json:"networks,omitempty"`
	// InsecureOutsiderNetworks are private networks, or addresses, that the URLs of outsiders
	// may resolve to as well: clients that registered themselves or have a metadata document.
	InsecureOutsiderNetworks []string `json:"insecure_outsider_networks,omitempty"`
	// CertificateAuthorities is a PEM file that replaces the certificate authorities of the
	// system.
	CertificateAuthorities string `json:"certificate_authorities,omitempty"`
}

// Registration controls dynamic client registration (RFC 7591).
type Registration struct {
	Mode string `json:"mode,omitempty"` // off, initial_access_token or open
	// Scope is the most that such a client may request.
	Scope string `json:"scope,omitempty"`
	// AnyAllowedScope lets it request all of Scope, whatever scope it registered.
	AnyAllowedScope bool `json:"any_allowed_scope,omitempty"`
	// RedirectSchemes are private-use URI schemes without a dot that its redirect URIs may use.
	RedirectSchemes []string        `json:"redirect_schemes,omitempty"`
	UnusedLifetime  record.Duration `json:"unused_lifetime,omitzero"`
	MaxClients      int             `json:"max_clients,omitempty"`
	PerMinute       int             `json:"per_minute,omitempty"`
	// SoftwareStatements are the issuers whose software statements are accepted.
	SoftwareStatements []authserver.SoftwareStatementIssuer `json:"software_statements,omitempty"`
	// Profile is the profile of each client that registers; the default is that of the server.
	Profile                   string `json:"profile,omitempty"`
	RequireSoftwareStatement  bool   `json:"require_software_statement,omitempty"`
	InsecureNoCodeChallenge   bool   `json:"insecure_no_code_challenge,omitempty"`
	InsecureAssertionAudience bool   `json:"insecure_assertion_audience,omitempty"`
	InsecureErrorRedirects    bool   `json:"insecure_error_redirects,omitempty"`
}

func (r Registration) validate(report reporter) {
	oneOf(report, "registration.mode", r.Mode, string(authserver.RegistrationOff),
		string(authserver.RegistrationInitialAccessToken), string(authserver.RegistrationOpen))
	if _, err := oauth.ParseScope(r.Scope); err != nil {
		report("registration.scope", "%s", oauth.AsError(err).Description)
	}
	checkSchemes(report, "registration.redirect_schemes", r.RedirectSchemes)
	if r.MaxClients < 0 || r.PerMinute < 0 {
		report("registration", "max_clients and per_minute must not be negative")
	}
	for i, issuer := range r.SoftwareStatements {
		path := fmt.Sprintf("registration.software_statements[%d]", i)
		if issuer.Issuer == "" || (len(issuer.JWKS) == 0) == (issuer.JWKSURI == "") {
			report(path, "issuer and either jwks or jwks_uri are required")
		}
		if len(issuer.JWKS) > 0 {
			if _, err := jose.ParseKeySet(issuer.JWKS); err != nil {
				report(path+".jwks", "%v", err)
			}
		}
	}
}

func checkSchemes(report reporter, path string, schemes []string) {
	for i, scheme := range schemes {
		if err := oauth.CheckRedirectScheme(scheme); err != nil {
			report(fmt.Sprintf("%s[%d]", path, i), "%v", err)
		}
	}
}

// MetadataDocuments controls client ID metadata documents
// (draft-ietf-oauth-client-id-metadata-document).
type MetadataDocuments struct {
	// AllowedHosts are the hosts whose documents are accepted; "*" is any. Empty: none.
	AllowedHosts []string `json:"allowed_hosts,omitempty"`
	// Scope is the most that such a client may request.
	Scope string `json:"scope,omitempty"`
	// RedirectSchemes are private-use URI schemes without a dot that its redirect URIs may use.
	RedirectSchemes []string `json:"redirect_schemes,omitempty"`
}

// allowedHost is "*", or a name or address, with "*." in front for all subdomains, and with
// a port if it is not 443.
var allowedHost = regexp.MustCompile(`^(\*|(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[1-9][0-9]{0,4})?|\[[0-9a-fA-F:.]+\](:[1-9][0-9]{0,4})?)$`)

func (m MetadataDocuments) validate(report reporter) {
	for i, host := range m.AllowedHosts {
		if !allowedHost.MatchString(host) {
			report(fmt.Sprintf("client_id_metadata_documents.allowed_hosts[%d]", i), "%q is not a valid host (for example, *, app.example.com, *.example.com or app.example.com:8443)", host)
		}
	}
	if _, err := oauth.ParseScope(m.Scope); err != nil {
		report("client_id_metadata_documents.scope", "%s", oauth.AsError(err).Description)
	}
	checkSchemes(report, "client_id_metadata_documents.redirect_schemes", m.RedirectSchemes)
	if m.Scope != "" && len(m.AllowedHosts) == 0 {
		report("client_id_metadata_documents", "no documents are accepted without allowed_hosts: add it, or remove scope")
	}
}

// Log is the level and the format of the log.
type Log struct {
	Level  string `json:"level,omitempty"`  // debug, info, warn or error
	Format string `json:"format,omitempty"` // text or json
	// Access writes a record for each request.
	Access bool `json:"access,omitempty"`
}

// Lifetimes are the lifetimes that an operator can change. Zero is the default.
type Lifetimes struct {
	AuthorizationCode          record.Duration `json:"authorization_code,omitzero"`
	AccessToken                record.Duration `json:"access_token,omitzero"`
	IDToken                    record.Duration `json:"id_token,omitzero"`
	RefreshToken               record.Duration `json:"refresh_token,omitzero"`
	RefreshTokenMax            record.Duration `json:"refresh_token_max,omitzero"`
	RefreshRetry               record.Duration `json:"refresh_retry,omitzero"`
	Interaction                record.Duration `json:"interaction,omitzero"`
	PushedAuthorizationRequest record.Duration `json:"pushed_authorization_request,omitzero"`
	Session                    record.Duration `json:"session,omitzero"`
	KeyRotation                record.Duration `json:"key_rotation,omitzero"`
	KeyPublishAhead            record.Duration `json:"key_publish_ahead,omitzero"`
	// RetiredRecord is how long a user, client, scope or resource is kept after the
	// configuration no longer names it; zero means 30 days.
	RetiredRecord record.Duration `json:"retired_record,omitzero"`
	// DeletedAccount is how long users who have deleted their accounts can come back; zero means 14
	// days.
	DeletedAccount record.Duration `json:"deleted_account,omitzero"`
}
