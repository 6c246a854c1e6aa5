package saml

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const valid = `<Assertion xmlns="urn:oasis:names:tc:SAML:2.0:assertion" ID="_1" Version="2.0" IssueInstant="2026-03-01T12:00:00Z">` +
	`<Issuer>https://idp.example.com</Issuer>` +
	`<Subject><NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress">mike@example.com</NameID>` +
	`<SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">` +
	`<SubjectConfirmationData NotOnOrAfter="2026-03-01T12:05:00Z" Recipient="https://server.example.com/token"/></SubjectConfirmation></Subject>` +
	`<Conditions><AudienceRestriction><Audience>https://server.example.com</Audience></AudienceRestriction></Conditions>` +
	`</Assertion>`

func TestVerify(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	want := Expected{
		Issuer:       "https://idp.example.com",
		Certificates: []*x509.Certificate{certificate},
		Recipient:    "https://server.example.com/token",
		Audiences:    []string{"https://server.example.com"},
		MaxLifetime:  time.Hour,
		ClockSkew:    10 * time.Second,
	}
	for _, test := range []struct {
		name, before, after string
		later               time.Duration
		rejected            string // part of the reason; "" if the assertion is valid
	}{
		{name: "valid"},
		{name: "within the clock skew", later: 5*time.Minute + 9*time.Second},
		{name: "after its SubjectConfirmationData", later: 5*time.Minute + 10*time.Second, rejected: "SubjectConfirmation"},
		{name: "expired by its Conditions", before: "<Conditions>", after: `<Conditions NotOnOrAfter="2026-03-01T11:59:50Z">`, rejected: "has expired"},
		{name: "valid for too long", before: "2026-03-01T12:05:00Z", after: "2026-03-01T13:05:00Z", rejected: "more than 1h0m0s in the future"},
		{name: "not valid yet", before: "<Conditions>", after: `<Conditions NotBefore="2026-03-01T12:01:00Z">`, rejected: "NotBefore"},
		{name: "another recipient", before: "example.com/token", after: "example.com/other", rejected: "SubjectConfirmation"},
		{name: "holder of key", before: "cm:bearer", after: "cm:holder-of-key", rejected: "SubjectConfirmation"},
		{name: "no expiry at all", before: ` NotOnOrAfter="2026-03-01T12:05:00Z"`, after: "", rejected: "SubjectConfirmation"},
		{name: "two audiences", before: "</Audience>", after: "</Audience><Audience>https://other.example.com</Audience>", rejected: "Audience"},
		{name: "no audience", before: "<Audience>https://server.example.com</Audience>", after: "", rejected: "Audience"},
		{name: "used once", before: "<Conditions>", after: "<Conditions><OneTimeUse/>"},
		{name: "an unknown condition", before: "<Conditions>", after: "<Conditions><Weather/>", rejected: "condition"},
		{name: "another issuer", before: "idp.example.com", after: "other.example.com", rejected: "Issuer"},
		{name: "another version", before: `Version="2.0"`, after: `Version="1.1"`, rejected: "Version"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := valid
			if test.before != "" {
				text = strings.Replace(valid, test.before, test.after, 1)
			}
			unverified, err := Parse(sign(t, private, der, text))
			if err != nil {
				t.Fatal(err)
			}
			a, err := unverified.Verify(now.Add(test.later), want)
			if test.rejected != "" {
				if reason, ok := errors.AsType[InvalidError](err); !ok || !strings.Contains(string(reason), test.rejected) {
					t.Errorf("%v, %v; want an error about %s", a, err, test.rejected)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if a.ID != "_1" || a.Issuer != want.Issuer || a.NameID != "mike@example.com" || a.Email != a.NameID || a.Audience != want.Audiences[0] || !a.Expires.Equal(now.Add(5*time.Minute)) {
				t.Errorf("%+v", a)
			}
		})
	}
}

func sign(t *testing.T, private *rsa.PrivateKey, certificate []byte, text string) string {
	t.Helper()
	document := etree.NewDocument()
	if err := document.ReadFromString(text); err != nil {
		t.Fatal(err)
	}
	signing, err := dsig.NewSigningContext(private, [][]byte{certificate})
	if err != nil {
		t.Fatal(err)
	}
	signing.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	signed, err := signing.SignEnveloped(document.Root())
	if err != nil {
		t.Fatal(err)
	}
	document.SetRoot(signed)
	written, err := document.WriteToBytes()
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(written)
}

func TestParseRejects(t *testing.T) {
	for _, text := range []string{"", "text", "<a/>", "<!DOCTYPE a>" + valid, valid + valid, strings.Replace(valid, "<Conditions>", strings.Repeat("<a>", 40)+strings.Repeat("</a>", 40)+"<Conditions>", 1)} {
		_, err := Parse(base64.RawURLEncoding.EncodeToString([]byte(text)))
		if _, ok := errors.AsType[InvalidError](err); !ok {
			t.Errorf("%.60q: %v", text, err)
		}
	}
	if _, err := Parse("#"); err == nil {
		t.Error("text that is not base64url is accepted")
	}
}
