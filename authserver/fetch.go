package authserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/valetkey/valetkey/jose"
)

// Bounds of the guarded client.
const (
	fetchTimeout   = 5 * time.Second
	fetchMaxBytes  = 512 << 10
	remoteKeysLife = 5 * time.Minute
	remoteKeysRest = 30 * time.Second
	// remoteKeysRetry is the pause after a failure while there are no keys at all.
	remoteKeysRetry = 5 * time.Second
)

// errFetch is the one thing that is said of a fetch that failed: what lies behind an
// address is nobody's business (an answer that differs would be a port scanner).
var errFetch = errors.New("the document could not be fetched")

// newGuardedClient returns the client through which the engine fetches what strangers
// name. It connects to public addresses only, decided on the address that is dialled, so
// that no name can be rebound; it follows no redirect and bounds time.
func newGuardedClient() *http.Client {
	dialer := &net.Dialer{Timeout: fetchTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !publicAddress(ap.Addr()) {
			return errFetch
		}
		return nil
	}}
	return &http.Client{
		Timeout: fetchTimeout,
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    fetchTimeout,
			ResponseHeaderTimeout:  fetchTimeout,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
			MaxIdleConns:           16,
			IdleConnTimeout:        30 * time.Second,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// notPublic are ranges that net/netip's own predicates leave out: shared and reserved
// IPv4, benchmarks, documentation, and the IPv6 forms that carry an IPv4 address inside
// (RFC 6052, RFC 8215, RFC 3056, RFC 4380).
func notPublic() []string {
	return []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32",
		"2001:db8::/32", "2002::/16", "::/96", "fec0::/10",
	}
}

func publicAddress(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return false
	}
	for _, prefix := range notPublic() {
		if netip.MustParsePrefix(prefix).Contains(a) {
			return false
		}
	}
	return true
}

// fetch gets a document over https.
func (s *Server) fetch(ctx context.Context, address string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errFetch
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errFetch
	}
	request.Header.Set("Accept", "application/json")
	response, err := s.fetches.Do(request)
	if err != nil {
		return nil, errFetch
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, errFetch
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, fetchMaxBytes+1))
	if err != nil || len(body) > fetchMaxBytes {
		return nil, errFetch
	}
	return body, nil
}

// remoteKeySet is a client's jwks_uri: kept for five minutes, asked for again when a kid
// is new, and at most every half minute.
type remoteKeySet struct {
	url   string
	fetch func(context.Context, string) ([]byte, error)

	mu      sync.Mutex
	keys    *jose.KeySet
	fetched time.Time
}

// get returns the keys; fresh asks for those of the last half minute.
func (r *remoteKeySet) get(ctx context.Context, now time.Time, fresh bool) (*jose.KeySet, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	life := remoteKeysLife
	switch {
	case r.keys == nil:
		life = remoteKeysRetry // a failure must not lock the client out
	case fresh:
		life = remoteKeysRest
	}
	if !r.fetched.IsZero() && now.Sub(r.fetched) < life {
		if r.keys == nil {
			return nil, errFetch
		}
		return r.keys, nil
	}
	r.fetched = now
	// The caller may hang up; what is fetched is for all.
	keys, err := r.read(context.WithoutCancel(ctx))
	if err == nil {
		r.keys = keys
	} else if r.keys == nil {
		return nil, err
	}
	return r.keys, nil // yesterday's keys rather than none
}

func (r *remoteKeySet) read(ctx context.Context) (*jose.KeySet, error) {
	document, err := r.fetch(ctx, r.url)
	if err != nil {
		return nil, err
	}
	keys, err := jose.ParseKeySet(document)
	if err != nil {
		return nil, fmt.Errorf("read jwks_uri: %w", err)
	}
	return keys, nil
}
