package authservertest_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// The operator disables a user: the application in which the user is signed in is notified, and
// ends its session. It is a relying party as in the guide.
func TestSE10_ALockedOutPersonIsSignedOutOfTheApplication(t *testing.T) {
	for name, database := range map[string]func(testing.TB) string{
		"SQLite":     func(testing.TB) string { return "" },
		"PostgreSQL": pgtest.Database,
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("VALETKEY_MASTER_KEY", base64.StdEncoding.EncodeToString(make([]byte, 32)))
			loggedOut(t, database(t))
		})
	}
}

func loggedOut(t *testing.T, database string) {
	var party *client.RelyingParty
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.Path) > 5 && r.URL.Path[:6] == "/auth/" {
			party.ServeHTTP(w, r)
			return
		}
		party.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if session := client.SessionFrom(r.Context()); session != nil {
				fmt.Fprint(w, "signed in")
			} else {
				fmt.Fprint(w, "signed out")
			}
		})).ServeHTTP(w, r)
	}))
	defer app.Close()
	declarations := configuration.Declarations{
		Users: []configuration.User{{Username: "ada", Password: "engine no. 1"}},
		Clients: []configuration.Client{{ID: "app", Secret: "a-secret-of-more-than-32-characters", ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{app.URL + "/auth/callback"}, Scope: "openid",
			BackchannelLogoutURI: app.URL + "/auth/backchannel-logout", BackchannelLogoutSessionRequired: true,
		}}},
	}
	s := authservertest.NewServer(t, authservertest.Config{Database: database, Declarations: declarations})
	c, err := client.Discover(t.Context(), client.Config{
		Issuer: s.Issuer, ClientID: "app", ClientSecret: "a-secret-of-more-than-32-characters",
		RedirectURI: app.URL + "/auth/callback", Scopes: []string{"openid"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if party, err = client.NewRelyingParty(client.RelyingPartyConfig{Client: c, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	get := func(address string) (*http.Response, string) {
		t.Helper()
		response, err := browser.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, string(body)
	}
	begin, _ := get(app.URL + "/auth/sign-in")
	callback := s.Callback(t, begin.Header.Get("Location"), app.URL+"/auth/callback", "ada", "engine no. 1")
	get(callback.String())
	if _, who := get(app.URL); who != "signed in" {
		t.Fatalf("after the sign-in: %s", who)
	}
	declarations.Users[0].Disabled = true
	if _, err := s.Apply(t.Context(), declarations); err != nil {
		t.Fatal(err)
	}
	tries := time.NewTicker(10 * time.Millisecond)
	defer tries.Stop()
	for began := time.Now(); ; <-tries.C {
		if _, who := get(app.URL); who == "signed out" {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatal("the application was not notified")
		}
	}
}
