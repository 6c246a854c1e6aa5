package authserver

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/jose"
)

// Outgoing widens where the engine may connect to on its own. The zero value, the public
// internet with the certificate authorities of the machine, is the secure one.
//
// There are two policies. Networks is for addresses that the operator named: webhooks,
// trusted issuers, and the metadata of declared clients. Outsiders name the others: clients
// that registered themselves or have a metadata document. Those never reach a private
// network, because whoever may register a client could otherwise send requests into it.
type Outgoing struct {
	// Networks are private networks that addresses named by the operator may be in.
	Networks []netip.Prefix
	// InsecureOutsiderNetworks are private networks that addresses named by outsiders may be
	// in too. It is for tests, and for servers that no outsider can reach.
	InsecureOutsiderNetworks []netip.Prefix
	// CertificateAuthorities takes the place of the machine's; nil keeps those.
	CertificateAuthorities *x509.CertPool
}

// Bounds on what is fetched.
const (
	// Key sets: fresh for five minutes, fetched again for an unknown kid every half minute at
	// most. For an hour an older copy is used while the next one is fetched; after that the
	// request waits, because a key may have been withdrawn. While the host is down the last
	// copy is good for a day.
	keySetFresh = 5 * time.Minute
	keySetServe = time.Hour
	keySetKeep  = 24 * time.Hour
	keySetRest  = 30 * time.Second
	keySetRetry = 5 * time.Second
	// maxOutsidersKeySetBytes bounds a key set that an outsider names; an operator's may have
	// outgoing.MaxBytes.
	maxOutsidersKeySetBytes = 64 << 10
	maxKeySetsBytes         = 32 << 20
	// keySetMemory is how much more memory a key set takes than its document.
	keySetMemory = 4
)

// remote is everything that the engine fetches or sends under one policy. What outsiders
// name has a remote of its own, so that it cannot push out what the operator named.
type remote struct {
	*outgoing.Client
	keySets outgoing.Cache[*jose.KeySet]
	// issuers are key sets by the issuer whose metadata says where they are.
	issuers outgoing.Cache[*jose.KeySet]
	logos   outgoing.Cache[*Logo]
}

func newRemote(policy outgoing.Policy, maxKeySetBytes int64, events *event.Log) *remote {
	r := &remote{Client: outgoing.New(policy)}
	r.keySets = newKeySets(events, func(ctx context.Context, address string) ([]byte, error) {
		body, _, err := r.Get(ctx, address, "application/json", maxKeySetBytes)
		return body, err
	})
	r.issuers = newKeySets(events, r.fetchKeysOfIssuer)
	r.logos = outgoing.Cache[*Logo]{
		Load: func(ctx context.Context, address string) (*Logo, int, error) {
			logo, size, err := r.fetchLogo(ctx, address)
			if err != nil {
				events.Record(ctx, event.ClientLogoFetchFailed, slog.String("uri", withoutQuery(address)), slog.Any("cause", err))
			}
			return logo, size, err
		},
		Fresh: logoLife, Serve: logoKeep, Keep: logoKeep, Rest: logoRetry, Retry: logoRetry, MaxBytes: maxLogosBytes,
	}
	return r
}

func newKeySets(events *event.Log, fetch func(ctx context.Context, address string) ([]byte, error)) outgoing.Cache[*jose.KeySet] {
	return outgoing.Cache[*jose.KeySet]{
		Load: func(ctx context.Context, address string) (*jose.KeySet, int, error) {
			document, err := fetch(ctx, address)
			var keys *jose.KeySet
			if err == nil {
				keys, err = jose.ParseKeySet(document)
			}
			if err != nil {
				events.Record(ctx, event.KeySetFetchFailed, slog.String("uri", withoutQuery(address)), slog.Any("cause", err))
				return nil, 0, fmt.Errorf("read key set: %w", err)
			}
			return keys, keySetMemory * len(document), nil
		},
		Fresh: keySetFresh, Serve: keySetServe, Keep: keySetKeep, Rest: keySetRest, Retry: keySetRetry, MaxBytes: maxKeySetsBytes,
	}
}

// withoutQuery is how an address is logged: what follows may be a secret.
func withoutQuery(address string) string {
	address, _, _ = strings.Cut(address, "?")
	return clip(address)
}

// remotes makes the two policies.
func remotes(o Outgoing, events *event.Log) (operator, outsiders *remote) {
	operator = newRemote(outgoing.Policy{Networks: o.Networks, CertificateAuthorities: o.CertificateAuthorities, ManyHosts: true}, outgoing.MaxBytes, events)
	outsiders = newRemote(outgoing.Policy{Networks: o.InsecureOutsiderNetworks, CertificateAuthorities: o.CertificateAuthorities}, maxOutsidersKeySetBytes, events)
	return operator, outsiders
}

// remoteOf returns the policy for what a client's metadata name: the operator's for a
// declared client.
func (s *Server) remoteOf(c *Client) *remote {
	if c.Registration != nil {
		return s.outsiders
	}
	return s.operator
}

func (r *remote) wait() {
	r.keySets.Wait()
	r.issuers.Wait()
	r.logos.Wait()
}
