package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
)

// clientFlags describe a client and what it requests. They are kept with its tokens, so they name
// the files of secrets and keys, and contain none.
type clientFlags struct {
	Issuer     string `help:"The issuer identifier of the authorization server." required:"" placeholder:"URL" json:"issuer"`
	ClientID   string `help:"The client_id." required:"" placeholder:"ID" json:"client_id"`
	AuthMethod string `help:"The client authentication method, such as private_key_jwt or tls_client_auth. The default follows from the secret or key." placeholder:"METHOD" json:"auth_method,omitempty"`

	ClientSecretFile string `help:"A file with the client's secret. The default is $VALETKEY_CLIENT_SECRET." placeholder:"FILE" json:"client_secret_file,omitempty"`

	Key        string `help:"The private key (PEM) for private_key_jwt and for request objects." placeholder:"FILE" json:"key_file,omitempty"`
	KeyID      string `name:"key-id" help:"The kid of that key." placeholder:"KID" json:"key_id,omitempty"`
	SigningAlg string `help:"The algorithm of client assertions. The default follows from the key." placeholder:"ALG" json:"signing_alg,omitempty"`

	Certificate    string `help:"The client's certificate (PEM), for mutual TLS." placeholder:"FILE" json:"certificate_file,omitempty"`
	CertificateKey string `help:"The private key (PEM) of the certificate. The default is the file of the certificate." placeholder:"FILE" json:"certificate_key_file,omitempty"`

	DPoP    bool   `name:"dpop" help:"Bind the tokens to a new key." json:"dpop,omitempty"`
	DPoPKey string `name:"dpop-key" help:"Bind the tokens to this private key (PEM)." placeholder:"FILE" json:"dpop_key_file,omitempty"`

	Scope                []string `help:"The scopes, separated by commas." placeholder:"SCOPE" json:"scope,omitempty"`
	Resource             []string `help:"The APIs that the token is for (RFC 8707)." placeholder:"URI" json:"resource,omitempty"`
	AuthorizationDetails string   `help:"Authorization details (RFC 9396): a JSON object or array, or @FILE." placeholder:"JSON" json:"authorization_details,omitempty"`

	PAR         bool   `name:"par" help:"Push the authorization request (RFC 9126)." json:"par,omitempty"`
	JAR         string `name:"jar" help:"Sign the authorization request (RFC 9101) with this algorithm." placeholder:"ALG" json:"jar,omitempty"`
	RedirectURI string `help:"The redirect URI on loopback. Without a port, any free port is used." default:"http://127.0.0.1/callback" placeholder:"URI" json:"redirect_uri,omitempty"`
	NoBrowser   bool   `help:"Print the address of the sign-in page, but open no browser." json:"no_browser,omitempty"`
}

// absolute makes the names of files independent of the working directory, and reads authorization
// details from their file.
func (f *clientFlags) absolute() (err error) {
	for _, file := range []*string{&f.ClientSecretFile, &f.Key, &f.Certificate, &f.CertificateKey, &f.DPoPKey} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil {
			return fmt.Errorf("find %s: %w", *file, err)
		}
	}
	if name, isFile := strings.CutPrefix(f.AuthorizationDetails, "@"); isFile {
		text, err := os.ReadFile(name)
		if err != nil {
			return usageError{fmt.Errorf("read the authorization details: %w", err)}
		}
		f.AuthorizationDetails = string(text)
	}
	return nil
}

// discover returns the client that the flags describe.
func (f *clientFlags) discover(ctx context.Context) (*client.Client, error) {
	config := client.Config{
		Issuer: f.Issuer, ClientID: f.ClientID, AuthMethod: f.AuthMethod, KeyID: f.KeyID, SigningAlg: jose.Algorithm(f.SigningAlg),
		RedirectURI: f.RedirectURI, RequestObjectSigningAlg: jose.Algorithm(f.JAR), PushAuthorizationRequests: f.PAR,
		DPoP: f.DPoP, Scopes: f.Scope, Resources: f.Resource,
	}
	var err error
	if config.ClientSecret, err = f.clientSecret(); err != nil {
		return nil, err
	}
	if f.Key != "" {
		if config.PrivateKey, err = readPrivateKey(f.Key); err != nil {
			return nil, err
		}
	}
	if f.Certificate != "" {
		if config.Certificate, err = readCertificate(f.Certificate, f.CertificateKey); err != nil {
			return nil, err
		}
	}
	if f.DPoPKey != "" {
		if config.DPoPKey, err = readDPoPKey(f.DPoPKey); err != nil {
			return nil, err
		}
	}
	if config.AuthorizationDetails, err = parseDetails(f.AuthorizationDetails); err != nil {
		return nil, err
	}
	return client.Discover(ctx, config)
}

// clientSecret returns the secret of the file or the environment; "" for none. A secret is never a
// flag: other users of the machine can read command lines.
func (f *clientFlags) clientSecret() (string, error) {
	if f.ClientSecretFile == "" {
		return os.Getenv(configuration.ClientSecretVariable), nil
	}
	return readSecret(f.ClientSecretFile, "the client's secret")
}

// maxSecretFile is longer than any secret, key, token or assertion.
const maxSecretFile = 1 << 20

// readSecret returns the content of a file, "-" for standard input, without the end of the line.
func readSecret(name, what string) (string, error) {
	content, err := readInput(name, maxSecretFile)
	if err != nil {
		return "", usageError{fmt.Errorf("read %s: %w", what, err)}
	}
	text := strings.TrimRight(string(content), "\r\n")
	if text == "" {
		return "", usageError{fmt.Errorf("read %s: %s is empty", what, name)}
	}
	return text, nil
}

// readInput returns the content of a file, "-" for standard input, of at most limit bytes.
func readInput(name string, limit int64) ([]byte, error) {
	input := os.Stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		input = file
	}
	content, err := io.ReadAll(io.LimitReader(input, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return content, err
}

// readPrivateKey reads the first private key of a PEM file.
func readPrivateKey(name string) (crypto.Signer, error) {
	rest, err := readInput(name, maxSecretFile)
	if err != nil {
		return nil, usageError{fmt.Errorf("read the private key: %w", err)}
	}
	for {
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, usageError{fmt.Errorf("read the private key: %s has no PEM block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY", name)}
		}
		rest = after
		var key any
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default: // such as EC PARAMETERS
			continue
		}
		if err != nil {
			return nil, usageError{fmt.Errorf("read the private key %s: %w", name, err)}
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, usageError{fmt.Errorf("read the private key %s: a %T cannot sign", name, key)}
		}
		return signer, nil
	}
}

func readCertificate(certificate, key string) (*tls.Certificate, error) {
	if key == "" {
		key = certificate
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, usageError{fmt.Errorf("read the certificate: %w", err)}
	}
	return &pair, nil
}

func readDPoPKey(name string) (*dpop.Key, error) {
	private, err := readPrivateKey(name)
	if err != nil {
		return nil, err
	}
	for _, alg := range dpop.Algorithms() {
		if key, err := dpop.NewKey(alg, private); err == nil {
			return key, nil
		}
	}
	return nil, usageError{fmt.Errorf("the key in %s does not fit any algorithm for DPoP proofs", name)}
}

// parseDetails parses the value of --authorization-details.
func parseDetails(text string) ([]any, error) {
	if text == "" {
		return nil, nil
	}
	var details []json.RawMessage
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		text = "[" + text + "]"
	}
	if err := json.Unmarshal([]byte(text), &details); err != nil || len(details) == 0 {
		return nil, usageError{errors.New("--authorization-details must be a JSON object, an array of objects, or @FILE")}
	}
	all := make([]any, len(details))
	for i, detail := range details {
		all[i] = detail
	}
	return all, nil
}

// signIn are the options of an interactive sign-in that its result depends on.
type signIn struct {
	ACRValues []string
	MaxAge    *time.Duration
	Prompt    []string
	LoginHint string
}

// signIn signs the user in with the browser.
func (f *clientFlags) signIn(ctx context.Context, o *output, c *client.Client, how signIn) (*client.Tokens, error) {
	return c.Loopback(ctx, client.LoopbackOptions{
		AuthorizationOptions: client.AuthorizationOptions{
			ACRValues: how.ACRValues, MaxAge: how.MaxAge, Prompt: how.Prompt, LoginHint: how.LoginHint,
		},
		OpenBrowser: func(address string) error {
			fmt.Fprintf(o.log, "Sign in at %s\n", address)
			if f.NoBrowser {
				return nil
			}
			if err := openBrowser(address); err != nil {
				fmt.Fprintln(o.log, "No browser was opened. Open the address yourself.")
			}
			return nil
		},
	})
}
