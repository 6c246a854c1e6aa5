package authserver_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// withdrawing is a store in which the user withdraws the consent just before something that
// hangs from it is stored, and gives it again if giveAgain is set.
type withdrawing struct {
	database
	t                    *testing.T
	withdraws, giveAgain bool
}

func (w *withdrawing) before(put []storage.Ticket) {
	i := slices.IndexFunc(put, func(t storage.Ticket) bool { return t.Grant != "" })
	if i < 0 || !w.withdraws {
		return
	}
	w.withdraws = false
	if err := w.DeleteGrant(w.t.Context(), put[i].Grant); err != nil {
		w.t.Error(err)
	}
	if !w.giveAgain {
		return
	}
	_, err := w.UpdateGrant(w.t.Context(), "ada", "app", func(g *record.Grant) error {
		g.Scope = oauth.Scope{"openid"}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
}

func (w *withdrawing) Put(ctx context.Context, now time.Time, put ...storage.Ticket) error {
	w.before(put)
	return w.database.Put(ctx, now, put...)
}

func (w *withdrawing) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	w.before(put)
	return w.database.Spend(ctx, now, spend, put...)
}

// What a request on its way stores after the consent was withdrawn is good for nothing.
func TestCN07_WhatIsStoredAfterTheConsentIsWithdrawn(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		for _, giveAgain := range []bool{false, true} {
			w := &withdrawing{database: store, t: t, giveAgain: giveAgain}
			setup := deviceSetup()
			setup.Clients = append(setup.Clients, confidential("app", func(c *record.Client) {
				c.GrantTypes = append(c.GrantTypes, "implicit")
				c.ResponseTypes = []string{"code", "code token", "token"}
			}))
			s := newSceneOn(t, setup, w, nil)

			w.withdraws = true
			s.redeem("app", s.code("ada", "app", "scope", "openid")).want(t, http.StatusBadRequest, oauth.InvalidGrant)

			for _, responseType := range []string{"token", "code token"} {
				w.withdraws = true
				location, err := s.authorize("ada", query("app", "scope", "openid", "response_type", responseType)).Location()
				if err != nil {
					t.Fatal(err)
				}
				fragment, err := url.ParseQuery(location.Fragment)
				if err != nil || fragment.Get("error") != "access_denied" || fragment.Get("access_token") != "" || fragment.Get("code") != "" {
					t.Errorf("response_type=%s: %s", responseType, location)
				}
			}

			if giveAgain {
				continue // the device's client has no grant to give again
			}
			device, user := s.deviceCodes()
			w.withdraws = true
			s.approve(user)
			s.post("/token", "", "client_id", "tv", "grant_type", oauth.GrantTypeDeviceCode, "device_code", device).want(t, http.StatusBadRequest, oauth.InvalidGrant)
		}
	})
}
