package authserver

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// The values of subject_type (OpenID Connect Core, section 8).
const (
	subjectPublic   = "public"
	subjectPairwise = "pairwise"
)

// subjectFor returns the sub of a user for a client. For a pairwise client, it is the same for all
// clients of its sector and different for all others (OpenID Connect Core, section 8.1). It is a
// keyed hash, so that two sectors cannot correlate users.
func (s *Server) subjectFor(cl *client, subject string) string {
	if cl.SubjectType != subjectPairwise || subject == "" {
		return subject
	}
	return s.pairwise(cl.sector, subject)
}

// sessionFor returns the sid of a sign-in session for a client. For a pairwise client it depends on
// the sector too, because clients could correlate users by a common sid.
func (s *Server) sessionFor(cl *client, session string) string {
	if cl.SubjectType != subjectPairwise || session == "" {
		return session
	}
	return s.pairwise("sid "+cl.sector, session) // a sector never contains a space
}

func (s *Server) pairwise(sector, value string) string {
	mac := hmac.New(sha256.New, s.pairwiseKey)
	mac.Write([]byte(sector))
	mac.Write([]byte{0})
	mac.Write([]byte(value))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// sectorOf returns the sector identifier of a client, which is a host; "" if its redirect URIs have
// several hosts. A client without redirect URIs that uses CIBA has the host of its notification
// endpoint or jwks_uri.
func sectorOf(m *oauth.ClientMetadata) string {
	if m.SectorIdentifierURI != "" {
		return hostOf(m.SectorIdentifierURI)
	}
	if len(m.RedirectURIs) == 0 && m.HasGrantType(oauth.GrantTypeCIBA) { // CIBA Core, section 4
		if m.BackchannelTokenDeliveryMode == oauth.DeliveryPush {
			return hostOf(m.BackchannelClientNotificationEndpoint)
		}
		return hostOf(m.JWKSURI)
	}
	sector := ""
	for i, uri := range m.RedirectURIs {
		host := hostOf(uri)
		if i > 0 && host != sector {
			return ""
		}
		sector = host
	}
	return sector
}

// hostOf returns the host of a web address. It returns "" for a private-use scheme, where any client
// can choose the host.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Hostname()
}

// checkSector fetches a client's sector_identifier_uri, which must list every redirect URI (OpenID
// Connect Core, section 8.1). It is called for clients that register themselves; declared clients are
// trusted.
func (s *Server) checkSector(ctx context.Context, m *oauth.ClientMetadata) *ClientProblem {
	if m.SectorIdentifierURI == "" {
		return nil
	}
	document, err := s.outsiderOutgoing.GetJSON(ctx, m.SectorIdentifierURI)
	if err != nil {
		return &ClientProblem{"sector_identifier_uri", err.Error()}
	}
	var listed []string
	if err := jose.ParseJSON(document, &listed); err != nil {
		return &ClientProblem{"sector_identifier_uri", "the document is not a JSON array of redirect URIs"}
	}
	for _, uri := range m.RedirectURIs {
		if !slices.Contains(listed, uri) {
			return &ClientProblem{"sector_identifier_uri", "the document does not list " + uri}
		}
	}
	return nil
}

// encryptionAlgorithms returns the algorithms with which clients and this server encrypt to each
// other.
func encryptionAlgorithms() []jose.Algorithm {
	return slices.Concat(jose.PublicKeyEncryptionAlgorithms(), jose.SecretEncryptionAlgorithms())
}

func encryptsWithSecret(alg jose.Algorithm) bool {
	return slices.Contains(jose.SecretEncryptionAlgorithms(), alg)
}

// sharedSecret returns the secret that a client signs and encrypts with; "" if it has none.
func (c *client) sharedSecret() string {
	if len(c.Secrets) == 0 {
		return ""
	}
	return c.Secrets[0]
}

// encryptTo encrypts a payload to a client, with its keys or its secret (OpenID Connect Core, section
// 10.2). If alg is "", it returns the payload unchanged.
func (s *Server) encryptTo(ctx context.Context, now time.Time, cl *client, payload, alg, enc, contentType string) (string, error) {
	if alg == "" {
		return payload, nil
	}
	algorithm, encryption := jose.Algorithm(alg), jose.Encryption(cmp.Or(enc, string(jose.Encryptions()[0])))
	message := jose.Message{ContentType: contentType, Payload: []byte(payload)}
	var encrypted string
	var err error
	if encryptsWithSecret(algorithm) {
		encrypted, err = jose.EncryptSecret(algorithm, encryption, jose.SharedSecret(cl.sharedSecret()), message)
	} else {
		var key jose.JWK
		if key, err = cl.recipient(ctx, now, algorithm); err == nil {
			encrypted, err = jose.Encrypt(algorithm, encryption, key, message)
		}
	}
	if err != nil {
		return "", fmt.Errorf("encrypt to client %s: %w", cl.ID, err)
	}
	return encrypted, nil
}

// recipient returns the client's key to encrypt to. If no key of its jwks_uri is suitable, it fetches
// the keys again.
func (c *client) recipient(ctx context.Context, now time.Time, alg jose.Algorithm) (jose.JWK, error) {
	keys, err := c.keys, error(nil)
	for _, fresh := range [...]bool{false, true} {
		if c.remoteKeys != nil {
			if keys, err = c.remoteKeys.Get(ctx, fresh); err != nil {
				return jose.JWK{}, err
			}
		}
		if key, ok := keys.Recipient(alg); ok {
			return key, nil
		}
	}
	return jose.JWK{}, fmt.Errorf("none of its keys is for %s", alg)
}

// decrypt decrypts a token that was encrypted to a key of this server or, if cl is not nil, with the
// client's secret. If alg or enc is not "", no other algorithm is accepted.
func (c *call) decrypt(cl *client, token, alg, enc string) ([]byte, error) {
	header, err := jose.ParseEncryptedHeader(token)
	if err != nil {
		return nil, err
	}
	if alg != "" && alg != string(header.Algorithm) || enc != "" && enc != string(header.Encryption) {
		return nil, jose.ErrAlgorithm
	}
	if encryptsWithSecret(header.Algorithm) {
		if cl == nil {
			return nil, jose.ErrAlgorithm
		}
		err := jose.ErrAlgorithm
		for _, secret := range cl.Secrets {
			var payload []byte
			if payload, _, err = jose.DecryptSecret(token, jose.SharedSecret(secret), jose.SecretEncryptionAlgorithms()); err == nil {
				return payload, nil
			}
		}
		return nil, err
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	payload, _, err := jose.Decrypt(token, catalogue.keys.decrypters, jose.PublicKeyEncryptionAlgorithms())
	return payload, err
}

// algorithmNone is the alg of an unsigned JWT (RFC 7519, section 6). ID tokens may be unsigned if the
// client gets them only from the token endpoint, where TLS protects them (OpenID Connect Core,
// section 2; RFC 8725, section 3.2).
const algorithmNone jose.Algorithm = "none"

// sign returns a JWT for a client, signed with a key of this server or with the client's secret
// (OpenID Connect Core, section 10.1), or unsigned.
func (s *Server) sign(ctx context.Context, catalogue *catalogue, now time.Time, cl *client, alg jose.Algorithm, typ string, payload []byte) (string, error) {
	if alg == algorithmNone {
		return jose.Unsigned(typ, payload)
	}
	var signer *jose.Signer
	var err error
	if strings.HasPrefix(string(alg), "HS") {
		signer, err = jose.NewSecretSigner(alg, []byte(cl.sharedSecret()))
	} else {
		signer, err = s.signer(ctx, catalogue, alg, now)
	}
	if err != nil {
		return "", err
	}
	return s.signWith(ctx, signer, typ, payload)
}

// sign is Server.sign with the catalogue of this request.
func (c *call) sign(cl *client, alg jose.Algorithm, typ string, payload []byte) (string, error) {
	catalogue, err := c.catalogue()
	if err != nil {
		return "", err
	}
	return c.s.sign(c.r.Context(), catalogue, c.now, cl, alg, typ, payload)
}

// idTokenHint has the claims of an ID token that are used in a hint.
type idTokenHint struct {
	Issuer   string         `json:"iss"`
	Subject  string         `json:"sub"`
	Audience oauth.Audience `json:"aud"`
	Session  string         `json:"sid"`
}

// readIDTokenHint verifies that this server issued an ID token. The token may have expired (OpenID
// Connect RP-Initiated Logout, section 2). A client that received it encrypted may have encrypted it
// to this server (OpenID Connect Core, section 3.1.2.1).
func (c *call) readIDTokenHint(hint string) (*idTokenHint, error) {
	if jose.IsEncrypted(hint) {
		inner, err := c.decrypt(nil, hint, "", "")
		if err != nil {
			return nil, err
		}
		hint = string(inner)
	}
	payload, err := c.verifyIDToken(hint)
	if err != nil {
		return nil, err
	}
	var claims idTokenHint
	registered, err := jose.ParseClaims(payload, &claims)
	if err != nil {
		return nil, err
	}
	if registered.Expires.IsZero() { // for example, a signed UserInfo response
		return nil, errors.New("it is not an ID token of this issuer")
	}
	if claims.Issuer != c.s.config.Issuer || claims.Subject == "" || len(claims.Audience) == 0 {
		return nil, errors.New("it is not an ID token of this issuer")
	}
	return &claims, nil
}

// verifyIDToken verifies the signature. If the client is registered for HMAC, the key is its secret.
func (c *call) verifyIDToken(token string) ([]byte, error) {
	types := []string{oauth.TypIDToken, ""}
	header, err := jose.ParseHeader(token)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(string(header.Algorithm), "HS") {
		unverified, err := jose.UnverifiedPayload(token)
		if err != nil {
			return nil, err
		}
		claims, err := jose.ParseClaims(unverified, nil)
		if err != nil || len(claims.Audience) != 1 {
			return nil, errors.New("it is not an ID token of this issuer")
		}
		if oauth.IsClientIDURL(claims.Audience[0]) {
			return nil, errors.New("its client has no secret")
		}
		cl, err := c.clientByID(claims.Audience[0])
		if err != nil || cl.IDTokenSignedResponseAlg != string(header.Algorithm) {
			return nil, errors.New("its client is not registered for its algorithm")
		}
		for _, secret := range cl.Secrets {
			payload, _, err := jose.VerifySecret(token, []byte(secret), jose.Expected{Algorithms: []jose.Algorithm{header.Algorithm}, Types: types})
			if err == nil {
				return payload, nil
			}
		}
		return nil, jose.ErrSignature
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	payload, _, err := jose.Verify(token, catalogue.keys.public, jose.Expected{Algorithms: signingAlgorithms(), Types: types})
	return payload, err
}
