package client_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

// logoutToken returns a logout token with changed claims.
func (p *provider) logoutToken(t *testing.T, typ string, change func(map[string]any)) string {
	t.Helper()
	now := time.Now()
	claims := map[string]any{
		"iss": p.issuer, "aud": clientID, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": rand.Text(),
		"sub": "alice", "sid": "sid-one",
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	if change != nil {
		change(claims)
	}
	return signES256(t, p.key, map[string]any{"alg": "ES256", "kid": p.kid, "typ": typ}, claims)
}

func TestSE11_LogoutTokens(t *testing.T) {
	set := func(name string, value any) func(map[string]any) {
		return func(c map[string]any) { c[name] = value }
	}
	drop := func(name string) func(map[string]any) { return func(c map[string]any) { delete(c, name) } }
	now := time.Now()
	for name, test := range map[string]struct {
		typ    string
		change func(map[string]any)
		forge  func(*testing.T, *provider) string
		good   bool // accepted
		stays  bool // accepted, and for another session
	}{
		"valid":                  {typ: "logout+jwt", good: true},
		"full typ":               {typ: "application/logout+jwt", good: true},
		"typ JWT":                {typ: "JWT", good: true},
		"only sub":               {typ: "logout+jwt", change: drop("sid"), good: true},
		"only sid":               {typ: "logout+jwt", change: drop("sub"), good: true},
		"several audiences":      {typ: "logout+jwt", change: set("aud", []string{"other", clientID}), good: true},
		"unknown claim":          {typ: "logout+jwt", change: set("toe", 1), good: true},
		"unknown event too":      {typ: "logout+jwt", change: set("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{"x": 1}, "urn:other": 1}), good: true},
		"another session":        {typ: "logout+jwt", change: set("sid", "sid-two"), good: true, stays: true},
		"another user":           {typ: "logout+jwt", change: func(c map[string]any) { c["sub"] = "bob"; delete(c, "sid") }, good: true, stays: true},
		"another user's session": {typ: "logout+jwt", change: set("sub", "bob"), good: true, stays: true},
		"typ of access tokens":   {typ: "at+jwt"},
		"typ of assertions":      {typ: "client-authentication+jwt"},
		"other issuer":           {typ: "logout+jwt", change: set("iss", "https://evil.example")},
		"no issuer":              {typ: "logout+jwt", change: drop("iss")},
		"other audience":         {typ: "logout+jwt", change: set("aud", "other")},
		"no audience":            {typ: "logout+jwt", change: drop("aud")},
		"no iat":                 {typ: "logout+jwt", change: drop("iat")},
		"issued in the future":   {typ: "logout+jwt", change: set("iat", now.Add(time.Hour).Unix())},
		"expired":                {typ: "logout+jwt", change: set("exp", now.Add(-time.Hour).Unix())},
		"no expiry":              {typ: "logout+jwt", change: drop("exp")},
		"no jti":                 {typ: "logout+jwt", change: drop("jti")},
		"neither sub nor sid":    {typ: "logout+jwt", change: func(c map[string]any) { delete(c, "sub"); delete(c, "sid") }},
		"a nonce":                {typ: "logout+jwt", change: set("nonce", "n")},
		"a nonce that is null":   {typ: "logout+jwt", change: set("nonce", nil)},
		"no events":              {typ: "logout+jwt", change: drop("events")},
		"other event":            {typ: "logout+jwt", change: set("events", map[string]any{"urn:other": map[string]any{}})},
		"event is not an object": {typ: "logout+jwt", change: set("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": true})},
		"event is null":          {typ: "logout+jwt", change: set("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": nil})},
		"events is an array":     {typ: "logout+jwt", change: set("events", []string{"http://schemas.openid.net/event/backchannel-logout"})},
		"an ID token": {forge: func(_ *testing.T, p *provider) string {
			return p.sign(map[string]any{"iss": p.issuer, "aud": clientID, "sub": "alice", "sid": "sid-one", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()})
		}},
		"unsigned": {forge: func(t *testing.T, p *provider) string {
			_, payload, _ := strings.Cut(p.logoutToken(t, "logout+jwt", nil), ".")
			payload, _, _ = strings.Cut(payload, ".")
			return encode([]byte(`{"alg":"none"}`)) + "." + payload + "."
		}},
		"a stranger's": {forge: func(t *testing.T, p *provider) string {
			return (&provider{issuer: p.issuer, key: newKey(t), kid: p.kid}).logoutToken(t, "logout+jwt", nil)
		}},
		"none": {forge: func(*testing.T, *provider) string { return "" }},
	} {
		t.Run(name, func(t *testing.T) {
			a := newWebApp(t, nil)
			browser := a.browser(t)
			a.signInTo(t, browser, "/")
			if !a.signedIn(t, browser) {
				t.Fatal(a.failure)
			}
			token := ""
			if test.forge != nil {
				token = test.forge(t, a.provider)
			} else {
				token = a.logoutToken(t, test.typ, test.change)
			}
			recorder := a.backChannel(url.Values{"logout_token": {token}})
			want := http.StatusBadRequest
			if test.good {
				want = http.StatusOK
			}
			if recorder.Code != want || recorder.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("status %d with %v: %s", recorder.Code, recorder.Header(), recorder.Body)
			}
			if stays := !test.good || test.stays; a.signedIn(t, browser) != stays {
				t.Errorf("signed in: %v, want %v", !stays, stays)
			}
			if !test.good {
				var response map[string]string
				if err := json.Unmarshal(recorder.Body.Bytes(), &response); err != nil || response["error"] != "invalid_request" {
					t.Errorf("the response is %s", recorder.Body)
				}
			}
		})
	}
}

// backChannel returns the provider's request, which has no cookies.
func (a *webApp) backChannel(form url.Values) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, "https://app.example/auth/backchannel-logout", strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	recorder := httptest.NewRecorder()
	a.handler.ServeHTTP(recorder, request)
	return recorder
}

func TestSE11_LogoutTokenCanBeUsedOnce(t *testing.T) {
	a := newWebApp(t, nil)
	browser := a.browser(t)
	token := a.logoutToken(t, "logout+jwt", func(c map[string]any) { delete(c, "sid") })
	a.signInTo(t, browser, "/")
	if got := a.backChannel(url.Values{"logout_token": {token}}).Code; got != http.StatusOK || a.signedIn(t, browser) {
		t.Fatalf("status %d", got)
	}
	a.signInTo(t, browser, "/")
	if got := a.backChannel(url.Values{"logout_token": {token}}).Code; got != http.StatusBadRequest || !a.signedIn(t, browser) {
		t.Errorf("second time: status %d", got)
	}
	if got := a.backChannel(url.Values{"logout_token": {token, token}}).Code; got != http.StatusBadRequest {
		t.Errorf("two at the same time: status %d", got)
	}
}

// failingSessions cannot delete sessions while it is broken.
type failingSessions struct {
	*client.MemorySessions
	broken bool
}

func (f *failingSessions) DeleteSignedOut(ctx context.Context, issuer, subject, sessionID string) error {
	if f.broken {
		return errors.New("the database is down")
	}
	return f.MemorySessions.DeleteSignedOut(ctx, issuer, subject, sessionID)
}

func TestFailedLogoutCanBeRetried(t *testing.T) {
	store := &failingSessions{client.NewMemorySessions(10), true}
	a := newWebApp(t, func(_ *client.Config, p *client.RelyingPartyConfig) { p.Sessions = store })
	browser := a.browser(t)
	a.signInTo(t, browser, "/")
	form := url.Values{"logout_token": {a.logoutToken(t, "logout+jwt", nil)}}
	if recorder := a.backChannel(form); recorder.Code != http.StatusBadRequest || strings.Contains(recorder.Body.String(), "database") {
		t.Errorf("status %d: %s", recorder.Code, recorder.Body)
	}
	store.broken = false
	if got := a.backChannel(form).Code; got != http.StatusOK || a.signedIn(t, browser) {
		t.Errorf("second time: status %d", got)
	}
}

func TestFrontChannelLogout(t *testing.T) {
	issuer := "http://localhost"
	for name, test := range map[string]struct {
		query url.Values
		want  int
		ends  bool
	}{
		"valid":           {url.Values{"iss": {issuer}, "sid": {"sid-one"}}, http.StatusOK, true},
		"another session": {url.Values{"iss": {issuer}, "sid": {"sid-two"}}, http.StatusOK, false},
		"no sid":          {url.Values{"iss": {issuer}}, http.StatusBadRequest, false},
		"empty sid":       {url.Values{"iss": {issuer}, "sid": {""}}, http.StatusBadRequest, false},
		"two sids":        {url.Values{"iss": {issuer}, "sid": {"sid-one", "sid-two"}}, http.StatusBadRequest, false},
		"no iss":          {url.Values{"sid": {"sid-one"}}, http.StatusBadRequest, false},
		"other iss":       {url.Values{"iss": {"https://evil.example"}, "sid": {"sid-one"}}, http.StatusBadRequest, false},
		"nothing":         {url.Values{}, http.StatusBadRequest, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newWebApp(t, nil)
			browser := a.browser(t)
			a.signInTo(t, browser, "/")
			// The frame is on another site and gets no cookies.
			resp, _ := appGet(t, a.browser(t), "/auth/frontchannel-logout?"+test.query.Encode())
			if resp.StatusCode != test.want || a.signedIn(t, browser) == test.ends {
				t.Errorf("status %d, signed in: %v", resp.StatusCode, a.signedIn(t, browser))
			}
			if policy := resp.Header.Get("Content-Security-Policy"); policy != "default-src 'none'; frame-ancestors "+issuer+" "+issuer {
				t.Errorf("frame-ancestors: %s", policy)
			}
			if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Frame-Options") != "" {
				t.Errorf("headers are %v", resp.Header)
			}
		})
	}
}

func TestMemorySessionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := client.NewMemorySessions(3)
		put := func(id, subject, sid string, lifetime time.Duration) {
			s := &client.Session{ID: id, Issuer: "https://op.example", Subject: subject, SessionID: sid, Tokens: &client.Tokens{}, Expires: time.Now().Add(lifetime)}
			if err := store.Put(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		there := func(want string) {
			t.Helper()
			got := ""
			for _, id := range []string{"a", "b", "c", "d", "e"} {
				s, err := store.Get(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				if s != nil {
					got += id
				}
			}
			if got != want {
				t.Errorf("the store has sessions %q, want %q", got, want)
			}
		}
		put("a", "alice", "1", time.Minute)
		put("b", "alice", "2", time.Hour)
		put("c", "bob", "3", time.Hour)
		put("d", "bob", "4", time.Hour)
		there("bcd") // the oldest was dropped
		if ok, err := store.Replace(t.Context(), &client.Session{ID: "a"}); ok || err != nil {
			t.Errorf("a dropped session was replaced: %v, %v", ok, err)
		}
		for _, end := range []struct{ issuer, subject, sid, want string }{
			{"https://evil.example", "alice", "", "bcd"},
			{"https://op.example", "alice", "3", "bcd"},
			{"https://op.example", "", "1", "bcd"}, // a was dropped
			{"https://op.example", "", "3", "bd"},
			{"https://op.example", "alice", "", "d"},
		} {
			if err := store.DeleteSignedOut(t.Context(), end.issuer, end.subject, end.sid); err != nil {
				t.Fatal(err)
			}
			there(end.want)
		}
		put("e", "eve", "5", time.Hour)
		if ok, err := store.Replace(t.Context(), &client.Session{ID: "e", Issuer: "https://op.example", Subject: "eve", SessionID: "6", Expires: time.Now().Add(time.Hour)}); !ok || err != nil {
			t.Fatal(ok, err)
		}
		for _, end := range []struct{ sid, want string }{{"5", "de"}, {"6", "d"}} {
			if err := store.DeleteSignedOut(t.Context(), "https://op.example", "", end.sid); err != nil {
				t.Fatal(err)
			}
			there(end.want)
		}
		time.Sleep(2 * time.Hour)
		there("")
	})
}
