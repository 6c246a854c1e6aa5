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

// How the authorization server's documents are fetched and cached.
const (
	documentMaxBytes = 512 << 10
	documentTimeout  = 5 * time.Second
	keysFresh        = 5 * time.Minute // fetched again after this time, unless the server
	keysFreshLeast   = time.Minute     // sends a max-age between these two
	keysFreshMost    = 15 * time.Minute
	keysStale        = 24 * time.Hour   // the maximum age if the server cannot be reached
	fetchPause       = 30 * time.Second // between fetches caused by unknown keys or failures
	firstFetchPause  = 5 * time.Second  // the same, before the first successful fetch
)

// issuer caches the documents of an authorization server. They are fetched when a request
// needs them. One request fetches, and the others use the cached documents meanwhile.
type issuer struct {
	identifier string
	jwksURI    string // "" means the one in the metadata
	http       *http.Client
	log        *slog.Logger

	fetching chan struct{} // capacity 1: held during a fetch

	describing singleflight.Group

	mu        sync.Mutex
	metadata  *oauth.ServerMetadata
	described time.Time // end of the last fetch of metadata
	unknown   error     // why that fetch failed
	keys      *jose.KeySet
	fetched   time.Time // when the keys were fetched
	fresh     time.Duration
	tried     time.Time // end of the last fetch
	failure   error     // error of that fetch
}

// newIssuer uses a copy of the client without redirects and cookies. A redirect could lead to
// an attacker's keys, and would send the API's secret there.
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

// keySet returns the server's keys. newer requests keys that are newer than the cached ones,
// because a token has an unknown kid. Tokens from attackers can cause at most one fetch per
// fetchPause.
func (i *issuer) keySet(ctx context.Context, now time.Time, newer bool) (*jose.KeySet, error) {
	keys, due := i.present(now, newer)
	if !due {
		return keys, i.missing(keys)
	}
	if keys != nil && !newer {
		// The cached set is still valid: fetch in the background.
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
	if keys, due = i.present(now, newer); due { // no other request has fetched meanwhile
		i.fetchKeys(context.WithoutCancel(ctx), now)
		keys, _ = i.present(now, false)
	}
	return keys, i.missing(keys)
}

// present returns the keys that may be used, and whether newer ones should be fetched.
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
	return fmt.Errorf("the keys of %s are not available: %w", i.identifier, i.failure)
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
	// The time is taken at the end of the fetch, so that all requests that arrived meanwhile
	// use its result. Otherwise each of them would wait for its own fetch.
	i.tried, i.failure = time.Now(), err
	if err != nil {
		i.log.WarnContext(ctx, "fetching keys failed", "issuer", i.identifier, "error", err)
		return
	}
	i.keys, i.fetched, i.fresh = keys, now, fresh
}

// readKeys fetches the metadata again too: jwks_uri may have changed.
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

// freshness returns the max-age (RFC 9111, section 5.2.2.1), within limits.
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

// serverMetadata returns the metadata and fetches it if it is not cached.
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

// forget drops the cached metadata, unless it was just fetched. Otherwise each malformed
// token could cause two requests to a server that is in trouble already.
func (i *issuer) forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Since(i.described) >= fetchPause {
		i.metadata = nil
	}
}

// discover fetches the metadata from the location in RFC 8414, section 3, or else from the
// one in OpenID Connect Discovery, section 4.
func (i *issuer) discover(ctx context.Context) (*oauth.ServerMetadata, error) {
	inserted, err := oauth.WellKnownURL(i.identifier, oauth.WellKnownAuthorizationServer)
	if err != nil {
		return nil, fmt.Errorf("fetch metadata: %w", err)
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
	// RFC 8414, section 3.3: otherwise another server could impersonate this one.
	if metadata.Issuer != i.identifier {
		return nil, errors.New("the metadata has a different issuer")
	}
	return &metadata, nil
}

// checkEndpoint returns an error unless an endpoint is https. http is accepted if the issuer
// itself is http, which is possible on loopback only.
func (i *issuer) checkEndpoint(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return errors.New("not a valid URL of an endpoint")
	}
	if u.Scheme == "https" ||
		u.Scheme == "http" && strings.HasPrefix(i.identifier, "http:") && oauth.IsLoopbackHost(u.Hostname()) {
		return nil
	}
	return errors.New("the endpoint must use https")
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
		return nil, nil, fmt.Errorf("the server responded with status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, documentMaxBytes+1))
	if err != nil {
		return nil, nil, err
	}
	if len(body) > documentMaxBytes {
		return nil, nil, errors.New("the response is too large")
	}
	return body, response.Header, nil
}

// caught turns a panic in run into an error. run uses the embedder's transport in goroutines
// where no handler's recover would keep the process alive.
func caught(run func() (any, error)) (value any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			value, err = nil, fmt.Errorf("the HTTP client panicked: %v\n%s", cause, debug.Stack())
		}
	}()
	return run()
}
