package outgoing

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/internal/event"
)

func TestDC07_PublicAddresses(t *testing.T) {
	for _, address := range []string{
		"127.0.0.1", "127.255.255.254", "::1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1", "239.255.255.250", "240.0.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
		"fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
		"64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "100::1",
	} {
		if publicAddress(netip.MustParseAddr(address)) {
			t.Errorf("%s is public", address)
		}
	}
	for _, address := range []string{"1.1.1.1", "93.184.215.14", "172.32.0.1", "100.128.0.1", "192.0.1.1", "2606:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1"} {
		if !publicAddress(netip.MustParseAddr(address)) {
			t.Errorf("%s is not public", address)
		}
	}
}

// An address can be spelled in many ways: the one that is dialed is checked.
func TestDC07_NoPrivateAddressIsDialed(t *testing.T) {
	var hits atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := New(Policy{}, quiet())
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1"} {
		if _, err := s.GetJSON(t.Context(), "https://"+host+":"+port+"/"); !errors.Is(err, ErrFetch) {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, address := range []string{"http://1.1.1.1/", "file:///etc/passwd", "https://user@1.1.1.1/", "gopher://1.1.1.1/", "https:///x", "https://", "\x00"} {
		if _, err := s.GetJSON(t.Context(), address); !errors.Is(err, ErrFetch) {
			t.Errorf("%q: %v", address, err)
		}
	}
	if hits.Load() != 0 {
		t.Errorf("the private server got %d requests", hits.Load())
	}
}

func quiet() *event.Log { return event.New(slog.New(slog.DiscardHandler)) }

// fetcher returns a client that may connect to a test server, and the server's URL.
func fetcher(t *testing.T, handler http.HandlerFunc) (*Client, string) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	guarded := New(Policy{}, quiet())
	transport := guarded.http.Transport.(*http.Transport)
	transport.DialContext = (&net.Dialer{}).DialContext
	transport.TLSClientConfig = &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	t.Cleanup(transport.CloseIdleConnections)
	return guarded, server.URL
}

func TestDC09_DC10_DC11_RedirectsSizeAndErrors(t *testing.T) {
	s, url := fetcher(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			io.WriteString(w, `{"keys":[]}`)
		case "/redirect":
			http.Redirect(w, r, "/good", http.StatusFound)
		case "/huge":
			io.WriteString(w, strings.Repeat("x", MaxBytes+1))
		case "/largest":
			io.WriteString(w, strings.Repeat("x", MaxBytes))
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			w.Write([]byte{0x1f, 0x8b})
		default:
			http.NotFound(w, r)
		}
	})
	for _, path := range []string{"/redirect", "/huge", "/absent"} {
		body, err := s.GetJSON(t.Context(), url+path)
		if !errors.Is(err, ErrFetch) || err.Error() != ErrFetch.Error() {
			t.Errorf("%s: %d bytes, %v", path, len(body), err)
		}
	}
	for path, length := range map[string]int{"/good": 11, "/largest": MaxBytes, "/gzip": 2} {
		if body, err := s.GetJSON(t.Context(), url+path); err != nil || len(body) != length {
			t.Errorf("%s: %d bytes, %v", path, len(body), err)
		}
	}
}

func TestDC10_SlowResponsesAreAborted(t *testing.T) {
	done := make(chan struct{})
	s, url := fetcher(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-done
	})
	defer close(done)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.GetJSON(ctx, url); !errors.Is(err, ErrFetch) || err.Error() != ErrFetch.Error() {
		t.Errorf("a body that never ends: %v", err)
	}
	if s.http.Timeout <= 0 || s.http.Timeout > 5*time.Second {
		t.Errorf("a fetch may take %s", s.http.Timeout)
	}
}

// A private network can be reached only if the operator names it and its certificate authority.
func TestDC07_NetworksOfTheOperator(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.PostFormValue("a") != "b" {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer server.Close()
	plain := httptest.NewServer(server.Config.Handler)
	defer plain.Close()
	authorities := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for name, test := range map[string]struct {
		policy  Policy
		url     string
		reached bool
	}{
		"both":                 {Policy{Networks: loopback, CertificateAuthorities: authorities}, server.URL, true},
		"http on loopback":     {Policy{Networks: loopback, CertificateAuthorities: authorities}, plain.URL, true},
		"no network":           {Policy{CertificateAuthorities: authorities}, server.URL, false},
		"http without network": {Policy{CertificateAuthorities: authorities}, plain.URL, false},
		"another network":      {Policy{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, CertificateAuthorities: authorities}, server.URL, false},
		"unknown authority":    {Policy{Networks: loopback}, server.URL, false},
	} {
		s := New(test.policy, quiet())
		if _, err := s.GetJSON(t.Context(), test.url); (err == nil) != test.reached {
			t.Errorf("%s: GET: %v", name, err)
		}
		status, err := s.PostForm(t.Context(), test.url, url.Values{"a": {"b"}})
		if (err == nil) != test.reached || test.reached && status != http.StatusOK {
			t.Errorf("%s: POST: %d, %v", name, status, err)
		}
		s.CloseIdleConnections()
	}
}
