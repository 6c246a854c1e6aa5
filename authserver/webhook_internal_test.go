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

// A test vector of the Standard Webhooks libraries.
func TestWebhookSignature(t *testing.T) {
	key, err := (&Webhook{Secret: testWebhookSecret}).key()
	if err != nil {
		t.Fatal(err)
	}
	got := signWebhook(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("the signature is %s, want %s", got, want)
	}
}

func TestInvalidWebhooks(t *testing.T) {
	good := Webhook{URL: "https://policy.example.com", Secret: testWebhookSecret}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		want   string
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
		if err := w.Check(); err == nil || !strings.HasPrefix(err.Error(), test.want+":") {
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
		response, err := readWebhookResponse(test.status, test.contentType, []byte(test.body))
		if err != nil {
			t.Errorf("%s: %v", test.body, err)
			continue
		}
		if diff := cmp.Diff(test.claims, response.claims); diff != "" {
			t.Error(diff)
		}
		if response.refusal == nil && test.refusal != "" || response.refusal != nil && response.refusal.Error() != test.refusal {
			t.Errorf("%s: %v", test.body, response.refusal)
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
		if response, err := readWebhookResponse(test.status, test.contentType, []byte(test.body)); err == nil {
			t.Errorf("%d %s %s is accepted: %+v", test.status, test.contentType, test.body, response)
		}
	}
}

// A policy for delegated tokens needs the actor, but does not get the user's claims.
func TestWebhookRequestsContainTheActor(t *testing.T) {
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

func TestJW25_WebhooksCannotSetProtocolClaims(t *testing.T) {
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
		response, err := readWebhookResponse(200, "application/json", []byte(body))
		if err != nil {
			return
		}
		for _, name := range oauth.ProtocolClaims {
			if _, ok := response.claims[name]; ok && name != claimMayAct {
				t.Errorf("%s sets %s", body, name)
			}
		}
		if response.refusal != nil && (response.claims != nil || strings.ContainsAny(response.refusal.Description, "\"\\\n")) {
			t.Errorf("%s is read as %+v", body, response)
		}
	})
}

func TestRE26_BreakerStopsRequestsToAFailingService(t *testing.T) {
	var b breaker
	now := time.Unix(0, 0)
	fail := func() {
		t.Helper()
		if !b.allows(now) {
			t.Fatalf("no request is allowed at %s", now)
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
		t.Error("requests are sent to a failing service")
	}
	now = now.Add(breakerPause)
	if !b.allows(now) || b.allows(now) {
		t.Error("after the pause, not exactly one request is allowed")
	}
	b.record(now, false, false)
	if b.allows(now.Add(breakerPause - 1)) {
		t.Error("the breaker does not pause after another failure")
	}
	now = now.Add(breakerPause)
	if !b.allows(now) {
		t.Error("the service is not tried again after the second pause")
	}
	if b.record(now, false, true); !b.allows(now) {
		t.Error("a canceled request prevents another attempt")
	}
	if b.record(now, true, false) != breakerClosed || !b.allows(now) || !b.allows(now) {
		t.Error("the breaker stays open although the service responds")
	}
}

// Under load, most requests wait in the queue. The breaker still opens if the hook hangs.
func TestBreakerOpensForAHangingHookUnderLoad(t *testing.T) {
	release := make(chan struct{})
	var calls atomic.Int32
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		calls.Add(1)
		<-release
	}))
	defer hook.Close()
	defer close(release)
	hooks, err := newWebhooks([]Webhook{{URL: hook.URL, Secret: testWebhookSecret, Timeout: 200 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := &Server{log: log, events: event.New(log), operatorOutgoing: outgoing.New(outgoing.Policy{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, event.New(log))}
	callHook := func() error {
		c := &call{s: s, r: httptest.NewRequest(http.MethodPost, "/token", nil), now: time.Now()}
		_, err := c.callHook(t.Context(), hooks[0], &TokenRequest{Kind: ClaimsOfAccessToken})
		return err
	}
	var load sync.WaitGroup
	for range 10 * webhookMaxAtOnce {
		load.Go(func() {
			if callHook() == nil {
				t.Error("a request succeeds although the hook hangs")
			}
		})
	}
	load.Wait()
	if hooks[0].breaker.allows(time.Now()) {
		t.Fatal("the breaker is closed")
	}
	if n := calls.Load(); n > 3*webhookMaxAtOnce {
		t.Errorf("%d requests waited for a hanging hook", n)
	}
	before := calls.Load()
	if err := callHook(); err == nil || calls.Load() != before {
		t.Errorf("%v; the hook was called again", err)
	}
}

// While a hook is busy, requests that are not sent count neither as failures nor as successes.
func TestUnsentRequestsDoNotChangeTheBreaker(t *testing.T) {
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
		t.Error("openedAfter does not compare with the time at which the breaker opened")
	}
}

// A request that is not sent because the queue is full does not count as a success.
func TestAFullQueueDoesNotCloseTheBreaker(t *testing.T) {
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
		t.Fatal("a request that was not sent succeeds")
	}
	if hook.breaker.record(time.Now(), false, false) != breakerOpened {
		t.Error("a request that was not sent counts as a success")
	}
}
