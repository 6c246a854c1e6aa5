package authserver_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// samlKey is the signing key of an issuer of SAML assertions.
type samlKey struct {
	private     *rsa.PrivateKey
	certificate []byte // DER
	pem         string
}

func newSAMLKey(notAfter time.Time) (*samlKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "saml-idp.example.com"}, NotBefore: time.Unix(0, 0), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, err
	}
	return &samlKey{private: private, certificate: der, pem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}, nil
}

// samlKeys returns the key that all tests share, because generating an RSA key is slow.
var samlKeys = sync.OnceValue(func() *samlKey {
	key, err := newSAMLKey(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		panic(err)
	}
	return key
})

// withTimes replaces durations such as "600s" by times from now.
func withTimes(text string) string {
	return durations.ReplaceAllStringFunc(text, func(value string) string {
		d, err := time.ParseDuration(strings.Trim(value, `"`))
		if err != nil {
			return value
		}
		return `"` + time.Now().Add(d).UTC().Format(time.RFC3339) + `"`
	})
}

var durations = regexp.MustCompile(`"-?\d+s"`)

// sign parses and signs an element.
func (k *samlKey) sign(text, method string) (*etree.Document, error) {
	document := etree.NewDocument()
	if err := document.ReadFromString(withTimes(text)); err != nil {
		return nil, fmt.Errorf("an assertion to sign: %w", err)
	}
	signing, err := dsig.NewSigningContext(k.private, [][]byte{k.certificate})
	if err != nil {
		return nil, err
	}
	signing.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	if err := signing.SetSignatureMethod(method); err != nil {
		return nil, err
	}
	signed, err := signing.SignEnveloped(document.Root())
	if err != nil {
		return nil, err
	}
	document.SetRoot(signed)
	written, err := document.WriteToBytes()
	if err != nil {
		return nil, err
	}
	read := etree.NewDocument() // parsed again, so that every element has a parent
	return read, read.ReadFromBytes(written)
}

// SIGN-SAML: signs the assertion in the body with the key of the tests.
func verbSignSAML(w http.ResponseWriter, r *http.Request, _ []string) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	document, err := samlKeys().sign(strings.TrimSpace(string(body)), dsig.RSASHA256SignatureMethod)
	if err != nil {
		return err
	}
	text, err := document.WriteToBytes()
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, base64.RawURLEncoding.EncodeToString(text))
	return err
}

const mikeBySAML = `<Assertion xmlns="urn:oasis:names:tc:SAML:2.0:assertion" ID="_1" Version="2.0" IssueInstant="0s">` +
	`<Issuer>https://saml-idp.example.com</Issuer>` +
	`<Subject><NameID>mike</NameID><SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">` +
	`<SubjectConfirmationData NotOnOrAfter="300s" Recipient="https://server.example.com/token"/></SubjectConfirmation></Subject>` +
	`<Conditions><AudienceRestriction><Audience>https://server.example.com</Audience></AudienceRestriction></Conditions>` +
	`</Assertion>`

// samlScene returns a scene that trusts an issuer of SAML assertions with these certificates.
func samlScene(t testing.TB, certificates string) *scene {
	return newScene(t, scriptSetup{
		Clients: []testClient{confidential("reports", func(c *record.Client) {
			c.GrantTypes, c.Scope = []string{oauth.GrantTypeSAMLBearer}, "reports:read"
		})},
		People: map[string]oauth.Claims{"mike": {}, "root": {}},
		Scopes: []record.Scope{{Name: "reports:read"}},
		TrustedIssuers: []authserver.TrustedIssuer{{
			Issuer: "https://saml-idp.example.com", SAMLCertificates: certificates, Uses: []string{authserver.UseSAMLBearer}, Clients: []string{"reports"},
			Scopes: oauth.Scope{"reports:read"}, Subjects: map[string]string{"mike": "mike", "root": "root"},
		}},
	})
}

// presentSAML returns the response, and the sub of the token.
func (s *scene) presentSAML(assertion []byte) (a answer, subject string) {
	s.t.Helper()
	a = s.post("/token", "reports", "grant_type", oauth.GrantTypeSAMLBearer, "assertion", base64.RawURLEncoding.EncodeToString(assertion))
	if a.AccessToken != "" {
		subject, _ = s.claimsOf(a.AccessToken)["sub"].(string)
	}
	return a, subject
}

// An attacker with an assertion about mike changes it to become root.
func TestSAMLSignaturesCannotBeBypassed_TX12(t *testing.T) {
	trusted, untrusted := samlKeys(), sync.OnceValue(func() *samlKey {
		key, err := newSAMLKey(time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return key
	})
	asRoot := strings.Replace(mikeBySAML, ">mike<", ">root<", 1)
	for _, test := range []struct {
		name string
		key  func() *samlKey
		text string // what is signed
		// change is what happens to it afterwards.
		change func(t *testing.T, signed *etree.Document) string
		want   string // the sub of the token; "" if the assertion is refused
	}{
		{name: "unchanged", want: "mike"},
		{name: "with white space around it", change: func(t *testing.T, signed *etree.Document) string { return "\n " + text(t, signed) + "\n" }, want: "mike"},
		{name: "not signed", change: func(t *testing.T, signed *etree.Document) string {
			remove(t, signed.Root(), "Signature")
			return text(t, signed)
		}},
		{name: "another name", change: replace(">mike<", ">root<")},
		{name: "signed with another key, whose certificate is in it", key: untrusted, text: asRoot},
		{name: "signed with another key, with the trusted certificate in it", key: untrusted, text: asRoot, change: func(t *testing.T, signed *etree.Document) string {
			signed.FindElement("//X509Certificate").SetText(base64.StdEncoding.EncodeToString(trusted.certificate))
			return text(t, signed)
		}},
		{name: "no certificate in it: the issuer's is known", change: func(t *testing.T, signed *etree.Document) string {
			remove(t, signed.FindElement("//Signature"), "KeyInfo")
			return text(t, signed)
		}, want: "mike"},
		{name: "the signed assertion within a forged one", change: func(t *testing.T, signed *etree.Document) string {
			forged := parse(t, strings.Replace(withTimes(asRoot), `ID="_1"`, `ID="_2"`, 1))
			forged.Root().AddChild(signed.Root().Copy())
			return text(t, forged)
		}},
		{name: "the signed assertion within its own signature, on a forged one", change: func(t *testing.T, signed *etree.Document) string {
			signature := signed.FindElement("//Signature").Copy()
			remove(t, signed.Root(), "Signature")
			object := etree.NewElement("ds:Object")
			object.AddChild(signed.Root().Copy())
			signature.AddChild(object)
			forged := parse(t, withTimes(asRoot))
			forged.Root().AddChild(signature)
			return text(t, forged)
		}},
		{name: "a forged one with the same ID, and the signature", change: func(t *testing.T, signed *etree.Document) string {
			forged := parse(t, withTimes(asRoot))
			forged.Root().AddChild(signed.FindElement("//Signature").Copy())
			return text(t, forged)
		}},
		{name: "a forged Subject next to the signed one", change: func(t *testing.T, signed *etree.Document) string {
			signed.Root().AddChild(parse(t, asRoot).FindElement("//Subject").Copy())
			return text(t, signed)
		}},
		{name: "a forged Subject in the signature, which is not signed", change: func(t *testing.T, signed *etree.Document) string {
			signed.FindElement("//Signature").AddChild(parse(t, asRoot).FindElement("//Subject").Copy())
			return text(t, signed)
		}, want: "mike"},
		{name: "two signatures, one of them with another key", change: func(t *testing.T, signed *etree.Document) string {
			other, err := untrusted().sign(asRoot, dsig.RSASHA256SignatureMethod)
			if err != nil {
				t.Fatal(err)
			}
			other.Root().AddChild(signed.FindElement("//Signature").Copy())
			return text(t, other)
		}},
		{name: "a comment that cuts a name short", text: strings.Replace(mikeBySAML, ">mike<", ">root.evil<", 1), change: replace(">root.evil<", ">root<!-- -->.evil<")},
		{name: "a document type declaration", change: func(t *testing.T, signed *etree.Document) string {
			return `<!DOCTYPE Assertion [<!ENTITY who "root">]>` + text(t, signed)
		}},
		{name: "an entity", change: func(t *testing.T, signed *etree.Document) string {
			return `<!DOCTYPE Assertion [<!ENTITY who "root">]>` + strings.Replace(text(t, signed), ">mike<", ">&who;<", 1)
		}},
		{name: "a name with two colons, which parsers interpret differently", change: replace(" Version=", ` x:y:Version="2.0" Version=`)},
		{name: "SHA-1", change: func(t *testing.T, signed *etree.Document) string {
			weak, err := trusted.sign(mikeBySAML, dsig.RSASHA1SignatureMethod)
			if err != nil {
				t.Fatal(err)
			}
			return text(t, weak)
		}},
		{name: "nested too deeply", text: strings.Replace(mikeBySAML, "<Conditions>", strings.Repeat("<Advice>", 50)+strings.Repeat("</Advice>", 50)+"<Conditions>", 1)},
		{name: "two issuers", text: strings.Replace(mikeBySAML, "</Issuer>", "</Issuer><Issuer>https://other.example.com</Issuer>", 1)},
		{name: "two assertions", change: func(t *testing.T, signed *etree.Document) string { return text(t, signed) + withTimes(asRoot) }},
		{name: "an assertion within a response", change: func(t *testing.T, signed *etree.Document) string {
			return `<Response xmlns="urn:oasis:names:tc:SAML:2.0:protocol">` + text(t, signed) + `</Response>`
		}},
		{name: "encrypted NameID", text: strings.Replace(strings.Replace(mikeBySAML, "<NameID>", "<EncryptedID>", 1), "</NameID>", "</EncryptedID>", 1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, assertion := trusted, mikeBySAML
			if test.key != nil {
				key = test.key()
			}
			if test.text != "" {
				assertion = test.text
			}
			signed, err := key.sign(assertion, dsig.RSASHA256SignatureMethod)
			if err != nil {
				t.Fatal(err)
			}
			sent := ""
			if test.change == nil {
				sent = text(t, signed)
			} else {
				sent = test.change(t, signed)
			}
			a, subject := samlScene(t, trusted.pem).presentSAML([]byte(sent))
			if subject != test.want || test.want == "" && (a.status != http.StatusBadRequest || a.Error != "invalid_grant") {
				t.Errorf("%d %s\na token for %q, want one for %q", a.status, a.body, subject, test.want)
			}
		})
	}
}

func TestSAMLCertificates(t *testing.T) {
	expired, err := newSAMLKey(time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, want, certificates string }{
		{name: "two certificates during rotation", certificates: expired.pem + samlKeys().pem, want: "mike"},
		{name: "an expired certificate", certificates: expired.pem},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := expired
			if test.want != "" {
				key = samlKeys()
			}
			signed, err := key.sign(mikeBySAML, dsig.RSASHA256SignatureMethod)
			if err != nil {
				t.Fatal(err)
			}
			if a, subject := samlScene(t, test.certificates).presentSAML([]byte(text(t, signed))); subject != test.want {
				t.Errorf("%d %s\na token for %q, want one for %q", a.status, a.body, subject, test.want)
			}
		})
	}
}

func FuzzSAMLAssertion(f *testing.F) {
	signed, err := samlKeys().sign(mikeBySAML, dsig.RSASHA256SignatureMethod)
	if err != nil {
		f.Fatal(err)
	}
	valid, err := signed.WriteToBytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid)
	f.Add([]byte(`<Assertion xmlns="urn:oasis:names:tc:SAML:2.0:assertion"/>`))
	f.Add([]byte(`<!DOCTYPE a><a xmlns:b="c"><b:d e='f'><![CDATA[g]]><!-- h --></b:d></a>`))
	s := samlScene(f, samlKeys().pem)
	f.Fuzz(func(t *testing.T, assertion []byte) {
		s.t = t
		if a, subject := s.presentSAML(assertion); subject != "" && subject != "mike" || a.status >= 500 {
			t.Errorf("%d %s: a token for %q", a.status, a.body, subject)
		}
	})
}

func text(t *testing.T, document *etree.Document) string {
	t.Helper()
	written, err := document.WriteToString()
	if err != nil {
		t.Fatal(err)
	}
	return written
}

func parse(t *testing.T, text string) *etree.Document {
	t.Helper()
	document := etree.NewDocument()
	if err := document.ReadFromString(text); err != nil {
		t.Fatal(err)
	}
	return document
}

func remove(t *testing.T, parent *etree.Element, tag string) {
	t.Helper()
	child := parent.SelectElement(tag)
	if child == nil {
		t.Fatalf("there is no %s", tag)
	}
	parent.RemoveChild(child)
}

func replace(before, after string) func(*testing.T, *etree.Document) string {
	return func(t *testing.T, signed *etree.Document) string {
		t.Helper()
		written := text(t, signed)
		changed := strings.Replace(written, before, after, 1)
		if changed == written {
			t.Fatalf("there is no %s in %s", before, written)
		}
		return changed
	}
}
