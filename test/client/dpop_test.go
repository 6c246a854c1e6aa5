package client_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/client/sqlsession"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/resourceserver"
	"github.com/valetkey/valetkey/storage/record"
)

// boundWorld is a server whose clients get bound tokens, and an API that requires them. Both require
// nonces.
type boundWorld struct {
	*authservertest.Server
	api string
	// seen are the Authorization headers that the API received.
	mu   sync.Mutex
	seen []string
}

func newBoundWorld(t *testing.T) *boundWorld {
	t.Helper()
	w := &boundWorld{}
	listener := httptest.NewUnstartedServer(nil)
	t.Cleanup(listener.Close)
	w.api = "http://" + listener.Listener.Addr().String()
	bound := func(id, secret string, grants ...string) configuration.Client {
		c := configuration.Client{ID: id, Secret: secret, ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{redirectURI}, GrantTypes: grants, Scope: "openid notes offline_access", DPoPBoundAccessTokens: true,
		}, ClientSettings: record.ClientSettings{RequireDPoPNonce: true}}
		if secret == "" {
			c.TokenEndpointAuthMethod = oauth.AuthMethodNone
		}
		return c
	}
	w.Server = authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
		Users: []configuration.User{{Username: "ada", Password: "engine no. 1"}},
		Clients: []configuration.Client{
			bound("web", "a-secret-of-more-than-32-characters", oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken),
			bound("native", "", oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken),
		},
		Scopes:    []record.Scope{{Name: "notes"}},
		Resources: []record.Resource{{Identifier: w.api, Scopes: []string{"notes"}}},
	}})
	guard, err := resourceserver.New(resourceserver.Config{
		Issuer: w.Issuer, Resource: w.api, Logger: slog.New(slog.DiscardHandler),
		DPoP: &resourceserver.DPoP{Required: true, NonceKey: []byte("the key of the nonces of this API")},
	})
	if err != nil {
		t.Fatal(err)
	}
	guarded := guard.Require("notes")(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(rw, "%s %s", r.Method, body)
	}))
	listener.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.seen = append(w.seen, r.Header.Get("Authorization"))
		w.mu.Unlock()
		guarded.ServeHTTP(rw, r)
	})
	listener.Start()
	return w
}

// The tokens of a session stay usable for another process, because their key is stored with them.
func TestBackendUsesBoundTokens(t *testing.T) {
	w, db := newBoundWorld(t), sqlite(t)
	process := func() (*client.Client, http.Handler) {
		c, err := client.Discover(t.Context(), client.Config{
			Issuer: w.Issuer, ClientID: "web", ClientSecret: "a-secret-of-more-than-32-characters", RedirectURI: redirectURI,
			Scopes: []string{"openid", "notes", "offline_access"}, DPoP: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		party, err := client.NewRelyingParty(client.RelyingPartyConfig{
			Client: c, UserInfo: true, Logger: slog.New(slog.DiscardHandler), Sessions: newStore(t, sqlsession.Config{DB: db, Dialect: sqlsession.SQLite}),
			Error: func(rw http.ResponseWriter, _ *http.Request, status int, err error) {
				t.Errorf("status %d: %v", status, err)
				rw.WriteHeader(status)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		backend, err := client.NewBackend(client.BackendConfig{Party: party, APIs: map[string]string{"/api/": w.api + "/"}})
		if err != nil {
			t.Fatal(err)
		}
		return c, backend
	}
	c, backend := process()
	browser := newBrowser(t, backend)
	resp, err := browser.Get(application + "/auth/sign-in")
	status, location, _ := send(t, resp, err)
	if status != http.StatusSeeOther || !strings.HasPrefix(location, c.Metadata().AuthorizationEndpoint) {
		t.Fatalf("sign-in: %d %s", status, location)
	}
	callback := w.Callback(t, location, redirectURI, "ada", "engine no. 1")
	resp, err = browser.Get(application + "/auth/callback?" + callback.RawQuery)
	if status, _, _ := send(t, resp, err); status != http.StatusSeeOther {
		t.Fatalf("callback: status %d", status)
	}
	call := func(method, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, application+"/api/notes", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-CSRF", "1")
		// The browser cannot replace the proof or the token.
		r.Header.Set("DPoP", "x")
		r.Header.Set("Authorization", "Bearer x")
		resp, err := browser.Do(r)
		if status, _, got := send(t, resp, err); status != http.StatusOK || got != method+" "+body {
			t.Errorf("%s: %d %q", method, status, got)
		}
		if resp.Header.Get("DPoP-Nonce") != "" {
			t.Error("the browser gets a nonce")
		}
	}
	call(http.MethodPost, "hello") // without a nonce first
	call(http.MethodGet, "")
	_, backend = process()
	browser.Transport = inProcess{backend}
	call(http.MethodPost, "after a restart")
	for _, sent := range w.seen {
		if !strings.HasPrefix(sent, "DPoP ") {
			t.Errorf("the API received %q", sent)
		}
	}
	if len(w.seen) != 5 { // each process once without a nonce
		t.Errorf("%d requests to the API", len(w.seen))
	}
}

func TestStolenBoundTokensAreUseless(t *testing.T) {
	w := newBoundWorld(t)
	discover := func() *client.Client {
		c, err := client.Discover(t.Context(), client.Config{
			Issuer: w.Issuer, ClientID: "native", RedirectURI: redirectURI, Scopes: []string{"openid", "notes", "offline_access"}, DPoP: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := discover()
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := json.Marshal(transaction)
	if err != nil {
		t.Fatal(err)
	}
	query := w.Callback(t, address, redirectURI, "ada", "engine no. 1").Query()

	// A thief who has the code and its verifier, but not the key.
	thief := &client.Transaction{}
	if err := json.Unmarshal(stored, thief); err != nil {
		t.Fatal(err)
	}
	if thief.DPoPKey, err = dpop.GenerateKey(); err != nil {
		t.Fatal(err)
	}
	if _, err := discover().Callback(t.Context(), thief, query); err == nil {
		t.Fatal("the thief redeems the code")
	}
	tokens, err := c.Callback(t.Context(), transaction, query)
	if err != nil {
		t.Fatal(err)
	}
	use := func(tokens *client.Tokens) int {
		t.Helper()
		resp, err := c.Source(tokens, nil).HTTPClient().Get(w.api + "/notes?a=b")
		status, _, _ := send(t, resp, err)
		return status
	}
	if status := use(tokens); status != http.StatusOK {
		t.Errorf("with the key: %d", status)
	}
	if _, err := c.UserInfo(t.Context(), tokens); err != nil {
		t.Error(err)
	}
	stolen := *tokens
	if stolen.DPoPKey, err = dpop.GenerateKey(); err != nil {
		t.Fatal(err)
	}
	if status := use(&stolen); status != http.StatusUnauthorized {
		t.Errorf("with another key: %d", status)
	}
	if _, err := c.Refresh(t.Context(), &stolen); err == nil {
		t.Error("the refresh token works with another key")
	}
	bearer := *tokens
	bearer.TokenType, bearer.DPoPKey = oauth.TokenTypeBearer, nil
	if status := use(&bearer); status != http.StatusUnauthorized {
		t.Errorf("as a bearer token: %d", status)
	}
	for _, endpoint := range []string{c.Metadata().UserinfoEndpoint, w.api + "/notes"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, endpoint, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "DPoP "+tokens.AccessToken)
		resp, err := http.DefaultClient.Do(r)
		if status, _, _ := send(t, resp, err); status != http.StatusUnauthorized {
			t.Errorf("%s without a proof: %d", endpoint, status)
		}
	}
	// The owner still has everything.
	renewed, err := discover().Refresh(t.Context(), tokens)
	if err != nil {
		t.Fatal(err)
	}
	if status := use(renewed); status != http.StatusOK {
		t.Errorf("renewed: %d", status)
	}
}
