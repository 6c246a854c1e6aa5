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

// samlKeys returns the key that all tests share. Generating an RSA key is slow.
var samlKeys = sync.OnceValue(func() *samlKey {
	key, err := newSAMLKey(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		panic(err)
	}
	return key
})

// withTimes replaces durations such as "600s" with times relative to now.
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

// sign parses an element and signs it.
func (k *samlKey) sign(text, method string) (*etree.Document, error) {
	document := etree.NewDocument()
	if err := document.ReadFromString(withTimes(text)); err != nil {
		return nil, fmt.Errorf("parse the assertion: %w", err)
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
	reparsed := etree.NewDocument() // so that every element has a parent
	return reparsed, reparsed.ReadFromBytes(written)
}

// SIGN-SAML signs the assertion in the body with the shared test key.
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

const mikeAssertion = `<Assertion xmlns="urn:oasis:names:tc:SAML:2.0:assertion" ID="_1" Version="2.0" IssueInstant="0s">` +
	`<Issuer>https://saml-idp.example.com</Issuer>` +
	`<Subject><NameID>mike</NameID><SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">` +
	`<SubjectConfirmationData NotOnOrAfter="300s" Recipient="https://server.example.com/token"/></SubjectConfirmation></Subject>` +
	`<Conditions><AudienceRestriction><Audience>https://server.example.com</Audience></AudienceRestriction></Conditions>` +
	`</Assertion>`

// samlScene returns a scene with a trusted issuer of SAML assertions that has these certificates.
func samlScene(t testing.TB, certificates string) *scene {
	return newScene(t, scriptSetup{
		Clients: []testClient{confidential("reports", func(c *record.Client) {
			c.GrantTypes, c.Scope = []string{oauth.GrantTypeSAMLBearer}, "reports:read"
		})},
		Users:  map[string]oauth.Claims{"mike": {}, "root": {}},
		Scopes: []record.Scope{{Name: "reports:read"}},
		TrustedIssuers: []authserver.TrustedIssuer{{
			Issuer: "https://saml-idp.example.com", SAMLCertificates: certificates, Uses: []string{authserver.UseSAMLBearer}, Clients: []string{"reports"},
			Scopes: oauth.Scope{"reports:read"}, Subjects: map[string]string{"mike": "mike", "root": "root"},
		}},
	})
}

// presentSAML sends an assertion, and returns the response and the sub of the access token.
func (s *scene) presentSAML(assertion []byte) (a apiResponse, subject string) {
	s.t.Helper()
	a = s.post("/token", "reports", "grant_type", oauth.GrantTypeSAMLBearer, "assertion", base64.RawURLEncoding.EncodeToString(assertion))
	if a.AccessToken != "" {
		subject, _ = s.claimsOf(a.AccessToken)["sub"].(string)
	}
	return a, subject
}

// An attacker who has an assertion for mike modifies it to become root.
func TestTX12_SAMLSignaturesCannotBeBypassed(t *testing.T) {
	trusted, untrusted := samlKeys(), sync.OnceValue(func() *samlKey {
		key, err := newSAMLKey(time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return key
	})
	rootAssertion := strings.Replace(mikeAssertion, ">mike<", ">root<", 1)
	for _, test := range []struct {
		name string
		key  func() *samlKey
		text string // what is signed
		// change modifies the signed assertion.
		change func(t *testing.T, signed *etree.Document) string
		want   string // the sub of the token; "" if the assertion is refused
	}{
		{name: "unchanged", want: "mike"},
		{name: "surrounded by white space", change: func(t *testing.T, signed *etree.Document) string { return "\n " + text(t, signed) + "\n" }, want: "mike"},
		{name: "not signed", change: func(t *testing.T, signed *etree.Document) string {
			remove(t, signed.Root(), "Signature")
			return text(t, signed)
		}},
		{name: "NameID changed", change: replace(">mike<", ">root<")},
		{name: "signed with an untrusted key and its certificate", key: untrusted, text: rootAssertion},
		{name: "signed with an untrusted key and the trusted certificate", key: untrusted, text: rootAssertion, change: func(t *testing.T, signed *etree.Document) string {
			signed.FindElement("//X509Certificate").SetText(base64.StdEncoding.EncodeToString(trusted.certificate))
			return text(t, signed)
		}},
		{name: "no certificate in the signature", change: func(t *testing.T, signed *etree.Document) string {
			remove(t, signed.FindElement("//Signature"), "KeyInfo")
			return text(t, signed)
		}, want: "mike"},
		{name: "signed assertion inside a forged one", change: func(t *testing.T, signed *etree.Document) string {
			forged := parse(t, strings.Replace(withTimes(rootAssertion), `ID="_1"`, `ID="_2"`, 1))
			forged.Root().AddChild(signed.Root().Copy())
			return text(t, forged)
		}},
		{name: "signed assertion inside its signature, in a forged one", change: func(t *testing.T, signed *etree.Document) string {
			signature := signed.FindElement("//Signature").Copy()
			remove(t, signed.Root(), "Signature")
			object := etree.NewElement("ds:Object")
			object.AddChild(signed.Root().Copy())
			signature.AddChild(object)
			forged := parse(t, withTimes(rootAssertion))
			forged.Root().AddChild(signature)
			return text(t, forged)
		}},
		{name: "forged assertion with the same ID and the signature", change: func(t *testing.T, signed *etree.Document) string {
			forged := parse(t, withTimes(rootAssertion))
			forged.Root().AddChild(signed.FindElement("//Signature").Copy())
			return text(t, forged)
		}},
		{name: "forged Subject next to the signed one", change: func(t *testing.T, signed *etree.Document) string {
			signed.Root().AddChild(parse(t, rootAssertion).FindElement("//Subject").Copy())
			return text(t, signed)
		}},
		{name: "forged Subject in the unsigned part of the signature", change: func(t *testing.T, signed *etree.Document) string {
			signed.FindElement("//Signature").AddChild(parse(t, rootAssertion).FindElement("//Subject").Copy())
			return text(t, signed)
		}, want: "mike"},
		{name: "two signatures, one with an untrusted key", change: func(t *testing.T, signed *etree.Document) string {
			other, err := untrusted().sign(rootAssertion, dsig.RSASHA256SignatureMethod)
			if err != nil {
				t.Fatal(err)
			}
			other.Root().AddChild(signed.FindElement("//Signature").Copy())
			return text(t, other)
		}},
		{name: "comment that truncates a name", text: strings.Replace(mikeAssertion, ">mike<", ">root.evil<", 1), change: replace(">root.evil<", ">root<!-- -->.evil<")},
		{name: "document type declaration", change: func(t *testing.T, signed *etree.Document) string {
			return `<!DOCTYPE Assertion [<!ENTITY who "root">]>` + text(t, signed)
		}},
		{name: "entity", change: func(t *testing.T, signed *etree.Document) string {
			return `<!DOCTYPE Assertion [<!ENTITY who "root">]>` + strings.Replace(text(t, signed), ">mike<", ">&who;<", 1)
		}},
		{name: "name with two colons, which parsers interpret differently", change: replace(" Version=", ` x:y:Version="2.0" Version=`)},
		{name: "SHA-1", change: func(t *testing.T, signed *etree.Document) string {
			weak, err := trusted.sign(mikeAssertion, dsig.RSASHA1SignatureMethod)
			if err != nil {
				t.Fatal(err)
			}
			return text(t, weak)
		}},
		{name: "nested too deeply", text: strings.Replace(mikeAssertion, "<Conditions>", strings.Repeat("<Advice>", 50)+strings.Repeat("</Advice>", 50)+"<Conditions>", 1)},
		{name: "two issuers", text: strings.Replace(mikeAssertion, "</Issuer>", "</Issuer><Issuer>https://other.example.com</Issuer>", 1)},
		{name: "two assertions", change: func(t *testing.T, signed *etree.Document) string { return text(t, signed) + withTimes(rootAssertion) }},
		{name: "assertion inside a Response", change: func(t *testing.T, signed *etree.Document) string {
			return `<Response xmlns="urn:oasis:names:tc:SAML:2.0:protocol">` + text(t, signed) + `</Response>`
		}},
		{name: "encrypted NameID", text: strings.Replace(strings.Replace(mikeAssertion, "<NameID>", "<EncryptedID>", 1), "</NameID>", "</EncryptedID>", 1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, assertion := trusted, mikeAssertion
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
				t.Errorf("%d %s\nthe token is for %q, want %q", a.status, a.body, subject, test.want)
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
		{name: "expired certificate", certificates: expired.pem},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := expired
			if test.want != "" {
				key = samlKeys()
			}
			signed, err := key.sign(mikeAssertion, dsig.RSASHA256SignatureMethod)
			if err != nil {
				t.Fatal(err)
			}
			if a, subject := samlScene(t, test.certificates).presentSAML([]byte(text(t, signed))); subject != test.want {
				t.Errorf("%d %s\nthe token is for %q, want %q", a.status, a.body, subject, test.want)
			}
		})
	}
}

func FuzzSAMLAssertion(f *testing.F) {
	signed, err := samlKeys().sign(mikeAssertion, dsig.RSASHA256SignatureMethod)
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
