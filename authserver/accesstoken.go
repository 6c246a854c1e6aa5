package authserver

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

// verifiedToken is an access token of ours that is good now.
type verifiedToken struct {
	claims accessTokenClaims
	// user is the subject here, whom the client may know by another name; "" for a
	// client's own token.
	user string
	// anchor is what it hangs from, "" if nothing; authorization what it descends from.
	anchor        string
	authorization authorization
	// asked and claimsLocales are parameters of its authorization.
	requestedClaims *oauth.ClaimsRequest
	claimsLocales   []string
	opaque          bool
	key             storage.Key // of the opaque one
	issued          time.Time   // or what it descends from
}

// errInactive says that a token is not one of ours, or no longer good.
var errInactive = errors.New("the token is not active")

// verifyAccessToken finds out what a token is and whether it is valid now: not revoked, nor its
// authorization, and its client and user active ever since.
func (s *Server) verifyAccessToken(ctx context.Context, now time.Time, token string) (t *verifiedToken, err error) {
	if strings.HasPrefix(token, prefixAccessToken) {
		t, err = s.verifyOpaqueAccessToken(ctx, now, token)
	} else {
		t, err = s.verifyJWTAccessToken(ctx, now, token)
	}
	if err != nil {
		return nil, err
	}
	active, err := s.activeSince(ctx, t)
	if err != nil {
		return nil, err
	}
	if !active {
		return nil, errInactive
	}
	return t, nil
}

// activeSince reports whether a token's client and user have been active ever since it was
// issued. A token may have been issued by a node that had not heard of the end of either.
func (s *Server) activeSince(ctx context.Context, t *verifiedToken) (bool, error) {
	// A client that is known by its document has no record here.
	if !oauth.IsClientIDURL(t.claims.ClientID) {
		issued := t.issued
		if iat := time.Unix(t.claims.IssuedAt, 0); t.authorization.ClientID != t.claims.ClientID && iat.After(issued) {
			issued = iat // of a token that was exchanged for another client's
		}
		cl, err := s.client(ctx, t.claims.ClientID)
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
	return s.subjectActive(ctx, t.user, t.authorization.Session, t.issued)
}

// subjectActive reports whether what was issued about a subject is still valid.
func (s *Server) subjectActive(ctx context.Context, subject, session string, issued time.Time) (bool, error) {
	active, err := s.config.Users.SubjectActive(ctx, subject, session, issued)
	if err != nil {
		return false, fmt.Errorf("look up subject: %w", err)
	}
	return active, nil
}

func (s *Server) verifyJWTAccessToken(ctx context.Context, now time.Time, token string) (*verifiedToken, error) {
	claims, err := s.verifyJWT(ctx, now, token)
	if err != nil {
		return nil, err
	}
	t := &verifiedToken{claims: *claims, issued: readIssued(claims)}
	keys := revocations(claims.ID)
	anchor, anchored := readAnchor(claims.ID)
	if anchored {
		keys = append(keys, anchor)
	}
	found, err := s.config.Store.GetAll(ctx, now, keys...)
	if err != nil {
		return nil, fmt.Errorf("look up authorization and revocation: %w", err)
	}
	if slices.ContainsFunc(found, func(t storage.Ticket) bool { return t.Kind == ticketkind.RevokedToken }) {
		return nil, errInactive
	}
	if !anchored {
		return t, nil
	}
	if len(found) == 0 {
		return nil, errInactive
	}
	a, err := readAuthorization(found[0])
	if err != nil {
		return nil, err
	}
	t.requestedClaims, t.claimsLocales, t.user = a.Claims, a.ClaimsLocales, a.Subject
	t.anchor, t.authorization, t.issued = anchorOf(claims.ID), a, time.UnixMilli(a.Issued)
	return t, nil
}

// The jti of a JWT access token begins with the key of a ticket that lives as long as its
// authorization does: that of the refresh token which came with it, or of the code that it
// was redeemed for or came with. When that is gone, the authorization was revoked, and the token with
// it (docs/decisions/0002). A client's own token has no anchor.
func (ent *entitlement) anchor() string {
	switch {
	case ent.subjectAnchor != "":
		return ent.subjectAnchor
	case ent.refreshToken != "":
		return writeAnchor("r", secretKey(ticketkind.RefreshToken, prefixRefreshToken, ent.refreshToken))
	case ent.reusedRefreshToken.Kind != "":
		return writeAnchor("r", ent.reusedRefreshToken.Key)
	case ent.code.Kind != "":
		return writeAnchor("c", ent.code)
	case ent.anchorKey.Kind != "":
		return writeAnchor("a", ent.anchorKey)
	}
	return ""
}

// jti returns a JWT's jti: the anchor, the token's own id, and the ids of the tokens that it
// was exchanged for and expires with.
func (ent *entitlement) jti() string {
	anchor, ids := ent.anchor(), cmp.Or(ent.ownID, storage.NewID())
	if ent.subjectToken != nil && !ent.outlives {
		before, more, found := strings.Cut(ent.subjectToken.jti, ".")
		if found {
			ids += "." + more
		}
		if strings.HasPrefix(before, issuedPrefix) {
			anchor = cmp.Or(anchor, before) // by which its revocation is found
		}
	}
	return cmp.Or(anchor, writeIssued(ent.authorization.Issued)) + "." + ids
}

// notRevoked returns errInactive if the JWT of that jti was revoked, or one that it was
// exchanged for: after the anchor come the token's own id and those of the tokens before it.
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

// revocations are the keys of tickets that are there if the JWT of that jti was revoked, or
// one that it was exchanged for.
func revocations(jti string) (keys []storage.Key) {
	anchor, ids, _ := strings.Cut(jti, ".")
	for more := true; more; _, ids, more = strings.Cut(ids, ".") {
		keys = append(keys, ticketkind.RevokedToken.Hash(anchor+"."+ids))
	}
	return keys
}

// descendants is the family of everything that is exchanged for the token and stored. It
// ends with the token, and without its authorization.
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

// newAnchor is for a person's token that comes with neither a code nor a refresh token.
func newAnchor() storage.Key {
	key := storage.Key{Kind: ticketkind.Anchor}
	rand.Read(key.ID[:])
	return key
}

func writeAnchor(kind string, key storage.Key) string {
	return kind + base64.RawURLEncoding.EncodeToString(key.ID[:])
}

// anchorOf is what a jti begins with.
func anchorOf(jti string) string {
	anchor, _, _ := strings.Cut(jti, ".")
	return anchor
}

// The jti of a token without an anchor begins with the time at which it was issued: iat does
// not tell what was issued before a client was enabled again from what was issued after it,
// in the same second.
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

func (s *Server) verifyOpaqueAccessToken(ctx context.Context, now time.Time, token string) (*verifiedToken, error) {
	if !isSecret(prefixAccessToken, token) {
		return nil, errInactive
	}
	ticket, err := s.config.Store.Get(ctx, now, secretKey(ticketkind.AccessToken, prefixAccessToken, token))
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
		Issuer: s.config.Issuer, Subject: a.Subject, Audience: a.Opaque.Audience, ClientID: a.ClientID,
		Expires: ticket.Expires.Unix(), IssuedAt: a.Opaque.IssuedAt, Scope: a.Scope.String(),
		AuthTime: a.AuthTime, ACR: a.ACR, AMR: a.AMR, Extra: a.Extra,
	}
	cl, err := s.client(ctx, a.ClientID)
	if errors.Is(err, errUnknownClient) {
		return nil, errInactive
	}
	if err != nil {
		return nil, err
	}
	claims.Subject = s.subjectOf(cl, &a)
	return &verifiedToken{claims: claims, user: a.Subject, anchor: writeAnchor("o", ticket.Key), authorization: a, requestedClaims: a.Claims, claimsLocales: a.ClaimsLocales, opaque: true, key: ticket.Key, issued: time.UnixMilli(a.Issued)}, nil
}

// verifyJWT checks a JWT access token of ours. Checking a signature costs twice what
// making one does, so the tokens that were found good are remembered by their hash.
func (s *Server) verifyJWT(ctx context.Context, now time.Time, token string) (*accessTokenClaims, error) {
	catalogue, err := s.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(token))
	if claims, ok := catalogue.verified.get(hash); ok {
		if now.Unix() >= claims.Expires {
			return nil, errInactive
		}
		return claims, nil
	}
	payload, _, err := jose.Verify(token, catalogue.keys.public, jose.Expected{
		Algorithms: signingAlgorithms(), Types: []string{oauth.TypAccessToken},
	})
	if err != nil {
		return nil, errInactive
	}
	claims, err := readAccessTokenClaims(payload)
	if err != nil {
		return nil, errInactive
	}
	if claims.Issuer != s.config.Issuer || now.Unix() >= claims.Expires {
		return nil, errInactive
	}
	catalogue.verified.put(hash, claims)
	return claims, nil
}
