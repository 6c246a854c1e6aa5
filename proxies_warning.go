package valetkey

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/internal/event"
)

// proxyWarningEvery is how often the log says that a proxy is not trusted.
const proxyWarningEvery = time.Hour

// warnOfProxy tells the operator of a proxy that trusted_proxies does not name: everybody
// behind it has its address, and is limited as one.
func (s *Server) warnOfProxy(r *http.Request) {
	if len(r.Header[headerXForwardedFor]) == 0 && len(r.Header[headerForwarded]) == 0 {
		return
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || s.proxies.trusted(peer.Addr().Unmap()) {
		return
	}
	now, last := time.Now().UnixNano(), s.warnedOfProxy.Load()
	if last != 0 && now-last < int64(proxyWarningEvery) || !s.warnedOfProxy.CompareAndSwap(last, now) {
		return
	}
	s.events.Record(r.Context(), event.ProxyNotTrusted, event.Address(peer.Addr()))
}
