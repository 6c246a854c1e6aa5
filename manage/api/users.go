package api

import (
	"time"

	"github.com/valetkey/valetkey/storage/record"
)

// User is a user.
type User struct {
	// ETag is the version of the record, from and for the headers ETag and If-Match.
	ETag string `json:"-"`

	ID       string         `json:"sub"`
	Username string         `json:"username"`
	Claims   map[string]any `json:"claims" doc:"OpenID Connect's standard claims, and others"`
	Disabled bool           `json:"disabled"`
	Role     Role           `json:"role" enum:",administrator,operator,support,auditor" doc:"What the user may manage; empty for nothing"`
	// Origin is declared, signed_up, setup or created.
	Origin string `json:"origin"`
	// LockedAt is when the user locked the account down, with the link in a message.
	LockedAt *time.Time `json:"locked_at,omitempty"`
	// DeleteAfter is when the account is erased because its user asked for it.
	DeleteAfter *time.Time `json:"delete_after,omitempty"`
	RetiredAt   *time.Time `json:"retired_at,omitempty" doc:"When the declaration of the user was removed"`
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	// DeclaredBy is the file that declares the user, who cannot be changed here then.
	DeclaredBy  string     `json:"declared_by,omitempty" doc:"The file that declares the user; the user is changed there"`
	HasPassword bool       `json:"has_password"`
	Links       []UserLink `json:"links" doc:"Users of other providers who sign in to this account"`
	Methods     []Method   `json:"methods" doc:"The other means to sign in"`
}

// UserLink is a user of another provider who signs in to an account.
type UserLink struct {
	ID         string     `json:"id"`
	Provider   string     `json:"provider"`
	Issuer     string     `json:"issuer"`
	Subject    string     `json:"sub"`
	Label      string     `json:"label,omitempty" doc:"How the provider described the user at the last sign-in"`
	LinkedAt   time.Time  `json:"linked_at"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty"`
}

// Method is a means to sign in, besides the password.
type Method struct {
	ID        string     `json:"id"`
	Kind      string     `json:"kind"`
	Name      string     `json:"name,omitempty" doc:"As the user called it"`
	CreatedAt time.Time  `json:"created_at"`
	LastUsed  *time.Time `json:"last_used,omitempty"`
}

// UserMembers are the members of a user that can be set. Users set passwords and other means to sign in
// themselves, at first with the link of a Recovery.
type UserMembers struct {
	Username string         `json:"username" minLength:"1" maxLength:"255"`
	Claims   map[string]any `json:"claims,omitempty" doc:"OpenID Connect's standard claims, and others; preferred_username and sub come from the record"`
	Disabled bool           `json:"disabled,omitempty" doc:"Disabling ends everything that was issued to the user"`
}

// UserRole is the role of a user.
type UserRole struct {
	Role Role `json:"role" enum:",administrator,operator,support,auditor" doc:"Empty for none"`
}

// LinkRequest asks for a link.
type LinkRequest struct {
	Email    string          `json:"email,omitempty" maxLength:"320" doc:"For an invitation: only a message to this address has the link"`
	Lifetime record.Duration `json:"lifetime,omitzero" doc:"Such as 24h, the default"`
}

// Link is a link to hand to a person. It works once.
type Link struct {
	URL       string    `json:"url,omitempty" doc:"Shown this once; absent if a message has it"`
	ExpiresAt time.Time `json:"expires_at"`
}

// UserPage is a page of users.
type UserPage struct {
	Users []User `json:"users"`
	Page
}

// The values of Whoami.Kind.
const (
	CallerUser   = "user"
	CallerClient = "client"
)

// Whoami is what the caller is and may do.
type Whoami struct {
	// Kind is user or client.
	Kind string `json:"kind" enum:"user,client"`
	ID   string `json:"id" doc:"The sub of a user, or the client_id"`
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Permissions are those of the role that the access token has.
	Permissions []Permission `json:"permissions"`
}
