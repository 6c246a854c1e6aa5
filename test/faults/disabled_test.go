package faults

import (
	"os"
	"os/exec"
	"testing"

	"github.com/valetkey/valetkey/internal/person"
)

// TestAC09_DisabledWhileTokensAreRefreshed: a client refreshes without a pause while another
// process disables the user. When that returns, nothing that the client got is valid, and
// nothing of it comes back when the user is enabled again. Other users notice nothing.
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

		busy, refused := make(chan struct{}), make(chan error, 1)
		go func() {
			for {
				next, err := ada.useToken(len(ada.tokens) - 1)
				if err != nil || next == "" {
					refused <- err
					return
				}
				if ada.tokens = append(ada.tokens, next); len(ada.tokens) == 5 {
					close(busy)
				}
			}
		}()
		select {
		case <-busy:
		case err := <-refused:
			t.Fatalf("refused before the user was disabled (%v)", err)
		}
		users("disable")
		if err := <-refused; err != nil {
			t.Fatal(err)
		}
		allRefused := func(when string) {
			t.Helper()
			for i := range ada.tokens {
				if next, err := ada.useToken(i); err != nil || next != "" {
					t.Errorf("%s: refresh token %d of %d works (%v)", when, i+1, len(ada.tokens), err)
				}
			}
		}
		allRefused("disabled")
		other.must("another user", other.refresh())
		users("enable")
		allRefused("enabled again")
		again := signIn("ada0")
		again.must("after signing in again", again.refresh())
		server.kill(t)
		server.buried(t)
		t.Logf("disabled after %d refreshes", len(ada.tokens))
	})
}
