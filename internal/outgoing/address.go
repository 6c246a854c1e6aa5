package outgoing

import (
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/valetkey/valetkey/internal/ratelimit"
)

// notPublic are ranges that the predicates of net/netip do not cover: shared and reserved
// IPv4, benchmarks, documentation, and IPv6 forms that contain an IPv4 address
// (RFC 6052, RFC 8215, RFC 3056, RFC 4380).
func notPublic() []string {
	return []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32",
		"2001:db8::/32", "2002::/16", "::/96", "fec0::/10",
	}
}

func publicAddress(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return false
	}
	for _, prefix := range notPublic() {
		if netip.MustParsePrefix(prefix).Contains(a) {
			return false
		}
	}
	return true
}

// Host returns the host of a URL, in lower case and without a port; "" if it has none.
func Host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
}

// Site returns the registered domain of a URL's host, below a public suffix. Its owner can have
// any number of hosts in it. For an IP address it is the network of one party.
func Site(address string) string {
	host := Host(address)
	if ip, err := netip.ParseAddr(host); err == nil {
		return ratelimit.Network(ip)
	}
	site, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return host
	}
	return site
}
