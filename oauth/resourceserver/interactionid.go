package resourceserver

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
)

const headerInteractionID = "X-Fapi-Interaction-Id"

type interactionIDKey struct{}

// WithInteractionID returns a handler that sends the x-fapi-interaction-id of each request in its
// response, or a new UUID if the request has none or it is not valid (FAPI 1.0 Baseline, section
// 6.2.1). Put it before the other middleware, so that error responses have it too.
func WithInteractionID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.Header[headerInteractionID]
		id := ""
		if len(sent) == 1 && validInteractionID(sent[0]) {
			id = sent[0]
		} else {
			id = newUUID()
		}
		w.Header().Set(headerInteractionID, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), interactionIDKey{}, id)))
	})
}

// InteractionID returns the x-fapi-interaction-id of a request behind WithInteractionID, for the
// API's own log; "" without it.
func InteractionID(ctx context.Context) string {
	id, _ := ctx.Value(interactionIDKey{}).(string)
	return id
}

// validInteractionID accepts UUIDs, and other IDs that are harmless in a log.
func validInteractionID(id string) bool {
	for i := range len(id) {
		switch b := id[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '_', b == '.':
		default:
			return false
		}
	}
	return id != "" && len(id) <= 64
}

// newUUID returns a random UUID (RFC 9562, section 5.4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
