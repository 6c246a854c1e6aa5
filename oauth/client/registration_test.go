package client_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// registering returns a provider whose registration endpoint responds with a status and body.
func registering(t *testing.T, status int, body string) *provider {
	t.Helper()
	p := newProvider(t)
	p.metadata["registration_endpoint"] = p.issuer + "/register"
	p.handlers["/register"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
	return p
}

func (p *provider) register(t *testing.T, token string) (*client.Registration, error) {
	t.Helper()
	return client.Register(t.Context(), client.Config{Issuer: p.issuer, HTTPClient: p.http}, oauth.ClientMetadata{RedirectURIs: []string{redirectURI}}, token)
}

func TestRegisterSendsTheInitialAccessToken(t *testing.T) {
	p := registering(t, http.StatusCreated, `{"client_id": "a", "client_secret": "b"}`)
	r, err := p.register(t, "initial")
	if err != nil || r.ClientID != "a" || r.ClientSecret != "b" {
		t.Fatalf("registration %v, error %v", r, err)
	}
	if got := p.last(t, "/register").header.Get("Authorization"); got != "Bearer initial" {
		t.Errorf("Authorization is %q", got)
	}
	// This provider does not support RFC 7592.
	if err := r.Read(t.Context()); !errors.Is(err, client.ErrUnsupported) {
		t.Errorf("Read: %v", err)
	}
}

func TestRegisterRejectsInvalidResponses(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   error
	}{
		"an error":     {http.StatusBadRequest, `{"error": "invalid_client_metadata", "error_description": "no"}`, &client.Error{Code: oauth.InvalidClientMetadata}},
		"no client_id": {http.StatusCreated, `{"client_secret": "b"}`, client.ErrResponse},
		"no JSON":      {http.StatusCreated, `<html>`, client.ErrResponse},
		"too long":     {http.StatusCreated, `{"client_id": "` + strings.Repeat("a", 2<<20) + `"}`, client.ErrResponse},
		"a redirect":   {http.StatusFound, ``, client.ErrResponse},
	} {
		if r, err := registering(t, test.status, test.body).register(t, ""); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	p := registering(t, http.StatusCreated, `{"client_id": "a"}`)
	p.metadata["registration_endpoint"] = "http://elsewhere.example.com/register"
	if r, err := p.register(t, "initial"); !errors.Is(err, client.ErrMetadata) {
		t.Errorf("an endpoint over http: %v, %v", r, err)
	}
}

func TestRegistrationTokenIsSentOnlyToTheProvider(t *testing.T) {
	for _, uri := range []string{"http://elsewhere.example.com/register/a", "javascript:alert(1)", "/register/a"} {
		p := registering(t, http.StatusCreated, `{"client_id": "a", "registration_access_token": "t", "registration_client_uri": "`+uri+`"}`)
		r, err := p.register(t, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Delete(t.Context()); !errors.Is(err, client.ErrResponse) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// A provider may rotate the token and omit unchanged members.
func TestRegistrationKeepsOmittedMembers(t *testing.T) {
	p := registering(t, http.StatusCreated, `{"client_id": "a", "client_secret": "b", "registration_access_token": "one", "registration_client_uri": "http://localhost/manage"}`)
	r, err := p.register(t, "")
	if err != nil {
		t.Fatal(err)
	}
	p.handlers["/manage"] = func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"client_id": "a", "registration_access_token": "two", "client_name": "A"})
	}
	if err := r.Update(t.Context(), oauth.ClientMetadata{RedirectURIs: []string{redirectURI}}); err != nil {
		t.Fatal(err)
	}
	if r.ClientSecret != "b" || r.RegistrationAccessToken != "two" || r.ClientName != "A" || r.RegistrationClientURI != "http://localhost/manage" {
		t.Errorf("the registration is %+v", r.ClientInformation)
	}
	if got := p.last(t, "/manage").header.Get("Authorization"); got != "Bearer one" {
		t.Errorf("Authorization is %q", got)
	}
	p.handlers["/manage"] = func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"client_id": "another"})
	}
	if err := r.Read(t.Context()); !errors.Is(err, client.ErrResponse) || r.ClientID != "a" {
		t.Errorf("a response for another client: %v", err)
	}
	p.handlers["/manage"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	if err := r.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}
