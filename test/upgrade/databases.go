package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/pgtest"
)

// storedIssuer is the issuer of the databases in testdata. Nothing listens there.
const storedIssuer = "http://127.0.0.1:18080"

// kept is what users and clients of a database of an older version have.
type kept struct {
	// Access and Refresh are tokens of ada0.
	Access, Refresh string
	// Revoked are a refresh token and its access token.
	Revoked [2]string
	// Cookies are those of the browser of ada0, who is signed in and has consented.
	Cookies string
	// PasswordHash is that of all users in the configuration. The user ada1 is disabled.
	PasswordHash string
}

// through returns a transport that connects to a node, whatever the URL is.
func through(n *node) http.RoundTripper {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", n.address)
	}}
}

// writeDatabases writes older.db.gz and older.dump, each with a file of what its users and clients have.
func writeDatabases(ctx context.Context, older, directory string) error {
	work, err := os.MkdirTemp("", "valetkey-upgrade-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	file := filepath.Join(work, "valetkey.db")
	if err := fillDatabase(ctx, older, "sqlite:"+file, filepath.Join(directory, "older.db.json")); err != nil {
		return err
	}
	if err := compress(file, filepath.Join(directory, "older.db.gz")); err != nil {
		return err
	}
	postgres, err := pgtest.StartTemporary()
	if err != nil {
		return err
	}
	err = fillDatabase(ctx, older, postgres.URL, filepath.Join(directory, "older.dump.json"))
	if err == nil {
		var program string
		if program, err = postgreSQLProgram("pg_dump"); err == nil {
			err = command(ctx, ".", program, "--format=custom", "--file="+filepath.Join(directory, "older.dump"), postgres.URL)
		}
	}
	return errors.Join(err, postgres.Stop())
}

// postgreSQLProgram returns the path of a program, on the PATH or in PostgreSQL's directory.
func postgreSQLProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("%s is not installed", name)
	}
	return found[len(found)-1], nil
}

func fillDatabase(ctx context.Context, program, database, to string) error {
	var k kept
	var err error
	if k.PasswordHash, err = identity.HashPassword(password); err != nil {
		return err
	}
	file := filepath.Join(filepath.Dir(program), "stored.yaml")
	if err := os.WriteFile(file, []byte(configuration(storedIssuer, database, k.PasswordHash, 0)), 0o600); err != nil {
		return err
	}
	n, err := startNode(ctx, "older", program, file)
	if err != nil {
		return err
	}
	defer n.kill()
	transport := through(n)
	revoked := newCustomer(transport, storedIssuer, "photos0", "ada0")
	if err := revoked.signIn(false); err != nil {
		return err
	}
	k.Revoked = [2]string{revoked.refresh, revoked.access}
	ada := newCustomer(transport, storedIssuer, "photos0", "ada0")
	disabled := newCustomer(transport, storedIssuer, "photos0", "ada1")
	if err := errors.Join(revoked.revoked(), ada.signIn(false), ada.refreshed(), disabled.signIn(false)); err != nil {
		return err
	}
	k.Access, k.Refresh = ada.access, ada.refresh
	var cookies []string
	for _, c := range ada.person.Cookies(storedIssuer) {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	k.Cookies = strings.Join(cookies, "; ")
	c := exec.CommandContext(ctx, program, "users", "disable", "ada1", "--config", file)
	c.Env = append(os.Environ(), "VALETKEY_MASTER_KEY="+masterKey)
	if output, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("disable a user: %w\n%s", err, output)
	}
	if err := n.stop(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(to, append(text, '\n'), 0o644)
}

// withCookies sends the authorization request of a browser that has been signed in before.
func (c *customer) withCookies(cookies string) error {
	request, err := http.NewRequest(http.MethodGet, c.authorizationRequest(true), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Cookie", cookies)
	response, err := c.http.Transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	back, err := url.Parse(response.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(back.String(), redirectURI) {
		return fmt.Errorf("%s to %q: %w", response.Status, back, err)
	}
	return c.redeem(back)
}

func compress(from, to string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	w, err := gzip.NewWriterLevel(target, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, source); err != nil {
		return err
	}
	return w.Close()
}
