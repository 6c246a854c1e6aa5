package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// makeCertificates writes a good certificate and bad ones: with a root that w.roots contains, and an
// authority in between. All have the same key.
func (w *world) makeCertificates(t *testing.T) {
	t.Helper()
	key := newKey(t)
	rootKey, authorityKey := newKey(t), newKey(t)
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Authority"}, NotBefore: now.AddDate(0, -6, 0), NotAfter: now.AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := func(name string, before, after time.Time) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: before, NotAfter: after,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
	}
	rootDER, authorityDER := sign(t, root, root, rootKey, rootKey), sign(t, authority, root, authorityKey, rootKey)
	parsed, err := x509.ParseCertificate(rootDER)
	if err != nil {
		t.Fatal(err)
	}
	w.roots = x509.NewCertPool()
	w.roots.AddCert(parsed)

	good := sign(t, leaf(host, now.Add(-time.Hour), now.AddDate(0, 2, 0)), authority, key, authorityKey)
	self := leaf(host, now.Add(-time.Hour), now.AddDate(0, 2, 0))
	w.write(t, "fullchain.pem", good, authorityDER)
	w.write(t, "leaf.pem", good)
	w.write(t, "expired.pem", sign(t, leaf(host, now.AddDate(0, -3, 0), now.Add(-time.Hour)), authority, key, authorityKey), authorityDER)
	w.write(t, "soon.pem", sign(t, leaf(host, now.AddDate(0, -3, 0), now.AddDate(0, 0, 5)), authority, key, authorityKey), authorityDER)
	w.write(t, "other.pem", sign(t, leaf("www.example.com", now.Add(-time.Hour), now.AddDate(0, 2, 0)), authority, key, authorityKey), authorityDER)
	w.write(t, "self.pem", sign(t, self, self, key, key))
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "privkey.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, certificate, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, certificate, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (w *world) write(t *testing.T, name string, chain ...[]byte) {
	t.Helper()
	var text []byte
	for _, der := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := os.WriteFile(filepath.Join(w.dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace replaces text, which must be there.
func replace(t *testing.T, text string, oldNew ...string) string {
	t.Helper()
	for i := 0; i < len(oldNew); i += 2 {
		if !strings.Contains(text, oldNew[i]) {
			t.Fatalf("the shipped file does not contain %q", oldNew[i])
		}
		text = strings.ReplaceAll(text, oldNew[i], oldNew[i+1])
	}
	return text
}

// block returns the shipped server block on an address, with a fault.
func (w *world) block(t *testing.T, address, backend string, fault []string) string {
	t.Helper()
	return strings.ReplaceAll(replace(t, w.site, append([]string{"listen 443 ", "listen " + address + " "}, fault...)...), "BACKEND", backend)
}

// server returns a function that makes the block for an address.
func (w *world) server(backend string, fault []string) func(*testing.T, string) string {
	return func(t *testing.T, address string) string { return w.block(t, address, backend, fault) }
}

// startNginx starts another nginx with one server, and returns its address.
func (w *world) startNginx(t *testing.T, block func(*testing.T, string) string) string {
	t.Helper()
	address := freeAddress(t)
	w.run(t, block(t, address), address)
	return address
}

// run starts nginx and waits until it listens on an address.
func (w *world) run(t *testing.T, blocks, address string) {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		nginx = "/usr/sbin/nginx" // often not on the PATH
	}
	if _, err := os.Stat(nginx); err != nil && os.Getenv("CI") != "true" {
		t.Skip("nginx is not installed")
	}
	dir, user, temporary := t.TempDir(), "", ""
	if os.Getuid() == 0 {
		user = "user root;" // the directories of the test belong to root
	}
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s;\n", name, filepath.Join(dir, name))
	}
	text := fmt.Sprintf("daemon off; %s pid %s; error_log stderr crit; worker_processes 1;\nevents { worker_connections 1024; }\nhttp {\naccess_log off;\nproxy_cache_path %s keys_zone=keys:1m;\n%s%s\n}\n",
		user, filepath.Join(dir, "nginx.pid"), filepath.Join(dir, "cache"), temporary, blocks)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	command := exec.Command(nginx, "-e", "stderr", "-p", dir, "-c", file)
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		command.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			command.Process.Kill()
			t.Error("nginx does not end")
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("nginx: %v\n%s", err, log.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("nginx does not listen")
		}
	}
}

func freeAddress(t *testing.T) string { return freeAddresses(t, 1)[0] }

// freeAddresses returns different addresses.
func freeAddresses(t *testing.T, n int) (addresses []string) {
	t.Helper()
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
