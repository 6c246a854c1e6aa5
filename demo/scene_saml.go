package demo

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
)

const samlEntity = "https://saml-idp.example.net/metadata"

func samlScene() scene {
	return scene{
		key: "saml", title: "Users of a SAML identity provider: SAML bearer grant", button: "Get an assertion and call the API",
		about:    "The company's identity provider uses SAML 2.0. The app exchanges its signed assertion about a user for an access token (RFC 7522).",
		clientID: "portal", clientSecret: "demo-secret-of-the-portal-01234567", clientName: "Company portal",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeSAMLBearer},
		scopes:          []string{scopeRead},
		configure:       func(d *Demo, config *configuration.Configuration) error { return d.saml.declare(config) },
		run:             runSAML,
		breaks: []breakage{
			{key: "again", title: "Replay the assertion", about: "Present an assertion that has already been used.", code: oauth.InvalidGrant},
			{key: "changed", title: "Tampered assertion", about: "Change the user in the signed assertion.", code: oauth.InvalidGrant},
			{key: "elsewhere", title: "Wrong audience", about: "Present an assertion whose Audience is another server.", code: oauth.InvalidGrant},
		},
	}
}

// samlProvider signs assertions that the server trusts.
type samlProvider struct{ signing *dsig.SigningContext }

func (p *samlProvider) declare(config *configuration.Configuration) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("generate a key for SAML: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "demo"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("create a certificate for SAML: %w", err)
	}
	if p.signing, err = dsig.NewSigningContext(key, [][]byte{certificate}); err != nil {
		return fmt.Errorf("prepare to sign SAML: %w", err)
	}
	p.signing.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	config.TrustedIssuers = append(config.TrustedIssuers, authserver.TrustedIssuer{
		Issuer: samlEntity, SAMLCertificates: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})),
		Uses: []string{authserver.UseSAMLBearer}, Clients: []string{"portal"}, Scopes: []string{scopeRead},
		Subjects: map[string]string{"u-1842": Username},
	})
	for i := range config.Clients {
		if c := &config.Clients[i]; c.ID == "portal" {
			c.SkipConsent = true // the company has consented for its users
		}
	}
	return nil
}

// assert returns a signed assertion about the demo's user.
func (p *samlProvider) assert(audience, recipient string) (string, error) {
	now := time.Now().UTC()
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	document := etree.NewDocument()
	if err := document.ReadFromString(`<Assertion xmlns="urn:oasis:names:tc:SAML:2.0:assertion" ID="_` + rand.Text() + `" Version="2.0" IssueInstant="` + at(0) + `">
  <Issuer>` + samlEntity + `</Issuer>
  <Subject>
    <NameID Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent">u-1842</NameID>
    <SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">
      <SubjectConfirmationData NotOnOrAfter="` + at(5*time.Minute) + `" Recipient="` + recipient + `"/>
    </SubjectConfirmation>
  </Subject>
  <Conditions NotBefore="` + at(0) + `" NotOnOrAfter="` + at(5*time.Minute) + `">
    <AudienceRestriction><Audience>` + audience + `</Audience></AudienceRestriction>
  </Conditions>
</Assertion>`); err != nil {
		return "", fmt.Errorf("create an assertion: %w", err)
	}
	signed, err := p.signing.SignEnveloped(document.Root())
	if err != nil {
		return "", fmt.Errorf("sign an assertion: %w", err)
	}
	document.SetRoot(signed)
	return document.WriteToString()
}

func runSAML(ctx context.Context, d *Demo, w *walk) error {
	audience := d.issuer
	if w.breakKey() == "elsewhere" {
		audience = "https://elsewhere.example.com"
	}
	assertion, err := d.saml.assert(audience, d.issuer+"/token")
	if err != nil {
		return err
	}
	if w.breakKey() == "changed" {
		assertion = strings.Replace(assertion, "u-1842", "u-0001", 1)
	}
	w.recording.add(Message{From: partyProvider, To: partyApp, Purpose: "The identity provider issues a signed SAML 2.0 assertion. Audience and Recipient limit it to this server (RFC 7522, section 3).", Response: assertion})
	form := url.Values{"grant_type": {oauth.GrantTypeSAMLBearer}, "assertion": {base64.RawURLEncoding.EncodeToString([]byte(assertion))}}
	if err := d.ask(ctx, w, form, "Exchange the assertion for an access token. The server checks signature, issuer, audience, recipient and expiry (RFC 7522, section 3), and what this issuer is trusted for."); err != nil || w.failed {
		return err
	}
	if w.breakKey() == "again" {
		return d.ask(ctx, w, form, "Present the same assertion again. Its ID has been used (RFC 7522, section 3).")
	}
	return d.request(ctx, w, http.MethodGet, "/photos", callPurpose)
}
