package authserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// Bounds of the guarded client.
const (
	fetchTimeout  = 5 * time.Second
	fetchMaxBytes = 512 << 10
)

// Outgoing widens where the engine may connect to by itself. The zero value, the public
// internet with the certificate authorities of the machine, is the secure one.
type Outgoing struct {
	// Networks are private networks that count as public.
	Networks []netip.Prefix
	// CertificateAuthorities takes the place of the machine's; nil keeps those.
	CertificateAuthorities *x509.CertPool
}

func (o *Outgoing) allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return publicAddress(a) || slices.ContainsFunc(o.Networks, func(network netip.Prefix) bool { return network.Contains(a) })
}

// errFetch is the one thing that is said of a fetch that failed: what lies behind an
// address is nobody's business (an answer that differs would be a port scanner).
var errFetch = errors.New("the document could not be fetched")

// newGuardedClient returns the client through which the engine fetches what strangers
// name. It connects to public addresses only, decided on the address that is dialled, so
// that no name can be rebound; it follows no redirect and bounds time.
func newGuardedClient(o Outgoing) *http.Client {
	dialer := &net.Dialer{Timeout: fetchTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !o.allows(ap.Addr()) {
			return errFetch
		}
		return nil
	}}
	return &http.Client{
		Timeout: fetchTimeout,
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: o.CertificateAuthorities},
			TLSHandshakeTimeout:    fetchTimeout,
			ResponseHeaderTimeout:  fetchTimeout,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
			MaxIdleConns:           16,
			MaxIdleConnsPerHost:    8,
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

// fetch gets a JSON document.
func (s *Server) fetch(ctx context.Context, address string) ([]byte, error) {
	body, _, err := s.fetchAs(ctx, address, "application/json", fetchMaxBytes)
	return body, err
}

// fetchAs gets a document of at most max bytes, and the header that it came with.
func (s *Server) fetchAs(ctx context.Context, address, accept string, max int64) (body []byte, header http.Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := s.outgoingRequest(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Accept", accept)
	response, err := s.fetches.Do(request)
	if err != nil {
		return nil, nil, errFetch
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, nil, errFetch
	}
	body, err = io.ReadAll(io.LimitReader(response.Body, max+1))
	if err != nil || int64(len(body)) > max {
		return nil, nil, errFetch
	}
	return body, response.Header, nil
}

// postForm sends a form and returns the status of the answer, whose body is of no
// interest.
func (s *Server) postForm(ctx context.Context, address string, form url.Values) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := s.outgoingRequest(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := s.fetches.Do(request)
	if err != nil {
		return 0, errFetch
	}
	// A short body that was read lets the connection be used again.
	_, _ = io.CopyN(io.Discard, response.Body, 4<<10)
	return response.StatusCode, response.Body.Close()
}

// postJSON sends a document to a service of the operator's and returns the answer, of at
// most max bytes; a status of 0 says that there was none. Its errors say what went wrong,
// for the operator's log, but not where.
func (s *Server) postJSON(ctx context.Context, address string, header http.Header, body []byte, max int64) (status int, contentType string, answer []byte, err error) {
	request, err := s.outgoingRequest(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	request.Header = header
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	response, err := s.fetches.Do(request)
	if errors.Is(err, errFetch) {
		return 0, "", nil, errors.New("its address is not public, and outgoing does not name its network")
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	if err != nil {
		return 0, "", nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, max+1))
	if err != nil {
		return 0, "", nil, fmt.Errorf("read its answer: %w", err)
	}
	if int64(len(answer)) > max {
		return response.StatusCode, "", nil, fmt.Errorf("its answer has more than %d bytes", max)
	}
	return response.StatusCode, response.Header.Get("Content-Type"), answer, nil
}

// outgoingRequest takes https, and http where it stays on this machine and Networks
// allows that.
func (s *Server) outgoingRequest(ctx context.Context, method, address string, body io.Reader) (*http.Request, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !oauth.IsLoopbackHost(u.Hostname())) {
		return nil, errFetch
	}
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, errFetch
	}
	return request, nil
}
