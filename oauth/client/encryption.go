package client

import (
	"fmt"
	"slices"

	"github.com/valetkey/valetkey/oauth/jose"
)

// checkEncryption holds that everything that is said to come encrypted can be opened.
func (c *Client) checkEncryption() error {
	for _, alg := range []jose.Algorithm{c.config.IDTokenEncryptionAlg, c.config.UserInfoEncryptionAlg} {
		switch {
		case alg == "":
		case slices.Contains(jose.PublicKeyEncryptionAlgorithms(), alg):
			if len(c.config.DecryptionKeys) == 0 {
				return fmt.Errorf("client: encryption by %s needs DecryptionKeys", alg)
			}
		case slices.Contains(jose.SecretEncryptionAlgorithms(), alg):
			if c.config.ClientSecret == "" {
				return fmt.Errorf("client: encryption by %s needs a ClientSecret", alg)
			}
		default:
			return fmt.Errorf("client: %q is not an algorithm that encrypts", alg)
		}
	}
	return nil
}

// open decrypts a token that must be encrypted by alg; one that need not be it returns as
// it is. What is inside is not believed by that: anybody can encrypt to a public key.
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
