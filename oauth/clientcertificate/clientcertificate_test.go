package clientcertificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

// rfc8705Certificate is the certificate of RFC 8705, appendix A.
const rfc8705Certificate = `-----BEGIN CERTIFICATE-----
MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAx
ODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqG
SM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ
/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwID
SQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOV
bUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=
-----END CERTIFICATE-----
`

// rfc9440ClientCert is the header Client-Cert of RFC 9440, appendix A.
const rfc9440ClientCert = ":MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=:"

func TestPP13_Thumbprint(t *testing.T) {
	block, _ := pem.Decode([]byte(rfc8705Certificate))
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got := Thumbprint(certificate); got != "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0" {
		t.Errorf("x5t#S256 is %s", got)
	}
}

func proxies(t testing.TB, networks ...string) []netip.Prefix {
	t.Helper()
	var parsed []netip.Prefix
	for _, network := range networks {
		prefix, err := netip.ParsePrefix(network)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, prefix)
	}
	return parsed
}

func behind(t testing.TB, header string, format Format) *Source {
	t.Helper()
	s, err := Behind(proxies(t, "10.0.0.0/8"), header, format)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func request(peer string, header http.Header) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/token", nil)
	r.RemoteAddr, r.Header = peer, header
	return r
}

// newCertificate returns a self-signed certificate.
func newCertificate(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func byteSequence(certificate *x509.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(certificate.Raw) + ":"
}

func pemOf(certificates ...*x509.Certificate) string {
	var text strings.Builder
	for _, c := range certificates {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return text.String()
}

// escaped encodes like nginx and Envoy.
func escaped(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

func TestCertificatesInHeaders(t *testing.T) {
	own, other := newCertificate(t, "client"), newCertificate(t, "intermediate")
	for _, test := range []struct {
		name   string
		header string
		format Format
		values http.Header
		want   []string // common names; nil is an error
	}{
		{"RFC 9440, appendix A", HeaderClientCert, "", http.Header{HeaderClientCert: {rfc9440ClientCert}}, []string{"BC"}},
		{"RFC 9440 with a chain", HeaderClientCert, "", http.Header{HeaderClientCert: {byteSequence(own)}, HeaderClientCertChain: {byteSequence(other) + ", " + byteSequence(other)}}, []string{"client", "intermediate", "intermediate"}},
		{"RFC 9440 without padding", HeaderClientCert, "", http.Header{HeaderClientCert: {strings.ReplaceAll(byteSequence(own), "=", "")}}, []string{"client"}},
		{"a chain without a certificate", HeaderClientCert, "", http.Header{HeaderClientCertChain: {byteSequence(other)}}, nil},
		{"no colons", HeaderClientCert, "", http.Header{HeaderClientCert: {strings.Trim(byteSequence(own), ":")}}, nil},
		{"one colon", HeaderClientCert, "", http.Header{HeaderClientCert: {":"}}, nil},
		{"malformed base64", HeaderClientCert, "", http.Header{HeaderClientCert: {":MII*:"}}, nil},
		{"not a certificate", HeaderClientCert, "", http.Header{HeaderClientCert: {":MIIB:"}}, nil},
		{"bytes after the certificate", HeaderClientCert, "", http.Header{HeaderClientCert: {":" + base64.StdEncoding.EncodeToString(append(own.Raw[:len(own.Raw):len(own.Raw)], 0)) + ":"}}, nil},
		{"two certificates in Client-Cert", HeaderClientCert, "", http.Header{HeaderClientCert: {byteSequence(own) + ", " + byteSequence(other)}}, nil},
		{"the header twice", HeaderClientCert, "", http.Header{HeaderClientCert: {byteSequence(own), byteSequence(other)}}, nil},
		{"an empty header first", HeaderClientCert, "", http.Header{HeaderClientCert: {"", byteSequence(own)}}, nil},
		{"the chain twice", HeaderClientCert, "", http.Header{HeaderClientCert: {byteSequence(own)}, HeaderClientCertChain: {byteSequence(other), byteSequence(other)}}, nil},
		{"too many certificates", HeaderClientCert, "", http.Header{HeaderClientCert: {byteSequence(own)}, HeaderClientCertChain: {strings.Repeat(byteSequence(other)+",", maxCertificates)}}, nil},
		{"too long", HeaderClientCert, "", http.Header{HeaderClientCert: {":" + strings.Repeat("A", maxHeaderBytes) + ":"}}, nil},

		{"nginx", "X-Client-Certificate", FormatPEM, http.Header{"X-Client-Certificate": {escaped(pemOf(own))}}, []string{"client"}},
		{"only line breaks are encoded", "X-Client-Certificate", FormatPEM, http.Header{"X-Client-Certificate": {strings.ReplaceAll(pemOf(own), "\n", "%0A")}}, []string{"client"}},
		{"PEM with a chain", "X-Client-Certificate", FormatPEM, http.Header{"X-Client-Certificate": {escaped(pemOf(own, other))}}, []string{"client", "intermediate"}},
		{"PEM with text in front", "X-Client-Certificate", FormatPEM, http.Header{"X-Client-Certificate": {escaped("x\n" + pemOf(own))}}, nil},
		{"PEM with text in between", "X-Client-Certificate", FormatPEM, http.Header{"X-Client-Certificate": {escaped(pemOf(own) + "x\n" + pemOf(other))}}, nil},
		{"PEM with text at the end", "X-Client-Certificate", FormatPEM, http.Header{"X-Client-Certificate": {escaped(pemOf(own) + "x")}}, nil},
		{"another kind of PEM", "X-Client-Certificate", FormatPEM, http.Header{"X-Client-Certificate": {escaped(strings.ReplaceAll(pemOf(own), "CERTIFICATE", "PUBLIC KEY"))}}, nil},
		{"malformed escape", "X-Client-Certificate", FormatPEM, http.Header{"X-Client-Certificate": {escaped(pemOf(own)) + "%2"}}, nil},
		{"too many in PEM", "X-Client-Certificate", FormatPEM, http.Header{"X-Client-Certificate": {escaped(pemOf(own, own, own, own, own, own, own))}}, nil},

		{"Envoy", HeaderXFCC, "", http.Header{HeaderXFCC: {`By=spiffe://a/b;Hash=468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688;Cert="` + escaped(pemOf(own)) + `";Subject="/C=US/CN=a,b;\"c\"";URI=;URI=spiffe://x;DNS=a;DNS=b`}}, []string{"client"}},
		{"Envoy with a chain", HeaderXFCC, "", http.Header{HeaderXFCC: {`Cert="` + escaped(pemOf(own)) + `";Chain="` + escaped(pemOf(own, other)) + `"`}}, []string{"client", "intermediate"}},
		{"Envoy with the chain alone", HeaderXFCC, "", http.Header{HeaderXFCC: {`Chain="` + escaped(pemOf(own, other)) + `"`}}, []string{"client", "intermediate"}},
		{"Cert and Chain differ", HeaderXFCC, "", http.Header{HeaderXFCC: {`Cert="` + escaped(pemOf(other)) + `";Chain="` + escaped(pemOf(own, other)) + `"`}}, nil},
		{"two elements", HeaderXFCC, "", http.Header{HeaderXFCC: {`Cert="` + escaped(pemOf(own)) + `",Cert="` + escaped(pemOf(other)) + `"`}}, nil},
		{"Cert twice", HeaderXFCC, "", http.Header{HeaderXFCC: {`Cert="` + escaped(pemOf(own)) + `";cert="` + escaped(pemOf(other)) + `"`}}, nil},
		{"Cert in a quoted value", HeaderXFCC, "", http.Header{HeaderXFCC: {`Hash=1;Subject="a;Cert=` + escaped(pemOf(own)) + `"`}}, nil},
		{"no Cert", HeaderXFCC, "", http.Header{HeaderXFCC: {`By=spiffe://a/b;Hash=468ed33b`}}, nil},
		{"open quote", HeaderXFCC, "", http.Header{HeaderXFCC: {`Cert="` + escaped(pemOf(own))}}, nil},
		{"open escape", HeaderXFCC, "", http.Header{HeaderXFCC: {`Cert="a\`}}, nil},

		{"empty", HeaderXFCC, "", http.Header{HeaderXFCC: {""}}, []string{}},
		{"an empty byte sequence", HeaderClientCert, "", http.Header{HeaderClientCert: {"::"}}, []string{}},
		{"absent", HeaderXFCC, "", http.Header{}, []string{}},
		{"another header", HeaderXFCC, "", http.Header{HeaderClientCert: {byteSequence(own)}}, []string{}},
	} {
		got, err := behind(t, test.header, test.format).Certificates(request("10.1.2.3:4", test.values))
		if test.want == nil {
			if !errors.Is(err, ErrHeader) || got != nil {
				t.Errorf("%s: %d certificates, %v", test.name, len(got), err)
			}
			continue
		}
		if err != nil || len(got) != len(test.want) {
			t.Errorf("%s: %d certificates, %v", test.name, len(got), err)
			continue
		}
		for i, name := range test.want {
			if got[i].Subject.CommonName != name {
				t.Errorf("%s: certificate %d is %s", test.name, i, got[i].Subject)
			}
		}
	}
}

func TestCA13_HeaderOfUntrustedPeerIsIgnored(t *testing.T) {
	forged, own := newCertificate(t, "forged"), newCertificate(t, "client")
	header := http.Header{
		HeaderClientCert: {byteSequence(forged)}, HeaderXFCC: {`Cert="` + escaped(pemOf(forged)) + `"`},
		"X-Client-Cert": {escaped(pemOf(forged))}, "Ssl-Client-Cert": {escaped(pemOf(forged))},
	}
	all := map[string]*Source{
		"no source": nil, "zero source": {}, "RFC 9440": behind(t, HeaderClientCert, ""), "XFCC": behind(t, HeaderXFCC, ""),
		"PEM": behind(t, "X-Client-Cert", FormatPEM), "nginx": behind(t, "Ssl-Client-Cert", FormatPEM),
	}
	for name, source := range all {
		for _, peer := range []string{"192.0.2.1:5", "[2001:db8::1]:5", "@", "", "10.0.0.1", "11.0.0.1:5"} {
			r := request(peer, header.Clone())
			r.Header.Set("X-Forwarded-For", "10.0.0.1")
			if got, err := source.Certificates(r); got != nil || err != nil {
				t.Errorf("%s: %q sets the header: %d certificates, %v", name, peer, len(got), err)
			}
			// Its own certificate of the TLS connection is used.
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{own}}
			if got, err := source.Certificates(r); err != nil || len(got) != 1 || got[0] != own {
				t.Errorf("%s: %q: %d certificates of the TLS connection, %v", name, peer, len(got), err)
			}
		}
	}
	// The certificate of the proxy is not that of the client.
	for _, peer := range []string{"10.0.0.1:5", "[::ffff:10.0.0.1]:5"} {
		r := request(peer, http.Header{})
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{own}}
		if got, err := all["RFC 9440"].Certificates(r); got != nil || err != nil {
			t.Errorf("%s: the proxy's certificate is used: %d, %v", peer, len(got), err)
		}
		r.Header = header
		if got, err := all["RFC 9440"].Certificates(r); err != nil || len(got) != 1 || got[0].Subject.CommonName != "forged" {
			t.Errorf("%s: the proxy's header is ignored: %d, %v", peer, len(got), err)
		}
	}
}

func TestInconsistentSources(t *testing.T) {
	trusted := proxies(t, "10.0.0.0/8")
	for _, test := range []struct {
		name    string
		proxies []netip.Prefix
		header  string
		format  Format
	}{
		{"no proxy", nil, HeaderClientCert, ""},
		{"every address", proxies(t, "0.0.0.0/0"), HeaderClientCert, ""},
		{"every address, IPv6", proxies(t, "10.0.0.0/8", "::/0"), HeaderClientCert, ""},
		{"no header", trusted, "", FormatPEM},
		{"no format", trusted, "X-Client-Cert", ""},
		{"unknown format", trusted, "X-Client-Cert", "der"},
		{"RFC 9440 in another header", trusted, "X-Client-Cert", FormatRFC9440},
		{"PEM in Client-Cert", trusted, HeaderClientCert, FormatPEM},
		{"PEM in XFCC", trusted, HeaderXFCC, FormatPEM},
		{"underscore", trusted, "SSL_CLIENT_CERT", FormatPEM},
		{"another header's name", trusted, "authorization", FormatPEM},
		{"the chain", trusted, HeaderClientCertChain, FormatPEM},
	} {
		if _, err := Behind(test.proxies, test.header, test.format); err == nil {
			t.Errorf("%s: accepted", test.name)
		}
	}
}

// No header yields a certificate that is not in it, and none panics.
func FuzzHeaders(f *testing.F) {
	own := newCertificate(f, "client")
	for _, value := range []string{byteSequence(own), rfc9440ClientCert, escaped(pemOf(own)), escaped(pemOf(own, own)), `Cert="` + escaped(pemOf(own)) + `"`,
		`By=a;Hash=b;Chain="` + escaped(pemOf(own)) + `";Subject="\"";URI=`, ":", "::", `"`, `Cert="\`, "%", ""} {
		f.Add(value, value)
	}
	sources := []*Source{behind(f, HeaderClientCert, ""), behind(f, "X-Client-Cert", FormatPEM), behind(f, HeaderXFCC, "")}
	f.Fuzz(func(t *testing.T, value, chain string) {
		for _, s := range sources {
			header := http.Header{s.header: {value}}
			if chain != "" {
				header[HeaderClientCertChain] = []string{chain}
			}
			got, err := s.Certificates(request("10.0.0.1:5", header))
			if err != nil && (got != nil || !errors.Is(err, ErrHeader)) {
				t.Errorf("%q: %d certificates and %v", value, len(got), err)
			}
			if len(got) > maxCertificates {
				t.Errorf("%q: %d certificates", value, len(got))
			}
			for _, c := range got {
				if len(c.Raw) > maxCertificateBytes {
					t.Errorf("%q: a certificate of %d bytes", value, len(c.Raw))
				}
			}
			if again, err := s.Certificates(request("192.0.2.1:5", header)); again != nil || err != nil {
				t.Errorf("%q: accepted from an untrusted peer", value)
			}
		}
	})
}
