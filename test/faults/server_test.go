package faults

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/storage"
)

const (
	customers    = 6 // each has a separate browser
	clientID     = "photos"
	clientSecret = "photos-3b1f8c2d7e6a4950-b7c1"
	redirectURI  = "http://127.0.0.1:9/callback" // nothing listens here: the browser stops before it
	password     = "engine-no-1-of-1843"
	verifier     = "a-verifier-that-is-long-enough-for-RFC-7636-0123456789"
)

// The lifetimes allow for a retry after a lost response, even if a slow machine restarts slowly.
const declarations = `
lifetimes: {refresh_retry: 10m, authorization_code: 10m}
clients:
  - client_id: ` + clientID + `
    client_secret: ` + clientSecret + `
    redirect_uris: ["` + redirectURI + `"]
    grant_types: [authorization_code, refresh_token]
    scope: photos.read
scopes:
  - {name: photos.read, description: See your photos}
resources:
  - {identifier: "https://photos.example", scopes: [photos.read]}
`

// serve runs a complete server on the inherited listener.
func serve() error {
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	c, err := configuration.Read(os.Getenv(configurationVariable))
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	c.Source = "test"
	server, err := valetkey.New(valetkey.Config{Configuration: c, Logger: log})
	if err != nil {
		return err
	}
	return server.Serve(context.Background(), listener)
}

// site is what stays while servers are killed and started. A client that connects while there is
// none waits in the queue of the listener for the next one.
type site struct {
	issuer   string
	listener *os.File
	file     string // of the configuration
	env      []string
	client   *http.Client

	dying    atomic.Bool   // failures are expected
	answered chan struct{} // one for each response of the server
}

func newSite(t *testing.T, databaseURL string) *site {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s := &site{
		issuer: "http://" + listener.Addr().String(), file: filepath.Join(t.TempDir(), "valetkey.yaml"),
		client: &http.Client{Timeout: time.Minute}, answered: make(chan struct{}),
	}
	if s.listener, err = listener.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.listener.Close() })
	hash, err := identity.HashPassword(password)
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("issuer: %s\ndatabase: %q\n%susers:\n", s.issuer, databaseURL, declarations)
	for i := range customers {
		all += fmt.Sprintf("  - {username: ada%d, password_hash: %q}\n", i, hash)
	}
	if err := os.WriteFile(s.file, []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	s.env = []string{configurationVariable + "=" + s.file}
	if !strings.HasPrefix(databaseURL, "sqlite:") { // with SQLite, the server creates a key
		s.env = append(s.env, "VALETKEY_MASTER_KEY="+base64.StdEncoding.EncodeToString(masterKey))
	}
	return s
}

func (s *site) start(t *testing.T) *child {
	t.Helper()
	return start(t, "server", func(command *exec.Cmd) {
		command.Env = append(command.Env, s.env...)
		command.ExtraFiles = []*os.File{s.listener}
	})
}

// customer is a user at a browser, and the client's data about the user.
type customer struct {
	t      *testing.T
	site   *site
	person *person.Person

	code     string   // the latest
	redeemed bool     // a redemption was tried
	tokens   []string // refresh tokens of the code, the latest last
	revoked  []string
}

// work acts like clients do, until the server is killed.
func (c *customer) work() {
	for !c.site.dying.Load() {
		var err error
		switch n := rand.IntN(100); {
		case c.code == "":
			err = c.authorize()
		case len(c.tokens) == 0:
			err = c.redeem()
		case n < 15 && len(c.tokens) >= 2:
			err = c.repeat()
		case n < 30 && len(c.tokens) >= 3:
			err = c.replayToken()
		case n < 40:
			err = c.replayCode()
		default:
			err = c.refresh()
		}
		if err != nil {
			if !c.site.dying.Load() {
				c.t.Error(err)
			}
			return
		}
		c.site.answered <- struct{}{}
	}
}

func (c *customer) authorize() error {
	state := storage.NewID()
	challenge := sha256.Sum256([]byte(verifier))
	back, err := c.person.Visit(c.site.issuer+"/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {redirectURI}, "scope": {"photos.read"}, "state": {state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}.Encode(), redirectURI)
	if err != nil {
		return err
	}
	if c.code = back.Query().Get("code"); c.code == "" || back.Query().Get("state") != state {
		return fmt.Errorf("the browser returned with %s", back.RawQuery)
	}
	c.redeemed, c.tokens = false, nil
	return nil
}

// redeem may follow a redemption whose response was lost. Then the code is rejected, and the
// client starts over.
func (c *customer) redeem() error {
	first := !c.redeemed
	c.redeemed = true
	token, err := c.token(url.Values{
		"grant_type": {"authorization_code"}, "code": {c.code}, "redirect_uri": {redirectURI}, "code_verifier": {verifier},
	})
	switch {
	case err != nil:
		return err
	case token != "":
		c.tokens = []string{token}
	case first:
		return fmt.Errorf("lost: the code %s was never redeemed and is rejected", c.code)
	default:
		c.code = ""
	}
	return nil
}

// refresh may follow a refresh whose response was lost; it succeeds in any case.
func (c *customer) refresh() error {
	next, err := c.useToken(len(c.tokens) - 1)
	if err == nil && next == "" {
		err = fmt.Errorf("lost: refresh token %d of a code is rejected", len(c.tokens))
	}
	if err == nil {
		c.tokens = append(c.tokens, next)
	}
	return err
}

// repeat repeats a request whose response did arrive. The response is the same, unless the
// successor was used in a request whose response was lost: then everything that was issued for the
// code ends.
func (c *customer) repeat() error {
	next, err := c.useToken(len(c.tokens) - 2)
	switch {
	case err != nil || next == "":
		c.startOver()
	case next != c.tokens[len(c.tokens)-1]:
		err = fmt.Errorf("accepted twice: refresh token %d has two successors", len(c.tokens)-1)
	}
	return err
}

// replayToken uses a token whose successor was used, which ends everything that was issued for the
// code.
func (c *customer) replayToken() error {
	next, err := c.useToken(len(c.tokens) - 3)
	if err == nil && next != "" {
		return fmt.Errorf("accepted twice: refresh token %d of %d", len(c.tokens)-2, len(c.tokens))
	}
	if err == nil {
		c.revoked = append(c.revoked, c.tokens[len(c.tokens)-1])
	}
	c.startOver()
	return err
}

// startOver makes the customer sign in again, because the tokens are or may be revoked.
func (c *customer) startOver() { c.code = "" }

// replayCode uses a code again, which ends everything that was issued for it.
func (c *customer) replayCode() error {
	token, err := c.token(url.Values{
		"grant_type": {"authorization_code"}, "code": {c.code}, "redirect_uri": {redirectURI}, "code_verifier": {verifier},
	})
	if err != nil {
		// It is not known whether it is revoked.
		c.code = ""
		return err
	}
	if token != "" {
		return fmt.Errorf("accepted twice: the code %s", c.code)
	}
	c.code = ""
	c.revoked = append(c.revoked, c.tokens[len(c.tokens)-1])
	return nil
}

func (c *customer) useToken(i int) (next string, err error) {
	return c.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {c.tokens[i]}})
}

// token sends a token request and returns the refresh token of the response, "" for invalid_grant.
func (c *customer) token(form url.Values) (string, error) {
	request, err := http.NewRequest(http.MethodPost, c.site.issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(clientID, clientSecret)
	response, err := c.site.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	var result struct {
		RefreshToken string `json:"refresh_token"`
		Error        string `json:"error"`
	}
	if err := json.Unmarshal(body, &result); err != nil {
		return "", fmt.Errorf("token endpoint: %d %s", response.StatusCode, body)
	}
	if response.StatusCode == http.StatusOK && result.RefreshToken != "" {
		return result.RefreshToken, nil
	}
	if response.StatusCode == http.StatusBadRequest && result.Error == "invalid_grant" {
		return "", nil
	}
	return "", fmt.Errorf("token endpoint: %d %s", response.StatusCode, body)
}

// TestRE01_KilledServer kills a server while users sign in and clients redeem and refresh. Every
// tenth time, it is killed once more while it starts.
func TestRE01_KilledServer(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := newSite(t, databaseURL)
		var all []*customer
		for i := range customers {
			all = append(all, &customer{t: t, site: s, person: person.New(fmt.Sprint("ada", i), password)})
		}
		responses := 0
		server := s.start(t)
		for run := range kills() {
			if run%10 == 0 {
				dieEarly()
				server = s.restart(t, server)
			}
			working := s.work(all)
			for range 1 + rand.IntN(100) {
				select {
				case <-s.answered:
					responses++
				case <-working:
					t.FailNow()
				case err := <-server.ended:
					s.dying.Store(true)
					t.Fatalf("the server ended by itself: %v\n%s", err, server.stderr.String())
				}
			}
			// Clients that wait in the queue get responses from the next server.
			s.dying.Store(true)
			server = s.restart(t, server)
			for done := false; !done; {
				select {
				case <-s.answered:
					responses++
				case <-working:
					done = true
				}
			}
			s.client.CloseIdleConnections() // some belong to the dead server
			s.dying.Store(false)
			if t.Failed() {
				t.FailNow()
			}
		}
		revoked := 0
		for _, c := range all {
			for _, token := range c.revoked {
				next, err := c.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
				if err != nil || next != "" {
					t.Errorf("a refresh token that was revoked is accepted: %v", err)
				}
			}
			revoked += len(c.revoked)
		}
		s.checkKeys(t)
		server.kill(t)
		server.waitKilled(t)
		settle(t, databaseURL)
		checkIntegrity(t, databaseURL)
		t.Logf("%d kills, %d responses, %d codes revoked", kills(), responses, revoked)
	})
}

// TestRE18_KilledFirstStart kills servers while they create their database and keys; the next one
// continues.
func TestRE18_KilledFirstStart(t *testing.T) {
	for range max(kills()/5, 3) {
		onBoth(t, func(t *testing.T, databaseURL string) {
			s := newSite(t, databaseURL)
			server := s.start(t)
			dieEarly()
			server = s.restart(t, server)
			dieEarly()
			server = s.restart(t, server)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				s.checkKeys(t)
			}()
			select {
			case <-ended:
			case err := <-server.ended:
				t.Fatalf("the server does not start: %v\n%s", err, server.stderr.String())
			}
			server.kill(t)
			server.waitKilled(t)
			settle(t, databaseURL)
			checkIntegrity(t, databaseURL)
		})
	}
}

// checkKeys checks RE-18: servers that are killed while they start leave no second key behind.
func (s *site) checkKeys(t *testing.T) {
	t.Helper()
	response, err := s.client.Get(s.issuer + "/jwks")
	if err != nil {
		t.Error(err)
		return
	}
	defer response.Body.Close()
	var set struct {
		Keys []struct{ Alg string }
	}
	if err := json.NewDecoder(response.Body).Decode(&set); err != nil {
		t.Error(err)
	}
	algorithms := map[string]int{}
	for _, key := range set.Keys {
		if algorithms[key.Alg]++; algorithms[key.Alg] > 1 {
			t.Errorf("several keys for %s", key.Alg)
		}
	}
	if algorithms["ES256"] != 1 || algorithms["RS256"] != 1 {
		t.Errorf("keys: %v, want one for RS256 and one for ES256", algorithms)
	}
}

// work starts all customers, and returns a channel that is closed when they have stopped.
func (s *site) work(all []*customer) <-chan struct{} {
	var working sync.WaitGroup
	for _, c := range all {
		working.Go(c.work)
	}
	stopped := make(chan struct{})
	go func() {
		working.Wait()
		close(stopped)
	}()
	return stopped
}

func (s *site) restart(t *testing.T, server *child) *child {
	t.Helper()
	server.kill(t)
	server.waitKilled(t)
	return s.start(t)
}
