package main

import (
	"context"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
)

// voucherGrantType is an extension grant of this application (RFC 6749, section 4.5): with a
// voucher, notes can be read once without signing in.
const voucherGrantType = "https://notes.example.com/grants/voucher"

// exchangeVoucher returns the entitlement of a voucher. The server has authenticated the
// client before, limits the entitlement to what the client is allowed, and issues the tokens.
func exchangeVoucher(ctx context.Context, r *authserver.GrantRequest) (*authserver.Entitlement, error) {
	v, ok := vouchers()[r.Param("voucher")]
	if !ok {
		return nil, oauth.NewError(oauth.InvalidGrant, "the voucher is not valid")
	}
	e := &authserver.Entitlement{
		Scope:       oauth.Scope{"notes.read"},
		Claims:      oauth.Claims{"table": v.table},
		Once:        r.Param("voucher"),
		UsableUntil: r.Now.Add(365 * 24 * time.Hour),
	}
	if v.email == "" {
		return e, nil // a token for the client itself
	}
	var err error
	e.Subject, err = r.FindSubject(ctx, oauth.SubjectIdentifier{Format: oauth.SubjectFormatEmail, Email: v.email})
	return e, err
}

// voucher is for a table, and for the user who reserved it, if any.
type voucher struct {
	table int
	email string
}

// vouchers returns all vouchers. A real application has them in its database.
func vouchers() map[string]voucher {
	return map[string]voucher{"XK4-209": {12, ""}, "XK4-210": {3, "demo@example.com"}}
}

// tokenClaims is called before a token is issued. It adds a claim to every access token, and
// can reject the request.
func tokenClaims(_ context.Context, r authserver.TokenRequest) (oauth.Claims, error) {
	if r.Kind != authserver.ClaimsOfAccessToken {
		return nil, nil
	}
	if r.Scope.Has("notes.write") && r.Subject == "" {
		return nil, oauth.NewError(oauth.AccessDenied, "only users can write notes")
	}
	return oauth.Claims{"edition": "evening"}, nil
}
