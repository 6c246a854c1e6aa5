package client_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

const (
	application = "https://app.example"
	redirectURI = application + "/auth/callback"
)

// inProcess is a transport to a handler at https://app.example.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	request := httptest.NewRequest(r.Method, r.URL.String(), r.Body)
	request.Header, request.ContentLength = r.Header, r.ContentLength
	p.ServeHTTP(recorder, request)
	resp := recorder.Result()
	resp.Request = r
	return resp, nil
}

// newBrowser returns a browser that can reach the application and follows no redirect.
func newBrowser(t *testing.T, app http.Handler) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: inProcess{app}, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// send returns the status, the Location header and the body of a response.
func send(t *testing.T, resp *http.Response, err error) (status int, location, body string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Location"), string(text)
}

func TestRelyingPartySignsInAndOutAtTheServer(t *testing.T) {
	const secret = "a-secret-of-more-than-32-characters-for-HS256"
	s := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
		Users: []configuration.User{{Username: "ada", Password: "engine no. 1", Name: "Ada Lovelace"}},
		Clients: []configuration.Client{{ID: "app", Secret: secret, ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{redirectURI}, PostLogoutRedirectURIs: []string{application + "/auth/signed-out"},
			GrantTypes:    []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken, "implicit"},
			ResponseTypes: oauth.ResponseTypes(), Scope: "openid profile offline_access",
		}}},
	}})
	for _, responseType := range []string{"code", "id_token", "id_token token", "code id_token", "code token", "code id_token token"} {
		t.Run(responseType, func(t *testing.T) {
			c, err := client.Discover(t.Context(), client.Config{
				Issuer: s.Issuer, ClientID: "app", ClientSecret: secret, RedirectURI: redirectURI, ResponseType: responseType,
				Scopes: []string{"openid", "profile"},
			})
			if err != nil {
				t.Fatal(err)
			}
			var failure error
			party, err := client.NewRelyingParty(client.RelyingPartyConfig{
				Client: c, UserInfo: responseType != "id_token", Logger: slog.New(slog.DiscardHandler),
				Error: func(w http.ResponseWriter, _ *http.Request, status int, err error) {
					failure = err
					w.WriteHeader(status)
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux()
			mux.Handle("/auth/", party)
			mux.Handle("/", party.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				session := client.SessionFrom(r.Context())
				if session == nil {
					fmt.Fprint(w, "signed out")
					return
				}
				var claims struct{ Name string }
				if err := session.Decode(&claims); err != nil {
					t.Error(err)
				}
				fmt.Fprint(w, claims.Name)
			})))
			browser := newBrowser(t, mux)
			get := func(path string) (status int, location, body string) {
				t.Helper()
				resp, err := browser.Get(application + path)
				return send(t, resp, err)
			}
			post := func(path string, form url.Values) (status int, location, body string) {
				t.Helper()
				resp, err := browser.PostForm(application+path, form)
				return send(t, resp, err)
			}

			status, location, _ := get("/auth/sign-in")
			if status != http.StatusSeeOther || !strings.HasPrefix(location, c.Metadata().AuthorizationEndpoint) {
				t.Fatalf("sign-in: status %d, Location %q (%v)", status, location, failure)
			}
			callback := s.Callback(t, location, redirectURI, "ada", "engine no. 1")
			if responseType == "code" {
				status, _, _ = get("/auth/callback?" + callback.RawQuery)
			} else {
				status, _, _ = post("/auth/callback", url.Values{"fragment": {callback.Fragment}})
			}
			if status != http.StatusSeeOther {
				t.Fatalf("callback: status %d (%v)", status, failure)
			}
			if _, _, body := get("/"); body != "Ada Lovelace" {
				t.Errorf("after sign-in: %q", body)
			}
			if _, location, _ := post("/auth/sign-out", nil); !strings.HasPrefix(location, c.Metadata().EndSessionEndpoint) {
				t.Errorf("sign-out redirects to %q", location)
			}
			if _, _, body := get("/"); body != "signed out" {
				t.Errorf("after sign-out: %q", body)
			}
		})
	}
}
