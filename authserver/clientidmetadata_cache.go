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

// Bounds on the cache of documents, and on how often documents are fetched.
const (
	maxClientDocuments = 1000
	// How long a document is fresh: as long as its host says, within these bounds; the default
	// if the host says nothing.
	minDocumentLifetime     = time.Minute
	maxDocumentLifetime     = 24 * time.Hour
	defaultDocumentLifetime = 10 * time.Minute
	// documentStale is how long a document is used if it cannot be fetched again.
	documentStale = 24 * time.Hour
	// documentWait is how long a request waits for a new document if there is an older one.
	documentWait = time.Second
	// documentRetry is the pause after a failed fetch if there is an older document.
	documentRetry = 10 * time.Second
	// Concurrent fetches in total and from one site; fetches in a minute for one requesting
	// address and from one host.
	maxDocumentFetches        = 64
	maxDocumentFetchesPerSite = 16
	documentsPerMinute        = 30
	documentsPerMinutePerHost = 60
)

// errDocumentPace is returned if a document is not fetched because of a limit.
var errDocumentPace = errors.New("the client's metadata document is not fetched now")

// errDocumentHostPace is an errDocumentPace by the limit of a host. Clients that users of this
// server have used have a limit of their own.
var errDocumentHostPace = fmt.Errorf("%w", errDocumentPace)

// clientDocuments caches clients by the URLs of their documents, in memory. The cache is separate
// from that of other clients, so that outsiders cannot evict those. It does not cache failures.
type clientDocuments struct {
	fetches   sync.WaitGroup
	addresses *ratelimit.Limiter
	hosts     *ratelimit.Limiter

	mu      sync.Mutex
	byID    map[string]*clientDocument
	running int            // fetches in progress
	sites   map[string]int // fetches in progress, by site
}

func (k *clientDocuments) limit() {
	k.addresses = ratelimit.New(ratelimit.Config{Limit: ratelimit.PerMinute(documentsPerMinute)})
	k.hosts = ratelimit.New(ratelimit.Config{Limit: ratelimit.PerMinute(documentsPerMinutePerHost)})
}

// clientDocument is one document. clientDocuments.mu guards it.
type clientDocument struct {
	client   *client       // by the last valid document; nil if there is none
	fetched  time.Time     // when that document was fetched
	fresh    time.Time     // when that document must be fetched again
	used     time.Time     // when the document was last used
	fetching chan struct{} // closed when the fetch in progress ends; nil if there is none
	began    time.Time     // when the last fetch began
	failure  error         // the error of the last fetch
	failed   time.Time
}

// find returns the entry of a document. If fetch is true, the caller must fetch the document and
// call finish. known says that users of this server have used the client; pass it after
// errDocumentHostPace.
func (k *clientDocuments) find(id string, from netip.Addr, known bool, now time.Time) (d *clientDocument, fetch bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d = k.byID[id]
	site := outgoing.Site(id)
	if d != nil {
		d.used = now
		failedRecently := d.failure != nil && now.Sub(d.failed) < documentRetry
		// The older document is used if a limit prevents the fetch.
		if d.fetching != nil || now.Before(d.fresh) || failedRecently || k.full(site) != nil {
			return d, false, nil
		}
	} else {
		// Outsiders can make up any number of URLs, so fetches are limited.
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
	k.running++
	if k.sites == nil {
		k.sites = make(map[string]int)
	}
	k.sites[site]++
	return d, true, nil
}

// full returns an error if no fetch from a site may begin now.
func (k *clientDocuments) full(site string) error {
	if k.sites[site] >= maxDocumentFetchesPerSite {
		return fmt.Errorf("%w: %d others of %s are being fetched", errDocumentPace, k.sites[site], site)
	}
	if k.running >= maxDocumentFetches {
		return fmt.Errorf("%w: %d others are being fetched", errDocumentPace, k.running)
	}
	return nil
}

// pace limits the fetches of documents that are not in the cache. Documents of known clients have a
// separate limit for their host, which made-up URLs cannot exhaust.
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
		return fmt.Errorf("%w: %d were fetched from %s within a minute", errDocumentHostPace, documentsPerMinutePerHost, host)
	}
	return nil
}

// keep adds a document, and evicts the least recently used one if the cache is full.
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

// finish stores the result of a fetch. After an error, only the time is stored, to delay the next
// fetch (Client ID Metadata Document, section 5.2).
func (k *clientDocuments) finish(id string, d *clientDocument, client *client, lifetime time.Duration, err error, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running--
	if site := outgoing.Site(id); k.sites[site] > 1 {
		k.sites[site]--
	} else {
		delete(k.sites, site)
	}
	close(d.fetching)
	d.fetching, d.failure = nil, err
	switch {
	case err == nil:
		d.client, d.fetched, d.fresh = client, now, now.Add(lifetime)
	case d.client == nil:
		delete(k.byID, id)
	default:
		d.failed = now
	}
}

// wait waits for the fetch in progress, if there is one, and returns the client. If there is an older
// document, it waits for documentWait at most, so that a slow host causes no longer delay, and the
// older document is used while the host is down. If the host says that the document does not exist,
// the error is errClientDocument, and the client of the older document is returned with it.
func (k *clientDocuments) wait(ctx context.Context, d *clientDocument, now time.Time) (*client, error) {
	k.mu.Lock()
	fetching := d.fetching
	var timeout <-chan time.Time // nil waits until the fetch ends
	if d.usable(now) {
		timeout = time.After(d.began.Add(documentWait).Sub(now))
	}
	k.mu.Unlock()
	if fetching != nil {
		select {
		case <-fetching:
		case <-timeout:
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

// usable reports whether there is a document that is not too old.
func (d *clientDocument) usable(now time.Time) bool {
	return d.client != nil && now.Sub(d.fetched) < documentStale
}

// last returns the client by its last document, fresh or not, if that is not older than a day; nil
// if there is none.
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

// documentLifetime returns how long a response is fresh (RFC 9111, section 4.2), within the bounds.
func documentLifetime(header http.Header, now time.Time) time.Duration {
	lifetime := defaultDocumentLifetime
	if expires := header.Get("Expires"); expires != "" {
		lifetime = 0 // an invalid date is in the past (RFC 9111, section 5.3)
		if at, err := http.ParseTime(expires); err == nil {
			sent, err := http.ParseTime(header.Get("Date"))
			if err != nil {
				sent = now
			}
			lifetime = at.Sub(sent)
		}
	}
	shared := false
	for directive := range strings.SplitSeq(strings.Join(header.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32)
		switch {
		case name == "no-store" || name == "no-cache":
			return minDocumentLifetime
		case name == "s-maxage" && err == nil:
			lifetime, shared = time.Duration(seconds)*time.Second, true
		case name == "max-age" && err == nil && !shared:
			lifetime = time.Duration(seconds) * time.Second
		}
	}
	if age, err := strconv.ParseInt(header.Get("Age"), 10, 32); err == nil && age > 0 {
		lifetime -= time.Duration(age) * time.Second
	}
	return min(max(lifetime, minDocumentLifetime), maxDocumentLifetime)
}
