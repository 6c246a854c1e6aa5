package authserver_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// late is a store to which a node that has not heard of anything sends its writes once more.
type late struct {
	database
	t   *testing.T
	put []storage.Ticket
}

func (l *late) Put(ctx context.Context, now time.Time, put ...storage.Ticket) error {
	l.put = append(l.put, put...)
	return l.database.Put(ctx, now, put...)
}

func (l *late) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	l.put = append(l.put, put...)
	return l.database.Spend(ctx, now, spend, put...)
}

func (l *late) sendAgain() {
	for _, ticket := range l.put {
		if err := l.database.Put(l.t.Context(), time.Now(), ticket); err != nil && !errors.Is(err, storage.ErrExists) {
			l.t.Error(err)
		}
	}
}

// endedUsers are users for whom nothing is valid that was issued before a time.
type endedUsers struct {
	authserver.Users
	ended *atomic.Int64 // Unix milliseconds
}

func (u endedUsers) SubjectActive(_ context.Context, _, _ string, issued time.Time) (bool, error) {
	return issued.UnixMilli() >= u.ended.Load(), nil
}

// What is in the store of a user or client who was disabled meanwhile, and enabled again, is
// not valid, however it got there.
func TestAC09_AC10_WhatIsStoredAfterTheEndIsNotValid(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		for _, who := range []string{"user", "client", "nobody"} {
			var ended atomic.Int64
			l := &late{database: store, t: t}
			s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, l, func(c *authserver.Config) {
				c.Users = endedUsers{c.Users, &ended}
			})
			tokens := s.tokens("ada", "app", "openid offline_access")
			code := s.code("ada", "app", "scope", "openid")
			time.Sleep(2 * time.Millisecond) // what is stored has milliseconds
			switch who {
			case "user":
				ended.Store(time.Now().UnixMilli() + 1)
			case "client":
				for _, disabled := range []bool{true, false} {
					if err := store.UpdateClient(t.Context(), "app", func(c *record.Client) error { c.Disabled = disabled; return nil }); err != nil {
						t.Fatal(err)
					}
				}
			}
			l.sendAgain()
			node, err := authserver.New(s.config) // it has the client as it is now
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(node.Close)
			s.server = node
			valid := who == "nobody"
			for what, token := range map[string]string{"access token": tokens.AccessToken, "refresh token": tokens.RefreshToken} {
				if active := s.post("/introspect", "app", "token", token).Active; active != valid {
					t.Errorf("the end of the %s: the %s is active: %v", who, what, active)
				}
			}
			if status := s.userinfo(tokens.AccessToken).status; (status == http.StatusOK) != valid {
				t.Errorf("the end of the %s: UserInfo responds %d", who, status)
			}
			status, refusal := http.StatusOK, oauth.ErrorCode("")
			if !valid {
				status, refusal = http.StatusBadRequest, oauth.InvalidGrant
			}
			s.redeem("app", code).want(t, status, refusal)
			s.refresh("app", tokens.RefreshToken).want(t, status, refusal)
		}
	})
}
