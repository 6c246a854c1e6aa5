package resourceserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// How the authorization server's documents are fetched and kept.
const (
	documentMaxBytes = 512 << 10
	documentTimeout  = 5 * time.Second
	keysFresh        = 5 * time.Minute // asked for again after this, unless the server
	keysFreshLeast   = time.Minute     // says how long by max-age: between these
	keysFreshMost    = 15 * time.Minute
	keysStale        = 24 * time.Hour   // used for so long if the server does not answer
	fetchPause       = 30 * time.Second // between fetches that strangers or failures cause
	firstFetchPause  = 5 * time.Second  // the same while there are no keys yet
)

// issuer is what is known of the authorization server. Documents are fetched when a
// request needs them; one request fetches, and the others use what there is.
type issuer struct {
	identifier string
	jwksURI    string // "" for the one in the metadata
	http       *http.Client
	log        *slog.Logger

	fetching chan struct{} // has room for the one that fetches

	describing singleflight.Group

	mu        sync.Mutex
	metadata  *oauth.ServerMetadata
	described time.Time // when the last fetch of metadata ended
	unknown   error     // why that brought none
	keys      *jose.KeySet
	fetched   time.Time // when keys came
	fresh     time.Duration
	tried     time.Time // when the last fetch ended
	failure   error     // of that
}

// newIssuer copies the client and takes redirects and cookies from it: a redirect could
// lead to anybody's keys, and would carry the API's secret along.
func newIssuer(config Config, identifier, jwksURI string) *issuer {
	var client http.Client
	if config.HTTPClient != nil {
		client = *config.HTTPClient
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Jar = nil
	if client.Timeout <= 0 || client.Timeout > documentTimeout {
		client.Timeout = documentTimeout
	}
	return &issuer{identifier: identifier, jwksURI: jwksURI, http: &client, log: config.Logger, fetching: make(chan struct{}, 1)}
}

// keySet returns the server's keys. newer asks for others than the present ones, because
// a token names a key that they lack; what strangers send can cause one fetch in
// fetchPause.
func (i *issuer) keySet(ctx context.Context, now time.Time, newer bool) (*jose.KeySet, error) {
	keys, due := i.present(now, newer)
	if !due {
		return keys, i.missing(keys)
	}
	if keys != nil && !newer {
		// The present set does: fetch beside this request.
		select {
		case i.fetching <- struct{}{}:
			go func() {
				defer func() { <-i.fetching }()
				i.fetchKeys(context.WithoutCancel(ctx), now)
			}()
		default:
		}
		return keys, nil
	}
	select {
	case i.fetching <- struct{}{}:
		defer func() { <-i.fetching }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if keys, due = i.present(now, newer); due { // nobody fetched while this one waited
		i.fetchKeys(context.WithoutCancel(ctx), now)
		keys, _ = i.present(now, false)
	}
	return keys, i.missing(keys)
}

// present returns the keys that may be used and whether others should be fetched.
func (i *issuer) present(now time.Time, newer bool) (keys *jose.KeySet, due bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	pause := firstFetchPause
	if i.keys != nil && now.Sub(i.fetched) < keysStale {
		keys, pause = i.keys, fetchPause
	}
	rested := i.tried.IsZero() || now.Sub(i.tried) >= pause
	wanted := keys == nil || newer || now.Sub(i.fetched) >= i.fresh
	return keys, wanted && rested
}

func (i *issuer) missing(keys *jose.KeySet) error {
	if keys != nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return fmt.Errorf("the keys of %s are not to be had: %w", i.identifier, i.failure)
}

func (i *issuer) fetchKeys(ctx context.Context, now time.Time) {
	var keys *jose.KeySet
	var fresh time.Duration
	_, err := caught(func() (_ any, err error) {
		keys, fresh, err = i.readKeys(ctx)
		return nil, err
	})
	i.mu.Lock()
	defer i.mu.Unlock()
	// It counts from its end, so that all who came meanwhile take its result. Each of them
	// would else wait for its own, one behind the other.
	i.tried, i.failure = time.Now(), err
	if err != nil {
		i.log.WarnContext(ctx, "fetch keys", "issuer", i.identifier, "error", err)
		return
	}
	i.keys, i.fetched, i.fresh = keys, now, fresh
}

// readKeys reads the metadata again, too: the server may have moved its keys.
func (i *issuer) readKeys(ctx context.Context) (*jose.KeySet, time.Duration, error) {
	address := i.jwksURI
	if address == "" {
		metadata, err := i.discover(ctx)
		if err != nil {
			if metadata = i.known(); metadata == nil {
				return nil, 0, err
			}
		}
		address = metadata.JWKSURI
	}
	document, header, err := i.get(ctx, address, "application/jwk-set+json, application/json")
	if err != nil {
		return nil, 0, fmt.Errorf("jwks_uri: %w", err)
	}
	keys, err := jose.ParsePublishedKeySet(document)
	if err != nil {
		return nil, 0, err
	}
	return keys, freshness(header), nil
}

// freshness reads max-age (RFC 9111, section 5.2.2.1) within bounds.
func freshness(header http.Header) time.Duration {
	for directive := range strings.SplitSeq(header.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		seconds, err := strconv.Atoi(strings.Trim(value, `"`))
		if strings.EqualFold(name, "max-age") && err == nil {
			seconds = min(max(seconds, 0), int(keysFreshMost/time.Second))
			return max(time.Duration(seconds)*time.Second, keysFreshLeast)
		}
	}
	return keysFresh
}

func (i *issuer) known() *oauth.ServerMetadata {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.metadata
}

// serverMetadata returns the metadata, fetched if it is not known.
func (i *issuer) serverMetadata(ctx context.Context) (*oauth.ServerMetadata, error) {
	i.mu.Lock()
	metadata, unknown := i.metadata, i.unknown
	rested := time.Since(i.described) >= firstFetchPause
	i.mu.Unlock()
	if metadata != nil {
		return metadata, nil
	}
	if unknown != nil && !rested {
		return nil, unknown
	}
	described := i.describing.DoChan("", func() (any, error) {
		return caught(func() (any, error) { return i.discover(context.WithoutCancel(ctx)) })
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case result := <-described:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*oauth.ServerMetadata), nil
	}
}

// forget has the metadata fetched again before its next use, unless that was just done: who
// sends garbage could else have a server in trouble asked twice for each piece.
func (i *issuer) forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Since(i.described) >= fetchPause {
		i.metadata = nil
	}
}

// discover fetches the metadata from the location of RFC 8414, section 3, or else from
// that of OpenID Connect Discovery, section 4.
func (i *issuer) discover(ctx context.Context) (*oauth.ServerMetadata, error) {
	inserted, err := oauth.WellKnownURL(i.identifier, oauth.WellKnownAuthorizationServer)
	if err != nil {
		return nil, fmt.Errorf("find metadata: %w", err)
	}
	var failures error
	for _, address := range []string{inserted, strings.TrimSuffix(i.identifier, "/") + oauth.WellKnownOpenIDConfiguration} {
		metadata, err := i.readMetadata(ctx, address)
		if err == nil {
			i.mu.Lock()
			i.metadata, i.described, i.unknown = metadata, time.Now(), nil
			i.mu.Unlock()
			return metadata, nil
		}
		failures = errors.Join(failures, fmt.Errorf("%s: %w", address, err))
	}
	i.mu.Lock()
	i.described, i.unknown = time.Now(), failures
	i.mu.Unlock()
	return nil, failures
}

func (i *issuer) readMetadata(ctx context.Context, address string) (*oauth.ServerMetadata, error) {
	document, _, err := i.get(ctx, address, "application/json")
	if err != nil {
		return nil, err
	}
	var metadata oauth.ServerMetadata
	if err := json.Unmarshal(document, &metadata); err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	// RFC 8414, section 3.3: or somebody else speaks in the server's name.
	if metadata.Issuer != i.identifier {
		return nil, errors.New("the metadata is that of another issuer")
	}
	return &metadata, nil
}

// checkEndpoint holds that an endpoint is https; http is taken where the issuer itself
// is http, which it may be on loopback only.
func (i *issuer) checkEndpoint(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return errors.New("not the URL of an endpoint")
	}
	if u.Scheme == "https" ||
		u.Scheme == "http" && strings.HasPrefix(i.identifier, "http:") && oauth.IsLoopbackHost(u.Hostname()) {
		return nil
	}
	return errors.New("the endpoint is not https")
}

func (i *issuer) get(ctx context.Context, address, accept string) ([]byte, http.Header, error) {
	if err := i.checkEndpoint(address); err != nil {
		return nil, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Accept", accept)
	return i.send(request)
}

func (i *issuer) send(request *http.Request) ([]byte, http.Header, error) {
	response, err := i.http.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("the server answered %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, documentMaxBytes+1))
	if err != nil {
		return nil, nil, err
	}
	if len(body) > documentMaxBytes {
		return nil, nil, errors.New("the answer is too large")
	}
	return body, response.Header, nil
}

// caught turns a panic of run into an error. run sends requests by the embedder's transport,
// in goroutines where no handler's recover would keep the process alive.
func caught(run func() (any, error)) (value any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			value, err = nil, fmt.Errorf("the HTTP client panicked: %v\n%s", cause, debug.Stack())
		}
	}()
	return run()
}
