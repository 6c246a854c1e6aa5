package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
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
	// Details are the authorization details that the user allowed (RFC 9396). They are for the user to
	// see: what a token allows is in the token.
	Details   GrantedDetails
	CreatedAt time.Time
	UpdatedAt time.Time
}

// GrantedDetails are the latest authorization details that a user allowed, oldest first.
type GrantedDetails struct {
	Latest []GrantedDetail `json:"latest,omitempty"`
	// Earlier is set if there were others before, which are not stored any more.
	Earlier bool `json:"earlier,omitempty"`
}

// GrantedDetail is an authorization details object that a user allowed, as the client sent it.
type GrantedDetail struct {
	Detail json.RawMessage `json:"detail"`
	At     time.Time       `json:"at"`
}

// Limits of the details of one grant.
const (
	maxGrantedDetails     = 32
	maxGrantedDetailBytes = 64 << 10
)

// Add adds objects that the user has allowed now. One that was allowed before is moved to the end.
func (d *GrantedDetails) Add(now time.Time, details []json.RawMessage) {
	latest := slices.Clone(d.Latest)
	for _, detail := range details {
		latest = slices.DeleteFunc(latest, func(g GrantedDetail) bool { return bytes.Equal(g.Detail, detail) })
		latest = append(latest, GrantedDetail{Detail: detail, At: now.UTC().Truncate(time.Millisecond)})
	}
	size := 0
	for i := len(latest) - 1; i >= 0; i-- {
		if size += len(latest[i].Detail); size > maxGrantedDetailBytes || len(latest)-i > maxGrantedDetails {
			latest, d.Earlier = latest[i+1:], true
			break
		}
	}
	d.Latest = latest
}

// Clone returns a copy that shares nothing that can change.
func (d GrantedDetails) Clone() GrantedDetails {
	d.Latest = slices.Clone(d.Latest)
	return d
}

// Encode returns what stores store; "" for no details. Objects are not changed.
func (d GrantedDetails) Encode() (string, error) {
	if len(d.Latest) == 0 && !d.Earlier {
		return "", nil
	}
	var encoded strings.Builder
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(d); err != nil {
		return "", fmt.Errorf("encode the authorization details of a grant: %w", err)
	}
	return strings.TrimSuffix(encoded.String(), "\n"), nil
}

// DecodeGrantedDetails is the reverse of GrantedDetails.Encode.
func DecodeGrantedDetails(encoded string) (d GrantedDetails, err error) {
	if encoded == "" {
		return d, nil
	}
	if err := json.Unmarshal([]byte(encoded), &d); err != nil {
		return d, fmt.Errorf("decode the authorization details of a grant: %w", err)
	}
	return d, nil
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
