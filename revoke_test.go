package valetkey

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/useradmin"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// The revocation endpoint and the command line end the same: sessions and grants.
func TestEverythingOfAUserIsRevoked(t *testing.T) {
	s, _ := newTestServer(t, func(c *Config) {
		c.Users = []configuration.User{{Username: "ada", Email: "ada@example.com", Password: "engine no. 1"}, {Username: "bob", Password: "engine no. 2"}}
		c.Clients = []configuration.Client{
			{ID: "app", Secret: "0123456789abcdef0123456789abcdef", ClientMetadata: oauth.ClientMetadata{RedirectURIs: []string{"https://app.example.com/cb"}}},
			{ID: "tool", Secret: "0123456789abcdef0123456789abcdef", ClientMetadata: oauth.ClientMetadata{GrantTypes: []string{oauth.GrantTypeClientCredentials}},
				ClientSettings: record.ClientSettings{GlobalTokenRevocation: true}},
		}
	})
	for name, revoke := range map[string]func(user *identity.User){
		"by the command line": func(*identity.User) {
			if err := useradmin.Revoke(t.Context(), s.store.Store, "ada"); err != nil {
				t.Fatal(err)
			}
		},
		"by email address through the endpoint": func(*identity.User) {
			wantRevoked(t, s, `{"sub_id":{"format":"email","email":"ADA@example.com"}}`)
		},
		"by sub through the endpoint": func(ada *identity.User) {
			wantRevoked(t, s, `{"sub_id":{"format":"opaque","id":"`+ada.ID+`"}}`)
		},
		"of a disabled user": func(ada *identity.User) {
			setDisabled(t, s, ada.ID, true)
			wantRevoked(t, s, `{"sub_id":{"format":"email","email":"ada@example.com"}}`)
			setDisabled(t, s, ada.ID, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			users := map[string]*identity.User{}
			sessions := map[string]*identity.Session{}
			for _, who := range []string{"ada", "bob"} {
				user, err := s.accounts.FindAny(t.Context(), who)
				if err != nil {
					t.Fatal(err)
				}
				users[who] = user
				if _, sessions[who], err = s.accounts.StartSession(t.Context(), time.Now(), user, identity.SessionDetails{}, nil); err != nil {
					t.Fatal(err)
				}
				_, err = s.store.UpdateGrant(t.Context(), user.ID, "app", func(*record.Grant) error { return nil })
				if err != nil {
					t.Fatal(err)
				}
			}
			revoke(users["ada"])
			for who, valid := range map[string]bool{"ada": false, "bob": true} {
				_, err := s.accounts.SessionByID(t.Context(), time.Now(), sessions[who].ID)
				grants, listed := s.store.GrantsOf(t.Context(), users[who].ID)
				if listed != nil {
					t.Fatal(listed)
				}
				if (err == nil) != valid || (len(grants) == 1) != valid {
					t.Errorf("%s: session %v, %d grants", who, err, len(grants))
				}
			}
		})
	}
}

func setDisabled(t *testing.T, s *Server, id string, disabled bool) {
	t.Helper()
	err := s.store.UpdateUser(t.Context(), id, func(user *identity.User) error {
		user.Disabled = disabled
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func wantRevoked(t *testing.T, s *Server, body string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "https://login.example.com/global-token-revocation", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.SetBasicAuth("tool", "0123456789abcdef0123456789abcdef")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusNoContent {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}
