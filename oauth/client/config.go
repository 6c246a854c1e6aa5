package client

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
)

const (
	// requestTimeout is the timeout of one request to the provider, from connecting to the last
	// byte.
	requestTimeout = 10 * time.Second
	// keysTimeout is the timeout for fetching a key set. A user's sign-in waits for it.
	keysTimeout = 5 * time.Second

	maxResponseBytes = 1 << 20
	maxKeysBytes     = 512 << 10

	// leeway is the tolerated difference between the clocks of client and provider.
	leeway = time.Minute
	// transactionLifetime is how long a user may take to sign in and consent.
	transactionLifetime = 30 * time.Minute
	// keysMaxAge is the age at which a key set is fetched again, so that a key that the
	// provider has withdrawn is not used forever. If that fails, the old set is used until
	// keysStale.
	keysMaxAge = time.Hour
	keysStale  = 24 * time.Hour
	// keysCooldown is the minimum average time between fetches of a key set, so that tokens
	// with unknown keys cannot flood the provider with requests. A burst of keysBurst fetches
	// is allowed: keys can change twice during one sign-in.
	keysCooldown = 10 * time.Second
	keysBurst    = 3
	// assertionLifetime is how long a client assertion is valid. Each request has a new one.
	assertionLifetime = time.Minute
)

// Config configures a Client. Issuer and ClientID are required.
type Config struct {
	// Profile switches on everything that a security profile requires of a client. New returns an
	// error that names the rules that the rest of the configuration, or the provider, does not
	// meet. Empty means none.
	Profile Profile
	// Issuer is the provider's issuer identifier, exactly as in its metadata.
	Issuer string
	// ClientID and ClientSecret are the credentials from the registration at the provider. A
	// client without a secret and without a key is a public client.
	ClientID     string
	ClientSecret string
	// PrivateKey signs assertions for private_key_jwt. Any crypto.Signer can be used, also one
	// for a key in a key management service; a jose.ContextSigner gets the context of the
	// call. KeyID is the kid of the public key at the provider. SigningAlg is the algorithm;
	// empty means the default for the type of key: ES256, ES384, ES512, EdDSA or RS256.
	PrivateKey crypto.Signer
	KeyID      string
	SigningAlg jose.Algorithm
	// ClientAssertion returns a JWT from the platform that the client runs on, such as a
	// service account token, for client authentication with federated_jwt. It is called for
	// each request.
	ClientAssertion func(context.Context) (string, error)
	// Attestation returns the attestation that the client attester has issued for the key of this
	// instance, for client authentication with attest_jwt_client_auth
	// (draft-ietf-oauth-attestation-based-client-auth, experimental). It is called for each request,
	// so it keeps an attestation until shortly before that expires. fresh is set after the provider
	// has refused the last one as expired. InstanceKey is the key, which may be in hardware. Without
	// it, the key is DPoPKey, and DPoP proofs prove its possession (attest_jwt_client_auth_dpop).
	Attestation func(ctx context.Context, fresh bool) (string, error)
	InstanceKey crypto.Signer
	// Certificate is the client's certificate (RFC 8705). The client presents it at the
	// provider's endpoints for clients with certificates, and to APIs. It authenticates the
	// client if AuthMethod is tls_client_auth or self_signed_tls_client_auth. Access tokens are
	// bound to it if the client is registered for that.
	Certificate *tls.Certificate
	// AuthMethod is the client authentication method, one of oauth.AuthMethod…. Empty means
	// federated_jwt with ClientAssertion, attest_jwt_client_auth or attest_jwt_client_auth_dpop
	// with Attestation, private_key_jwt with PrivateKey, and client_secret_basic with
	// ClientSecret, or client_secret_post if the provider's metadata lists only that. Otherwise
	// it means none.
	AuthMethod string
	// AssertionAudience is the aud of client assertions. Empty means the issuer, as RFC 10070
	// requires; some older providers require the URL of their token endpoint.
	AssertionAudience string
	// RedirectURI is the URI to which the provider redirects the browser after sign-in.
	RedirectURI string
	// ResponseType is one of oauth.ResponseTypes except "token", because nothing protects
	// against an injected access token there (RFC 9700, section 2.1.2). Empty means code,
	// which is the best choice: all others send tokens through the browser.
	ResponseType string
	// RequestObjectSigningAlg sends authorization requests as request objects (OpenID
	// Connect Core, section 6; RFC 9101). They are signed with PrivateKey, or with
	// ClientSecret for HMAC algorithms; "none" leaves them unsigned. Empty sends plain
	// parameters.
	RequestObjectSigningAlg jose.Algorithm
	// PushAuthorizationRequests sends authorization requests directly to the provider (RFC 9126),
	// so that the browser sends only a reference. It is implied if the provider's metadata
	// requires it.
	PushAuthorizationRequests bool
	// AuthorizationSigningAlg requests authorization responses as JWTs (JARM), signed with this
	// algorithm, and accepts no other responses. HMAC algorithms use ClientSecret.
	// AuthorizationEncryptionAlg is the required encryption algorithm, as for ID tokens; empty
	// means that they are not encrypted.
	AuthorizationSigningAlg    jose.Algorithm
	AuthorizationEncryptionAlg jose.Algorithm
	// DPoP binds tokens to a key (RFC 9449), so that a stolen token is useless: each authorization
	// has a new key, which is part of its Tokens, and each request with a token has a proof. The
	// provider must support it. Use Source.Transport or Source.HTTPClient to call APIs.
	DPoP bool
	// DPoPKey binds all tokens to one key, which can be in hardware. It implies DPoP, and is not
	// part of Tokens.
	DPoPKey *dpop.Key
	// InteractionID returns the x-fapi-interaction-id of the requests that are sent with a
	// context, to the provider and, by a Source, to APIs. Both sides log it, so that a support
	// case can be traced. If it is nil or returns "", the header is not sent. Use a UUID that says
	// nothing about the user.
	InteractionID func(context.Context) string
	// Scopes are requested at each sign-in and with client credentials. "openid" requests an
	// ID token.
	Scopes []string
	// Resources are the APIs that access tokens are for (RFC 8707). Some providers reject such
	// a token at their own UserInfo endpoint.
	Resources []string
	// AuthorizationDetails are objects that say in detail what the client wants to do (RFC
	// 9396). Each is encoded as JSON, and sent wherever Scopes are. AuthorizationOptions can replace
	// them for one sign-in.
	AuthorizationDetails []any
	// IDTokenSigningAlg is the only accepted signature algorithm of ID tokens. Empty means
	// any asymmetric algorithm in the provider's metadata. HMAC algorithms such as HS256,
	// which use ClientSecret as the key, must be set here.
	IDTokenSigningAlg jose.Algorithm
	// UserInfoSigningAlg is the required signature algorithm of UserInfo. Empty accepts
	// unsigned UserInfo, because https protects it, and any asymmetric algorithm.
	UserInfoSigningAlg jose.Algorithm
	// UserInfoSubject is for providers without OpenID Connect: the member of UserInfo that
	// identifies the end user permanently, such as "id". Without the scope openid there is no
	// ID token, and the end user is taken from the userinfo_endpoint. Do not use a name or an
	// email address: it can be reassigned to another user.
	UserInfoSubject string
	// IDTokenEncryptionAlg and UserInfoEncryptionAlg are the required encryption algorithms
	// of ID tokens (and logout tokens) and of UserInfo: one of
	// jose.PublicKeyEncryptionAlgorithms with DecryptionKeys, or one of
	// jose.SecretEncryptionAlgorithms with ClientSecret. If empty, encrypted ones are
	// rejected.
	IDTokenEncryptionAlg  jose.Algorithm
	UserInfoEncryptionAlg jose.Algorithm
	DecryptionKeys        []*jose.Decrypter
	// HTTPClient sends the requests to the provider; nil means http.DefaultTransport. A copy
	// of it is used that follows no redirects, keeps no cookies and has a timeout of at most
	// 10 seconds.
	HTTPClient *http.Client
}

// Format keeps the secret and the key out of logs and error messages, for every verb.
func (c Config) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "[client %q at %s]", c.ClientID, c.Issuer)
}

// LogValue keeps the secret and the key out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Client is an OAuth client of one provider. It is safe for concurrent use.
type Client struct {
	config   Config
	metadata oauth.ServerMetadata
	method   string
	http     *http.Client
	keys     keyCache
	// aliases are the URLs that replace those of endpoints for clients with certificates.
	aliases map[string]string
	idToken []jose.Algorithm
	signer  *jose.Signer
	prover  *prover
	// instance is set for client authentication with attestations.
	instance *instance
	profile  profile
	// requestSigner signs request objects; nil if they are not used or not signed.
	requestSigner *jose.Signer
	responseType  oauth.ResponseType
}

// New returns a client of a provider without discovery, with metadata from the caller.
// Endpoints that are not used may be omitted. It sends no request.
func New(metadata oauth.ServerMetadata, config Config) (*Client, error) {
	if config.ClientID == "" {
		return nil, errors.New("client: ClientID is required")
	}
	if err := checkMetadata(&metadata, config.Issuer); err != nil {
		return nil, err
	}
	if config.RedirectURI != "" {
		u, err := url.Parse(config.RedirectURI)
		if err != nil || u.Scheme == "" || u.Fragment != "" {
			return nil, errors.New("client: RedirectURI must be an absolute URI without a fragment (RFC 6749, section 3.1.2)")
		}
	}
	c := &Client{config: config, metadata: metadata}
	if err := c.useProfile(); err != nil {
		return nil, err
	}
	if err := c.useCertificate(); err != nil {
		return nil, err
	}
	c.http = restricted(c.config.HTTPClient)
	c.keys.url = metadata.JWKSURI
	if err := c.chooseAuthMethod(); err != nil {
		return nil, err
	}
	if err := c.chooseIDTokenAlgorithms(); err != nil {
		return nil, err
	}
	if err := c.chooseResponseType(); err != nil {
		return nil, err
	}
	if err := c.useDPoP(); err != nil {
		return nil, err
	}
	if err := c.chooseRequestSigner(); err != nil {
		return nil, err
	}
	if err := c.chooseResponseJWT(); err != nil {
		return nil, err
	}
	if err := c.checkEncryption(); err != nil {
		return nil, err
	}
	if err := c.checkProfile(); err != nil {
		return nil, err
	}
	return c, nil
}

// Format keeps the secret and the key out of logs and error messages, for every verb.
func (c *Client) Format(s fmt.State, verb rune) { c.config.Format(s, verb) }

// Metadata returns the provider's metadata.
func (c *Client) Metadata() oauth.ServerMetadata { return c.metadata }

func (c *Client) chooseResponseType() error {
	name := c.config.ResponseType
	if name == "" {
		name = "code"
	}
	parsed, ok := oauth.ParseResponseType(name)
	if !ok || parsed == (oauth.ResponseType{Token: true}) {
		return fmt.Errorf("client: ResponseType %q is not supported", name)
	}
	c.responseType = parsed
	return nil
}

// chooseIDTokenAlgorithms implements OpenID Connect Core, section 3.1.3.7, step 7: the
// accepted algorithms are fixed before, not taken from the token's header.
func (c *Client) chooseIDTokenAlgorithms() error {
	switch alg := c.config.IDTokenSigningAlg; alg {
	case "":
	case jose.HS256, jose.HS384, jose.HS512:
		if c.config.ClientSecret == "" {
			return fmt.Errorf("client: IDTokenSigningAlg %s requires a ClientSecret", alg)
		}
		c.idToken = []jose.Algorithm{alg}
		return nil
	default:
		if !slices.Contains(jose.SigningAlgorithms(), alg) {
			return fmt.Errorf("client: IDTokenSigningAlg %q is not supported", alg)
		}
		c.idToken = []jose.Algorithm{alg}
		return nil
	}
	offered := c.metadata.IDTokenSigningAlgValuesSupported
	for _, alg := range c.profile.algorithms {
		if len(offered) == 0 || slices.Contains(offered, string(alg)) {
			c.idToken = append(c.idToken, alg)
		}
	}
	if len(c.idToken) == 0 {
		return fmt.Errorf("%w: none of its ID token signature algorithms is supported", ErrMetadata)
	}
	return nil
}
