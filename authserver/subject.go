package authserver

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"slices"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// The values of subject_type (OpenID Connect Core, section 8).
const (
	subjectPublic   = "public"
	subjectPairwise = "pairwise"
)

// subjectFor returns the sub by which a client knows a person. That of a pairwise client is
// the same for all clients of its sector and for nobody else (OpenID Connect Core, section
// 8.1): a keyed hash, so that no two sectors can compare notes.
func (s *Server) subjectFor(cl *client, subject string) string {
	if cl.SubjectType != subjectPairwise || subject == "" {
		return subject
	}
	return s.pairwise(cl.sector, subject)
}

// sessionFor returns the sid by which a client knows a sign-in session. Pairwise clients
// get one of their sector's own: by a sid that all share they would know the person again
// whom the sub hides from them.
func (s *Server) sessionFor(cl *client, session string) string {
	if cl.SubjectType != subjectPairwise || session == "" {
		return session
	}
	return s.pairwise("sid "+cl.sector, session) // no sector has a space in it
}

func (s *Server) pairwise(sector, value string) string {
	mac := hmac.New(sha256.New, s.pairwiseKey)
	mac.Write([]byte(sector))
	mac.Write([]byte{0})
	mac.Write([]byte(value))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// sectorOf is the host by which a client's subjects are told apart; "" if its redirect URIs
// have several.
func sectorOf(m *oauth.ClientMetadata) string {
	if m.SectorIdentifierURI != "" {
		return hostOf(m.SectorIdentifierURI)
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

// hostOf is "" for a private-use scheme: whoever registers it chooses what looks like a host.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Hostname()
}

// checkSector reads a client's sector_identifier_uri, which must list every redirect URI
// (OpenID Connect Core, section 8.1). It is asked of clients that register themselves; an
// operator's word is enough for a declared one.
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
