package client_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/client"
	"github.com/valetkey/valetkey/oauth"
)

// The application and the server of this repository, together.
func TestRelyingPartyWithOurServer(t *testing.T) {
	const secret = "a-secret-of-more-than-32-characters-for-HS256"
	s := authservertest.NewServer(t, authservertest.Config{Declarations: valetkey.Declarations{
		Users: []valetkey.User{{Username: "ada", Password: "engine no. 1", Name: "Ada Lovelace"}},
		Clients: []valetkey.Client{{ID: "app", Secret: secret, ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{appRedirectURI}, PostLogoutRedirectURIs: []string{"https://app.example/auth/signed-out"},
			GrantTypes:    []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken, "implicit"},
			ResponseTypes: oauth.ResponseTypes(), Scope: "openid profile offline_access",
		}}},
	}})
	for _, responseType := range []string{"code", "id_token", "id_token token", "code id_token", "code token", "code id_token token"} {
		t.Run(responseType, func(t *testing.T) {
			c, err := client.Discover(t.Context(), client.Config{
				Issuer: s.Issuer, ClientID: "app", ClientSecret: secret, RedirectURI: appRedirectURI, ResponseType: responseType,
				Scopes: []string{"openid", "profile"},
			})
			if err != nil {
				t.Fatal(err)
			}
			a := &webApp{provider: &provider{issuer: s.Issuer}}
			a.party, err = client.NewRelyingParty(client.RelyingPartyConfig{
				Client: c, UserInfo: responseType != "id_token", Logger: slog.New(slog.DiscardHandler),
				Error: func(w http.ResponseWriter, _ *http.Request, status int, err error) {
					a.failure = err
					w.WriteHeader(status)
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux()
			mux.Handle("/auth/", a.party)
			mux.Handle("/", a.party.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var claims struct{ Name string }
				if session := client.SessionFrom(r.Context()); session == nil {
					fmt.Fprint(w, "nobody")
				} else if err := session.Decode(&claims); err != nil {
					t.Error(err)
				} else {
					fmt.Fprint(w, claims.Name)
				}
			})))
			a.handler = mux
			browser := a.browser(t)
			callback := s.Callback(t, a.begin(t, browser, "/auth/sign-in"), appRedirectURI, "ada", "engine no. 1")
			var resp *http.Response
			if responseType == "code" {
				resp, _ = appGet(t, browser, "/auth/callback?"+callback.RawQuery)
			} else {
				resp = appPost(t, browser, "/auth/callback", url.Values{"fragment": {callback.Fragment}})
			}
			if resp.StatusCode != http.StatusSeeOther {
				t.Fatalf("the callback answered %d: %v", resp.StatusCode, a.failure)
			}
			if _, body := appGet(t, browser, "/"); body != "Ada Lovelace" {
				t.Errorf("at home: %q", body)
			}
			out := appPost(t, browser, "/auth/sign-out", nil).Header.Get("Location")
			if !strings.HasPrefix(out, c.Metadata().EndSessionEndpoint) {
				t.Errorf("signing out leads to %s", out)
			}
			if _, body := appGet(t, browser, "/"); body != "nobody" {
				t.Errorf("after the sign-out: %q", body)
			}
		})
	}
}
