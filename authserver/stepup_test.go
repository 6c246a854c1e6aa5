package authserver_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/resourceserver"
	"github.com/valetkey/valetkey/storage/record"
)

// byHost is a transport to handlers by their host.
type byHost map[string]http.Handler

func (b byHost) RoundTrip(r *http.Request) (*http.Response, error) {
	handler := b[r.URL.Host]
	if handler == nil {
		return nil, fmt.Errorf("no host %s", r.URL.Host)
	}
	recorder := httptest.NewRecorder()
	request := httptest.NewRequest(r.Method, r.URL.String(), r.Body)
	request.Header, request.ContentLength = r.Header, r.ContentLength
	handler.ServeHTTP(recorder, request)
	response := recorder.Result()
	response.Request = r
	return response, nil
}

const (
	acrBasic = "urn:example:basic"
	acrMFA   = "urn:example:mfa"
)

// RFC 9470 through all parts: the middleware of an API refuses a token from a weak sign-in, the
// backend of a single-page application offers a stronger one, the server asks the user for it, and
// the API accepts the new token.
func TestStepUpThroughAPIBackendAndServer(t *testing.T) {
	for _, dpop := range []bool{false, true} {
		t.Run(fmt.Sprintf("DPoP %v", dpop), func(t *testing.T) {
			const app, api = "https://client.example.com", "https://api.example.com"
			s := newScene(t, scriptSetup{
				ACRValues: []string{acrBasic, acrMFA},
				Clients: []testClient{{Secret: "7Fjfp0ZBr1KtDRbnfVdmIw", Client: record.Client{
					ID: "spa", ClientMetadata: oauth.ClientMetadata{RedirectURIs: []string{app + "/auth/callback"}, Scope: "openid purchase"},
					ClientSettings: record.ClientSettings{SkipConsent: true},
				}}},
				Scopes:    []record.Scope{{Name: "purchase"}},
				Resources: []record.Resource{{Identifier: api, Scopes: []string{"purchase"}}},
			})
			reaches := "" // the acr of the next sign-in, if not what the client asks for
			page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				id := r.FormValue("interaction")
				i, err := s.server.Interaction(r, id)
				if err != nil {
					t.Error(err)
					return
				}
				who := s.signIn(w, "ada")
				who.ACR = acrBasic
				if len(i.ACRValues) > 0 {
					who.ACR = i.ACRValues[0]
				}
				if reaches != "" {
					who.ACR = reaches
				}
				s.server.Authenticated(w, r, id, *who)
			})
			server := http.NewServeMux()
			server.Handle("/", s.server)
			server.Handle("/sign-in", page)
			hosts := byHost{"server.example.com": server}
			guard, err := resourceserver.New(resourceserver.Config{
				Issuer: scriptIssuer, Resource: api, HTTPClient: &http.Client{Transport: hosts}, Logger: slog.New(slog.DiscardHandler),
				DPoP: &resourceserver.DPoP{NonceKey: []byte("the key of the nonces of this API")},
			})
			if err != nil {
				t.Fatal(err)
			}
			answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				token, _ := resourceserver.TokenFromContext(r.Context())
				fmt.Fprintf(w, "paid after %s", token.ACR)
			})
			routes := http.NewServeMux()
			routes.Handle("/history", guard.Require("purchase")(answer))
			routes.Handle("/pay", guard.RequireToken(resourceserver.Requirement{Scopes: []string{"purchase"}, ACRValues: []string{acrMFA}, MaxAge: time.Hour})(answer))
			hosts["api.example.com"] = routes

			c, err := client.Discover(t.Context(), client.Config{
				Issuer: scriptIssuer, ClientID: "spa", ClientSecret: "7Fjfp0ZBr1KtDRbnfVdmIw", RedirectURI: app + "/auth/callback",
				Scopes: []string{"openid", "purchase"}, Resources: []string{api}, HTTPClient: &http.Client{Transport: hosts}, DPoP: dpop,
			})
			if err != nil {
				t.Fatal(err)
			}
			var failure error
			party, err := client.NewRelyingParty(client.RelyingPartyConfig{
				Client: c, Logger: slog.New(slog.DiscardHandler),
				Error: func(w http.ResponseWriter, _ *http.Request, status int, err error) {
					failure = err
					w.WriteHeader(status)
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			backend, err := client.NewBackend(client.BackendConfig{Party: party, APIs: map[string]string{"/api/": api + "/"}, Transport: hosts})
			if err != nil {
				t.Fatal(err)
			}
			hosts["client.example.com"] = backend
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			browser := &http.Client{Transport: hosts, Jar: jar}
			get := func(path string) (int, string) {
				t.Helper()
				request, err := http.NewRequest(http.MethodGet, app+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("X-CSRF", "1")
				response, err := browser.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(response.Body)
				if err != nil {
					t.Fatal(err)
				}
				return response.StatusCode, string(body)
			}
			refused := func() string {
				t.Helper()
				status, body := get("/api/pay")
				var refusal struct {
					Error  string `json:"error"`
					SignIn string `json:"sign_in"`
				}
				if err := json.Unmarshal([]byte(body), &refusal); err != nil || status != http.StatusUnauthorized || refusal.Error != "step_up" {
					t.Fatalf("the payment: %d %s", status, body)
				}
				return refusal.SignIn
			}

			get("/auth/sign-in?return_to=/api/history")
			if status, body := get("/api/history"); status != http.StatusOK || body != "paid after "+acrBasic {
				t.Fatalf("the history: %d %s, %v", status, body, failure)
			}
			path := refused()
			for _, forged := range []string{"/auth/sign-in?step_up=x", strings.Replace(path, "step_up=", "step_up=AAAA", 1)} {
				if status, _ := get(forged); status != http.StatusBadRequest {
					t.Errorf("%s: status %d", forged, status)
				}
			}

			// The user cancels the second factor: there is no loop of sign-ins, and the session stays.
			reaches = acrBasic
			if status, _ := get(path); status != http.StatusForbidden || failure == nil || !strings.Contains(failure.Error(), client.ErrStepUp.Error()) {
				t.Errorf("a sign-in that was not stepped up: %d, %v", status, failure)
			}
			if status, _ := get("/api/history"); status != http.StatusOK {
				t.Errorf("the session has ended: %d", status)
			}

			reaches, failure = "", nil
			path = refused()
			get(path + "&return_to=" + url.QueryEscape("/api/pay"))
			if status, body := get("/api/pay"); status != http.StatusOK || body != "paid after "+acrMFA || failure != nil {
				t.Errorf("the payment after the step-up: %d %s, %v", status, body, failure)
			}
		})
	}
}
