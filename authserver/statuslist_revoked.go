package authserver

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

var ruleEndedOfClient = rule{
	must:    "the client has not revoked more access tokens than status lists have room for",
	section: "RFC 7009, section 2.2.1", code: oauth.TemporarilyUnavailable,
	says: "this client has revoked too many access tokens that have not expired; try again later",
	fix:  "let access tokens expire instead of revoking them; shorten access_token_lifetime",
}

// endedOfClients counts, by client, the access tokens that it revoked and that have not
// expired. It counts on this node alone. The zero value is ready for use.
type endedOfClients struct {
	mu     sync.Mutex
	counts map[string]map[int64]int // by client and the minute of expiry
}

// add counts a token, unless the client has revoked as many as it may.
func (e *endedOfClients) add(clientID string, now, expires time.Time) bool {
	if e.full(clientID, now) {
		return false
	}
	e.note(clientID, now, expires)
	return true
}

// note counts a token that was revoked with others.
func (e *endedOfClients) note(clientID string, now, expires time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counts == nil {
		e.counts = map[string]map[int64]int{}
	}
	if e.counts[clientID] == nil {
		e.forget(now)
		e.counts[clientID] = map[int64]int{}
	}
	e.counts[clientID][expires.Unix()/60]++
}

// full reports whether a client has revoked as many as it may.
func (e *endedOfClients) full(clientID string, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	total := 0
	for minute, n := range e.counts[clientID] {
		if minute < now.Unix()/60 {
			delete(e.counts[clientID], minute)
			continue
		}
		total += n
	}
	return total >= maxEndedOfClient
}

// forget removes the clients of which nothing is left to count.
func (e *endedOfClients) forget(now time.Time) {
	for clientID, minutes := range e.counts {
		live := false
		for minute := range minutes {
			live = live || minute >= now.Unix()/60
		}
		if !live {
			delete(e.counts, clientID)
		}
	}
}

// countEnded refuses a client that revokes more of its tokens than status lists have room
// for.
func (c *call) countEnded(t *verifiedToken) error {
	if t.claims.Status == nil || t.claims.Status.StatusList == nil {
		return nil
	}
	if c.s.endedOfClients.add(t.claims.ClientID, c.now, time.Unix(t.claims.Expires, 0)) {
		return nil
	}
	return c.tooManyEnded()
}

func (c *call) tooManyEnded() error {
	err := c.refuse(&ruleEndedOfClient, "")
	oauth.AsError(err).Status = http.StatusServiceUnavailable
	return err
}

// countEndedFamily counts the access tokens that end with a refresh token. That one can be
// revoked always; the client gets no more tokens with a status while it has ended too many.
func (c *call) countEndedFamily(clientID, family string) error {
	tokens, err := c.s.config.Store.FindFamily(c.r.Context(), c.now, family, storage.KindStatus, maxEndedOfClient)
	if err != nil {
		return fmt.Errorf("look up access tokens: %w", err)
	}
	for _, token := range tokens {
		if token.Spent.IsZero() {
			c.s.endedOfClients.note(clientID, c.now, token.Expires.Add(-statusAfterlife))
		}
	}
	return nil
}
