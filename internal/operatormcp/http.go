package operatormcp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth/resourceserver"
)

// HTTPConfig configures a server over HTTP.
type HTTPConfig struct {
	Version string
	Write   bool
	// Issuer is the server whose management API is used. It issues the access tokens.
	Issuer string
	// API is the URL of the management API; "" if it is below the issuer.
	API string
	// URL is the URL at which clients find this server, and its identifier as a protected resource.
	// The configuration of the issuer has it as management.mcp_url.
	URL string
}

// maxRequest limits the body of a request, in bytes.
const maxRequest = 1 << 20

// NewHandler returns a server over streamable HTTP. It accepts access tokens for its own URL alone
// (RFC 8707), and sends each on to the management API, which checks again what it may do.
func NewHandler(config HTTPConfig) (http.Handler, error) {
	self, err := url.Parse(config.URL)
	if err != nil || self.Host == "" {
		return nil, fmt.Errorf("%q is not a URL", config.URL)
	}
	var scopes []string
	for _, p := range api.Permissions() {
		if p.Reads() || config.Write && (p == api.UsersWrite || p == api.SessionsWrite || p == api.GrantsWrite) {
			scopes = append(scopes, string(p))
		}
	}
	guard, err := resourceserver.New(resourceserver.Config{Issuer: config.Issuer, Resource: config.URL, Name: "Management of " + config.Issuer, ScopesSupported: scopes})
	if err != nil {
		return nil, err
	}
	// Redirects are not followed: the token is for the API alone.
	upstream := &http.Client{Transport: passOn{http.DefaultTransport}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	connection := &api.Connection{Issuer: config.Issuer, Base: config.API, HTTP: upstream}
	server := New(Config{Version: config.Version, Write: config.Write, Connect: func(context.Context) (*api.Connection, error) { return connection, nil }})
	// Stateless, because each request has its own token.
	streamable := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true, MaxRequestBodyBytes: maxRequest})
	mux := http.NewServeMux()
	mux.Handle("GET "+guard.MetadataPath(), guard.Metadata())
	mux.Handle(self.EscapedPath(), guard.Require()(withToken(streamable)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != self.Host { // a page with another name that leads here (DNS rebinding)
			http.Error(w, "this server is "+config.URL, http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

type tokenKey struct{}

// withToken keeps the access token of a request that guard has let through.
func withToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tokenKey{}, token)))
	})
}

// passOn sends requests with the access token of the request that is served.
type passOn struct{ base http.RoundTripper }

func (p passOn) RoundTrip(r *http.Request) (*http.Response, error) {
	token, _ := r.Context().Value(tokenKey{}).(string)
	if token == "" {
		return nil, errors.New("the request has no access token")
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return p.base.RoundTrip(r)
}
