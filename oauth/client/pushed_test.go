package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
)

const pushedURI = "urn:ietf:params:oauth:request_uri:bwc4JK-ESC0w8acc191e-Y1LTC2"

// pushing makes a provider accept pushed requests, and returns the last form that it got.
func (p *provider) pushing(status int, body string) *url.Values {
	var last url.Values
	p.metadata["pushed_authorization_request_endpoint"] = p.issuer + "/par"
	p.handlers["/par"] = func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		last = r.PostForm
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
	return &last
}

func names(v url.Values) []string {
	var all []string
	for name := range v {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func TestRequestsArePushed(t *testing.T) {
	p := newProvider(t)
	form := p.pushing(http.StatusCreated, `{"request_uri": "`+pushedURI+`", "expires_in": 60}`)
	c := p.discover(t, func(config *client.Config) {
		config.PushAuthorizationRequests = true
		config.InteractionID = func(context.Context) string { return "93bac548-d2de-4546-b106-880a5018460d" }
	})
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{Prompt: []string{"login"}})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(u.Query()); !slices.Equal(got, []string{"client_id", "request_uri", "tenant"}) || u.Query().Get("request_uri") != pushedURI {
		t.Errorf("the browser gets %s, want client_id, request_uri and the endpoint's own query", address)
	}
	want := []string{"client_id", "code_challenge", "code_challenge_method", "nonce", "prompt", "redirect_uri", "response_type", "scope", "state"}
	if got := names(*form); !slices.Equal(got, want) {
		t.Errorf("pushed %q, want %q", got, want)
	}
	if (*form).Get("state") != transaction.State || (*form).Get("code_challenge") != oauth.S256Challenge(transaction.CodeVerifier) {
		t.Error("the pushed request is not that of the transaction")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.requests {
		if r.path == "/par" && (r.header.Get("Authorization") == "" || r.header.Get("x-fapi-interaction-id") != "93bac548-d2de-4546-b106-880a5018460d") {
			t.Errorf("the request has no credentials, or no interaction ID: %v", r.header)
		}
	}
}

func TestRequestsArePushedIfTheProviderRequiresIt(t *testing.T) {
	p := newProvider(t)
	form := p.pushing(http.StatusCreated, `{"request_uri": "`+pushedURI+`", "expires_in": 60}`)
	p.metadata["require_pushed_authorization_requests"] = true
	key, err := jose.GenerateKey(jose.PS256)
	if err != nil {
		t.Fatal(err)
	}
	c := p.discover(t, func(config *client.Config) {
		config.PrivateKey, config.KeyID, config.RequestObjectSigningAlg = key, "k", jose.PS256
		config.AuthMethod = oauth.AuthMethodClientSecretPost
	})
	if _, _, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{}); err != nil {
		t.Fatal(err)
	}
	// RFC 9126, section 3: the object contains everything else.
	if got := names(*form); !slices.Equal(got, []string{"client_id", "client_secret", "request"}) {
		t.Errorf("pushed %q, want the credentials and the request object alone", got)
	}
	payload, err := jose.UnverifiedPayload((*form).Get("request"))
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"iss", "aud", "exp", "nbf", "client_id", "state", "code_challenge"} {
		if claims[name] == nil {
			t.Errorf("the request object has no %s", name)
		}
	}
}

func TestPushedRequestsThatFail(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		want   error
	}{
		{http.StatusBadRequest, `{"error": "invalid_request", "error_description": "no"}`, nil},
		{http.StatusCreated, `{"expires_in": 60}`, client.ErrResponse},
		{http.StatusCreated, `{"request_uri": "urn:\n"}`, client.ErrResponse},
		{http.StatusCreated, `<html>`, client.ErrResponse},
		{http.StatusNotFound, ``, client.ErrResponse},
	} {
		p := newProvider(t)
		p.pushing(test.status, test.body)
		c := p.discover(t, func(config *client.Config) { config.PushAuthorizationRequests = true })
		_, _, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
		if refused, ok := errors.AsType[*client.Error](err); test.want == nil && (!ok || refused.Code != oauth.InvalidRequest) {
			t.Errorf("%d %s: %v, want the provider's error", test.status, test.body, err)
		}
		if test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%d %s: %v, want %v", test.status, test.body, err, test.want)
		}
	}
	c := newProvider(t).discover(t, func(config *client.Config) { config.PushAuthorizationRequests = true })
	if _, _, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{}); !errors.Is(err, client.ErrUnsupported) {
		t.Errorf("without an endpoint: %v", err)
	}
}
