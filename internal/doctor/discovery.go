package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/valetkey/valetkey/internal/probe"
	"github.com/valetkey/valetkey/oauth"
)

// origin returns the URL of the issuer without its path.
func (r *run) origin() string { return r.issuer.Scheme + "://" + r.issuer.Host }

// checkDiscovery reads the metadata at every address that clients try (RFC 8414, section 3; OpenID
// Connect Discovery, section 4).
func (r *run) checkDiscovery(ctx context.Context) string {
	if !r.reached {
		return "the issuer's URL does not respond"
	}
	addresses := []string{
		r.options.Issuer + oauth.WellKnownOpenIDConfiguration,
		r.origin() + oauth.WellKnownAuthorizationServer + r.issuer.Path,
	}
	if r.issuer.Path != "" {
		addresses = append(addresses, r.origin()+oauth.WellKnownOpenIDConfiguration+r.issuer.Path)
	}
	for _, address := range addresses {
		received, err := r.get(ctx, address)
		if err != nil {
			r.find("discovery.missing", "%s: %v", address, err)
			continue
		}
		r.judgeMetadata(address, received)
	}
	return ""
}

func (r *run) judgeMetadata(address string, received *response) {
	switch {
	case received.redirects():
		r.find("discovery.redirected", "%d to %s for %s", received.status, received.header.Get("Location"), address)
		return
	case received.status == http.StatusMisdirectedRequest:
		r.find("proxy.host_not_forwarded", "421 for %s: the server does not receive Host: %s", address, r.issuer.Host)
		return
	case received.status != http.StatusOK:
		if !r.found("proxy.path_changed", "proxy.not_this_server") {
			r.find("discovery.missing", "%d for %s", received.status, address)
		}
		return
	}
	if media, _, err := mime.ParseMediaType(received.header.Get("Content-Type")); err != nil || media != "application/json" {
		r.find("discovery.not_json", "Content-Type %q for %s", received.header.Get("Content-Type"), address)
		return
	}
	var m oauth.ServerMetadata
	if err := json.Unmarshal(received.body, &m); err != nil {
		r.find("discovery.not_json", "%s: %v", address, err)
		return
	}
	// RFC 8414, section 3.3.
	if m.Issuer != r.options.Issuer {
		r.find("issuer.mismatch", "%s has the issuer %q", address, m.Issuer)
		return
	}
	// No address is asked that is not the issuer's: who answers in its place must not choose one.
	for _, endpoint := range []string{m.JWKSURI, m.TokenEndpoint} {
		if u, err := url.Parse(endpoint); err != nil || u.Scheme != r.issuer.Scheme || u.Host != r.issuer.Host {
			r.find("issuer.mismatch", "%s names the endpoint %s, which is elsewhere", address, endpoint)
			return
		}
	}
	if r.metadata == nil {
		r.metadata = &m
	}
}

const noMetadata = "there is no metadata"

// foreignOrigin is the origin of an application.
const foreignOrigin = "https://application.example"

// checkCORS requests what applications in browsers need, as they do (Fetch, section 4.10).
func (r *run) checkCORS(ctx context.Context) string {
	if r.metadata == nil {
		return noMetadata
	}
	for _, address := range []string{r.options.Issuer + oauth.WellKnownOpenIDConfiguration, r.metadata.JWKSURI} {
		received, err := r.get(ctx, address, "Origin", foreignOrigin)
		if err != nil {
			return err.Error()
		}
		if received.status != http.StatusOK {
			continue // another check has reported it
		}
		r.judgeOrigin(address, received.header.Values("Access-Control-Allow-Origin"))
	}
	received, err := do(ctx, r.client.outside, http.MethodOptions, r.metadata.TokenEndpoint, nil,
		"Origin", foreignOrigin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,dpop")
	if err != nil {
		return err.Error()
	}
	allowed := strings.ToLower(strings.Join(received.header.Values("Access-Control-Allow-Headers"), ","))
	switch origins := received.header.Values("Access-Control-Allow-Origin"); {
	case received.redirects(): // checkTokenEndpoint reports it
	case received.status < 200 || received.status > 299 || len(origins) == 0:
		r.find("cors.preflight", "OPTIONS %s: %d, Access-Control-Allow-Origin %q", r.metadata.TokenEndpoint, received.status, origins)
	case !strings.Contains(allowed, "authorization") || !strings.Contains(allowed, "dpop"):
		r.find("cors.preflight", "OPTIONS %s allows the headers %q, which lack Authorization or DPoP", r.metadata.TokenEndpoint, allowed)
	default:
		r.judgeOrigin(r.metadata.TokenEndpoint, origins)
	}
	return ""
}

func (r *run) judgeOrigin(address string, origins []string) {
	switch {
	case len(origins) == 0:
		r.find("cors.missing", "no Access-Control-Allow-Origin for %s", address)
	case len(origins) > 1 || strings.Contains(origins[0], ","):
		r.find("cors.doubled", "Access-Control-Allow-Origin: %s for %s", strings.Join(origins, ", "), address)
	case origins[0] != "*" && origins[0] != foreignOrigin:
		r.find("cors.missing", "Access-Control-Allow-Origin: %s for %s", origins[0], address)
	}
}

// checkTokenEndpoint sends a token request without a client, which the server refuses.
func (r *run) checkTokenEndpoint(ctx context.Context) string {
	if r.metadata == nil {
		return noMetadata
	}
	address := r.metadata.TokenEndpoint
	received, err := do(ctx, r.client.outside, http.MethodPost, address, []byte("grant_type=authorization_code"),
		"Content-Type", "application/x-www-form-urlencoded", "Accept-Encoding", "gzip, br, zstd")
	if err != nil {
		r.find("token.blocked", "POST %s: %v", address, err)
		return ""
	}
	if received.redirects() {
		r.find("token.redirected", "%d to %s for POST %s", received.status, received.header.Get("Location"), address)
		return ""
	}
	encoding := received.header.Get("Content-Encoding")
	if r.answer != nil && encoding == "" {
		// Some proxies do not compress errors.
		if _, good, _ := r.ask(ctx, probe.Question{}, http.MethodPost, "/token", nil, "Accept-Encoding", "gzip, br, zstd"); good != nil {
			encoding = good.header.Get("Content-Encoding")
		}
	}
	if encoding != "" {
		r.find("token.compressed", "Content-Encoding: %s", encoding)
	}
	if media, _, _ := mime.ParseMediaType(received.header.Get("Content-Type")); media != "application/json" || received.status != 400 && received.status != 401 {
		r.find("token.blocked", "%d with Content-Type %q for POST %s", received.status, received.header.Get("Content-Type"), address)
		return ""
	}
	// RFC 6749, section 5.1.
	if cache := strings.Join(received.header.Values("Cache-Control"), ", "); !strings.Contains(cache, "no-store") || received.header.Get("Age") != "" {
		r.find("token.cacheable", "Cache-Control: %s, Age: %q", cache, received.header.Get("Age"))
	}
	return ""
}

// checkPages requests a page and looks for the headers that protect it.
func (r *run) checkPages(ctx context.Context) string {
	if r.metadata == nil {
		return noMetadata
	}
	received, err := r.get(ctx, r.options.Issuer+"/sign-in")
	if err != nil {
		return err.Error()
	}
	if received.status != http.StatusOK {
		return fmt.Sprintf("the sign-in page responds with %d", received.status)
	}
	if policies := received.header.Values("Content-Security-Policy"); len(policies) == 0 || !strings.Contains(policies[0], "frame-ancestors") {
		r.find("headers.content_security_policy", "Content-Security-Policy: %q", strings.Join(policies, ", "))
	} else if len(policies) > 1 {
		r.find("headers.content_security_policy_doubled", "%d headers Content-Security-Policy", len(policies))
	}
	if r.issuer.Scheme == "https" && received.header.Get("Strict-Transport-Security") == "" {
		r.find("headers.strict_transport_security", "no Strict-Transport-Security for %s", r.options.Issuer+"/sign-in")
	}
	if !strings.Contains(received.header.Get("Cache-Control"), "no-store") {
		r.find("pages.cacheable", "Cache-Control: %q", received.header.Get("Cache-Control"))
	}
	return ""
}

// checkHTTP looks at the port that redirects http to https.
func (r *run) checkHTTP(ctx context.Context) string {
	if r.options.HTTPPort == 0 {
		return "the port for http is not known (--http-port)"
	}
	host := r.issuer.Hostname()
	base := "http://" + net.JoinHostPort(host, strconv.Itoa(r.options.HTTPPort)) + r.issuer.Path
	target := base
	if r.options.ConnectTo != "" {
		connect, _, err := net.SplitHostPort(r.options.ConnectTo)
		if err != nil {
			return err.Error()
		}
		target = "http://" + net.JoinHostPort(connect, strconv.Itoa(r.options.HTTPPort)) + r.issuer.Path
	}
	hostHeader := host
	if r.options.HTTPPort != 80 {
		hostHeader = net.JoinHostPort(host, strconv.Itoa(r.options.HTTPPort))
	}
	received, err := do(ctx, r.client.direct, http.MethodGet, target+"/sign-in", nil, "Host", hostHeader)
	if err != nil {
		return "nothing responds at " + base // which is secure
	}
	if received.status == http.StatusOK {
		r.find("http.not_redirected", "%d for %s/sign-in", received.status, base)
		return ""
	}
	received, err = do(ctx, r.client.direct, http.MethodPost, target+"/token", []byte("grant_type=authorization_code"),
		"Host", hostHeader, "Content-Type", "application/x-www-form-urlencoded")
	if err == nil && (received.status == http.StatusMovedPermanently || received.status == http.StatusFound) {
		r.find("http.redirect_loses_post", "%d for POST %s/token, which makes clients send GET", received.status, base)
	}
	return ""
}
