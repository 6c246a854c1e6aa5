package valetkey

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
)

// certificateKeys returns a JWK Set with a certificate in x5c.
func certificateKeys(t *testing.T, certificate tls.Certificate) json.RawMessage {
	t.Helper()
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	point, err := leaf.PublicKey.(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:]),
		"x5c": []string{base64.StdEncoding.EncodeToString(leaf.Raw)},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func loadCertificate(t *testing.T, serial int64) tls.Certificate {
	t.Helper()
	files := writeCertificate(t, t.TempDir(), serial)
	certificate, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestTheListenerForClientsWithCertificates(t *testing.T) {
	own, other := loadCertificate(t, 2), loadCertificate(t, 3)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	files := writeCertificate(t, t.TempDir(), 1)
	s, _ := newTestServer(t, func(c *Config) {
		c.TLS = &files
		c.MutualTLS = &configuration.MutualTLS{Listen: address, Host: address}
		c.Clients = []configuration.Client{{ID: "service", ClientMetadata: oauth.ClientMetadata{
			TokenEndpointAuthMethod: oauth.AuthMethodSelfSignedTLS, JWKS: certificateKeys(t, own), GrantTypes: []string{oauth.GrantTypeClientCredentials},
			TLSClientCertificateBoundAccessTokens: true,
		}}}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.ServeMutualTLS(ctx, listener) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	send := func(host, path string, certificates ...tls.Certificate) (int, string) {
		t.Helper()
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certificates}, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+path, strings.NewReader(url.Values{"grant_type": {"client_credentials"}, "client_id": {"service"}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		// CA-13: no header replaces the certificate of the connection.
		for _, name := range []string{"Client-Cert", "X-Client-Cert", "Ssl-Client-Cert", "X-Forwarded-Client-Cert"} {
			r.Header.Set(name, ":"+base64.StdEncoding.EncodeToString(own.Certificate[0])+":")
		}
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	if status, body := send(address, "/token", own); status != http.StatusOK || !strings.Contains(body, "access_token") {
		t.Errorf("with the certificate: %d %s", status, body)
	}
	for name, certificates := range map[string][]tls.Certificate{"without a certificate": nil, "with another certificate": {other}} {
		if status, body := send(address, "/token", certificates...); status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	// There are no pages and no other hosts.
	for _, path := range []string{"/sign-in", "/authorize", "/", "/jwks", "/logout"} {
		if status, _ := send(address, path, own); status != http.StatusMisdirectedRequest {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, _ := send("evil.example", "/token", own); status != http.StatusMisdirectedRequest {
		t.Errorf("another host: %d", status)
	}
}

// TLS 1.2 is limited to the four cipher suites of RFC 9325, section 4.2, at both listeners.
func TestCipherSuites(t *testing.T) {
	files := writeCertificate(t, t.TempDir(), 1)
	s, _ := newTestServer(t, func(c *Config) {
		c.TLS = &files
		c.MutualTLS = &configuration.MutualTLS{Listen: "127.0.0.1:8443", Host: "mtls.login.example.com"}
	})
	for name, run := range map[string]func(context.Context, net.Listener) error{"first": s.Serve, "second": s.ServeMutualTLS} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, listener) }()
		accepted := func(config *tls.Config) bool {
			config.InsecureSkipVerify = true
			conn, err := tls.Dial("tcp", listener.Addr().String(), config)
			if err != nil {
				return false
			}
			conn.Close()
			return true
		}
		for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			if strings.Contains(suite.Name, "_RSA_") || suite.SupportedVersions[0] == tls.VersionTLS13 {
				continue // the certificate has an ECDSA key
			}
			want := suite.ID == tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 || suite.ID == tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
			if got := accepted(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}}); got != want {
				t.Errorf("%s listener: %s: accepted %v", name, suite.Name, got)
			}
		}
		if !accepted(&tls.Config{MinVersion: tls.VersionTLS13}) {
			t.Errorf("%s listener: TLS 1.3 is refused", name)
		}
		if accepted(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}) {
			t.Errorf("%s listener: TLS 1.1 is accepted", name)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
