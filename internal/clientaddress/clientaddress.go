// Package clientaddress finds the address that a request comes from, also behind proxies
// that the operator trusts.
package clientaddress

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// The headers in which a proxy reports a client's address.
const (
	HeaderXForwardedFor = "X-Forwarded-For"
	HeaderForwarded     = "Forwarded" // RFC 7239
)

// Proxies are the networks whose reports about a client's address are trusted, none unless
// configured, and the one header that contains them.
type Proxies struct {
	networks []netip.Prefix
	header   string
}

// New returns the proxies of networks in text form. An empty header is X-Forwarded-For.
func New(networks []string, header string) (Proxies, error) {
	p := Proxies{header: header}
	switch header {
	case "":
		p.header = HeaderXForwardedFor
	case HeaderXForwardedFor, HeaderForwarded:
	default:
		return p, fmt.Errorf("%q is neither %s nor %s", header, HeaderXForwardedFor, HeaderForwarded)
	}
	var err error
	p.networks, err = ParseNetworks(networks)
	return p, err
}

// ParseNetworks parses IP addresses and networks.
func ParseNetworks(texts []string) (networks []netip.Prefix, err error) {
	for _, s := range texts {
		network, err := ParseNetwork(s)
		if err != nil {
			return nil, err
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// ParseNetwork parses a network, or an IP address, which is a network of one address.
func ParseNetwork(s string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(s); err == nil {
		return prefix.Masked(), nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an IP address nor a network (for example, 10.0.0.0/8)", s)
	}
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

// Trusted reports whether an address is that of a trusted proxy.
func (p Proxies) Trusted(a netip.Addr) bool {
	return slices.ContainsFunc(p.networks, func(network netip.Prefix) bool { return network.Contains(a) })
}

// Of returns the address that a request comes from. In the proxies' header it is the last
// address that is not a trusted proxy's: anyone can have written what precedes it.
func (p Proxies) Of(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := peer.Addr().Unmap()
	if !p.Trusted(address) {
		return address
	}
	for _, hop := range p.hops(strings.Join(r.Header.Values(p.header), ",")) {
		forwarded, ok := parseHop(hop)
		if !ok {
			return address
		}
		address = forwarded
		if !p.Trusted(address) {
			return address
		}
	}
	return address
}

// hops returns the header's entry for each hop, the last one first.
func (p Proxies) hops(value string) []string {
	if p.header != HeaderForwarded {
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

// parseHop parses an address with or without a port, in brackets or not: proxies write all of
// these (RFC 7239, section 6, defines the brackets and the port).
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
// It reads from the right, so that a quote left open by a client does not swallow what a proxy
// appended.
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
