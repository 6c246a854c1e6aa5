// Package ldap tests sign-in with passwords of directories, with OpenLDAP and Samba's Active Directory.
package ldap

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity/directory"
)

func tlsConfig(t *testing.T, authority string) *tls.Config {
	t.Helper()
	content, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(content)
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
}

// openLDAP is the configuration of a directory.
func openLDAP(s *slapd) directory.Config {
	return directory.Config{
		ID: "corp", Name: "Example Corp", URLs: []string{s.plain}, CertificateAuthorities: s.authority,
		BindDN: "cn=valetkey,dc=corp,dc=example", BindPassword: "service-7f3a91c4",
		Base: "dc=corp,dc=example", Rule: `{groups: claims.groups}`,
	}
}

// serve starts a server with a local user, carol.
func serve(t *testing.T, directories []directory.Config, change func(*configuration.Configuration)) (issuer string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := configuration.Configuration{
		Issuer: "http://" + listener.Addr().String(), Database: "sqlite::memory:", Directories: directories, Contact: "help@corp.example",
		Declarations: configuration.Declarations{Users: []configuration.User{{Username: "carol", Password: userPassword + " local"}}},
	}
	if change != nil {
		change(&config)
	}
	server, err := valetkey.New(valetkey.Config{Configuration: config, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	web := &httptest.Server{Listener: listener, Config: &http.Server{Handler: server}}
	web.Start()
	t.Cleanup(func() {
		web.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return config.Issuer
}

// browser is a browser without scripts.
type browser struct {
	*http.Client
	t      *testing.T
	issuer string
}

func newBrowser(t *testing.T, issuer string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, t, issuer}
}

func (b *browser) do(request *http.Request) (status int, location, body string) {
	b.t.Helper()
	response, err := b.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Location"), string(content)
}

func (b *browser) get(path string) (status int, location, body string) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.issuer+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(request)
}

func (b *browser) post(path string, form url.Values) (status int, location, body string) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", b.issuer)
	return b.do(request)
}

func (b *browser) signIn(identifier, password string) (status int, location, body string) {
	b.t.Helper()
	return b.post("/sign-in", url.Values{"identifier": {identifier}, "password": {password}})
}

// signedIn reports whether a new browser can sign in.
func signedIn(t *testing.T, issuer, identifier, password string) bool {
	t.Helper()
	status, location, _ := newBrowser(t, issuer).signIn(identifier, password)
	return status == http.StatusSeeOther && strings.Contains(location, "/account?signed_in")
}

func TestSignIn(t *testing.T) {
	s := startSlapd(t)
	issuer := serve(t, []directory.Config{openLDAP(s)}, nil)
	for identifier, want := range map[string]bool{
		"alice": true, "ALICE": true, "alice@corp.example": true, "carol": false, "nobody": false,
		"*": false, "a*": false, "*)(uid=*": false, "alice)(uid=*": false, "alice\x00": false, "alice,ou=people": false, `alice\2a`: false, "uid=alice,ou=people,dc=corp,dc=example": false,
	} {
		if got := signedIn(t, issuer, identifier, userPassword); got != want {
			t.Errorf("%q: signed in: %v", identifier, got)
		}
	}
	if !signedIn(t, issuer, "carol", userPassword+" local") {
		t.Error("the local user cannot sign in")
	}
	for _, password := range []string{"", "wrong"} {
		if signedIn(t, issuer, "alice", password) {
			t.Errorf("signed in with %q", password)
		}
	}
	if s.logged("*)(uid=*") {
		t.Error("a filter was injected")
	}
	if s.binds("") > 0 {
		t.Error("an anonymous bind was sent")
	}
}

// No password, and no password of the service account, is sent over a connection whose encryption was
// refused, stripped, or is that of somebody else.
func TestEncryptionIsRequired(t *testing.T) {
	s := startSlapd(t)
	for name, change := range map[string]func(*directory.Config){
		"stripped":          func(c *directory.Config) { c.URLs = []string{stripStartTLS(t, s.plain)} },
		"another authority": func(c *directory.Config) { c.CertificateAuthorities = newCertificates(t).authority },
		"ldaps, another": func(c *directory.Config) {
			c.URLs, c.CertificateAuthorities = []string{s.tls}, newCertificates(t).authority
		},
		"another name": func(c *directory.Config) { c.URLs = []string{strings.Replace(s.tls, "127.0.0.1", "127.0.0.2", 1)} },
	} {
		t.Run(name, func(t *testing.T) {
			config := openLDAP(s)
			change(&config)
			issuer := serve(t, []directory.Config{config}, nil)
			if signedIn(t, issuer, "alice", userPassword) {
				t.Error("signed in")
			}
			if !signedIn(t, issuer, "carol", userPassword+" local") {
				t.Error("the local user cannot sign in")
			}
		})
	}
	if s.binds("cn=valetkey,dc=corp,dc=example") > 0 || s.logged(`RESULT tag=97 err=13`) {
		t.Error("a password was sent")
	}
	config := openLDAP(s)
	config.URLs = []string{s.tls}
	if !signedIn(t, serve(t, []directory.Config{config}, nil), "alice", userPassword) {
		t.Error("ldaps does not work")
	}
}

// stripStartTLS is an attacker between client and server who answers StartTLS with an error.
func stripStartTLS(t *testing.T, to string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				server, err := net.Dial("tcp", strings.TrimPrefix(to, "ldap://"))
				if err != nil {
					return
				}
				defer server.Close()
				go io.Copy(client, server)
				buffer := make([]byte, 4096)
				for {
					n, err := client.Read(buffer)
					if err != nil {
						return
					}
					if strings.Contains(string(buffer[:n]), "1.3.6.1.4.1.1466.20037") {
						// ExtendedResponse with protocolError (RFC 4511, section 4.12), message ID 1.
						client.Write([]byte("\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00"))
						continue
					}
					server.Write(buffer[:n])
				}
			}()
		}
	}()
	return "ldap://" + listener.Addr().String()
}

func decode(t *testing.T, text []byte) (claims map[string]any) {
	t.Helper()
	if err := json.Unmarshal(text, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}
