package valetkey

import (
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/oauth"
)

// keyFile writes a master key of one letter.
func keyFile(t *testing.T, letter byte) string {
	t.Helper()
	key := make([]byte, 32)
	for i := range key {
		key[i] = letter
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// keyServer starts a node with master keys; previous may be "".
func keyServer(t *testing.T, databaseURL, key, previous string) *Server {
	t.Helper()
	s, _ := newTestServer(t, func(c *Config) {
		c.Database, c.MasterKeyFile, c.PreviousMasterKeyFile = databaseURL, key, previous
		c.Users = []configuration.User{{Username: "ada", Password: endedPassword}, {Username: "bob", Password: endedPassword}}
		c.Clients = []configuration.Client{{ID: "app", Secret: endedSecret, ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{"https://app.example.com/cb"}, SubjectType: "pairwise",
			GrantTypes: []string{"password", oauth.GrantTypeRefreshToken}, Scope: "openid offline_access",
		}}}
	})
	return s
}

// The master key is rotated while nodes have requests. What was issued before works at every step on every
// node: tokens, pairwise subjects, client secrets, sessions, secrets of authenticator applications.
func TestMasterKeyRotationWithoutDowntime(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		rotateWithoutDowntime(t, "sqlite:"+filepath.Join(t.TempDir(), "v.db"), 1)
	})
	t.Run("PostgreSQL", func(t *testing.T) { rotateWithoutDowntime(t, pgtest.Database(t), 2) })
}

func rotateWithoutDowntime(t *testing.T, databaseURL string, count int) {
	t.Setenv(configuration.MasterKeyVariable, "")
	first, second := keyFile(t, 1), keyFile(t, 2)
	var nodes []*Server
	for range count {
		nodes = append(nodes, keyServer(t, databaseURL, first, ""))
	}
	ctx := t.Context()
	ada, err := nodes[0].accounts.FindAny(ctx, "ada")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	enrolled, err := nodes[0].accounts.EnrolTOTP(began, ada, "Example")
	if err != nil {
		t.Fatal(err)
	}
	code := func(at time.Time) string {
		code, err := totp.GenerateCode(enrolled.Secret, at)
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	if _, err := nodes[0].accounts.ConfirmTOTP(ctx, began, ada, enrolled.Sealed, code(began.Add(-30*time.Second)), "Phone", identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	recovery, err := nodes[0].accounts.NewRecoveryCodes(ctx, began, ada.ID, identity.Activity{})
	if err != nil {
		t.Fatal(err)
	}
	if ada, err = nodes[0].accounts.FindAny(ctx, "ada"); err != nil {
		t.Fatal(err)
	}
	session, _, err := nodes[0].accounts.StartSession(ctx, began, ada, identity.SessionDetails{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The password grant does not ask for the second factor of the account: it is refused. So the tokens
	// are those of another user.
	form := url.Values{"grant_type": {"password"}, "username": {"bob"}, "password": {endedPassword}, "scope": {"openid offline_access"}}
	tokens := issue(t, nodes[0], form)
	subject := userInfoSubject(t, nodes[0], tokens)

	// Requests that go on all the time. A node may be replaced by another one.
	var current [2]atomic.Pointer[Server]
	for i := range current {
		current[i].Store(nodes[i%count])
	}
	var requests sync.WaitGroup
	var answered atomic.Int64
	stop := make(chan struct{})
	for i := range current {
		requests.Go(func() {
			mine := issue(t, current[i].Load(), form)
			for {
				select {
				case <-stop:
					return
				default:
				}
				node := current[i].Load()
				status, refreshed := post(t, node, "app", "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {mine["refresh_token"].(string)}})
				if status != http.StatusOK {
					t.Errorf("a request during the rotation: %d %v", status, refreshed)
					return
				}
				mine = refreshed
				answered.Add(1)
			}
		})
	}
	step := time.Duration(0)
	check := func(when string) {
		t.Helper()
		for seen := answered.Load(); answered.Load() < seen+5 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		for i := range count {
			node := current[i].Load()
			if got := userInfoSubject(t, node, tokens); got != subject {
				t.Errorf("%s: the pairwise subject is %q, not %q", when, got, subject)
			}
			if _, err := node.accounts.SignedIn(ctx, time.Now(), session); err != nil {
				t.Errorf("%s: session: %v", when, err)
			}
			if _, err := node.store.Keys(ctx); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		attempt := identity.FactorAttempt{User: ada, Method: identity.MethodTOTP, Remote: netip.MustParseAddr("192.0.2.1")}
		at := began.Add(step)
		step += 30 * time.Second // a code works once
		if _, err := current[0].Load().accounts.ProveTOTP(ctx, at, attempt, code(at)); err != nil {
			t.Errorf("%s: authenticator application: %v", when, err)
		}
		if _, _, err := current[0].Load().accounts.ProveRecoveryCode(ctx, at, attempt, recovery[0], identity.Activity{}); err != nil {
			t.Errorf("%s: recovery code: %v", when, err)
		}
		recovery = recovery[1:]
	}
	reload := func(node *Server, key, previous string) {
		t.Helper()
		c := configuration.Configuration{MasterKeyFile: key, PreviousMasterKeyFile: previous}
		if err := node.ReloadMasterKeys(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	// What "valetkey doctor" and the health page find.
	found := func(want string) {
		t.Helper()
		report, err := nodes[0].diagnose(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range report.Findings {
			if strings.HasPrefix(f.Name, "master_key.") {
				names = append(names, f.Name)
			}
		}
		if got := strings.Join(names, " "); got != want || want == "" && !slices.Contains(report.Passed, "master key") {
			t.Errorf("the health checks find %q, want %q", got, want)
		}
	}
	check("before")
	found("")

	// 1. Every node gets both keys: one by a reload, the other one is replaced.
	reload(nodes[0], second, first)
	if count > 1 {
		current[1].Store(keyServer(t, databaseURL, second, first))
	}
	check("with both keys")
	found("master_key.not_rotated")

	// 2. The command.
	command, err := database.Open(ctx, &configuration.Configuration{Database: databaseURL, MasterKeyFile: second, PreviousMasterKeyFile: first}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := command.RotateMasterKey(ctx, nil)
	if err != nil || sealed.Clients != 1 || sealed.Keys == 0 {
		t.Errorf("sealed %+v, %v", sealed, err)
	}
	if err := command.Store.Close(); err != nil {
		t.Error(err)
	}
	check("after the rotation")
	found("master_key.previous_unused")

	// 3. Every node loses the previous key.
	reload(nodes[0], second, "")
	if count > 1 {
		current[1].Store(keyServer(t, databaseURL, second, ""))
	}
	check("without the previous key")
	found("")
	close(stop)
	requests.Wait()
	t.Logf("%d requests", answered.Load())
	if err := nodes[0].ReloadMasterKeys(ctx, configuration.Configuration{MasterKeyFile: first}); err == nil {
		t.Error("a node takes the previous key alone")
	}
}

func userInfoSubject(t *testing.T, s *Server, tokens map[string]any) string {
	t.Helper()
	w := get(s, "https://login.example.com/userinfo", func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+tokens["access_token"].(string))
	})
	return w.Body.String()
}
