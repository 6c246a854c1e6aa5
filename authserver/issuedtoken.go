package authserver

import (
	"encoding/base64"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// IssuedToken describes the ticket of a token without its secret, for those who manage the server.
type IssuedToken struct {
	// Reference identifies the ticket.
	Reference string
	ClientID  string
	// Subject is the user; "" for a client's own token.
	Subject   string
	Scope     oauth.Scope
	Resources []string
	Issued    time.Time
	// Bound says that only the holder of a key can use it.
	Bound bool
}

// TokenKinds returns the kinds of the tickets that ReadIssuedToken reads: refresh tokens, opaque access
// tokens, and the anchors of JWT access tokens that have no refresh token.
func TokenKinds() []storage.Kind {
	return []storage.Kind{ticketkind.RefreshToken, ticketkind.AccessToken, ticketkind.Anchor}
}

// ReadIssuedToken returns what a ticket of one of TokenKinds stands for.
func ReadIssuedToken(t storage.Ticket) (*IssuedToken, error) {
	a, err := readAuthorization(t)
	if err != nil {
		return nil, err
	}
	return &IssuedToken{
		Reference: string(t.Kind) + "." + base64.RawURLEncoding.EncodeToString(t.ID[:]), ClientID: a.ClientID, Subject: a.Subject,
		Scope: a.Scope, Resources: a.Resources, Issued: time.UnixMilli(a.Issued), Bound: a.Confirmation != nil,
	}, nil
}

// TokenKey returns the key of the ticket with a reference.
func TokenKey(reference string) (storage.Key, bool) {
	kind, id, _ := strings.Cut(reference, ".")
	var key storage.Key
	for _, known := range TokenKinds() {
		if string(known) == kind {
			key.Kind = known
		}
	}
	decoded, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil || len(decoded) != len(key.ID) || key.Kind == "" {
		return key, false
	}
	copy(key.ID[:], decoded)
	return key, true
}
