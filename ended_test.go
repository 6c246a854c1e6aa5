package valetkey

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	endedSecret   = "0123456789abcdef0123456789abcdef"
	endedPassword = "analytical engine no. 1"
)

// endedServer serves one user, ada, a client for her and for itself, and an API that
// introspects.
func endedServer(t *testing.T, database string) *Server {
	if database != "" {
		t.Setenv("VALETKEY_MASTER_KEY", base64.StdEncoding.EncodeToString(make([]byte, 32)))
	}
	s, _ := newTestServer(t, func(c *Config) {
		c.Database = cmp.Or(database, c.Database)
		c.Users = []configuration.User{{Username: "ada", Password: endedPassword}}
		c.Scopes = []record.Scope{{Name: "notes"}, {Name: "opaque"}}
		c.Resources = []record.Resource{
			{Identifier: "https://notes.example.com", Scopes: []string{"notes"}, IntrospectionClients: []string{"api"}},
			{Identifier: "https://opaque.example.com", Scopes: []string{"opaque"}, AccessTokenFormat: record.AccessTokenOpaque, IntrospectionClients: []string{"api"}},
		}
		c.Clients = []configuration.Client{
			{ID: "app", Secret: endedSecret, ClientMetadata: oauth.ClientMetadata{
				GrantTypes: []string{"password", oauth.GrantTypeRefreshToken, oauth.GrantTypeClientCredentials}, Scope: "openid offline_access notes opaque",
			}},
			{ID: "api", Secret: endedSecret, ClientMetadata: oauth.ClientMetadata{GrantTypes: []string{oauth.GrantTypeClientCredentials}}},
		}
	})
	return s
}

// post sends a form as a client and returns the members of the response.
func post(t *testing.T, s *Server, client, path string, form url.Values) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "https://login.example.com"+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(client, endedSecret)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	var members map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &members); err != nil {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Code, members
}

// issue gets tokens by a form, and tries for a while: a node hears within a second that a
// client has changed.
func issue(t *testing.T, s *Server, form url.Values) map[string]any {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		status, tokens := post(t, s, "app", "/token", form)
		if status == http.StatusOK {
			return tokens
		}
		if time.Now().After(deadline) {
			t.Fatalf("no tokens: %v", tokens)
		}
	}
}

// works reports which of the tokens work, according to each endpoint. Introspection and
// UserInfo must agree.
func works(t *testing.T, s *Server, tokens map[string]any) map[string]bool {
	t.Helper()
	token := tokens["access_token"].(string)
	_, introspected := post(t, s, "app", "/introspect", url.Values{"token": {token}})
	found := map[string]bool{"access token": introspected["active"] == true}
	if aud, _ := introspected["aud"].(string); aud == "https://login.example.com" || !found["access token"] {
		userinfo := get(s, "https://login.example.com/userinfo", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) })
		if active := userinfo.Code == http.StatusOK; active != found["access token"] {
			t.Errorf("introspection says active %v, UserInfo %d", found["access token"], userinfo.Code)
		}
	}
	if refresh, ok := tokens["refresh_token"].(string); ok {
		_, introspected := post(t, s, "app", "/introspect", url.Values{"token": {refresh}})
		found["refresh token"] = introspected["active"] == true
	}
	return found
}

func wantWorks(t *testing.T, s *Server, what string, all map[string]map[string]any, want bool) {
	t.Helper()
	for name, tokens := range all {
		for kind, works := range works(t, s, tokens) {
			if works != want {
				t.Errorf("%s: the %s of %s works: %v", what, kind, name, works)
			}
		}
	}
}

func onEachDatabase(t *testing.T, check func(t *testing.T, s *Server)) {
	t.Run("SQLite", func(t *testing.T) { check(t, endedServer(t, "")) })
	t.Run("PostgreSQL", func(t *testing.T) { check(t, endedServer(t, pgtest.Database(t))) })
}

// tokensOfAda returns the tokens of a user on two devices.
func tokensOfAda(t *testing.T, s *Server) map[string]map[string]any {
	t.Helper()
	form := url.Values{"grant_type": {"password"}, "username": {"ada"}, "password": {endedPassword}}
	all := map[string]map[string]any{}
	for name, scope := range map[string]string{"ada": "openid offline_access", "ada for an API": "notes", "ada for an opaque API": "opaque"} {
		form := maps.Clone(form)
		form.Set("scope", scope)
		all[name] = issue(t, s, form)
	}
	return all
}

func TestAC09_DisablingAUserEndsEverythingIssuedToIt(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *Server) {
		ada, err := s.accounts.FindAny(t.Context(), "ada")
		if err != nil {
			t.Fatal(err)
		}
		_, session, err := s.accounts.StartSession(t.Context(), time.Now(), ada, identity.SessionDetails{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		before := tokensOfAda(t, s)
		wantWorks(t, s, "before", before, true)
		setDisabled(t, s, ada.ID, true)
		wantWorks(t, s, "disabled", before, false)
		setDisabled(t, s, ada.ID, false)
		wantWorks(t, s, "enabled again", before, false)
		if status, _ := post(t, s, "app", "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {before["ada"]["refresh_token"].(string)}}); status != http.StatusBadRequest {
			t.Errorf("an old refresh token: status %d", status)
		}
		if _, err := s.accounts.SessionByID(t.Context(), time.Now(), session.ID); err == nil {
			t.Error("an old session is still valid")
		}
		wantWorks(t, s, "signed in again", tokensOfAda(t, s), true)
	})
}

func TestAC10_DisablingAClientEndsEverythingIssuedToIt(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *Server) {
		own := func() map[string]map[string]any {
			all := tokensOfAda(t, s)
			for name, resource := range map[string]string{"the client": "https://notes.example.com", "the client, opaque": "https://opaque.example.com"} {
				all[name] = issue(t, s, url.Values{"grant_type": {"client_credentials"}, "resource": {resource}})
			}
			return all
		}
		disable := func(disabled bool) {
			err := s.store.UpdateClient(t.Context(), "app", func(c *record.Client) error {
				c.Disabled = disabled
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		introspect := func(what string, all map[string]map[string]any, want bool) {
			t.Helper()
			for name, tokens := range all {
				if name == "ada" {
					continue // the user's token is only for this server
				}
				_, introspected := post(t, s, "api", "/introspect", url.Values{"token": {tokens["access_token"].(string)}})
				if introspected["active"] != want {
					t.Errorf("%s: the token of %s: active is %v", what, name, introspected["active"])
				}
			}
		}
		before := own()
		introspect("before", before, true)
		disable(true)
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			if status, _ := post(t, s, "app", "/token", url.Values{"grant_type": {"client_credentials"}}); status == http.StatusUnauthorized {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("a disabled client gets tokens")
			}
		}
		introspect("disabled", before, false)
		disable(false)
		after := own()
		introspect("enabled again", before, false)
		introspect("issued since", after, true)
		wantWorks(t, s, "enabled again", map[string]map[string]any{"ada": before["ada"]}, false)
		if status, _ := post(t, s, "app", "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {before["ada"]["refresh_token"].(string)}}); status != http.StatusBadRequest {
			t.Errorf("an old refresh token: status %d", status)
		}
	})
}

// A changed password ends the other sessions of the user, on all devices.
func TestAChangedPasswordEndsOtherSessions(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, s *Server) {
		ada, err := s.accounts.FindAny(t.Context(), "ada")
		if err != nil {
			t.Fatal(err)
		}
		_, here, err := s.accounts.StartSession(t.Context(), time.Now(), ada, identity.SessionDetails{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		elsewhere := tokensOfAda(t, s)
		change := identity.PasswordChange{UserID: ada.ID, Current: endedPassword, New: "analytical engine no. 2", Session: here.ID}
		if err := s.accounts.ChangePassword(t.Context(), time.Now(), change); err != nil {
			t.Fatal(err)
		}
		wantWorks(t, s, "nothing else is to end", elsewhere, true)
		change.Current, change.New, change.EndOthers = change.New, endedPassword, true
		if err := s.accounts.ChangePassword(t.Context(), time.Now(), change); err != nil {
			t.Fatal(err)
		}
		wantWorks(t, s, "everything else is to end", elsewhere, false)
		if _, err := s.accounts.SessionByID(t.Context(), time.Now(), here.ID); err != nil {
			t.Errorf("this session has ended: %v", err)
		}
		wantWorks(t, s, "by the new password", tokensOfAda(t, s), true)
	})
}
