// Package configuration says what a Valetkey server can be configured with: the settings and
// declarations of a configuration file, the environment variables, and the checks that
// report every problem with its line. A program that embeds the server fills in the same
// types.
//
//	configuration.go  Configuration and its settings
//	members.go        the members that a declaration names; the input for a store
//	read.go           reading a file
//	yaml.go           YAML to Go, with lines
//	yamlscalar.go     strings, numbers, true, false and null
//	environment.go    the environment variables
//	secretfile.go     secrets in files of their own
//	check.go          checks and warnings
//	hooks.go          webhooks
//	engine.go         the authserver.Config that follows from a Configuration
//	printing.go       secrets are never printed
package configuration

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

// Configuration is what a configuration file says. Its members have the RFCs' own names;
// config.schema.json describes them for editors.
type Configuration struct {
	// Issuer is the issuer identifier, the URL under which people and clients reach the
	// server.
	Issuer string `json:"issuer,omitempty"`
	// Listen is the address to listen on, as host:port.
	Listen string `json:"listen,omitempty"`
	// Database is sqlite:PATH or a postgres:// URL.
	Database string `json:"database,omitempty"`
	// DatabaseFile is a file that holds Database, which may have a password in it.
	DatabaseFile string `json:"database_file,omitempty"`
	// InsecureDatabaseConnection allows a PostgreSQL on another host without TLS. Whoever is on
	// the network between can read and change everything.
	InsecureDatabaseConnection bool `json:"insecure_database_connection,omitempty"`
	TLS                        *TLS `json:"tls,omitempty"`
	// TrustedProxies are the addresses or networks whose X-Forwarded-For counts, or whose
	// Forwarded (RFC 7239), if ProxyHeader names that. The other header is never read.
	TrustedProxies []string `json:"trusted_proxies,omitempty"`
	ProxyHeader    string   `json:"proxy_header,omitempty"`
	// MasterKeyFile holds 32 bytes in base64url; the environment's VALETKEY_MASTER_KEY
	// takes its place.
	MasterKeyFile string `json:"master_key_file,omitempty"`
	// ServiceName is what the pages call the service.
	ServiceName string `json:"service_name,omitempty"`
	// Source is under what name the database remembers what this file declares; the same in
	// every file that takes this one's place. The command's default is the issuer. What the
	// source declared before and declares no longer is retired. "": nothing is retired.
	Source string `json:"source,omitempty"`
	// SignUp lets people create accounts for themselves.
	SignUp bool `json:"sign_up,omitempty"`
	// ConsentOptionalDefault is how the consent page first shows optional scopes: ConsentTicked,
	// the default, or ConsentUnticked. Later it shows what the user chose before.
	ConsentOptionalDefault string `json:"consent_optional_default,omitempty"`
	// FirstPartyApplications lets clients with first_party send people's passwords here.
	FirstPartyApplications bool `json:"first_party_applications,omitempty"`
	// RequireCodeChallenge asks every client for PKCE, also confidential OpenID clients
	// that send a nonce.
	RequireCodeChallenge bool              `json:"require_code_challenge,omitempty"`
	Lifetimes            Lifetimes         `json:"lifetimes,omitzero"`
	Outgoing             Outgoing          `json:"outgoing,omitzero"`
	Registration         Registration      `json:"registration,omitzero"`
	MetadataDocuments    MetadataDocuments `json:"client_id_metadata_documents,omitzero"`
	Log                  Log               `json:"log,omitzero"`
	// Claims are claims under other names, with fixed values or computed; ClaimSources are others who
	// vouch for claims.
	Claims       []authserver.ClaimMapping `json:"claims,omitempty"`
	ClaimSources []authserver.ClaimSource  `json:"claim_sources,omitempty"`
	// TrustedIssuers are others whose JWTs count here.
	TrustedIssuers []authserver.TrustedIssuer `json:"trusted_issuers,omitempty"`
	// TokenExchange are rules by which clients may exchange tokens (RFC 8693).
	TokenExchange []authserver.TokenExchangeRule `json:"token_exchange,omitempty"`
	// Hooks are services that are asked before tokens are made.
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

// Declarations are the clients, users, scopes and resources of a configuration file, or of
// a file for "valetkey apply". A record is a set of named members. One that is not named
// keeps its stored value, or has its default in a new record; null in a file removes it. In
// a Go program, the members that are not zero are named.
type Declarations struct {
	Clients   []Client          `json:"clients,omitempty"`
	Users     []User            `json:"users,omitempty"`
	Scopes    []record.Scope    `json:"scopes,omitempty"`
	Resources []record.Resource `json:"resources,omitempty"`
	// Modified is when the file was modified; zero if that is not known.
	Modified time.Time `json:"-"`

	named named // members that have no value
}

// TLS names the files of the certificate; they are read again when they change.
type TLS struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// Outgoing widens where the server may connect to on its own: to fetch what clients name
// and to tell them of a logout. Left out: public addresses alone.
type Outgoing struct {
	// Networks are private networks, or addresses, that the addresses in this configuration
	// may be in: hooks, trusted issuers, and the metadata of declared clients.
	Networks []string `json:"networks,omitempty"`
	// InsecureOutsiderNetworks are private networks, or addresses, that outsiders may name
	// too: clients that registered themselves or have a metadata document.
	InsecureOutsiderNetworks []string `json:"insecure_outsider_networks,omitempty"`
	// CertificateAuthorities is a PEM file that takes the place of the machine's.
	CertificateAuthorities string `json:"certificate_authorities,omitempty"`
}

// Registration says whether clients may register themselves (RFC 7591).
type Registration struct {
	Mode string `json:"mode,omitempty"` // off, initial_access_token or open
	// Scope is the most that such a client may ask for.
	Scope string `json:"scope,omitempty"`
	// AnyAllowedScope lets it ask for all of Scope later, whatever it registered.
	AnyAllowedScope bool `json:"any_allowed_scope,omitempty"`
	// RedirectSchemes are private-use schemes without a dot that its redirect URIs may have.
	RedirectSchemes []string        `json:"redirect_schemes,omitempty"`
	UnusedLifetime  record.Duration `json:"unused_lifetime,omitzero"`
	MaxClients      int             `json:"max_clients,omitempty"`
	PerMinute       int             `json:"per_minute,omitempty"`
	// SoftwareStatements are whose statements count.
	SoftwareStatements        []authserver.SoftwareStatementIssuer `json:"software_statements,omitempty"`
	RequireSoftwareStatement  bool                                 `json:"require_software_statement,omitempty"`
	InsecureNoCodeChallenge   bool                                 `json:"insecure_no_code_challenge,omitempty"`
	InsecureAssertionAudience bool                                 `json:"insecure_assertion_audience,omitempty"`
	InsecureErrorRedirects    bool                                 `json:"insecure_error_redirects,omitempty"`
}

func (r Registration) validate(report reporter) {
	oneOf(report, "registration.mode", r.Mode, string(authserver.RegistrationOff),
		string(authserver.RegistrationInitialAccessToken), string(authserver.RegistrationOpen))
	if _, err := oauth.ParseScope(r.Scope); err != nil {
		report("registration.scope", "%s", oauth.AsError(err).Description)
	}
	checkSchemes(report, "registration.redirect_schemes", r.RedirectSchemes)
	if r.MaxClients < 0 || r.PerMinute < 0 {
		report("registration", "max_clients and per_minute are 1 or more")
	}
	for i, issuer := range r.SoftwareStatements {
		path := fmt.Sprintf("registration.software_statements[%d]", i)
		if issuer.Issuer == "" || (len(issuer.JWKS) == 0) == (issuer.JWKSURI == "") {
			report(path, "issuer and one of jwks and jwks_uri are needed")
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

// MetadataDocuments says whether clients may be known by a metadata document of theirs.
type MetadataDocuments struct {
	// AllowedHosts are hosts whose documents are taken; "*" is any. Empty: none are.
	AllowedHosts []string `json:"allowed_hosts,omitempty"`
	// Scope is the most that such a client may ask for.
	Scope string `json:"scope,omitempty"`
	// RedirectSchemes are private-use schemes without a dot that its redirect URIs may have.
	RedirectSchemes []string `json:"redirect_schemes,omitempty"`
}

// allowedHost is "*", or a name or address, with "*." in front for all below it, and with a
// port where it is not 443.
var allowedHost = regexp.MustCompile(`^(\*|(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[1-9][0-9]{0,4})?|\[[0-9a-fA-F:.]+\](:[1-9][0-9]{0,4})?)$`)

func (m MetadataDocuments) validate(report reporter) {
	for i, host := range m.AllowedHosts {
		if !allowedHost.MatchString(host) {
			report(fmt.Sprintf("client_id_metadata_documents.allowed_hosts[%d]", i), "%q is neither *, nor a host such as app.example.com, *.example.com or app.example.com:8443", host)
		}
	}
	if _, err := oauth.ParseScope(m.Scope); err != nil {
		report("client_id_metadata_documents.scope", "%s", oauth.AsError(err).Description)
	}
	checkSchemes(report, "client_id_metadata_documents.redirect_schemes", m.RedirectSchemes)
	if m.Scope != "" && len(m.AllowedHosts) == 0 {
		report("client_id_metadata_documents", "without allowed_hosts no documents are taken")
	}
}

// Log says what is logged and how.
type Log struct {
	Level  string `json:"level,omitempty"`  // debug, info, warn or error
	Format string `json:"format,omitempty"` // text or json
}

// Lifetimes are those of authserver.Lifetimes that an operator may want to change.
type Lifetimes struct {
	AuthorizationCode record.Duration `json:"authorization_code,omitzero"`
	AccessToken       record.Duration `json:"access_token,omitzero"`
	IDToken           record.Duration `json:"id_token,omitzero"`
	RefreshToken      record.Duration `json:"refresh_token,omitzero"`
	RefreshTokenMax   record.Duration `json:"refresh_token_max,omitzero"`
	RefreshRetry      record.Duration `json:"refresh_retry,omitzero"`
	Interaction       record.Duration `json:"interaction,omitzero"`
	Session           record.Duration `json:"session,omitzero"`
	KeyRotation       record.Duration `json:"key_rotation,omitzero"`
	KeyPublishAhead   record.Duration `json:"key_publish_ahead,omitzero"`
	// RetiredRecord is how long a user, client, scope or resource is kept after the
	// configuration has stopped naming it; zero means 30 days.
	RetiredRecord record.Duration `json:"retired_record,omitzero"`
}

// Client is a client as it is declared: the members of RFC 7591 and OpenID Connect
// Registration, Valetkey's own settings, and its secret.
type Client struct {
	ID string `json:"client_id"`
	// Secret authenticates the client; 256 random bits are best. SecretNext is valid beside
	// it, while one takes the place of the other.
	Secret     string `json:"client_secret,omitempty"`
	SecretNext string `json:"client_secret_next,omitempty"`
	// SecretFile and SecretNextFile are files that hold Secret and SecretNext.
	SecretFile     string `json:"client_secret_file,omitempty"`
	SecretNextFile string `json:"client_secret_next_file,omitempty"`
	// Adopt takes over a client of this ID that registered itself.
	Adopt bool `json:"adopt,omitempty"`
	oauth.ClientMetadata
	record.ClientSettings
}

// User is a person as they are declared, with OpenID Connect's standard claims by their
// own names (OpenID Connect Core, section 5.1).
type User struct {
	Username string `json:"username"`
	// Subject is the subject identifier (OpenID Connect Core, section 2) of a new user, and
	// never changes. Left out: a random one.
	Subject string `json:"sub,omitempty"`
	// Adopt takes over a signed-up account with this username or e-mail address. Everything that its owner has ends, the password included.
	Adopt         bool   `json:"adopt,omitempty"`
	Password      string `json:"password,omitempty"`
	PasswordFile  string `json:"password_file,omitempty"` // holds Password
	PasswordHash  string `json:"password_hash,omitempty"`
	Disabled      bool   `json:"disabled,omitempty"`
	Administrator bool   `json:"administrator,omitempty"`

	Name                string   `json:"name,omitempty"`
	GivenName           string   `json:"given_name,omitempty"`
	FamilyName          string   `json:"family_name,omitempty"`
	MiddleName          string   `json:"middle_name,omitempty"`
	Nickname            string   `json:"nickname,omitempty"`
	Profile             string   `json:"profile,omitempty"`
	Picture             string   `json:"picture,omitempty"`
	Website             string   `json:"website,omitempty"`
	Email               string   `json:"email,omitempty"`
	EmailVerified       *bool    `json:"email_verified,omitempty"`
	Gender              string   `json:"gender,omitempty"`
	Birthdate           string   `json:"birthdate,omitempty"`
	Zoneinfo            string   `json:"zoneinfo,omitempty"`
	Locale              string   `json:"locale,omitempty"`
	PhoneNumber         string   `json:"phone_number,omitempty"`
	PhoneNumberVerified *bool    `json:"phone_number_verified,omitempty"`
	Address             *Address `json:"address,omitempty"`
	// Claims are further claims, which scopes can release.
	Claims map[string]any `json:"claims,omitempty"`
}

// Address is the address claim (OpenID Connect Core, section 5.1.1).
type Address struct {
	Formatted     string `json:"formatted,omitempty"`
	StreetAddress string `json:"street_address,omitempty"`
	Locality      string `json:"locality,omitempty"`
	Region        string `json:"region,omitempty"`
	PostalCode    string `json:"postal_code,omitempty"`
	Country       string `json:"country,omitempty"`
}

// claims returns the user's claims as they are stored.
func (u *User) claims() (map[string]any, error) {
	standard := *u
	standard.Username, standard.Password, standard.PasswordFile, standard.PasswordHash, standard.Claims = "", "", "", "", nil
	standard.Disabled, standard.Administrator, standard.Subject, standard.Adopt = false, false, "", false
	document, err := json.Marshal(standard)
	if err != nil {
		return nil, fmt.Errorf("encode claims of %q: %w", u.Username, err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(document, &claims); err != nil {
		return nil, fmt.Errorf("read claims of %q: %w", u.Username, err)
	}
	delete(claims, "username")
	maps.Copy(claims, u.Claims)
	return claims, nil
}
