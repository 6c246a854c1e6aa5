package directory

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/identity"
)

// Many sign-ins at once do not make the server believe that the directory is down.
func TestBusyIsNotDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		directories, err := New([]Config{{ID: "corp", URLs: []string{"ldaps://ldap.example"}, BindDN: "cn=a,dc=x", BindPassword: "secret", Base: "dc=x", Connections: 1}}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer directories.Close()
		d := directories.Directory("corp")
		d.searches.slots <- struct{}{} // another sign-in has the only connection
		err = d.asked(t.Context(), func(ctx context.Context) error { return d.searches.use(ctx, func(*connection) error { return nil }) })
		if !errors.Is(err, identity.ErrBusy) || d.available.isDown() {
			t.Errorf("%v, down %v", err, d.available.isDown())
		}
	})
}

// A directory that does not respond is left alone for 5 seconds, then longer, at most a minute. One
// request at a time tries it again.
func TestAvailability(t *testing.T) {
	var a availability
	now := time.Now()
	for _, rest := range []time.Duration{5, 10, 20, 40, 60, 60} {
		if !a.begin(now) {
			t.Fatalf("before a rest of %d s: not tried", rest)
		}
		a.end(now, true)
		if now = now.Add(rest*time.Second - time.Millisecond); a.begin(now) {
			t.Errorf("tried before %d s", rest)
		}
		now = now.Add(time.Millisecond)
	}
	if !a.begin(now) || a.begin(now) {
		t.Error("not exactly one request tries it again")
	}
	if !a.end(now, false) || !a.begin(now) || !a.begin(now) {
		t.Error("not available again")
	}
}
