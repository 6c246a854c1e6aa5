package authserver

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// authorization is what a person allowed a client at one moment: the data of a code and
// of the tokens that descend from it.
type authorization struct {
	ClientID string `json:"c"`
	Subject  string `json:"s,omitempty"`
	// Other is the sub of tokens whose subject is neither a person here nor the client.
	Other     string      `json:"h,omitempty"`
	Grant     string      `json:"g,omitempty"`
	Family    string      `json:"f,omitempty"`
	Scope     oauth.Scope `json:"o,omitempty"`
	Resources []string    `json:"r,omitempty"`
	// Audience are the APIs that the user was asked about, where Resources does not say which
	// of them the tokens are for; nil if nobody was asked.
	Audience []string `json:"u,omitzero"`
	// Session is read by record.SessionOf too.
	Session  string               `json:"i,omitempty"`
	AuthTime int64                `json:"t,omitempty"` // Unix seconds
	ACR      string               `json:"a,omitempty"`
	AMR      []string             `json:"m,omitempty"`
	Claims   *oauth.ClaimsRequest `json:"q,omitempty"`
	// ClaimsLocales are the languages of claims, best first (OpenID Connect Core, section 5.2).
	ClaimsLocales []string `json:"l,omitempty"`
	// Extra are claims that its access tokens carry beside those of RFC 9068, section 2.2.
	Extra   oauth.Claims `json:"x,omitempty"`
	Started int64        `json:"b,omitempty"` // when the family began, Unix seconds
	// Issued is when the user, or the client for itself, was given this, in Unix milliseconds.
	// If everything of theirs ended since, so did this.
	Issued int64        `json:"n,omitempty"`
	Code   *codeBinding `json:"k,omitempty"` // on a code only
	Opaque *opaqueToken `json:"p,omitempty"` // on an opaque access token only
}

// codeBinding is what a code is bound to beside its client.
type codeBinding struct {
	RedirectURI string `json:"r"`
	// RedirectURISent says that the request named it, so that the redemption must too.
	RedirectURISent bool   `json:"s,omitempty"`
	CodeChallenge   string `json:"c,omitempty"`
	Nonce           string `json:"n,omitempty"`
	// Expires is when the code can no longer be redeemed, in Unix milliseconds. The
	// ticket lives longer, so that a replay is still recognised.
	Expires int64 `json:"e"`
}

// opaqueToken is what introspection says of an opaque access token.
type opaqueToken struct {
	Audience []string `json:"a"`
	IssuedAt int64    `json:"i"`
}

// ticket returns a ticket with the authorization as its data.
func (a *authorization) ticket(key storage.Key, expires time.Time) (storage.Ticket, error) {
	data, err := json.Marshal(a)
	if err != nil {
		return storage.Ticket{}, fmt.Errorf("encode authorization: %w", err)
	}
	return storage.Ticket{Key: key, Grant: a.Grant, Family: a.Family, Data: data, Expires: expires}, nil
}

func readAuthorization(t storage.Ticket) (authorization, error) {
	var a authorization
	if err := json.Unmarshal(t.Data, &a); err != nil {
		return a, fmt.Errorf("read authorization of a %s: %w", t.Kind, err)
	}
	return a, nil
}
