package authserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// lockedBuffer is a log that concurrent goroutines write to.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// A complete flow and refused requests are logged at level debug and traced. Neither the log nor the
// traces contain a secret.
func TestLO01_LO03_NoSecretsInLogsOrTraces(t *testing.T) {
	var log lockedBuffer
	var traces strings.Builder
	var mu sync.Mutex
	s := newSceneOn(t, scriptSetup{
		Clients: []testClient{confidential("app"), confidential("jwt", func(c *record.Client) {
			c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodPrivateKeyJWT, []byte(`"$key"`)
		})},
		Resources: []record.Resource{{Identifier: "https://api.example", AccessTokenFormat: record.AccessTokenOpaque}},
	}, memory.New(), func(c *authserver.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.OnTrace = func(trace *record.Trace) {
			mu.Lock()
			defer mu.Unlock()
			for _, check := range trace.Checks {
				traces.WriteString(check.Detail + check.Fix + "\n")
			}
		}
	})
	code := s.code("ada", "app", "scope", "openid", "state", "state-of-the-client", "nonce", "nonce-of-the-client")
	a := s.redeem("app", code)
	opaque := s.redeem("app", s.code("ada", "app", "resource", "https://api.example"))
	b := s.refresh("app", a.RefreshToken)
	assertion, err := s.sign("ES256", oauth.TypClientAuthentication, "", map[string]any{"iss": "jwt", "sub": "jwt", "aud": "https://other.example", "jti": "1", "exp": "60s"})
	if err != nil {
		t.Fatal(err)
	}
	// Send every secret in a request that is refused.
	s.redeem("app", code)
	s.redeem("app", code+"x")
	s.refresh("app", a.RefreshToken+"x")
	s.refresh("other", b.RefreshToken)
	s.post("/token", "app", "grant_type", "authorization_code", "code", s.code("ada", "app"), "redirect_uri", testCallback, "code_verifier", strings.Repeat("wrong-verifier", 4))
	s.post("/token", "", "grant_type", "client_credentials", "client_assertion_type", oauth.ClientAssertionTypeJWTBearer, "client_assertion", assertion)
	s.post("/token", "", "grant_type", "client_credentials", "client_id", "app", "client_secret", "wrong-secret")
	s.post("/introspect", "app", "token", opaque.AccessToken+"x")
	s.post("/revoke", "app", "token", b.AccessToken, "token", b.AccessToken)
	s.userinfo(a.AccessToken + "x")
	s.userinfo(opaque.AccessToken)
	s.authorize("ada", query("app", "id_token_hint", a.IDToken+"x"))
	s.do(httptest.NewRequest(http.MethodGet, "/userinfo?access_token="+opaque.AccessToken, nil))
	s.server.Close()
	if !strings.Contains(log.String(), "event=request.refused") || traces.Len() == 0 {
		t.Fatal("nothing was logged or traced")
	}
	for name, secret := range map[string]string{
		"code": code, "access token": a.AccessToken, "ID token": a.IDToken, "refresh token": a.RefreshToken, "rotated refresh token": b.RefreshToken,
		"opaque access token": opaque.AccessToken, "assertion": assertion, "client secret": testSecret, "verifier": testVerifier,
		"wrong verifier": "wrong-verifier", "wrong secret": "wrong-secret", "state": "state-of-the-client", "nonce": "nonce-of-the-client",
	} {
		if secret == "" {
			t.Errorf("the %s is empty", name)
		} else if strings.Contains(log.String(), secret) {
			t.Errorf("the log contains the %s", name)
		} else if strings.Contains(traces.String(), secret) {
			t.Errorf("a trace contains the %s", name)
		}
	}
}

// A trace explains a refused request to the operator. The reference on the page leads to it, and it
// says where the URIs differ and what to fix.
func TestRefusalsAreExplained(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	w := s.authorize("", query("app", "redirect_uri", "https://client.example.com/cc"))
	body := new(bytes.Buffer)
	if _, err := body.ReadFrom(w.Body); err != nil {
		t.Fatal(err)
	}
	_, ref, _ := strings.Cut(body.String(), "Reference: ")
	if strings.Contains(body.String(), testCallback) {
		t.Error("the page shows the registered URI")
	}
	trace, err := s.server.Trace(t.Context(), strings.TrimSpace(ref))
	if err != nil {
		t.Fatal(err)
	}
	last := trace.Checks[len(trace.Checks)-1]
	if last.OK || !strings.Contains(last.Detail, "differ at character 29") || !strings.Contains(last.Detail, testCallback) || last.Fix == "" {
		t.Errorf("the last check is %+v", last)
	}
}

// A refused request is logged once, with the reference of its trace.
func TestLO08_EachRefusalIsLoggedOnce(t *testing.T) {
	var log lockedBuffer
	s := newSceneOn(t, scriptSetup{
		Clients: []testClient{confidential("app", func(c *record.Client) { c.ClientName = "Holiday album" }), confidential("jwt", func(c *record.Client) {
			c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodPrivateKeyJWT, []byte(`"$key"`)
		})},
		Users: map[string]oauth.Claims{"ada": {"preferred_username": "lovelace"}},
	}, memory.New(), func(c *authserver.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	})
	logged := func(send func()) map[string]any {
		t.Helper()
		log.Reset()
		send()
		var found map[string]any
		for line := range strings.Lines(log.String()) {
			var r map[string]any
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if _, refused := r["reference"]; !refused {
				continue
			}
			if found != nil {
				t.Errorf("the refusal is logged twice:\n%s", log.String())
			}
			found = r
		}
		if found == nil {
			t.Fatalf("the refusal is not logged:\n%s", log.String())
		}
		trace, err := s.server.Trace(t.Context(), found["reference"].(string))
		if err != nil || trace.Endpoint != found["endpoint"] || trace.Error != found["error"] {
			t.Errorf("the trace of the reference is %+v, %v; the record is %v", trace, err, found)
		}
		return found
	}
	code := s.code("ada", "app")
	s.redeem("app", code)
	const swapped = "a-secret-in-the-wrong-field"
	for name, test := range map[string]struct {
		send func()
		want map[string]any
	}{
		"page": {func() { s.authorize("", query("app", "redirect_uri", "https://client.example.com/cc")) },
			map[string]any{"event": "request.refused", "level": "INFO", "endpoint": "/authorize", "client_id": "app", "client_name": "Holiday album"}},
		"redirect": {func() {
			s.authorize("ada", query("app", "response_type", "code", "prompt", "none", "scope", "unknown"))
		},
			map[string]any{"event": "request.refused", "endpoint": "/authorize", "client_id": "app"}},
		"unknown client": {func() { s.authorize("", query("appp")) },
			map[string]any{"event": "request.refused", "client_id": "appp"}},
		"wrong code": {func() { s.redeem("app", code+"x") },
			map[string]any{"event": "request.refused", "endpoint": "/token", "error": "invalid_grant", "client_id": "app"}},
		"replay": {func() { s.redeem("app", code) },
			map[string]any{"event": "token.replayed", "level": "WARN", "error": "invalid_grant", "client_id": "app", "sub": "ada", "username": "lovelace"}},
		"wrong secret": {func() {
			s.post("/token", "", "grant_type", "client_credentials", "client_id", "app", "client_secret", "wrong")
		},
			map[string]any{"event": "client.authentication_failed", "level": "WARN", "error": "invalid_client", "client_id": "app", "client_name": "Holiday album", "reason": "wrong_credentials"}},
		"wrong method": {func() {
			s.post("/token", "", "grant_type", "client_credentials", "client_id", "jwt", "client_secret", "wrong")
		},
			map[string]any{"event": "client.authentication_failed", "client_id": "jwt", "reason": "wrong_method"}},
		"client_id and secret swapped": {func() {
			s.post("/token", "", "grant_type", "client_credentials", "client_id", swapped, "client_secret", "app")
		},
			map[string]any{"event": "client.authentication_failed", "reason": "unknown", "client_id": nil}},
		"invalid token at UserInfo": {func() { s.userinfo("nonsense") },
			map[string]any{"event": "request.refused", "endpoint": "/userinfo", "error": "invalid_token"}},
	} {
		got := logged(test.send)
		for member, want := range test.want {
			if got[member] != want {
				t.Errorf("%s: %s = %v, want %v", name, member, got[member], want)
			}
		}
		checkTable(t, got)
		if strings.Contains(log.String(), swapped) {
			t.Errorf("%s: the log contains a client_id that may be a secret:\n%s", name, log.String())
		}
	}
}

// checkTable compares a log record with the table of events.
func checkTable(t *testing.T, logged map[string]any) {
	t.Helper()
	for _, kind := range event.Kinds {
		if kind.Name != logged["event"] {
			continue
		}
		if logged["level"] != kind.Level.String() || logged["msg"] != kind.Meaning {
			t.Errorf("%s: %v %v", kind.Name, logged["level"], logged["msg"])
		}
		for member := range logged {
			if !slices.Contains(append([]string{"time", "level", "msg", "event"}, kind.Members...), member) {
				t.Errorf("%s has the member %q, which is not in the table", kind.Name, member)
			}
		}
		return
	}
	t.Errorf("%v is not in the table", logged["event"])
}

// Commands put events in the outbox. The server that delivers messages logs each one once.
func TestEventsOfCommandsAreLogged(t *testing.T) {
	var log lockedBuffer
	store := memory.New()
	s := newSceneOn(t, scriptSetup{Users: map[string]oauth.Claims{"ada": {}}}, store, func(c *authserver.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	})
	if err := event.Enqueue(t.Context(), store, time.Now(), event.UserDisabled, slog.String("sub", "ada"), slog.String("username", "lovelace\n"), slog.String("operator", "root@host")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.server.DeliverLogouts(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var logged map[string]any
	for line := range strings.Lines(log.String()) {
		if !strings.Contains(line, "user.disabled") {
			continue
		}
		if logged != nil {
			t.Errorf("logged twice:\n%s", log.String())
		}
		if err := json.Unmarshal([]byte(line), &logged); err != nil {
			t.Fatal(err)
		}
	}
	if logged["sub"] != "ada" || logged["username"] != `lovelace\n` || logged["operator"] != "root@host" || logged["at"] == nil {
		t.Errorf("the record is %v", logged)
	}
	checkTable(t, logged)
}

// slowTraces is a store that reports when it is asked to store traces, and waits.
type slowTraces struct {
	database
	asked, proceed chan struct{}
}

func (s slowTraces) SaveTraces(ctx context.Context, most int, traces ...record.Trace) error {
	s.asked <- struct{}{}
	<-s.proceed
	return s.database.SaveTraces(ctx, most, traces...)
}

// Whoever reads the reference in the log can look it up at once: also while the store writes it.
func TestTraceIsFoundWhileItIsStored(t *testing.T) {
	store := slowTraces{memory.New(), make(chan struct{}), make(chan struct{})}
	s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
	refused := s.do(httptest.NewRequest(http.MethodGet, "/authorize?"+query("unknown"), nil))
	ref := regexp.MustCompile(`[0-9A-Z]{4}-[0-9A-Z]{4}`).FindString(refused.body)
	<-store.asked
	defer close(store.proceed)
	trace, err := s.server.Trace(t.Context(), ref)
	if err != nil || trace.Endpoint != "/authorize" {
		t.Errorf("the trace of %q is %+v, %v", ref, trace, err)
	}
}
