package valetkey

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestOR05_AnUntrustedProxyIsLoggedOnceAnHour(t *testing.T) {
	s, log := newTestServer(t, func(c *Config) { c.TrustedProxies = []string{"10.0.0.0/8"} })
	through := func(peer string) {
		get(s, "https://login.example.com/jwks", func(r *http.Request) {
			r.RemoteAddr = peer
			r.Header = http.Header{"X-Forwarded-For": {"198.51.100.1"}}
		})
	}
	warnings := func() int { return strings.Count(log.String(), "proxy.not_trusted") }
	get(s, "https://login.example.com/jwks", nil)
	through("10.0.0.1:5")
	if warnings() != 0 {
		t.Errorf("a warning without a reason:\n%s", log)
	}
	for range 100 {
		through("192.0.2.1:5")
	}
	if warnings() != 1 || !strings.Contains(log.String(), "address=192.0.2.1") {
		t.Errorf("%d warnings, want one that names 192.0.2.1:\n%s", warnings(), log)
	}
	s.warnedOfProxy.Store(time.Now().Add(-proxyWarningEvery).UnixNano())
	through("192.0.2.1:5")
	if warnings() != 2 {
		t.Errorf("%d warnings an hour later, want 2", warnings())
	}
}
