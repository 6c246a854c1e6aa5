package authserver_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/httpscript"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/clientcertificate"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// authority is a certificate authority.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func newTestKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign returns a certificate for a key. Without an issuer, it is self-signed.
func (a *authority) sign(t testing.TB, key crypto.Signer, template x509.Certificate) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	issuer, signer := &template, key
	if a != nil {
		issuer, signer = a.certificate, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func (a *authority) newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key := newTestKey(t)
	return &authority{a.sign(t, key, x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}), key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// forClient returns a certificate for client authentication.
func (a *authority) forClient(t testing.TB, template x509.Certificate) *x509.Certificate {
	t.Helper()
	if template.ExtKeyUsage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	return a.sign(t, newTestKey(t), template)
}

// selfSigned returns a self-signed certificate.
func selfSigned(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	return (*authority)(nil).sign(t, newTestKey(t), x509.Certificate{Subject: pkix.Name{CommonName: name}})
}

// keySetOf returns a JWK Set with certificates in x5c.
func keySetOf(t testing.TB, certificates ...*x509.Certificate) json.RawMessage {
	t.Helper()
	var keys []map[string]any
	for i, c := range certificates {
		public := c.PublicKey.(*ecdsa.PublicKey)
		point, err := public.Bytes() // 4, x, y
		if err != nil {
			t.Fatal(err)
		}
		x, y := point[1:33], point[33:]
		keys = append(keys, map[string]any{
			"kty": "EC", "crv": "P-256", "kid": string(rune('a' + i)),
			"x": base64.RawURLEncoding.EncodeToString(x), "y": base64.RawURLEncoding.EncodeToString(y),
			"x5c": []string{base64.StdEncoding.EncodeToString(c.Raw)},
		})
	}
	set, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// withMutualTLS returns a scene whose engine uses client certificates.
func withMutualTLS(t testing.TB, settings authserver.MutualTLS, clients ...testClient) *scene {
	t.Helper()
	return newSceneOn(t, scriptSetup{Clients: clients}, memory.New(), func(c *authserver.Config) { c.MutualTLS = &settings })
}

// over sends a form over a TLS connection with a client certificate, without other credentials.
func (s *scene) over(chain []*x509.Certificate, path string, form ...string) apiResponse {
	s.t.Helper()
	values := url.Values{}
	for i := 0; i+1 < len(form); i += 2 {
		values.Add(form[i], form[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.TLS = &tls.ConnectionState{PeerCertificates: chain}
	return s.do(r)
}

// ownToken requests a token for a client that authenticates with a certificate.
func (s *scene) ownToken(client string, chain ...*x509.Certificate) apiResponse {
	s.t.Helper()
	return s.over(chain, "/token", "grant_type", "client_credentials", "client_id", client)
}

// certified returns a client that authenticates with tls_client_auth.
func certified(id string, change func(*record.Client)) testClient {
	c := confidential(id, func(c *record.Client) { c.TokenEndpointAuthMethod = oauth.AuthMethodTLSClient }, change)
	c.Secret = ""
	return c
}

func addresses(address string) []net.IP { return []net.IP{net.ParseIP(address)} }

func mustURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestCA14_SubjectsOfCertificates(t *testing.T) {
	ca := (*authority)(nil).newAuthority(t, "Test CA")
	s := withMutualTLS(t, authserver.MutualTLS{CertificateAuthorities: ca.pool()},
		certified("dn", func(c *record.Client) { c.TLSClientAuthSubjectDN = "CN=client,O=Example Ltd,C=GB" }),
		certified("dns", func(c *record.Client) { c.TLSClientAuthSANDNS = "client.example.com" }),
		certified("uri", func(c *record.Client) { c.TLSClientAuthSANURI = "spiffe://example.com/Client" }),
		certified("ip", func(c *record.Client) { c.TLSClientAuthSANIP = "192.0.2.7" }),
		certified("ip6", func(c *record.Client) { c.TLSClientAuthSANIP = "2001:db8::7" }),
		certified("email", func(c *record.Client) { c.TLSClientAuthSANEmail = "Client@example.com" }),
	)
	name := pkix.Name{CommonName: "client", Organization: []string{"Example Ltd"}, Country: []string{"GB"}}
	for _, test := range []struct {
		name        string
		client      string
		certificate x509.Certificate
		accepted    bool
	}{
		{"the subject", "dn", x509.Certificate{Subject: name}, true},
		{"another common name", "dn", x509.Certificate{Subject: pkix.Name{CommonName: "client2", Organization: []string{"Example Ltd"}, Country: []string{"GB"}}}, false},
		{"a shorter subject", "dn", x509.Certificate{Subject: pkix.Name{CommonName: "client"}}, false},
		{"a longer subject", "dn", x509.Certificate{Subject: pkix.Name{CommonName: "client", OrganizationalUnit: []string{"x"}, Organization: []string{"Example Ltd"}, Country: []string{"GB"}}}, false},
		{"a common name that contains the subject", "dn", x509.Certificate{Subject: pkix.Name{CommonName: "client,O=Example Ltd,C=GB"}}, false},
		{"the subject as DNS name", "dn", x509.Certificate{DNSNames: []string{"client"}}, false},

		{"the DNS name", "dns", x509.Certificate{DNSNames: []string{"other.example.com", "Client.example.com"}}, true},
		{"another DNS name", "dns", x509.Certificate{DNSNames: []string{"client.example.com.evil.example"}}, false},
		{"a wildcard", "dns", x509.Certificate{DNSNames: []string{"*.example.com"}}, false},
		{"the DNS name as common name", "dns", x509.Certificate{Subject: pkix.Name{CommonName: "client.example.com"}}, false},
		{"the DNS name as email address", "dns", x509.Certificate{EmailAddresses: []string{"client.example.com"}}, false},
		{"the DNS name as URI", "dns", x509.Certificate{URIs: []*url.URL{mustURL(t, "https://client.example.com")}}, false},

		{"the URI", "uri", x509.Certificate{URIs: []*url.URL{mustURL(t, "spiffe://example.com/Client")}}, true},
		{"a URI in other case", "uri", x509.Certificate{URIs: []*url.URL{mustURL(t, "spiffe://example.com/client")}}, false},
		{"a longer URI", "uri", x509.Certificate{URIs: []*url.URL{mustURL(t, "spiffe://example.com/Client/2")}}, false},

		{"the IP address", "ip", x509.Certificate{IPAddresses: addresses("192.0.2.7")}, true},
		{"another IP address", "ip", x509.Certificate{IPAddresses: addresses("192.0.2.8")}, false},
		{"the IP address as DNS name", "ip", x509.Certificate{DNSNames: []string{"192.0.2.7"}}, false},
		{"the IPv6 address", "ip6", x509.Certificate{IPAddresses: addresses("2001:db8:0::7")}, true},

		{"the email address", "email", x509.Certificate{EmailAddresses: []string{"Client@EXAMPLE.com"}}, true},
		{"a local part in other case", "email", x509.Certificate{EmailAddresses: []string{"client@example.com"}}, false},
		{"another domain", "email", x509.Certificate{EmailAddresses: []string{"Client@example.com.evil.example"}}, false},
		{"an email address in the subject", "email", x509.Certificate{Subject: pkix.Name{CommonName: "Client@example.com"}}, false},
		{"no alternative name", "email", x509.Certificate{Subject: name}, false},
	} {
		a := s.ownToken(test.client, ca.forClient(t, test.certificate))
		if accepted := a.status == http.StatusOK; accepted != test.accepted {
			t.Errorf("%s: %d %s", test.name, a.status, a.body)
		} else if !accepted {
			a.want(t, http.StatusUnauthorized, oauth.InvalidClient)
		}
	}
}

// CA-14: the subject of a certificate means nothing unless an accepted authority issued it, for
// clients, and it is valid now.
func TestCA14_ChainsOfCertificates(t *testing.T) {
	root := (*authority)(nil).newAuthority(t, "Root CA")
	intermediate := root.newAuthority(t, "Intermediate CA")
	other := (*authority)(nil).newAuthority(t, "Root CA")
	client := certified("client", func(c *record.Client) { c.TLSClientAuthSubjectDN = "CN=client" })
	s := withMutualTLS(t, authserver.MutualTLS{CertificateAuthorities: root.pool()}, client)
	subject := pkix.Name{CommonName: "client"}
	now := time.Now()
	leaf := intermediate.forClient(t, x509.Certificate{Subject: subject})
	otherKey := newTestKey(t)
	notAuthority := &authority{root.sign(t, otherKey, x509.Certificate{Subject: pkix.Name{CommonName: "other client"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), otherKey}
	for _, test := range []struct {
		name     string
		chain    []*x509.Certificate
		accepted bool
	}{
		{"issued by the root", []*x509.Certificate{root.forClient(t, x509.Certificate{Subject: subject})}, true},
		{"issued by an intermediate authority", []*x509.Certificate{leaf, intermediate.certificate}, true},
		{"the intermediate certificate is missing", []*x509.Certificate{leaf}, false},
		{"another authority of the same name", []*x509.Certificate{other.forClient(t, x509.Certificate{Subject: subject}), other.certificate}, false},
		{"self-signed", []*x509.Certificate{selfSigned(t, "client")}, false},
		{"issued by another client", []*x509.Certificate{notAuthority.forClient(t, x509.Certificate{Subject: subject}), notAuthority.certificate}, false},
		{"the accepted certificate is not the first", []*x509.Certificate{selfSigned(t, "x"), leaf, intermediate.certificate}, false},
		{"expired", []*x509.Certificate{root.forClient(t, x509.Certificate{Subject: subject, NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Minute)})}, false},
		{"not valid yet", []*x509.Certificate{root.forClient(t, x509.Certificate{Subject: subject, NotBefore: now.Add(time.Hour), NotAfter: now.Add(2 * time.Hour)})}, false},
		{"for servers", []*x509.Certificate{root.forClient(t, x509.Certificate{Subject: subject, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})}, false},
		{"an unknown critical extension", []*x509.Certificate{root.forClient(t, x509.Certificate{Subject: subject, ExtraExtensions: []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}})}, false},
		{"no certificate", nil, false},
	} {
		a := s.ownToken("client", test.chain...)
		if accepted := a.status == http.StatusOK; accepted != test.accepted {
			t.Errorf("%s: %d %s", test.name, a.status, a.body)
		} else if !accepted {
			a.want(t, http.StatusUnauthorized, oauth.InvalidClient)
		}
	}
	// Without authorities, those of the system are not used, and the method is not offered.
	none := withMutualTLS(t, authserver.MutualTLS{}, client)
	none.ownToken("client", leaf, intermediate.certificate).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	off := newScene(t, scriptSetup{Clients: []testClient{client}})
	off.ownToken("client", leaf, intermediate.certificate).want(t, http.StatusUnauthorized, oauth.InvalidClient)
}

func TestCA15_SelfSignedCertificatesMustBeRegistered(t *testing.T) {
	key := newTestKey(t)
	var none *authority
	own := none.sign(t, key, x509.Certificate{Subject: pkix.Name{CommonName: "client"}})
	second := selfSigned(t, "client")
	renewed := none.sign(t, key, x509.Certificate{Subject: pkix.Name{CommonName: "client"}})
	expired := none.sign(t, newTestKey(t), x509.Certificate{Subject: pkix.Name{CommonName: "client"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	client := func(id string, keys json.RawMessage) testClient {
		return certified(id, func(c *record.Client) { c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodSelfSignedTLS, keys })
	}
	s := withMutualTLS(t, authserver.MutualTLS{}, client("client", keySetOf(t, own, second, expired)), client("other", keySetOf(t, selfSigned(t, "client"))))
	for name, certificate := range map[string]*x509.Certificate{"first": own, "second": second, "expired: the registration decides": expired} {
		if a := s.ownToken("client", certificate); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	for name, chain := range map[string][]*x509.Certificate{
		"another key": {selfSigned(t, "client")}, "another certificate of the key": {renewed}, "none": nil,
		"a registered one as intermediate": {selfSigned(t, "client"), own},
	} {
		if a := s.ownToken("client", chain...); a.status != http.StatusUnauthorized || a.Error != string(oauth.InvalidClient) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	s.ownToken("other", own).want(t, http.StatusUnauthorized, oauth.InvalidClient)
}

// CA-03: a certificate does not authenticate a client that is registered for another method, and
// vice versa.
func TestCA03_CertificatesAndOtherMethods(t *testing.T) {
	own := selfSigned(t, "client")
	byCertificate := certified("certificate", func(c *record.Client) {
		c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodSelfSignedTLS, keySetOf(t, own)
	})
	s := withMutualTLS(t, authserver.MutualTLS{}, byCertificate, confidential("secret", func(c *record.Client) { c.JWKS = keySetOf(t, own) }))
	s.ownToken("secret", own).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	s.ownToken("unknown", own).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	s.post("/token", "certificate", "grant_type", "client_credentials").want(t, http.StatusUnauthorized, oauth.InvalidClient)
	s.over([]*x509.Certificate{own}, "/token", "grant_type", "client_credentials", "client_id", "certificate", "client_secret", testSecret).
		want(t, http.StatusUnauthorized, oauth.InvalidClient)
	s.over([]*x509.Certificate{own}, "/token", "grant_type", "client_credentials").want(t, http.StatusUnauthorized, oauth.InvalidClient)
	// CA-12: the other endpoints authenticate it too.
	token := s.ownToken("certificate", own).AccessToken
	if a := s.over([]*x509.Certificate{own}, "/introspect", "client_id", "certificate", "token", token); !a.Active {
		t.Errorf("introspection: %d %s", a.status, a.body)
	}
	s.over(nil, "/introspect", "client_id", "certificate", "token", token).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	s.over(nil, "/revoke", "client_id", "certificate", "token", token).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	s.over([]*x509.Certificate{selfSigned(t, "client")}, "/revoke", "client_id", "certificate", "token", token).want(t, http.StatusUnauthorized, oauth.InvalidClient)
}

func behindProxy(t testing.TB, header string, format clientcertificate.Format) *clientcertificate.Source {
	t.Helper()
	source, err := clientcertificate.Behind([]netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}, header, format)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func clientCert(certificate *x509.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(certificate.Raw) + ":"
}

// rfc8705Certificate returns the certificate of RFC 8705, appendix A.
func rfc8705Certificate(t testing.TB) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(`-----BEGIN CERTIFICATE-----
MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAx
ODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqG
SM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ
/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwID
SQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOV
bUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=
-----END CERTIFICATE-----
`))
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

var (
	scriptAuthorityOnce sync.Once
	theScriptAuthority  *authority
)

// scriptAuthority is the authority whose certificates scripts use.
func scriptAuthority(t testing.TB) *authority {
	t.Helper()
	scriptAuthorityOnce.Do(func() { theScriptAuthority = (*authority)(nil).newAuthority(t, "Script CA") })
	return theScriptAuthority
}

// behindCertificateProxy is the proxy of the scripts. A certificate is named in Client-Cert: rfc8705,
// that of RFC 8705, appendix A; payments, by the authority of the scripts; stranger, by another one.
// After the word forged, the header is from a client that did not pass the proxy.
func behindCertificateProxy(t *testing.T, next http.Handler) http.Handler {
	subject := x509.Certificate{Subject: pkix.Name{CommonName: "payments", Organization: []string{"Example"}}}
	certificates := map[string]*x509.Certificate{
		"rfc8705": rfc8705Certificate(t), "payments": scriptAuthority(t).forClient(t, subject),
		"stranger": (*authority)(nil).newAuthority(t, "Script CA").forClient(t, subject),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i, name := range r.Header["Client-Cert"] {
			if certificate, ok := certificates[name]; ok {
				r.Header["Client-Cert"][i], r.RemoteAddr = clientCert(certificate), "10.0.0.1:1234"
			}
			if name, direct := strings.CutPrefix(name, "forged "); direct {
				r.Header["Client-Cert"][i] = clientCert(certificates[name])
			}
		}
		next.ServeHTTP(w, r)
	})
}

func TestCA13_OnlyTheProxySetsTheCertificate(t *testing.T) {
	own := selfSigned(t, "client")
	client := certified("client", func(c *record.Client) {
		c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodSelfSignedTLS, keySetOf(t, own)
	})
	send := func(s *scene, peer string, header http.Header) apiResponse {
		r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader("grant_type=client_credentials&client_id=client"))
		r.Header = header.Clone()
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = peer
		return s.do(r)
	}
	escaped := strings.ReplaceAll(url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Raw}))), "+", "%20")
	all := http.Header{
		"Client-Cert": {clientCert(own)}, "X-Client-Cert": {escaped}, "Ssl-Client-Cert": {escaped}, "X-Forwarded-Client-Cert": {`Cert="` + escaped + `"`},
		"X-Forwarded-For": {"10.0.0.1"}, "Forwarded": {"for=10.0.0.1"},
	}
	for _, source := range []*clientcertificate.Source{nil, behindProxy(t, "Client-Cert", ""), behindProxy(t, "X-Client-Cert", "pem"), behindProxy(t, "X-Forwarded-Client-Cert", "")} {
		s := withMutualTLS(t, authserver.MutualTLS{Source: source}, client)
		for _, peer := range []string{"192.0.2.1:1234", "10.0.0.2:1234", "[2001:db8::1]:1234", "@"} {
			send(s, peer, all).want(t, http.StatusUnauthorized, oauth.InvalidClient)
		}
		if source == nil {
			send(s, "10.0.0.1:1234", all).want(t, http.StatusUnauthorized, oauth.InvalidClient)
			continue
		}
		if a := send(s, "10.0.0.1:1234", all); a.status != http.StatusOK {
			t.Errorf("from the proxy: %d %s", a.status, a.body)
		}
	}
	// The proxy of the issuer's host may pass on what the client sent.
	elsewhere := withMutualTLS(t, authserver.MutualTLS{Source: behindProxy(t, "Client-Cert", ""), Host: "mtls.example.com"}, client)
	send(elsewhere, "10.0.0.1:1234", all).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	s := withMutualTLS(t, authserver.MutualTLS{Source: behindProxy(t, "Client-Cert", "")}, client)
	send(s, "10.0.0.1:1234", http.Header{"Client-Cert": {clientCert(own), clientCert(selfSigned(t, "client"))}}).want(t, http.StatusBadRequest, oauth.InvalidRequest)
	send(s, "10.0.0.1:1234", http.Header{"Client-Cert": {"x"}}).want(t, http.StatusBadRequest, oauth.InvalidRequest)
	send(s, "10.0.0.1:1234", http.Header{"X-Client-Cert": {escaped}}).want(t, http.StatusUnauthorized, oauth.InvalidClient)
}

// With VerifiedByProxy nothing else verifies the chain, so a certificate that did not pass the proxy
// means nothing.
func TestCA13_VerifiedByTheProxyOnly(t *testing.T) {
	ca := (*authority)(nil).newAuthority(t, "Test CA")
	client := certified("client", func(c *record.Client) { c.TLSClientAuthSANDNS = "client.example.com" })
	s := withMutualTLS(t, authserver.MutualTLS{Source: behindProxy(t, "Client-Cert", ""), VerifiedByProxy: true}, client)
	send := func(peer string, certificate *x509.Certificate) apiResponse {
		r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader("grant_type=client_credentials&client_id=client"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Client-Cert", clientCert(certificate))
		r.RemoteAddr, r.TLS = peer, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}}
		return s.do(r)
	}
	valid := ca.forClient(t, x509.Certificate{DNSNames: []string{"client.example.com"}})
	if a := send("10.0.0.1:1234", valid); a.status != http.StatusOK {
		t.Errorf("from the proxy: %d %s", a.status, a.body)
	}
	send("192.0.2.1:1234", valid).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	send("10.0.0.1:1234", ca.forClient(t, x509.Certificate{DNSNames: []string{"other.example.com"}})).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	send("10.0.0.1:1234", ca.forClient(t, x509.Certificate{DNSNames: []string{"client.example.com"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})).
		want(t, http.StatusUnauthorized, oauth.InvalidClient)
	for name, settings := range map[string]authserver.MutualTLS{
		"no proxy": {VerifiedByProxy: true}, "both": {VerifiedByProxy: true, Source: behindProxy(t, "Client-Cert", ""), CertificateAuthorities: ca.pool()},
		"not a host": {Host: "https://mtls.example.com"},
	} {
		config := s.config
		config.MutualTLS = &settings
		if server, err := authserver.New(config); err == nil {
			server.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

// bound returns a client whose access tokens are bound to its certificate.
func bound(c *record.Client) { c.TLSClientCertificateBoundAccessTokens = true }

func TestPP12_BoundTokensAtUserInfo(t *testing.T) {
	own, stranger := selfSigned(t, "client"), selfSigned(t, "client")
	setup := scriptSetup{
		Clients:   []testClient{confidential("client", bound), confidential("bearer")},
		Resources: []record.Resource{{Identifier: "https://api.example.com", AccessTokenFormat: record.AccessTokenOpaque, Scopes: []string{"read"}}},
		Scopes:    []record.Scope{{Name: "read"}},
	}
	s := newSceneOn(t, setup, memory.New(), func(c *authserver.Config) { c.MutualTLS = &authserver.MutualTLS{} })
	redeem := func(client string, chain ...*x509.Certificate) apiResponse {
		return s.over(chain, "/token", "grant_type", "authorization_code", "code", s.code("ada", client, "scope", "openid"),
			"redirect_uri", testCallback, "code_verifier", testVerifier, "client_id", client, "client_secret", testSecret)
	}
	redeem("client").want(t, http.StatusBadRequest, oauth.InvalidRequest)
	a := redeem("client", own)
	if a.TokenType != "Bearer" {
		t.Errorf("token_type %q", a.TokenType)
	}
	thumbprint := clientcertificate.Thumbprint(own)
	userinfo := func(token string, chain ...*x509.Certificate) apiResponse {
		r := httptest.NewRequest(http.MethodGet, "/userinfo", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		r.TLS = &tls.ConnectionState{PeerCertificates: chain}
		return s.do(r)
	}
	if got := userinfo(a.AccessToken, own); got.status != http.StatusOK {
		t.Errorf("with the certificate: %d %s", got.status, got.body)
	}
	for name, chain := range map[string][]*x509.Certificate{"none": nil, "another": {stranger}, "as intermediate": {stranger, own}} {
		if got := userinfo(a.AccessToken, chain...); got.status != http.StatusUnauthorized || got.Error != string(oauth.InvalidToken) {
			t.Errorf("certificate: %s: %d %s", name, got.status, got.body)
		}
	}
	// The same connection does not bind the tokens of a client that is not registered for it.
	if b := redeem("bearer", own); userinfo(b.AccessToken).status != http.StatusOK {
		t.Error("a bearer token needs a certificate")
	}
	var claims struct {
		Confirmation map[string]string `json:"cnf"`
	}
	introspected := s.post("/introspect", "client", "token", a.AccessToken)
	if err := json.Unmarshal([]byte(introspected.body), &claims); err != nil || claims.Confirmation["x5t#S256"] != thumbprint || len(claims.Confirmation) != 1 {
		t.Errorf("introspection: %s, %v", introspected.body, err)
	}
	_, payload, err := httpscript.Decode(a.AccessToken)
	if cnf, _ := payload["cnf"].(map[string]any); err != nil || cnf["x5t#S256"] != thumbprint {
		t.Errorf("cnf: %v, %v", payload["cnf"], err)
	}
	// Opaque tokens are bound too.
	opaque := s.over([]*x509.Certificate{own}, "/token", "grant_type", "client_credentials", "resource", "https://api.example.com", "client_id", "client", "client_secret", testSecret)
	if claims.Confirmation = nil; opaque.AccessToken == "" {
		t.Fatalf("opaque token: %d %s", opaque.status, opaque.body)
	}
	introspected = s.post("/introspect", "client", "token", opaque.AccessToken)
	if err := json.Unmarshal([]byte(introspected.body), &claims); err != nil || claims.Confirmation["x5t#S256"] != thumbprint {
		t.Errorf("introspection of an opaque token: %s, %v", introspected.body, err)
	}
}

// RFC 8705, section 4: the refresh token of a public client is bound to the certificate. That of a
// confidential client is not, so that it can renew its certificate (section 6.3).
func TestPP07_RefreshTokensOfPublicClientsAreBoundToTheCertificate(t *testing.T) {
	own, other := selfSigned(t, "one"), selfSigned(t, "two")
	public := confidential("public", bound, func(c *record.Client) {
		c.TokenEndpointAuthMethod, c.GrantTypes = oauth.AuthMethodNone, []string{"authorization_code", "refresh_token"}
	})
	public.Secret = ""
	s := withMutualTLS(t, authserver.MutualTLS{}, public, confidential("confidential", bound))
	redeem := func(client string, more ...string) string {
		a := s.over([]*x509.Certificate{own}, "/token", append([]string{"grant_type", "authorization_code", "code", s.code("ada", client, "scope", "openid"),
			"redirect_uri", testCallback, "code_verifier", testVerifier, "client_id", client}, more...)...)
		if a.RefreshToken == "" {
			t.Fatalf("%s: %d %s", client, a.status, a.body)
		}
		return a.RefreshToken
	}
	refresh := func(token string, chain []*x509.Certificate, more ...string) apiResponse {
		return s.over(chain, "/token", append([]string{"grant_type", "refresh_token", "refresh_token", token}, more...)...)
	}
	token := redeem("public")
	refresh(token, nil, "client_id", "public").want(t, http.StatusBadRequest, oauth.InvalidRequest)
	refresh(token, []*x509.Certificate{other}, "client_id", "public").want(t, http.StatusBadRequest, oauth.InvalidGrant)
	renewed := refresh(token, []*x509.Certificate{own}, "client_id", "public")
	if renewed.status != http.StatusOK {
		t.Fatalf("with the certificate: %d %s", renewed.status, renewed.body)
	}
	refresh(renewed.RefreshToken, []*x509.Certificate{other}, "client_id", "public").want(t, http.StatusBadRequest, oauth.InvalidGrant)
	if again := refresh(renewed.RefreshToken, []*x509.Certificate{own}, "client_id", "public"); again.status != http.StatusOK {
		t.Errorf("the second time: %d %s", again.status, again.body)
	}
	credentials := []string{"client_id", "confidential", "client_secret", testSecret}
	a := refresh(redeem("confidential", "client_secret", testSecret), []*x509.Certificate{other}, credentials...)
	_, payload, err := httpscript.Decode(a.AccessToken)
	if cnf, _ := payload["cnf"].(map[string]any); err != nil || cnf["x5t#S256"] != clientcertificate.Thumbprint(other) {
		t.Errorf("a renewed certificate of a confidential client: %d %s %v", a.status, a.body, payload)
	}
}

func TestMutualTLSMetadata(t *testing.T) {
	ca := (*authority)(nil).newAuthority(t, "Test CA")
	read := func(s *scene) (m oauth.ServerMetadata) {
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/.well-known/openid-configuration", nil))
		if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	off := read(newScene(t, scriptSetup{}))
	if off.TLSClientCertificateBoundAccessTokens || off.MTLSEndpointAliases != nil || slices.Contains(off.TokenEndpointAuthMethodsSupported, oauth.AuthMethodSelfSignedTLS) {
		t.Errorf("without mutual TLS: %v %v %v", off.TLSClientCertificateBoundAccessTokens, off.MTLSEndpointAliases, off.TokenEndpointAuthMethodsSupported)
	}
	some := read(withMutualTLS(t, authserver.MutualTLS{}))
	if !some.TLSClientCertificateBoundAccessTokens || some.MTLSEndpointAliases != nil ||
		!slices.Contains(some.TokenEndpointAuthMethodsSupported, oauth.AuthMethodSelfSignedTLS) || slices.Contains(some.TokenEndpointAuthMethodsSupported, oauth.AuthMethodTLSClient) {
		t.Errorf("without authorities: %v %v", some.MTLSEndpointAliases, some.TokenEndpointAuthMethodsSupported)
	}
	s := withMutualTLS(t, authserver.MutualTLS{CertificateAuthorities: ca.pool(), Host: "mtls.example.com:8443"})
	all := read(s)
	if !slices.Contains(all.TokenEndpointAuthMethodsSupported, oauth.AuthMethodTLSClient) {
		t.Errorf("with authorities: %v", all.TokenEndpointAuthMethodsSupported)
	}
	for _, endpoint := range []string{"token", "introspection", "revocation", "userinfo", "device_authorization"} {
		alias := all.MTLSEndpointAliases[endpoint+"_endpoint"]
		path, ok := strings.CutPrefix(alias, "https://mtls.example.com:8443")
		if !ok || !s.server.HandlesMutualTLS(path) {
			t.Errorf("%s: alias %q", endpoint, alias)
		}
	}
	for _, endpoint := range []string{"authorization_endpoint", "end_session_endpoint", "jwks_uri", "check_session_iframe"} {
		if alias, ok := all.MTLSEndpointAliases[endpoint]; ok {
			t.Errorf("%s: alias %q", endpoint, alias)
		}
	}
	for _, path := range []string{"/authorize", "/authorize/continue", "/logout", "/jwks", "/sign-in", "/.well-known/openid-configuration"} {
		if s.server.HandlesMutualTLS(path) {
			t.Errorf("%s is served to clients with certificates", path)
		}
	}
}

func TestMutualTLSClientMetadata(t *testing.T) {
	one := func(change func(*record.Client)) record.Client {
		c := certified("client", change).Client
		return c
	}
	for _, test := range []struct {
		name, member string // of the problem; "ok" if there is none
		client       record.Client
	}{
		{"a DN", "ok", one(func(c *record.Client) { c.TLSClientAuthSubjectDN = "CN=client,O=Example" })},
		{"a DNS name", "ok", one(func(c *record.Client) { c.TLSClientAuthSANDNS = "client.example.com" })},
		{"a URI", "ok", one(func(c *record.Client) { c.TLSClientAuthSANURI = "urn:example:client" })},
		{"an IP address", "ok", one(func(c *record.Client) { c.TLSClientAuthSANIP = "2001:db8::1" })},
		{"an email address", "ok", one(func(c *record.Client) { c.TLSClientAuthSANEmail = "a@example.com" })},
		{"no subject", "", one(func(*record.Client) {})},
		{"two subjects", "tls_client_auth_san_dns", one(func(c *record.Client) {
			c.TLSClientAuthSubjectDN, c.TLSClientAuthSANDNS = "CN=client", "client.example.com"
		})},
		{"a malformed DN", "tls_client_auth_subject_dn", one(func(c *record.Client) { c.TLSClientAuthSubjectDN = "/CN=client" })},
		{"a wildcard", "tls_client_auth_san_dns", one(func(c *record.Client) { c.TLSClientAuthSANDNS = "*.example.com" })},
		{"a relative URI", "tls_client_auth_san_uri", one(func(c *record.Client) { c.TLSClientAuthSANURI = "client" })},
		{"a network", "tls_client_auth_san_ip", one(func(c *record.Client) { c.TLSClientAuthSANIP = "192.0.2.0/24" })},
		{"a name", "tls_client_auth_san_email", one(func(c *record.Client) { c.TLSClientAuthSANEmail = "client" })},
		{"a subject with another method", "tls_client_auth_san_dns", confidential("client", func(c *record.Client) { c.TLSClientAuthSANDNS, c.Secrets = "client.example.com", []string{testSecret} }).Client},
		{"no keys", "", one(func(c *record.Client) { c.TokenEndpointAuthMethod = oauth.AuthMethodSelfSignedTLS })},
		{"keys without certificates", "jwks", one(func(c *record.Client) {
			c.TokenEndpointAuthMethod = oauth.AuthMethodSelfSignedTLS
			signer, err := jose.NewSigner(jose.ES256, "a", newTestKey(t))
			if err != nil {
				t.Fatal(err)
			}
			c.JWKS, _ = json.Marshal(jose.KeySet{Keys: []jose.JWK{signer.Public()}})
		})},
		{"certificates", "ok", one(func(c *record.Client) {
			c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodSelfSignedTLS, keySetOf(t, selfSigned(t, "client"))
		})},
		{"bound tokens in the browser", "tls_client_certificate_bound_access_tokens", one(func(c *record.Client) {
			c.TLSClientAuthSubjectDN, c.TLSClientCertificateBoundAccessTokens = "CN=client", true
			c.GrantTypes, c.ResponseTypes = []string{"authorization_code", "implicit"}, []string{"code token"}
		})},
	} {
		problems := authserver.CheckClient(test.client)
		switch {
		case test.member == "ok" && len(problems) > 0, test.member != "ok" && (len(problems) != 1 || problems[0].Member != test.member):
			t.Errorf("%s: %v", test.name, problems)
		}
	}
}

// RFC 8705, section 2.2: a client with a jwks_uri renews its certificate without the operator.
func TestASelfSignedCertificateIsRenewedInTheKeySet(t *testing.T) {
	documents := newDocumentHost(t)
	synctest.Test(t, func(t *testing.T) {
		first, second := selfSigned(t, "client"), selfSigned(t, "client")
		publish := func(certificates ...*x509.Certificate) string {
			return documents.serve("/client-keys", servedDocument{http.StatusOK, nil, keySetOf(t, certificates...)})
		}
		address := publish(first)
		s := newSceneOn(t, scriptSetup{Clients: []testClient{certified("client", func(c *record.Client) {
			c.TokenEndpointAuthMethod, c.JWKSURI = oauth.AuthMethodSelfSignedTLS, address
		})}}, memory.New(), func(c *authserver.Config) {
			documents.admit(c)
			c.Outgoing.Networks = c.Outgoing.InsecureOutsiderNetworks
			c.MutualTLS = &authserver.MutualTLS{}
		})
		if a := s.ownToken("client", first); a.status != http.StatusOK {
			t.Errorf("the first certificate: %d %s", a.status, a.body)
		}
		s.ownToken("client", second).want(t, http.StatusUnauthorized, oauth.InvalidClient)
		publish(second)
		time.Sleep(31 * time.Second)
		if a := s.ownToken("client", second); a.status != http.StatusOK {
			t.Errorf("the renewed certificate: %d %s", a.status, a.body)
		}
		s.ownToken("client", first).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	})
}

// A client that registers itself gets what the server offers, and nothing else.
func TestRegistrationOfClientsWithCertificates(t *testing.T) {
	ca := (*authority)(nil).newAuthority(t, "Test CA")
	own := selfSigned(t, "client")
	subject := map[string]any{"redirect_uris": []string{testCallback}, "token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_dns": "client.example.com"}
	registered := map[string]any{"redirect_uris": []string{testCallback}, "token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks": keySetOf(t, own), "tls_client_certificate_bound_access_tokens": true}
	for name, test := range map[string]struct {
		settings *authserver.MutualTLS
		subject  int
		own      int
	}{
		"off": {nil, http.StatusBadRequest, http.StatusBadRequest}, "without authorities": {&authserver.MutualTLS{}, http.StatusBadRequest, http.StatusCreated},
		"complete": {&authserver.MutualTLS{CertificateAuthorities: ca.pool()}, http.StatusCreated, http.StatusCreated},
	} {
		s := newSceneOn(t, scriptSetup{}, memory.New(), func(c *authserver.Config) {
			openRegistration(c)
			c.MutualTLS = test.settings
		})
		if status, response := s.register(subject); status != test.subject {
			t.Errorf("%s: tls_client_auth: %d %v", name, status, response)
		}
		status, response := s.register(registered)
		if status != test.own {
			t.Errorf("%s: self_signed_tls_client_auth: %d %v", name, status, response)
		}
		if status != http.StatusCreated {
			continue
		}
		if response["client_secret"] != nil || response["tls_client_certificate_bound_access_tokens"] != true {
			t.Errorf("%s: the response is %v", name, response)
		}
		id, _ := response["client_id"].(string)
		form := []string{"client_id", id, "response_type", "code", "redirect_uri", testCallback, "code_challenge", oauth.S256Challenge(testVerifier), "code_challenge_method", "S256"}
		s.over(nil, "/par", form...).want(t, http.StatusUnauthorized, oauth.InvalidClient)
		if a := s.over([]*x509.Certificate{own}, "/par", form...); a.status != http.StatusCreated {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	without := maps.Clone(registered)
	without["token_endpoint_auth_method"] = "client_secret_basic"
	s := newSceneOn(t, scriptSetup{}, memory.New(), openRegistration)
	if status, response := s.register(without); status != http.StatusBadRequest {
		t.Errorf("bound tokens at a server without mutual TLS: %d %v", status, response)
	}
}

// A client authenticates with its certificate at the other endpoints too, and a bound token can only
// be exchanged by a request with a certificate.
func TestCertificatesAtOtherEndpoints(t *testing.T) {
	own, stranger := selfSigned(t, "client"), selfSigned(t, "client")
	setup := scriptSetup{
		Clients: []testClient{certified("client", func(c *record.Client) {
			c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodSelfSignedTLS, keySetOf(t, own)
			c.TLSClientCertificateBoundAccessTokens = true
			c.GrantTypes = append(c.GrantTypes, oauth.GrantTypeTokenExchange, oauth.GrantTypeDeviceCode)
		})},
		Resources:     []record.Resource{{Identifier: "https://api.example.com"}},
		TokenExchange: []authserver.TokenExchangeRule{{Clients: []string{"client"}, Resources: []string{"https://api.example.com"}, Impersonation: true}},
	}
	s := newSceneOn(t, setup, memory.New(), func(c *authserver.Config) { c.MutualTLS = &authserver.MutualTLS{} })
	par := []string{"client_id", "client", "response_type", "code", "redirect_uri", testCallback, "code_challenge", oauth.S256Challenge(testVerifier), "code_challenge_method", "S256"}
	if a := s.over([]*x509.Certificate{own}, "/par", par...); a.status != http.StatusCreated {
		t.Errorf("PAR: %d %s", a.status, a.body)
	}
	s.over([]*x509.Certificate{stranger}, "/par", par...).want(t, http.StatusUnauthorized, oauth.InvalidClient)
	if a := s.over([]*x509.Certificate{own}, "/device_authorization", "client_id", "client"); a.status != http.StatusOK {
		t.Errorf("device authorization: %d %s", a.status, a.body)
	}
	s.over(nil, "/device_authorization", "client_id", "client").want(t, http.StatusUnauthorized, oauth.InvalidClient)
	token := s.ownToken("client", own).AccessToken
	exchanged := s.over([]*x509.Certificate{own}, "/token", "grant_type", oauth.GrantTypeTokenExchange, "client_id", "client",
		"subject_token", token, "subject_token_type", oauth.TokenTypeAccessToken, "resource", "https://api.example.com")
	_, payload, err := httpscript.Decode(exchanged.AccessToken)
	if cnf, _ := payload["cnf"].(map[string]any); err != nil || cnf["x5t#S256"] != clientcertificate.Thumbprint(own) {
		t.Errorf("exchange: %d %s %v", exchanged.status, exchanged.body, payload)
	}
}
