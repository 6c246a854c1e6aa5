package client

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A refresh token in use is sent once, even if many other sessions are used meanwhile.
func TestSourcesAreKeptWhileTheyRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held sources
		refreshes := 0
		old := &Tokens{AccessToken: "a", RefreshToken: "r", Issued: time.Now().Add(-time.Hour), Expiry: time.Now().Add(-time.Minute)}
		fresh := func() *Source {
			return &Source{tokens: old, renew: func(context.Context, *Tokens) (*Tokens, error) {
				refreshes++
				time.Sleep(time.Second) // in the bubble
				return &Tokens{AccessToken: "b", RefreshToken: "r2", Issued: time.Now(), Expiry: time.Now().Add(time.Hour)}, nil
			}}
		}
		session := &Session{ID: "busy", Tokens: old}
		renew := func() { _, _ = held.of(session, fresh).Tokens(t.Context()) }
		go renew()
		synctest.Wait()
		for n := range 5 * maxSources {
			held.of(&Session{ID: fmt.Sprint(n), Tokens: old}, fresh)
		}
		renew()
		if refreshes != 1 {
			t.Errorf("the refresh token was sent %d times", refreshes)
		}
		if len(held.byID) > maxSources+1 {
			t.Errorf("%d sources are cached", len(held.byID))
		}
	})
}
