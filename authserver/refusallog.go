package authserver

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"net/http"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// refusal is what a check says about the record of the request that it refuses. Without it
// the record is request.refused.
type refusal struct {
	kind    *event.Kind
	members []slog.Attr
}

// logRefusal writes the one record of a request that was refused or failed.
func (c *call) logRefusal(e *oauth.Error, err error) {
	ctx := c.r.Context()
	kind, members := event.RequestRefused, c.refusal.members
	switch {
	case serversFault(e):
		kind, members = event.RequestFailed, []slog.Attr{slog.Any("cause", err)}
	case c.refusal.kind != nil:
		kind = c.refusal.kind
	}
	if !c.s.events.Enabled(ctx, kind) {
		return
	}
	rule := ""
	for _, r := range c.rungs {
		if !r.ok {
			rule = r.rule.must
		}
	}
	attrs := []slog.Attr{
		slog.String("reference", c.refused(err)), slog.String("endpoint", c.endpoint.path),
		slog.String("error", string(e.Code)), slog.String("error_description", e.Description),
	}
	if rule != "" {
		attrs = append(attrs, slog.String("rule", rule))
	}
	if c.client != nil {
		attrs = append(attrs, namedClient(c.client))
	} else if id := c.params.get("client_id"); id != "" && c.refusal.kind == nil {
		attrs = append(attrs, c.unverifiedClient(id))
	}
	attrs = append(append(attrs, members...), event.Address(c.s.remoteAddr(c.r)))
	c.s.events.Record(ctx, kind, attrs...)
}

// serversFault reports whether a request failed because of the server, and not because of
// what it was.
func serversFault(e *oauth.Error) bool {
	return e.Status != http.StatusTooManyRequests && (e.Code == oauth.ServerError || e.Code == oauth.TemporarilyUnavailable)
}

// unverifiedClient says in the log which client a request says it is from. If no client has
// that name and the request has a secret, the two may have been swapped.
func (c *call) unverifiedClient(id string) slog.Attr {
	if !c.params.has("client_secret") && !presentsBasic(c) {
		return slog.String("client_id", id)
	}
	if cl := c.s.clientAtHand(id); cl != nil {
		return namedClient(cl)
	}
	h := hmac.New(sha256.New, c.s.logKey)
	h.Write([]byte(id))
	return slog.String("unknown_client", base64.RawURLEncoding.EncodeToString(h.Sum(nil))[:8])
}

// namedClient says in the log which client it is.
func namedClient(cl *client) slog.Attr { return clientMembers(cl.Client) }

func clientMembers(cl *record.Client) slog.Attr {
	id := slog.String("client_id", cl.ID)
	if cl.ClientName == "" {
		return id
	}
	return event.Together(id, slog.String("client_name", cl.ClientName))
}

// namedClientID is namedClient for a client that is known by ID alone.
func (s *Server) namedClientID(id string) slog.Attr {
	if cl := s.clientAtHand(id); cl != nil {
		return namedClient(cl)
	}
	return slog.String("client_id", id)
}

// clientAtHand returns a client if it is in memory.
func (s *Server) clientAtHand(id string) *client {
	catalogue := s.catalogueNow.Load()
	if catalogue == nil {
		return nil
	}
	catalogue.mu.RLock()
	defer catalogue.mu.RUnlock()
	return catalogue.clients[id]
}

// namedSubject says in the log who a user is.
func (s *Server) namedSubject(ctx context.Context, subject string) slog.Attr {
	sub := slog.String("sub", subject)
	// The event is logged also if the user is gone, or the database.
	claims, err := s.config.Users.Claims(ctx, subject)
	if name, ok := claims["preferred_username"].(string); err == nil && ok {
		return event.Together(sub, slog.String("username", name))
	}
	return sub
}
