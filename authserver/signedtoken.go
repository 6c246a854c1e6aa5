package authserver

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

// signedToken is a JWT access token of this server whose signature was verified, with what follows
// from its claims alone. Requests share it, so what it refers to must not be changed.
//
// Whether the token is valid now depends on more, and is looked up for each request: its expiry,
// its authorization and its revocation, its client, and its user.
type signedToken struct {
	claims *accessTokenClaims
	issued time.Time
	// keys are the keys of its revocations and, if it is anchored, of its anchor.
	keys     []storage.Key
	anchored bool
	// decoded is the authorization of its anchor, as it was read last.
	decoded atomic.Pointer[decodedAuthorization]
	// introspection is the response that describes the token; nil before the first one.
	introspection atomic.Pointer[[]byte]
}

// decodedAuthorization is the data of a ticket and what it means.
type decodedAuthorization struct {
	data []byte
	authorization
}

// maxSigned limits catalogue.signed. An entry takes about 2 KiB.
const maxSigned = 2_000

func newSignedToken(claims *accessTokenClaims) *signedToken {
	t := &signedToken{claims: claims, issued: readIssued(claims), keys: revocations(claims.ID)}
	var anchor storage.Key
	if anchor, t.anchored = readAnchor(claims.ID); t.anchored {
		t.keys = append(t.keys, anchor)
	}
	return t
}

// authorizationOf returns the authorization in the token's anchor. It decodes the ticket only if it
// has changed since the last time.
func (t *signedToken) authorizationOf(anchor storage.Ticket) (authorization, error) {
	if last := t.decoded.Load(); last != nil && bytes.Equal(last.data, anchor.Data) {
		return last.authorization, nil
	}
	a, err := readAuthorization(anchor)
	if err == nil {
		t.decoded.Store(&decodedAuthorization{anchor.Data, a})
	}
	return a, err
}

// ownAuthorization returns the authorization, decoded again, so that the caller may change it.
func (t *verifiedToken) ownAuthorization() (authorization, error) {
	if t.anchorData == nil {
		return t.authorization, nil
	}
	return readAuthorization(storage.Ticket{Data: t.anchorData})
}

// signedToken returns an access token whose signature is valid and that has not expired;
// otherwise the error is errInactive. The catalogue has those that were used recently, because
// verifying a signature takes twice as long as signing.
func (c *call) signedToken(token string) (*signedToken, error) {
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(token))
	if t, ok := catalogue.signed.get(hash); ok {
		if c.now.Unix() >= t.claims.Expires {
			return nil, errInactive
		}
		return t, nil
	}
	claims, ok := catalogue.verified.get(hash)
	if !ok {
		expected := jose.Expected{Algorithms: signingAlgorithms(), Types: []string{oauth.TypAccessToken}}
		payload, _, err := jose.Verify(token, catalogue.keys.public, expected)
		if errors.Is(err, jose.ErrUnknownKey) { // another node may sign with a key that was just created
			catalogue = c.s.newestCatalogue(c.r.Context(), catalogue)
			payload, _, err = jose.Verify(token, catalogue.keys.public, expected)
		}
		if err != nil {
			return nil, errInactive
		}
		if claims, err = readAccessTokenClaims(payload); err != nil {
			return nil, errInactive
		}
	}
	if claims.Issuer != c.s.config.Issuer || c.now.Unix() >= claims.Expires {
		return nil, errInactive
	}
	t := newSignedToken(claims)
	if !ok {
		catalogue.verified.put(hash, claims)
	}
	catalogue.signed.put(hash, t)
	return t, nil
}

// verifyJWTAccessToken returns a JWT access token unless it, or its authorization, was revoked. One
// query reads both.
func (c *call) verifyJWTAccessToken(token string) (*verifiedToken, error) {
	signed, err := c.signedToken(token)
	if err != nil {
		return nil, err
	}
	t := &verifiedToken{claims: *signed.claims, issued: signed.issued, signed: signed}
	found, err := c.s.config.Store.GetAll(c.r.Context(), c.now, signed.keys...)
	if err != nil {
		return nil, fmt.Errorf("look up the authorization and revocation of a token: %w", err)
	}
	if slices.ContainsFunc(found, func(t storage.Ticket) bool { return t.Kind == ticketkind.RevokedToken }) {
		return nil, errInactive
	}
	if !signed.anchored {
		return t, nil
	}
	if len(found) == 0 {
		return nil, errInactive
	}
	a, err := signed.authorizationOf(found[0])
	if err != nil {
		return nil, err
	}
	t.requestedClaims, t.claimsLocales, t.user = a.Claims, a.ClaimsLocales, a.Subject
	t.anchor, t.authorization, t.issued = anchorOf(t.claims.ID), a, time.UnixMilli(a.Issued)
	t.anchorData = found[0].Data
	return t, nil
}
