package configuration

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// Declarations are the clients, users, scopes and resources of a configuration file, or of
// a file for "valetkey apply". A member that a record does not name keeps its stored value,
// or has its default in a new record; null in a file removes it. In a Go program, the
// members that are not zero are named.
type Declarations struct {
	Clients   []Client          `json:"clients,omitempty"`
	Users     []User            `json:"users,omitempty"`
	Scopes    []record.Scope    `json:"scopes,omitempty"`
	Resources []record.Resource `json:"resources,omitempty"`
	// Modified is when the file was modified; zero if unknown.
	Modified time.Time `json:"-"`

	named named // members that are named without a value
}

// Add adds the declarations of another file.
func (d *Declarations) Add(other Declarations) {
	d.Clients = append(d.Clients, other.Clients...)
	d.Users = append(d.Users, other.Users...)
	d.Scopes = append(d.Scopes, other.Scopes...)
	d.Resources = append(d.Resources, other.Resources...)
	if d.named == nil {
		d.named = named{}
	}
	maps.Copy(d.named, other.named)
}

// Client is a declared client: the members of RFC 7591 and OpenID Connect Registration,
// Valetkey's own settings, and its secret.
type Client struct {
	ID string `json:"client_id"`
	// Secret authenticates the client; it should have 256 random bits. SecretNext is valid as
	// well, while one replaces the other.
	Secret     string `json:"client_secret,omitempty"`
	SecretNext string `json:"client_secret_next,omitempty"`
	// SecretFile and SecretNextFile are files that contain Secret and SecretNext.
	SecretFile     string `json:"client_secret_file,omitempty"`
	SecretNextFile string `json:"client_secret_next_file,omitempty"`
	// Adopt takes over a client with this ID that registered itself.
	Adopt bool `json:"adopt,omitempty"`
	oauth.ClientMetadata
	record.ClientSettings
}

// User is a declared user, with OpenID Connect's standard claims by their own names (OpenID
// Connect Core, section 5.1).
type User struct {
	Username string `json:"username"`
	// Subject is the subject identifier (OpenID Connect Core, section 2) of a new user. It never
	// changes. If it is empty, a random one is created.
	Subject string `json:"sub,omitempty"`
	// Adopt takes over a signed-up account with this username or email address. Everything that
	// was issued to its owner ends, and the password is removed.
	Adopt         bool   `json:"adopt,omitempty"`
	Password      string `json:"password,omitempty"`
	PasswordFile  string `json:"password_file,omitempty"` // contains Password
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
	// Groups are the groups of the user, in addition to those that rules of identity providers assign.
	Groups []string `json:"groups,omitempty"`
	// Claims are custom claims, which scopes can release.
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

// claims returns the claims to store.
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
