package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// NewDeclarations are declarations to compare or to apply.
type NewDeclarations struct {
	Source string `json:"source,omitempty" maxLength:"255" doc:"Name under which the server remembers what is declared. Its records can be changed only by applying this source again. Without it, everyone can change them."`
	// Declarations have the members clients, users, scopes and resources of a configuration file.
	Declarations json.RawMessage `json:"declarations" doc:"The members clients, users, scopes and resources of a configuration file"`
	Prune        bool            `json:"prune,omitempty" doc:"Permanently remove records that the source declared before and no longer names"`
}

// DeclarationsResult says what differs, or what was changed.
type DeclarationsResult struct {
	// ETag is the version of the comparison. Applying with it is refused if something else would change.
	ETag string `json:"-"`

	Changes  []DeclarationChange `json:"changes"`
	Warnings []string            `json:"warnings"`
}

// DeclarationChange is a record that differs.
type DeclarationChange struct {
	Kind       string         `json:"kind" enum:"client,user,scope,resource"`
	Name       string         `json:"name" doc:"client_id, username, name or identifier"`
	Action     string         `json:"action" enum:"add,change,retire,restore,remove,displace,conflict,none" doc:"displace: a signed-up account loses an identifier that is declared; none: only not_named is remarkable"`
	Members    []MemberChange `json:"members,omitempty" doc:"Members that differ; secrets are shown as (secret)"`
	Adopted    bool           `json:"adopted,omitempty" doc:"The record was a signed-up account, or a client that registered itself"`
	NotNamed   []string       `json:"not_named,omitempty" doc:"Members that the source named before and no longer names; they keep their values, and null removes them"`
	Problem    string         `json:"problem,omitempty" doc:"Why a record could not be declared"`
	LastChange *LastChange    `json:"last_change,omitempty" doc:"Who changed the record last"`
	Affects    *Affected      `json:"affects,omitempty" doc:"Whom the change affects"`
}

// MemberChange is a member that differs.
type MemberChange struct {
	Name string `json:"name"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// LastChange is the latest change of a record in the audit log.
type LastChange struct {
	Time  time.Time  `json:"time"`
	Event string     `json:"event"`
	Actor AuditActor `json:"actor"`
}

// Affected says what belongs to a record.
type Affected struct {
	Users       int        `json:"users,omitempty" doc:"Users who have allowed the client something, up to 1000"`
	More        bool       `json:"more,omitempty" doc:"There may be more users than that"`
	LatestGrant *time.Time `json:"latest_grant,omitempty" doc:"When a user last allowed the client something"`
	// RedirectURIs are those that a change removes, and that users have used.
	RedirectURIs []RedirectURIUse `json:"redirect_uris,omitempty" doc:"Redirect URIs that the change removes, and that were used in the last 90 days"`
	Sessions     int              `json:"sessions,omitempty" doc:"Sessions of the user"`
	Clients      int              `json:"clients,omitempty" doc:"Clients that the user has allowed something"`
}

// RedirectURIUse says who used a redirect URI in the last 90 days.
type RedirectURIUse struct {
	RedirectURI string    `json:"redirect_uri"`
	Users       int       `json:"users" doc:"Users who were sent to it, up to 1000"`
	More        bool      `json:"more,omitempty" doc:"There may be more users than that"`
	LastUse     time.Time `json:"last_use"`
}

// ApplyDeclarations applies declarations, or compares them with Change.DryRun. etag is that of an
// earlier comparison, or "".
func (c *Connection) ApplyDeclarations(ctx context.Context, d *NewDeclarations, etag string, change Change) (*DeclarationsResult, error) {
	result, etag, err := send[DeclarationsResult](ctx, c, request{method: http.MethodPost, path: "/declarations", ifMatch: etag, change: change, in: d})
	if err == nil {
		result.ETag = etag
	}
	return result, err
}
