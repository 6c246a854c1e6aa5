package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// A service authenticates with its certificate, and presents the same certificate to the API, which
// its access token is bound to.
func ExampleConfig_certificate() {
	provider, api := startCertificateServers()
	defer provider.Close()
	defer api.Close()

	certificate := exampleCertificate() // tls.LoadX509KeyPair("client.pem", "client.key")
	ctx := context.Background()
	c, err := client.Discover(ctx, client.Config{
		Issuer: provider.URL, ClientID: "payments",
		AuthMethod: oauth.AuthMethodTLSClient, Certificate: &certificate,
		HTTPClient: provider.Client(), // trusts the certificates of the example
	})
	if err != nil {
		log.Fatal(err)
	}
	response, err := c.ClientCredentialsSource().HTTPClient().Get(api.URL + "/payments")
	if err != nil {
		log.Fatal(err)
	}
	response.Body.Close()
	// Output:
	// provider: token request with the certificate of CN=payments
	// API: request with the certificate of CN=payments
}

func startCertificateServers() (provider, api *httptest.Server) {
	provider = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path != "/token" {
			json.NewEncoder(w).Encode(oauth.ServerMetadata{Issuer: provider.URL, TokenEndpoint: provider.URL + "/token"})
			return
		}
		fmt.Println("provider: token request with the certificate of", r.TLS.PeerCertificates[0].Subject)
		json.NewEncoder(w).Encode(oauth.TokenResponse{AccessToken: "bound", TokenType: "Bearer", ExpiresIn: 300})
	}))
	api = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println("API: request with the certificate of", r.TLS.PeerCertificates[0].Subject)
	}))
	for _, server := range []*httptest.Server{provider, api} {
		server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		server.StartTLS()
	}
	return provider, api
}

func exampleCertificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "payments"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
