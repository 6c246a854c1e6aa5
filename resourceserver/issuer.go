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
	"sync"
	"time"

	"github.com/valetkey/valetkey/jose"
	"github.com/valetkey/valetkey/oauth"
)

// How the authorization server's documents are kept.
const (
	documentMaxBytes = 512 << 10
	documentTimeout  = 5 * time.Second
	keysFresh        = 5 * time.Minute  // asked for again after this
	keysStale        = 24 * time.Hour   // used for so long if the server does not answer
	fetchPause       = 30 * time.Second // between fetches that strangers or failures cause
)

// issuer is what is known of the authorization server. Documents are fetched when a
// request needs them; one request fetches, and the others use what there is.
type issuer struct {
	identifier string
	http       *http.Client
	log        *slog.Logger

	fetching sync.Mutex
	mu       sync.Mutex
	metadata *oauth.ServerMetadata
	keys     *jose.KeySet
	fetched  time.Time // when keys came
	tried    time.Time // when they were last asked for
	failure  error     // of that
}

// keySet returns the server's keys; newer asks for some that are not older than half a
// minute, because a token names one that the present set lacks.
func (i *issuer) keySet(ctx context.Context, now time.Time, newer bool) (*jose.KeySet, error) {
	keys, due := i.present(now, newer)
	if !due {
		return keys, i.missing(keys)
	}
	if keys != nil && !newer {
		// The present set does: fetch beside this request, one at a time.
		if i.fetching.TryLock() {
			go func() {
				defer i.fetching.Unlock()
				i.fetchKeys(context.WithoutCancel(ctx), now)
			}()
		}
		return keys, nil
	}
	i.fetching.Lock()
	defer i.fetching.Unlock()
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
	if i.keys != nil && now.Sub(i.fetched) < keysStale {
		keys = i.keys
	}
	rested := i.tried.IsZero() || now.Sub(i.tried) >= fetchPause
	wanted := keys == nil || newer || now.Sub(i.fetched) >= keysFresh
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
	keys, err := i.readKeys(ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.tried, i.failure = now, err
	if err != nil {
		i.log.WarnContext(ctx, "fetch keys", "issuer", i.identifier, "error", err)
		return
	}
	i.keys, i.fetched = keys, now
}

func (i *issuer) readKeys(ctx context.Context) (*jose.KeySet, error) {
	metadata, err := i.serverMetadata(ctx)
	if err != nil {
		return nil, err
	}
	document, err := i.get(ctx, metadata.JWKSURI)
	if err != nil {
		return nil, err
	}
	return jose.ParseKeySet(document)
}

// serverMetadata finds the server's metadata at the location of RFC 8414 or that of
// OpenID Connect Discovery.
func (i *issuer) serverMetadata(ctx context.Context) (*oauth.ServerMetadata, error) {
	i.mu.Lock()
	known := i.metadata
	i.mu.Unlock()
	if known != nil {
		return known, nil
	}
	inserted, err := oauth.WellKnownURL(i.identifier, oauth.WellKnownAuthorizationServer)
	if err != nil {
		return nil, fmt.Errorf("find metadata: %w", err)
	}
	var failures error
	for _, address := range []string{inserted, i.identifier + oauth.WellKnownOpenIDConfiguration} {
		document, err := i.get(ctx, address)
		if err == nil {
			var metadata oauth.ServerMetadata
			if err = json.Unmarshal(document, &metadata); err == nil {
				if metadata.Issuer == i.identifier { // RFC 8414, section 3.3
					i.mu.Lock()
					i.metadata = &metadata
					i.mu.Unlock()
					return &metadata, nil
				}
				err = errors.New("the metadata is that of another issuer")
			}
		}
		failures = errors.Join(failures, fmt.Errorf("%s: %w", address, err))
	}
	return nil, failures
}

// checkEndpoint holds that an endpoint is https, or http on loopback like the issuer.
func checkEndpoint(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && oauth.IsLoopbackHost(u.Hostname())) {
		return fmt.Errorf("%q is no https URL", address)
	}
	return nil
}

func (i *issuer) get(ctx context.Context, address string) ([]byte, error) {
	if err := checkEndpoint(address); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	return i.send(request)
}

func (i *issuer) send(request *http.Request) ([]byte, error) {
	response, err := i.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, documentMaxBytes+1))
	if err != nil {
		return nil, err
	}
	if len(body) > documentMaxBytes {
		return nil, errors.New("the answer is too large")
	}
	return body, nil
}
