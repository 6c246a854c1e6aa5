package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/oauth/resourceserver"
)

// runBrowser is the program "browser" of the scripts: ada, or bob if PERSON says so, opens the address
// and allows everything.
func runBrowser() {
	user := person.New("ada", "engine no. 1")
	if os.Getenv("PERSON") == "bob" {
		user = person.New("bob", "builder no. 2")
	}
	if err := user.Allow(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "browser:", err)
		os.Exit(1)
	}
}

// expand replaces $NAME in a file.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
	// Files that were just written count as unsettled.
	long := time.Now().Add(-time.Minute)
	ts.Check(os.Chtimes(ts.MkAbs(args[0]), long, long))
}

// keypair writes a private key and a self-signed certificate for 127.0.0.1 into the file NAME.pem,
// and sets NAME to the public key as a JWK with the certificate.
func keypair(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: args[0]}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	file := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	file = append(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pem"), file, 0o600))
	signer, err := jose.NewSigner(jose.ES256, args[0], key)
	ts.Check(err)
	document, err := json.Marshal(signer.Public())
	ts.Check(err)
	var jwk map[string]any
	ts.Check(json.Unmarshal(document, &jwk))
	jwk["x5c"] = []string{base64.StdEncoding.EncodeToString(certificate)}
	document, err = json.Marshal(jwk)
	ts.Check(err)
	ts.Setenv(args[0], string(document))
}

// assertion KEY ISSUER SUBJECT AUDIENCE writes a JWT of the key's file into the file "assertion".
func assertion(ts *testscript.TestScript, _ bool, args []string) {
	key, err := readPrivateKey(ts.MkAbs(args[0] + ".pem"))
	ts.Check(err)
	signer, err := jose.NewSigner(jose.ES256, args[0], key)
	ts.Check(err)
	now := time.Now().Unix()
	payload, err := json.Marshal(map[string]any{"iss": args[1], "sub": args[2], "aud": args[3], "iat": now, "exp": now + 60, "jti": rand.Text()})
	ts.Check(err)
	token, err := signer.Sign("JWT", payload)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("assertion"), []byte(token+"\n"), 0o600))
}

// serveAPI PORT ISSUER [CERTIFICATE] serves an API: /photos returns the claims of the token and the
// body of the request, /payments demands that the user has signed in after the first call, and
// /elsewhere redirects. Proofs need a nonce. With a certificate it uses TLS, and requests clients'
// certificates.
func serveAPI(ts *testscript.TestScript, _ bool, args []string) {
	listener, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	ts.Check(err)
	scheme := "http"
	server := &httptest.Server{Listener: listener, Config: &http.Server{}}
	http1 := http.DefaultTransport.(*http.Transport).Clone()
	if len(args) == 3 {
		scheme = "https"
		pair, err := readCertificate(ts.MkAbs(args[2]+".pem"), "")
		ts.Check(err)
		server.TLS = &tls.Config{Certificates: []tls.Certificate{*pair}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
		roots := x509.NewCertPool()
		roots.AddCert(pair.Leaf)
		http1.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	guard, err := resourceserver.New(resourceserver.Config{
		Issuer: args[1], Resource: scheme + "://127.0.0.1:" + args[0], HTTPClient: &http.Client{Transport: http1},
		DPoP: &resourceserver.DPoP{NonceKey: bytes.Repeat([]byte{1}, 32)},
	})
	ts.Check(err)
	mux := http.NewServeMux()
	mux.Handle("/photos", guard.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := resourceserver.TokenFromContext(r.Context())
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s sub=%s scope=%q type=%s album=%s body=%s\n", r.Method, token.Subject, token.Scope.String(), r.Header.Get("Content-Type"), r.Header.Get("Album"), body)
	})))
	var mu sync.Mutex
	first := ""
	mux.Handle("/payments", guard.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.Header.Get("Authorization")
		mu.Lock()
		defer mu.Unlock()
		if first == "" {
			first = sent
		}
		if sent == first {
			w.Header().Set("WWW-Authenticate", `DPoP error="insufficient_user_authentication", error_description="sign in again", max_age="0", scope="admin"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		token, _ := resourceserver.TokenFromContext(r.Context())
		fmt.Fprintf(w, "paid, signed in at %v, scope=%q\n", token.AuthTime.Unix() > 0, token.Scope.String())
	})))
	mux.Handle("/elsewhere", http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound))
	server.Config.Handler = mux
	if len(args) == 3 {
		server.StartTLS()
	} else {
		server.Start()
	}
	ts.Defer(server.Close)
}

// mode FILE MODE compares the mode of a file with an octal number.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has the mode %s, not %s", args[0], got, args[1])
	}
}

// The token of the device grant is bound to a key, too.
func TestTokenOfADevice(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	server := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
		Users: []configuration.User{{Username: "ada", Password: "engine no. 1"}},
		Clients: []configuration.Client{{ID: "tv", ClientMetadata: oauth.ClientMetadata{
			TokenEndpointAuthMethod: oauth.AuthMethodNone, GrantTypes: []string{oauth.GrantTypeDeviceCode}, ApplicationType: oauth.ApplicationNative,
		}}},
	}})
	reader, log := io.Pipe()
	defer log.Close()
	go func() {
		lines := bufio.NewScanner(reader)
		for lines.Scan() {
			if found := regexp.MustCompile(`or open (\S+)`).FindStringSubmatch(lines.Text()); found != nil {
				if err := person.New("ada", "engine no. 1").Allow(found[1]); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	var out strings.Builder
	args := []string{"token", "--grant", "device_code", "--issuer", server.Issuer, "--client-id", "tv", "--dpop", "--json", "--timeout", "1m"}
	if code := run(t.Context(), args, &out, log); code != 0 {
		t.Fatalf("exit code %d: %s", code, &out)
	}
	if !strings.Contains(out.String(), `"token_type": "DPoP"`) || !strings.Contains(out.String(), `"dpop_jkt": "`) {
		t.Errorf("printed: %s", &out)
	}
	kept, err := os.ReadFile(filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "valetkey", "tokens", "default.json"))
	if err != nil || !bytes.Contains(kept, []byte(`"dpop_key"`)) {
		t.Errorf("kept: %v", err)
	}
}

// The user approves a backchannel authentication request on a page of their account.
func TestTokenByBackchannelAuthentication(t *testing.T) {
	const secret = "a long secret of the call centre 0123456789"
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv(configuration.ClientSecretVariable, secret)
	server := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
		Users: []configuration.User{{Username: "ada", Password: "engine no. 1"}},
		Clients: []configuration.Client{{ID: "desk", Secret: secret, ClientMetadata: oauth.ClientMetadata{
			GrantTypes: []string{oauth.GrantTypeCIBA}, BackchannelTokenDeliveryMode: "poll",
		}}},
	}})
	reader, log := io.Pipe()
	defer log.Close()
	go func() {
		lines := bufio.NewScanner(reader)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "Waiting for ada") {
				if err := person.New("ada", "engine no. 1").Approve(server.Issuer); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	var out strings.Builder
	args := []string{"token", "--grant", "ciba", "--issuer", server.Issuer, "--client-id", "desk", "--scope", "openid", "--login-hint", "ada", "--binding-message", "Call 4711", "--json", "--timeout", "1m"}
	if code := run(t.Context(), args, &out, log); code != 0 {
		t.Fatalf("exit code %d: %s", code, &out)
	}
	if !strings.Contains(out.String(), `"access_token"`) || !strings.Contains(out.String(), `"id_token"`) {
		t.Errorf("printed: %s", &out)
	}
}

// The device flow of the login is off by default (testdata/login.txtar).
func TestLoginOnAnotherDevice(t *testing.T) {
	loginOnAnotherDevice(t, "", nil)
}

// The management API is on its own listener, and the sign-in at the issuer.
func TestLoginToAnAPIOnItsOwnListener(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	loginOnAnotherDevice(t, "http://"+listener.Addr().String(), func(server *authservertest.Server) {
		go func() { ended <- server.ServeManagement(ctx, listener) }()
	})
}

func loginOnAnotherDevice(t *testing.T, apiURL string, started func(*authservertest.Server)) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv(configuration.ServerVariable, "")
	t.Setenv(configuration.ClientIDVariable, "")
	t.Setenv("VALETKEY_DATABASE", "")
	management := configuration.Management{CommandLine: configuration.CommandLineDevice}
	login := []string{"login", "--device", "--timeout", "1m"}
	if apiURL != "" {
		management.Listen = strings.TrimPrefix(apiURL, "http://")
		login = append(login, "--api", apiURL)
	}
	server := authservertest.NewServer(t, authservertest.Config{
		Declarations: configuration.Declarations{Users: []configuration.User{{Username: "ada", Password: "engine no. 1", Administrator: true}}},
		Management:   management,
	})
	if started != nil {
		started(server)
	}
	reader, log := io.Pipe()
	defer log.Close()
	go func() {
		lines := bufio.NewScanner(reader)
		for lines.Scan() {
			if found := regexp.MustCompile(`or open (\S+)`).FindStringSubmatch(lines.Text()); found != nil {
				if err := person.New("ada", "engine no. 1").Allow(found[1]); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	var out strings.Builder
	for _, args := range [][]string{append(login, server.Issuer), {"users", "list"}, {"registration", "tokens", "--json"}, {"health"}, {"logout"}} {
		if code := run(t.Context(), args, &out, log); code != 0 {
			t.Fatalf("valetkey %v: exit code %d: %s", args, code, &out)
		}
	}
	if !strings.Contains(out.String(), "ada") {
		t.Errorf("printed: %s", &out)
	}
}
