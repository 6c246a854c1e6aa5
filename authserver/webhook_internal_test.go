package authserver

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/oauth"
)

const testWebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// The vector that the libraries of Standard Webhooks test themselves by.
func TestWebhookSignature(t *testing.T) {
	key, err := (&Webhook{Secret: testWebhookSecret}).key()
	if err != nil {
		t.Fatal(err)
	}
	got := signWebhook(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("the signature is %s, not %s", got, want)
	}
}

func TestInvalidWebhooks(t *testing.T) {
	good := Webhook{URL: "https://policy.example.com", Secret: testWebhookSecret}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		says   string
		change func(*Webhook)
	}{
		{"url", func(w *Webhook) { w.URL = "http://policy.example.com" }},
		{"url", func(w *Webhook) { w.URL = "" }},
		{"url", func(w *Webhook) { w.URL = "https://ada:secret@policy.example.com" }},
		{"secret", func(w *Webhook) { w.Secret = "" }},
		{"secret", func(w *Webhook) { w.Secret = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" }},
		{"secret", func(w *Webhook) { w.Secret = "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23)) }},
		{"secret", func(w *Webhook) { w.Secret = "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65)) }},
		{"timeout", func(w *Webhook) { w.Timeout = 6 * time.Second }},
		{"timeout", func(w *Webhook) { w.Timeout = -1 }},
		{"events", func(w *Webhook) { w.Events = []string{"token"} }},
		{"events", func(w *Webhook) {
			w.Events, w.Resources = []string{ClaimsOfIDToken}, []string{"https://notes.example.com"}
		}},
		{"events", func(w *Webhook) {
			w.Events, w.GrantTypes = []string{ClaimsOfUserinfo}, []string{oauth.GrantTypeRefreshToken}
		}},
		{"grant_types", func(w *Webhook) { w.GrantTypes = []string{"refresh"} }},
	} {
		w := good
		test.change(&w)
		if err := w.Check(); err == nil || !strings.HasPrefix(err.Error(), test.says+":") {
			t.Errorf("%+v: %v", w, err)
		}
	}
}

func TestWebhookResponses(t *testing.T) {
	for _, test := range []struct {
		status      int
		contentType string
		body        string
		claims      oauth.Claims
		refusal     string
	}{
		{204, "", "", nil, ""},
		{200, "application/json", `{}`, nil, ""},
		{200, "application/json; charset=utf-8", `{"claims": {"tier": "gold", "seats": [1, 2]}}`, oauth.Claims{"tier": "gold", "seats": []any{1.0, 2.0}}, ""},
		{200, "application/json", `{"error": "access_denied"}`, nil, "access_denied: the tokens were refused"},
		{200, "application/json", `{"error": "invalid_scope", "error_description": "not \"today\""}`, nil, "invalid_scope: not 'today'"},
	} {
		answer, err := readWebhookResponse(test.status, test.contentType, []byte(test.body))
		if err != nil {
			t.Errorf("%s: %v", test.body, err)
			continue
		}
		if diff := cmp.Diff(test.claims, answer.claims); diff != "" {
			t.Error(diff)
		}
		if answer.refusal == nil && test.refusal != "" || answer.refusal != nil && answer.refusal.Error() != test.refusal {
			t.Errorf("%s: %v", test.body, answer.refusal)
		}
	}
}

func TestInvalidWebhookResponses(t *testing.T) {
	for _, test := range []struct {
		status      int
		contentType string
		body        string
	}{
		{500, "application/json", `{}`},
		{302, "application/json", `{}`},
		{201, "application/json", `{}`},
		{403, "application/json", `{"error": "access_denied"}`},
		{200, "text/html", `{}`},
		{200, "", `{}`},
		{200, "application/json", ``},
		{200, "application/json", `null`},
		{200, "application/json", `[]`},
		{200, "application/json", `{"claims": {}} {}`},
		{200, "application/json", `{"claims": []}`},
		{200, "application/json", `{"claims": {"a": 1, "a": 2}}`},
		{200, "application/json", `{"claims": {"a": {"b": 1, "b": 2}}}`},
		{200, "application/json", `{"claims": {"a": ` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}}`},
		{200, "application/json", `{"eror": "access_denied"}`},
		{200, "application/json", `{"Error": "access_denied"}`},
		{200, "application/json", `{"error": ""}`},
		{200, "application/json", `{"error": 1}`},
		{200, "application/json", `{"error": "no_such_code"}`},
		{200, "application/json", `{"error": "server_error"}`},
		{200, "application/json", `{"error_description": "no"}`},
		{200, "application/json", `{"error": "access_denied", "claims": {}}`},
	} {
		if answer, err := readWebhookResponse(test.status, test.contentType, []byte(test.body)); err == nil {
			t.Errorf("%d %s %s is accepted: %+v", test.status, test.contentType, test.body, answer)
		}
	}
}

// A policy for delegated tokens needs the actor. It does not get the user's claims.
func TestAWebhookSeesTheActor(t *testing.T) {
	var got webhookMessage
	var body []byte
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		if body, err = io.ReadAll(r.Body); err == nil {
			err = json.Unmarshal(body, &got)
		}
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer hook.Close()
	hooks, err := newWebhooks([]Webhook{{URL: hook.URL, Secret: testWebhookSecret}})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{operatorOutgoing: outgoing.New(outgoing.Policy{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, event.New(slog.Default()))}
	_, err = s.callWebhook(t.Context(), hooks[0], &TokenRequest{
		Kind: ClaimsOfAccessToken, Subject: "ada", Claims: oauth.Claims{"act": map[string]any{"sub": "agent"}, "email": "ada@example.com"},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(any(map[string]any{"sub": "agent"}), got.Data.Actor); diff != "" || strings.Contains(string(body), "example.com") {
		t.Errorf("%s%s", diff, body)
	}
}

func TestJW25_WebhooksCannotSetClaimsOfTheProtocol(t *testing.T) {
	for _, name := range append(slices.Clone(oauth.ProtocolClaims), "status", "sub#de", strings.Repeat("x", 129)) {
		if _, err := readWebhookResponse(200, "application/json", []byte(`{"claims": {"`+name+`": "mallory"}}`)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func FuzzWebhookResponse(f *testing.F) {
	f.Add(`{"claims": {"tier": "gold"}}`)
	f.Add(`{"error": "access_denied", "error_description": "no"}`)
	f.Add(`{"claims": {"sub": "mallory", "ſub": 1}}`)
	f.Fuzz(func(t *testing.T, body string) {
		answer, err := readWebhookResponse(200, "application/json", []byte(body))
		if err != nil {
			return
		}
		for _, name := range oauth.ProtocolClaims {
			if _, ok := answer.claims[name]; ok && name != claimMayAct {
				t.Errorf("%s sets %s", body, name)
			}
		}
		if answer.refusal != nil && (answer.claims != nil || strings.ContainsAny(answer.refusal.Description, "\"\\\n")) {
			t.Errorf("%s is %+v", body, answer)
		}
	})
}

func TestRE26_BreakerStopsRequestsToAFailingService(t *testing.T) {
	var b breaker
	now := time.Unix(0, 0)
	fail := func() {
		t.Helper()
		if !b.allows(now) {
			t.Fatalf("at %s no request is allowed", now)
		}
		b.record(now, false, false)
	}
	for range breakerFailures - 1 {
		fail()
	}
	if b.record(now, true, false) != breakerUnchanged {
		t.Error("the breaker opened too early")
	}
	for range breakerFailures {
		fail()
	}
	if b.allows(now) || b.allows(now.Add(breakerPause-1)) {
		t.Error("a failing service is called")
	}
	now = now.Add(breakerPause)
	if !b.allows(now) || b.allows(now) {
		t.Error("not exactly one request tries the service again")
	}
	b.record(now, false, false)
	if b.allows(now.Add(breakerPause - 1)) {
		t.Error("the service is called immediately after it failed again")
	}
	now = now.Add(breakerPause)
	if !b.allows(now) {
		t.Error("the service is never tried again")
	}
	if b.record(now, false, true); !b.allows(now) {
		t.Error("a canceled request keeps others from trying")
	}
	if b.record(now, true, false) != breakerClosed || !b.allows(now) || !b.allows(now) {
		t.Error("the service is not called again although it responds")
	}
}

// Under load, most requests wait in the queue. A hanging hook is still not called any longer.
func TestAHangingHookIsNotCalledUnderLoad(t *testing.T) {
	over := make(chan struct{})
	var asked atomic.Int32
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		<-over
	}))
	defer hook.Close()
	defer close(over)
	hooks, err := newWebhooks([]Webhook{{URL: hook.URL, Secret: testWebhookSecret, Timeout: 200 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := &Server{log: log, events: event.New(log), operatorOutgoing: outgoing.New(outgoing.Policy{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, event.New(log))}
	ask := func() error {
		c := &call{s: s, r: httptest.NewRequest(http.MethodPost, "/token", nil), now: time.Now()}
		_, err := c.callHook(t.Context(), hooks[0], &TokenRequest{Kind: ClaimsOfAccessToken})
		return err
	}
	var load sync.WaitGroup
	for range 10 * webhookMaxAtOnce {
		load.Go(func() {
			if ask() == nil {
				t.Error("a request passes although the hook hangs")
			}
		})
	}
	load.Wait()
	if hooks[0].breaker.allows(time.Now()) {
		t.Fatal("the hook is still called")
	}
	if n := asked.Load(); n > 3*webhookMaxAtOnce {
		t.Errorf("%d requests waited for a hanging hook", n)
	}
	before := asked.Load()
	if err := ask(); err == nil || asked.Load() != before {
		t.Errorf("%v; the hook was called again", err)
	}
}

// If a hook is busy with slow but valid responses, requests that are not sent do not count as
// failures.
func TestAFullQueueIsNotAResultOfTheHook(t *testing.T) {
	var b breaker
	now := time.Now()
	for range breakerFailures - 1 {
		b.record(now, false, false)
		b.record(now, true, true) // a request that was not sent
	}
	if got := b.record(now, false, false); got != breakerOpened || b.allows(now) {
		t.Error("requests that were not sent count as successes")
	}
	if !b.openedAfter(now.Add(-time.Second)) || b.openedAfter(now.Add(time.Second)) {
		t.Error("openedAfter is wrong")
	}
}

// A request that is not sent because the queue is full does not count as a success of the hook.
func TestAQueuedRequestDoesNotChangeTheBreaker(t *testing.T) {
	hooks, err := newWebhooks([]Webhook{{URL: "https://policy.example.com", Secret: testWebhookSecret, Timeout: 10 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	hook, log := hooks[0], slog.New(slog.DiscardHandler)
	for range breakerFailures - 1 {
		hook.breaker.record(time.Now(), false, false)
	}
	for range webhookMaxAtOnce {
		hook.calls <- struct{}{} // in progress
	}
	c := &call{s: &Server{log: log, events: event.New(log)}, r: httptest.NewRequest(http.MethodPost, "/token", nil), now: time.Now()}
	if _, err := c.callHook(t.Context(), hook, &TokenRequest{Kind: ClaimsOfAccessToken}); err == nil {
		t.Fatal("a request that was not sent passes")
	}
	if hook.breaker.record(time.Now(), false, false) != breakerOpened {
		t.Error("it counts as a success")
	}
}
