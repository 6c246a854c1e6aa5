package resourceserver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth/resourceserver"
)

func TestWithInteractionID(t *testing.T) {
	handler := resourceserver.WithInteractionID(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, resourceserver.InteractionID(r.Context()))
	}))
	send := func(ids ...string) string {
		r := httptest.NewRequest(http.MethodGet, "/accounts", nil)
		for _, id := range ids {
			r.Header.Add("x-fapi-interaction-id", id)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		got := w.Header().Get("x-fapi-interaction-id")
		if got != w.Body.String() {
			t.Errorf("the response has the ID %q, the context %q", got, w.Body)
		}
		return got
	}
	const id = "c770aef3-6784-41f7-8e0e-ff5f97bddb3a"
	if got := send(id); got != id {
		t.Errorf("got %q, want the ID of the request", got)
	}
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, bad := range [][]string{nil, {""}, {"a b"}, {"x\r\ny"}, {strings.Repeat("a", 65)}, {id, id}} {
		if got := send(bad...); !uuid.MatchString(got) {
			t.Errorf("for %q, got %q, want a new UUID", bad, got)
		}
	}
}
