package client

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

func (c *Client) chooseAuthMethod() error {
	config := &c.config
	c.method = config.AuthMethod
	if c.method == "" {
		c.method = defaultAuthMethod(config, c.metadata.TokenEndpointAuthMethodsSupported)
	}
	var err error
	switch c.method {
	case oauth.AuthMethodNone:
	case oauth.AuthMethodClientSecretBasic, oauth.AuthMethodClientSecretPost:
		if config.ClientSecret == "" {
			return fmt.Errorf("client: %s requires a ClientSecret", c.method)
		}
	case oauth.AuthMethodClientSecretJWT:
		if config.ClientSecret == "" {
			return fmt.Errorf("client: %s requires a ClientSecret", c.method)
		}
		alg := config.SigningAlg
		if alg == "" {
			alg = jose.HS256
		}
		c.signer, err = jose.NewSecretSigner(alg, []byte(config.ClientSecret))
	case oauth.AuthMethodPrivateKeyJWT:
		alg := config.SigningAlg
		if alg == "" {
			if alg, err = algorithmOf(config.PrivateKey); err != nil {
				return err
			}
		}
		c.signer, err = jose.NewSigner(alg, config.KeyID, config.PrivateKey)
	case oauth.AuthMethodTLSClient, oauth.AuthMethodSelfSignedTLS:
		if config.Certificate == nil {
			return fmt.Errorf("client: %s requires a Certificate", c.method)
		}
	case oauth.AuthMethodFederatedJWT:
		if config.ClientAssertion == nil {
			return fmt.Errorf("client: %s requires ClientAssertion", c.method)
		}
	case oauth.AuthMethodAttestation, oauth.AuthMethodAttestationDPoP:
		return c.useAttestation()
	default:
		return fmt.Errorf("client: AuthMethod %q is not supported", c.method)
	}
	if err != nil {
		return fmt.Errorf("client: key for %s: %w", c.method, err)
	}
	return nil
}

// defaultAuthMethod returns the method for an empty Config.AuthMethod. If the metadata has no
// list of methods, client_secret_basic is supported (RFC 8414, section 2).
func defaultAuthMethod(config *Config, offered []string) string {
	switch {
	case config.ClientAssertion != nil:
		return oauth.AuthMethodFederatedJWT
	case config.Attestation != nil && config.InstanceKey == nil:
		return oauth.AuthMethodAttestationDPoP
	case config.Attestation != nil:
		return oauth.AuthMethodAttestation
	case config.PrivateKey != nil:
		return oauth.AuthMethodPrivateKeyJWT
	case config.ClientSecret == "":
		return oauth.AuthMethodNone
	case len(offered) > 0 && !slices.Contains(offered, oauth.AuthMethodClientSecretBasic) &&
		slices.Contains(offered, oauth.AuthMethodClientSecretPost):
		return oauth.AuthMethodClientSecretPost
	}
	return oauth.AuthMethodClientSecretBasic
}

func algorithmOf(key crypto.Signer) (jose.Algorithm, error) {
	if key == nil {
		return "", errors.New("client: a private key is required")
	}
	switch public := key.Public().(type) {
	case *ecdsa.PublicKey:
		switch public.Curve.Params().BitSize {
		case 256:
			return jose.ES256, nil
		case 384:
			return jose.ES384, nil
		case 521:
			return jose.ES512, nil
		}
	case ed25519.PublicKey:
		return jose.EdDSA, nil
	case *rsa.PublicKey:
		return jose.RS256, nil
	}
	return "", errors.New("client: the type of the private key is not supported")
}

// authenticate adds the client's authentication to form, or returns it as an Authorization
// header.
func (c *Client) authenticate(ctx context.Context, form url.Values) (header string, err error) {
	switch c.method {
	case oauth.AuthMethodClientSecretBasic:
		// RFC 6749, section 2.3.1: both are form-encoded first.
		pair := url.QueryEscape(c.config.ClientID) + ":" + url.QueryEscape(c.config.ClientSecret)
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)), nil
	case oauth.AuthMethodClientSecretPost:
		form.Set("client_secret", c.config.ClientSecret)
	case oauth.AuthMethodClientSecretJWT, oauth.AuthMethodPrivateKeyJWT:
		assertion, err := c.assertion(ctx, time.Now())
		if err != nil {
			return "", err
		}
		form.Set("client_assertion_type", oauth.ClientAssertionTypeJWTBearer)
		form.Set("client_assertion", assertion)
	case oauth.AuthMethodFederatedJWT:
		assertion, err := c.config.ClientAssertion(ctx)
		if err != nil {
			return "", fmt.Errorf("get the client assertion: %w", err)
		}
		form.Set("client_assertion_type", oauth.ClientAssertionTypeJWTBearer)
		form.Set("client_assertion", strings.TrimSpace(assertion))
	}
	form.Set("client_id", c.config.ClientID)
	return "", nil
}

// assertion returns a JWT for client authentication (RFC 7523, section 3). Its only audience
// is the issuer, and it has its own typ (RFC 10070), so that no other server can use it.
func (c *Client) assertion(ctx context.Context, now time.Time) (string, error) {
	audience := c.config.AssertionAudience
	if audience == "" {
		audience = c.metadata.Issuer
	}
	payload, err := json.Marshal(struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Audience string `json:"aud"`
		ID       string `json:"jti"`
		IssuedAt int64  `json:"iat"`
		Expires  int64  `json:"exp"`
	}{c.config.ClientID, c.config.ClientID, audience, rand.Text(), now.Unix(), now.Add(assertionLifetime).Unix()})
	if err != nil {
		return "", fmt.Errorf("client: encode the client assertion: %w", err)
	}
	token, err := c.signer.SignContext(ctx, oauth.TypClientAuthentication, payload)
	if err != nil {
		return "", fmt.Errorf("client: sign the client assertion: %w", err)
	}
	return token, nil
}
