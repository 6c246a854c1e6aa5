package client_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// firstParty returns a provider whose authorization challenge endpoint sends the given
// responses in turn; sent contains its requests.
func firstParty(t *testing.T, responses ...map[string]any) (p *provider, sent *[]url.Values) {
	p = newProvider(t)
	sent = &[]url.Values{}
	p.metadata["authorization_challenge_endpoint"] = p.issuer + "/authorize-challenge"
	p.handlers["/authorize-challenge"] = func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		*sent = append(*sent, r.PostForm)
		response := responses[min(len(*sent), len(responses))-1]
		status := http.StatusOK
		if response["error"] != nil {
			status = http.StatusForbidden
		} else if code, ok := response["authorization_code"].(string); ok {
			p.mu.Lock()
			p.codes[code] = r.PostForm
			p.mu.Unlock()
		}
		writeJSON(w, status, response)
	}
	return p, sent
}

func TestSignInWithAPassword(t *testing.T) {
	p, sent := firstParty(t,
		map[string]any{"error": "insufficient_authorization", "auth_session": "first"},
		map[string]any{"error": "temporarily_unavailable"},
		map[string]any{"error": "invalid_session"},
		map[string]any{"authorization_code": "the-code"})
	c := p.discover(t, nil)
	challenge := c.AuthorizationChallenge()
	for _, code := range []oauth.ErrorCode{oauth.InsufficientAuthorization, oauth.TemporarilyUnavailable} {
		if _, err := c.SignIn(t.Context(), challenge, "ada", "wrong"); !errors.Is(err, &client.Error{Code: code}) {
			t.Fatalf("%v, want %s", err, code)
		}
	}
	tokens, err := c.SignIn(t.Context(), challenge, "ada", "engine")
	if err != nil || tokens.Identity == nil {
		t.Fatal(err)
	}
	// auth_session is sent. When it has expired, the client starts again.
	var sessions []string
	for _, form := range *sent {
		sessions = append(sessions, form.Get("auth_session"))
	}
	if diff := cmp.Diff([]string{"", "first", "first", ""}, sessions); diff != "" {
		t.Error(diff)
	}
	last := (*sent)[3]
	if last.Get("username") != "ada" || last.Get("password") != "engine" || last.Get("response_type") != "code" || last.Get("code_challenge_method") != "S256" {
		t.Errorf("sent: %v", last)
	}
	redeemed := p.requests[len(p.requests)-1]
	if redeemed.path != "/token" {
		redeemed = p.requests[len(p.requests)-2] // before the keys
	}
	if redeemed.form.Has("redirect_uri") || redeemed.form.Get("code") != "the-code" || oauth.S256Challenge(redeemed.form.Get("code_verifier")) != last.Get("code_challenge") {
		t.Errorf("redeemed: %v", redeemed.form)
	}
	if _, err := c.SignIn(t.Context(), challenge, "ada", "engine"); !errors.Is(err, client.ErrTransaction) {
		t.Errorf("a challenge can be used twice: %v", err)
	}
}

func TestSignInWithAPasswordFails(t *testing.T) {
	for _, test := range []struct {
		name     string
		response map[string]any
		want     error
	}{
		{"a browser is required", map[string]any{"error": "redirect_to_web"}, &client.Error{Code: oauth.RedirectToWeb}},
		{"invalid_session without auth_session", map[string]any{"error": "invalid_session"}, &client.Error{Code: oauth.InvalidSession}},
		{"no code", map[string]any{}, client.ErrResponse},
		{"a code that is a number", map[string]any{"authorization_code": 1}, client.ErrResponse},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, sent := firstParty(t, test.response)
			c := p.discover(t, nil)
			if _, err := c.SignIn(t.Context(), c.AuthorizationChallenge(), "ada", "engine"); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if len(*sent) != 1 {
				t.Errorf("%d requests", len(*sent))
			}
		})
	}
}

// The ID token is bound to the request here too.
func TestSignInWithAPasswordChecksTheNonce(t *testing.T) {
	p, _ := firstParty(t, map[string]any{"authorization_code": "the-code"})
	p.claims = func(claims map[string]any) { claims["nonce"] = "another" }
	c := p.discover(t, nil)
	if _, err := c.SignIn(t.Context(), c.AuthorizationChallenge(), "ada", "engine"); !errors.Is(err, client.ErrIDToken) {
		t.Errorf("%v", err)
	}
}

func TestSignInWithAPasswordIsUnsupported(t *testing.T) {
	c := newProvider(t).discover(t, nil)
	if _, err := c.SignIn(t.Context(), c.AuthorizationChallenge(), "ada", "engine"); !errors.Is(err, client.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

func TestAChallengeIsNotLogged(t *testing.T) {
	p, _ := firstParty(t, map[string]any{"error": "insufficient_authorization", "auth_session": "the-session"})
	c := p.discover(t, nil)
	challenge := c.AuthorizationChallenge()
	_, err := c.SignIn(t.Context(), challenge, "ada", "engine no. 1")
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("sign-in", "challenge", challenge, "error", err)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", challenge, challenge, challenge, err), log.String()} {
		if strings.Contains(text, "the-session") || strings.Contains(text, "engine") {
			t.Error(text)
		}
	}
}

// After redirect_to_web with a request_uri, the browser gets that request, and the code is redeemed with
// the verifier of the challenge.
func TestContinueInBrowser(t *testing.T) {
	const requestURI = "urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c"
	p, sent := firstParty(t, map[string]any{"error": "redirect_to_web", "request_uri": requestURI, "expires_in": 60})
	c := p.discover(t, func(config *client.Config) { config.Scopes = nil })
	challenge := c.AuthorizationChallenge()
	if _, err := c.SignIn(t.Context(), challenge, "ada", "engine"); !errors.Is(err, &client.Error{Code: oauth.RedirectToWeb}) {
		t.Fatal(err)
	}
	to, transaction, err := c.ContinueInBrowser(t.Context(), challenge, nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{"client_id": {clientID}, "request_uri": {requestURI}, "tenant": {"1"}}
	if diff := cmp.Diff(want, u.Query()); diff != "" {
		t.Error(diff)
	}
	form := (*sent)[0]
	if transaction.State == "" || form.Get("state") != transaction.State {
		t.Errorf("state: sent %q, expected back %q", form.Get("state"), transaction.State)
	}
	form.Set("redirect_uri", redirectURI) // the provider adds it
	p.mu.Lock()
	p.codes["the-code"] = form
	p.mu.Unlock()
	if _, err := c.Callback(t.Context(), transaction, url.Values{"code": {"the-code"}, "state": {transaction.State}, "iss": {p.issuer}}); err != nil {
		t.Fatal(err)
	}
	redeemed := p.requests[len(p.requests)-1].form
	if oauth.S256Challenge(redeemed.Get("code_verifier")) != form.Get("code_challenge") || redeemed.Get("redirect_uri") != transaction.RedirectURI {
		t.Errorf("redeemed: %v", redeemed)
	}
	if _, err := c.SignIn(t.Context(), challenge, "ada", "engine"); !errors.Is(err, client.ErrTransaction) {
		t.Errorf("the challenge can be used again: %v", err)
	}
}

// Without a request_uri, the browser gets a new request.
func TestContinueInBrowserWithANewRequest(t *testing.T) {
	p, sent := firstParty(t, map[string]any{"error": "redirect_to_web"})
	c := p.discover(t, nil)
	challenge := c.AuthorizationChallenge()
	if _, err := c.SignIn(t.Context(), challenge, "ada", "engine"); err == nil {
		t.Fatal("no error")
	}
	to, transaction, err := c.ContinueInBrowser(t.Context(), challenge, nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if q.Has("request_uri") || q.Get("state") != transaction.State || q.Get("code_challenge") == "" || q.Get("code_challenge") == (*sent)[0].Get("code_challenge") {
		t.Errorf("the URL is %s", to)
	}
}

// The provider may replace the auth_session in each response, and after the sign-in (section 5.3.1).
func TestAuthSessionIsKept(t *testing.T) {
	p, sent := firstParty(t,
		map[string]any{"error": "insufficient_authorization", "auth_session": "first"},
		map[string]any{"authorization_code": "the-code", "auth_session": "second"},
		map[string]any{"authorization_code": "another-code"})
	p.response = func(response map[string]any) { response["auth_session"] = "third" }
	c := p.discover(t, nil)
	challenge := c.AuthorizationChallenge()
	_, err := c.SignIn(t.Context(), challenge, "ada", "")
	var refused *client.Error
	if !errors.As(err, &refused) || refused.AuthSession() != "first" || strings.Contains(fmt.Sprintf("%v %+v %#v", refused, refused, refused), "first") {
		t.Fatalf("%#v", err)
	}
	if tokens, err := c.SignIn(t.Context(), challenge, "ada", "engine"); err != nil || tokens.AuthSession != "third" || challenge.AuthSession() != "third" {
		t.Fatalf("%v, auth_session %q", err, challenge.AuthSession())
	}
	if _, err := c.SignIn(t.Context(), c.ResumeAuthorizationChallenge("third"), "ada", "engine"); err != nil {
		t.Fatal(err)
	}
	if last := (*sent)[2]; last.Get("auth_session") != "third" {
		t.Errorf("sent: %v", last)
	}
}
