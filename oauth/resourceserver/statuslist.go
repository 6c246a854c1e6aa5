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

// How status lists are kept (draft-ietf-oauth-status-list, section 13.7). What a list says of
// itself counts between the bounds.
const (
	statusListFreshLeast = 5 * time.Second
	statusListFresh      = time.Minute // where the list does not say
	statusListFreshMost  = time.Hour
	statusListStale      = time.Hour       // after that it is not believed, whatever it says
	statusListPause      = 5 * time.Second // after a fetch that failed
	maxStatusLists       = 64
	// maxStatusListTokenBytes is room for 2^20 tokens, any of which may be revoked: 128 KiB
	// that cannot be compressed, and base64 twice. No API needs more of this server's.
	maxStatusListTokenBytes = 512 << 10
)

// statusLists are the lists that tokens have named. It is safe for concurrent use.
type statusLists struct {
	fetching singleflight.Group
	mu       sync.Mutex
	lists    map[string]*knownStatusList
}

type knownStatusList struct {
	list    *oauth.StatusList // nil if it never came
	fresh   time.Time         // until then nobody asks again
	expires time.Time         // until then it is believed
	failure error             // of the last fetch
}

// checkStatus refuses a token whose status is another than valid, and one that has none
// (draft-ietf-oauth-status-list, section 8.3). An error that is no *oauth.Error says that the
// list could not be had.
func (s *ResourceServer) checkStatus(ctx context.Context, from *trusted, t *Token, now time.Time) error {
	reference, err := readStatus(t.Claims["status"])
	if err != nil {
		return invalid("does not say where its status is published: " + err.Error())
	}
	if err := from.checkStatusURI(reference.URI); err != nil {
		return invalid("has its status elsewhere than at its issuer")
	}
	list, err := s.statusList(ctx, from, reference.URI, now)
	if err != nil {
		return fmt.Errorf("look up the status: %w", err)
	}
	status, ok := list.Status(reference.Index)
	switch {
	case !ok:
		return invalid("has a status that is in no list")
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

// checkStatusURI holds that a list is at the issuer's own origin.
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
		return errors.New("another origin")
	}
	return nil
}

// statusList returns a list that can be believed now. One request fetches it, and the others
// wait for that.
func (s *ResourceServer) statusList(ctx context.Context, from *trusted, uri string, now time.Time) (*oauth.StatusList, error) {
	known := s.statuses.get(uri)
	if known != nil && now.Before(known.fresh) {
		return known.believed(now)
	}
	fetched := s.statuses.fetching.DoChan(uri, func() (any, error) {
		if known := s.statuses.get(uri); known != nil && time.Now().Before(known.fresh) {
			return known, nil // another request was faster
		}
		return caught(func() (any, error) { return s.fetchStatusList(context.WithoutCancel(ctx), from, uri), nil })
	})
	select {
	case result := <-fetched:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*knownStatusList).believed(now)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (k *knownStatusList) believed(now time.Time) (*oauth.StatusList, error) {
	if k.list != nil && now.Before(k.expires) {
		return k.list, nil
	}
	return nil, fmt.Errorf("the status list is not to be had: %w", k.failure)
}

// fetchStatusList fetches a list and remembers it. If that fails, what was there before is
// believed until it expires.
func (s *ResourceServer) fetchStatusList(ctx context.Context, from *trusted, uri string) *knownStatusList {
	next, err := s.readStatusList(ctx, from, uri, time.Now())
	if err != nil {
		s.log.WarnContext(ctx, "fetch status list", "issuer", from.Issuer.Issuer, "uri", uri, "error", err)
		next = &knownStatusList{}
		if known := s.statuses.get(uri); known != nil {
			*next = *known
		}
		next.failure, next.fresh = err, time.Now().Add(statusListPause)
	}
	s.statuses.put(uri, next)
	return next
}

// readStatusList fetches and checks a Status List Token (draft-ietf-oauth-status-list,
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
		return nil, errors.New("the status list is another one: its sub is not the uri of the token")
	case claims.Issuer != "" && claims.Issuer != from.Issuer.Issuer:
		return nil, errors.New("the status list was issued by another server")
	case claims.IssuedAt.IsZero() || claims.IssuedAt.Sub(now) > skew:
		return nil, errors.New("the status list does not say when it was issued, or says a time to come")
	case !claims.Expires.IsZero() && !now.Before(claims.Expires.Add(skew)):
		return nil, errors.New("the status list has expired")
	case content.StatusList == nil:
		return nil, errors.New("there is no status list in the token")
	case content.TTL != nil && *content.TTL <= 0:
		return nil, errors.New("the ttl of the status list is not a positive number")
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

// put keeps a list, and lets go of the one that expires first if there are too many.
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
