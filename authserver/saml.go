package authserver

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/beevik/etree"
	"github.com/jonboulle/clockwork"
	xrv "github.com/mattermost/xml-roundtrip-validator"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/valetkey/valetkey/jose"
	"github.com/valetkey/valetkey/oauth"
)

const (
	samlAssertionNamespace = "urn:oasis:names:tc:SAML:2.0:assertion"
	samlBearer             = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
	samlEmailAddress       = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"

	// maxSAMLDepth bounds how deep elements of an assertion nest.
	maxSAMLDepth = 32
)

// samlSignatureAlgorithms and samlDigestAlgorithms leave out SHA-1, which the library would
// take, and ECDSA, of which it expects another form than XML signatures have.
var (
	samlSignatureAlgorithms = []string{dsig.RSASHA256SignatureMethod, dsig.RSASHA384SignatureMethod, dsig.RSASHA512SignatureMethod}
	samlDigestAlgorithms    = []string{
		"http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2001/04/xmldsig-more#sha384", "http://www.w3.org/2001/04/xmlenc#sha512",
	}
)

// samlAssertion is what is read of an assertion, after its signature was found good.
type samlAssertion struct {
	XMLName xml.Name `xml:"urn:oasis:names:tc:SAML:2.0:assertion Assertion"`
	ID      string   `xml:",attr"`
	Version string   `xml:",attr"`
	Issuer  string   `xml:"urn:oasis:names:tc:SAML:2.0:assertion Issuer"`
	Subject struct {
		NameID struct {
			Format string `xml:",attr"`
			Value  string `xml:",chardata"`
		} `xml:"urn:oasis:names:tc:SAML:2.0:assertion NameID"`
		Confirmations []struct {
			Method string `xml:",attr"`
			Data   *struct {
				Recipient    string    `xml:",attr"`
				NotBefore    time.Time `xml:",attr"`
				NotOnOrAfter time.Time `xml:",attr"`
			} `xml:"urn:oasis:names:tc:SAML:2.0:assertion SubjectConfirmationData"`
		} `xml:"urn:oasis:names:tc:SAML:2.0:assertion SubjectConfirmation"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:assertion Subject"`
	Conditions struct {
		NotBefore    time.Time `xml:",attr"`
		NotOnOrAfter time.Time `xml:",attr"`
		Restrictions []struct {
			Audiences []string `xml:"urn:oasis:names:tc:SAML:2.0:assertion Audience"`
		} `xml:"urn:oasis:names:tc:SAML:2.0:assertion AudienceRestriction"`
		// Others are conditions that might not hold.
		Others []struct{ XMLName xml.Name } `xml:",any"`
	} `xml:"urn:oasis:names:tc:SAML:2.0:assertion Conditions"`
}

// parseCertificates reads those of a SAML issuer, in PEM.
func parseCertificates(text string) ([]*x509.Certificate, error) {
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
		return nil, errors.New("there is no certificate in PEM")
	}
	return certificates, nil
}

// parseSAML reads an assertion (RFC 7522, section 2.1) as the element that it is. Nothing
// in it is believed yet.
func parseSAML(encoded string) (*etree.Element, error) {
	document, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return nil, errAssertion("it is not base64url")
	}
	// Two parsers that read one text differently are how signatures of XML are got round.
	if err := xrv.Validate(bytes.NewReader(document)); err != nil {
		return nil, errAssertion("it is not XML that everybody reads alike")
	}
	parsed := etree.NewDocument()
	if err := parsed.ReadFromBytes(document); err != nil {
		return nil, errAssertion("it is not XML")
	}
	for _, token := range parsed.Child {
		if _, ok := token.(*etree.Directive); ok {
			return nil, errAssertion("it has a document type declaration")
		}
	}
	root := parsed.Root()
	if len(parsed.ChildElements()) != 1 || root.Tag != "Assertion" || root.NamespaceURI() != samlAssertionNamespace || depth(root) > maxSAMLDepth {
		return nil, errAssertion("it is no SAML 2.0 assertion")
	}
	return root, nil
}

func depth(e *etree.Element) int {
	deepest := 0
	for _, child := range e.ChildElements() {
		deepest = max(deepest, depth(child))
	}
	return deepest + 1
}

// samlIssuer is what an assertion claims to be of.
func samlIssuer(root *etree.Element) string {
	for _, child := range root.ChildElements() {
		if child.Tag == "Issuer" && child.NamespaceURI() == samlAssertionNamespace {
			return child.Text()
		}
	}
	return ""
}

// signedSAML returns what one of the certificates signed, and nothing else: whoever reads
// on in root reads what others may have put there.
func signedSAML(root *etree.Element, certificates []*x509.Certificate, now time.Time) (*samlAssertion, error) {
	for _, e := range root.FindElements(".//SignatureMethod") {
		if !slices.Contains(samlSignatureAlgorithms, e.SelectAttrValue("Algorithm", "")) {
			return nil, errAssertion("its signature: the algorithm is not one that is accepted here")
		}
	}
	for _, e := range root.FindElements(".//DigestMethod") {
		if !slices.Contains(samlDigestAlgorithms, e.SelectAttrValue("Algorithm", "")) {
			return nil, errAssertion("its signature: the digest is not one that is accepted here")
		}
	}
	var signed *etree.Element
	for _, certificate := range certificates {
		validation := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{certificate}})
		validation.IdAttribute = "ID"
		validation.Clock = dsig.NewFakeClock(clockwork.NewFakeClockAt(now))
		element, err := validation.Validate(root)
		if err == nil {
			signed = element
			break
		}
	}
	if signed == nil {
		return nil, errAssertion("its signature: it does not verify by a certificate of its issuer that is good now")
	}
	document := etree.NewDocument()
	document.SetRoot(signed.Copy())
	text, err := document.WriteToBytes()
	if err != nil {
		return nil, fmt.Errorf("write a signed assertion: %w", err)
	}
	var a samlAssertion
	if err := xml.Unmarshal(text, &a); err != nil {
		return nil, errAssertion("its elements are not those of SAML 2.0")
	}
	return &a, nil
}

// unknownCondition: what is not understood makes an assertion no good (SAML Core, section
// 2.5.1.1). Every assertion is used once here, and none is the ground for another.
func unknownCondition(c struct{ XMLName xml.Name }) bool {
	return c.XMLName.Space != samlAssertionNamespace || c.XMLName.Local != "OneTimeUse" && c.XMLName.Local != "ProxyRestriction"
}

// verifySAML holds RFC 7522, section 3, and says of the assertion what a JWT would.
func (c *call) verifySAML(t *trustedIssuer, root *etree.Element) (*assertion, error) {
	signed, err := signedSAML(root, t.certificates, c.now)
	if err != nil {
		return nil, err
	}
	endpoint := c.s.config.Issuer + "/token"
	audiences := []string{c.s.config.Issuer, endpoint}
	if t.Audience != "" {
		audiences = []string{t.Audience}
	}
	expires := signed.Conditions.NotOnOrAfter
	confirmed := false
	for _, confirmation := range signed.Subject.Confirmations {
		if confirmation.Method != samlBearer {
			continue
		}
		data := confirmation.Data
		if data == nil {
			confirmed = confirmed || !expires.IsZero()
			continue
		}
		if data.Recipient != endpoint || data.NotBefore.Sub(c.now) > clockSkew || data.NotOnOrAfter.IsZero() || !c.now.Before(data.NotOnOrAfter.Add(clockSkew)) {
			continue
		}
		if expires.IsZero() || data.NotOnOrAfter.Before(expires) {
			expires = data.NotOnOrAfter
		}
		confirmed = true
	}
	longest := t.longest()
	switch now := c.now; {
	case signed.Version != "2.0" || signed.ID == "" || signed.Issuer != t.Issuer || signed.Subject.NameID.Value == "":
		return nil, errAssertion("its Issuer is another than the certificates are of, or ID, Version or NameID is missing")
	case len(signed.Conditions.Restrictions) != 1 || len(signed.Conditions.Restrictions[0].Audiences) != 1 || !slices.Contains(audiences, signed.Conditions.Restrictions[0].Audiences[0]):
		return nil, errAssertion("its Audience is not, and alone, " + strings.Join(audiences, " or "))
	case slices.ContainsFunc(signed.Conditions.Others, unknownCondition):
		return nil, errAssertion("it has a condition that is not understood here")
	case !confirmed:
		return nil, errAssertion("no SubjectConfirmation is a bearer's, for the Recipient " + endpoint + ", and good now")
	case !now.Before(expires.Add(clockSkew)):
		return nil, errAssertion("it has expired")
	case expires.Sub(now) > longest+clockSkew:
		return nil, errAssertion("its NotOnOrAfter is more than " + longest.String() + " ahead")
	case signed.Conditions.NotBefore.Sub(now) > clockSkew:
		return nil, errAssertion("its NotBefore is in the future")
	}
	a := &assertion{
		Claims:  jose.Claims{Issuer: signed.Issuer, Subject: signed.Subject.NameID.Value, ID: signed.ID, Audience: signed.Conditions.Restrictions[0].Audiences, Expires: expires},
		members: oauth.Claims{},
	}
	if signed.Subject.NameID.Format == samlEmailAddress {
		a.members["email"] = signed.Subject.NameID.Value
	}
	return a, nil
}
