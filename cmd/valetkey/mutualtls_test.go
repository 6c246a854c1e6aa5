package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// "valetkey serve" serves both listeners and stops both.
func TestServeListensForClientsWithCertificates(t *testing.T) {
	folder := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var addresses [2]string
	for i := range addresses {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		addresses[i] = listener.Addr().String()
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(folder, "valetkey.yaml")
	text := fmt.Sprintf("issuer: https://%s\nlisten: %s\ndatabase: \"sqlite::memory:\"\ntls: {certificate: %s, key: %s}\nmutual_tls: {listen: %s, host: %s}\n",
		addresses[0], addresses[0], filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"), addresses[1], addresses[1])
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// Files that were just written count as unsettled.
	long := time.Now().Add(-time.Minute)
	if err := os.Chtimes(file, long, long); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var out, log safeBuffer
	go func() { ended <- (&serveCommand{Config: file}).Run(ctx, &output{out: &out, log: &log}) }()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for i, want := range []string{"invalid_client", "invalid_client"} {
		address := addresses[i]
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			response, err := client.Post("https://"+address+"/token", "application/x-www-form-urlencoded", strings.NewReader("grant_type=client_credentials&client_id=unknown"))
			if err == nil {
				body := make([]byte, 100)
				n, _ := response.Body.Read(body)
				response.Body.Close()
				if !strings.Contains(string(body[:n]), want) {
					t.Errorf("%s: %d %s", address, response.StatusCode, body[:n])
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v\n%s%s", address, err, out.take(), log.take())
			}
		}
	}
	client.CloseIdleConnections()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the server does not stop")
	}
	if text := out.take(); !strings.Contains(text, "Clients with certificates: https://"+addresses[1]) {
		t.Errorf("the output is %s", text)
	}
	for _, address := range addresses {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			t.Errorf("%s is still open", address)
		}
	}
}
