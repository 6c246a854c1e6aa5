package authserver

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth/jose"
)

// encryptionAlgorithms are those by which clients and this server encrypt to each other.
func encryptionAlgorithms() []jose.Algorithm {
	return slices.Concat(jose.PublicKeyEncryptionAlgorithms(), jose.SecretEncryptionAlgorithms())
}

func encryptsBySecret(alg jose.Algorithm) bool {
	return slices.Contains(jose.SecretEncryptionAlgorithms(), alg)
}

// secretOf is the secret that a client signs and encrypts with; "" if it has none.
func (c *client) secretOf() string {
	if len(c.Secrets) == 0 {
		return ""
	}
	return c.Secrets[0]
}

// encryptTo encrypts what is meant for a client alone, to its keys or by its secret (OpenID
// Connect Core, section 10.2). alg "" leaves it as it is.
func (s *Server) encryptTo(ctx context.Context, now time.Time, cl *client, payload, alg, enc, contentType string) (string, error) {
	if alg == "" {
		return payload, nil
	}
	algorithm, encryption := jose.Algorithm(alg), jose.Encryption(cmp.Or(enc, string(jose.Encryptions()[0])))
	message := jose.Message{ContentType: contentType, Payload: []byte(payload)}
	var encrypted string
	var err error
	if encryptsBySecret(algorithm) {
		encrypted, err = jose.EncryptSecret(algorithm, encryption, jose.SharedSecret(cl.secretOf()), message)
	} else {
		var key jose.JWK
		if key, err = cl.recipient(ctx, now, algorithm); err == nil {
			encrypted, err = jose.Encrypt(algorithm, encryption, key, message)
		}
	}
	if err != nil {
		return "", fmt.Errorf("encrypt to client %s: %w", cl.ID, err)
	}
	return encrypted, nil
}

// recipient returns the client's key to encrypt to. Those of a jwks_uri are asked for anew
// if none fits.
func (c *client) recipient(ctx context.Context, now time.Time, alg jose.Algorithm) (jose.JWK, error) {
	keys, err := c.keys, error(nil)
	for _, fresh := range [...]bool{false, true} {
		if c.remoteKeys != nil {
			if keys, err = c.remoteKeys.Get(ctx, fresh); err != nil {
				return jose.JWK{}, err
			}
		}
		if key, ok := keys.Recipient(alg); ok {
			return key, nil
		}
	}
	return jose.JWK{}, fmt.Errorf("none of its keys is one for %s", alg)
}

// decrypt opens what was encrypted to this server's keys or, if cl is not nil, by the
// client's secret. alg and enc, unless they are "", are the only ones that are taken.
func (c *call) decrypt(cl *client, token, alg, enc string) ([]byte, error) {
	header, err := jose.ParseEncryptedHeader(token)
	if err != nil {
		return nil, err
	}
	if alg != "" && alg != string(header.Algorithm) || enc != "" && enc != string(header.Encryption) {
		return nil, jose.ErrAlgorithm
	}
	if encryptsBySecret(header.Algorithm) {
		if cl == nil {
			return nil, jose.ErrAlgorithm
		}
		err := jose.ErrAlgorithm
		for _, secret := range cl.Secrets {
			var payload []byte
			if payload, _, err = jose.DecryptSecret(token, jose.SharedSecret(secret), jose.SecretEncryptionAlgorithms()); err == nil {
				return payload, nil
			}
		}
		return nil, err
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	payload, _, err := jose.Decrypt(token, catalogue.keys.decrypters, jose.PublicKeyEncryptionAlgorithms())
	return payload, err
}

// algorithmNone is the alg of an unsigned JWT (RFC 7519, section 6). It may be that of ID
// tokens which come from the token endpoint alone, whose TLS protects them (OpenID Connect
// Core, section 2; RFC 8725, section 3.2).
const algorithmNone jose.Algorithm = "none"

// sign signs what is meant for a client, by a key of this server or by the client's secret
// (OpenID Connect Core, section 10.1), or not at all.
func (s *Server) sign(ctx context.Context, catalogue *catalogue, now time.Time, cl *client, alg jose.Algorithm, typ string, payload []byte) (string, error) {
	if alg == algorithmNone {
		return jose.Unsigned(typ, payload)
	}
	var signer *jose.Signer
	var err error
	if strings.HasPrefix(string(alg), "HS") {
		signer, err = jose.NewSecretSigner(alg, []byte(cl.secretOf()))
	} else {
		signer, err = s.signer(ctx, catalogue, alg, now)
	}
	if err != nil {
		return "", err
	}
	return signer.Sign(typ, payload)
}

// sign signs what the response to this request contains, as Server.sign does.
func (c *call) sign(cl *client, alg jose.Algorithm, typ string, payload []byte) (string, error) {
	catalogue, err := c.catalogue()
	if err != nil {
		return "", err
	}
	return c.s.sign(c.r.Context(), catalogue, c.now, cl, alg, typ, payload)
}
