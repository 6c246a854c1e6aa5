package authserver

import (
	"log/slog"

	"github.com/valetkey/valetkey/oauth"
)

// echoInteractionID returns the client's x-fapi-interaction-id in the response, or a new one if it is
// not valid. A request without one gets none (FAPI 1.0 Baseline, section 6.2.1).
func (c *call) echoInteractionID() {
	sent := c.r.Header[oauth.HeaderInteractionID]
	if len(sent) == 0 {
		return
	}
	c.interactionID = oauth.InteractionID(sent)
	c.w.Header()[oauth.HeaderInteractionID] = []string{c.interactionID}
}

// loggedInteractionID returns a log attribute, which is empty if the request has no ID.
func (c *call) loggedInteractionID() slog.Attr {
	if c.interactionID == "" {
		return slog.Attr{}
	}
	return slog.String("interaction_id", c.interactionID)
}
