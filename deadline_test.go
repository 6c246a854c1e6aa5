package valetkey

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

type deadlineKey struct{}

func TestDeadline(t *testing.T) {
	start := func(t *testing.T) (*deadline, context.CancelFunc) {
		request, leave := context.WithCancel(context.WithValue(t.Context(), deadlineKey{}, "value"))
		return &deadline{Context: request, at: time.Now().Add(15 * time.Second)}, leave
	}
	for _, watched := range []bool{false, true} {
		for name, test := range map[string]struct {
			act  func(d *deadline, leave context.CancelFunc)
			want error
		}{
			"in time":                {func(*deadline, context.CancelFunc) { time.Sleep(14 * time.Second) }, nil},
			"too late":               {func(*deadline, context.CancelFunc) { time.Sleep(15 * time.Second) }, context.DeadlineExceeded},
			"the client disconnects": {func(_ *deadline, leave context.CancelFunc) { leave() }, context.Canceled},
			"the request is done":    {func(d *deadline, _ context.CancelFunc) { d.end() }, context.Canceled},
		} {
			synctest.Test(t, func(t *testing.T) {
				d, leave := start(t)
				defer leave()
				defer d.end()
				var derived context.Context = d
				if watched {
					var cancel context.CancelFunc
					derived, cancel = context.WithTimeout(d, time.Hour)
					defer cancel()
				}
				if at, ok := derived.Deadline(); !ok || at != d.at || derived.Value(deadlineKey{}) != "value" {
					t.Errorf("%s: deadline %v, value %v", name, at, derived.Value(deadlineKey{}))
				}
				test.act(d, leave)
				synctest.Wait()
				if err := derived.Err(); !errors.Is(err, test.want) {
					t.Errorf("%s, watched: %v: got %v, want %v", name, watched, err, test.want)
				}
				select {
				case <-derived.Done():
					if test.want == nil {
						t.Errorf("%s: done", name)
					}
				default:
					if test.want != nil {
						t.Errorf("%s, watched: %v: not done", name, watched)
					}
				}
			})
		}
	}
}

// Contexts are derived for each call to the database. Package context starts a goroutine for a parent
// whose implementation it does not find.
func TestDeadlineNeedsNoGoroutine(t *testing.T) {
	request, leave := context.WithCancel(t.Context())
	defer leave()
	d := &deadline{Context: request, at: time.Now().Add(time.Minute)}
	defer d.end()
	before := runtime.NumGoroutine()
	for range 50 {
		_, cancel := context.WithTimeout(d, time.Second)
		defer cancel()
	}
	if n := runtime.NumGoroutine() - before; n > 10 {
		t.Errorf("%d goroutines", n)
	}
}
