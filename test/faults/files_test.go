package faults

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/internal/person"
)

// A node is killed and starts again with its old file, while another one has the new file.
// Nothing that the new file changed is undone.
func TestOP03_TwoNodesWithTwoFiles(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		older := newSite(t, databaseURL)
		newer := &site{issuer: older.issuer, listener: older.listener, client: older.client, answered: make(chan struct{})}
		newer.file = filepath.Join(t.TempDir(), "valetkey.yaml")
		text, err := os.ReadFile(older.file)
		if err != nil {
			t.Fatal(err)
		}
		// The new file adds grace and drops ada5.
		users := strings.Split(strings.TrimSpace(string(text)), "\n")
		last := users[len(users)-1]
		users[len(users)-1] = strings.Replace(last, "ada5", "grace", 1)
		if err := os.WriteFile(newer.file, []byte(strings.Join(users, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := time.Now().Add(-time.Hour)
		if err := os.Chtimes(older.file, before, before); err != nil {
			t.Fatal(err)
		}
		newer.env = append(newer.env, older.env...)
		newer.env[0] = configurationVariable + "=" + newer.file

		ada := &customer{t: t, site: older, person: person.New("ada0", password)}
		dropped := &customer{t: t, site: older, person: person.New("ada5", password)}
		grace := &customer{t: t, site: older, person: person.New("grace", password)}
		works := func(when string, c *customer, steps ...func() error) {
			t.Helper()
			for _, step := range steps {
				if err := step(); err != nil {
					t.Fatalf("%s: %v", when, err)
				}
			}
		}
		first := older.start(t)
		works("with the old file", ada, ada.authorize, ada.redeem)
		works("with the old file", dropped, dropped.authorize, dropped.redeem)
		first.kill(t)
		first.waitKilled(t)

		second := newer.start(t)
		works("with the new file", grace, grace.authorize, grace.redeem)
		works("with the new file", ada, ada.refresh)
		if next, err := dropped.useToken(0); err != nil || next != "" {
			t.Errorf("a retired user's refresh token still works (%v)", err)
		}

		first = older.start(t)
		second.kill(t)
		second.waitKilled(t)
		response, err := older.client.Get(older.issuer + "/readyz") // waits for the first node
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), "older") {
			t.Errorf("/readyz: %d %q (%v)", response.StatusCode, body, err)
		}
		works("with the old file again", grace, grace.refresh, grace.authorize, grace.redeem)
		works("with the old file again", ada, ada.refresh)
		if next, err := dropped.useToken(0); err != nil || next != "" {
			t.Errorf("the old file restores the dropped user (%v)", err)
		}
		first.kill(t)
		first.waitKilled(t)
		if log := first.stderr.String(); !strings.Contains(log, "declarations.older") {
			t.Errorf("the log does not report the older file:\n%s", log)
		}
	})
}
