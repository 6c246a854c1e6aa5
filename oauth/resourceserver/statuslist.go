package resourceserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// How status lists are cached (draft-ietf-oauth-status-list, section 13.7). A list's own exp
// and ttl are used within these limits.
const (
	statusListFreshLeast = 5 * time.Second
	statusListFresh      = time.Minute // if the list has no ttl
	statusListFreshMost  = time.Hour
	statusListStale      = time.Hour       // not used after this time, whatever its exp is
	statusListPause      = 5 * time.Second // after a failed fetch
	maxStatusLists       = 64
	// maxStatusListTokenBytes is enough for 2^20 tokens, any of which may be revoked:
	// 128 KiB that cannot be compressed, base64url-encoded twice.
	maxStatusListTokenBytes = 512 << 10
)

// statusLists caches the lists that tokens refer to. It is safe for concurrent use.
type statusLists struct {
	fetching singleflight.Group
	mu       sync.Mutex
	lists    map[string]*knownStatusList
}

type knownStatusList struct {
	list    *oauth.StatusList // nil if it was never fetched
	fresh   time.Time         // no fetch before this time
	expires time.Time         // not used after this time
	failure error             // of the last fetch
}

// checkStatus rejects a token whose status is missing or not valid
// (draft-ietf-oauth-status-list, section 8.3). An error that is not an *oauth.Error means
// that the list is not available.
func (s *ResourceServer) checkStatus(ctx context.Context, from *trusted, t *Token, now time.Time) error {
	reference, err := readStatus(t.Claims["status"])
	if err != nil {
		return invalid("has no usable status claim: " + err.Error())
	}
	if err := from.checkStatusURI(reference.URI); err != nil {
		return invalid("refers to a status list that is not on its issuer's origin")
	}
	list, err := s.statusList(ctx, from, reference.URI, now)
	if err != nil {
		return fmt.Errorf("check the token's status: %w", err)
	}
	status, ok := list.Status(reference.Index)
	switch {
	case !ok:
		return invalid("has a status index that is not in the list")
	case status != oauth.StatusValid:
		return invalid("was revoked")
	}
	return nil
}

func readStatus(claim any) (*oauth.StatusListReference, error) {
	document, err := json.Marshal(claim)
	if err != nil {
		return nil, errors.New("malformed")
	}
	var status oauth.Status
	if err := json.Unmarshal(document, &status); err != nil || status.StatusList == nil || status.StatusList.URI == "" || status.StatusList.Index < 0 {
		return nil, errors.New("it has no status_list with idx and uri")
	}
	return status.StatusList, nil
}

// checkStatusURI returns an error unless a list is on the issuer's own origin.
func (i *trusted) checkStatusURI(uri string) error {
	if err := i.documents.checkEndpoint(uri); err != nil {
		return err
	}
	list, err := url.Parse(uri)
	if err != nil {
		return err
	}
	issuer, err := url.Parse(i.Issuer.Issuer)
	if err != nil {
		return err
	}
	if list.Scheme != issuer.Scheme || !strings.EqualFold(list.Host, issuer.Host) {
		return errors.New("it is on another origin")
	}
	return nil
}

// statusList returns a list that is valid now. One request fetches it, and the others wait.
func (s *ResourceServer) statusList(ctx context.Context, from *trusted, uri string, now time.Time) (*oauth.StatusList, error) {
	known := s.statuses.get(uri)
	if known != nil && now.Before(known.fresh) {
		return known.usable(now)
	}
	fetched := s.statuses.fetching.DoChan(uri, func() (any, error) {
		if known := s.statuses.get(uri); known != nil && time.Now().Before(known.fresh) {
			return known, nil // another request has fetched it
		}
		return caught(func() (any, error) { return s.fetchStatusList(context.WithoutCancel(ctx), from, uri), nil })
	})
	select {
	case result := <-fetched:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*knownStatusList).usable(now)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (k *knownStatusList) usable(now time.Time) (*oauth.StatusList, error) {
	if k.list != nil && now.Before(k.expires) {
		return k.list, nil
	}
	return nil, fmt.Errorf("the status list is not available: %w", k.failure)
}

// fetchStatusList fetches a list and caches it. If that fails, the cached list is used until
// it expires.
func (s *ResourceServer) fetchStatusList(ctx context.Context, from *trusted, uri string) *knownStatusList {
	next, err := s.readStatusList(ctx, from, uri, time.Now())
	if err != nil {
		s.log.WarnContext(ctx, "fetching the status list failed", "issuer", from.Issuer.Issuer, "uri", uri, "error", err)
		next = &knownStatusList{}
		if known := s.statuses.get(uri); known != nil {
			*next = *known
		}
		next.failure, next.fresh = err, time.Now().Add(statusListPause)
	}
	s.statuses.put(uri, next)
	return next
}

// readStatusList fetches and validates a Status List Token (draft-ietf-oauth-status-list,
// sections 5.1 and 8.3).
func (s *ResourceServer) readStatusList(ctx context.Context, from *trusted, uri string, now time.Time) (*knownStatusList, error) {
	token, _, err := from.documents.get(ctx, uri, oauth.MediaTypeStatusList)
	if err != nil {
		return nil, err
	}
	payload, _, err := s.verify(ctx, from, string(token), jose.Expected{Types: []string{oauth.TypStatusList}, MaxBytes: maxStatusListTokenBytes}, now)
	if err != nil {
		return nil, err
	}
	var content struct {
		TTL        *float64          `json:"ttl"`
		StatusList *oauth.StatusList `json:"status_list"`
	}
	claims, err := jose.ParseClaimsUpTo(maxStatusListTokenBytes, payload, nil)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(payload, &content); err != nil {
		return nil, err
	}
	skew := s.config.ClockSkew
	switch {
	case claims.Subject != uri:
		return nil, errors.New("the sub of the status list is not the uri in the token")
	case claims.Issuer != "" && claims.Issuer != from.Issuer.Issuer:
		return nil, errors.New("the status list was issued by another server")
	case claims.IssuedAt.IsZero() || claims.IssuedAt.Sub(now) > skew:
		return nil, errors.New("the iat of the status list is missing or in the future")
	case !claims.Expires.IsZero() && !now.Before(claims.Expires.Add(skew)):
		return nil, errors.New("the status list has expired")
	case content.StatusList == nil:
		return nil, errors.New("the status list token has no status_list")
	case content.TTL != nil && *content.TTL <= 0:
		return nil, errors.New("the ttl of the status list must be a positive number")
	}
	fresh := statusListFresh
	if content.TTL != nil {
		fresh = time.Duration(min(*content.TTL, statusListFreshMost.Seconds()) * float64(time.Second))
	}
	known := &knownStatusList{list: content.StatusList, fresh: now.Add(max(fresh, statusListFreshLeast)), expires: now.Add(statusListStale)}
	if !claims.Expires.IsZero() && claims.Expires.Add(skew).Before(known.expires) {
		known.expires = claims.Expires.Add(skew)
	}
	if known.expires.Before(known.fresh) {
		known.fresh = known.expires
	}
	return known, nil
}

func (l *statusLists) get(uri string) *knownStatusList {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lists[uri]
}

// put caches a list, and drops the one that expires first if there are too many.
func (l *statusLists) put(uri string, known *knownStatusList) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lists == nil {
		l.lists = make(map[string]*knownStatusList)
	}
	l.lists[uri] = known
	if len(l.lists) <= maxStatusLists {
		return
	}
	var uris []string
	for other := range l.lists {
		if other != uri {
			uris = append(uris, other)
		}
	}
	delete(l.lists, slices.MinFunc(uris, func(a, b string) int { return l.lists[a].expires.Compare(l.lists[b].expires) }))
}
