package authserver

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// verifiedToken is an access token of this server that is valid now.
type verifiedToken struct {
	claims accessTokenClaims
	// user is the subject in the user database, which can differ from the sub that the client
	// sees. It is "" for a client's own token.
	user string
	// anchor identifies the ticket that the token belongs to, "" if there is none.
	// authorization is the one that the token was issued for. Other requests may share it.
	anchor        string
	authorization authorization
	// requestedClaims and claimsLocales are parameters of its authorization.
	requestedClaims *oauth.ClaimsRequest
	claimsLocales   []string
	opaque          bool
	key             storage.Key  // of an opaque token
	signed          *signedToken // of a JWT
	anchorData      []byte       // the data of its anchor
	issued          time.Time    // when its authorization was issued, or the token if it has none
}

// errInactive is returned for a token that this server did not issue or that is no longer
// valid.
var errInactive = errors.New("the token is not active")

// verifyAccessToken returns an access token if it is valid now: neither it nor its authorization
// was revoked, and its client and user have been active since it was issued.
func (c *call) verifyAccessToken(token string) (t *verifiedToken, err error) {
	if strings.HasPrefix(token, prefixAccessToken) {
		t, err = c.verifyOpaqueAccessToken(token)
	} else {
		t, err = c.verifyJWTAccessToken(token)
	}
	if err != nil {
		return nil, err
	}
	c.subject = t.user
	active, err := c.activeSince(t)
	if err != nil {
		return nil, err
	}
	if !active {
		return nil, errInactive
	}
	return t, nil
}

// activeSince reports whether a token's client and user have been active since the token was
// issued. It may have been issued by a node that did not yet know about a change.
func (c *call) activeSince(t *verifiedToken) (bool, error) {
	// A client with a metadata document has no record in the store.
	if !oauth.IsClientIDURL(t.claims.ClientID) {
		issued := t.issued
		if iat := time.Unix(t.claims.IssuedAt, 0); t.authorization.ClientID != t.claims.ClientID && iat.After(issued) {
			issued = iat // an exchanged token: the authorization was another client's
		}
		cl, err := c.clientByID(t.claims.ClientID)
		if errors.Is(err, errUnknownClient) || err == nil && !cl.issuedSince(issued) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	if t.user == "" {
		return true, nil
	}
	return c.s.subjectActive(c.r.Context(), t.user, t.authorization.Session, t.issued)
}

// subjectActive reports whether tokens that were issued for a subject at a time are still valid.
func (s *Server) subjectActive(ctx context.Context, subject, session string, issued time.Time) (bool, error) {
	active, err := s.config.Users.SubjectActive(ctx, subject, session, issued)
	if err != nil {
		return false, fmt.Errorf("look up subject: %w", err)
	}
	return active, nil
}

// anchor returns the first part of the jti of a JWT access token: the key of a ticket that
// exists as long as its authorization. That is the ticket of the refresh token or code that was
// issued with the token, or of the code that was redeemed for it. When the ticket is gone, the
// authorization and the token are revoked (docs/decisions/0002). A client's own token has no
// anchor.
func (ent *entitlement) anchor() string {
	switch {
	case ent.subjectAnchor != "":
		return ent.subjectAnchor
	case ent.refreshToken != "":
		return writeAnchor("r", ent.refreshKey())
	case ent.reusedRefreshToken.Kind != "":
		return writeAnchor("r", ent.reusedRefreshToken.Key)
	case ent.code.Kind != "":
		return writeAnchor("c", ent.code)
	case ent.anchorKey.Kind != "":
		return writeAnchor("a", ent.anchorKey)
	}
	return ""
}

// refreshKey returns the key of the ticket of the refresh token.
func (ent *entitlement) refreshKey() storage.Key {
	return secretKey(ticketkind.RefreshToken, prefixRefreshToken, ent.refreshToken)
}

// jti returns the jti of a JWT: the anchor, the token's own ID, and the IDs of the subject
// tokens that it was exchanged from and expires with.
func (ent *entitlement) jti() string {
	anchor, ids := ent.anchor(), cmp.Or(ent.ownID, storage.NewID())
	if ent.subjectToken != nil && !ent.outlives {
		before, more, found := strings.Cut(ent.subjectToken.jti, ".")
		if found {
			ids += "." + more
		}
		if strings.HasPrefix(before, issuedPrefix) {
			anchor = cmp.Or(anchor, before) // the key of its revocation has it
		}
	}
	return cmp.Or(anchor, writeIssued(ent.authorization.Issued)) + "." + ids
}

// notRevoked returns errInactive if the JWT with a jti was revoked, or a token that it was
// exchanged from. The jti has their IDs after its own.
func (s *Server) notRevoked(ctx context.Context, now time.Time, jti string) error {
	found, err := s.config.Store.GetAll(ctx, now, revocations(jti)...)
	if err != nil {
		return fmt.Errorf("look up revocation: %w", err)
	}
	if len(found) > 0 {
		return errInactive
	}
	return nil
}

// revocations returns keys. One of them exists if the JWT with a jti was revoked, or a token that
// it was exchanged from.
func revocations(jti string) (keys []storage.Key) {
	anchor, ids, _ := strings.Cut(jti, ".")
	for more := true; more; _, ids, more = strings.Cut(ids, ".") {
		keys = append(keys, ticketkind.RevokedToken.Hash(anchor+"."+ids))
	}
	return keys
}

// descendants returns the family of the tickets of all tokens that are exchanged from this one.
// It can be deleted with this token, without the rest of the authorization.
func (t *verifiedToken) descendants() string {
	family := t.authorization.Family
	if strings.HasPrefix(t.anchor, "o") {
		family = storage.Descendant(family, t.anchor)
	}
	if t.opaque {
		return family
	}
	_, ids, _ := strings.Cut(t.claims.ID, ".")
	for _, id := range slices.Backward(strings.Split(ids, ".")) {
		family = storage.Descendant(family, id)
	}
	return family
}

// newAnchor returns an anchor for a user's token that has neither a code nor a refresh token.
func newAnchor() storage.Key {
	key := storage.Key{Kind: ticketkind.Anchor}
	rand.Read(key.ID[:])
	return key
}

func writeAnchor(kind string, key storage.Key) string {
	var space [64]byte
	return string(base64.RawURLEncoding.AppendEncode(append(space[:0], kind...), key.ID[:]))
}

// anchorOf returns the anchor at the beginning of a jti.
func anchorOf(jti string) string {
	anchor, _, _ := strings.Cut(jti, ".")
	return anchor
}

// The jti of a token without an anchor starts with the time of issue in milliseconds. iat is in
// seconds. That is too coarse to see whether the token was issued before or after the client was
// enabled again.
const issuedPrefix = "t"

func writeIssued(ms int64) string { return issuedPrefix + strconv.FormatInt(ms, 36) }

func readIssued(claims *accessTokenClaims) time.Time {
	if anchor := anchorOf(claims.ID); strings.HasPrefix(anchor, issuedPrefix) {
		if ms, err := strconv.ParseInt(anchor[1:], 36, 64); err == nil {
			return time.UnixMilli(ms)
		}
	}
	return time.Unix(claims.IssuedAt, 0)
}

func readAnchor(jti string) (storage.Key, bool) {
	var key storage.Key
	anchor := anchorOf(jti)
	if anchor == "" {
		return key, false
	}
	switch key.Kind = ticketkind.RefreshToken; anchor[0] {
	case 'c':
		key.Kind = ticketkind.Code
	case 'a':
		key.Kind = ticketkind.Anchor
	case 'o':
		key.Kind = ticketkind.AccessToken
	}
	id, err := base64.RawURLEncoding.DecodeString(anchor[1:])
	if err != nil || len(id) != len(key.ID) {
		return key, false
	}
	copy(key.ID[:], id)
	return key, true
}

func (c *call) verifyOpaqueAccessToken(token string) (*verifiedToken, error) {
	if !isSecret(prefixAccessToken, token) {
		return nil, errInactive
	}
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, secretKey(ticketkind.AccessToken, prefixAccessToken, token))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errInactive
	}
	if err != nil {
		return nil, fmt.Errorf("look up access token: %w", err)
	}
	a, err := readAuthorization(ticket)
	if err != nil {
		return nil, err
	}
	if a.Opaque == nil {
		return nil, errInactive
	}
	claims := accessTokenClaims{
		Issuer: c.s.config.Issuer, Subject: a.Subject, Audience: a.Opaque.Audience, ClientID: a.ClientID,
		Expires: ticket.Expires.Unix(), IssuedAt: a.Opaque.IssuedAt, Scope: a.Scope.String(),
		AuthTime: a.AuthTime, ACR: a.ACR, AMR: a.AMR, Details: a.Details, Confirmation: a.Confirmation, Extra: a.Extra,
	}
	cl, err := c.clientByID(a.ClientID)
	if errors.Is(err, errUnknownClient) {
		return nil, errInactive
	}
	if err != nil {
		return nil, err
	}
	claims.Subject = c.s.subjectOf(cl, &a)
	return &verifiedToken{claims: claims, user: a.Subject, anchor: writeAnchor("o", ticket.Key), authorization: a, requestedClaims: a.Claims, claimsLocales: a.ClaimsLocales, opaque: true, key: ticket.Key, issued: time.UnixMilli(a.Issued)}, nil
}

// CheckAccessTokenClaim returns an error if access tokens cannot have a user's claim.
func CheckAccessTokenClaim(name string) error {
	if err := checkClaim(name); err != nil {
		return err
	}
	if name == claimStatus {
		return oauth.ErrReservedClaim
	}
	return nil
}

// claimStatus is the claim with the place where an access token's status is published
// (draft-ietf-oauth-status-list, section 6.1).
const claimStatus = "status"

// readStatus moves the claim status from Extra to Status if this server has set it.
func (a *accessTokenClaims) readStatus() error {
	if _, ok := a.Extra[claimStatus].(map[string]any); !ok {
		return nil
	}
	document, err := json.Marshal(a.Extra[claimStatus])
	if err != nil {
		return fmt.Errorf("read status: %w", err)
	}
	var status oauth.Status
	if json.Unmarshal(document, &status) != nil || status.StatusList == nil {
		return nil // added by the operator's own code
	}
	a.Status = &status
	delete(a.Extra, claimStatus)
	return nil
}

// accessTokenExtra returns the claims of an access token that RFC 9068, section 2.2 does not
// define: those of its authorization, and the user's claims that the client or a resource is
// configured to receive.
func (c *call) accessTokenExtra(ctx context.Context, catalogue *catalogue, ent *entitlement, scope oauth.Scope, audience []string) (oauth.Claims, error) {
	a := &ent.authorization
	names := slices.Clone(c.client.AccessTokenClaims)
	for _, identifier := range audience {
		if r := catalogue.resource(identifier); r != nil {
			names = append(names, r.AccessTokenClaims...)
		}
	}
	if len(names) == 0 || a.Subject == "" {
		return a.Extra, nil
	}
	// The token must not contain access tokens of claim sources: APIs could read them.
	claims, err := c.userClaims(ctx, a.Subject, claimsWanted{names: names, granted: scope, resources: audience, byBrowser: true})
	if errors.Is(err, storage.ErrNotFound) {
		return a.Extra, nil // a user of an external issuer
	}
	if err != nil {
		return nil, fmt.Errorf("read claims for the access token: %w", err)
	}
	maps.Copy(claims, a.Extra)
	return claims, nil
}
