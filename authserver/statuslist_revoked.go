package authserver

import (
	"net/http"
	"sync"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

var ruleEndedOfClient = rule{
	must:    "the client has not revoked more access tokens than status lists have room for",
	section: "RFC 7009, section 2.2.1", code: oauth.TemporarilyUnavailable,
	says: "this client has revoked too many access tokens that have not expired; try again later",
	mend: "let access tokens expire, or revoke the refresh token; shorten access_token_lifetime",
}

// endedOfClients counts, by client, the access tokens that it revoked and that have not
// expired. It counts on this node alone. The zero value is ready for use.
type endedOfClients struct {
	mu     sync.Mutex
	counts map[string]map[int64]int // by client and the minute of expiry
}

// add counts a token, unless the client has revoked as many as it may.
func (e *endedOfClients) add(clientID string, now, expires time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counts == nil {
		e.counts = map[string]map[int64]int{}
	}
	if e.counts[clientID] == nil {
		e.forget(now)
		e.counts[clientID] = map[int64]int{}
	}
	total := 0
	for minute, n := range e.counts[clientID] {
		if minute < now.Unix()/60 {
			delete(e.counts[clientID], minute)
			continue
		}
		total += n
	}
	if total >= maxEndedOfClient {
		return false
	}
	e.counts[clientID][expires.Unix()/60]++
	return true
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
func (c *call) countEnded(t *accessToken) error {
	if t.claims.Status == nil || t.claims.Status.StatusList == nil {
		return nil
	}
	if c.s.endedOfClients.add(t.claims.ClientID, c.now, time.Unix(t.claims.Expires, 0)) {
		return nil
	}
	err := c.refuse(&ruleEndedOfClient, "")
	oauth.AsError(err).Status = http.StatusServiceUnavailable
	return err
}
