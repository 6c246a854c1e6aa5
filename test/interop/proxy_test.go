package interop

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
)

const proxiedConfiguration = `
trusted_proxies: [127.0.0.1]
clients:
  - client_id: photos
    client_secret: photos-3b1f8c2d7e6a4950-b7c1
    redirect_uris: ["` + redirectURI + `"]
    grant_types: [authorization_code, refresh_token]
    scope: openid email
users:
  - {username: alice, password: correct horse battery, email: alice@example.com}
`

// TestDeployedProxies runs the real binary behind nginx and Caddy with the files of deploy/,
// and signs in through them, at the root of a host and below a path.
func TestDeployedProxies(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "valetkey")
	if output, err := exec.Command("go", "build", "-o", binary, "github.com/valetkey/valetkey/cmd/valetkey").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	for _, test := range []struct {
		name, file, host, path string
		start                  func(*testing.T, *deployment, string)
	}{
		{"nginx", "nginx/valetkey.conf", "login.example.com", "", startNginx},
		{"nginx, path", "nginx/valetkey-path.conf", "www.example.com", "/login", startNginx},
		{"Caddy", "caddy/Caddyfile", "login.example.com", "", startCaddy},
		{"Caddy, path", "caddy/Caddyfile.path", "www.example.com", "/login", startCaddy},
	} {
		t.Run(test.name, func(t *testing.T) {
			content, err := os.ReadFile(filepath.Join("../../deploy", test.file))
			if err != nil {
				t.Fatal(err)
			}
			d := deploy(t, binary, test.host, test.path)
			test.start(t, d, string(content))
			d.await(t)
			d.metadata(t)
			d.signIn(t)
			d.address(t)
			d.long(t)
		})
	}
}

// deployment is a server and its proxy.
type deployment struct {
	host, path, issuer string
	backend, frontend  string // addresses
	dir                string
	certificate, key   string // files
	log                lockedLog
	http               *http.Client
}

// lockedLog is a log that several processes write. The buffer is not embedded: io.Copy would find
// its ReadFrom, which takes no lock.
type lockedLog struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(p)
}

func (l *lockedLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

// deploy starts a server that a proxy will serve at a host and path.
func deploy(t *testing.T, binary, host, path string) *deployment {
	t.Helper()
	d := &deployment{host: host, path: path, backend: freeAddress(t), frontend: freeAddress(t), dir: t.TempDir()}
	_, port, _ := net.SplitHostPort(d.frontend)
	d.issuer = "https://" + host + ":" + port + path
	pool := d.makeCertificate(t)
	dialer := &net.Dialer{}
	d.http = &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, d.frontend) // there is no DNS for the host
			},
			ForceAttemptHTTP2: true,
		},
	}
	file := filepath.Join(d.dir, "valetkey.yaml")
	configuration := fmt.Sprintf("issuer: %s\nlisten: %s\ndatabase: sqlite:%s\n", d.issuer, d.backend, filepath.Join(d.dir, "valetkey.db")) + proxiedConfiguration
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	runDuringTest(t, &d.log, exec.Command(binary, "serve", "--config", file))
	return d
}

// runDuringTest runs a program until the test ends.
func runDuringTest(t *testing.T, log io.Writer, command *exec.Cmd) {
	t.Helper()
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Signal(syscall.SIGTERM)
		ended := make(chan error, 1)
		go func() { ended <- command.Wait() }()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			command.Process.Kill()
			t.Errorf("%s does not end", command.Path)
		}
	})
}

func (d *deployment) makeCertificate(t *testing.T) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: d.host}, DNSNames: []string{d.host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	d.certificate, d.key = filepath.Join(d.dir, "fullchain.pem"), filepath.Join(d.dir, "privkey.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(d.certificate, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	return pool
}

// replace adapts a shipped file to this machine, and changes nothing else.
func replace(t *testing.T, content string, oldNew ...string) string {
	t.Helper()
	for i := 0; i < len(oldNew); i += 2 {
		if !strings.Contains(content, oldNew[i]) {
			t.Fatalf("the shipped file does not contain %q", oldNew[i])
		}
		content = strings.ReplaceAll(content, oldNew[i], oldNew[i+1])
	}
	return content
}

func startNginx(t *testing.T, d *deployment, content string) {
	nginx := "/usr/sbin/nginx" // often not on the PATH
	if _, err := os.Stat(nginx); err != nil {
		nginx = need(t, "nginx")
	}
	oldNew := []string{
		"listen 443 ", "listen " + d.frontend + " ",
		"/etc/letsencrypt/live/" + d.host, d.dir,
		"127.0.0.1:8080", d.backend,
	}
	if d.path == "" {
		oldNew = append(oldNew, "listen 80;", "listen "+freeAddress(t)+";")
	}
	site := filepath.Join(d.dir, "site.conf")
	if err := os.WriteFile(site, []byte(replace(t, content, oldNew...)), 0o600); err != nil {
		t.Fatal(err)
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // the directories of the test belong to root
	}
	temporary := ""
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s;\n", name, filepath.Join(d.dir, name))
	}
	whole := fmt.Sprintf("daemon off; %s pid %s; error_log stderr warn; worker_processes 1;\nevents {}\nhttp {\naccess_log off;\n%sinclude %s;\n}\n",
		user, filepath.Join(d.dir, "nginx.pid"), temporary, site)
	file := filepath.Join(d.dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	runDuringTest(t, &d.log, exec.Command(nginx, "-e", "stderr", "-p", d.dir, "-c", file))
}

func startCaddy(t *testing.T, d *deployment, content string) {
	caddy := need(t, "caddy")
	_, port, _ := net.SplitHostPort(d.frontend)
	whole := "{\n\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n}\n" + replace(t, content,
		"\n"+d.host+" {\n", fmt.Sprintf("\nhttps://%s:%s {\n\ttls %s %s\n", d.host, port, d.certificate, d.key),
		"127.0.0.1:8080", d.backend)
	file := filepath.Join(d.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(caddy, "run", "--config", file, "--adapter", "caddyfile")
	command.Env = append(os.Environ(), "HOME="+d.dir, "XDG_DATA_HOME="+d.dir, "XDG_CONFIG_HOME="+d.dir)
	runDuringTest(t, &d.log, command)
}

// await waits until the server responds through the proxy.
func (d *deployment) await(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		response, err := d.http.Get(d.issuer + "/.well-known/openid-configuration")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				if response.ProtoMajor != 2 {
					t.Errorf("the proxy uses HTTP/%d", response.ProtoMajor)
				}
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("there is no response at %s: %v\n%s", d.issuer, err, d.log.text())
		}
	}
}

// metadata checks that the URLs of RFC 8414 and of OpenID Connect Discovery can be reached.
func (d *deployment) metadata(t *testing.T) {
	origin := strings.TrimSuffix(d.issuer, d.path)
	for _, address := range []string{
		origin + "/.well-known/oauth-authorization-server" + d.path,
		origin + "/.well-known/openid-configuration" + d.path,
		d.issuer + "/.well-known/openid-configuration",
	} {
		response, err := d.http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		var document struct{ Issuer string }
		err = json.NewDecoder(response.Body).Decode(&document)
		response.Body.Close()
		if err != nil || document.Issuer != d.issuer {
			t.Errorf("%s: %d, issuer %q, %v", address, response.StatusCode, document.Issuer, err)
		}
	}
}

// signIn runs the code flow, a refresh and UserInfo through the proxy.
func (d *deployment) signIn(t *testing.T) {
	t.Helper()
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, d.http)
	config := oauth2.Config{
		ClientID: "photos", ClientSecret: "photos-3b1f8c2d7e6a4950-b7c1", RedirectURL: redirectURI, Scopes: []string{"openid", "email"},
		Endpoint: oauth2.Endpoint{AuthURL: d.issuer + "/authorize", TokenURL: d.issuer + "/token"},
	}
	verifier := oauth2.GenerateVerifier()
	alice := person.New("alice", "correct horse battery")
	alice.Through(d.http.Transport)
	callback, err := alice.Visit(config.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)), redirectURI)
	if err != nil {
		t.Fatalf("sign in: %v\n%s", err, d.log.text())
	}
	token, err := config.Exchange(ctx, callback.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatalf("redeem %s: %v\n%s", callback, err, d.log.text())
	}
	token.Expiry = time.Now().Add(-time.Minute)
	source := config.TokenSource(ctx, token)
	refreshed, err := source.Token()
	if err != nil {
		t.Fatalf("refresh: %v", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.issuer+"/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	refreshed.SetAuthHeader(request)
	response, err := d.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var claims struct{ Email string }
	if err := json.NewDecoder(response.Body).Decode(&claims); err != nil || claims.Email != "alice@example.com" {
		t.Errorf("UserInfo: %d, %+v, %v", response.StatusCode, claims, err)
	}
}

// address checks that the server sees the client's address, that a client cannot forge it, and that
// the server does not warn about an untrusted proxy.
func (d *deployment) address(t *testing.T) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.issuer+"/token", strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("X-Forwarded-For", "203.0.113.9")
	request.Header.Set("Forwarded", "for=203.0.113.9")
	request.SetBasicAuth("photos", "wrong")
	response, err := d.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("a wrong secret: %d", response.StatusCode)
	}
	log := d.log.text()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(log, "event=client.authentication_failed") && time.Now().Before(deadline); log = d.log.text() {
		time.Sleep(10 * time.Millisecond) // the log arrives through a pipe
	}
	if !strings.Contains(log, "event=client.authentication_failed") || !strings.Contains(log, "address=127.0.0.1") ||
		strings.Contains(log, "203.0.113.9") || strings.Contains(log, "proxy.not_trusted") {
		t.Errorf("the server does not see the client's address:\n%s", log)
	}
}

// long checks that the proxy accepts long requests that the server accepts, and only its own host.
func (d *deployment) long(t *testing.T) {
	t.Helper()
	response, err := d.http.Get(d.issuer + "/authorize?client_id=photos&padding=" + strings.Repeat("x", 20_000))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode == http.StatusRequestURITooLong || response.StatusCode == http.StatusRequestHeaderFieldsTooLarge || response.StatusCode >= 500 {
		t.Errorf("a long request: %d", response.StatusCode)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.issuer+"/sign-in", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "evil.example"
	response, err = d.http.Do(request)
	if err != nil {
		return // the proxy rejects the request
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(body), "<form") {
		t.Error("a page is served under a foreign host")
	}
}

// The configuration of the Compose file must be valid.
func TestComposeConfiguration(t *testing.T) {
	if _, err := configuration.Read("../../deploy/docker/valetkey/valetkey.yaml"); err != nil {
		t.Error(err)
	}
}
