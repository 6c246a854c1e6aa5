package api

import (
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// ClientMembers are the members of a client that can be set: its metadata (RFC 7591) and Valetkey's
// settings, with the names that they have in a configuration file.
type ClientMembers struct {
	oauth.ClientMetadata
	record.ClientSettings
}

// Client is a client of the authorization server.
type Client struct {
	// ETag is the version of the record, from and for the headers ETag and If-Match.
	ETag string `json:"-"`

	ID string `json:"client_id"`
	ClientMembers
	// Secrets is the number of valid client secrets: two while one replaces the other.
	Secrets int `json:"secrets" doc:"Number of valid client secrets: two while one replaces the other"`
	// Registered is when the client registered itself.
	Registered *time.Time `json:"registered,omitempty" doc:"When the client registered itself; absent if it did not"`
	// RetiredAt is when the client's declaration was removed.
	RetiredAt *time.Time `json:"retired_at,omitempty" doc:"When the declaration of the client was removed; it is refused since then"`
	// DeclaredBy is the file that declares the client, which cannot be changed here then.
	DeclaredBy string `json:"declared_by,omitempty" doc:"The file that declares the client; it is changed there"`
}

// NewClient is a client to create.
type NewClient struct {
	ID string `json:"client_id,omitempty" maxLength:"255" doc:"A random one if it is left out"`
	ClientMembers
}

// CreatedClient is a new client with its secret, which is not shown again.
type CreatedClient struct {
	Client
	Secret string `json:"client_secret,omitempty" doc:"Shown this once; absent if the client authenticates without a secret"`
}

// ClientSecret is a new client secret, which is not shown again.
type ClientSecret struct {
	// ETag is the version of the client with the new secret.
	ETag string `json:"-"`

	Secret string `json:"client_secret" doc:"Shown this once"`
}

// ClientPage is a page of clients.
type ClientPage struct {
	Clients []Client `json:"clients"`
	Page
}

// Page is the end of a page of a list.
type Page struct {
	// Next is the cursor of the next page; "" at the end.
	Next string `json:"next,omitempty" doc:"Cursor of the next page; absent at the end"`
}
