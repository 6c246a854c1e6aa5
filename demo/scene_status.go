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
	// sceneLifetime is that of tokens in scenes where nothing waits for it.
	sceneLifetime = 5 * time.Minute
	// statusSeen is how long a revocation takes to be in the list.
	statusSeen = 2*time.Second + 200*time.Millisecond
)

func statusScene() scene {
	s := &ledger{}
	return scene{
		key: "status", title: "Token status list: revocation without introspection", button: "Get a token and read the ledger",
		about:    "An API that validates JWTs locally does not learn that one was revoked. This API checks: the token names a list that the server publishes, and a position in it. An API usually caches the list for a minute. This one fetches it for each call, so that you can watch.",
		clientID: "auditor", clientSecret: "demo-secret-of-the-auditor-01234567", clientName: "Auditor",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeClientCredentials},
		scopes:          []string{scopeLedger},
		configure:       s.configure,
		run:             runStatus,
		breaks: []breakage{
			{key: "revoked", title: "Revoked token", about: "Revoke the token, then call the API with it. The API sees it in the list.", code: oauth.InvalidToken},
			{key: "past", title: "Past status", about: "Ask for the list of an hour ago, which would reveal when a token was revoked.", code: oauth.InvalidRequest},
		},
	}
}

// ledger is an API of its own, whose tokens have a status.
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

// ServeHTTP forgets the list between two calls.
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
	if err := d.ask(ctx, w, form, "Request a token for the ledger; it names its status list"); err != nil || w.failed {
		return err
	}
	audience, list, err := statusOf(w.tokens.AccessToken)
	if err != nil {
		return err
	}
	switch w.breakKey() {
	case "past":
		return d.send(ctx, w, http.MethodGet, fmt.Sprintf("%s&time=%d", list, time.Now().Add(-time.Hour).Unix()), "", "", "Request the list of an hour ago")
	case "revoked":
		revocation := url.Values{"token": {w.tokens.AccessToken}}
		if err := d.send(ctx, w, http.MethodPost, d.issuer+"/revoke", revocation.Encode(), w.scene.clientSecret, "Revoke the token"); err != nil || w.failed {
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
	if err := d.send(ctx, w, http.MethodGet, list, "", "", "What the API does regularly: fetch the list that the token names"); err != nil || w.failed {
		return err
	}
	return d.requestAt(ctx, w, http.MethodGet, audience+"/", "Call the ledger with the access token")
}

// statusOf reads what an access token says of its API and its status.
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
