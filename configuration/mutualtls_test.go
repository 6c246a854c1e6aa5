package configuration

import (
	"strings"
	"testing"
)

func TestInconsistentMutualTLS(t *testing.T) {
	const tls = "issuer: https://login.example.com\ntls: {certificate: a.pem, key: b.pem}\n"
	const proxy = "issuer: https://login.example.com\ntrusted_proxies: [10.0.0.1]\n"
	for _, test := range []struct {
		name, file string
		want       string // in the error; "" if the file is valid
	}{
		{"a listener", tls + "mutual_tls: {listen: '0.0.0.0:8443', host: 'login.example.com:8443', certificate_authorities: ca.pem}", ""},
		{"a listener with its own certificate", "issuer: https://login.example.com\nmutual_tls: {listen: '0.0.0.0:8443', host: mtls.example.com, tls: {certificate: a.pem, key: b.pem}}", ""},
		{"RFC 9440", proxy + "mutual_tls: {client_certificate_header: Client-Cert}", ""},
		{"Envoy", proxy + "mutual_tls: {client_certificate_header: X-Forwarded-Client-Cert, proxy_verifies_certificates: true}", ""},
		{"nginx", proxy + "mutual_tls: {client_certificate_header: X-Client-Certificate, client_certificate_format: pem, host: mtls.example.com, certificate_authorities: ca.pem}", ""},

		{"nothing", tls + "mutual_tls: {}", "mutual_tls: set either listen, or client_certificate_header"},
		{"both", tls + "trusted_proxies: [10.0.0.1]\nmutual_tls: {listen: '0.0.0.0:8443', host: mtls.example.com, client_certificate_header: Client-Cert}", "cannot be used with listen"},
		{"a listener without a certificate", "issuer: https://login.example.com\nmutual_tls: {listen: '0.0.0.0:8443', host: mtls.example.com}", "requires a certificate and key"},
		{"a listener without a host", tls + "mutual_tls: {listen: '0.0.0.0:8443'}", "mutual_tls.host"},
		{"the address of the first listener", tls + "listen: '0.0.0.0:8443'\nmutual_tls: {listen: '0.0.0.0:8443', host: mtls.example.com}", "the address of the first listener"},
		{"not an address", tls + "mutual_tls: {listen: mtls.example.com, host: mtls.example.com}", "is not a valid address"},
		{"a listener whose proxy verifies", tls + "mutual_tls: {listen: '0.0.0.0:8443', host: mtls.example.com, proxy_verifies_certificates: true}", "there is no proxy"},
		{"a format without a header", tls + "mutual_tls: {listen: '0.0.0.0:8443', host: mtls.example.com, client_certificate_format: pem}", "requires client_certificate_header"},
		{"the host of the issuer", tls + "mutual_tls: {listen: '0.0.0.0:8443', host: login.example.com}", "the host of the issuer"},
		{"a URL as host", tls + "mutual_tls: {listen: '0.0.0.0:8443', host: 'https://mtls.example.com'}", "is not a host"},
		{"a header without proxies", "issuer: https://login.example.com\nmutual_tls: {client_certificate_header: Client-Cert}", "requires trusted_proxies"},
		{"a header from everywhere", "issuer: https://login.example.com\ntrusted_proxies: [10.0.0.1, 0.0.0.0/0]\nmutual_tls: {client_certificate_header: Client-Cert}", "anyone could set the header"},
		{"a header without a format", proxy + "mutual_tls: {client_certificate_header: X-Client-Certificate}", "has no default format"},
		{"another format in the header of RFC 9440", proxy + "mutual_tls: {client_certificate_header: Client-Cert, client_certificate_format: pem}", "RFC 9440"},
		{"a header with another purpose", proxy + "mutual_tls: {client_certificate_header: Authorization, client_certificate_format: pem}", "is reserved for another purpose"},
		{"two who verify", proxy + "mutual_tls: {client_certificate_header: Client-Cert, proxy_verifies_certificates: true, certificate_authorities: ca.pem}", "only one of the two"},
		{"a certificate without a listener", proxy + "mutual_tls: {client_certificate_header: Client-Cert, tls: {certificate: a.pem, key: b.pem}}", "mutual_tls.tls: requires listen"},

		{"a client without mutual_tls", "clients: [{client_id: a, token_endpoint_auth_method: tls_client_auth, tls_client_auth_san_dns: a.example.com, grant_types: [client_credentials]}]", "requires mutual_tls"},
		{"bound tokens without mutual_tls", "clients: [{client_id: a, client_secret: 0123456789abcdef0123456789abcdef, tls_client_certificate_bound_access_tokens: true, grant_types: [client_credentials]}]", "requires mutual_tls"},
		{"a client without authorities", proxy + "mutual_tls: {client_certificate_header: Client-Cert}\nclients: [{client_id: a, token_endpoint_auth_method: tls_client_auth, tls_client_auth_san_dns: a.example.com, grant_types: [client_credentials]}]", "requires mutual_tls.certificate_authorities"},
		{"a client with two subjects", proxy + "mutual_tls: {client_certificate_header: Client-Cert, certificate_authorities: ca.pem}\nclients: [{client_id: a, token_endpoint_auth_method: tls_client_auth, tls_client_auth_san_dns: a.example.com, tls_client_auth_san_ip: 192.0.2.1, grant_types: [client_credentials]}]", "exactly one subject"},
		{"a client", proxy + "mutual_tls: {client_certificate_header: Client-Cert, certificate_authorities: ca.pem}\nclients: [{client_id: a, token_endpoint_auth_method: tls_client_auth, tls_client_auth_san_dns: a.example.com, grant_types: [client_credentials]}]", ""},
	} {
		_, err := parse("v.yaml", []byte(test.file), true)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: the error is %v, without %q", test.name, err, test.want)
		}
	}
}
