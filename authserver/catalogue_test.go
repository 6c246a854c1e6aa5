package authserver

import (
	"net/http/httptest"
	"testing"
	"time"
)

// A request sees one catalogue, even if another one is loaded in the meantime.
func TestARequestSeesOneCatalogue(t *testing.T) {
	s := &Server{}
	load := func(version int64) *catalogue {
		loaded := &catalogue{version: version}
		loaded.checked.Store(time.Now().UnixNano())
		s.catalogueNow.Store(loaded)
		return loaded
	}
	see := func(c *call, want *catalogue) {
		t.Helper()
		if got, err := c.catalogue(); err != nil || got != want {
			t.Errorf("got version %d, %v; want version %d", got.version, err, want.version)
		}
	}
	first := load(1)
	earlier := &call{s: s, r: httptest.NewRequest("GET", "/", nil)}
	see(earlier, first)
	second := load(2)
	see(earlier, first)
	see(&call{s: s, r: httptest.NewRequest("GET", "/", nil)}, second)
}
