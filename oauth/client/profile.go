package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// Profile is the name of a security profile of the OpenID Foundation (Config.Profile).
type Profile string

// The profiles for clients of financial, health and government services.
const (
	// FAPI2 is the FAPI 2.0 Security Profile.
	FAPI2 Profile = "fapi2"
	// FAPI2MessageSigning is FAPI2 with signed authorization requests and responses (FAPI 2.0
	// Message Signing).
	FAPI2MessageSigning Profile = "fapi2-message-signing"
	// FAPI1Advanced is the Financial-grade API Security Profile 1.0, Part 2: Advanced.
	FAPI1Advanced Profile = "fapi1-advanced"
)

// profile is what a profile changes in a client.
type profile struct {
	specification string
	// algorithms are the only ones of all signatures, the client's and the provider's.
	algorithms []jose.Algorithm
	// pushes pushes authorization requests. signsRequests sends them as request objects.
	pushes, signsRequests bool
	// requiresIssuer refuses authorization responses without iss, whatever the metadata says.
	requiresIssuer bool
	// checksScope refuses tokens with a scope that was not requested.
	checksScope bool
	// stateHash requires s_hash in ID tokens of authorization responses. freshIDTokens refuses those
	// that are older than a sign-in can take.
	stateHash, freshIDTokens bool
	rules                    []profileRule
}

// profileRule is a requirement on the configuration.
type profileRule struct {
	section string
	text    string
	ok      func(*Client) bool
}

// profiles has one entry for each profile.
var profiles = map[Profile]profile{
	FAPI2: {
		specification: "FAPI 2.0 Security Profile",
		algorithms:    []jose.Algorithm{jose.PS256, jose.ES256, jose.EdDSA, jose.Ed25519}, // section 5.4.1
		pushes:        true, requiresIssuer: true,
		rules: fapi2Rules,
	},
	FAPI2MessageSigning: {
		specification: "FAPI 2.0 Security Profile",
		algorithms:    []jose.Algorithm{jose.PS256, jose.ES256, jose.EdDSA, jose.Ed25519},
		pushes:        true, requiresIssuer: true, signsRequests: true,
		rules: append(slices.Clone(fapi2Rules), profileRule{"5.4 of FAPI 2.0 Message Signing",
			"responses must be JWTs: set AuthorizationSigningAlg to the authorization_signed_response_alg of the client",
			func(c *Client) bool { return c.config.AuthorizationSigningAlg != "" }}),
	},
	FAPI1Advanced: {
		specification: "FAPI 1.0 Advanced",
		algorithms:    []jose.Algorithm{jose.PS256, jose.ES256}, // section 8.6
		signsRequests: true, checksScope: true, stateHash: true, freshIDTokens: true,
		rules: []profileRule{
			{"5.2.2", "the client must authenticate with private_key_jwt or a certificate: set PrivateKey, or AuthMethod to tls_client_auth", strongAuthentication},
			{"5.2.3", "access tokens must be bound to a certificate: set Certificate", func(c *Client) bool { return c.config.Certificate != nil }},
			{"5.2.3", `the response must be signed: set ResponseType to "code id_token", or AuthorizationSigningAlg`, func(c *Client) bool {
				return c.responseType == oauth.ResponseType{Code: true, IDToken: true} || c.responseType == oauth.ResponseType{Code: true} && c.config.AuthorizationSigningAlg != ""
			}},
			{"8.6", "signatures must be PS256 or ES256: set SigningAlg, RequestObjectSigningAlg, AuthorizationSigningAlg and UserInfoSigningAlg to one of them, or leave them empty", profileAlgorithms},
		},
	},
}

var fapi2Rules = []profileRule{
	{"5.3.3.1", "the client must authenticate with private_key_jwt or a certificate: set PrivateKey, or AuthMethod to tls_client_auth", strongAuthentication},
	{"5.3.3.1", "access tokens must be bound to a key: set DPoP, DPoPKey or Certificate", func(c *Client) bool { return c.prover.enabled || c.config.Certificate != nil }},
	{"5.3.3.1", "the aud of client assertions must be the issuer: leave AssertionAudience empty", func(c *Client) bool {
		return c.config.AssertionAudience == "" || c.config.AssertionAudience == c.metadata.Issuer
	}},
	{"5.3.3.2", "the response type must be code", func(c *Client) bool { return c.responseType == oauth.ResponseType{Code: true} }},
	{"5.3.3.2", "the provider must have a pushed_authorization_request_endpoint", func(c *Client) bool {
		return c.config.RedirectURI == "" || c.metadata.PushedAuthorizationRequestEndpoint != ""
	}},
	{"5.4.1", "signatures must be PS256, ES256 or EdDSA: set SigningAlg, RequestObjectSigningAlg, AuthorizationSigningAlg and UserInfoSigningAlg to one of them, or leave them empty", profileAlgorithms},
}

func strongAuthentication(c *Client) bool {
	return slices.Contains([]string{oauth.AuthMethodPrivateKeyJWT, oauth.AuthMethodTLSClient, oauth.AuthMethodSelfSignedTLS}, c.method)
}

// profileAlgorithms reports whether all configured algorithms are among those of the profile.
func profileAlgorithms(c *Client) bool {
	config := c.config
	if c.prover.fixed != nil && !slices.Contains(c.profile.algorithms, c.prover.fixed.Algorithm()) {
		return false
	}
	for _, alg := range []jose.Algorithm{config.SigningAlg, config.RequestObjectSigningAlg, config.AuthorizationSigningAlg, config.UserInfoSigningAlg, config.IDTokenSigningAlg} {
		if alg != "" && !slices.Contains(c.profile.algorithms, alg) {
			return false
		}
	}
	return true
}

// useProfile changes the configuration to that of the profile. Without a profile it allows what
// package jose allows.
func (c *Client) useProfile() error {
	config := &c.config
	if config.Profile == "" {
		c.profile.algorithms = jose.SigningAlgorithms()
		return nil
	}
	known, ok := profiles[config.Profile]
	if !ok {
		return fmt.Errorf("client: Profile %q is not supported", config.Profile)
	}
	c.profile = known
	if known.pushes {
		config.PushAuthorizationRequests = true
	}
	if config.PrivateKey != nil && config.SigningAlg == "" {
		alg, err := algorithmOf(config.PrivateKey)
		if err != nil {
			return err
		}
		if alg == jose.RS256 {
			alg = jose.PS256
		}
		config.SigningAlg = alg
	}
	if known.signsRequests && config.RequestObjectSigningAlg == "" {
		if config.PrivateKey == nil {
			return fmt.Errorf("client: profile %s: requests must be signed: set PrivateKey", config.Profile)
		}
		config.RequestObjectSigningAlg = config.SigningAlg
	}
	config.HTTPClient = withCipherSuites(config.HTTPClient)
	return nil
}

// checkProfile returns an error that names every rule of the profile that the configuration breaks.
func (c *Client) checkProfile() error {
	var broken []error
	for _, rule := range c.profile.rules {
		if !rule.ok(c) {
			broken = append(broken, fmt.Errorf("client: profile %s: %s (%s, section %s)", c.config.Profile, rule.text, c.profile.specification, rule.section))
		}
	}
	return errors.Join(broken...)
}

// cipherSuites are those of BCP 195 (RFC 9325, section 4.2) for TLS 1.2. TLS 1.3 has its own.
var cipherSuites = []uint16{
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
}

// withCipherSuites returns a copy of given that uses only cipherSuites (FAPI 2.0 Security Profile,
// section 5.2.1; FAPI 1.0 Advanced, section 8.5). A transport that is not an *http.Transport is
// used unchanged.
func withCipherSuites(given *http.Client) *http.Client {
	var copied http.Client
	if given != nil {
		copied = *given
	}
	base := copied.Transport
	if base == nil {
		base = http.DefaultTransport
	}
	original, ok := base.(*http.Transport)
	if !ok {
		return &copied
	}
	transport := original.Clone()
	if transport.TLSClientConfig == nil {
		transport.TLSClientConfig = &tls.Config{}
	}
	transport.TLSClientConfig.MinVersion = max(transport.TLSClientConfig.MinVersion, tls.VersionTLS12)
	transport.TLSClientConfig.CipherSuites = cipherSuites
	copied.Transport = transport
	return &copied
}

// checkScope checks that a response grants no more than was requested (Financial-grade API Security
// Profile 1.0, Part 1, section 5.2.3).
func (p *profile) checkScope(granted, requested oauth.Scope) error {
	if !p.checksScope {
		return nil
	}
	for _, scope := range granted {
		if !requested.Has(scope) {
			return fmt.Errorf("%w: the scope %q was not requested", ErrResponse, sanitize(scope, 100))
		}
	}
	return nil
}
