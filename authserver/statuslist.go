package authserver

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/internal/statusindex"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

const statusListPath = "/status-list"

// How fresh a status list is. An API sees a revocation after the sum of the first three at most.
const (
	statusListFresh  = 2 * time.Second  // how often this node reads the revoked tokens
	statusListMaxAge = 10 * time.Second // how long an HTTP cache may keep a list
	statusListTTL    = time.Minute      // how long an API may keep a list
	// statusListExpires is how long an API may use a list if it cannot get a newer one.
	statusListExpires = 15 * time.Minute
	// statusRetention is how long a revocation is published after the token has expired, because
	// the clock of an API may be behind.
	statusRetention = time.Minute
	// maxEndedTokens limits the number of revoked tokens that have not expired. If there are
	// more, no list is served. APIs then refuse all tokens rather than accept a revoked one.
	maxEndedTokens = 200_000
	// maxEndedPerClient limits how many of its own tokens one client can have revoked, on one
	// node, so that it cannot stop the lists for other clients. maxEndedPerUser is the limit for
	// the tokens of one user of a client. A user of a public client can reach it, and must not
	// stop the client for its other users.
	maxEndedPerClient = 10_000
	maxEndedPerUser   = 1_000
	// statusListMaxPause is the longest pause between two reads of the revoked tokens, if reading
	// takes long.
	statusListMaxPause = 10 * time.Second
)

var (
	ruleStatusListKnown = rule{
		must:    "id is the ID of a list that may have tokens",
		section: "draft-ietf-oauth-status-list, section 8.2", code: oauth.InvalidRequest,
		says: "there is no such status list",
		fix:  "fetch the uri in a token that has not expired",
	}
	ruleStatusListNow = rule{
		must:    "the request is for the current list",
		section: "draft-ietf-oauth-status-list, section 8.4", code: oauth.InvalidRequest,
		says: "historical status lists are not available",
		fix:  "leave out the parameter time",
	}
)

// statusLists are the lists of revoked access tokens that this node publishes. They depend only
// on tickets of storage.KindStatus, so all nodes publish the same lists.
type statusLists struct {
	mu        contextLock
	read      time.Time // when ended was read
	pause     time.Duration
	ended     map[int64][]int64 // revoked indexes by list
	documents map[int64]*statusListDocument
}

type statusListDocument struct {
	document *document
	issued   time.Time
	ended    []int64
}

// statusListAlive reports whether a list may have tokens that have not expired.
func (s *Server) statusListAlive(list int64, now time.Time) bool {
	return statusindex.Alive(list, now, max(s.lifetimes.AccessToken, record.MaxOwnLifetime))
}

// statusList serves a status list (draft-ietf-oauth-status-list, section 8.2).
func (c *call) statusList() error {
	query := c.r.URL.Query()
	if query.Has("time") {
		err := c.must(false, &ruleStatusListNow)
		oauth.AsError(err).Status = http.StatusNotImplemented
		return err
	}
	list, err := strconv.ParseInt(query.Get("id"), 10, 64)
	if err != nil || len(query) != 1 || strconv.FormatInt(list, 10) != query.Get("id") || !c.s.statusListAlive(list, c.now) {
		err := c.refuse(&ruleStatusListKnown, query.Encode())
		oauth.AsError(err).Status = http.StatusNotFound
		return err
	}
	d, err := c.s.statusListDocument(c.r.Context(), c.now, list)
	if err != nil {
		return err
	}
	d.write(c.w)
	return nil
}

func (s *Server) statusListDocument(ctx context.Context, now time.Time, list int64) (*document, error) {
	lists := &s.statusLists
	if err := lists.mu.lock(ctx); err != nil {
		return nil, err
	}
	defer lists.mu.unlock()
	if now.Sub(lists.read).Abs() >= max(lists.pause, statusListFresh) {
		if err := s.readEnded(ctx, now); err != nil {
			return nil, err
		}
	}
	ended := lists.ended[list]
	if d := lists.documents[list]; d != nil && now.Sub(d.issued) < statusListTTL/2 && slices.Equal(d.ended, ended) {
		return d.document, nil
	}
	d, err := s.newStatusListDocument(ctx, now, list, ended)
	if err != nil {
		return nil, err
	}
	lists.documents[list] = &statusListDocument{document: d, issued: now, ended: ended}
	return d, nil
}

// readEnded reads the revoked tokens, and drops lists whose tokens have all expired. The caller
// holds the lock.
func (s *Server) readEnded(ctx context.Context, now time.Time) error {
	started := time.Now()
	tickets, err := s.config.Store.FindEnded(ctx, now, maxEndedTokens+1)
	// Spend at most about a tenth of the time on reading, even if there are many.
	s.statusLists.pause = min(10*time.Since(started), statusListMaxPause)
	if err != nil {
		return fmt.Errorf("read revoked tokens: %w", err)
	}
	if len(tickets) > maxEndedTokens {
		return fmt.Errorf("more than %d revoked access tokens have not expired", maxEndedTokens)
	}
	ended := map[int64][]int64{}
	for _, ticket := range tickets {
		list, index := readStatusKey(ticket.Key)
		ended[list] = append(ended[list], index)
	}
	for _, indexes := range ended {
		slices.Sort(indexes)
	}
	lists := &s.statusLists
	lists.ended, lists.read = ended, now
	if lists.documents == nil {
		lists.documents = map[int64]*statusListDocument{}
	}
	for list := range lists.documents {
		if !s.statusListAlive(list, now) {
			delete(lists.documents, list)
		}
	}
	return nil
}

// newStatusListDocument issues a Status List Token (draft-ietf-oauth-status-list, section 5.1).
func (s *Server) newStatusListDocument(ctx context.Context, now time.Time, list int64, ended []int64) (*document, error) {
	statuses := oauth.NewStatusList(statusindex.ListSize)
	for _, index := range ended {
		if index >= 0 && index < statusindex.ListSize {
			statuses.Invalidate(index)
		}
	}
	payload, err := json.Marshal(struct {
		Issuer     string            `json:"iss"`
		Subject    string            `json:"sub"`
		IssuedAt   int64             `json:"iat"`
		Expires    int64             `json:"exp"`
		TTL        int64             `json:"ttl"`
		StatusList *oauth.StatusList `json:"status_list"`
	}{
		s.config.Issuer, s.statusListURI(list), now.Unix(), now.Add(statusListExpires).Unix(),
		int64(statusListTTL / time.Second), statuses,
	})
	if err != nil {
		return nil, fmt.Errorf("encode status list: %w", err)
	}
	catalogue, err := s.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	signer, err := s.signer(ctx, catalogue, jose.ES256, now)
	if err != nil {
		return nil, err
	}
	token, err := s.signWith(ctx, signer, oauth.TypStatusList, payload)
	if err != nil {
		return nil, fmt.Errorf("sign status list: %w", err)
	}
	return newDocument(oauth.MediaTypeStatusList, statusListMaxAge, []byte(token)), nil
}

func (s *Server) statusListURI(list int64) string {
	return s.statusListPrefix() + strconv.FormatInt(list, 10)
}

// readStatusListURI returns the list in the status claim of a token of this server.
func (s *Server) readStatusListURI(uri string) (list int64, ok bool) {
	id, found := strings.CutPrefix(uri, s.statusListPrefix())
	list, err := strconv.ParseInt(id, 10, 64)
	return list, found && err == nil
}

func (s *Server) statusListPrefix() string { return s.config.Issuer + statusListPath + "?id=" }

// statusKey returns the key of the ticket for a token's status.
func statusKey(list, index int64) storage.Key {
	key := storage.Key{Kind: storage.KindStatus}
	binary.BigEndian.PutUint64(key.ID[:], uint64(list))
	binary.BigEndian.PutUint64(key.ID[8:], uint64(index))
	return key
}

func readStatusKey(key storage.Key) (list, index int64) {
	return int64(binary.BigEndian.Uint64(key.ID[:])), int64(binary.BigEndian.Uint64(key.ID[8:]))
}

// publishesStatus reports whether tokens for an audience have a status claim.
func (c *catalogue) publishesStatus(audience []string) bool {
	return slices.ContainsFunc(audience, func(identifier string) bool {
		r := c.resource(identifier)
		return r != nil && r.StatusList
	})
}

// newStatus returns a status claim for an access token, and a ticket that belongs to the token's
// authorization. When the authorization ends, the ticket and so the token end with it.
func (c *call) newStatus(ctx context.Context, a *authorization, expires time.Time) (*oauth.Status, []storage.Ticket, error) {
	if c.s.endedOfClients.full(endedOwner{c.client.ID, a.Subject}, c.now) {
		return nil, nil, c.tooManyEnded()
	}
	list, index, err := c.s.statusIndexes.Next(ctx, c.now)
	if err != nil {
		return nil, nil, err
	}
	status := &oauth.Status{StatusList: &oauth.StatusListReference{Index: index, URI: c.s.statusListURI(list)}}
	return status, []storage.Ticket{{Key: statusKey(list, index), Grant: a.Grant, Family: a.Family, Expires: expires.Add(statusRetention)}}, nil
}

// endStatus publishes that an access token is revoked.
func (s *Server) endStatus(ctx context.Context, now time.Time, claims *accessTokenClaims) error {
	if claims.Status == nil || claims.Status.StatusList == nil {
		return nil
	}
	list, ok := s.readStatusListURI(claims.Status.StatusList.URI)
	if !ok {
		return fmt.Errorf("the status claim of an access token names a list that is not of this server: %q", claims.Status.StatusList.URI)
	}
	ended := storage.Ticket{
		Key: statusKey(list, claims.Status.StatusList.Index), Spent: now,
		Expires: time.Unix(claims.Expires, 0).Add(statusRetention),
	}
	err := s.config.Store.Put(ctx, now, ended)
	if errors.Is(err, storage.ErrExists) { // it belongs to an authorization
		err = s.config.Store.Delete(ctx, ended.Key)
	}
	if err != nil {
		return fmt.Errorf("publish the revocation of a token: %w", err)
	}
	return nil
}

var ruleEndedOfClient = rule{
	must:    "the client has not revoked more access tokens than status lists can hold",
	section: "RFC 7009, section 2.2.1", code: oauth.TemporarilyUnavailable,
	says: "this client has revoked too many access tokens that have not expired; try again later",
	fix:  "let access tokens expire instead of revoking them; shorten access_token_lifetime",
}

// endedOwner identifies whose access tokens were revoked: a client's own, or those of one user
// of a client.
type endedOwner struct {
	client  string
	subject string // "" for the client's own tokens
}

// limit returns how many revoked tokens an owner may have that have not expired.
func (o endedOwner) limit() int {
	if o.subject == "" {
		return maxEndedPerClient
	}
	return maxEndedPerUser
}

// endedOfClients counts the revoked access tokens of each owner that have not expired. It counts
// only the revocations on this node. The zero value is ready to use.
type endedOfClients struct {
	mu      sync.Mutex
	counts  map[endedOwner]map[int64]int // by the minute of expiry
	cleaned int64                        // the minute in which expired counts were last removed
}

// add counts a token and returns true, or returns false if the owner is at the limit.
func (e *endedOfClients) add(owner endedOwner, now, expires time.Time) bool {
	if e.full(owner, now) {
		return false
	}
	e.count(owner, now, expires)
	return true
}

// count counts a token, even beyond the limit.
func (e *endedOfClients) count(owner endedOwner, now, expires time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counts == nil {
		e.counts = map[endedOwner]map[int64]int{}
	}
	e.forget(now)
	if e.counts[owner] == nil {
		e.counts[owner] = map[int64]int{}
	}
	e.counts[owner][expires.Unix()/60]++
}

// full reports whether an owner is at the limit.
func (e *endedOfClients) full(owner endedOwner, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	total := 0
	for minute, n := range e.counts[owner] {
		if minute >= now.Unix()/60 {
			total += n
		}
	}
	return total >= owner.limit()
}

// forget removes expired counts, at most once a minute.
func (e *endedOfClients) forget(now time.Time) {
	if e.cleaned == now.Unix()/60 {
		return
	}
	e.cleaned = now.Unix() / 60
	for owner, minutes := range e.counts {
		maps.DeleteFunc(minutes, func(minute int64, _ int) bool { return minute < e.cleaned })
		if len(minutes) == 0 {
			delete(e.counts, owner)
		}
	}
}

// countEnded counts a revoked token, or refuses the revocation if its owner is at the limit.
func (c *call) countEnded(t *verifiedToken) error {
	if t.claims.Status == nil || t.claims.Status.StatusList == nil {
		return nil
	}
	if c.s.endedOfClients.add(endedOwner{t.claims.ClientID, t.user}, c.now, time.Unix(t.claims.Expires, 0)) {
		return nil
	}
	return c.tooManyEnded()
}

func (c *call) tooManyEnded() error {
	err := c.refuse(&ruleEndedOfClient, "")
	oauth.AsError(err).Status = http.StatusServiceUnavailable
	return err
}

// countEndedFamily counts the access tokens that end with a refresh token. A refresh token can
// always be revoked. But at the limit, the client gets no more tokens with a status for the user.
func (c *call) countEndedFamily(owner endedOwner, family string) error {
	tokens, err := c.s.config.Store.FindFamily(c.r.Context(), c.now, family, storage.KindStatus, maxEndedPerClient)
	if err != nil {
		return fmt.Errorf("look up access tokens: %w", err)
	}
	for _, token := range tokens {
		if token.Spent.IsZero() {
			c.s.endedOfClients.count(owner, c.now, token.Expires.Add(-statusRetention))
		}
	}
	return nil
}
