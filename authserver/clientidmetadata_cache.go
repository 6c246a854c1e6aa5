package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds on what is kept of clients' documents, and on how often they are fetched.
const (
	maxClientDocuments = 1000
	// How long a document counts as the present one: what its host says, between the least
	// and the most; the default, if it says nothing.
	documentLifeLeast   = time.Minute
	documentLifeMost    = 24 * time.Hour
	documentLifeDefault = 10 * time.Minute
	// documentStale is how long the client of a document that cannot be fetched any more
	// can still use what it was given.
	documentStale = 24 * time.Hour
	// documentPause follows a fetch that failed, where there is an older document.
	documentPause = 10 * time.Second
	// At a time, in a minute for an address that asks, and in a minute from a host.
	maxDocumentFetches      = 64
	documentsPerMinute      = 30
	documentsPerMinuteAHost = 60
)

// errDocumentPace says that a document is not fetched now, for the sake of others.
var errDocumentPace = errors.New("the client's metadata document is not fetched now")

// clientDocuments keeps clients by the URLs of their documents, in memory: apart from the
// others, so that no stranger can push those out. It keeps no failure. The zero value is
// empty, but for the pace by address.
type clientDocuments struct {
	fetches   sync.WaitGroup
	addresses addressLimiter

	mu       sync.Mutex
	kept     map[string]*clientDocument
	underWay int
	since    time.Time
	hosts    map[string]int // fetches by host since then
}

// clientDocument is one document. All but the channel's closing is guarded by
// clientDocuments.mu.
type clientDocument struct {
	client   *client       // as the last good document had it; nil: there was none
	fetched  time.Time     // when that came
	fresh    time.Time     // until when it need not be fetched again
	used     time.Time     // when somebody asked last
	fetching chan struct{} // closed when the fetch that is under way ends; nil if none is
	failure  error         // of the last fetch, for those who waited for it
	failed   time.Time
}

// find returns the entry of a document. mine says that the caller must fetch, and finish.
func (k *clientDocuments) find(id string, from netip.Addr, now time.Time) (d *clientDocument, mine bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d = k.kept[id]
	if d != nil {
		d.used = now
		resting := d.failure != nil && now.Sub(d.failed) < documentPause
		if d.fetching != nil || now.Before(d.fresh) || resting {
			return d, false, nil
		}
	}
	if k.underWay >= maxDocumentFetches {
		return nil, false, fmt.Errorf("%w: %d others are being fetched", errDocumentPace, k.underWay)
	}
	// A document that was good is fetched as often as its life asks; what strangers make up
	// is bounded, and cannot stand in its way.
	if d == nil {
		if err := k.pace(documentHost(id), from, now); err != nil {
			return nil, false, err
		}
		d = &clientDocument{used: now}
		k.keep(id, d)
	}
	d.fetching = make(chan struct{})
	k.underWay++
	return d, true, nil
}

func (k *clientDocuments) pace(host string, from netip.Addr, now time.Time) error {
	if now.Sub(k.since) >= time.Minute || len(k.hosts) >= maxLimiterEntries {
		k.since, k.hosts = now, make(map[string]int)
	}
	if k.hosts[host] >= documentsPerMinuteAHost {
		return fmt.Errorf("%w: %d were fetched from %s within a minute", errDocumentPace, k.hosts[host], host)
	}
	if from.IsValid() {
		if !k.addresses.allowed(from, now) {
			return fmt.Errorf("%w: %d were fetched for %s within a minute", errDocumentPace, documentsPerMinute, from)
		}
		k.addresses.add(from, now)
	}
	k.hosts[host]++
	return nil
}

// keep makes room by what was asked for least recently.
func (k *clientDocuments) keep(id string, d *clientDocument) {
	if k.kept == nil {
		k.kept = make(map[string]*clientDocument)
	}
	for len(k.kept) >= maxClientDocuments {
		oldest := ""
		for other, d := range k.kept {
			if d.fetching == nil && (oldest == "" || d.used.Before(k.kept[oldest].used)) {
				oldest = other
			}
		}
		delete(k.kept, oldest)
	}
	k.kept[id] = d
}

// finish takes the result of a fetch. An error leaves nothing behind but the pause before
// the next fetch (Client ID Metadata Document, section 5.2).
func (k *clientDocuments) finish(id string, d *clientDocument, client *client, life time.Duration, err error, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.underWay--
	close(d.fetching)
	d.fetching, d.failure = nil, err
	switch {
	case err == nil:
		d.client, d.fetched, d.fresh = client, now, now.Add(life)
	case d.client == nil:
		delete(k.kept, id)
	default:
		d.failed = now
	}
}

// wait returns the client when its document is there. With errClientDocument it returns
// the client of an earlier one, if that is not too old.
func (k *clientDocuments) wait(ctx context.Context, d *clientDocument, now time.Time) (*client, error) {
	k.mu.Lock()
	fetching := d.fetching
	k.mu.Unlock()
	if fetching != nil {
		select {
		case <-fetching:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if d.failure == nil {
		return d.client, nil
	}
	err := fmt.Errorf("%w: %w", errClientDocument, d.failure)
	if d.client != nil && now.Sub(d.fetched) < documentStale {
		return d.client, err
	}
	return nil, err
}

// last returns the client as its document had it within the last day, fresh or not; nil if
// there is none.
func (k *clientDocuments) last(id string, now time.Time) *client {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.kept[id]
	if d == nil || d.client == nil || now.Sub(d.fetched) >= documentStale {
		return nil
	}
	d.used = now
	return d.client
}

// documentLife reads how long an answer is fresh (RFC 9111, section 4.2), within bounds.
func documentLife(header http.Header, now time.Time) time.Duration {
	life := documentLifeDefault
	if expires := header.Get("Expires"); expires != "" {
		life = 0 // what is no date is in the past (RFC 9111, section 5.3)
		if at, err := http.ParseTime(expires); err == nil {
			sent, err := http.ParseTime(header.Get("Date"))
			if err != nil {
				sent = now
			}
			life = at.Sub(sent)
		}
	}
	shared := false
	for directive := range strings.SplitSeq(strings.Join(header.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32)
		switch {
		case name == "no-store" || name == "no-cache":
			return documentLifeLeast
		case name == "s-maxage" && err == nil:
			life, shared = time.Duration(seconds)*time.Second, true
		case name == "max-age" && err == nil && !shared:
			life = time.Duration(seconds) * time.Second
		}
	}
	if age, err := strconv.ParseInt(header.Get("Age"), 10, 32); err == nil && age > 0 {
		life -= time.Duration(age) * time.Second
	}
	return min(max(life, documentLifeLeast), documentLifeMost)
}
