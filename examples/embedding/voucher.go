package main

import (
	"context"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
)

// voucherGrantType is a grant type of this application's own (RFC 6749, section 4.5):
// whoever has a voucher may read notes, once, without signing in.
const voucherGrantType = "https://notes.example.com/grants/voucher"

// exchangeVoucher says what a voucher entitles to. The server has authenticated the client,
// holds the answer to what the client may have, and makes the tokens.
func exchangeVoucher(ctx context.Context, r *authserver.GrantRequest) (*authserver.Entitlement, error) {
	v, ok := vouchers()[r.Param("voucher")]
	if !ok {
		return nil, oauth.NewError(oauth.InvalidGrant, "there is no such voucher")
	}
	e := &authserver.Entitlement{
		Scope:       oauth.Scope{"notes.read"},
		Claims:      oauth.Claims{"table": v.table},
		Once:        r.Param("voucher"),
		UsableUntil: r.Now.Add(365 * 24 * time.Hour),
	}
	if v.email == "" {
		return e, nil // the client's own token
	}
	var err error
	e.Subject, err = r.FindSubject(ctx, oauth.SubjectIdentifier{Format: oauth.SubjectFormatEmail, Email: v.email})
	return e, err
}

// voucher is for a table, and for a person who reserved it.
type voucher struct {
	table int
	email string
}

// vouchers would be in the application's database.
func vouchers() map[string]voucher {
	return map[string]voucher{"XK4-209": {12, ""}, "XK4-210": {3, "demo@example.com"}}
}

// tokenClaims adds what the application knows to every access token, and has the last word.
func tokenClaims(_ context.Context, r authserver.TokenRequest) (oauth.Claims, error) {
	if r.Kind != authserver.ClaimsOfAccessToken {
		return nil, nil
	}
	if r.Scope.Has("notes.write") && r.Subject == "" {
		return nil, oauth.NewError(oauth.AccessDenied, "only people write notes")
	}
	return oauth.Claims{"edition": "evening"}, nil
}
