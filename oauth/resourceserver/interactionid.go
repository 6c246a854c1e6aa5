package resourceserver

import (
	"context"
	"net/http"

	"github.com/valetkey/valetkey/oauth"
)

type interactionIDKey struct{}

// WithInteractionID returns a handler that sends the x-fapi-interaction-id of each request in its
// response, or a new UUID if the request has none or it is not valid (FAPI 1.0 Baseline, section
// 6.2.1). Put it before the other middleware, so that error responses have it too.
func WithInteractionID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := oauth.InteractionID(r.Header[oauth.HeaderInteractionID])
		w.Header().Set(oauth.HeaderInteractionID, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), interactionIDKey{}, id)))
	})
}

// InteractionID returns the x-fapi-interaction-id of a request behind WithInteractionID, for the
// API's own log; "" without it.
func InteractionID(ctx context.Context) string {
	id, _ := ctx.Value(interactionIDKey{}).(string)
	return id
}
