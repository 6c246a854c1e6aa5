package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

const (
	// defaultBackendBody limits the body of a request to an API.
	defaultBackendBody = 10 << 20
	// backendTimeout is the timeout for the header of an API's response.
	backendTimeout = time.Minute
	// csrfHeader proves that a request comes from the application's own script, for browsers
	// that do not send the request's origin: other origins cannot set it without a preflight
	// (RFC 10017, section 6.1).
	csrfHeader = "X-CSRF"
)

// BackendConfig configures a Backend. Party and APIs are required.
type BackendConfig struct {
	// Party signs users in and keeps their tokens.
	Party *RelyingParty
	// APIs maps path prefixes, with a slash at both ends, to the URLs that replace them, for
	// example "/api/": "https://api.example.com/v1/". Requests go to no other URL.
	APIs map[string]string
	// MaxBodyBytes limits the body of a request; zero means 10 MiB.
	MaxBodyBytes int64
	// Transport sends the requests to the APIs; nil means http.DefaultTransport, with a
	// timeout of one minute for response headers if it is an *http.Transport.
	Transport http.RoundTripper
}

// Backend is the backend for frontend (BFF) of a single-page application (RFC 10017, section
// 6.1). Tokens stay in the backend; the browser only has a cookie that scripts cannot read.
// It is an http.Handler for the paths of its RelyingParty, for those of the APIs, and for
//
//	session   in the same directory as the RelyingParty's paths: the signed-in user as JSON,
//	          with sub and claims; 401 without a session
//
// A request to an API is forwarded with the user's access token and without the browser's
// cookies. The API's cookies are removed from the response. Without a session, or if the
// provider has ended it, the response is 401 with the JSON {"error": "sign_in"}: send the
// browser to sign-in. If the API requires a stronger or newer sign-in (RFC 9470), it is 401 with
// {"error": "step_up", "sign_in": PATH}: send the browser to PATH, with return_to as above. Other
// errors of the backend have the same form.
//
// Requests must come from the application's own origin. Current browsers send it; for other
// browsers, scripts add the header "X-CSRF: 1". WebSockets, and requests for scripts and style
// sheets, are not forwarded. A Backend is safe for concurrent use.
type Backend struct {
	party   *RelyingParty
	apis    map[string]*httputil.ReverseProxy
	maxBody int64
	logger  *slog.Logger
}

// NewBackend checks the configuration and returns a Backend. It sends no request.
func NewBackend(config BackendConfig) (*Backend, error) {
	if config.Party == nil || len(config.APIs) == 0 {
		return nil, errors.New("client: BackendConfig requires Party and APIs")
	}
	b := &Backend{party: config.Party, apis: map[string]*httputil.ReverseProxy{}, maxBody: config.MaxBodyBytes, logger: config.Party.logger}
	if b.maxBody == 0 {
		b.maxBody = defaultBackendBody
	}
	transport := config.Transport
	if transport == nil {
		transport = defaultTransport()
	}
	for prefix, address := range config.APIs {
		target, err := url.Parse(address)
		switch {
		case err != nil || target.Host == "" || !secure(target) || target.User != nil || target.RawQuery != "" || target.Fragment != "":
			return nil, fmt.Errorf("client: the URL of the API at %q must be https and have no query", prefix)
		case len(prefix) < 3 || prefix[0] != '/' || !strings.HasSuffix(prefix, "/") || path.Clean(prefix)+"/" != prefix:
			return nil, fmt.Errorf("client: the API path %q must start and end with a slash", prefix)
		case strings.HasPrefix(b.party.base, prefix) || strings.HasPrefix(prefix, b.party.base):
			return nil, fmt.Errorf("client: the API path %q overlaps the sign-in paths at %q", prefix, b.party.base)
		}
		b.apis[prefix] = b.proxy(prefix, target, transport)
	}
	return b, nil
}

// defaultTransport returns http.DefaultTransport with a timeout for response headers. If the
// program has replaced it by another kind of RoundTripper, for example for tracing, that is
// used unchanged.
func defaultTransport() http.RoundTripper {
	standard, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	own := standard.Clone()
	own.ResponseHeaderTimeout = backendTimeout
	return own
}

// ServeHTTP serves the paths of the backend. Other paths are not found.
func (b *Backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == b.party.base+"session" {
		b.ownOrigin(b.party.Load(http.HandlerFunc(b.session))).ServeHTTP(w, r)
		return
	}
	var api *httputil.ReverseProxy
	longest := ""
	for prefix, proxy := range b.apis {
		if strings.HasPrefix(r.URL.Path, prefix) && len(prefix) > len(longest) {
			api, longest = proxy, prefix
		}
	}
	if api == nil {
		b.party.ServeHTTP(w, r)
		return
	}
	if !plainPath(r.URL) || !mayForward(r) {
		writeBackendError(w, http.StatusBadRequest, "not_passed_on")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, b.maxBody)
	b.ownOrigin(b.party.Load(b.signedIn(api))).ServeHTTP(w, r)
}

// mayForward reports whether a request may be forwarded. The response to TRACE would contain
// the token (RFC 9110, section 9.3.8). Content of an API may come from other users, so it must
// not run as a script of the application.
func mayForward(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Dest") {
	case "script", "worker", "sharedworker", "serviceworker", "audioworklet", "paintworklet", "style", "xslt":
		return false
	}
	return r.Header.Get("Upgrade") == "" && r.Method != http.MethodTrace && r.Method != http.MethodConnect
}

// plainPath reports whether all servers and proxies interpret a path in the same way: it has
// no encoded dots or slashes that could lead out of the prefix.
func plainPath(u *url.URL) bool {
	clean := path.Clean(u.Path)
	if strings.HasSuffix(u.Path, "/") && clean != "/" {
		clean += "/"
	}
	escaped := strings.ToLower(u.EscapedPath())
	for _, hidden := range []string{"%2f", "%5c", "%2e", "%00", "%25"} {
		if strings.Contains(escaped, hidden) {
			return false
		}
	}
	return clean == u.Path && !strings.ContainsAny(u.Path, "\\;\x00")
}

// ownOrigin accepts only requests from the application's own pages, for every method: at some
// APIs, a GET changes something too.
func (b *Backend) ownOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		foreign := origin != "" && origin != b.party.origin.String()
		switch site := r.Header.Get("Sec-Fetch-Site"); {
		case foreign || site != "" && site != "same-origin":
			writeBackendError(w, http.StatusForbidden, "cross_site")
		case site == "" && r.Header.Get(csrfHeader) == "":
			writeBackendError(w, http.StatusForbidden, "csrf_field_missing")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// session writes the signed-in user as JSON.
func (b *Backend) session(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	s := SessionFrom(r.Context())
	if s == nil {
		writeBackendError(w, http.StatusUnauthorized, "sign_in")
		return
	}
	var response struct {
		Subject string                     `json:"sub"`
		Claims  map[string]json.RawMessage `json:"claims"`
	}
	response.Subject = s.Subject
	if err := s.Decode(&response.Claims); err != nil {
		b.party.writeError(w, r, http.StatusBadGateway, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	// An error means that the browser has disconnected.
	_ = json.NewEncoder(w).Encode(response)
}

// writeBackendError writes a JSON error of the backend for a script of the application.
func writeBackendError(w http.ResponseWriter, status int, name string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// An error means that the browser has disconnected.
	_, _ = fmt.Fprintf(w, `{"error": %q}`, name)
}

// signedIn adds the user's access token to a request. The browser never gets it.
func (b *Backend) signedIn(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := SessionFrom(r.Context())
		if s == nil {
			writeBackendError(w, http.StatusUnauthorized, "sign_in")
			return
		}
		tokens, err := s.Source().Tokens(r.Context())
		if errors.Is(err, ErrSignInAgain) {
			writeBackendError(w, http.StatusUnauthorized, "sign_in")
			return
		}
		if err != nil {
			b.logger.WarnContext(r.Context(), "getting the access token of a session failed", "error", err)
			writeBackendError(w, http.StatusBadGateway, "provider_unreachable")
			return
		}
		// Not in the header of r, which other handlers can see.
		api.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), accessTokenKey{}, tokens)))
	})
}

type accessTokenKey struct{}

// proxy forwards requests to one API.
func (b *Backend) proxy(prefix string, target *url.URL, transport http.RoundTripper) *httputil.ReverseProxy {
	base := *target
	base.Path = strings.TrimSuffix(base.Path, "/") + "/"
	return &httputil.ReverseProxy{
		Transport: finalResponses{transport, b.party.client.prover},
		Rewrite: func(p *httputil.ProxyRequest) {
			to := base
			to.Path += strings.TrimPrefix(p.In.URL.Path, prefix)
			to.RawQuery = p.In.URL.RawQuery
			p.Out.URL, p.Out.Host = &to, ""
			for _, name := range []string{"Cookie", csrfHeader, "Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-User", "Proxy-Authorization"} {
				p.Out.Header.Del(name)
			}
			p.SetXForwarded()
			p.Out.Header.Set("X-Forwarded-Host", b.party.origin.Host)
			p.Out.Header.Set("X-Forwarded-Proto", b.party.origin.Scheme)
			// finalResponses sets them: headers that the browser lists in Connection are removed
			// before.
			p.Out.Header.Del("Authorization")
			p.Out.Header.Del("DPoP")
		},
		ModifyResponse: func(response *http.Response) error {
			path, err := b.party.StepUpPath(response, "")
			if err != nil {
				return err
			}
			if err := fromAPI(response); err != nil || path == "" {
				return err
			}
			return replaceByStepUp(response, path)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			status, name := http.StatusBadGateway, "api_unreachable"
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				status, name = http.StatusRequestEntityTooLarge, "too_large"
			}
			b.logger.WarnContext(r.Context(), "request to the API failed", "path", prefix, "error", err)
			writeBackendError(w, status, name)
		},
		ErrorLog: slog.NewLogLogger(b.logger.Handler(), slog.LevelWarn),
	}
}

// cachedByBrowser returns the Cache-Control for an API's response. The browser's request has
// no Authorization header, which would keep shared caches from storing the response (RFC 9111,
// section 3.5).
func cachedByBrowser(policy string) string {
	if policy == "" {
		return "no-store"
	}
	for directive := range strings.SplitSeq(strings.ToLower(policy), ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch name {
		case "public", "s-maxage", "private", "no-store":
			return policy // the API has decided about shared caches
		}
	}
	return policy + ", private"
}

// originHeaders are response headers that affect a whole origin, in the browser or in a reverse
// proxy.
var originHeaders = []string{
	"Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Service-Worker-Allowed", "Strict-Transport-Security", "Refresh",
	"Alt-Svc", "NEL", "Report-To", "Reporting-Endpoints", "Content-Security-Policy-Report-Only", "Accept-CH", "Critical-CH",
	"Origin-Agent-Cluster", "Set-Login", "Sec-Session-Registration", "CDN-Cache-Control", "Surrogate-Control",
	"X-Accel-Redirect", "X-Accel-Expires", "X-Accel-Buffering", "X-Sendfile",
}

// replaceByStepUp replaces the response of an API by an error of the backend.
func replaceByStepUp(response *http.Response, path string) error {
	body, err := json.Marshal(map[string]string{"error": "step_up", "sign_in": path})
	if err != nil {
		return fmt.Errorf("client: encode the error of the backend: %w", err)
	}
	response.Body.Close()
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	response.TransferEncoding, response.Trailer = nil, nil
	for _, name := range []string{"Content-Encoding", "ETag", "Last-Modified", "Trailer"} {
		response.Header.Del(name)
	}
	response.Header.Set("Content-Type", "application/json")
	response.Header.Set("Content-Length", strconv.Itoa(len(body)))
	response.Header.Set("Cache-Control", "no-store")
	return nil
}

// finalResponses hides interim responses (1xx) from ReverseProxy, which would forward them
// unfiltered and lose the headers that were set before. HTTP traces in the request's context
// therefore do not see the calls to the API.
//
// It also adds the access token, with a proof if the token is bound to a key.
type finalResponses struct {
	base   http.RoundTripper
	prover *prover
}

func (f finalResponses) RoundTrip(r *http.Request) (*http.Response, error) {
	tokens, ok := r.Context().Value(accessTokenKey{}).(*Tokens)
	if !ok { // signedIn has set them
		return nil, errors.New("client: the request has no access token")
	}
	return f.prover.roundTrip(f.base, r.WithContext(untraced{r.Context()}), tokens)
}

type untraced struct{ context.Context }

func (u untraced) Value(key any) any {
	value := u.Context.Value(key)
	if _, ok := value.(*httptrace.ClientTrace); ok {
		return nil
	}
	return value
}

// fromAPI filters a response of an API, so that it cannot do on the application's origin what
// only the application may: set cookies, run as a page, ask for a password, or be cached for
// other users.
func fromAPI(response *http.Response) error {
	h := response.Header
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			h.Del(name)
		}
	}
	for _, name := range originHeaders {
		h.Del(name)
	}
	h.Del("DPoP-Nonce") // the browser has no key
	fields := h["Www-Authenticate"]
	h.Del("WWW-Authenticate")
	for _, field := range fields {
		for _, challenge := range oauth.ParseChallenges(field) {
			if strings.EqualFold(challenge.Scheme, "Bearer") { // for other schemes, browsers ask the user for a password
				h.Add("WWW-Authenticate", challenge.String())
			}
		}
	}
	h.Set("Cache-Control", cachedByBrowser(strings.Join(h["Cache-Control"], ", ")))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	return nil
}
