package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

func TestSignIn(t *testing.T) {
	p := newProvider(t)
	tokens, err := p.signIn(t, p.discover(t, nil), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if tokens.AccessToken == "" || tokens.RefreshToken == "" || tokens.TokenType != "Bearer" {
		t.Error("the tokens are not complete")
	}
	if got := time.Until(tokens.Expiry); got < 59*time.Minute || got > time.Hour {
		t.Errorf("the access token expires in %v", got)
	}
	if diff := cmp.Diff(oauth.Scope{"openid", "api"}, tokens.Scope); diff != "" {
		t.Errorf("scope (-want +got):\n%s", diff)
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	if err := tokens.Identity.Decode(&claims); err != nil || claims.Subject != "alice" || tokens.Identity.Subject != "alice" {
		t.Errorf("signed in %q, %q (%v)", tokens.Identity.Subject, claims.Subject, err)
	}
}

func TestAuthorizationURL(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, func(config *client.Config) { config.Resources = []string{"https://a.example", "https://b.example"} })
	maxAge := 90 * time.Second
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{
		Prompt: []string{"login", "consent"}, MaxAge: &maxAge, LoginHint: "alice@example.com",
		ACRValues: []string{"phr", "pwd"}, UILocales: []string{"de", "en"}, ResponseMode: "form_post",
		Claims:               &oauth.ClaimsRequest{Userinfo: map[string]*oauth.ClaimRequest{"email": {Essential: true}}},
		AuthorizationDetails: []any{map[string]any{"type": "payment", "amount": json.Number("1.50")}},
		Extra:                url.Values{"ui_theme": {"dark"}, "state": {"forced"}, "client_id": {"other"}, "tenant": {"2"}, "code_challenge_method": {"plain"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	got := u.Query()
	for _, name := range []string{"state", "nonce"} {
		if len(got.Get(name)) < 22 {
			t.Errorf("%s is %q: fewer than 128 random bits", name, got.Get(name))
		}
	}
	want := url.Values{
		"tenant": {"1"}, "ui_theme": {"dark"},
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {redirectURI}, "scope": {"openid api"},
		"state": {transaction.State}, "nonce": {transaction.Nonce},
		"code_challenge": {oauth.S256Challenge(transaction.CodeVerifier)}, "code_challenge_method": {"S256"},
		"prompt": {"login consent"}, "max_age": {"90"}, "login_hint": {"alice@example.com"}, "acr_values": {"phr pwd"},
		"ui_locales": {"de en"}, "response_mode": {"form_post"}, "claims": {`{"userinfo":{"email":{"essential":true}}}`},
		"resource": {"https://a.example", "https://b.example"}, "authorization_details": {`[{"amount":1.50,"type":"payment"}]`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
	if u.Path != "/authorize" || u.Host != "localhost" {
		t.Errorf("the browser goes to %s", u.Redacted())
	}
}

func TestPK10_VerifiersAreRandomAndLong(t *testing.T) {
	// RFC 7636, appendix B.
	if got := oauth.S256Challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"); got != "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" {
		t.Errorf("challenge of the RFC's example is %s", got)
	}
	c, err := client.New(
		oauth.ServerMetadata{Issuer: "https://op.example", AuthorizationEndpoint: "https://op.example/authorize"},
		client.Config{Issuer: "https://op.example", ClientID: "app"})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 100_000 {
		_, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !oauth.ValidCodeVerifier(transaction.CodeVerifier) || seen[transaction.CodeVerifier] {
			t.Fatalf("verifier %q is malformed or was used before", transaction.CodeVerifier)
		}
		seen[transaction.CodeVerifier] = true
	}
}

func TestPK10_VerifierIsErased(t *testing.T) {
	refuse := func(w http.ResponseWriter, r *http.Request) { http.Error(w, "{}", http.StatusInternalServerError) }
	for name, test := range map[string]struct {
		token    http.HandlerFunc
		response func(url.Values)
		kept     bool
	}{
		"success":           {},
		"failing exchange":  {token: refuse},
		"provider's error":  {response: func(a url.Values) { a.Del("code"); a.Set("error", "access_denied") }},
		"mix-up":            {response: func(a url.Values) { a.Set("iss", "https://evil.example") }},
		"no code":           {response: func(a url.Values) { a.Del("code") }},
		"two codes":         {response: func(a url.Values) { a.Add("code", "2") }},
		"another's state":   {response: func(a url.Values) { a.Set("state", "forged") }, kept: true},
		"no state":          {response: func(a url.Values) { a.Del("state") }, kept: true},
		"state given twice": {response: func(a url.Values) { a.Add("state", a.Get("state")) }, kept: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			if test.token != nil {
				p.handlers["/token"] = test.token
			}
			c := p.discover(t, nil)
			address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
			if err != nil {
				t.Fatal(err)
			}
			response := p.authorize(t, address)
			if test.response != nil {
				test.response(response)
			}
			_, err = c.Callback(t.Context(), transaction, response)
			if test.kept {
				if !errors.Is(err, client.ErrState) || transaction.CodeVerifier == "" {
					t.Errorf("a forged response ended the sign-in: %v", err)
				}
				return
			}
			if transaction.CodeVerifier != "" || transaction.State != "" || transaction.Nonce != "" {
				t.Error("the verifier, state or nonce is not erased")
			}
			if _, err := c.Callback(t.Context(), transaction, response); !errors.Is(err, client.ErrTransaction) {
				t.Errorf("second use: got %v, want ErrTransaction", err)
			}
		})
	}
}

func TestST03_MixUpIsDetectedBeforeTheTokenRequest(t *testing.T) {
	for name, change := range map[string]func(url.Values){
		"other issuer":          func(a url.Values) { a.Set("iss", "https://evil.example") },
		"almost the same":       func(a url.Values) { a.Set("iss", a.Get("iss")+"/") },
		"empty":                 func(a url.Values) { a.Set("iss", "") },
		"missing":               func(a url.Values) { a.Del("iss") },
		"other issuer's error":  func(a url.Values) { a.Set("iss", "https://evil.example"); a.Set("error", "access_denied") },
		"missing with an error": func(a url.Values) { a.Del("iss"); a.Del("code"); a.Set("error", "server_error") },
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			c := p.discover(t, nil)
			address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
			if err != nil {
				t.Fatal(err)
			}
			response := p.authorize(t, address)
			change(response)
			if _, err := c.Callback(t.Context(), transaction, response); !errors.Is(err, client.ErrMixUp) {
				t.Errorf("got %v, want ErrMixUp", err)
			}
			if n := p.count("/token"); n != 0 {
				t.Errorf("%d token requests were sent", n)
			}
		})
	}
	t.Run("transaction of another provider", func(t *testing.T) {
		p := newProvider(t)
		c := p.discover(t, nil)
		address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
		if err != nil {
			t.Fatal(err)
		}
		transaction.Issuer = "https://other.example"
		if _, err := c.Callback(t.Context(), transaction, p.authorize(t, address)); !errors.Is(err, client.ErrMixUp) {
			t.Errorf("got %v, want ErrMixUp", err)
		}
	})
	t.Run("missing, and not advertised", func(t *testing.T) {
		p := newProvider(t)
		delete(p.metadata, "authorization_response_iss_parameter_supported")
		c := p.discover(t, nil)
		address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
		if err != nil {
			t.Fatal(err)
		}
		response := p.authorize(t, address)
		response.Del("iss")
		if _, err := c.Callback(t.Context(), transaction, response); err != nil {
			t.Errorf("a provider without RFC 9207 cannot be used: %v", err)
		}
	})
}

func TestCallbackReportsTheProvidersError(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, nil)
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	response := p.authorize(t, address)
	response.Del("code")
	response.Set("error", "access_denied")
	response.Set("error_description", "no\x1b[31m\nINFO forged line "+strings.Repeat("a", 4000))
	_, err = c.Callback(t.Context(), transaction, response)
	if !errors.Is(err, &client.Error{Code: oauth.AccessDenied}) {
		t.Fatalf("got %v", err)
	}
	if oauth.AsError(err) != nil {
		t.Error("the provider's error is an *oauth.Error")
	}
	if s := err.Error(); len(s) > 700 || strings.ContainsAny(s, "\n\x1b") {
		t.Errorf("the message has %d characters: %q", len(s), s)
	}
}

func TestTransactionExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProvider(t)
		c := p.discover(t, nil)
		address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Minute)
		if _, err := c.Callback(t.Context(), transaction, p.authorize(t, address)); !errors.Is(err, client.ErrTransaction) {
			t.Errorf("got %v, want ErrTransaction", err)
		}
	})
}

func TestTransactionAndTokensRoundTripAsJSON(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, nil)
	maxAge := time.Hour
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{MaxAge: &maxAge})
	if err != nil {
		t.Fatal(err)
	}
	kept := roundTrip(t, transaction)
	tokens, err := c.Callback(t.Context(), kept, p.authorize(t, address))
	if err != nil {
		t.Fatal(err)
	}
	again := roundTrip(t, tokens)
	if _, err := c.UserInfo(t.Context(), again); err != nil {
		t.Error(err)
	}
	if _, err := c.Refresh(t.Context(), again); err != nil {
		t.Error(err)
	}
}

func roundTrip[T any](t *testing.T, v *T) *T {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var again T
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	return &again
}

func TestSP10_TokensAreNotPrinted(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, nil)
	_, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := p.signIn(t, c, client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	config := p.config()
	config.PrivateKey = newKey(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+verb, tokens, *tokens, transaction, *transaction)
		fmt.Fprintf(&out, verb+verb+verb+verb, config, &config, c, c.Source(tokens, nil))
	}
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(handler).Info("signed in", "tokens", tokens, "copy", *tokens, "transaction", transaction, "old", *transaction,
			"config", config, "client", c, "source", c.Source(tokens, nil))
	}
	for _, secret := range []string{tokens.AccessToken, tokens.RefreshToken, tokens.IDToken, transaction.CodeVerifier, transaction.State, clientSecret} {
		if strings.Contains(out.String(), secret) || strings.Contains(out.String(), fmt.Sprintf("%x", secret)) {
			t.Error("the output contains a secret")
		}
	}
}

func TestCodeIsRedeemedWithTheParametersOfTheRequest(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, func(config *client.Config) { config.Resources = []string{"https://api.example"} })
	if _, err := p.signIn(t, c, client.AuthorizationOptions{RedirectURI: "https://app.example/other"}); err != nil {
		t.Fatal(err)
	}
	got := p.last(t, "/token")
	if !slices.Equal(got.form["resource"], []string{"https://api.example"}) || got.form.Get("redirect_uri") != "https://app.example/other" {
		t.Errorf("the token request was %v", got.form)
	}
}
