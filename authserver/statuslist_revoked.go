package authserver

import (
	"fmt"
	"maps"
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

// endedOwner is who revoked access tokens: a client, for a user or in its own name.
type endedOwner struct {
	client  string
	subject string // "" for the client's own tokens
}

// most is how many an owner may have revoked that have not expired.
func (o endedOwner) most() int {
	if o.subject == "" {
		return maxEndedOfClient
	}
	return maxEndedOfUser
}

// endedOfClients counts, by owner, the access tokens that were revoked and have not expired.
// It counts on this node alone. The zero value is ready for use.
type endedOfClients struct {
	mu      sync.Mutex
	counts  map[endedOwner]map[int64]int // by the minute of expiry
	cleaned int64                        // the minute in which expired counts were removed last
}

// add counts a token, unless the owner has revoked as many as it may.
func (e *endedOfClients) add(owner endedOwner, now, expires time.Time) bool {
	if e.full(owner, now) {
		return false
	}
	e.note(owner, now, expires)
	return true
}

// note counts a token that was revoked with others.
func (e *endedOfClients) note(owner endedOwner, now, expires time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counts == nil {
		e.counts = map[endedOwner]map[int64]int{}
	}
	e.forget(now)
	if e.counts[owner] == nil {
		e.counts[owner] = map[int64]int{}
	}
	e.counts[owner][expires.Unix()/60]++
}

// full reports whether an owner has revoked as many as it may.
func (e *endedOfClients) full(owner endedOwner, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	total := 0
	for minute, n := range e.counts[owner] {
		if minute >= now.Unix()/60 {
			total += n
		}
	}
	return total >= owner.most()
}

// forget removes, once a minute, what has expired.
func (e *endedOfClients) forget(now time.Time) {
	if e.cleaned == now.Unix()/60 {
		return
	}
	e.cleaned = now.Unix() / 60
	for owner, minutes := range e.counts {
		maps.DeleteFunc(minutes, func(minute int64, _ int) bool { return minute < e.cleaned })
		if len(minutes) == 0 {
			delete(e.counts, owner)
		}
	}
}

// countEnded refuses a client that revokes more of its tokens than status lists have room
// for.
func (c *call) countEnded(t *verifiedToken) error {
	if t.claims.Status == nil || t.claims.Status.StatusList == nil {
		return nil
	}
	if c.s.endedOfClients.add(endedOwner{t.claims.ClientID, t.user}, c.now, time.Unix(t.claims.Expires, 0)) {
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
// revoked always; the client gets no more tokens with a status for this user while too many
// have ended.
func (c *call) countEndedFamily(owner endedOwner, family string) error {
	tokens, err := c.s.config.Store.FindFamily(c.r.Context(), c.now, family, storage.KindStatus, maxEndedOfClient)
	if err != nil {
		return fmt.Errorf("look up access tokens: %w", err)
	}
	for _, token := range tokens {
		if token.Spent.IsZero() {
			c.s.endedOfClients.note(owner, c.now, token.Expires.Add(-statusAfterlife))
		}
	}
	return nil
}
