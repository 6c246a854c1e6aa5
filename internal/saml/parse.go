// Package saml parses and verifies SAML 2.0 assertions that a client presents as a bearer
// grant (RFC 7522, section 3).
package saml

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"

	"github.com/beevik/etree"
	xrv "github.com/mattermost/xml-roundtrip-validator"
)

const (
	assertionNamespace = "urn:oasis:names:tc:SAML:2.0:assertion"

	// maxDepth limits how deeply the elements of an assertion are nested.
	maxDepth = 32
)

// InvalidError is the reason why an assertion is rejected.
type InvalidError string

func (e InvalidError) Error() string { return string(e) }

// Unverified is an assertion whose signature has not been verified.
type Unverified struct{ root *etree.Element }

// Parse parses an assertion in base64url (RFC 7522, section 2.1). The error is an
// InvalidError.
func Parse(encoded string) (*Unverified, error) {
	document, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return nil, InvalidError("it is not base64url")
	}
	// XML signatures can be bypassed if two parsers interpret the same text differently.
	if err := xrv.Validate(bytes.NewReader(document)); err != nil {
		return nil, InvalidError("parsers may disagree on its XML")
	}
	parsed := etree.NewDocument()
	if err := parsed.ReadFromBytes(document); err != nil {
		return nil, InvalidError("it is not XML")
	}
	for _, token := range parsed.Child {
		if _, ok := token.(*etree.Directive); ok {
			return nil, InvalidError("it has a document type declaration")
		}
	}
	root := parsed.Root()
	if len(parsed.ChildElements()) != 1 || root.Tag != "Assertion" || root.NamespaceURI() != assertionNamespace || depth(root) > maxDepth {
		return nil, InvalidError("it is not a SAML 2.0 assertion")
	}
	return &Unverified{root}, nil
}

func depth(e *etree.Element) int {
	deepest := 0
	for _, child := range e.ChildElements() {
		deepest = max(deepest, depth(child))
	}
	return deepest + 1
}

// Issuer returns the issuer that the assertion names. Verify confirms it.
func (u *Unverified) Issuer() string {
	for _, child := range u.root.ChildElements() {
		if child.Tag == "Issuer" && child.NamespaceURI() == assertionNamespace {
			return child.Text()
		}
	}
	return ""
}

// ParseCertificates parses the PEM certificates of an issuer. Each must have an RSA key of
// 2048 bits or more.
func ParseCertificates(text string) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if key, ok := certificate.PublicKey.(*rsa.PublicKey); !ok || key.N.BitLen() < 2048 {
			return nil, errors.New("a certificate is not for an RSA key of 2048 bits or more")
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 0 {
		return nil, errors.New("there is no PEM certificate")
	}
	return certificates, nil
}
