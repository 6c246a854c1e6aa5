package demo

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

const partyPolicy = "policy service"

// policySecret is a webhook secret: 24 bytes in base64.
const policySecret = "whsec_ZGVtby1zZWNyZXQtb2YtcG9saWN5LTAx"

func policyScene() scene {
	return scene{
		key: "policy", title: "Your own token policy: webhook", button: "Get a token",
		about:    "Before it issues a token, the authorization server calls the operator's policy service with a signed request. The service adds claims or refuses. If it does not respond, no token is issued. Expressions in the configuration and Go functions can do the same without a service.",
		clientID: "booking", clientSecret: "demo-secret-of-the-booking-01234567", clientName: "Booking",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeClientCredentials},
		scopes:          []string{scopeRead},
		configure: func(d *Demo, config *configuration.Configuration) error {
			return d.policy.configure(d, config)
		},
		run: func(ctx context.Context, d *Demo, w *walk) error { return d.policy.run(ctx, d, w) },
		breaks: []breakage{
			{key: "refused", title: "Service refuses", about: "The policy service refuses a token for this client.", code: oauth.AccessDenied},
			{key: "silent", title: "Service is down", about: "The policy service does not respond. The authorization server fails closed: no token is issued.", code: oauth.TemporarilyUnavailable},
			{key: "subject", title: "Service oversteps", about: "The policy service tries to set sub, which only the authorization server may set.", code: oauth.TemporarilyUnavailable},
		},
	}
}

// policyService handles one walk at a time.
type policyService struct {
	walking sync.Mutex
	mu      sync.Mutex
	walk    *walk
}

func (p *policyService) configure(d *Demo, config *configuration.Configuration) error {
	address, err := d.serve(partyPolicy, http.HandlerFunc(p.decide))
	if err != nil {
		return err
	}
	config.Outgoing.Networks = append(config.Outgoing.Networks, "127.0.0.1")
	config.Hooks = append(config.Hooks, configuration.Hook{
		URL: address + "/tokens", Secret: policySecret, Timeout: record.Duration(2 * time.Second),
		Clients: []string{"booking"}, GrantTypes: []string{oauth.GrantTypeClientCredentials},
	})
	return nil
}

func (p *policyService) run(ctx context.Context, d *Demo, w *walk) error {
	p.walking.Lock()
	defer p.walking.Unlock()
	p.set(w)
	defer p.set(nil)
	if err := d.getTokens(ctx, w); err != nil || w.failed {
		return err
	}
	_, payload, _ := strings.Cut(w.tokens.AccessToken, ".")
	payload, _, _ = strings.Cut(payload, ".")
	claims, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return fmt.Errorf("read the access token: %w", err)
	}
	var shown bytes.Buffer
	if err := json.Indent(&shown, claims, "", "  "); err != nil {
		return fmt.Errorf("read the access token: %w", err)
	}
	w.result = "Claims of the access token: " + shown.String()
	return nil
}

func (p *policyService) set(w *walk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.walk = w
}

// decide is the service. It checks the signature and responds as the walk's breakage requires.
func (p *policyService) decide(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil || p.walk == nil || !signedByPolicySecret(r.Header, body) {
		http.Error(w, "invalid signature", http.StatusUnauthorized)
		return
	}
	answer := `{"claims": {"plan": "gold", "seats": 12}}`
	switch p.walk.breakKey() {
	case "refused":
		answer = `{"error": "access_denied", "error_description": "no booking today"}`
	case "subject":
		answer = `{"claims": {"sub": "` + Username + `"}}`
	case "silent":
		answer = ""
	}
	m := Message{
		From: partyServer, To: partyPolicy, Purpose: "Call the operator's policy service before the token is issued. The signature proves that the authorization server sent the request (Standard Webhooks).",
		Request:  fmt.Sprintf("POST %s HTTP/1.1\n%s\n%s", r.URL.Path, signatureFields(r.Header), body),
		Response: "HTTP/1.1 200 OK\nContent-Type: application/json\n\n" + answer,
	}
	if answer == "" {
		m.Response = "(no response)"
	}
	p.walk.recording.add(m)
	if answer == "" {
		panic(http.ErrAbortHandler) // cuts the connection
	}
	w.Header().Set("Content-Type", "application/json")
	// An error means that the server left.
	_, _ = io.WriteString(w, answer)
}

// signedByPolicySecret verifies a message according to Standard Webhooks.
func signedByPolicySecret(header http.Header, body []byte) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(policySecret, "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", header.Get("Webhook-Id"), header.Get("Webhook-Timestamp"), body)
	return hmac.Equal([]byte("v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))), []byte(header.Get("Webhook-Signature")))
}

func signatureFields(header http.Header) string {
	var b strings.Builder
	for _, name := range []string{"Content-Type", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"} {
		fmt.Fprintf(&b, "%s: %s\n", name, header.Get(name))
	}
	return b.String()
}
