package authserver

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/storage/record"
)

// Outgoing configures which hosts the engine may connect to. The zero value is the secure
// default: the public internet, with the certificate authorities of the system.
//
// There are two policies. Networks is for addresses that the operator configured: webhooks,
// trusted issuers, and the metadata of declared clients. All other addresses come from
// outsiders: clients that registered themselves or have a metadata document. Those never
// reach a private network. Otherwise anybody who can register a client could make the server send
// requests into it.
type Outgoing struct {
	// Networks are private networks that addresses from the operator may be in.
	Networks []netip.Prefix
	// InsecureOutsiderNetworks are private networks that addresses from outsiders may be in.
	// It is for tests, and for servers that no outsider can reach.
	InsecureOutsiderNetworks []netip.Prefix
	// CertificateAuthorities replaces those of the system; nil keeps them.
	CertificateAuthorities *x509.CertPool
}

// maxOutsidersKeySetBytes limits the size of an outsider's key set. A key set at an address from
// the operator may have outgoing.MaxBytes.
const maxOutsidersKeySetBytes = 64 << 10

// newOutgoing returns a client for each policy. Each has its own cache, so that outsiders cannot
// evict documents of addresses that the operator configured.
func newOutgoing(o Outgoing, events *event.Log) (operator, outsiders *outgoing.Client) {
	operator = outgoing.New(outgoing.Policy{
		Networks:               o.Networks,
		CertificateAuthorities: o.CertificateAuthorities,
		ManyHosts:              true,
	}, events)
	outsiders = outgoing.New(outgoing.Policy{
		Networks:               o.InsecureOutsiderNetworks,
		CertificateAuthorities: o.CertificateAuthorities,
		MaxKeySetBytes:         maxOutsidersKeySetBytes,
		Outsiders:              true,
	}, events)
	return operator, outsiders
}

// outgoingFor returns the client for addresses in the metadata of a client: the operator's
// for a declared client.
func (s *Server) outgoingFor(c *record.Client) *outgoing.Client {
	if c.Registration != nil {
		return s.outsiderOutgoing
	}
	return s.operatorOutgoing
}

// ErrNoLogo is returned if a client has no logo, or one that cannot be shown.
var ErrNoLogo = errors.New("authserver: no logo to show")

// Logo returns the picture at a logo_uri of a client, or ErrNoLogo. It is fetched here and
// served from our own origin, so that the client's site does not learn who sees a page. uri
// must be in the client's metadata. contentType is image/png, image/jpeg, image/gif or
// image/webp. When ctx ends, the fetch goes on for the next caller.
func (s *Server) Logo(ctx context.Context, client *record.Client, uri string) (contentType string, body []byte, err error) {
	if uri == "" {
		return "", nil, ErrNoLogo
	}
	logo, err := s.outgoingFor(client).Logo(ctx, uri)
	if err != nil && ctx.Err() != nil {
		return "", nil, ctx.Err()
	}
	if err != nil {
		return "", nil, ErrNoLogo // the reason is in the log
	}
	return logo.ContentType, logo.Body, nil
}
