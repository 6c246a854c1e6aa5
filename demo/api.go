package demo

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/oauth/resourceserver"
)

// apiHandler returns the resource server: two routes that require different scopes.
func (d *Demo) apiHandler(log *slog.Logger) (http.Handler, error) {
	guard, err := resourceserver.New(resourceserver.Config{
		Issuer: d.issuer, Resource: d.api, Name: "Photo API", ScopesSupported: []string{scopeRead, scopeDelete},
		ClockSkew: time.Second, Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("start the demo's API: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+guard.MetadataPath(), guard.Metadata())
	mux.Handle("GET /photos", guard.Require(scopeRead)(http.HandlerFunc(photos)))
	mux.Handle("DELETE /photos/1", guard.Require(scopeDelete)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})))
	return mux, nil
}

func photos(w http.ResponseWriter, r *http.Request) {
	token, _ := resourceserver.TokenFromContext(r.Context())
	w.Header().Set("Content-Type", "application/json")
	// An error means that the client left.
	_ = json.NewEncoder(w).Encode(map[string]any{
		"photos": []string{"harbor.jpg", "lighthouse.jpg", "picnic.jpg"},
		"sub":    token.Subject, "client_id": token.ClientID, "scope": token.Scope.String(),
	})
}
