package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
)

// detailsType is the type of authorization details of the plans with rich authorization requests.
const detailsType = "account_access"

// fapiApplication is the application of one FAPI plan: a client with a profile, which signs in and
// calls the suite's API. Clients of OpenID Connect use a client.RelyingParty; those without use
// AuthorizationURL and CallbackRequest.
type fapiApplication struct {
	server      *httptest.Server
	alias       string
	fapi1       bool
	scopes      []string
	key         *ecdsa.PrivateKey // of assertions and request objects
	certificate tls.Certificate
	decrypter   *jose.Decrypter
	http        *http.Client
	current     atomic.Pointer[http.Handler]
}

func newFAPIApplication(p plan) (*fapiApplication, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	certificate, err := selfSigned(key)
	if err != nil {
		return nil, err
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	decrypter, err := jose.NewDecrypter("enc-1", private)
	if err != nil {
		return nil, err
	}
	a := &fapiApplication{
		alias: "valetkey-fapi-" + strings.ToLower(rand.Text()[:8]), fapi1: strings.HasPrefix(p.Plan, "fapi1"),
		key: key, certificate: certificate, decrypter: decrypter, scopes: []string{"accounts"},
		http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}},
	}
	if p.Variant["fapi_client_type"] == "oidc" {
		a.scopes = []string{"openid", "accounts"}
	}
	a.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if handler := a.current.Load(); handler != nil {
			(*handler).ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	a.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	a.server.StartTLS()
	return a, nil
}

func (a *fapiApplication) close() { a.server.Close() }

// selfSigned returns a certificate for a key, which the suite compares with the registered one.
func selfSigned(key *ecdsa.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: clientID},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func (a *fapiApplication) configuration() map[string]any {
	signer, err := jose.NewSigner(jose.ES256, keyID, a.key)
	if err != nil { // the key is new
		panic(err)
	}
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Certificate[0]}))
	first := map[string]any{
		"client_id": clientID, "scope": strings.Join(a.scopes, " "), "redirect_uri": a.server.URL + "/auth/callback",
		"certificate": certificate, "jwks": jose.KeySet{Keys: []jose.JWK{signer.Public()}},
	}
	second := map[string]any{
		"client_id": clientID, "scope": strings.Join(a.scopes, " "), "redirect_uri": a.server.URL + "/auth/callback",
		"certificate": certificate, "jwks": jose.KeySet{Keys: []jose.JWK{signer.Public(), a.decrypter.Public()}},
		"id_token_encrypted_response_alg": "RSA-OAEP", "id_token_encrypted_response_enc": "A256GCM",
	}
	configuration := map[string]any{
		"alias": a.alias, "description": "package client", "waitTimeoutSeconds": waitSeconds,
		"client": first, "client2": second,
		"resource": map[string]any{"authorization_details_types_supported": []string{detailsType}},
	}
	if a.fapi1 {
		configuration["server"] = map[string]any{"jwks": map[string]any{"keys": []any{privateKey()}}}
	}
	return configuration
}

// privateKey is a new key with which the suite signs ID tokens.
func privateKey() map[string]string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	encode := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	return map[string]string{
		"kty": "RSA", "use": "sig", "alg": "PS256", "kid": "suite-1",
		"n": encode(key.N), "e": encode(big.NewInt(int64(key.E))), "d": encode(key.D),
		"p": encode(key.Primes[0]), "q": encode(key.Primes[1]),
		"dp": encode(key.Precomputed.Dp), "dq": encode(key.Precomputed.Dq), "qi": encode(key.Precomputed.Qinv),
	}
}

// clientConfig returns the configuration for a module. The profile and the variant decide everything.
func (a *fapiApplication) clientConfig(issuer, module string, v variant) client.Config {
	config := client.Config{
		Profile: client.FAPI2, Issuer: issuer, ClientID: clientID, RedirectURI: a.server.URL + "/auth/callback",
		Scopes: a.scopes, HTTPClient: a.http, InteractionID: interactionID,
	}
	signed := v["fapi_request_method"] == "signed_non_repudiation" || a.fapi1
	if v["client_auth_type"] == "private_key_jwt" || signed {
		config.PrivateKey, config.KeyID = a.key, keyID
	}
	if signed {
		config.RequestObjectSigningAlg = jose.ES256
	}
	if v["client_auth_type"] == "mtls" {
		config.AuthMethod, config.Certificate = oauth.AuthMethodSelfSignedTLS, &a.certificate
	}
	switch {
	case v["sender_constrain"] == "dpop":
		config.DPoP = true
	default:
		config.Certificate = &a.certificate
	}
	if v["fapi_response_mode"] == "jarm" {
		config.AuthorizationSigningAlg = jose.PS256
	}
	switch {
	case a.fapi1:
		config.Profile = client.FAPI1Advanced
		config.PushAuthorizationRequests = v["fapi_auth_request_method"] == "pushed"
		if config.AuthorizationSigningAlg == "" {
			config.ResponseType = "code id_token"
		}
	case signed && config.AuthorizationSigningAlg != "":
		config.Profile = client.FAPI2MessageSigning
	}
	if strings.Contains(module, "encrypted-idtoken") {
		config.IDTokenEncryptionAlg, config.DecryptionKeys = "RSA-OAEP", []*jose.Decrypter{a.decrypter}
	}
	return config
}

// interactionID returns a new UUID for each request.
func interactionID(context.Context) string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (a *fapiApplication) drive(ctx context.Context, s *suite, test *instance, module string, v variant) error {
	config := a.clientConfig(test.Exposed.Issuer, module, v)
	if v["fapi_profile"] == "fapi_client_credentials_grant" {
		config.RedirectURI = "" // without users there is no authorization request
	}
	c, err := client.Discover(ctx, config)
	if err != nil {
		return err
	}
	if v["fapi_profile"] == "fapi_client_credentials_grant" {
		return callAccounts(ctx, c.ClientCredentialsSource().HTTPClient(), test.Exposed.Accounts)
	}
	options := client.AuthorizationOptions{}
	if v["authorization_request_type"] == "rar" {
		options.AuthorizationDetails = []any{map[string]any{"type": detailsType, "actions": []string{"read"}}}
	}
	f := &failure{}
	handler := a.plainPages(c, options, test.Exposed.Accounts, f)
	if v["fapi_client_type"] == "oidc" {
		if handler, err = relyingPartyPages(c, options, test.Exposed.Accounts, f); err != nil {
			return err
		}
	}
	a.current.Store(&handler)
	_, err = newBrowser(a.http.Transport).visit(ctx, a.server.URL+"/accounts")
	if failed := f.get(); failed != nil {
		return failed
	}
	return err
}

// failure is the first error of the application.
type failure struct {
	mu  sync.Mutex
	err error
}

func (f *failure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// relyingPartyPages are a relying party and a page for signed-in users that calls the API.
func relyingPartyPages(c *client.Client, options client.AuthorizationOptions, accounts string, f *failure) (http.Handler, error) {
	party, err := client.NewRelyingParty(client.RelyingPartyConfig{
		Client: c, Authorization: options, Logger: slog.New(slog.DiscardHandler),
		Error: func(w http.ResponseWriter, _ *http.Request, status int, err error) {
			f.set(err)
			w.WriteHeader(status)
		},
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", party)
	mux.Handle("/accounts", party.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.set(callAccounts(r.Context(), client.SessionFrom(r.Context()).Source().HTTPClient(), accounts))
	})))
	return mux, nil
}

// plainPages get an access token without an ID token and call the API.
func (a *fapiApplication) plainPages(c *client.Client, options client.AuthorizationOptions, accounts string, f *failure) http.Handler {
	const user = "the session of the user"
	options.UserSession = user
	var transaction *client.Transaction
	mux := http.NewServeMux()
	mux.HandleFunc("/accounts", func(w http.ResponseWriter, r *http.Request) {
		address, began, err := c.AuthorizationURL(r.Context(), options)
		if err != nil {
			f.set(err)
			return
		}
		transaction = began
		http.Redirect(w, r, address, http.StatusSeeOther)
	})
	mux.HandleFunc("/auth/callback", func(w http.ResponseWriter, r *http.Request) {
		tokens, err := c.CallbackRequest(r, transaction, user)
		if err == nil && len(options.AuthorizationDetails) > 0 && len(tokens.Details) == 0 {
			err = fmt.Errorf("the token response has no authorization_details")
		}
		if err == nil {
			err = callAccounts(r.Context(), c.Source(tokens, nil).HTTPClient(), accounts)
		}
		f.set(err)
	})
	return mux
}

// callAccounts calls the suite's API.
func callAccounts(ctx context.Context, h *http.Client, accounts string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, accounts, nil)
	if err != nil {
		return err
	}
	response, err := h.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the API responded with status %d", response.StatusCode)
	}
	var body any
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		return fmt.Errorf("the response of the API: %w", err)
	}
	return nil
}
