package valetkey

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// The values of Configuration.ProxyHeader.
const (
	headerXForwardedFor = "X-Forwarded-For"
	headerForwarded     = "Forwarded" // RFC 7239
)

// proxies are the networks whose word about a client's address is taken, none unless
// configured, and the one header in which they give it.
type proxies struct {
	networks []netip.Prefix
	header   string
}

func parseProxies(networks []string, header string) (proxies, error) {
	p := proxies{header: header}
	switch header {
	case "":
		p.header = headerXForwardedFor
	case headerXForwardedFor, headerForwarded:
	default:
		return p, fmt.Errorf("proxy_header: %q is neither %s nor %s", header, headerXForwardedFor, headerForwarded)
	}
	for _, network := range networks {
		prefix, err := parseNetwork(network)
		if err != nil {
			return p, fmt.Errorf("trusted_proxies: %w", err)
		}
		p.networks = append(p.networks, prefix)
	}
	return p, nil
}

func (p proxies) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(p.networks, func(network netip.Prefix) bool { return network.Contains(a) })
}

// clientAddress returns where a request comes from. Of the proxies' header it takes the last
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
	for _, hop := range p.hops(strings.Join(r.Header.Values(p.header), ",")) {
		forwarded, ok := parseHop(hop)
		if !ok {
			return address
		}
		address = forwarded
		if !p.trusted(address) {
			return address
		}
	}
	return address
}

// hops returns what the header says of each hop, the last one first.
func (p proxies) hops(value string) []string {
	if p.header != headerForwarded {
		hops := strings.Split(value, ",")
		slices.Reverse(hops)
		return hops
	}
	hops := splitQuoted(value, ',')
	for i := range hops {
		hops[i] = forwardedFor(hops[i])
	}
	return hops
}

// parseHop reads an address, with a port or without, in brackets or not: proxies write all of
// these (RFC 7239, section 6, has the brackets and the port).
func parseHop(hop string) (netip.Addr, bool) {
	hop = strings.TrimSpace(hop)
	if withPort, err := netip.ParseAddrPort(hop); err == nil {
		return withPort.Addr().Unmap().WithZone(""), true
	}
	if inner, ok := strings.CutPrefix(hop, "["); ok {
		if hop, ok = strings.CutSuffix(inner, "]"); !ok || !strings.Contains(hop, ":") {
			return netip.Addr{}, false
		}
	}
	address, err := netip.ParseAddr(hop)
	return address.Unmap().WithZone(""), err == nil
}

// forwardedFor returns the for parameter of one element of Forwarded (RFC 7239, section 4);
// "" if it has none, or more than one.
func forwardedFor(element string) string {
	found := ""
	for _, pair := range splitQuoted(element, ';') {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if !strings.EqualFold(name, "for") {
			continue
		}
		if found != "" {
			return ""
		}
		found = value
	}
	if inner, ok := strings.CutPrefix(found, `"`); ok {
		if found, ok = strings.CutSuffix(inner, `"`); !ok || strings.ContainsAny(found, `"\`) {
			return ""
		}
	}
	return found
}

// splitQuoted splits at a separator outside of quoted strings and returns the last part first.
// It reads from the right, so that a quote which a stranger left open does not take in what a
// proxy wrote behind it.
func splitQuoted(value string, separator byte) []string {
	var parts []string
	quoted, end := false, len(value)
	for i := len(value) - 1; i >= 0; i-- {
		switch {
		case value[i] == '"':
			before := value[:i]
			escapes := len(before) - len(strings.TrimRight(before, `\`))
			if escapes%2 == 0 {
				quoted = !quoted
			}
		case value[i] == separator && !quoted:
			parts = append(parts, value[i+1:end])
			end = i
		}
	}
	return append(parts, value[:end])
}
