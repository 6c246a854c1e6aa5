package demo

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/resourceserver"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	partyLedger = "ledger API"
	scopeLedger = "ledger:read"
	// sceneLifetime is the token lifetime in scenes that do not wait for tokens to expire.
	sceneLifetime = 5 * time.Minute
	// statusSeen is how long it takes until a revocation is in the list.
	statusSeen = 2*time.Second + 200*time.Millisecond
)

func statusScene() scene {
	s := &ledger{}
	return scene{
		key: "status", title: "Token status list: revocation without introspection", button: "Get a token and read the ledger",
		about:    "An API that validates JWTs locally does not notice that a token was revoked. This API does: the token contains the URL of a status list, which the server publishes, and an index in it. APIs normally cache the list for a minute. This one fetches it for each call, so that you can see it.",
		clientID: "auditor", clientSecret: "demo-secret-of-the-auditor-01234567", clientName: "Auditor",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeClientCredentials},
		scopes:          []string{scopeLedger},
		configure:       s.configure,
		run:             runStatus,
		breaks: []breakage{
			{key: "revoked", title: "Revoked token", about: "Revoke the token, then call the API with it. The status list says that it is revoked.", code: oauth.InvalidToken},
			{key: "past", title: "Historical status", about: "Request the list from an hour ago, which would reveal when a token was revoked.", code: oauth.InvalidRequest},
		},
	}
}

// ledger is another API, whose tokens have a status.
type ledger struct{ demo *Demo }

func (l *ledger) configure(d *Demo, config *configuration.Configuration) error {
	l.demo = d
	address, err := d.serve(partyLedger, l)
	if err != nil {
		return err
	}
	config.Scopes = append(config.Scopes, record.Scope{Name: scopeLedger, Description: "Read the ledger"})
	config.Resources = append(config.Resources, record.Resource{
		Identifier: address, Name: partyLedger, Scopes: []string{scopeLedger},
		StatusList: true, AccessTokenLifetime: record.Duration(sceneLifetime),
	})
	return nil
}

// ServeHTTP uses a new guard for each call, so that the list is not cached.
func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	guard, err := resourceserver.New(resourceserver.Config{
		Issuer: l.demo.issuer, Resource: "http://" + r.Host, CheckStatus: true, Logger: l.demo.logger,
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	guard.Require(scopeLedger)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// An error means that the client left.
		_, _ = io.WriteString(w, `{"balance": "12 guineas"}`)
	})).ServeHTTP(w, r)
}

func runStatus(ctx context.Context, d *Demo, w *walk) error {
	form := url.Values{"grant_type": {oauth.GrantTypeClientCredentials}, "scope": {scopeLedger}}
	if err := d.ask(ctx, w, form, "Request a token for the ledger. It contains the URL of its status list and its index (draft-ietf-oauth-status-list, section 6.2)."); err != nil || w.failed {
		return err
	}
	audience, list, err := statusOf(w.tokens.AccessToken)
	if err != nil {
		return err
	}
	switch w.breakKey() {
	case "past":
		return d.send(ctx, w, http.MethodGet, fmt.Sprintf("%s&time=%d", list, time.Now().Add(-time.Hour).Unix()), "", "", "Request the list from an hour ago. The server does not reveal the past (draft-ietf-oauth-status-list, section 8.4).")
	case "revoked":
		revocation := url.Values{"token": {w.tokens.AccessToken}}
		if err := d.send(ctx, w, http.MethodPost, d.issuer+"/revoke", revocation.Encode(), w.scene.clientSecret, "Revoke the token. Only the client that it was issued to may do this (RFC 7009, section 2.1)."); err != nil || w.failed {
			return err
		}
		wait := time.NewTimer(statusSeen)
		defer wait.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait.C:
		}
	}
	if err := d.send(ctx, w, http.MethodGet, list, "", "", "Fetch the status list, as the API does regularly. It is a signed JWT with one bit per token, so the server does not learn which token is used (draft-ietf-oauth-status-list, section 5)."); err != nil || w.failed {
		return err
	}
	return d.requestAt(ctx, w, http.MethodGet, audience+"/", "Call the ledger with the access token. The API checks the token and its bit in the status list (draft-ietf-oauth-status-list, section 8.3).")
}

// statusOf returns the audience of an access token and the URL of its status list.
func statusOf(token string) (audience, list string, err error) {
	_, payload, _ := strings.Cut(token, ".")
	payload, _, _ = strings.Cut(payload, ".")
	document, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return "", "", fmt.Errorf("read the access token: %w", err)
	}
	var claims struct {
		Audience string       `json:"aud"`
		Status   oauth.Status `json:"status"`
	}
	if err := json.Unmarshal(document, &claims); err != nil || claims.Status.StatusList == nil {
		return "", "", fmt.Errorf("read the access token's status: %w", err)
	}
	return claims.Audience, claims.Status.StatusList.URI, nil
}
