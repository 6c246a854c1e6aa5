package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

const (
	// defaultBackendBody is how much a browser may send to an API.
	defaultBackendBody = 10 << 20
	// backendTimeout is how long an API may take to begin its answer.
	backendTimeout = time.Minute
	// csrfHeader tells a script of the application from a form of somebody else, where the
	// browser does not say where a request comes from: other origins cannot set it without
	// being asked first (RFC 10017, section 6.1).
	csrfHeader = "X-CSRF"
)

// BackendConfig says what a single-page application reaches through its backend. Party and
// APIs are required.
type BackendConfig struct {
	// Party signs the people in and keeps their tokens.
	Party *RelyingParty
	// APIs are the APIs that the application calls: a path here, with a slash at both ends,
	// and the URL that takes its place, such as "/api/": "https://api.example.com/v1/".
	// Nothing else is reached.
	APIs map[string]string
	// MaxBodyBytes bounds what a browser may send in one request; zero means 10 MiB.
	MaxBodyBytes int64
	// Transport reaches the APIs; nil means http.DefaultTransport, with a minute for an
	// answer to begin if that is an *http.Transport.
	Transport http.RoundTripper
}

// Backend is the backend that a single-page application is put behind (RFC 10017, section
// 6.1): tokens stay here, and all that the browser has is a cookie that scripts cannot read.
// It is an http.Handler for the paths of its RelyingParty, for those of the APIs, and for
//
//	session   beside the RelyingParty's others: who is signed in, as JSON: sub, and claims.
//	          401 if nobody is
//
// A request to an API goes there with the person's access token, and without the browser's
// cookies; the answer comes back without cookies of the API's. Nobody signed in, or a
// session that the provider ended, is answered 401 and the JSON {"error": "sign_in"}: send
// the browser to sign-in. What else the backend refuses has the same form.
//
// Requests must come from the application's own origin. Browsers say so by themselves; for
// those that do not, scripts send the field "X-CSRF: 1". WebSockets are not passed on, nor
// requests for what would run as a script of the application. A Backend is safe for
// concurrent use.
type Backend struct {
	party   *RelyingParty
	apis    map[string]*httputil.ReverseProxy
	maxBody int64
	logger  *slog.Logger
}

// NewBackend checks the configuration. It sends no request.
func NewBackend(config BackendConfig) (*Backend, error) {
	if config.Party == nil || len(config.APIs) == 0 {
		return nil, errors.New("client: a Backend needs a Party and APIs")
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
			return nil, fmt.Errorf("client: the API at %q needs an https URL without query", prefix)
		case len(prefix) < 3 || prefix[0] != '/' || !strings.HasSuffix(prefix, "/") || path.Clean(prefix)+"/" != prefix:
			return nil, fmt.Errorf("client: %q is no path with a slash at both ends", prefix)
		case strings.HasPrefix(b.party.base, prefix) || strings.HasPrefix(prefix, b.party.base):
			return nil, fmt.Errorf("client: the API at %q is in the way of the sign-in at %q", prefix, b.party.base)
		}
		b.apis[prefix] = b.proxy(prefix, target, transport)
	}
	return b, nil
}

// defaultTransport returns http.DefaultTransport with a limit for an API that does not begin
// to answer. A program may have replaced it by another kind of RoundTripper, such as one that
// traces, which is used as it is.
func defaultTransport() http.RoundTripper {
	standard, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	own := standard.Clone()
	own.ResponseHeaderTimeout = backendTimeout
	return own
}

// ServeHTTP answers the paths of the backend, and no others.
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
	if !plainPath(r.URL) || !passedOn(r) {
		answerBrowser(w, http.StatusBadRequest, "not_passed_on")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, b.maxBody)
	b.ownOrigin(b.party.Load(b.signedIn(api))).ServeHTTP(w, r)
}

// passedOn reports whether a request is one of a script or a page, whose answer is data. What
// TRACE echoes would bring the token back (RFC 9110, section 9.3.8), and what an API has,
// somebody may have put there: it must not run as the application's own script.
func passedOn(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Dest") {
	case "script", "worker", "sharedworker", "serviceworker", "audioworklet", "paintworklet", "style", "xslt":
		return false
	}
	return r.Header.Get("Upgrade") == "" && r.Method != http.MethodTrace && r.Method != http.MethodConnect
}

// plainPath reports whether every program on the way reads a path alike: no dots or slashes
// that are hidden, so that nobody leaves the prefix behind.
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

// ownOrigin lets only the application's own pages through, whatever the method: an answer
// to a GET may change something, too.
func (b *Backend) ownOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		foreign := origin != "" && origin != b.party.origin.String()
		switch site := r.Header.Get("Sec-Fetch-Site"); {
		case foreign || site != "" && site != "same-origin":
			answerBrowser(w, http.StatusForbidden, "cross_site")
		case site == "" && r.Header.Get(csrfHeader) == "":
			answerBrowser(w, http.StatusForbidden, "csrf_field_missing")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// session says who is signed in.
func (b *Backend) session(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	s := SessionFrom(r.Context())
	if s == nil {
		answerBrowser(w, http.StatusUnauthorized, "sign_in")
		return
	}
	var answer struct {
		Subject string                     `json:"sub"`
		Claims  map[string]json.RawMessage `json:"claims"`
	}
	answer.Subject = s.Subject
	if err := s.Decode(&answer.Claims); err != nil {
		b.party.answerError(w, r, http.StatusBadGateway, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	// An error means that the browser left.
	_ = json.NewEncoder(w).Encode(answer)
}

// answerBrowser tells a script of the application why the backend did not do what it asked.
func answerBrowser(w http.ResponseWriter, status int, name string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// An error means that the browser left.
	_, _ = fmt.Fprintf(w, `{"error": %q}`, name)
}

// signedIn gives a request the person's access token, which the browser must not have.
func (b *Backend) signedIn(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := SessionFrom(r.Context())
		if s == nil {
			answerBrowser(w, http.StatusUnauthorized, "sign_in")
			return
		}
		tokens, err := s.Source().Tokens(r.Context())
		if errors.Is(err, ErrSignInAgain) {
			answerBrowser(w, http.StatusUnauthorized, "sign_in")
			return
		}
		if err != nil {
			b.logger.WarnContext(r.Context(), "no access token for a session", "error", err)
			answerBrowser(w, http.StatusBadGateway, "provider_unreachable")
			return
		}
		// Not in a field of r, which others see too.
		api.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), accessTokenKey{}, tokens.AccessToken)))
	})
}

type accessTokenKey struct{}

// proxy passes requests on to one API.
func (b *Backend) proxy(prefix string, target *url.URL, transport http.RoundTripper) *httputil.ReverseProxy {
	base := *target
	base.Path = strings.TrimSuffix(base.Path, "/") + "/"
	return &httputil.ReverseProxy{
		Transport: finalAnswers{transport},
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
			// Last: what the browser names in Connection is taken away before.
			token, _ := p.In.Context().Value(accessTokenKey{}).(string)
			p.Out.Header.Set("Authorization", "Bearer "+token)
		},
		ModifyResponse: fromAPI,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			status, name := http.StatusBadGateway, "api_unreachable"
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				status, name = http.StatusRequestEntityTooLarge, "too_large"
			}
			b.logger.WarnContext(r.Context(), "the API was not reached", "path", prefix, "error", err)
			answerBrowser(w, status, name)
		},
		ErrorLog: slog.NewLogLogger(b.logger.Handler(), slog.LevelWarn),
	}
}

// cachedByBrowser is the Cache-Control of an API's answer, for a request that no longer shows
// shared caches by an Authorization field that it is somebody's (RFC 9111, section 3.5).
func cachedByBrowser(policy string) string {
	if policy == "" {
		return "no-store"
	}
	for directive := range strings.SplitSeq(strings.ToLower(policy), ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch name {
		case "public", "s-maxage", "private", "no-store":
			return policy // the API has thought of shared caches
		}
	}
	return policy + ", private"
}

// ofTheOrigin are fields that speak for a whole origin, to the browser or to a server in
// front of it.
var ofTheOrigin = []string{
	"Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Service-Worker-Allowed", "Strict-Transport-Security", "Refresh",
	"Alt-Svc", "NEL", "Report-To", "Reporting-Endpoints", "Content-Security-Policy-Report-Only", "Accept-CH", "Critical-CH",
	"Origin-Agent-Cluster", "Set-Login", "Sec-Session-Registration", "CDN-Cache-Control", "Surrogate-Control",
	"X-Accel-Redirect", "X-Accel-Expires", "X-Accel-Buffering", "X-Sendfile",
}

// finalAnswers hides interim ones (1xx) from ReverseProxy, which would pass them on unseen
// and forget the fields that were set before. What traces HTTP does not see the API's calls.
type finalAnswers struct{ http.RoundTripper }

func (f finalAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	return f.RoundTripper.RoundTrip(r.WithContext(untraced{r.Context()}))
}

type untraced struct{ context.Context }

func (u untraced) Value(key any) any {
	value := u.Context.Value(key)
	if _, ok := value.(*httptrace.ClientTrace); ok {
		return nil
	}
	return value
}

// fromAPI keeps an answer from doing to the application's origin what only the application
// may: set cookies, run as a page, ask for a password, or be cached for somebody else.
func fromAPI(response *http.Response) error {
	h := response.Header
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			h.Del(name)
		}
	}
	for _, name := range ofTheOrigin {
		h.Del(name)
	}
	fields := h["Www-Authenticate"]
	h.Del("WWW-Authenticate")
	for _, field := range fields {
		for _, challenge := range oauth.ParseChallenges(field) {
			if strings.EqualFold(challenge.Scheme, "Bearer") { // for others a browser asks the person
				h.Add("WWW-Authenticate", challenge.String())
			}
		}
	}
	h.Set("Cache-Control", cachedByBrowser(strings.Join(h["Cache-Control"], ", ")))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	return nil
}
