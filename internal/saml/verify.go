package saml

import (
	"crypto/x509"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/beevik/etree"
	"github.com/jonboulle/clockwork"
	dsig "github.com/russellhaering/goxmldsig"
)

const (
	methodBearer       = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
	formatEmailAddress = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
)

// signatureAlgorithms and digestAlgorithms exclude SHA-1, which the library would accept, and
// ECDSA, whose signatures the library expects in an encoding that XML signatures do not use.
var (
	signatureAlgorithms = []string{dsig.RSASHA256SignatureMethod, dsig.RSASHA384SignatureMethod, dsig.RSASHA512SignatureMethod}
	digestAlgorithms    = []string{
		"http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2001/04/xmldsig-more#sha384", "http://www.w3.org/2001/04/xmlenc#sha512",
	}
)

// Expected is what an assertion must contain.
type Expected struct {
	// Issuer is the entity ID that signs with one of Certificates.
	Issuer       string
	Certificates []*x509.Certificate
	// Recipient is the token endpoint.
	Recipient string
	// Audiences are the accepted audiences. An assertion has exactly one.
	Audiences []string
	// MaxLifetime limits how far in the future the expiry may be.
	MaxLifetime time.Duration
	// ClockSkew is how far the issuer's clock may differ.
	ClockSkew time.Duration
}

// Assertion is a verified assertion.
type Assertion struct {
	ID       string
	Issuer   string
	NameID   string
	Email    string // the NameID if its format is emailAddress
	Audience string
	Expires  time.Time
}

// content is the part of an assertion that is read after the signature was verified.
type content struct {
	XMLName xml.Name `xml:"urn:oasis:names:tc:SAML:2.0:assertion Assertion"`
	ID      string   `xml:",attr"`
	Version string   `xml:",attr"`
	Issuer  string   `xml:"urn:oasis:names:tc:SAML:2.0:assertion Issuer"`
	Subject struct {
		NameID struct {
			Format string `xml:",attr"`
			Value  string `xml:",chardata"`
		} `xml:"urn:oasis:names:tc:SAML:2.0:assertion NameID"`
		Confirmations []confirmation `xml:"urn:oasis:names:tc:SAML:2.0:assertion SubjectConfirmation"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:assertion Subject"`
	Conditions struct {
		NotBefore    time.Time `xml:",attr"`
		NotOnOrAfter time.Time `xml:",attr"`
		Restrictions []struct {
			Audiences []string `xml:"urn:oasis:names:tc:SAML:2.0:assertion Audience"`
		} `xml:"urn:oasis:names:tc:SAML:2.0:assertion AudienceRestriction"`
		// Others are conditions that may not be met.
		Others []condition `xml:",any"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:assertion Conditions"`
}

type confirmation struct {
	Method string `xml:",attr"`
	Data   *struct {
		Recipient    string    `xml:",attr"`
		NotBefore    time.Time `xml:",attr"`
		NotOnOrAfter time.Time `xml:",attr"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:assertion SubjectConfirmationData"`
}

type condition struct{ XMLName xml.Name }

// unknown reports whether the condition is not understood, which makes the assertion invalid
// (SAML Core, section 2.5.1.1). Each assertion is accepted once and is never the basis of
// another, so OneTimeUse and ProxyRestriction are met.
func (c condition) unknown() bool {
	return c.XMLName.Space != assertionNamespace || c.XMLName.Local != "OneTimeUse" && c.XMLName.Local != "ProxyRestriction"
}

// Verify verifies the signature and the content (RFC 7522, section 3). The error is an
// InvalidError if the assertion is invalid.
func (u *Unverified) Verify(now time.Time, want Expected) (*Assertion, error) {
	signed, err := u.signedContent(want.Certificates, now)
	if err != nil {
		return nil, err
	}
	expires, confirmed := signed.expiry(now, want)
	restrictions := signed.Conditions.Restrictions
	switch {
	case signed.Version != "2.0" || signed.ID == "" || signed.Issuer != want.Issuer || signed.Subject.NameID.Value == "":
		return nil, InvalidError("its Issuer is not the one that the certificates belong to, or ID, Version or NameID is missing")
	case len(restrictions) != 1 || len(restrictions[0].Audiences) != 1 || !slices.Contains(want.Audiences, restrictions[0].Audiences[0]):
		return nil, InvalidError("its only Audience must be " + strings.Join(want.Audiences, " or "))
	case slices.ContainsFunc(signed.Conditions.Others, condition.unknown):
		return nil, InvalidError("it has an unknown condition")
	case !confirmed:
		return nil, InvalidError("it has no valid bearer SubjectConfirmation for the Recipient " + want.Recipient)
	case !now.Before(expires.Add(want.ClockSkew)):
		return nil, InvalidError("it has expired")
	case expires.Sub(now) > want.MaxLifetime+want.ClockSkew:
		return nil, InvalidError("its NotOnOrAfter is more than " + want.MaxLifetime.String() + " in the future")
	case signed.Conditions.NotBefore.Sub(now) > want.ClockSkew:
		return nil, InvalidError("its NotBefore is in the future")
	}
	a := &Assertion{
		ID:       signed.ID,
		Issuer:   signed.Issuer,
		NameID:   signed.Subject.NameID.Value,
		Audience: restrictions[0].Audiences[0],
		Expires:  expires,
	}
	if signed.Subject.NameID.Format == formatEmailAddress {
		a.Email = a.NameID
	}
	return a, nil
}

// signedContent returns the content that was signed with the key of one of the certificates. The
// rest of the document is not read: an attacker may have added it.
func (u *Unverified) signedContent(certificates []*x509.Certificate, now time.Time) (*content, error) {
	for _, e := range u.root.FindElements(".//SignatureMethod") {
		if !slices.Contains(signatureAlgorithms, e.SelectAttrValue("Algorithm", "")) {
			return nil, InvalidError("its signature: the algorithm is not accepted")
		}
	}
	for _, e := range u.root.FindElements(".//DigestMethod") {
		if !slices.Contains(digestAlgorithms, e.SelectAttrValue("Algorithm", "")) {
			return nil, InvalidError("its signature: the digest algorithm is not accepted")
		}
	}
	var signed *etree.Element
	for _, certificate := range certificates {
		validation := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{certificate}})
		validation.IdAttribute = "ID"
		validation.Clock = dsig.NewFakeClock(clockwork.NewFakeClockAt(now))
		element, err := validation.Validate(u.root)
		if err == nil {
			signed = element
			break
		}
	}
	if signed == nil {
		return nil, InvalidError("its signature: no valid certificate of its issuer verifies it")
	}
	document := etree.NewDocument()
	document.SetRoot(signed.Copy())
	text, err := document.WriteToBytes()
	if err != nil {
		return nil, fmt.Errorf("write a signed assertion: %w", err)
	}
	var c content
	if err := xml.Unmarshal(text, &c); err != nil {
		return nil, InvalidError("its elements do not conform to SAML 2.0")
	}
	return &c, nil
}

// expiry returns when the assertion expires, and whether it has a valid bearer
// SubjectConfirmation.
func (c *content) expiry(now time.Time, want Expected) (expires time.Time, confirmed bool) {
	expires = c.Conditions.NotOnOrAfter
	for _, confirmation := range c.Subject.Confirmations {
		if confirmation.Method != methodBearer {
			continue
		}
		data := confirmation.Data
		if data == nil {
			confirmed = confirmed || !expires.IsZero()
			continue
		}
		if data.Recipient != want.Recipient || data.NotBefore.Sub(now) > want.ClockSkew || data.NotOnOrAfter.IsZero() || !now.Before(data.NotOnOrAfter.Add(want.ClockSkew)) {
			continue
		}
		if expires.IsZero() || data.NotOnOrAfter.Before(expires) {
			expires = data.NotOnOrAfter
		}
		confirmed = true
	}
	return expires, confirmed
}
