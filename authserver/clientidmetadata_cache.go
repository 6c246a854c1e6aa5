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

	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/internal/ratelimit"
)

// Bounds on what is kept of clients' documents, and on how often they are fetched.
const (
	maxClientDocuments = 1000
	// How long a document counts as the present one: what its host says, between the least
	// and the most; the default, if it says nothing.
	documentLifeLeast   = time.Minute
	documentLifeMost    = 24 * time.Hour
	documentLifeDefault = 10 * time.Minute
	// documentStale is how long a document is good when it cannot be fetched any more.
	documentStale = 24 * time.Hour
	// documentPatience is how long a request waits for the next document if there is one.
	documentPatience = time.Second
	// documentPause follows a fetch that failed, where there is an older document.
	documentPause = 10 * time.Second
	// At a time, and of those from one site; in a minute for an address that asks, and in a
	// minute from a host.
	maxDocumentFetches      = 64
	documentFetchesASite    = 16
	documentsPerMinute      = 30
	documentsPerMinuteAHost = 60
)

// errDocumentPace says that a document is not fetched now, for the sake of others.
var errDocumentPace = errors.New("the client's metadata document is not fetched now")

// errDocumentHostPace is an errDocumentPace that does not hold for clients that people here
// have used.
var errDocumentHostPace = fmt.Errorf("%w", errDocumentPace)

// clientDocuments keeps clients by the URLs of their documents, in memory: apart from the
// others, so that no stranger can push those out. It keeps no failure.
type clientDocuments struct {
	fetches   sync.WaitGroup
	addresses *ratelimit.Limiter
	hosts     *ratelimit.Limiter

	mu       sync.Mutex
	byID     map[string]*clientDocument
	underWay int
	sites    map[string]int // fetches that are under way, by site
}

func (k *clientDocuments) limit() {
	k.addresses = ratelimit.New(ratelimit.Config{Limit: ratelimit.PerMinute(documentsPerMinute)})
	k.hosts = ratelimit.New(ratelimit.Config{Limit: ratelimit.PerMinute(documentsPerMinuteAHost)})
}

// clientDocument is one document. All but the channel's closing is guarded by
// clientDocuments.mu.
type clientDocument struct {
	client   *client       // as the last good document had it; nil: there was none
	fetched  time.Time     // when that came
	fresh    time.Time     // until when it need not be fetched again
	used     time.Time     // when somebody asked last
	fetching chan struct{} // closed when the fetch that is under way ends; nil if none is
	began    time.Time     // when the last fetch did
	failure  error         // of the last fetch, for those who waited for it
	failed   time.Time
}

// find returns the entry of a document. mine says that the caller must fetch, and finish.
// known says that people here have used the client; call it so after errDocumentHostPace.
func (k *clientDocuments) find(id string, from netip.Addr, known bool, now time.Time) (d *clientDocument, mine bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d = k.byID[id]
	site := outgoing.Site(id)
	if d != nil {
		d.used = now
		resting := d.failure != nil && now.Sub(d.failed) < documentPause
		// What is there is good for a while, whoever keeps the server from fetching.
		if d.fetching != nil || now.Before(d.fresh) || resting || k.full(site) != nil {
			return d, false, nil
		}
	} else {
		// What outsiders make up is bounded: first by the address that asks.
		if err := k.pace(id, from, known, now); err != nil {
			return nil, false, err
		}
		if err := k.full(site); err != nil {
			return nil, false, err
		}
		d = &clientDocument{used: now}
		k.keep(id, d)
	}
	d.fetching, d.began = make(chan struct{}), now
	k.underWay++
	if k.sites == nil {
		k.sites = make(map[string]int)
	}
	k.sites[site]++
	return d, true, nil
}

// full says why no fetch from a site may begin now.
func (k *clientDocuments) full(site string) error {
	if k.sites[site] >= documentFetchesASite {
		return fmt.Errorf("%w: %d others of %s are being fetched", errDocumentPace, k.sites[site], site)
	}
	if k.underWay >= maxDocumentFetches {
		return fmt.Errorf("%w: %d others are being fetched", errDocumentPace, k.underWay)
	}
	return nil
}

// pace bounds the fetches of documents that this node has no copy of. Those that people here
// have used are counted apart, so that made-up ones do not use up the pace of their host.
func (k *clientDocuments) pace(id string, from netip.Addr, known bool, now time.Time) error {
	if from.IsValid() {
		if k.addresses.Take(now, ratelimit.NewKey(ratelimit.Network(from))) > 0 {
			return fmt.Errorf("%w: %d were fetched for %s within a minute", errDocumentPace, documentsPerMinute, from)
		}
	}
	host := documentHost(id)
	wait := k.hosts.Take(now, ratelimit.NewKey(host))
	if wait > 0 && known {
		wait = k.hosts.Take(now, ratelimit.NewKey("known", host))
	}
	if wait > 0 {
		return fmt.Errorf("%w: %d were fetched from %s within a minute", errDocumentHostPace, documentsPerMinuteAHost, host)
	}
	return nil
}

// keep makes room by what was asked for least recently.
func (k *clientDocuments) keep(id string, d *clientDocument) {
	if k.byID == nil {
		k.byID = make(map[string]*clientDocument)
	}
	for len(k.byID) >= maxClientDocuments {
		oldest := ""
		for other, d := range k.byID {
			if d.fetching == nil && (oldest == "" || d.used.Before(k.byID[oldest].used)) {
				oldest = other
			}
		}
		delete(k.byID, oldest)
	}
	k.byID[id] = d
}

// finish takes the result of a fetch. An error leaves nothing behind but the pause before
// the next fetch (Client ID Metadata Document, section 5.2).
func (k *clientDocuments) finish(id string, d *clientDocument, client *client, life time.Duration, err error, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.underWay--
	if site := outgoing.Site(id); k.sites[site] > 1 {
		k.sites[site]--
	} else {
		delete(k.sites, site)
	}
	close(d.fetching)
	d.fetching, d.failure = nil, err
	switch {
	case err == nil:
		d.client, d.fetched, d.fresh = client, now, now.Add(life)
	case d.client == nil:
		delete(k.byID, id)
	default:
		d.failed = now
	}
}

// wait returns the client when its document is there. If there is a copy, the next one gets
// documentPatience, so that a slow host delays nobody by more; while its host is down, the
// copy is good. If the host says that there is no document any more, the error is
// errClientDocument, and the client is returned with it if it is not too old.
func (k *clientDocuments) wait(ctx context.Context, d *clientDocument, now time.Time) (*client, error) {
	k.mu.Lock()
	fetching := d.fetching
	var patience <-chan time.Time // nil waits until the fetch ends
	if d.usable(now) {
		patience = time.After(d.began.Add(documentPatience).Sub(now))
	}
	k.mu.Unlock()
	if fetching != nil {
		select {
		case <-fetching:
		case <-patience:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	usable := d.usable(now)
	switch {
	case d.failure == nil, usable && !errors.Is(d.failure, outgoing.ErrNoDocument):
		return d.client, nil
	case usable:
		return d.client, fmt.Errorf("%w: %w", errClientDocument, d.failure)
	}
	return nil, fmt.Errorf("%w: %w", errClientDocument, d.failure)
}

// usable reports whether there is a copy that is not too old.
func (d *clientDocument) usable(now time.Time) bool {
	return d.client != nil && now.Sub(d.fetched) < documentStale
}

// last returns the client as its document had it within the last day, fresh or not; nil if
// there is none.
func (k *clientDocuments) last(id string, now time.Time) *client {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.byID[id]
	if d == nil || !d.usable(now) {
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
