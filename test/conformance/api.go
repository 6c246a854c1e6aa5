package main

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/oauth/resourceserver"
)

// The API's client at the introspection endpoint.
const (
	apiClientID     = "accounts-api"
	apiClientSecret = "accounts-api-conformance-secret-0123456789"
)

// The API accepts the same tokens at both paths, but requires nonces in the DPoP proofs at one.
const (
	accountsPath = "/accounts"
	noncePath    = "/accounts-with-nonce"
)

// api is the protected API that the FAPI plans call with their tokens. package resourceserver
// protects it. It introspects the tokens, so that a revoked one is refused immediately. At
// approvePath, the suite says what the user should do in the CIBA plans.
type api struct {
	url      string
	issuer   string
	listener net.Listener
	server   *http.Server
}

// listenAPI opens the listener, so that the API's URL is known before its authorization server is
// configured.
func listenAPI() (*api, error) {
	certificatePEM, keyPEM, err := newCertificate()
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return nil, err
	}
	settings := &tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert,
		MinVersion: tls.VersionTLS12,
		// Modules test that there are no others (FAPI 2.0 Security Profile, section 5.2.2).
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384},
		NextProtos:   []string{"http/1.1"},
	}
	return &api{url: "https://localhost:" + port, listener: tls.NewListener(listener, settings)}, nil
}

// start serves the API for the tokens of an issuer.
func (a *api) start(issuer string) error {
	key := make([]byte, 32)
	rand.Read(key)
	routes := http.NewServeMux()
	for path, nonceKey := range map[string][]byte{accountsPath: nil, noncePath: key} {
		guard, err := resourceserver.New(resourceserver.Config{
			Issuer: issuer, Resource: a.url, ClientID: apiClientID, ClientSecret: apiClientSecret,
			IntrospectAll: true, IntrospectionCache: -1, // nothing is cached
			DPoP:       &resourceserver.DPoP{NonceKey: nonceKey},
			HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}},
		})
		if err != nil {
			return err
		}
		routes.Handle(path, guard.Require(accountsScope)(http.HandlerFunc(writeAccounts)))
	}
	a.issuer = issuer
	routes.HandleFunc("POST "+approvePath+"{label}", a.answerCIBA)
	a.server = &http.Server{
		Handler: resourceserver.WithInteractionID(routes), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: log.New(io.Discard, "", 0), // modules try old versions of TLS
	}
	go a.server.Serve(a.listener)
	return nil
}

func (a *api) stop() {
	if a.server != nil {
		_ = a.server.Close()
	}
	_ = a.listener.Close()
}

func writeAccounts(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"accounts": []any{map[string]any{"id": "1", "currency": "EUR"}}})
}
