package client_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/jose"
)

// approving returns a provider with CIBA whose token endpoint responds to the polls with the given codes
// in turn. "" returns tokens.
func approving(t *testing.T, responses ...oauth.ErrorCode) (p *provider, polls *[]time.Duration) {
	p = newProvider(t)
	began := time.Now()
	polls = &[]time.Duration{}
	p.metadata["backchannel_authentication_endpoint"] = p.issuer + "/backchannel"
	p.handlers["/backchannel"] = func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"auth_req_id": "1c266114-a1be-4252-8ad1-04986c5b9ac1", "expires_in": 120, "interval": 2})
	}
	p.handlers["/token"] = func(w http.ResponseWriter, _ *http.Request) {
		*polls = append(*polls, time.Since(began))
		if code := responses[min(len(*polls), len(responses))-1]; code != "" {
			writeJSON(w, http.StatusBadRequest, map[string]any{"error": code})
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{"access_token": "a", "token_type": "Bearer", "expires_in": 60, "id_token": p.sign(p.approved(nil))})
	}
	return p, polls
}

// approved returns the claims of an ID token for a user who approved.
func (p *provider) approved(more map[string]any) map[string]any {
	claims := map[string]any{"iss": p.issuer, "sub": "ada", "aud": clientID, "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix()}
	for name, value := range more {
		claims[name] = value
	}
	return claims
}

func TestWaitForApproval(t *testing.T) {
	for _, test := range []struct {
		name      string
		responses []oauth.ErrorCode
		polls     string
		code      oauth.ErrorCode
	}{
		{"until the user allows it", []oauth.ErrorCode{oauth.AuthorizationPending, ""}, "[2s 4s]", ""},
		{"longer after slow_down", []oauth.ErrorCode{oauth.SlowDown, oauth.AuthorizationPending, ""}, "[2s 9s 16s]", ""},
		{"until the user refuses", []oauth.ErrorCode{oauth.AuthorizationPending, oauth.AccessDenied}, "[2s 4s]", oauth.AccessDenied},
		{"until it expires", []oauth.ErrorCode{oauth.ExpiredToken}, "[2s]", oauth.ExpiredToken},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, polls := approving(t, test.responses...)
				c := p.discover(t, nil)
				b, err := c.BackchannelAuthentication(t.Context(), client.BackchannelRequest{LoginHint: "ada", BindingMessage: "W4SCT", RequestedExpiry: 90 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				sent := p.last(t, "/backchannel").form
				if sent.Get("login_hint") != "ada" || sent.Get("binding_message") != "W4SCT" || sent.Get("requested_expiry") != "90" || sent.Get("scope") != "openid api" || sent.Has("client_notification_token") {
					t.Errorf("sent %v", sent)
				}
				tokens, err := c.WaitForApproval(t.Context(), b)
				if refusal, _ := errors.AsType[*client.Error](err); test.code != "" && (refusal == nil || refusal.Code != test.code) || test.code == "" && (err != nil || tokens.Identity.Subject != "ada") {
					t.Errorf("%v, %v", tokens, err)
				}
				if got := fmt.Sprint(*polls); got != test.polls {
					t.Errorf("polls after %s, want %s", got, test.polls)
				}
			})
		})
	}
}

func TestBackchannelRequestsAreSigned(t *testing.T) {
	p, _ := approving(t, "")
	key := newKey(t)
	c := p.discover(t, func(config *client.Config) {
		config.ClientSecret, config.PrivateKey, config.KeyID, config.RequestObjectSigningAlg = "", key, "mine", jose.ES256
		config.Resources = []string{"https://api.example"}
	})
	_, err := c.BackchannelAuthentication(t.Context(), client.BackchannelRequest{
		IDTokenHint: "a.b.c", Notify: true, AuthorizationDetails: []any{map[string]any{"type": "payment"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	form := p.last(t, "/backchannel").form
	for name := range form {
		if name != "request" && name != "client_id" && name != "client_assertion" && name != "client_assertion_type" {
			t.Errorf("%s is outside the signed request", name)
		}
	}
	payload, err := jose.UnverifiedPayload(form.Get("request"))
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	if claims["iss"] != clientID || claims["aud"] != p.issuer || claims["id_token_hint"] != "a.b.c" || claims["scope"] != "openid api" || claims["resource"] != "https://api.example" {
		t.Errorf("claims %v", claims)
	}
	for _, name := range []string{"exp", "iat", "nbf", "jti", "client_notification_token", "authorization_details"} {
		if claims[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestBackchannelRequestsNeedOneHint(t *testing.T) {
	p, _ := approving(t, "")
	c := p.discover(t, nil)
	for _, r := range []client.BackchannelRequest{{}, {LoginHint: "a", IDTokenHint: "b"}, {LoginHint: "a", Scopes: []string{"api"}}} {
		if _, err := c.BackchannelAuthentication(t.Context(), r); err == nil {
			t.Errorf("%+v was sent", r.LoginHint)
		}
	}
}

// notified returns a handler with one stored authentication, and what Done got.
func notified(t *testing.T, p *provider) (h *client.BackchannelHandler, b *client.BackchannelAuthentication, done *[]string) {
	c := p.discover(t, nil)
	b, err := c.BackchannelAuthentication(t.Context(), client.BackchannelRequest{LoginHint: "ada", Notify: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(b.NotificationToken) < 22 || p.last(t, "/backchannel").form.Get("client_notification_token") != b.NotificationToken {
		t.Fatalf("notification token %q", b.NotificationToken)
	}
	done = &[]string{}
	return &client.BackchannelHandler{
		Client: c, Logger: slog.New(slog.DiscardHandler),
		Pending: func(_ context.Context, authReqID string) (*client.BackchannelAuthentication, error) {
			if authReqID != b.AuthReqID {
				return nil, nil
			}
			return b, nil
		},
		Done: func(_ context.Context, _ *client.BackchannelAuthentication, tokens *client.Tokens, err error) error {
			if err != nil {
				refusal, _ := errors.AsType[*client.Error](err)
				*done = append(*done, string(refusal.Code))
			} else {
				*done = append(*done, tokens.Identity.Subject+" "+tokens.AccessToken)
			}
			return nil
		},
	}, b, done
}

func notify(h http.Handler, token string, body any) int {
	encoded, _ := json.Marshal(body)
	r := httptest.NewRequest(http.MethodPost, "/ciba", strings.NewReader(string(encoded)))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

func TestPingGetsTheTokens(t *testing.T) {
	p, polls := approving(t, "")
	h, b, done := notified(t, p)
	if status := notify(h, b.NotificationToken, map[string]any{"auth_req_id": b.AuthReqID}); status != http.StatusNoContent || fmt.Sprint(*done) != "[ada a]" {
		t.Errorf("status %d, done %q", status, *done)
	}
	if status := notify(h, b.NotificationToken, map[string]any{"auth_req_id": "x"}); status != http.StatusServiceUnavailable {
		t.Errorf("an unknown request: status %d", status)
	}
	for name, status := range map[string]int{
		"another token": notify(h, "x"+b.NotificationToken, map[string]any{"auth_req_id": b.AuthReqID}),
		"no token":      notify(h, "", map[string]any{"auth_req_id": b.AuthReqID}),
	} {
		if status != http.StatusUnauthorized {
			t.Errorf("%s: status %d", name, status)
		}
	}
	if len(*done) != 1 || len(*polls) != 1 {
		t.Errorf("done %q, %d polls", *done, len(*polls))
	}
}

// The provider is asked to send the ping again while there is no result.
func TestPingIsRefusedUntilThereIsAResult(t *testing.T) {
	p, _ := approving(t, oauth.AuthorizationPending, oauth.AccessDenied)
	h, b, done := notified(t, p)
	if status := notify(h, b.NotificationToken, map[string]any{"auth_req_id": b.AuthReqID}); status != http.StatusServiceUnavailable || len(*done) != 0 {
		t.Errorf("pending: status %d, done %q", status, *done)
	}
	if status := notify(h, b.NotificationToken, map[string]any{"auth_req_id": b.AuthReqID}); status != http.StatusNoContent || fmt.Sprint(*done) != "[access_denied]" {
		t.Errorf("denied: status %d, done %q", status, *done)
	}
}

// Pushed tokens are accepted only if the ID token is bound to the request and to all of them.
func TestPushedTokensAreVerified(t *testing.T) {
	hash := func(s string) string { sum := sha256.Sum256([]byte(s)); return encode(sum[:16]) }
	for name, test := range map[string]struct {
		change func(body, claims map[string]any)
		status int
	}{
		"valid": {nil, http.StatusNoContent},
		"no refresh token": {func(body, claims map[string]any) {
			delete(body, "refresh_token")
			delete(claims, oauth.ClaimRefreshTokenHash)
		}, http.StatusNoContent},
		"another access token":       {func(body, _ map[string]any) { body["access_token"] = "b" }, http.StatusServiceUnavailable},
		"another refresh token":      {func(body, _ map[string]any) { body["refresh_token"] = "b" }, http.StatusServiceUnavailable},
		"no at_hash":                 {func(_, claims map[string]any) { delete(claims, "at_hash") }, http.StatusServiceUnavailable},
		"no rt_hash":                 {func(_, claims map[string]any) { delete(claims, oauth.ClaimRefreshTokenHash) }, http.StatusServiceUnavailable},
		"an ID token of another one": {func(_, claims map[string]any) { claims[oauth.ClaimAuthReqID] = "x" }, http.StatusServiceUnavailable},
		"no auth_req_id":             {func(_, claims map[string]any) { delete(claims, oauth.ClaimAuthReqID) }, http.StatusServiceUnavailable},
		"another audience":           {func(_, claims map[string]any) { claims["aud"] = "x" }, http.StatusServiceUnavailable},
		"no ID token":                {func(body, _ map[string]any) { body["id_token"] = nil }, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := approving(t, "")
			h, b, done := notified(t, p)
			body := map[string]any{"auth_req_id": b.AuthReqID, "access_token": "a", "token_type": "Bearer", "expires_in": 60, "refresh_token": "r", "id_token": ""}
			claims := p.approved(map[string]any{"at_hash": hash("a"), oauth.ClaimRefreshTokenHash: hash("r"), oauth.ClaimAuthReqID: b.AuthReqID})
			if test.change != nil {
				test.change(body, claims)
			}
			if body["id_token"] != nil {
				body["id_token"] = p.sign(claims)
			}
			status := notify(h, b.NotificationToken, body)
			if status != test.status || (status == http.StatusNoContent) != (fmt.Sprint(*done) == "[ada a]") {
				t.Errorf("status %d, done %q", status, *done)
			}
		})
	}
}

func TestPushedErrorsReachTheApplication(t *testing.T) {
	p, _ := approving(t, "")
	h, b, done := notified(t, p)
	if status := notify(h, b.NotificationToken, map[string]any{"auth_req_id": b.AuthReqID, "error": "transaction_failed"}); status != http.StatusNoContent || fmt.Sprint(*done) != "[transaction_failed]" {
		t.Errorf("status %d, done %q", status, *done)
	}
}

func TestBackchannelSecretsAreNotPrinted(t *testing.T) {
	b := client.BackchannelAuthentication{AuthReqID: "secret1", NotificationToken: "secret2"}
	r := client.BackchannelRequest{LoginHint: "secret3", UserCode: "secret4"}
	if printed := fmt.Sprintf("%v %+v %#v %v %+v %#v", b, &b, b, r, &r, r); strings.Contains(printed, "secret") {
		t.Error(printed)
	}
}
