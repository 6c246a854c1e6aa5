package authserver_test

import (
	"net/http"
	"testing"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// A user who leaves the groups of a client gets no more tokens, neither for a code that is under way nor for a
// refresh token, and gets them again after coming back.
func TestAUserWhoLeftTheGroupsGetsNoMoreTokens(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("wiki", func(c *record.Client) { c.AllowedGroups = []string{"staff"} })}})
	s.users["ada"] = oauth.Claims{"groups": []string{"staff", "chess"}}
	a := s.redeem("wiki", s.code("ada", "wiki"))
	a.want(t, http.StatusOK, "")
	code := s.code("ada", "wiki")
	s.users["ada"] = oauth.Claims{"groups": []string{"chess"}}
	s.redeem("wiki", code).want(t, http.StatusBadRequest, oauth.AccessDenied)
	s.refresh("wiki", a.RefreshToken).want(t, http.StatusBadRequest, oauth.AccessDenied)
	s.users["ada"] = oauth.Claims{"groups": []any{"staff"}} // as read from a database
	s.refresh("wiki", a.RefreshToken).want(t, http.StatusOK, "")
}
