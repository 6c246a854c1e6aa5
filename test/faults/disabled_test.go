package faults

import (
	"os"
	"os/exec"
	"testing"

	"github.com/valetkey/valetkey/internal/person"
)

// A client refreshes continuously while another process disables the user. After that, nothing
// that the client got is valid, and it stays invalid when the user is enabled again. Other users
// are not affected.
func TestAC09_DisabledWhileTokensAreRefreshed(t *testing.T) {
	valetkey := buildProgram(t)
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := newSite(t, databaseURL)
		server := s.start(t)
		users := func(action string) {
			t.Helper()
			command := exec.CommandContext(t.Context(), valetkey, "users", action, "ada0", "--config", s.file)
			command.Env = append(os.Environ(), s.env...)
			if output, err := command.CombinedOutput(); err != nil {
				t.Fatalf("users %s: %v\n%s", action, err, output)
			}
		}
		signIn := func(name string) *customer {
			t.Helper()
			c := &customer{t: t, site: s, person: person.New(name, password)}
			c.must("sign in", c.authorize())
			c.must("redeem", c.redeem())
			return c
		}
		ada, other := signIn("ada0"), signIn("ada1")

		busy, rejected := make(chan struct{}), make(chan error, 1)
		go func() {
			for {
				next, err := ada.useToken(len(ada.tokens) - 1)
				if err != nil || next == "" {
					rejected <- err
					return
				}
				if ada.tokens = append(ada.tokens, next); len(ada.tokens) == 5 {
					close(busy)
				}
			}
		}()
		select {
		case <-busy:
		case err := <-rejected:
			t.Fatalf("rejected before the user was disabled (%v)", err)
		}
		users("disable")
		if err := <-rejected; err != nil {
			t.Fatal(err)
		}
		allRejected := func(when string) {
			t.Helper()
			for i := range ada.tokens {
				if next, err := ada.useToken(i); err != nil || next != "" {
					t.Errorf("%s: refresh token %d of %d works (%v)", when, i+1, len(ada.tokens), err)
				}
			}
		}
		allRejected("disabled")
		other.must("another user", other.refresh())
		users("enable")
		allRejected("enabled again")
		again := signIn("ada0")
		again.must("after signing in again", again.refresh())
		server.kill(t)
		server.waitKilled(t)
		t.Logf("disabled after %d refreshes", len(ada.tokens))
	})
}
