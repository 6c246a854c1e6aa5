package resourceserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/clientcertificate"
)

func newCertificate(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// RS-14, PP-12: a token that is bound to a certificate is accepted only over a connection with that
// certificate.
func TestPP12_RS14_CertificateBoundTokens(t *testing.T) {
	p := newProvider(t)
	own, other := newCertificate(t, "client"), newCertificate(t, "client")
	boundTo := func(c tls.Certificate) map[string]any {
		return map[string]any{"cnf": map[string]any{"x5t#S256": clientcertificate.Thumbprint(c.Leaf)}}
	}
	p.with(func() {
		p.active = map[string]map[string]any{"opaque": claims(boundTo(own)), "opaque-bearer": claims(nil)}
		for _, response := range p.active {
			response["active"] = true
		}
	})
	server := httptest.NewUnstartedServer(p.guard(t, introspecting).Require("notes.read")(whoami))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	defer server.Close()
	send := func(token string, certificates ...tls.Certificate) (int, string) {
		client := *server.Client()
		transport := client.Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.Certificates = certificates
		defer transport.CloseIdleConnections()
		client.Transport = transport
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Client-Cert", ":"+base64.StdEncoding.EncodeToString(own.Certificate[0])+":") // ignored: there is no proxy
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode, response.Header.Get("WWW-Authenticate")
	}
	jwt := p.token(t, "at+jwt", boundTo(own))
	for name, token := range map[string]string{"JWT": jwt, "introspected": "opaque"} {
		if status, _ := send(token, own); status != http.StatusOK {
			t.Errorf("%s with its certificate: %d", name, status)
		}
		for _, certificates := range [][]tls.Certificate{nil, {other}} {
			if status, challenge := send(token, certificates...); status != http.StatusUnauthorized || !challengeHas(challenge, "invalid_token") {
				t.Errorf("%s with %d other certificates: %d %s", name, len(certificates), status, challenge)
			}
		}
	}
	for _, certificates := range [][]tls.Certificate{nil, {own}} {
		if status, _ := send(p.token(t, "at+jwt", nil), certificates...); status != http.StatusOK {
			t.Errorf("a bearer token with %d certificates: %d", len(certificates), status)
		}
		if status, _ := send("opaque-bearer", certificates...); status != http.StatusOK {
			t.Errorf("an opaque bearer token with %d certificates: %d", len(certificates), status)
		}
	}
	for name, cnf := range map[string]any{
		"empty": map[string]any{}, "unknown": map[string]any{"kid": "x"}, "a string": "x", "null": nil, "an empty thumbprint": map[string]any{"x5t#S256": ""},
		"a number": map[string]any{"x5t#S256": 7}, "another key too": map[string]any{"x5t#S256": clientcertificate.Thumbprint(own.Leaf), "jkt": "x"},
		"SHA-1": map[string]any{"x5t": "x"},
	} {
		all := claims(nil)
		all["cnf"] = cnf
		if status, challenge := send(p.signed(t, "one", "at+jwt", all), own); status != http.StatusUnauthorized {
			t.Errorf("cnf is %s: %d %s", name, status, challenge)
		}
	}
}

func challengeHas(challenge, code string) bool {
	parsed := oauth.ParseChallenges(challenge)
	return len(parsed) == 1 && parsed[0].Param("error") == code
}

// Behind a proxy, the header is used only if the connection comes from the proxy.
func TestCA13_CertificateHeaderAtTheAPI(t *testing.T) {
	p := newProvider(t)
	own := newCertificate(t, "client").Leaf
	source, err := clientcertificate.Behind([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, "Client-Cert", "")
	if err != nil {
		t.Fatal(err)
	}
	h := p.guard(t, func(c *Config) { c.ClientCertificates = source }).Require()(whoami)
	token := p.token(t, "at+jwt", map[string]any{"cnf": map[string]any{"x5t#S256": clientcertificate.Thumbprint(own)}})
	for _, test := range []struct {
		peer   string
		header []string
		want   int
	}{
		{"10.0.0.1:5", []string{":" + base64.StdEncoding.EncodeToString(own.Raw) + ":"}, http.StatusOK},
		{"192.0.2.1:5", []string{":" + base64.StdEncoding.EncodeToString(own.Raw) + ":"}, http.StatusUnauthorized},
		{"10.0.0.1:5", []string{":" + base64.StdEncoding.EncodeToString(own.Raw) + ":", ":" + base64.StdEncoding.EncodeToString(own.Raw) + ":"}, http.StatusUnauthorized},
		{"10.0.0.1:5", []string{"x"}, http.StatusUnauthorized},
		{"10.0.0.1:5", nil, http.StatusUnauthorized},
	} {
		r := httptest.NewRequest(http.MethodGet, testResource, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		r.RemoteAddr, r.Header["Client-Cert"] = test.peer, test.header
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != test.want {
			t.Errorf("%s, %d headers: %d", test.peer, len(test.header), w.Code)
		}
	}
}

func TestOnlyCertificateBoundTokens(t *testing.T) {
	p := newProvider(t)
	own := newCertificate(t, "client").Leaf
	s := p.guard(t, func(c *Config) { c.RequireCertificateBoundTokens = true })
	send := func(token string) int {
		r := httptest.NewRequest(http.MethodGet, testResource, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{own}}
		w := httptest.NewRecorder()
		s.Require()(whoami).ServeHTTP(w, r)
		return w.Code
	}
	bound := p.token(t, "at+jwt", map[string]any{"cnf": map[string]any{"x5t#S256": clientcertificate.Thumbprint(own)}})
	if got := send(bound); got != http.StatusOK {
		t.Errorf("a bound token: %d", got)
	}
	bearer := p.token(t, "at+jwt", nil)
	if got := send(bearer); got != http.StatusUnauthorized {
		t.Errorf("a bearer token: %d", got)
	}
	for _, token := range []string{bound, bearer} {
		if _, err := s.Validate(t.Context(), token); err == nil {
			t.Error("a token without a request is accepted")
		}
	}
	w := httptest.NewRecorder()
	s.Metadata().ServeHTTP(w, httptest.NewRequest(http.MethodGet, s.MetadataPath(), nil))
	var metadata oauth.ProtectedResourceMetadata
	if err := json.Unmarshal(w.Body.Bytes(), &metadata); err != nil || !metadata.TLSClientCertificateBoundAccessTokens {
		t.Errorf("metadata: %s, %v", w.Body, err)
	}
}
