package client

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// requestObjectLifetime is how long a request object is valid. It is used immediately.
const requestObjectLifetime = 5 * time.Minute

// unsigned is the algorithm of unsigned request objects (OpenID Connect Core, section 6.1).
// They are as trustworthy as plain parameters.
const unsigned = "none"

func (c *Client) chooseRequestSigner() (err error) {
	switch alg := c.config.RequestObjectSigningAlg; alg {
	case "", unsigned:
	case jose.HS256, jose.HS384, jose.HS512:
		c.requestSigner, err = jose.NewSecretSigner(alg, []byte(c.config.ClientSecret))
	default:
		c.requestSigner, err = jose.NewSigner(alg, c.config.KeyID, c.config.PrivateKey)
	}
	if err != nil {
		return fmt.Errorf("client: key for request objects: %w", err)
	}
	return nil
}

// byRequestObject moves the parameters into a request object. The parameters that OAuth 2.0
// requires are sent outside too (OpenID Connect Core, sections 6.1 and 6.2). Parameters from
// the endpoint's own query are not part of the object.
func (c *Client) byRequestObject(query, endpoint url.Values, publish func(string) (string, error), now time.Time) (url.Values, error) {
	claims := map[string]any{}
	for name, values := range query {
		if endpoint.Has(name) {
			continue
		}
		switch {
		case name == "max_age":
			claims[name] = json.Number(values[0])
		case name == "claims" || name == "authorization_details":
			claims[name] = json.RawMessage(values[0])
		case len(values) == 1:
			claims[name] = values[0]
		default:
			claims[name] = values
		}
	}
	claims["iss"] = c.config.ClientID
	claims["aud"] = c.metadata.Issuer
	claims["jti"] = rand.Text()
	claims["iat"] = now.Unix()
	claims["nbf"] = now.Unix()
	claims["exp"] = now.Add(requestObjectLifetime).Unix()
	payload, err := json.Marshal(claims)
	if err != nil {
		return nil, fmt.Errorf("client: encode the request object: %w", err)
	}
	object, err := c.signRequestObject(payload)
	if err != nil {
		return nil, fmt.Errorf("client: sign the request object: %w", err)
	}
	outside := endpoint
	names := []string{"response_type", "client_id", "scope"}
	if c.pushes() { // RFC 9126, section 3
		names = []string{"client_id"}
	}
	for _, name := range names {
		if query.Has(name) {
			outside[name] = query[name]
		}
	}
	if publish == nil {
		outside.Set("request", object)
		return outside, nil
	}
	location, err := publish(object)
	if err != nil {
		return nil, fmt.Errorf("client: publish the request object: %w", err)
	}
	outside.Set("request_uri", location)
	return outside, nil
}

func (c *Client) signRequestObject(payload []byte) (string, error) {
	if c.requestSigner != nil {
		return c.requestSigner.Sign(oauth.TypRequestObject, payload)
	}
	var token strings.Builder
	token.WriteString(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)))
	token.WriteByte('.')
	token.WriteString(base64.RawURLEncoding.EncodeToString(payload))
	token.WriteByte('.')
	return token.String(), nil
}
