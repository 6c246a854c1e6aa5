package authserver_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/storage/memory"
)

func TestInteractionIDIsEchoedAndLogged(t *testing.T) {
	var log lockedBuffer
	s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, memory.New(), func(c *authserver.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	send := func(path string, ids ...string) string {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader("grant_type=password"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for _, id := range ids {
			r.Header.Add("x-fapi-interaction-id", id)
		}
		return s.do(r).header.Get("x-fapi-interaction-id")
	}
	const id = "c770aef3-6784-41f7-8e0e-ff5f97bddb3a"
	for _, path := range []string{"/token", "/par", "/introspect", "/revoke", "/device_authorization", "/userinfo"} {
		if got := send(path, id); got != id {
			t.Errorf("%s returns %q, want the ID of the request", path, got)
		}
		if got := send(path); got != "" {
			t.Errorf("%s returns %q for a request without an ID", path, got)
		}
	}
	if !strings.Contains(log.String(), "interaction_id="+id) {
		t.Errorf("the ID is not in the log:\n%s", log.String())
	}
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, bad := range [][]string{{""}, {"a b"}, {"x\x1b[31m"}, {"ü"}, {strings.Repeat("a", 65)}, {id, id}} {
		if got := send("/token", bad...); !uuid.MatchString(got) {
			t.Errorf("for %q, the ID is %q, want a new UUID", bad, got)
		}
	}
	if strings.Contains(log.String(), "\x1b") || strings.Contains(log.String(), strings.Repeat("a", 65)) {
		t.Error("an invalid ID is in the log")
	}
}
