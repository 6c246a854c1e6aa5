package client

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

const (
	// requestTimeout bounds one request to the provider, from dialling to the last byte.
	requestTimeout = 10 * time.Second
	// keysTimeout bounds the fetch of a key set, which somebody's sign-in waits for.
	keysTimeout = 5 * time.Second

	maxAnswerBytes = 1 << 20
	maxKeysBytes   = 512 << 10

	// leeway is how far the provider's clock may be off when times in an ID token are
	// compared.
	leeway = time.Minute
	// transactionLifetime is how long a person may take to sign in and consent.
	transactionLifetime = 30 * time.Minute
	// keysMaxAge is the age at which a key set is fetched anew, so that a key that the
	// provider withdrew is not used for ever. If that fails the old set is used until
	// keysStale.
	keysMaxAge = time.Hour
	keysStale  = 24 * time.Hour
	// keysCooldown lies between two fetches of a key set on average, so that tokens with
	// unknown keys are no way to hammer the provider. keysBurst of them may come at once:
	// keys can change twice while one person signs in.
	keysCooldown = 10 * time.Second
	keysBurst    = 3
	// assertionLifetime is how long a client assertion can be used; each request makes
	// its own.
	assertionLifetime = time.Minute
)

// Config says who the client is and which provider it uses.
type Config struct {
	// Issuer is the provider's issuer identifier, exactly as the provider spells it.
	Issuer string
	// ClientID and ClientSecret are what the provider gave the client. A client without
	// a secret and without a key is a public one.
	ClientID     string
	ClientSecret string
	// PrivateKey signs assertions for private_key_jwt. It may be kept elsewhere, such as in a
	// key management service: any crypto.Signer will do, and a jose.ContextSigner gets the
	// context of the call. KeyID is the "kid" under which the provider knows its public half,
	// and SigningAlg its algorithm; the zero value means what goes with the key: ES256, ES384,
	// ES512, EdDSA or RS256.
	PrivateKey crypto.Signer
	KeyID      string
	SigningAlg jose.Algorithm
	// ClientAssertion returns a JWT that somebody else made for the client, to prove who it
	// is: what the platform that it runs on gives it, such as the file of a service account's
	// token. It is called for each request. It goes with federated_jwt.
	ClientAssertion func(context.Context) (string, error)
	// AuthMethod is how the client proves who it is, one of oauth.AuthMethod…. Empty
	// means federated_jwt with ClientAssertion; private_key_jwt with a key; with a secret client_secret_basic, unless the
	// provider's metadata offers client_secret_post only; else none.
	AuthMethod string
	// AssertionAudience is the "aud" of client assertions. Empty means the issuer, as
	// RFC 10070 has it; some older providers want the URL of their token endpoint.
	AssertionAudience string
	// RedirectURI is where the provider sends the browser back to.
	RedirectURI string
	// ResponseType is what sign-ins ask the authorization endpoint for, one of
	// oauth.ResponseTypes but for "token", which nothing protects from being slipped in
	// (RFC 9700, section 2.1.2). Empty means code, which is the best choice: all others
	// hand tokens through the browser.
	ResponseType string
	// RequestObjectSigningAlg sends authorization requests as request objects (OpenID
	// Connect Core, section 6; RFC 9101), signed by PrivateKey, or for HS256 and its like
	// by ClientSecret; "none" makes unsigned ones. Empty sends plain parameters.
	RequestObjectSigningAlg jose.Algorithm
	// Scopes are asked for at each sign-in and with client credentials. "openid" among
	// them asks for an ID token.
	Scopes []string
	// Resources are the APIs that access tokens shall be for (RFC 8707). A provider may
	// refuse such a token at its own UserInfo endpoint.
	Resources []string
	// IDTokenSigningAlg is the one algorithm that ID tokens may have. Empty means any
	// asymmetric one that the provider's metadata lists. HS256 and its like must be
	// named here: they use the client's secret as the key.
	IDTokenSigningAlg jose.Algorithm
	// UserInfoSigningAlg is the algorithm that UserInfo must be signed with. Empty takes
	// it unsigned, as https protects it, or signed by any asymmetric one.
	UserInfoSigningAlg jose.Algorithm
	// UserInfoSubject is the member of UserInfo that identifies the end user for good, at
	// providers without OpenID Connect, such as "id". Without the scope openid there is no ID
	// token, and who signed in is what the userinfo_endpoint says of the access token that the
	// code gave. Do not use a name or an e-mail address: those can pass to another user.
	UserInfoSubject string
	// IDTokenEncryptionAlg and UserInfoEncryptionAlg are the algorithms that ID tokens
	// (and with them logout tokens) and UserInfo must be encrypted by, one of
	// jose.PublicKeyEncryptionAlgorithms to DecryptionKeys, or one of
	// jose.SecretEncryptionAlgorithms with ClientSecret. Empty takes none that are
	// encrypted.
	IDTokenEncryptionAlg  jose.Algorithm
	UserInfoEncryptionAlg jose.Algorithm
	DecryptionKeys        []*jose.Decrypter
	// HTTPClient reaches the provider; nil means http.DefaultTransport. Its redirects
	// and cookies are switched off, and its timeout is 10 seconds at most.
	HTTPClient *http.Client
}

// Format keeps the secret and the key out of logs and messages, whatever the verb.
func (c Config) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "[client %q at %s]", c.ClientID, c.Issuer)
}

// LogValue keeps the secret and the key out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Client is one application at one provider. It is safe for concurrent use.
type Client struct {
	config   Config
	metadata oauth.ServerMetadata
	method   string
	http     *http.Client
	keys     keyCache
	idToken  []jose.Algorithm
	signer   *jose.Signer
	// requestSigner signs request objects; nil if there are none, or unsigned ones.
	requestSigner *jose.Signer
	responseType  oauth.ResponseType
}

// New returns a client of a provider whose metadata the caller knows, for providers
// without discovery. Endpoints that are not used may be left out. It sends no request.
func New(metadata oauth.ServerMetadata, config Config) (*Client, error) {
	if config.ClientID == "" {
		return nil, errors.New("client: ClientID is missing")
	}
	if err := checkMetadata(&metadata, config.Issuer); err != nil {
		return nil, err
	}
	if config.RedirectURI != "" {
		u, err := url.Parse(config.RedirectURI)
		if err != nil || u.Scheme == "" || u.Fragment != "" {
			return nil, errors.New("client: RedirectURI is an absolute URI without a fragment (RFC 6749, section 3.1.2)")
		}
	}
	c := &Client{config: config, metadata: metadata, http: guarded(config.HTTPClient)}
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
	if err := c.chooseRequestSigner(); err != nil {
		return nil, err
	}
	if err := c.checkEncryption(); err != nil {
		return nil, err
	}
	return c, nil
}

// Format keeps the secret and the key out of logs and messages, whatever the verb.
func (c *Client) Format(s fmt.State, verb rune) { c.config.Format(s, verb) }

// Metadata returns what the provider says of itself.
func (c *Client) Metadata() oauth.ServerMetadata { return c.metadata }

func (c *Client) chooseResponseType() error {
	name := c.config.ResponseType
	if name == "" {
		name = "code"
	}
	parsed, ok := oauth.ParseResponseType(name)
	if !ok || parsed == (oauth.ResponseType{Token: true}) {
		return fmt.Errorf("client: ResponseType %q cannot be used", name)
	}
	c.responseType = parsed
	return nil
}

var asymmetric = jose.SigningAlgorithms()

// chooseIDTokenAlgorithms holds OpenID Connect Core, section 3.1.3.7, step 7: the
// algorithm is expected, never taken from the token's own header.
func (c *Client) chooseIDTokenAlgorithms() error {
	switch alg := c.config.IDTokenSigningAlg; alg {
	case "":
	case jose.HS256, jose.HS384, jose.HS512:
		if c.config.ClientSecret == "" {
			return fmt.Errorf("client: IDTokenSigningAlg %s needs a ClientSecret", alg)
		}
		c.idToken = []jose.Algorithm{alg}
		return nil
	default:
		if !slices.Contains(asymmetric, alg) {
			return fmt.Errorf("client: IDTokenSigningAlg %q is not one that can be verified", alg)
		}
		c.idToken = []jose.Algorithm{alg}
		return nil
	}
	offered := c.metadata.IDTokenSigningAlgValuesSupported
	for _, alg := range asymmetric {
		if len(offered) == 0 || slices.Contains(offered, string(alg)) {
			c.idToken = append(c.idToken, alg)
		}
	}
	if len(c.idToken) == 0 {
		return fmt.Errorf("%w: it offers no ID token algorithm that can be verified", ErrMetadata)
	}
	return nil
}
