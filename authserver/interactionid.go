package authserver

import (
	"crypto/rand"
	"fmt"
	"log/slog"
)

// headerInteractionID identifies a request in the logs of both sides (FAPI 1.0 Baseline, section
// 6.2.1).
const headerInteractionID = "X-Fapi-Interaction-Id"

// echoInteractionID returns the client's ID in the response, or a new one if it is not valid. A
// request without one gets none.
func (c *call) echoInteractionID() {
	sent := c.r.Header[headerInteractionID]
	if len(sent) == 0 {
		return
	}
	c.interactionID = sent[0]
	if len(sent) > 1 || !validInteractionID(c.interactionID) {
		c.interactionID = newUUID()
	}
	c.w.Header()[headerInteractionID] = []string{c.interactionID}
}

// validInteractionID reports whether an ID is a UUID, or another ID that is harmless in a log.
func validInteractionID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		switch b := id[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '_', b == '.':
		default:
			return false
		}
	}
	return true
}

// newUUID returns a random UUID (RFC 9562, section 5.4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// loggedInteractionID returns a log attribute, which is empty if the request has no ID.
func (c *call) loggedInteractionID() slog.Attr {
	if c.interactionID == "" {
		return slog.Attr{}
	}
	return slog.String("interaction_id", c.interactionID)
}
