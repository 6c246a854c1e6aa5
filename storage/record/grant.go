package record

import (
	"encoding/json"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// Grant says which scopes a user granted to a client, and since when. Codes and tokens belong
// to it and end with it.
type Grant struct {
	ID       string
	Subject  string
	ClientID string
	Scope    oauth.Scope
	// Declined are optional scopes that the user deselected; they are not offered again unless
	// the client sends prompt=consent.
	Declined oauth.Scope
	// Resources are the APIs that the user was asked about together with the scopes. Nil means
	// that they were not recorded, in a grant of an earlier version: it covers the APIs that
	// know its scopes.
	Resources []string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// GrantUse returns the name of the storage.Use of a grant. Its owner is the subject.
func GrantUse(id string) string { return "grant " + id }

// ClientGrant returns the Grant of tickets that hold tokens of a client's own, as those for a
// user have the ID of a Grant.
func ClientGrant(clientID string) string { return "client:" + clientID }

// SessionOf returns the name of the sign-in session in which a ticket of a user's grant was
// issued; "" if there was none. The engine stores it as the member i of the ticket's data.
// It is for stores (identity.User.Kept).
func SessionOf(t storage.Ticket) string {
	var data struct {
		Session string `json:"i"`
	}
	if json.Unmarshal(t.Data, &data) != nil {
		return "" // not an authorization
	}
	return data.Session
}
