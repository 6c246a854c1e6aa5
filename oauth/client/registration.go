package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// Registration is the registration of a client at a provider (RFC 7591; OpenID Connect
// Registration). Its JSON contains everything that the application must store, including the
// client secret and the registration access token.
type Registration struct {
	Issuer string `json:"issuer"`
	oauth.ClientInformation
	// HTTPClient is like Config.HTTPClient. It is not part of the JSON.
	HTTPClient *http.Client `json:"-"`
}

// Format keeps the secrets out of logs and error messages, for every verb.
func (r Registration) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "[registration of client %q at %s]", r.ClientID, r.Issuer)
}

// LogValue keeps the secrets out of structured logs.
func (r Registration) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r)) }

// Register registers a client at the provider config.Issuer. The provider chooses values for
// omitted members of metadata, and may replace values that it does not support; the result
// contains the registered ones. initialAccessToken is a token from the provider's operator,
// or "". The error wraps ErrUnsupported if the provider has no registration endpoint, and is
// an *Error if the provider rejects the request.
func Register(ctx context.Context, config Config, metadata oauth.ClientMetadata, initialAccessToken string) (*Registration, error) {
	server, err := discoverMetadata(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := checkMetadata(&server, config.Issuer); err != nil {
		return nil, err
	}
	if server.RegistrationEndpoint == "" {
		return nil, fmt.Errorf("%w: its metadata has no registration_endpoint", ErrUnsupported)
	}
	r := &Registration{Issuer: config.Issuer, HTTPClient: config.HTTPClient}
	got, err := r.send(ctx, http.MethodPost, server.RegistrationEndpoint, initialAccessToken, metadata)
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	if got.status != http.StatusCreated && got.status != http.StatusOK {
		return nil, fmt.Errorf("register: %w", parseError(got))
	}
	if err := r.keep(got); err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	return r, nil
}

// Read fetches the current registration from the provider (RFC 7592, section 2.1).
func (r *Registration) Read(ctx context.Context) error {
	got, err := r.manage(ctx, http.MethodGet, nil)
	if err != nil {
		return fmt.Errorf("read registration: %w", err)
	}
	if err := r.keep(got); err != nil {
		return fmt.Errorf("read registration: %w", err)
	}
	return nil
}

// Update replaces all registered metadata. Omitted members get the provider's defaults
// (RFC 7592, section 2.2). The client secret and the registration access token may change, so
// store r again.
func (r *Registration) Update(ctx context.Context, metadata oauth.ClientMetadata) error {
	got, err := r.manage(ctx, http.MethodPut, struct {
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret,omitempty"`
		oauth.ClientMetadata
	}{r.ClientID, r.ClientSecret, metadata})
	if err != nil {
		return fmt.Errorf("update registration: %w", err)
	}
	if err := r.keep(got); err != nil {
		return fmt.Errorf("update registration: %w", err)
	}
	return nil
}

// Delete deletes the client at the provider, and with it all of its grants and tokens
// (RFC 7592, section 2.3).
func (r *Registration) Delete(ctx context.Context) error {
	if _, err := r.manage(ctx, http.MethodDelete, nil); err != nil {
		return fmt.Errorf("delete registration: %w", err)
	}
	return nil
}

// Config returns config with the registered values: issuer, client_id, secret, authentication
// method, and algorithms.
func (r *Registration) Config(config Config) Config {
	config.Issuer, config.ClientID, config.ClientSecret = r.Issuer, r.ClientID, r.ClientSecret
	config.AuthMethod = r.TokenEndpointAuthMethod
	if len(r.RedirectURIs) > 0 && config.RedirectURI == "" {
		config.RedirectURI = r.RedirectURIs[0]
	}
	config.IDTokenSigningAlg = jose.Algorithm(r.IDTokenSignedResponseAlg)
	config.UserInfoSigningAlg = jose.Algorithm(r.UserinfoSignedResponseAlg)
	config.IDTokenEncryptionAlg = jose.Algorithm(r.IDTokenEncryptedResponseAlg)
	config.UserInfoEncryptionAlg = jose.Algorithm(r.UserinfoEncryptedResponseAlg)
	config.AuthorizationSigningAlg = jose.Algorithm(r.AuthorizationSignedResponseAlg)
	config.AuthorizationEncryptionAlg = jose.Algorithm(r.AuthorizationEncryptedResponseAlg)
	config.PushAuthorizationRequests = config.PushAuthorizationRequests || r.RequirePushedAuthorizationRequests
	if config.HTTPClient == nil {
		config.HTTPClient = r.HTTPClient
	}
	return config
}

// manage sends a request to the client configuration endpoint.
func (r *Registration) manage(ctx context.Context, method string, body any) (*response, error) {
	if r.RegistrationClientURI == "" || r.RegistrationAccessToken == "" {
		return nil, fmt.Errorf("%w: the registration has no registration_client_uri and registration_access_token", ErrUnsupported)
	}
	u, err := url.Parse(r.RegistrationClientURI)
	if err != nil || u.Host == "" || !secure(u) {
		return nil, fmt.Errorf("%w: registration_client_uri must be an https URL", ErrResponse)
	}
	got, err := r.send(ctx, method, r.RegistrationClientURI, r.RegistrationAccessToken, body)
	if err != nil {
		return nil, err
	}
	if got.status != http.StatusOK && (method != http.MethodDelete || got.status != http.StatusNoContent) {
		return nil, parseError(got)
	}
	return got, nil
}

func (r *Registration) send(ctx context.Context, method, endpoint, token string, body any) (*response, error) {
	var encoded []byte
	if body != nil {
		var err error
		if encoded, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("client: encode metadata: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, endpoint, bytes.NewReader(encoded))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	// An initial access token may be usable only once: net/http must not send it again on
	// another connection.
	req.GetBody = nil
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return send(restricted(r.HTTPClient), req, maxResponseBytes)
}

// keep sets r from a response. Members that a later response omits stay unchanged (OpenID
// Connect Registration, section 4.3 allows the omission).
func (r *Registration) keep(got *response) error {
	var information oauth.ClientInformation
	if err := json.Unmarshal(got.body, &information); err != nil {
		return fmt.Errorf("%w: status %d with %s", ErrResponse, got.status, describe(got))
	}
	switch {
	case information.ClientID == "":
		return fmt.Errorf("%w: client_id is missing", ErrResponse)
	case r.ClientID != "" && information.ClientID != r.ClientID:
		return fmt.Errorf("%w: it has another client_id", ErrResponse)
	}
	if information.RegistrationAccessToken == "" {
		information.RegistrationAccessToken = r.RegistrationAccessToken
	}
	if information.RegistrationClientURI == "" {
		information.RegistrationClientURI = r.RegistrationClientURI
	}
	withoutSecret := []string{oauth.AuthMethodNone, oauth.AuthMethodPrivateKeyJWT}
	if information.ClientSecret == "" && !slices.Contains(withoutSecret, information.TokenEndpointAuthMethod) {
		information.ClientSecret = r.ClientSecret
	}
	r.ClientInformation = information
	return nil
}
