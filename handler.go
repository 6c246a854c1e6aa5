package valetkey

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/clientaddress"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/probe"
)

// strictTransport makes browsers use https for a year (RFC 6797). net/http does not modify it.
var strictTransport = []string{"max-age=31536000"}

// requestTimeout limits a request, including its calls to the database and to other servers.
// Those have shorter deadlines of their own, so that there is time to report what did not
// respond.
const requestTimeout = 15 * time.Second

// ServeHTTP handles all requests at and below the issuer's URL.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.telemetry != nil || s.logsRequests(r.Context()) {
		s.serveObserved(w, r)
		return
	}
	ctx := &deadline{}
	ctx.begin(s, r, time.Now(), ctx)
	defer ctx.end()
	s.handle(ctx, w, r)
}

// handle handles a request. ctx is its context.
func (s *Server) handle(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	defer s.recovered(ctx, w, r)
	switch r.URL.Path {
	case "/healthz":
		s.healthy(w)
		return
	case "/readyz":
		s.ready(w, r)
		return
	}
	if len(r.Header[probe.Header]) > 0 && s.probed(w, r) {
		return
	}
	// The issuer comes from the configuration, never from the request. A request for another
	// host comes from a page that uses DNS rebinding, or from a misconfigured proxy.
	if r.Host != s.host && !sameHost(r.Host, s.host) && !s.forMutualTLS(r) {
		http.Error(w, "This server only handles requests for "+s.config.Issuer+".", http.StatusMisdirectedRequest)
		return
	}
	s.warnOfProxy(r)
	r = r.WithContext(ctx)
	if s.secure {
		w.Header()["Strict-Transport-Security"] = strictTransport
	}
	if s.engine.Handles(r.URL.Path) {
		routed(w, r.URL.Path)
		s.engine.ServeHTTP(w, r)
		return
	}
	if s.servesManagement(r) {
		s.management.ServeHTTP(w, r)
		routed(w, r.Pattern)
		return
	}
	if s.console.Handles(r.URL.Path) {
		s.console.ServeHTTP(w, r)
		routed(w, s.console.Route(r.URL.Path))
		return
	}
	s.pages.ServeHTTP(w, r)
}

// sameHost compares hosts without case and default ports.
func sameHost(a, b string) bool {
	trim := func(host string) string {
		for _, port := range [...]string{":443", ":80"} {
			if name, ok := strings.CutSuffix(host, port); ok && (!strings.Contains(name, ":") || strings.HasSuffix(name, "]")) {
				return name
			}
		}
		return host
	}
	return strings.EqualFold(trim(a), trim(b))
}

// recovered turns a panic into a response and a log entry with the same reference.
func (s *Server) recovered(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	failure := recover()
	if failure == nil {
		return
	}
	if failure == http.ErrAbortHandler {
		panic(failure)
	}
	ref := rand.Text()[:8]
	s.log.ErrorContext(ctx, "panic", "ref", ref, "path", r.URL.Path, "panic", failure, "stack", string(debug.Stack()))
	http.Error(w, "Internal server error. The operator can find it in the log by the reference "+ref+".", http.StatusInternalServerError)
}

// proxyWarningEvery is how often the log reports an untrusted proxy.
const proxyWarningEvery = time.Hour

// warnOfProxy logs a proxy that trusted_proxies does not name: all clients behind it appear to
// have its address, and share its rate limits.
func (s *Server) warnOfProxy(r *http.Request) {
	if len(r.Header[clientaddress.HeaderXForwardedFor]) == 0 && len(r.Header[clientaddress.HeaderForwarded]) == 0 {
		return
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || s.proxies.Trusted(peer.Addr().Unmap()) {
		return
	}
	now, last := time.Now().UnixNano(), s.warnedOfProxy.Load()
	if last != 0 && now-last < int64(proxyWarningEvery) || !s.warnedOfProxy.CompareAndSwap(last, now) {
		return
	}
	s.events.Record(r.Context(), event.ProxyNotTrusted, event.Address(peer.Addr()))
}
