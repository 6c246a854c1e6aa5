package authserver_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// uncertainStore is a store that can fail to spend a code or token without the caller knowing whether
// that took effect.
type uncertainStore struct {
	*memory.Store
	fails      bool // Spend returns ErrUnavailable
	notApplied bool // a failing Spend takes no effect
}

// Put fails only for tickets that say that a code was used.
func (u *uncertainStore) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	if slices.ContainsFunc(tickets, func(t storage.Ticket) bool { return !t.Spent.IsZero() }) {
		return u.Spend(ctx, now, nil, tickets...)
	}
	return u.Store.Put(ctx, now, tickets...)
}

func (u *uncertainStore) PutAndFind(ctx context.Context, now time.Time, find record.Find, put ...storage.Ticket) (record.Found, error) {
	return putThenFind(ctx, now, u, u.Store, find, put)
}

func (u *uncertainStore) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	if !u.fails {
		return u.Store.Spend(ctx, now, spend, put...)
	}
	if !u.notApplied {
		if err := u.Store.Spend(ctx, now, spend, put...); err != nil {
			return err
		}
	}
	return storage.ErrUnavailable
}

// A client that got temporarily_unavailable can retry, whether or not the first attempt took
// effect. It gets its tokens once, with the same code_verifier, on any node.
func TestOP09_RetryAfterAnUnknownOutcomeIsNotAReplay(t *testing.T) {
	for _, change := range codeForms() {
		for _, notApplied := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) { retryAfterUnknownOutcome(t, change, notApplied) })
		}
	}
}

func retryAfterUnknownOutcome(t *testing.T, change []string, notApplied bool) {
	store := &uncertainStore{Store: memory.New(), notApplied: notApplied}
	s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) { c.MaxAuthorizations = 3 })}}, store, nil)
	node, err := authserver.New(s.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Close)
	first := s.server
	for _, retryAt := range []*authserver.Server{first, node} {
		s.server = first
		code := s.code("ada", "app", append(change, "scope", "openid")...)
		store.fails = true
		lost := s.redeem("app", code)
		lost.want(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
		if lost.header.Get("Retry-After") == "" {
			t.Error("the response has no Retry-After")
		}
		store.fails = false
		time.Sleep(time.Second) // the note is stored
		s.server = retryAt
		again := s.redeem("app", code)
		again.want(t, http.StatusOK, "")
		s.userinfo(again.AccessToken).want(t, http.StatusOK, "")

		// A refresh that is retried after the window is not a replay either.
		store.fails = true
		s.refresh("app", again.RefreshToken).want(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
		store.fails = false
		time.Sleep(2 * time.Minute)
		next := s.refresh("app", again.RefreshToken)
		next.want(t, http.StatusOK, "")
		s.refresh("app", next.RefreshToken).want(t, http.StatusOK, "")

		// A second redemption is still a replay (AC-01).
		s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.userinfo(next.AccessToken).want(t, http.StatusUnauthorized, oauth.InvalidToken)
	}
}

// A retry with a different code_verifier is a replay.
func TestOP09_AC01_RetryNeedsTheSameCodeVerifier(t *testing.T) {
	for _, change := range codeForms() {
		store := &uncertainStore{Store: memory.New()}
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
		code := s.code("ada", "app", append(change, "scope", "openid")...)
		store.fails = true
		s.redeem("app", code).want(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
		store.fails = false
		s.post("/token", "app", "grant_type", "authorization_code", "code", code, "redirect_uri", testCallback,
			"code_verifier", "another-verifier-that-is-long-enough-for-RFC-7636").want(t, http.StatusBadRequest, oauth.InvalidGrant)
		s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	}
}

// After a failed and a successful attempt, a third one is a replay, even if the redemption does not
// store a refresh token.
func TestOP09_AC01_ReplayAfterAFailedAttempt(t *testing.T) {
	for _, change := range codeForms() {
		synctest.Test(t, func(t *testing.T) {
			store := &uncertainStore{Store: memory.New(), notApplied: true}
			s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) {
				c.GrantTypes = []string{oauth.GrantTypeAuthorizationCode}
			})}}, store, nil)
			code := s.code("ada", "app", append(change, "scope", "openid")...)
			store.fails = true
			s.redeem("app", code).want(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
			store.fails = false
			time.Sleep(time.Second) // the note is stored
			s.redeem("app", code).want(t, http.StatusOK, "")
			s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		})
	}
}

func TestOP09_RetryOfADeviceCodeWithUnknownOutcome(t *testing.T) {
	store := &uncertainStore{Store: memory.New()}
	setup := deviceSetup()
	setup.Clients[0].GrantTypes = append(setup.Clients[0].GrantTypes, oauth.GrantTypeRefreshToken)
	s := newSceneOn(t, setup, store, nil)
	device, user := s.deviceCodes()
	s.approve(user)
	poll := func() apiResponse {
		return s.post("/token", "", "grant_type", oauth.GrantTypeDeviceCode, "device_code", device, "client_id", "tv")
	}
	store.fails = true
	poll().want(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
	store.fails = false
	got := poll()
	got.want(t, http.StatusOK, "")
	poll().want(t, http.StatusBadRequest, oauth.InvalidGrant)
	s.post("/token", "", "grant_type", "refresh_token", "refresh_token", got.RefreshToken, "client_id", "tv").want(t, http.StatusBadRequest, oauth.InvalidGrant)
}
