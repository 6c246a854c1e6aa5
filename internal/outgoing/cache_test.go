package outgoing

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func newTestCache(load func(ctx context.Context, address string) (string, int, error)) *Cache[string] {
	return &Cache[string]{
		Load: load, Fresh: 5 * time.Minute, Serve: time.Hour, Keep: 24 * time.Hour, Rest: 30 * time.Second, Retry: 5 * time.Second, MaxBytes: 1 << 20,
	}
}

// If a host is slow or down, the stored copy is still used: for an hour without any wait, and for
// a day at most.
func TestSH05_AStoredCopyIsServedWhileTheNextOneIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		version, failure, slow := "1", error(nil), time.Duration(0)
		c := newTestCache(func(context.Context, string) (string, int, error) {
			time.Sleep(slow)
			return version, 1, failure
		})
		get := func(again bool) (string, time.Duration, error) {
			began := time.Now()
			value, err := c.Get(t.Context(), "https://a.example/", again)
			return value, time.Since(began), err
		}
		want := func(step, wantValue string, wantWait time.Duration, value string, waited time.Duration, err error) {
			t.Helper()
			if value != wantValue || waited != wantWait || err != nil {
				t.Errorf("%s: %q after %s (%v), want %q after %s", step, value, waited, err, wantValue, wantWait)
			}
		}
		value, waited, err := get(false)
		want("the first", "1", 0, value, waited, err)

		version, slow = "2", 4*time.Second
		time.Sleep(6 * time.Minute)
		value, waited, err = get(false)
		want("while the next is fetched", "1", 0, value, waited, err)
		time.Sleep(5 * time.Second)
		value, waited, err = get(false)
		want("after that", "2", 0, value, waited, err)

		version = "3"
		time.Sleep(time.Minute)
		value, waited, err = get(true)
		want("again", "3", 4*time.Second, value, waited, err)

		failure = errors.New("down")
		time.Sleep(2 * time.Hour)
		value, waited, err = get(false)
		want("old, and the host is down", "3", 4*time.Second, value, waited, err)
		value, waited, err = get(false)
		want("soon after", "3", 0, value, waited, err)

		time.Sleep(23 * time.Hour)
		if value, _, err := get(false); !errors.Is(err, failure) {
			t.Errorf("a day later: %q, %v", value, err)
		}
		failure, version = nil, "4"
		time.Sleep(5 * time.Second)
		value, waited, err = get(false)
		want("the host is back", "4", 4*time.Second, value, waited, err)
	})
}

// Requests with made-up key IDs do not cause a fetch each, and a caller that is canceled does not
// end the fetch for the others.
func TestJW06_JW26_AURLIsFetchedRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetches, failure := 0, error(nil)
		c := newTestCache(func(context.Context, string) (string, int, error) {
			fetches++
			time.Sleep(time.Second)
			return "keys", 1, failure
		})
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Get(gone, "https://a.example/", false); !errors.Is(err, context.Canceled) {
			t.Errorf("the canceled caller: %v", err)
		}
		for range 1000 {
			if _, err := c.Get(t.Context(), "https://a.example/", true); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if fetches != 1 {
			t.Errorf("1000 requests for newer keys in 10 seconds cost %d fetches", fetches)
		}
		failure = ErrFetch
		for range 1000 {
			if _, err := c.Get(t.Context(), "https://b.example/", true); err == nil {
				t.Fatal("there are keys")
			}
			time.Sleep(10 * time.Millisecond)
		}
		if fetches > 4 {
			t.Errorf("a host that was down for 16 seconds got %d requests", fetches-1)
		}
	})
}

func TestSH06_TheSizeOfACacheIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failure := error(nil)
		c := newTestCache(func(context.Context, string) (string, int, error) { return "v", 64 << 10, failure })
		get := func(i int) (string, error) {
			return c.Get(t.Context(), fmt.Sprintf("https://%d.example/", i), false)
		}
		for i := range 100 {
			if _, err := get(i); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
			if _, err := get(0); err != nil {
				t.Fatal(err)
			}
		}
		if c.bytes > c.MaxBytes || len(c.entries) < 10 {
			t.Errorf("%d entries of %d bytes", len(c.entries), c.bytes)
		}
		if c.entries["https://0.example/"] == nil || c.entries["https://1.example/"] != nil {
			t.Error("the entry in use was removed, or an unused one was not")
		}
		failure = ErrFetch
		for i := range 10_000 {
			if _, err := get(1000 + i); err == nil {
				t.Fatal("a failed fetch returns a value")
			}
		}
		if c.bytes > c.MaxBytes || c.entries["https://0.example/"] == nil {
			t.Error("failed fetches removed a good copy, or take too much memory")
		}
	})
}

// A host that hangs does not block others, nor does a site with any number of such hosts.
func TestSH05_AHostThatHangsDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate{perHost: perHost, perSite: perSite, atOnce: atOnce}
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		defer close(done)
		for i := range 1000 {
			address := fmt.Sprintf("https://%d.evil.example/", i%100)
			go func() {
				if g.enter(ctx, Host(address), Site(address)) == nil {
					<-done
					g.leave(Host(address), Site(address))
				}
			}()
		}
		synctest.Wait()
		began := time.Now()
		for range 3 {
			if err := g.enter(ctx, "good.example", "good.example"); err != nil {
				t.Fatal(err)
			}
		}
		if waited := time.Since(began); waited > 0 || g.all != perSite+3 {
			t.Errorf("waited %s; %d requests are in progress", waited, g.all)
		}
	})
}

func TestSite(t *testing.T) {
	for address, want := range map[string]string{
		"https://a.b.example.com/x":     "example.com",
		"https://EXAMPLE.com.:8443":     "example.com",
		"https://one.github.io/":        "one.github.io",
		"https://example.co.uk":         "example.co.uk",
		"https://192.0.2.7:8443/":       "192.0.2.7",
		"https://[2001:db8:1:2:3::4]/x": "2001:db8:1:2::/64",
		"https://intranet/":             "intranet",
		"\x00":                          "",
	} {
		if got := Site(address); got != want {
			t.Errorf("%q: site %q, want %q", address, got, want)
		}
	}
}
