package client

import (
	"fmt"
	"slices"

	"github.com/valetkey/valetkey/oauth/jose"
)

// checkEncryption checks that the client has the keys for the configured encryption.
func (c *Client) checkEncryption() error {
	for _, alg := range []jose.Algorithm{c.config.IDTokenEncryptionAlg, c.config.UserInfoEncryptionAlg, c.config.AuthorizationEncryptionAlg} {
		switch {
		case alg == "":
		case slices.Contains(jose.PublicKeyEncryptionAlgorithms(), alg):
			if len(c.config.DecryptionKeys) == 0 {
				return fmt.Errorf("client: encryption with %s requires DecryptionKeys", alg)
			}
		case slices.Contains(jose.SecretEncryptionAlgorithms(), alg):
			if c.config.ClientSecret == "" {
				return fmt.Errorf("client: encryption with %s requires a ClientSecret", alg)
			}
		default:
			return fmt.Errorf("client: %q is not a supported encryption algorithm", alg)
		}
	}
	return nil
}

// open decrypts a token that must be encrypted with alg. If alg is empty it returns the token
// unchanged. The result is not trusted yet: anybody can encrypt to a public key.
func (c *Client) open(token string, alg jose.Algorithm) (string, error) {
	if alg == "" {
		return token, nil
	}
	only := []jose.Algorithm{alg}
	if slices.Contains(jose.SecretEncryptionAlgorithms(), alg) {
		// OpenID Connect Core, section 10.2.
		inside, _, err := jose.DecryptSecret(token, jose.SharedSecret(c.config.ClientSecret), only)
		return string(inside), err
	}
	inside, _, err := jose.Decrypt(token, c.config.DecryptionKeys, only)
	return string(inside), err
}
