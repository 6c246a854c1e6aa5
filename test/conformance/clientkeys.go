package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// clientKey is the key of a client of the FAPI plans, with a certificate for it. The key is an RSA
// key, because some modules sign with RS256, which must be refused.
type clientKey struct {
	kid     string
	private *rsa.PrivateKey
	der     []byte // of the certificate
}

// newClientKeys creates the keys of the two clients, and an authority that issues the certificate
// of the first. The certificate of the second is signed by itself.
func newClientKeys() (keys []clientKey, authority []byte, err error) {
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	root := clientCertificate("authority")
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &authorityKey.PublicKey, authorityKey)
	if err != nil {
		return nil, nil, fmt.Errorf("create the authority: %w", err)
	}
	for _, name := range []string{"client", "client2"} {
		k := clientKey{kid: name}
		if k.private, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return nil, nil, err
		}
		template := clientCertificate(name)
		if name == "client" {
			k.der, err = x509.CreateCertificate(rand.Reader, template, root, &k.private.PublicKey, authorityKey)
		} else {
			k.der, err = x509.CreateCertificate(rand.Reader, template, template, &k.private.PublicKey, k.private)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("create the certificate of %s: %w", name, err)
		}
		keys = append(keys, k)
	}
	return keys, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), nil
}

func clientCertificate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"Conformance"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

func (k clientKey) publicJWK() map[string]any {
	return map[string]any{
		"kty": "RSA", "kid": k.kid, "use": "sig", "alg": "PS256",
		"n": encoded(k.private.N), "e": encoded(big.NewInt(int64(k.private.E))),
	}
}

// publicJWKS returns what the server is configured with: the key and the certificate.
func (k clientKey) publicJWKS() map[string]any {
	key := k.publicJWK()
	key["x5c"] = []string{base64.StdEncoding.EncodeToString(k.der)}
	return map[string]any{"keys": []any{key}}
}

// privateJWKS returns what the suite is configured with.
func (k clientKey) privateJWKS() map[string]any {
	key := k.publicJWK()
	key["d"], key["p"], key["q"] = encoded(k.private.D), encoded(k.private.Primes[0]), encoded(k.private.Primes[1])
	key["dp"], key["dq"], key["qi"] = encoded(k.private.Precomputed.Dp), encoded(k.private.Precomputed.Dq), encoded(k.private.Precomputed.Qinv)
	return map[string]any{"keys": []any{key}}
}

func encoded(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }

func (k clientKey) certificatePEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.der}))
}

func (k clientKey) keyPEM() string {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		panic(err) // an RSA key can be encoded
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
