package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/identity"
)

// The client of the server at the provider.
const (
	providerID     = "load"
	providerClient = "valetkey"
)

// startProvider starts an OpenID Provider in this process, so that its CPU time counts for nobody. Its users
// are signed in and have consented: a code is the nonce and the user.
func startProvider(signer keys) (*httptest.Server, error) {
	jwk, err := signer.publicJWK()
	if err != nil {
		return nil, err
	}
	jwk["kid"], jwk["alg"], jwk["use"] = "1", es256, "sig"
	respond := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // an error means that the other side has disconnected
	}
	mux := http.NewServeMux()
	provider := httptest.NewServer(mux)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		respond(w, map[string]any{
			"issuer": provider.URL, "authorization_endpoint": provider.URL + "/authorize", "token_endpoint": provider.URL + "/token", "jwks_uri": provider.URL + "/keys",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{es256}, "token_endpoint_auth_methods_supported": []string{"client_secret_post"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { respond(w, map[string]any{"keys": []any{jwk}}) })
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		nonce, user, _ := strings.Cut(r.PostFormValue("code"), " ")
		now := time.Now().Unix()
		token, err := signer.sign(es256, map[string]any{"kid": "1", "typ": "JWT"}, map[string]any{
			"iss": provider.URL, "aud": providerClient, "sub": user, "iat": now, "exp": now + 600, "auth_time": now, "nonce": nonce, "name": "Ada Lovelace",
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		respond(w, map[string]any{"access_token": "x", "token_type": "Bearer", "expires_in": 600, "id_token": token})
	})
	return provider, nil
}

// providerSection is the part of the configuration that lets users of the provider in.
func providerSection(issuer, secretFile string) string {
	return fmt.Sprintf(`
outgoing: {networks: [127.0.0.1]}
identity_providers:
  - {id: %s, name: Load, issuer: %q, client_id: %s, client_secret_file: %q, rule: "true"}
`, providerID, issuer, providerClient, secretFile)
}

// networks are the addresses of browsers: sign-ins that are begun in one network are limited.
var networks atomic.Uint32

func nextNetwork() string {
	n := networks.Add(1)
	return fmt.Sprintf("10.%d.%d.%d", n>>16&0xff, n>>8&0xff, n&0xff)
}

// prepareUpstream signs users in through the provider. The first sign-in of each creates the account.
func prepareUpstream(_ context.Context, t *target, _ keys) (request, error) {
	cookies := httptest.NewRecorder()
	identity.SetUpstreamCookie(cookies, t.url, identity.NewBrowserSecret())
	browser := cookies.Result().Cookies()
	return func(ctx context.Context, worker int) error {
		from := nextNetwork()
		location, err := t.send(ctx, message{method: http.MethodPost, path: "/sign-in/upstream", page: true, from: from, cookies: browser, form: url.Values{"provider": {providerID}}})
		if err != nil {
			return err
		}
		to, err := url.Parse(string(location))
		if err != nil {
			return fmt.Errorf("read the authorization request: %w", err)
		}
		asked := to.Query()
		if asked.Get("state") == "" {
			return fmt.Errorf("the server did not send the user to the provider, but to %.200s", location)
		}
		response := url.Values{"state": {asked.Get("state")}, "code": {asked.Get("nonce") + " " + account(worker%signInsAtOnce)}}
		location, err = t.send(ctx, message{method: http.MethodGet, path: "/upstream/" + providerID + "/callback?" + response.Encode(), from: from, cookies: browser})
		if err == nil && !strings.Contains(string(location), "/account") {
			err = fmt.Errorf("the sign-in failed: %.200s", location)
		}
		return err
	}, nil
}

// floorUpstreamSignIn is two redirects; before the second, the floor redeems the code at the provider,
// verifies the ID token, and adds a row.
func floorUpstreamSignIn(t *target, _ keys) request {
	return func(ctx context.Context, _ int) error {
		if _, err := t.send(ctx, message{method: http.MethodGet, path: floorRedirect + "?state=x"}); err != nil {
			return err
		}
		_, err := t.send(ctx, message{method: http.MethodPost, path: floorUpstream, form: url.Values{"token_endpoint": {t.provider + "/token"}, "code": {"nonce user"}}})
		return err
	}
}

// redeem redeems a code at the provider.
func (f *floor) redeem(r *http.Request) (string, error) {
	body := url.Values{
		"grant_type": {"authorization_code"}, "code": {r.Form.Get("code")}, "redirect_uri": {redirectURI}, "client_id": {providerClient}, "client_secret": {clientSecret},
	}
	answer, err := http.PostForm(r.Form.Get("token_endpoint"), body)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var tokens struct {
		IDToken string `json:"id_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&tokens); err != nil {
		return "", fmt.Errorf("read the response of the provider: %w", err)
	}
	return "", errors.Join(verify(f.client, tokens.IDToken), f.rows.add(r.Context()))
}
