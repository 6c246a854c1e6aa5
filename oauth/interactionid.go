package oauth

import (
	"crypto/rand"
	"fmt"
)

// HeaderInteractionID is the header that identifies a request in the logs of both sides (FAPI 1.0
// Baseline, section 6.2.1), as it is written in an http.Header.
const HeaderInteractionID = "X-Fapi-Interaction-Id"

// InteractionID returns the ID in the header fields of a request, if there is exactly one and it is a
// UUID or another ID that is harmless in a log: 1 to 64 letters, digits, hyphens, underscores and dots.
// Otherwise it returns a new UUID.
func InteractionID(sent []string) string {
	if len(sent) == 1 && harmlessID(sent[0]) {
		return sent[0]
	}
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562, section 5.4
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func harmlessID(id string) bool {
	for i := range len(id) {
		switch b := id[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '_', b == '.':
		default:
			return false
		}
	}
	return id != "" && len(id) <= 64
}
