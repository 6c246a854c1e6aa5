// Package outgoing sends the requests that the server initiates: it fetches documents, key sets
// and logos, and delivers messages. Each Client has one policy, which decides where it may
// connect to, and no host can use up the capacity for the others.
package outgoing

import (
	"bytes"
	"cmp"
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

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/telemetry"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

const (
	// Timeout limits each request, including the wait for its turn.
	Timeout = 5 * time.Second
	// MaxBytes is the usual limit on the size of a document.
	MaxBytes = 512 << 10
)

// Limits of concurrent requests for documents, for each policy.
const (
	perHost = 4
	perSite = 16
	atOnce  = 64
)

// Policy says where a client may connect to. The zero value is the public internet with the
// certificate authorities of the machine.
type Policy struct {
	// Networks are private networks that are also allowed.
	Networks []netip.Prefix
	// CertificateAuthorities replaces those of the machine; nil keeps them.
	CertificateAuthorities *x509.CertPool
	// ManyHosts removes the limit for the hosts of one site: an operator's own services may all
	// be in one domain.
	ManyHosts bool
	// Outsiders says that the addresses are supplied by others than the operator.
	Outsiders bool
	// MaxKeySetBytes limits the size of a key set; zero means MaxBytes.
	MaxKeySetBytes int64
}

func (p *Policy) allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return publicAddress(a) || slices.ContainsFunc(p.Networks, func(network netip.Prefix) bool { return network.Contains(a) })
}

var (
	// ErrFetch is the only error that a failed request returns. A more detailed error would
	// turn the server into a port scanner.
	ErrFetch = errors.New("the document could not be fetched")
	// ErrNoDocument is an ErrFetch after the host responded that there is no such document: 404
	// or 410.
	ErrNoDocument = fmt.Errorf("%w", ErrFetch)
)

// Permits reports whether a URL may be stored: if its host is an IP address or localhost, whether the
// policy allows it. Other names are checked when they are dialed.
func (c *Client) Permits(address string) bool {
	host := Host(address)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || c.policy.allows(ip)
}

// Client sends requests under one policy, and caches key sets and logos. It is safe for
// concurrent use.
type Client struct {
	policy  Policy
	http    *http.Client
	gate    gate
	keySets Cache[*jose.KeySet] // by URL
	issuers Cache[*jose.KeySet] // by issuer
	logos   Cache[*Logo]
}

// New returns a client. It connects only to addresses that the policy allows. They are
// checked when they are dialed, which prevents DNS rebinding. It does not follow redirects.
func New(p Policy, events *event.Log) *Client {
	dialer := &net.Dialer{Timeout: Timeout, Control: func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !p.allows(ap.Addr()) {
			return ErrFetch
		}
		return nil
	}}
	c := &Client{policy: p, gate: gate{perHost: perHost, perSite: perSite, atOnce: atOnce}}
	if p.ManyHosts {
		c.gate.perSite = atOnce
	}
	c.http = &http.Client{
		Timeout: Timeout,
		Transport: events.Telemetry().Transport(&http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: p.CertificateAuthorities},
			TLSHandshakeTimeout:    Timeout,
			ResponseHeaderTimeout:  Timeout,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
			MaxIdleConns:           16,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        30 * time.Second,
			ForceAttemptHTTP2:      true,
		}, destination(p)),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	maxKeySetBytes := cmp.Or(p.MaxKeySetBytes, MaxBytes)
	c.keySets = newKeySets(events, func(ctx context.Context, address string) ([]byte, error) {
		document, _, err := c.Get(ctx, address, "application/json", maxKeySetBytes)
		return document, err
	})
	c.issuers = newKeySets(events, c.fetchKeysOfIssuer)
	c.logos = c.newLogos(events)
	return c
}

// destination is how telemetry names the addresses of a policy.
func destination(p Policy) string {
	if p.Outsiders {
		return telemetry.DestinationOutsider
	}
	return telemetry.DestinationOperator
}

// Wait returns when no fetch of a key set or logo is in progress.
func (c *Client) Wait() {
	c.keySets.Wait()
	c.issuers.Wait()
	c.logos.Wait()
}

// CloseIdleConnections closes the connections that no request uses.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// Transport returns the transport that connects only to addresses that the policy allows, for a client
// that limits the size and the time of its requests itself.
func (c *Client) Transport() http.RoundTripper { return c.http.Transport }

// Get fetches a document of at most max bytes, and returns the header of the response.
func (c *Client) Get(ctx context.Context, address, accept string, max int64) (body []byte, header http.Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	r, err := newRequest(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Accept", accept)
	host, site := Host(address), Site(address)
	if err := c.gate.enter(ctx, host, site); err != nil {
		return nil, nil, ErrFetch
	}
	defer c.gate.leave(host, site)
	response, err := c.http.Do(r)
	if err != nil {
		return nil, nil, ErrFetch
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, nil, ErrNoDocument
	default:
		return nil, nil, ErrFetch
	}
	body, err = io.ReadAll(io.LimitReader(response.Body, max+1))
	if err != nil || int64(len(body)) > max {
		return nil, nil, ErrFetch
	}
	return body, response.Header, nil
}

// GetJSON fetches a JSON document of at most MaxBytes.
func (c *Client) GetJSON(ctx context.Context, address string) ([]byte, error) {
	body, _, err := c.Get(ctx, address, "application/json", MaxBytes)
	return body, err
}

// PostForm sends a form and returns the status of the response. Callers limit how many they send
// at a time.
func (c *Client) PostForm(ctx context.Context, address string, form url.Values) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	r, err := newRequest(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := c.http.Do(r)
	if err != nil {
		return 0, ErrFetch
	}
	// Reading a short body lets the connection be used again.
	_, _ = io.CopyN(io.Discard, response.Body, 4<<10)
	return response.StatusCode, response.Body.Close()
}

// PostJSON sends a document to a service of the operator and returns the response, at most max
// bytes of it. Status 0 means that there was none. Its errors are for the operator's log: they say
// what went wrong, but not where. Callers limit how many they send at a time.
func (c *Client) PostJSON(ctx context.Context, address string, header http.Header, body []byte, max int64) (status int, contentType string, document []byte, err error) {
	r, err := newRequest(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	r.Header = header
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	return c.ask(r, max)
}

// GetFrom fetches a document from a service of the operator. Its results and errors are those of
// PostJSON. No more than a few requests are sent to a host at a time; the others wait.
func (c *Client) GetFrom(ctx context.Context, address string, header http.Header, max int64) (status int, contentType string, document []byte, err error) {
	r, err := newRequest(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, "", nil, err
	}
	r.Header = header
	host, site := Host(address), Site(address)
	if err := c.gate.enter(ctx, host, site); err != nil {
		return 0, "", nil, fmt.Errorf("wait for earlier requests: %w", err)
	}
	defer c.gate.leave(host, site)
	return c.ask(r, max)
}

// ask sends a request to a service of the operator.
func (c *Client) ask(r *http.Request, max int64) (status int, contentType string, document []byte, err error) {
	response, err := c.http.Do(r)
	if errors.Is(err, ErrFetch) {
		return 0, "", nil, errors.New("its address is not public; add its network to outgoing.networks")
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	if err != nil {
		return 0, "", nil, err
	}
	defer response.Body.Close()
	document, err = io.ReadAll(io.LimitReader(response.Body, max+1))
	if err != nil {
		return 0, "", nil, fmt.Errorf("read its response: %w", err)
	}
	if int64(len(document)) > max {
		return response.StatusCode, "", nil, fmt.Errorf("its response has more than %d bytes", max)
	}
	return response.StatusCode, response.Header.Get("Content-Type"), document, nil
}

// newRequest accepts https, and http to loopback: the policy decides whether loopback may be
// dialed.
func newRequest(ctx context.Context, method, address string, body io.Reader) (*http.Request, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !oauth.IsLoopbackHost(u.Hostname())) {
		return nil, ErrFetch
	}
	r, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, ErrFetch
	}
	return r, nil
}
