package outgoing

import (
	"context"
	"sync"
)

// gate limits concurrent requests by host, by site, and in total. A request holds nothing while it
// waits, so a slow host delays only itself.
type gate struct {
	perHost, perSite, atOnce int

	mu      sync.Mutex
	all     int
	hosts   map[string]int
	sites   map[string]int
	changed chan struct{} // closed when a request ends
}

// enter waits until the request may start. Call leave when it has ended.
func (g *gate) enter(ctx context.Context, host, site string) error {
	for {
		g.mu.Lock()
		if g.hosts[host] < g.perHost && g.sites[site] < g.perSite && g.all < g.atOnce {
			if g.hosts == nil {
				g.hosts, g.sites = map[string]int{}, map[string]int{}
			}
			g.hosts[host]++
			g.sites[site]++
			g.all++
			g.mu.Unlock()
			return nil
		}
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *gate) leave(host, site string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hosts[host]--; g.hosts[host] == 0 {
		delete(g.hosts, host)
	}
	if g.sites[site]--; g.sites[site] == 0 {
		delete(g.sites, site)
	}
	g.all--
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}
