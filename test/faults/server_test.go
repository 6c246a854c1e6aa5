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
	customers    = 6 // each with a browser of their own
	clientID     = "photos"
	clientSecret = "photos-3b1f8c2d7e6a4950-b7c1"
	redirectURI  = "http://127.0.0.1:9/callback" // nobody listens: the browser stops before it
	password     = "engine-no-1-of-1843"
	verifier     = "a-verifier-that-is-long-enough-for-RFC-7636-0123456789"
)

// A lost answer may be asked for again for as long as a slow machine takes to start again.
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

// serve is a whole server on the listener that it inherited.
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

// site is what stays while servers come and go. Whoever connects while there is none waits
// in the queue of the listener for the next.
type site struct {
	issuer   string
	listener *os.File
	file     string // of the configuration
	env      []string
	client   *http.Client

	dying    atomic.Bool   // a failure says nothing now
	answered chan struct{} // one for each answer of the server
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
	if !strings.HasPrefix(databaseURL, "sqlite:") { // which makes its own
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

// customer is somebody at a browser, and what the client keeps of theirs.
type customer struct {
	t      *testing.T
	site   *site
	person *person.Person

	code     string   // the latest
	redeemed bool     // an answer said so
	tokens   []string // refresh tokens since, the latest last
	revoked  []string
}

// work does what clients do, until the server is killed.
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
		return fmt.Errorf("the browser came back with %s", back.RawQuery)
	}
	c.redeemed, c.tokens = false, nil
	return nil
}

// redeem may come after a redemption whose answer was lost. Then the code is refused, and
// the client begins again.
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
		return fmt.Errorf("lost: the code %s was never redeemed and is refused", c.code)
	default:
		c.code = ""
	}
	return nil
}

// refresh may come after a refresh whose answer was lost; it is answered in any case.
func (c *customer) refresh() error {
	next, err := c.useToken(len(c.tokens) - 1)
	if err == nil && next == "" {
		err = fmt.Errorf("lost: refresh token %d of a code is refused", len(c.tokens))
	}
	if err == nil {
		c.tokens = append(c.tokens, next)
	}
	return err
}

// repeat asks again for a response that did arrive. It is the same, unless the successor was
// used in a request whose response was lost: then everything that came from the code ends.
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

// replayToken uses a token whose successor was used, which ends everything that came from
// the code.
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

// startOver has the customer sign in again, where the tokens are revoked, or may be.
func (c *customer) startOver() { c.code = "" }

// replayCode uses a code again, which ends everything that came from it.
func (c *customer) replayCode() error {
	token, err := c.token(url.Values{
		"grant_type": {"authorization_code"}, "code": {c.code}, "redirect_uri": {redirectURI}, "code_verifier": {verifier},
	})
	if err != nil {
		// Nobody knows whether it is revoked.
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

// token asks the token endpoint and returns the refresh token of its answer, "" for
// invalid_grant.
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
	var answer struct {
		RefreshToken string `json:"refresh_token"`
		Error        string `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", fmt.Errorf("token endpoint: %d %s", response.StatusCode, body)
	}
	if response.StatusCode == http.StatusOK && answer.RefreshToken != "" {
		return answer.RefreshToken, nil
	}
	if response.StatusCode == http.StatusBadRequest && answer.Error == "invalid_grant" {
		return "", nil
	}
	return "", fmt.Errorf("token endpoint: %d %s", response.StatusCode, body)
}

// TestRE01_KilledServer kills a server while people sign in and clients redeem and refresh.
// Every tenth time it dies once more while it starts.
func TestRE01_KilledServer(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := newSite(t, databaseURL)
		var all []*customer
		for i := range customers {
			all = append(all, &customer{t: t, site: s, person: person.New(fmt.Sprint("ada", i), password)})
		}
		answers := 0
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
					answers++
				case <-working:
					t.FailNow()
				case err := <-server.ended:
					s.dying.Store(true)
					t.Fatalf("the server ended by itself: %v\n%s", err, server.stderr.String())
				}
			}
			// Who waits in the queue is answered by the next server.
			s.dying.Store(true)
			server = s.restart(t, server)
			for done := false; !done; {
				select {
				case <-s.answered:
					answers++
				case <-working:
					done = true
				}
			}
			s.client.CloseIdleConnections() // some led to the dead server
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
		server.buried(t)
		settle(t, databaseURL)
		checkIntegrity(t, databaseURL)
		t.Logf("%d kills, %d answers, %d codes revoked", kills(), answers, revoked)
	})
}

// TestRE18_KilledFirstStart kills servers that make their database and keys; the next one
// goes on.
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
			server.buried(t)
			settle(t, databaseURL)
			checkIntegrity(t, databaseURL)
		})
	}
}

// checkKeys holds RE-18: servers that die while they start leave no second key behind.
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

// work lets all customers work, and returns what is closed when they have stopped.
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
	server.buried(t)
	return s.start(t)
}
