package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/pgtest"
)

// customers is how many users sign in at the same time.
const customers = 4

// configuration returns the text of a configuration file. Each revision declares one more client and one
// more user.
func configuration(issuer, database, hash string, revision int) string {
	var text strings.Builder
	fmt.Fprintf(&text, `issuer: %s
database: %q
trusted_proxies: [127.0.0.1]
lifetimes: {access_token: 876000h, refresh_token: 876000h, refresh_token_max: 876000h, session: 876000h, key_rotation: 876000h, key_publish_ahead: 3s, refresh_retry: 1s}
scopes:
  - {name: photos.read, description: See your photos}
resources:
  - {identifier: "https://photos.example", scopes: [photos.read]}
`, issuer, database)
	text.WriteString("users:\n")
	for i := range customers + revision {
		fmt.Fprintf(&text, "  - {username: ada%d, password_hash: %q}\n", i, hash)
	}
	text.WriteString("clients:\n")
	for i := range 1 + revision {
		fmt.Fprintf(&text, `  - client_id: photos%d
    client_secret: %s
    redirect_uris: ["%s"]
    grant_types: [authorization_code, refresh_token]
    scope: openid photos.read
`, i, clientSecret, redirectURI)
	}
	return text.String()
}

// balancer sends requests to nodes in turns.
type balancer struct {
	mu    sync.Mutex
	nodes []string
	next  int
	// requests counts those of each node.
	requests map[string]int
}

func (b *balancer) use(nodes ...*node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes = nil
	for _, n := range nodes {
		b.nodes = append(b.nodes, n.address)
	}
}

func (b *balancer) rewrite(r *httputil.ProxyRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	address := b.nodes[b.next%len(b.nodes)]
	b.requests[address]++
	r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", address, r.In.Host
	r.SetXForwarded()
}

// shift makes the next request go to the other node than it would.
func (b *balancer) shift() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
}

func sideBySide(ctx context.Context, directory, older, newer string) (err error) {
	postgres, err := pgtest.StartTemporary()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, postgres.Stop()) }()
	database := postgres.URL
	hash, err := identity.HashPassword(password)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	issuer := "http://" + listener.Addr().String()
	b := &balancer{requests: map[string]int{}}
	proxy := &http.Server{Handler: &httputil.ReverseProxy{Rewrite: b.rewrite, ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelError)}, ReadHeaderTimeout: time.Minute}
	go proxy.Serve(listener)
	defer proxy.Close()
	files := map[string]string{}
	write := func(name string, revision int) error {
		files[name] = filepath.Join(directory, name+".yaml")
		return os.WriteFile(files[name], []byte(configuration(issuer, database, hash, revision)), 0o600)
	}
	for _, name := range []string{"older", "newer"} {
		if err := write(name, 0); err != nil {
			return err
		}
	}
	cli := func(args ...string) (string, error) {
		c := exec.CommandContext(ctx, newer, append(args, "--config", files["newer"])...)
		c.Env = append(os.Environ(), "VALETKEY_MASTER_KEY="+masterKey)
		output, err := c.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("valetkey %s: %w\n%s", strings.Join(args, " "), err, output)
		}
		return string(output), err
	}

	step("The older version creates the database; a user signs in.")
	old, err := startNode(ctx, "older", older, files["older"])
	if err != nil {
		return err
	}
	defer old.kill()
	b.use(old)
	early := newCustomer(nil, issuer, "photos0", "ada0")
	if err := errors.Join(early.signIn(false), early.refreshed()); err != nil {
		return err
	}

	step("Others sign in all the time. The newer version migrates the database.")
	load := startLoad(issuer)
	defer load.stop()
	output, pending := cli("migrate", "--dry-run")
	if pending == nil || !strings.Contains(output, "Nothing was changed") {
		return fmt.Errorf("the dry run finds nothing: %w", pending)
	}
	recent, err := startNode(ctx, "newer", newer, files["newer"])
	if err != nil {
		return err
	}
	defer recent.kill()
	b.use(old, recent)
	if err := load.wait(ctx, 20); err != nil {
		return err
	}

	step("What the older version issued works on both.")
	for range 4 {
		if err := errors.Join(early.refreshed(), early.check(true)); err != nil {
			return err
		}
		b.shift()
	}
	if err := early.signIn(true); err != nil {
		return fmt.Errorf("with the session and the consent: %w", err)
	}

	step("The configuration changes on both, and both use it.")
	for revision, name := range []string{"newer", "older", "newer", "older"} {
		if err := write(name, revision+1); err != nil {
			return err
		}
		c := newCustomer(nil, issuer, fmt.Sprint("photos", revision+1), fmt.Sprint("ada", customers+revision))
		if err := eventually(ctx, func() error { return c.signIn(false) }); err != nil {
			return fmt.Errorf("after the file of the %s version changed: %w", name, err)
		}
		for range 4 {
			if err := errors.Join(c.refreshed(), c.check(true)); err != nil {
				return err
			}
			b.shift()
		}
		// The other file becomes the same, as in a rollout.
		for _, other := range []string{"older", "newer"} {
			if err := write(other, revision+1); err != nil {
				return err
			}
		}
	}

	step("Keys are rotated. Both publish the new ones, sign with them, and accept what the other has signed.")
	for range 3 {
		before, err := kids(recent, issuer)
		if err != nil {
			return err
		}
		if _, err := cli("keys", "rotate"); err != nil {
			return err
		}
		for _, n := range []*node{old, recent} {
			err := eventually(ctx, func() error {
				after, err := kids(n, issuer)
				if err == nil && len(after) <= len(before) {
					err = fmt.Errorf("the %s version publishes only %d keys", n.name, len(after))
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		for range 4 {
			err := eventually(ctx, func() error {
				err := errors.Join(early.refreshed(), early.check(true))
				if err == nil && slices.Contains(before, kidOf(early.access)) {
					err = errors.New("the new key does not sign")
				}
				return err
			})
			if err != nil {
				return err
			}
			b.shift()
		}
	}

	step("A user is disabled: both refuse at once.")
	last := newCustomer(nil, issuer, "photos0", fmt.Sprint("ada", customers))
	if err := last.signIn(false); err != nil {
		return err
	}
	if _, err := cli("users", "disable", last.person.Username); err != nil {
		return err
	}
	if err := last.ended(); err != nil {
		return fmt.Errorf("of a disabled user: %w", err)
	}

	step("The older version does not start again, and says why.")
	if again, err := startNode(ctx, "second older", older, files["older"]); err == nil || !strings.Contains(err.Error(), "a newer valetkey migrated it") {
		if err == nil {
			again.kill()
		}
		return fmt.Errorf("the older version on the newer database: %v", err)
	}

	step("The older version is replaced.")
	if err := load.wait(ctx, 20); err != nil {
		return err
	}
	second, err := startNode(ctx, "second newer", newer, files["older"])
	if err != nil {
		return err
	}
	defer second.kill()
	b.use(second, recent)
	if err := old.stop(); err != nil {
		return err
	}
	if err := errors.Join(load.wait(ctx, 20), early.refreshed(), early.check(true)); err != nil {
		return err
	}
	if err := load.stop(); err != nil {
		return err
	}
	if output, err := cli("audit", "verify"); err != nil {
		return err
	} else {
		fmt.Print("  ", output)
	}
	if err := errors.Join(recent.stop(), second.stop()); err != nil {
		return err
	}
	problems := slices.Concat(old.problems(), recent.problems(), second.problems())
	if len(problems) > 0 {
		return fmt.Errorf("errors in the logs:\n%s", strings.Join(problems, ""))
	}
	fmt.Printf("Done: %d flows of %d users without an error; requests: older %d, newer %d and %d.\n",
		load.flows.Load(), customers, b.requests[old.address], b.requests[recent.address], b.requests[second.address])
	return nil
}

func step(text string) { fmt.Println(time.Now().Format("15:04:05"), text) }

// kidOf returns the kid of a JWT.
func kidOf(token string) string {
	encoded, _, _ := strings.Cut(token, ".")
	var header struct{ Kid string }
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	if err == nil {
		err = json.Unmarshal(text, &header)
	}
	if err != nil {
		return err.Error()
	}
	return header.Kid
}

// kids returns the keys that a node publishes.
func kids(n *node, issuer string) (kids []string, err error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+n.address+"/jwks", nil)
	if err != nil {
		return nil, err
	}
	at, err := url.Parse(issuer)
	if err != nil {
		return nil, err
	}
	request.Host = at.Host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var set struct{ Keys []struct{ Kid string } }
	err = json.NewDecoder(response.Body).Decode(&set)
	for _, key := range set.Keys {
		kids = append(kids, key.Kid)
	}
	slices.Sort(kids)
	return kids, err
}

// load is users who sign in and applications that use the tokens, until it is stopped.
type load struct {
	flows   atomic.Int64
	done    chan struct{}
	working sync.WaitGroup
	once    sync.Once
	mu      sync.Mutex
	failed  error
}

func startLoad(issuer string) *load {
	l := &load{done: make(chan struct{})}
	for i := range customers {
		l.working.Go(func() {
			for turn := 0; ; turn++ {
				select {
				case <-l.done:
					return
				default:
				}
				c := newCustomer(nil, issuer, "photos0", fmt.Sprint("ada", i))
				if err := c.flow(turn); err != nil {
					l.mu.Lock()
					l.failed = errors.Join(l.failed, fmt.Errorf("user %d, turn %d: %w", i, turn, err))
					l.mu.Unlock()
					return
				}
				l.flows.Add(1)
			}
		})
	}
	return l
}

// flow is one user's sign-in, and what an application does with it.
func (c *customer) flow(turn int) error {
	if err := c.signIn(false); err != nil {
		return err
	}
	for range 3 {
		if err := c.refreshed(); err != nil {
			return err
		}
		if err := c.check(true); err != nil {
			return err
		}
	}
	if err := c.signIn(true); err != nil {
		return err
	}
	if turn%2 == 0 {
		return c.replayed()
	}
	return c.revoked()
}

// wait returns when so many more flows have ended.
func (l *load) wait(ctx context.Context, flows int64) error {
	until := l.flows.Load() + flows
	return eventually(ctx, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.failed != nil {
			return stopTrying{l.failed}
		}
		if l.flows.Load() < until {
			return errors.New("the load is slow")
		}
		return nil
	})
}

func (l *load) stop() error {
	l.once.Do(func() { close(l.done) })
	l.working.Wait()
	return l.failed
}
