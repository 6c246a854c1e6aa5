package doctor

import (
	"bytes"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/internal/probe"
)

const (
	// strangePath has what proxies like to change: an encoded slash and an empty segment.
	strangePath = "/doctor/a%2Fb//c"
	// forgedAddress is an address for documentation (RFC 5737), which no client has.
	forgedAddress = "203.0.113.9"
	// longBytes is the length of a request with a long state, a request object or an ID token hint, and
	// of a response with tokens.
	longBytes = 20_000
	// formBytes is nearly the largest form that the server accepts.
	formBytes = 60_000
)

// checkProxy asks the server how a request arrived.
func (r *run) checkProxy(ctx context.Context) string {
	if r.keyError != nil || !r.reached {
		return r.unanswered()
	}
	a, received, err := r.ask(ctx, probe.Question{}, http.MethodGet, strangePath, nil)
	switch {
	case err == nil:
	case received == nil:
		r.find("issuer.unreachable", "%v", err)
		return ""
	case r.direct && r.directAnswer != nil && received.redirects():
		r.find("proxy.redirected", "%d to %s for %s", received.status, received.header.Get("Location"), r.options.Issuer+strangePath)
	case r.direct && r.directAnswer != nil:
		// The server answers directly, so the proxy keeps this path or the header from it. Another path
		// tells which.
		if a, _, err = r.ask(ctx, probe.Question{}, http.MethodGet, "/sign-in", nil); err != nil {
			r.find("proxy.not_this_server", "%d from %s, which is not an answer of the server at %s", received.status, r.options.Issuer, r.backend())
			return ""
		}
		r.find("proxy.path_changed", "%d for %s, which did not reach the server", received.status, r.issuer.Path+strangePath)
	default:
		return r.unanswered()
	}
	if a == nil {
		return ""
	}
	r.answer = a
	if !strings.EqualFold(strings.TrimSuffix(a.Host, ":443"), strings.TrimSuffix(r.issuer.Host, ":443")) {
		r.find("proxy.host_not_forwarded", "the server receives Host: %s", a.Host)
	}
	if want := r.issuer.Path + strangePath; a.Target != want && !r.found("proxy.path_changed") {
		r.find("proxy.path_changed", "the server receives %s instead of %s", a.Target, want)
	}
	if r.proxied() {
		r.judgeAddress(ctx, a)
	}
	return ""
}

// proxied reports whether a proxy is in between: it ends TLS, or adds headers.
func (r *run) proxied() bool {
	return r.answer != nil && (r.issuer.Scheme == "https" && !r.answer.TLS || len(r.answer.Header) > 0)
}

// judgeAddress checks that the server sees the address of each client, and that clients cannot choose
// it.
func (r *run) judgeAddress(ctx context.Context, a *probe.Answer) {
	name := http.CanonicalHeaderKey("X-Forwarded-For")
	if c := r.options.Configuration; c != nil && c.ProxyHeader != "" {
		name = http.CanonicalHeaderKey(c.ProxyHeader)
	}
	switch {
	case len(a.Header[name]) == 0:
		r.find("proxy.forwarded_for_missing", "requests arrive without %s, from %s", name, a.Peer)
	case !a.PeerTrusted:
		r.find("proxy.untrusted_forwarded_for", "requests arrive from %s with %s, and trusted_proxies does not have that address", a.Peer, name)
	}
	if proto := a.Header["X-Forwarded-Proto"]; len(proto) > 0 && !slices.Contains(proto, r.issuer.Scheme) {
		r.find("proxy.forwarded_proto_wrong", "X-Forwarded-Proto: %s", strings.Join(proto, ", "))
	} else if len(proto) == 0 {
		r.find("proxy.forwarded_proto_missing", "requests arrive without X-Forwarded-Proto")
	}
	forged, _, err := r.ask(ctx, probe.Question{}, http.MethodGet, "/doctor", nil, "X-Forwarded-For", forgedAddress, "Forwarded", "for="+forgedAddress)
	if err == nil && forged.Address == forgedAddress && !r.ownAddressTrusted(forged.Header[name]) {
		r.find("proxy.address_forgeable", "a client that sends %s: %s is taken for that address", name, forgedAddress)
	}
}

// ownAddressTrusted reports whether the proxy appended an address of this machine, which is trusted
// here because the proxy is on it too. Then what precedes it is believed, but only from here.
func (r *run) ownAddressTrusted(values []string) bool {
	hops := strings.Split(strings.Join(values, ","), ",")
	last := strings.TrimSpace(hops[len(hops)-1])
	if strings.Contains(last, forgedAddress) {
		return false
	}
	last = strings.Trim(strings.TrimPrefix(last, "for="), `"[]`)
	address, err := netip.ParseAddr(last)
	return err == nil && address.IsLoopback()
}

// checkSizes sends long requests and asks for a long response.
func (r *run) checkSizes(ctx context.Context) string {
	if !r.reached {
		return r.unanswered()
	}
	padding := strings.Repeat("x", longBytes)
	if received, err := r.get(ctx, r.options.Issuer+"/sign-in?padding="+padding); err != nil {
		r.find("proxy.request_headers_limited", "a request with a URL of %d bytes: %v", longBytes, err)
	} else if tooLong(received.status) {
		r.find("proxy.request_headers_limited", "%d for a request with a URL of %d bytes", received.status, longBytes)
	}
	form := append([]byte("padding="), bytes.Repeat([]byte("x"), formBytes)...)
	if received, err := do(ctx, r.client.outside, http.MethodPost, r.options.Issuer+"/token", form, "Content-Type", "application/x-www-form-urlencoded"); err != nil {
		r.find("proxy.request_body_limited", "a form of %d bytes: %v", formBytes, err)
	} else if received.status == http.StatusRequestEntityTooLarge {
		r.find("proxy.request_body_limited", "%d for a form of %d bytes", received.status, formBytes)
	}
	if r.answer == nil {
		return ""
	}
	a, received, err := r.ask(ctx, probe.Question{HeaderBytes: longBytes}, http.MethodGet, "/doctor", nil)
	switch {
	case a != nil && len(received.header.Get(probe.PaddingHeader)) == longBytes:
	case received != nil:
		r.find("proxy.response_headers_limited", "%d instead of a response with headers of %d bytes", received.status, longBytes)
	default:
		r.find("proxy.response_headers_limited", "a response with headers of %d bytes: %v", longBytes, err)
	}
	return ""
}

// tooLong reports whether a status means that a request is too long.
func tooLong(status int) bool {
	return status == http.StatusRequestURITooLong || status == http.StatusRequestHeaderFieldsTooLarge ||
		status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status >= 500
}
