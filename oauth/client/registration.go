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

// Registration is an application that registered itself at a provider (RFC 7591; OpenID
// Connect Registration). As JSON it holds all that the application must keep, its secret
// and the registration access token included.
type Registration struct {
	Issuer string `json:"issuer"`
	oauth.ClientInformation
	// HTTPClient is that of Config. Set it again after reading a registration from JSON.
	HTTPClient *http.Client `json:"-"`
}

// Format keeps the secrets out of logs and messages, whatever the verb.
func (r Registration) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "[registration of client %q at %s]", r.ClientID, r.Issuer)
}

// LogValue keeps the secrets out of structured logs.
func (r Registration) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r)) }

// Register makes an application known to the provider config.Issuer, which it finds by
// discovery. What metadata leaves out is the provider's choice, and it may change what it
// does not offer: the result says what was registered. initialAccessToken is one that the
// provider's operator gave out, or "". The error is ErrUnsupported if the provider lets
// nobody register, and an *Error if it refuses.
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

// Read asks the provider what is registered now (RFC 7592, section 2.1).
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

// Update puts metadata in the place of all that is registered: what it leaves out takes
// the provider's default (RFC 7592, section 2.2). Secret and token can change by that, so
// what was kept must be kept anew.
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

// Delete ends the registration, and with it all that the application was allowed
// (RFC 7592, section 2.3).
func (r *Registration) Delete(ctx context.Context) error {
	if _, err := r.manage(ctx, http.MethodDelete, nil); err != nil {
		return fmt.Errorf("delete registration: %w", err)
	}
	return nil
}

// Config returns config with what was registered in it: issuer, client_id, secret, how to
// authenticate, and the algorithms that the provider will use.
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
	if config.HTTPClient == nil {
		config.HTTPClient = r.HTTPClient
	}
	return config
}

// manage sends a request to the client configuration endpoint.
func (r *Registration) manage(ctx context.Context, method string, body any) (*answer, error) {
	if r.RegistrationClientURI == "" || r.RegistrationAccessToken == "" {
		return nil, fmt.Errorf("%w: it gave out no registration_client_uri and registration_access_token", ErrUnsupported)
	}
	u, err := url.Parse(r.RegistrationClientURI)
	if err != nil || u.Host == "" || !secure(u) {
		return nil, fmt.Errorf("%w: registration_client_uri is not an https URL", ErrAnswer)
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

func (r *Registration) send(ctx context.Context, method, endpoint, token string, body any) (*answer, error) {
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
	// An initial access token may be good once: net/http must not send it again on another
	// connection.
	req.GetBody = nil
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return send(guarded(r.HTTPClient), req, maxAnswerBytes)
}

// keep takes over what the provider says is registered. What a provider leaves out of a
// later answer stays as it was (OpenID Connect Registration, section 4.3 lets it).
func (r *Registration) keep(got *answer) error {
	var information oauth.ClientInformation
	if err := json.Unmarshal(got.body, &information); err != nil {
		return fmt.Errorf("%w: status %d with %s", ErrAnswer, got.status, describe(got))
	}
	switch {
	case information.ClientID == "":
		return fmt.Errorf("%w: client_id is missing", ErrAnswer)
	case r.ClientID != "" && information.ClientID != r.ClientID:
		return fmt.Errorf("%w: it is about another client_id", ErrAnswer)
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
