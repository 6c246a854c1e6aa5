package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
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

const (
	clientID     = "valetkey-rp"
	clientSecret = "a-secret-of-the-conformance-run-that-is-long-enough-for-HS512-and-more"
	keyID        = "rp-1"
	contact      = "rp@example.com"
	// waitSeconds is how long the suite waits for requests that should not come.
	waitSeconds = 2
)

// application is the web application of one plan: an https server on loopback, with a new
// relying party for each module.
type application struct {
	server  *httptest.Server
	dynamic bool // the client registers itself
	encrypt bool
	opens   []*jose.Decrypter
	alias   string
	key     *rsa.PrivateKey
	jwks    json.RawMessage
	http    *http.Client // reaches the suite
	current atomic.Pointer[visit]
}

// visit is one module's relying party.
type visit struct {
	client  *client.Client
	party   *client.RelyingParty
	handler http.Handler
	browser *browser

	mu       sync.Mutex
	failure  error
	requests map[string]string // request objects by path
}

func newApplication(p plan) (*application, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	signer, err := jose.NewSigner(jose.RS256, keyID, key)
	if err != nil {
		return nil, err
	}
	set := jose.KeySet{Keys: []jose.JWK{signer.Public()}}
	var opens []*jose.Decrypter
	if p.Encrypted {
		if opens, err = newDecrypters(); err != nil {
			return nil, err
		}
		for _, d := range opens {
			set.Keys = append(set.Keys, d.Public())
		}
	}
	jwks, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	// OpenID Connect Registration, section 2, forbids localhost for the implicit flow.
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		return nil, err
	}
	a := &application{
		dynamic: p.Variant["client_registration"] != "static_client", encrypt: p.Encrypted, opens: opens,
		alias: "valetkey-rp-" + strings.ToLower(rand.Text()[:8]), key: key, jwks: jwks,
	}
	a.server = &httptest.Server{Listener: listener, Config: &http.Server{
		Handler:  http.HandlerFunc(a.serve),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
	}}
	a.server.StartTLS()
	a.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	return a, nil
}

// The algorithms of the plans with encryption.
const (
	idTokenEncryption  jose.Algorithm = "RSA-OAEP-256"
	userInfoEncryption jose.Algorithm = "ECDH-ES"
)

func newDecrypters() ([]*jose.Decrypter, error) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	var opens []*jose.Decrypter
	for kid, key := range map[string]crypto.PrivateKey{"enc-rsa": rsaKey, "enc-ec": ecKey} {
		d, err := jose.NewDecrypter(kid, key)
		if err != nil {
			return nil, err
		}
		opens = append(opens, d)
	}
	return opens, nil
}

func (a *application) close() { a.server.Close() }

func (a *application) serve(w http.ResponseWriter, r *http.Request) {
	v := a.current.Load()
	if v == nil {
		http.NotFound(w, r)
		return
	}
	v.handler.ServeHTTP(w, r)
}

func (a *application) redirectURI() string { return a.server.URL + "/auth/callback" }

func (a *application) configuration() map[string]any {
	registered := map[string]any{
		"client_id": clientID, "client_secret": clientSecret, "client_name": clientID, "jwks": a.jwks,
		"redirect_uri": a.redirectURI(), "post_logout_redirect_uri": a.server.URL + "/auth/signed-out",
		"backchannel_logout_uri": a.server.URL + "/auth/backchannel-logout", "frontchannel_logout_uri": a.server.URL + "/auth/frontchannel-logout",
		"frontchannel_logout_session_required": true, "initiate_login_uri": a.server.URL + "/auth/initiate-login",
	}
	if a.encrypt {
		registered["id_token_encrypted_response_alg"], registered["userinfo_encrypted_response_alg"] = idTokenEncryption, userInfoEncryption
	}
	if a.dynamic {
		registered = map[string]any{"client_name": clientID}
	}
	return map[string]any{"alias": a.alias, "description": "package client", "waitTimeoutSeconds": waitSeconds, "client": registered}
}

// prepare creates the relying party for a module.
func (a *application) prepare(ctx context.Context, issuer, module string, v variant) (*visit, error) {
	made := &visit{browser: newBrowser(a.http.Transport), requests: map[string]string{}}
	config := client.Config{
		Issuer: issuer, ClientID: clientID, ClientSecret: clientSecret, AuthMethod: v["client_auth_type"],
		PrivateKey: a.key, KeyID: keyID, RedirectURI: a.redirectURI(), ResponseType: v["response_type"],
		Scopes: []string{"openid", "profile", "email", "phone", "address"}, HTTPClient: a.http,
		IDTokenSigningAlg: jose.RS256,
	}
	if strings.Contains(module, "client-secret-basic") {
		config.AuthMethod = oauth.AuthMethodClientSecretBasic
	}
	switch {
	case strings.Contains(module, "hs256"):
		config.IDTokenSigningAlg = jose.HS256
	case strings.Contains(module, "es256"):
		config.IDTokenSigningAlg = jose.ES256
	case strings.Contains(module, "refresh"):
		config.Scopes = append(config.Scopes, "offline_access")
	case strings.Contains(module, "userinfo-signed"):
		config.UserInfoSigningAlg = jose.RS256
	}
	if a.encrypt {
		config.IDTokenEncryptionAlg, config.UserInfoEncryptionAlg, config.DecryptionKeys = idTokenEncryption, userInfoEncryption, a.opens
	}
	options := client.AuthorizationOptions{}
	if v["response_mode"] == "form_post" {
		options.ResponseMode = "form_post"
	}
	if strings.Contains(module, "form-post-error") {
		now := time.Duration(0)
		options.Prompt, options.MaxAge = []string{"none"}, &now
	}
	if kind := v["request_type"]; kind == "request_object" || kind == "request_uri" {
		config.RequestObjectSigningAlg = jose.RS256
		if strings.Contains(module, "signed-none") {
			config.RequestObjectSigningAlg = "none"
		}
		if kind == "request_uri" {
			options.RequestURI = func(object string) (string, error) { return a.server.URL + made.publish(object), nil }
		}
	}
	var err error
	if a.dynamic && !strings.Contains(module, "webfinger") && !strings.Contains(module, "discovery-openid-config") {
		if config, err = a.register(ctx, config); err != nil {
			return nil, err
		}
	}
	if strings.Contains(module, "dynamic-registration") {
		return made, nil
	}
	if made.client, err = client.Discover(ctx, config); err != nil {
		return nil, err
	}
	if endsEarly(module) {
		return made, nil
	}
	made.party, err = client.NewRelyingParty(client.RelyingPartyConfig{
		Client: made.client, Authorization: options, Home: "/home", Logger: slog.New(slog.DiscardHandler),
		// Without an access token there is no UserInfo. The suite ends a module for the keys
		// once they are fetched.
		UserInfo: config.ResponseType != "id_token" && !strings.Contains(module, "jwks-uri-keys"),
		Error: func(w http.ResponseWriter, _ *http.Request, status int, err error) {
			made.mu.Lock()
			defer made.mu.Unlock()
			made.failure = err
			w.WriteHeader(status)
		},
	})
	if err != nil {
		return nil, err
	}
	made.routes()
	return made, nil
}

// register registers the relying party at the module, and returns its configuration.
func (a *application) register(ctx context.Context, config client.Config) (client.Config, error) {
	unregistered, err := client.New(oauth.ServerMetadata{Issuer: config.Issuer}, config)
	if err != nil {
		return config, err
	}
	party, err := client.NewRelyingParty(client.RelyingPartyConfig{Client: unregistered})
	if err != nil {
		return config, err
	}
	metadata := party.Registration()
	metadata.ClientName, metadata.Contacts = clientID, []string{contact}
	metadata.ApplicationType, metadata.TokenEndpointAuthMethod = "web", config.AuthMethod
	metadata.JWKS = a.jwks
	metadata.IDTokenSignedResponseAlg = string(config.IDTokenSigningAlg)
	metadata.UserinfoSignedResponseAlg = string(config.UserInfoSigningAlg)
	metadata.IDTokenEncryptedResponseAlg = string(config.IDTokenEncryptionAlg)
	metadata.UserinfoEncryptedResponseAlg = string(config.UserInfoEncryptionAlg)
	metadata.RequestObjectSigningAlg = string(config.RequestObjectSigningAlg)
	if config.RequestObjectSigningAlg != "" {
		metadata.RequestURIs = []string{a.server.URL + "/request/"}
	}
	if asked, ok := oauth.ParseResponseType(metadata.ResponseTypes[0]); ok {
		if asked.Code {
			metadata.GrantTypes = append(metadata.GrantTypes, oauth.GrantTypeAuthorizationCode)
		}
		if asked.FrontChannel() {
			metadata.GrantTypes = append(metadata.GrantTypes, "implicit")
		}
	}
	registered, err := client.Register(ctx, config, metadata, "")
	if err != nil {
		return config, err
	}
	expected := config.IDTokenSigningAlg
	if config = registered.Config(config); config.IDTokenSigningAlg == "none" {
		// Package client refuses "none" before it sends a request; it must see the token.
		config.IDTokenSigningAlg = expected
	}
	return config, nil
}
