package authserver

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/editdistance"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// rule is a requirement on a request, and the error if it is not met.
type rule struct {
	must    string // the requirement, for the trace
	section string // the section that requires it
	code    oauth.ErrorCode
	says    string // error_description, for the client's developer
	fix     string // what the operator or developer can do
}

// rung is a rule that was checked.
type rung struct {
	rule   *rule
	ok     bool
	detail string
}

// climb adds a rung.
func (c *call) climb(r rung) {
	if c.rungs == nil {
		c.rungs = c.firstRungs[:0]
	}
	c.rungs = append(c.rungs, r)
}

// must records that r was checked, and returns its error unless ok is set.
func (c *call) must(ok bool, r *rule) error {
	c.climb(rung{rule: r, ok: ok})
	if ok {
		return nil
	}
	return oauth.NewError(r.code, r.says)
}

// refuse records that r was broken, with a detail, and returns its error. The detail is for the
// operator. It may contain what the client sent, but no secret.
func (c *call) refuse(r *rule, detail string) error {
	c.climb(rung{rule: r, detail: clip(detail)})
	return oauth.NewError(r.code, r.says)
}

// because is refuse with err as the detail and as the cause of the error, for the log.
func (c *call) because(r *rule, err error) error {
	c.climb(rung{rule: r, detail: clip(err.Error())})
	return oauth.NewError(r.code, r.says).WithCause(err)
}

// clip shortens input from outside for a trace.
func clip(s string) string {
	const limit = 300
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}

// ifShort returns input from outside for a trace; "" if it is so long that it would have to be cut.
func ifShort(s string) string {
	const limit = 512
	if len(s) > limit {
		return ""
	}
	return s
}

// trace returns the trace of the request so far.
func (c *call) trace(err error) record.Trace {
	t := record.Trace{Time: c.now.UTC(), Endpoint: c.endpoint.path, Subject: c.subject, Checks: make([]record.Check, len(c.rungs))}
	if c.client != nil {
		t.ClientID = c.client.ID
		if c.endpoint.path == "/authorize" || c.endpoint.path == parPath {
			t.RedirectURI, t.Scope = ifShort(c.params.get("redirect_uri")), ifShort(c.params.get("scope"))
		}
	}
	for i, r := range c.rungs {
		t.Checks[i] = record.Check{Rule: r.rule.must, Section: r.rule.section, OK: r.ok, Detail: r.detail}
		if !r.ok {
			t.Checks[i].Fix = r.rule.fix
		}
	}
	if e := oauth.AsError(err); e != nil {
		t.Error, t.Description = string(e.Code), e.Description
	} else if err != nil {
		t.Error = string(oauth.ServerError)
	}
	return t
}

// refused stores the trace of a refused request and returns its reference.
func (c *call) refused(err error) string {
	if c.ref != "" {
		return c.ref
	}
	t := c.trace(err)
	t.Ref = cmp.Or(audit.ActorOf(c.r.Context()).Reference, audit.NewReference())
	c.ref = t.Ref
	c.s.traces.keep(t)
	return t.Ref
}

// expired reports whether at is not in the future. Stores have times in milliseconds.
func expired(now, at time.Time) bool { return !now.Before(at) }

// traceLog stores the traces of requests in the background, in batches, so that a flood of refusals
// costs a bounded number of writes. If there are too many, the oldest ones are dropped. Refused and
// accepted requests have a log each, so that neither displaces the other.
type traceLog struct {
	store  record.Store
	logger *slog.Logger
	max    int // the number of traces that the store keeps

	mu       sync.Mutex
	waiting  []record.Trace
	storing  []record.Trace // the batch that the store does not have yet
	flushing bool
	idle     sync.Cond // signalled when flushing ends
}

const (
	maxWaitingTraces = 256
	traceFlushPause  = time.Second
)

func newTraceLog(store record.Store, logger *slog.Logger, max int) *traceLog {
	l := &traceLog{store: store, logger: logger, max: max}
	l.idle.L = &l.mu
	return l
}

func (l *traceLog) keep(t record.Trace) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == maxWaitingTraces {
		l.waiting = append(l.waiting[:0], l.waiting[1:]...)
	}
	l.waiting = append(l.waiting, t)
	if !l.flushing {
		l.flushing = true
		go l.flush()
	}
}

func (l *traceLog) flush() {
	for {
		l.mu.Lock()
		batch := l.waiting
		l.waiting, l.storing = nil, batch
		if len(batch) == 0 {
			l.flushing = false
			l.idle.Broadcast()
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		started := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if err := l.store.SaveTraces(ctx, l.max, batch...); err != nil {
			l.logger.Error("traces of requests not stored", "error", err)
		}
		cancel()
		if len(batch) > maxWaitingTraces/4 { // a flood: slow down, so that others can use the store
			time.Sleep(max(0, traceFlushPause-time.Since(started)))
		}
	}
}

// find returns a trace that is not in the store yet.
func (l *traceLog) find(ref string) (record.Trace, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, traces := range [][]record.Trace{l.waiting, l.storing} {
		if i := slices.IndexFunc(traces, func(t record.Trace) bool { return t.Ref == ref }); i >= 0 {
			return traces[i], true
		}
	}
	return record.Trace{}, false
}

// wait waits until all traces are stored.
func (l *traceLog) wait() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.flushing {
		l.idle.Wait()
	}
}

// refusal is the log record of a refused request. Without a kind, it is request.refused.
type refusal struct {
	kind    *event.Kind
	members []slog.Attr
}

// logRefusal writes the log record of a request that was refused or failed.
func (c *call) logRefusal(e *oauth.Error, err error) {
	ctx := c.r.Context()
	if event.ClientGone(ctx, err) {
		return
	}
	kind, members := event.RequestRefused, c.refusal.members
	switch {
	case isServerFault(e):
		kind, members = event.RequestFailed, []slog.Attr{slog.Any("cause", err)}
	case c.refusal.kind != nil:
		kind = c.refusal.kind
	}
	rule := ""
	for _, r := range c.rungs {
		if !r.ok {
			rule = r.rule.must
		}
	}
	if t := c.s.events.Telemetry(); t != nil && kind != event.RequestFailed {
		t.Refused(ctx, rule, string(e.Code), c.refused(err))
	}
	if !c.s.events.Enabled(ctx, kind) {
		return
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
	attrs = append(append(attrs, members...), c.loggedInteractionID(), event.Address(c.s.remoteAddr(c.r)))
	c.s.events.Record(ctx, kind, attrs...)
}

// isServerFault reports whether a request failed because of the server and not because of its own
// content.
func isServerFault(e *oauth.Error) bool {
	return e.Status != http.StatusTooManyRequests && (e.Code == oauth.ServerError || e.Code == oauth.TemporarilyUnavailable)
}

// unverifiedClient returns a log attribute for the client_id of a request before it is verified. If
// the client is unknown and the request has a secret, the two may have been swapped, so the value is
// masked.
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

// namedClient returns a log attribute for a client.
func namedClient(cl *client) slog.Attr { return clientMembers(cl.Client) }

func clientMembers(cl *record.Client) slog.Attr {
	id := slog.String("client_id", cl.ID)
	if cl.ClientName == "" {
		return id
	}
	return event.Together(id, slog.String("client_name", cl.ClientName))
}

// namedClientID is namedClient for a client_id.
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

// namedSubject returns a log attribute for a user.
func (s *Server) namedSubject(ctx context.Context, subject string) slog.Attr {
	sub := slog.String("sub", subject)
	// The event is logged even if the user does not exist any more or the database is unavailable.
	claims, err := s.config.Users.Claims(ctx, subject)
	if name, ok := claims["preferred_username"].(string); err == nil && ok {
		return event.Together(sub, slog.String("username", name))
	}
	return sub
}

// nearestDifference returns the registered URI that is most similar to the one that was sent, and
// where they differ. It is for the operator; clients must not learn what is registered.
func nearestDifference(registered []string, sent string) string {
	if len(registered) == 0 {
		return "the client has no redirect_uris; sent: " + sent
	}
	sent = clip(sent)
	nearest, least := registered[0], -1
	for _, uri := range registered {
		if d := editdistance.Between(uri, sent); least < 0 || d < least {
			nearest, least = uri, d
		}
	}
	return difference(nearest, sent)
}

// difference returns two strings and the position of the first character in which they differ.
func difference(expected, sent string) string {
	at := 0
	for at < len(expected) && at < len(sent) && expected[at] == sent[at] {
		at++
	}
	show := func(s string) string {
		if at < len(s) {
			return fmt.Sprintf("%q", s[at])
		}
		return "the end"
	}
	return fmt.Sprintf("expected %s, got %s; they differ at character %d: %s instead of %s", expected, sent, at+1, show(sent), show(expected))
}
