package valetkey

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the networks whose word about a client's address is taken; none unless
// configured.
type proxies []netip.Prefix

func parseProxies(networks []string) (proxies, error) {
	var p proxies
	for _, network := range networks {
		prefix, err := parseNetwork(network)
		if err != nil {
			return nil, fmt.Errorf("trusted_proxies: %w", err)
		}
		p = append(p, prefix)
	}
	return p, nil
}

func (p proxies) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(network netip.Prefix) bool { return network.Contains(a) })
}

// clientAddress returns where a request comes from. Of X-Forwarded-For it takes the last
// address that no trusted proxy has: what stands before it anybody can have written.
func (p proxies) clientAddress(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := peer.Addr().Unmap()
	if !p.trusted(address) {
		return address
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		forwarded, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			return address
		}
		address = forwarded.Unmap()
		if !p.trusted(address) {
			return address
		}
	}
	return address
}
