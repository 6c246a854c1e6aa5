// Package api has the types of the management API, and a client for it. It knows neither the server
// nor a database.
//
//	permission.go  permissions and roles
//	connection.go  calls the API
//	calls.go       the operations, one function each
//	clients.go     clients of the authorization server
//	users.go       users
//	declarations.go  declarations of files
//	health.go      how the server is doing
//	audit.go       the audit log
//	records.go     everything else
package api

import "slices"

// Path is where the management API is below the issuer. Issuer and path are the identifier of the
// API as a protected resource (RFC 8707).
const Path = "/manage/v1"

// CommandLineClientID is the client_id of "valetkey login". The client needs no declaration.
const CommandLineClientID = "valetkey-command-line"

// A Permission is what an operation requires. It is a scope of access tokens for the API.
type Permission string

// The permissions, by area. Reading never shows a secret.
const (
	ClientsRead        Permission = "clients:read"
	ClientsWrite       Permission = "clients:write"
	ScopesRead         Permission = "scopes:read"
	ScopesWrite        Permission = "scopes:write"
	ResourcesRead      Permission = "resources:read"
	ResourcesWrite     Permission = "resources:write"
	RulesRead          Permission = "rules:read"
	UsersRead          Permission = "users:read"
	UsersWrite         Permission = "users:write"
	RolesWrite         Permission = "roles:write"
	GrantsRead         Permission = "grants:read"
	GrantsWrite        Permission = "grants:write"
	SessionsRead       Permission = "sessions:read"
	SessionsWrite      Permission = "sessions:write"
	KeysRead           Permission = "keys:read"
	KeysWrite          Permission = "keys:write"
	RegistrationsRead  Permission = "registrations:read"
	RegistrationsWrite Permission = "registrations:write"
	ExplanationsRead   Permission = "explanations:read"
	ExplanationsWrite  Permission = "explanations:write"
	AuditRead          Permission = "audit:read"
	OutboxRead         Permission = "outbox:read"
	OutboxWrite        Permission = "outbox:write"
	HealthRead         Permission = "health:read"
)

// ScopeAll is a scope that stands for every permission of the caller's role, also for those that a later
// version adds. It is no permission of its own.
const ScopeAll = "manage:all"

// ScopeAllDescription says in plain words what ScopeAll allows.
const ScopeAllDescription = "Everything that your role allows on this server, also what is added later"

// IsScope reports whether a name is a scope of the management API.
func IsScope(name string) bool { return name == ScopeAll || Permission(name).Description() != "" }

// descriptions are shown on the consent page, and are the list of all permissions.
var descriptions = []struct {
	permission  Permission
	description string
}{
	{ClientsRead, "See the applications of this server"},
	{ClientsWrite, "Add, change and delete applications of this server"},
	{ScopesRead, "See the scopes of this server"},
	{ScopesWrite, "Add, change and delete scopes of this server"},
	{ResourcesRead, "See the APIs of this server"},
	{ResourcesWrite, "Add, change and delete APIs of this server"},
	{RulesRead, "See rules, hooks and trusted issuers of this server"},
	{UsersRead, "See all users of this server"},
	{UsersWrite, "Add, change and delete users of this server"},
	{RolesWrite, "Decide who may manage this server"},
	{GrantsRead, "See what users have allowed applications to do"},
	{GrantsWrite, "Revoke what users have allowed applications to do"},
	{SessionsRead, "See where users are signed in"},
	{SessionsWrite, "Sign users out and end their tokens"},
	{KeysRead, "See when the keys of this server sign"},
	{KeysWrite, "Rotate and retire keys of this server"},
	{RegistrationsRead, "See how applications may register themselves"},
	{RegistrationsWrite, "Let applications register themselves"},
	{ExplanationsRead, "See why requests were refused or accepted"},
	{ExplanationsWrite, "Record accepted requests for a while"},
	{AuditRead, "See who changed what on this server"},
	{OutboxRead, "See messages that wait to be sent"},
	{OutboxWrite, "Send waiting messages again, or drop them"},
	{HealthRead, "See the health and the activity of this server"},
}

// Permissions returns all permissions.
func Permissions() []Permission {
	all := make([]Permission, len(descriptions))
	for i := range descriptions {
		all[i] = descriptions[i].permission
	}
	return all
}

// Description says in plain words what a permission allows; "" if there is no such permission.
func (p Permission) Description() string {
	for i := range descriptions {
		if descriptions[i].permission == p {
			return descriptions[i].description
		}
	}
	return ""
}

// A Role is a set of permissions that a user or a client has.
type Role string

// The roles. The empty Role has no permissions.
const (
	RoleNone          Role = ""
	RoleAdministrator Role = "administrator" // everything
	RoleOperator      Role = "operator"      // everything but roles, and those who have more
	RoleSupport       Role = "support"       // sees users and applications, and ends sessions
	RoleAuditor       Role = "auditor"       // sees everything, and changes nothing
)

// Roles returns all roles but RoleNone, the most powerful first.
func Roles() []Role { return []Role{RoleAdministrator, RoleOperator, RoleSupport, RoleAuditor} }

// Valid reports whether r is RoleNone or one of Roles.
func (r Role) Valid() bool { return r == RoleNone || slices.Contains(Roles(), r) }

// Permissions returns what a role may do; nothing for an unknown one.
func (r Role) Permissions() []Permission {
	switch r {
	case RoleAdministrator:
		return Permissions()
	case RoleOperator:
		return slices.DeleteFunc(Permissions(), func(p Permission) bool { return p == RolesWrite })
	case RoleSupport:
		return []Permission{ClientsRead, UsersRead, GrantsRead, SessionsRead, SessionsWrite, ExplanationsRead}
	case RoleAuditor:
		return slices.DeleteFunc(Permissions(), func(p Permission) bool { return !p.Reads() })
	}
	return nil
}

// Reads reports whether a permission changes nothing.
func (p Permission) Reads() bool {
	const suffix = ":read"
	return len(p) > len(suffix) && p[len(p)-len(suffix):] == suffix
}
