package client_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

func newCertificate(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// recorder records which requests came with a certificate.
type recorder struct {
	mu       sync.Mutex
	requests []string
}

func (r *recorder) server(t *testing.T, name string, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_ = req.ParseForm()
		r.mu.Lock()
		r.requests = append(r.requests, fmt.Sprintf("%s %s certificates=%d client_id=%s authorization=%v", name, req.URL.Path, len(req.TLS.PeerCertificates), req.PostForm.Get("client_id"), req.Header.Get("Authorization") != ""))
		r.mu.Unlock()
		handler(w, req)
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.requests
	r.requests = nil
	return taken
}

func TestClientWithACertificate(t *testing.T) {
	var all recorder
	tokenResponse := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "t", "token_type": "Bearer", "expires_in": 300})
	}
	mtls := all.server(t, "mtls", tokenResponse)
	var metadata map[string]any
	issuer := all.server(t, "issuer", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.well-known/") {
			_ = json.NewEncoder(w).Encode(metadata)
			return
		}
		tokenResponse(w, r)
	})
	api := all.server(t, "api", func(http.ResponseWriter, *http.Request) {})
	metadata = map[string]any{
		"issuer": issuer.URL, "token_endpoint": issuer.URL + "/token", "revocation_endpoint": issuer.URL + "/revoke",
		"response_types_supported": []string{"code"},
		"mtls_endpoint_aliases":    map[string]any{"token_endpoint": mtls.URL + "/token"},
	}
	pool := x509.NewCertPool()
	for _, s := range []*httptest.Server{mtls, issuer, api} {
		pool.AddCert(s.Certificate())
	}
	config := client.Config{
		Issuer: issuer.URL, ClientID: "app", Certificate: newCertificate(t), AuthMethod: oauth.AuthMethodTLSClient,
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}},
	}
	c, err := client.Discover(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	all.take()
	response, err := c.ClientCredentialsSource().HTTPClient().Get(api.URL + "/notes")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if got, want := all.take(), []string{
		"mtls /token certificates=1 client_id=app authorization=false",
		"api /notes certificates=1 client_id= authorization=true",
	}; !slices.Equal(got, want) {
		t.Errorf("the requests are %q", got)
	}
	// An endpoint without an alias is used itself.
	if err := c.Revoke(t.Context(), &client.Tokens{AccessToken: "t"}); err != nil {
		t.Fatal(err)
	}
	if got, want := all.take(), []string{"issuer /revoke certificates=1 client_id=app authorization=false"}; !slices.Equal(got, want) {
		t.Errorf("the requests are %q", got)
	}
	// A client without a certificate uses the conventional endpoints.
	config.Certificate, config.AuthMethod = nil, ""
	if c, err = client.Discover(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	all.take()
	if _, err := c.ClientCredentials(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := all.take(), []string{"issuer /token certificates=0 client_id=app authorization=false"}; !slices.Equal(got, want) {
		t.Errorf("the requests are %q", got)
	}
}

func TestCertificatesThatCannotBeUsed(t *testing.T) {
	metadata := oauth.ServerMetadata{Issuer: "https://login.example", TokenEndpoint: "https://login.example/token"}
	config := client.Config{Issuer: metadata.Issuer, ClientID: "app"}
	for name, change := range map[string]func(*client.Config, *oauth.ServerMetadata){
		"tls_client_auth without a certificate":             func(c *client.Config, _ *oauth.ServerMetadata) { c.AuthMethod = oauth.AuthMethodTLSClient },
		"self_signed_tls_client_auth without a certificate": func(c *client.Config, _ *oauth.ServerMetadata) { c.AuthMethod = oauth.AuthMethodSelfSignedTLS },
		"an empty certificate":                              func(c *client.Config, _ *oauth.ServerMetadata) { c.Certificate = &tls.Certificate{} },
		"another transport": func(c *client.Config, _ *oauth.ServerMetadata) {
			c.Certificate, c.HTTPClient = newCertificate(t), &http.Client{Transport: roundTripper(http.DefaultTransport.RoundTrip)}
		},
		"an alias without https": func(c *client.Config, m *oauth.ServerMetadata) {
			c.Certificate, m.MTLSEndpointAliases = newCertificate(t), map[string]string{"token_endpoint": "http://mtls.login.example/token"}
		},
	} {
		c, m := config, metadata
		change(&c, &m)
		if _, err := client.New(m, c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	config.Certificate = newCertificate(t)
	if c, err := client.New(metadata, config); err != nil || strings.Contains(fmt.Sprintf("%+v %#v %v", c, config, config), "PrivateKey") {
		t.Errorf("the certificate is printed, or %v", err)
	}
}
