package authserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// Of accepted requests, a sample is kept with all checks, for operators (decision 0054): each node
// keeps at most one a second of each endpoint, after a burst. So a server with few requests keeps all
// of them, and one with many pays a comparison for each. A recording keeps more for a while: every
// request of one client or user.

const (
	// sampleEvery and sampleBurst limit the accepted requests that a node keeps of an endpoint.
	sampleEvery = time.Second
	sampleBurst = 20
	// maxRecorded limits what a node keeps for one recording.
	maxRecorded = 500
	// maxRecordings limits the recordings at one time, and MaxRecordingTime each of them.
	maxRecordings    = 20
	MaxRecordingTime = time.Hour
	// recordingsEvery is how often a node reads the recordings.
	recordingsEvery = 2 * time.Second
	// recordingsFamily is the family of all recordings.
	recordingsFamily = "recordings"
)

// ErrTooManyRecordings means that another recording has to end first.
var ErrTooManyRecordings = errors.New("authserver: too many recordings at the same time")

// sample decides which accepted requests of an endpoint are kept.
type sample struct {
	// next is when the burst would be used up, in Unix nanoseconds: it grows by sampleEvery with each
	// request that is kept.
	next atomic.Int64
}

// take reports whether a request is kept.
func (s *sample) take(now time.Time) bool {
	at := now.UnixNano()
	for {
		next := s.next.Load()
		if next-at > int64(sampleBurst-1)*int64(sampleEvery) {
			return false
		}
		if s.next.CompareAndSwap(next, max(next, at)+int64(sampleEvery)) {
			return true
		}
	}
}

// Recording keeps the accepted requests of a client, a user, or a user of a client.
type Recording struct {
	ID string `json:"i"`
	// ClientID or Subject is set, or both.
	ClientID string    `json:"c,omitempty"`
	Subject  string    `json:"s,omitempty"`
	Began    time.Time `json:"b"`
	Until    time.Time `json:"-"`
}

// recording is a recording that this node knows.
type recording struct {
	Recording
	kept atomic.Int64 // requests that this node has kept
}

func (r *recording) wants(c *call) bool {
	clientID := ""
	if c.client != nil {
		clientID = c.client.ID
	}
	return c.now.Before(r.Until) && (r.ClientID == "" || r.ClientID == clientID) && (r.Subject == "" || r.Subject == c.subject) &&
		r.kept.Add(1) <= maxRecorded
}

// ended is called at the end of every call.
func (c *call) ended(err error) {
	if err == nil && c.ref == "" && len(c.rungs) > 0 && (c.endpoint.sample != nil && c.endpoint.sample.take(c.now) || c.recorded()) {
		t := c.trace(nil)
		t.Ref = cmp.Or(audit.ActorOf(c.r.Context()).Reference, audit.NewReference())
		c.s.accepted.keep(t)
	}
	if c.s.config.OnTrace != nil {
		t := c.trace(err)
		t.Ref = c.ref
		c.s.config.OnTrace(&t)
	}
}

// recorded reports whether a recording wants the request.
func (c *call) recorded() bool {
	all := c.s.recordings.Load()
	if all == nil {
		return false
	}
	for _, r := range *all {
		if r.wants(c) {
			return true
		}
	}
	return false
}

// loadRecordings reads the recordings, if it is time to. Without them nothing else is lost, so an error
// is logged.
func (s *Server) loadRecordings(ctx context.Context, now time.Time) {
	last := s.recordingsRead.Load()
	if age := now.UnixNano() - last; last != 0 && age >= 0 && age < int64(recordingsEvery) || !s.recordingsRead.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	found, err := s.Recordings(ctx, now)
	if err != nil {
		s.log.WarnContext(ctx, "recordings of accepted requests not read", "error", err)
		return
	}
	if len(found) == 0 {
		s.recordings.Store(nil)
		return
	}
	known := map[string]*recording{}
	if before := s.recordings.Load(); before != nil {
		for _, r := range *before {
			known[r.ID] = r
		}
	}
	next := make([]*recording, len(found))
	for i, r := range found {
		if next[i] = known[r.ID]; next[i] == nil {
			next[i] = &recording{Recording: r}
		}
	}
	s.recordings.Store(&next)
}

// Recordings returns the recordings that have not ended.
func (s *Server) Recordings(ctx context.Context, now time.Time) ([]Recording, error) {
	tickets, err := s.config.Store.FindFamily(ctx, now, recordingsFamily, ticketkind.Recording, maxRecordings)
	if err != nil {
		return nil, fmt.Errorf("list the recordings: %w", err)
	}
	all := make([]Recording, len(tickets))
	for i := range tickets {
		if err := json.Unmarshal(tickets[i].Data, &all[i]); err != nil {
			return nil, fmt.Errorf("read a recording: %w", err)
		}
		all[i].Until = tickets[i].Expires
	}
	return all, nil
}

// Record begins a recording, on every node after a few seconds. It returns ErrTooManyRecordings if there
// are too many. ID and Began are set, and Until is limited.
func (s *Server) Record(ctx context.Context, now time.Time, r Recording) (*Recording, error) {
	all, err := s.Recordings(ctx, now)
	if err != nil {
		return nil, err
	}
	// Concurrent calls may exceed the limit by a few.
	if len(all) >= maxRecordings {
		return nil, ErrTooManyRecordings
	}
	r.ID, r.Began = storage.NewID(), now.UTC().Truncate(time.Millisecond)
	if latest := now.Add(MaxRecordingTime); r.Until.After(latest) {
		r.Until = latest
	}
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode a recording: %w", err)
	}
	key := ticketkind.Recording.Hash(r.ID)
	began := audit.WithRecord(ctx, audit.Record{Event: "recording.began", Subject: r.Subject, ClientID: r.ClientID, Object: audit.Object{Kind: audit.ObjectLog, ID: r.ID}})
	if err := s.config.Store.Put(began, now, storage.Ticket{Key: key, Family: recordingsFamily, Data: data, Expires: r.Until}); err != nil {
		return nil, fmt.Errorf("begin a recording: %w", err)
	}
	s.recordingsRead.Store(0)
	s.loadRecordings(ctx, now)
	return &r, nil
}

// EndRecording ends a recording. What it has kept stays. It returns storage.ErrNotFound if there is none.
// With dryRun, nothing ends.
func (s *Server) EndRecording(ctx context.Context, now time.Time, id string, dryRun bool) error {
	key := ticketkind.Recording.Hash(id)
	if _, err := s.config.Store.Get(ctx, now, key); err != nil || dryRun {
		return err
	}
	ended := audit.WithRecord(ctx, audit.Record{Event: "recording.ended", Object: audit.Object{Kind: audit.ObjectLog, ID: id}})
	if err := s.config.Store.Delete(ended, key); err != nil {
		return fmt.Errorf("end a recording: %w", err)
	}
	s.recordingsRead.Store(0)
	s.loadRecordings(ctx, now)
	return nil
}
