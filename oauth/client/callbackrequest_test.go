package client_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth/client"
)

// callbackAt is a request to a redirect URI.
func callbackAt(address string, response url.Values) *http.Request {
	if strings.Contains(address, "?") {
		return httptest.NewRequest(http.MethodGet, address+"&"+response.Encode(), nil)
	}
	return httptest.NewRequest(http.MethodGet, address+"?"+response.Encode(), nil)
}

// CU-01: a user connects a tool of an attacker, whose server sends the browser on to an honest
// server, with the redirect URI of the honest connection. The application finds the transaction in
// the user's session, as the draft assumes. Without the check of the redirect URI, it would send the
// honest server's code to the attacker.
func TestCU01_CodeForAnotherConnectionIsNotRedeemed(t *testing.T) {
	attacker := newProvider(t)
	delete(attacker.metadata, "authorization_response_iss_parameter_supported")
	for name, uris := range map[string][2]string{
		"path":  {"https://app.example/tools/mallory/callback", "https://app.example/tools/honest/callback"},
		"host":  {"https://mallory.app.example/callback", "https://honest.app.example/callback"},
		"query": {"https://app.example/callback?tool=mallory", "https://app.example/callback?tool=honest"},
	} {
		t.Run(name, func(t *testing.T) {
			c := attacker.discover(t, func(config *client.Config) { config.RedirectURI = uris[0] })
			_, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{UserSession: "alice"})
			if err != nil {
				t.Fatal(err)
			}
			stolen := url.Values{"code": {"code of the honest server"}, "state": {transaction.State}}
			before := attacker.count("/token")
			if _, err := c.CallbackRequest(callbackAt(uris[1], stolen), transaction, "alice"); !errors.Is(err, client.ErrMixUp) {
				t.Errorf("the response at the other redirect URI: %v", err)
			}
			if attacker.count("/token") != before {
				t.Error("the code was sent to the attacker")
			}
			if transaction.State != "" {
				t.Error("the transaction can be used again")
			}
			// The same flow without the attack.
			address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{UserSession: "alice"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.CallbackRequest(callbackAt(uris[0], attacker.authorize(t, address)), transaction, "alice"); err != nil {
				t.Error(err)
			}
		})
	}
}

// CU-02: an attacker's tool sees the state and the code challenge of the victim's flow, gets a code
// for their own account with it, and makes the victim's browser complete the flow at another
// connection. It is the same server, so its issuer does not help.
func TestCU02_FlowOfAnotherConnectionIsNotCompleted(t *testing.T) {
	p := newProvider(t)
	mallory := p.discover(t, func(config *client.Config) {
		config.ClientID, config.RedirectURI = "mallory", "https://app.example/tools/mallory/callback"
	})
	honest := p.discover(t, func(config *client.Config) { config.RedirectURI = "https://app.example/tools/honest/callback" })
	address, transaction, err := mallory.AuthorizationURL(t.Context(), client.AuthorizationOptions{UserSession: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	response := p.authorize(t, address)
	request := callbackAt("https://app.example/tools/honest/callback", response)
	copied := *transaction
	if _, err := honest.CallbackRequest(request, transaction, "alice"); !errors.Is(err, client.ErrMixUp) {
		t.Errorf("the flow of another connection: %v", err)
	}
	// The client ID is compared even if the redirect URI is the same, and by Callback too.
	copied.RedirectURI, copied.UserSession = "https://app.example/tools/honest/callback", ""
	again := copied
	if _, err := honest.CallbackRequest(request, &copied, ""); !errors.Is(err, client.ErrMixUp) {
		t.Errorf("the transaction of another client: %v", err)
	}
	if _, err := honest.Callback(t.Context(), &again, response); !errors.Is(err, client.ErrMixUp) {
		t.Errorf("the transaction of another client: %v", err)
	}
	if n := p.count("/token"); n != 0 {
		t.Errorf("%d token requests", n)
	}
}

// CU-03: an attacker starts to connect an account, and sends the authorization URL to a victim, who
// approves it. The application finds the transaction by the state. PKCE does not help, because the
// whole flow is the victim's.
func TestCU03_FlowOfAnotherUserIsNotCompleted(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, nil)
	for _, test := range []struct {
		name, started, completed string
		want                     error
	}{
		{"by another user", "session of mallory", "session of alice", client.ErrTransaction},
		{"without a session", "session of mallory", "", client.ErrTransaction},
		{"started without a session", "", "session of alice", client.ErrTransaction},
		{"by the same user", "session of alice", "session of alice", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{UserSession: test.started})
			if err != nil {
				t.Fatal(err)
			}
			if test.started != "" && strings.Contains(transaction.UserSession, test.started) {
				t.Error("the session is stored in plain text")
			}
			response := p.authorize(t, address)
			if test.started != "" {
				copied := *transaction
				if _, err := c.Callback(t.Context(), &copied, response); !errors.Is(err, client.ErrTransaction) {
					t.Errorf("Callback without a session: %v", err)
				}
			}
			before := p.count("/token")
			_, err = c.CallbackRequest(callbackAt(redirectURI, response), transaction, test.completed)
			if !errors.Is(err, test.want) || (p.count("/token") > before) != (test.want == nil) {
				t.Errorf("%v, want %v; %d token requests", err, test.want, p.count("/token")-before)
			}
		})
	}
}

func TestCallbackRequestReadsFormsAndRefusesTokensInQueries(t *testing.T) {
	p := newProvider(t)
	c := p.discover(t, nil)
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{ResponseMode: "form_post"})
	if err != nil {
		t.Fatal(err)
	}
	response := p.authorize(t, address)
	if _, err := c.CallbackRequest(callbackAt(redirectURI, url.Values{"access_token": {"t"}}), transaction, ""); !errors.Is(err, client.ErrCallback) {
		t.Errorf("tokens in a query: %v", err)
	}
	forged := url.Values{"code": {"c"}, "state": {"another"}}
	if _, err := c.CallbackRequest(callbackAt(redirectURI, forged), transaction, ""); !errors.Is(err, client.ErrState) || transaction.State == "" {
		t.Errorf("another state: %v; the transaction must stay", err)
	}
	posted := httptest.NewRequest(http.MethodPost, redirectURI, strings.NewReader(response.Encode()))
	posted.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if _, err := c.CallbackRequest(posted, transaction, ""); err != nil {
		t.Error(err)
	}
}
