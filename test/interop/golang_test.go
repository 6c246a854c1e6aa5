package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func TestGoOIDC(t *testing.T) {
	inBothFormats(t, oddSecret, "", runGoOIDC) // x/oauth2 has no private_key_jwt
}

func runGoOIDC(t *testing.T, w *world) report {
	ctx := t.Context()
	provider, err := oidc.NewProvider(ctx, w.issuer)
	if err != nil {
		t.Fatal(err)
	}
	config := oauth2.Config{
		ClientID: clientID, ClientSecret: w.secret, Endpoint: provider.Endpoint(), RedirectURL: redirectURI,
		Scopes: []string{oidc.ScopeOpenID, "profile", "email", oidc.ScopeOfflineAccess, apiScope},
	}
	verifier := oauth2.GenerateVerifier()
	callback, err := w.alice.Visit(
		config.AuthCodeURL("the-state", oauth2.S256ChallengeOption(verifier), oidc.Nonce("the-nonce")), redirectURI)
	if err != nil {
		t.Fatal(err)
	}
	response := callback.Query()
	if response.Get("state") != "the-state" {
		t.Fatalf("the browser returned to %s", callback)
	}
	token, err := config.Exchange(ctx, response.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := token.Extra("id_token").(string)
	idToken, err := provider.Verifier(&oidc.Config{ClientID: clientID}).Verify(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	if idToken.Nonce != "the-nonce" {
		t.Error("the nonce differs")
	}
	if err := idToken.VerifyAccessToken(token.AccessToken); err != nil {
		t.Error(err)
	}
	got := report{Subject: idToken.Subject}
	info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Name string `json:"name"`
	}
	if err := info.Claims(&claims); err != nil || info.Subject != idToken.Subject {
		t.Errorf("UserInfo is about %q (%v)", info.Subject, err)
	}
	got.Name, got.Email = claims.Name, info.Email
	got.API = call(t, w, config.Client(ctx, token)).Subject

	expired := *token
	expired.Expiry = time.Now().Add(-time.Hour)
	refreshed, err := config.TokenSource(ctx, &expired).Token()
	if err != nil {
		t.Fatal(err)
	}
	got.Rotated = refreshed.RefreshToken != token.RefreshToken
	got.APIRefreshed = call(t, w, config.Client(ctx, refreshed)).Subject

	// x/oauth2 neither introspects nor revokes; these are plain requests.
	var endpoints struct {
		Introspection string `json:"introspection_endpoint"`
		Revocation    string `json:"revocation_endpoint"`
	}
	if err := provider.Claims(&endpoints); err != nil {
		t.Fatal(err)
	}
	got.ActiveBefore = active(t, w, endpoints.Introspection, refreshed.AccessToken)
	post(t, w, endpoints.Revocation, url.Values{"token": {refreshed.RefreshToken}}, nil)
	got.ActiveAfter = active(t, w, endpoints.Introspection, refreshed.AccessToken)
	got.APIAfter = status(t, w, config.Client(ctx, refreshed))
	gone := *refreshed
	gone.Expiry = time.Now().Add(-time.Hour)
	_, err = config.TokenSource(ctx, &gone).Token()
	if refusal, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		got.Refusal = refusal.ErrorCode
	}

	service := clientcredentials.Config{
		ClientID: serviceID, ClientSecret: serviceSecret, TokenURL: provider.Endpoint().TokenURL,
		AuthStyle: oauth2.AuthStyleInParams, Scopes: []string{apiScope}, EndpointParams: url.Values{"resource": {w.api}},
	}
	got.APIService = call(t, w, service.Client(ctx)).Client
	return got
}

func call(t *testing.T, w *world, h *http.Client) caller {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.api+"/albums", nil)
	if err != nil {
		t.Fatal(err)
	}
	var c caller
	fetch(t, h, req, &c)
	return c
}

// status calls the API and returns the status of the response.
func status(t *testing.T, w *world, h *http.Client) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.api+"/albums", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func active(t *testing.T, w *world, endpoint, token string) bool {
	t.Helper()
	var result struct {
		Active bool `json:"active"`
	}
	post(t, w, endpoint, url.Values{"token": {token}}, &result)
	return result.Active
}

func post(t *testing.T, w *world, endpoint string, form url.Values, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(clientID), url.QueryEscape(w.secret))
	fetch(t, http.DefaultClient, req, into)
}

func fetch(t *testing.T, h *http.Client, req *http.Request, into any) {
	t.Helper()
	resp, err := h.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %s", req.Method, req.URL, resp.Status, resp.Header.Get("WWW-Authenticate"))
	}
	if into == nil {
		return
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", req.URL, err))
	}
}
