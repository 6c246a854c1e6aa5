package authserver_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// unsure is a store that can fail so that it is unknown whether a Spend took effect.
type unsure struct {
	*memory.Store
	lose, notDone bool
}

func (u *unsure) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	if !u.lose {
		return u.Store.Spend(ctx, now, spend, put...)
	}
	if !u.notDone {
		if err := u.Store.Spend(ctx, now, spend, put...); err != nil {
			return err
		}
	}
	return storage.ErrUnavailable
}

// A client that got temporarily_unavailable can try again, whether or not the first attempt took
// effect. It gets its tokens once, with the same code_verifier, on any node.
func TestOP09_RetryAfterAnUnknownOutcomeIsNotAReplay(t *testing.T) {
	for _, notDone := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := &unsure{Store: memory.New(), notDone: notDone}
			s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) { c.MaxAuthorizations = 3 })}}, store, nil)
			node, err := authserver.New(s.config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(node.Close)
			first := s.server
			for _, retryAt := range []*authserver.Server{first, node} {
				s.server = first
				code := s.code("ada", "app", "scope", "openid")
				store.lose = true
				lost := s.redeem("app", code)
				lost.want(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
				if lost.header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				store.lose = false
				time.Sleep(time.Second) // the note is stored
				s.server = retryAt
				again := s.redeem("app", code)
				again.want(t, http.StatusOK, "")
				s.userinfo(again.AccessToken).want(t, http.StatusOK, "")

				// A refresh that is retried after the window is not a replay either.
				store.lose = true
				s.refresh("app", again.RefreshToken).want(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
				store.lose = false
				time.Sleep(2 * time.Minute)
				next := s.refresh("app", again.RefreshToken)
				next.want(t, http.StatusOK, "")
				s.refresh("app", next.RefreshToken).want(t, http.StatusOK, "")

				// A second redemption is still a replay (AC-01).
				s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
				s.userinfo(next.AccessToken).want(t, http.StatusUnauthorized, oauth.InvalidToken)
			}
		})
	}
}

// A code that is sent with another code_verifier is still a replay.
func TestOP09_AC01_RetryNeedsTheSameCodeVerifier(t *testing.T) {
	store := &unsure{Store: memory.New()}
	s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
	code := s.code("ada", "app", "scope", "openid")
	store.lose = true
	s.redeem("app", code).want(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
	store.lose = false
	s.post("/token", "app", "grant_type", "authorization_code", "code", code, "redirect_uri", testCallback,
		"code_verifier", "another-verifier-that-is-long-enough-for-RFC-7636").want(t, http.StatusBadRequest, oauth.InvalidGrant)
	s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
}

// After an attempt that did not take effect and one that did, another one is a replay, even if the
// redemption stores nothing that distinguishes the two.
func TestOP09_AC01_ReplayAfterAFailedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &unsure{Store: memory.New(), notDone: true}
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) {
			c.GrantTypes = []string{oauth.GrantTypeAuthorizationCode}
		})}}, store, nil)
		code := s.code("ada", "app", "scope", "openid")
		store.lose = true
		s.redeem("app", code).want(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
		store.lose = false
		time.Sleep(time.Second) // the note is stored
		s.redeem("app", code).want(t, http.StatusOK, "")
		s.redeem("app", code).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	})
}

func TestOP09_UnknownOutcomeOfADeviceCode(t *testing.T) {
	store := &unsure{Store: memory.New()}
	setup := deviceSetup()
	setup.Clients[0].GrantTypes = append(setup.Clients[0].GrantTypes, oauth.GrantTypeRefreshToken)
	s := newSceneOn(t, setup, store, nil)
	device, user := s.deviceCodes()
	s.approve(user)
	poll := func() answer {
		return s.post("/token", "", "grant_type", oauth.GrantTypeDeviceCode, "device_code", device, "client_id", "tv")
	}
	store.lose = true
	poll().want(t, http.StatusServiceUnavailable, oauth.TemporarilyUnavailable)
	store.lose = false
	got := poll()
	got.want(t, http.StatusOK, "")
	poll().want(t, http.StatusBadRequest, oauth.InvalidGrant)
	s.post("/token", "", "grant_type", "refresh_token", "refresh_token", got.RefreshToken, "client_id", "tv").want(t, http.StatusBadRequest, oauth.InvalidGrant)
}
