package valetkey

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/valetkey/valetkey/configuration"
)

// serve runs a server on a loopback port. It returns the address, and a function that stops the
// server and returns the result of Serve.
func serve(t *testing.T, s *Server) (address string, end func() error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, listener) }()
	t.Cleanup(cancel)
	return listener.Addr().String(), func() error {
		cancel()
		return <-ended
	}
}

// writeCertificate creates a certificate for 127.0.0.1 with a serial number.
func writeCertificate(t *testing.T, folder string, serial int64) configuration.TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := configuration.TLS{Certificate: filepath.Join(folder, "cert.pem"), Key: filepath.Join(folder, "key.pem")}
	for path, block := range map[string]*pem.Block{
		files.Certificate: {Type: "CERTIFICATE", Bytes: certificate}, files.Key: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestServeTLS(t *testing.T) {
	files := writeCertificate(t, t.TempDir(), 1)
	s, _ := newTestServer(t, func(c *Config) { c.TLS = &files })
	address, end := serve(t, s)
	dial := func(config *tls.Config) (*tls.Conn, error) {
		config.InsecureSkipVerify = true // the certificate is its own
		return tls.Dial("tcp", address, config)
	}
	if conn, err := dial(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is accepted")
	}
	conn, err := dial(&tls.Config{NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Fatalf("the protocol is %q", got)
	}
	t.Run("DS-06", func(t *testing.T) {
		if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
			t.Fatal(err)
		}
		framer := http2.NewFramer(conn, conn)
		if err := framer.WriteSettings(); err != nil {
			t.Fatal(err)
		}
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		streams, ok := frame.(*http2.SettingsFrame).Value(http2.SettingMaxConcurrentStreams)
		if !ok || streams > 100 {
			t.Errorf("one connection may have %d streams", streams)
		}
	})
	conn.Close()
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestTheCertificateIsReloaded(t *testing.T) {
	folder := t.TempDir()
	files := writeCertificate(t, folder, 1)
	f := certificateFiles{certificate: files.Certificate, key: files.Key, log: slog.New(slog.DiscardHandler)}
	var details []string
	f.detail = func(_ string, lines ...string) { details = lines }
	serial := func() int64 {
		t.Helper()
		f.checked = time.Time{} // as if it were long ago
		c, err := f.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.Int64()
	}
	touch := func(later time.Duration) {
		t.Helper()
		if err := os.Chtimes(files.Certificate, time.Time{}, time.Now().Add(later)); err != nil {
			t.Fatal(err)
		}
	}
	if serial() != 1 {
		t.Error("the first certificate is another one")
	}
	writeCertificate(t, folder, 2)
	touch(time.Minute)
	if serial() != 2 {
		t.Error("the renewed certificate is not used")
	}
	if err := os.WriteFile(files.Certificate, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	touch(2 * time.Minute)
	if serial() != 2 {
		t.Error("a broken file removes the certificate")
	}
	if len(details) != 1 {
		t.Errorf("with a broken file, the readiness details are %q", details)
	}
	writeCertificate(t, folder, 3)
	touch(3 * time.Minute)
	if serial() != 3 {
		t.Error("after a broken file, the next certificate is not used")
	}
	if len(details) != 0 {
		t.Errorf("with a good file, the readiness details are %q", details)
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	s, _ := newTestServer(t, func(c *Config) { c.Issuer = "http://127.0.0.1" })
	started, finish := make(chan struct{}), make(chan struct{})
	s.pages = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-finish
		io.WriteString(w, "done")
	})
	address, end := serve(t, s)
	s.host = address
	result := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + address + "/slow")
		if err != nil {
			result <- err.Error()
			return
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			result <- err.Error()
			return
		}
		result <- string(body)
	}()
	<-started
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	for !s.draining.Load() {
		select {
		case err := <-ended:
			t.Fatalf("Serve ended before the request did: %v", err)
		default:
		}
	}
	if w := get(s, "/readyz", nil); w.Code != http.StatusServiceUnavailable {
		t.Errorf("during shutdown, /readyz returns %d", w.Code)
	}
	close(finish)
	if got := <-result; got != "done" {
		t.Errorf("the request in progress gets %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestDS02_SlowHeaders takes as long as the server's read timeout.
func TestDS02_SlowHeaders(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 seconds")
	}
	t.Parallel()
	s, _ := newTestServer(t, nil)
	address, _ := serve(t, s)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: login.example.com\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := conn.SetReadDeadline(began.Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("after %v, the connection is still open: %v", time.Since(began), err)
	}
}

func TestDS03_LongHeaders(t *testing.T) {
	s, _ := newTestServer(t, nil)
	address, _ := serve(t, s)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The server responds and closes the connection before it has read everything.
	go io.WriteString(conn, "GET / HTTP/1.1\r\nHost: login.example.com\r\nX-Long: "+strings.Repeat("a", 64<<10)+"\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 kB of headers return %d", response.StatusCode)
	}
}
