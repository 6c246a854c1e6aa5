package client

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/oauth"
)

// Discover fetches the metadata of config.Issuer, first as an OpenID Provider (OpenID Connect
// Discovery, section 4), then as an authorization server (RFC 8414, section 3), and returns a
// client.
func Discover(ctx context.Context, config Config) (*Client, error) {
	metadata, err := discoverMetadata(ctx, config)
	if err != nil {
		return nil, err
	}
	return New(metadata, config)
}

// discoverMetadata returns metadata that is not checked yet.
func discoverMetadata(ctx context.Context, config Config) (metadata oauth.ServerMetadata, err error) {
	locations, err := metadataLocations(config.Issuer)
	if err != nil {
		return metadata, err
	}
	h := restricted(config.HTTPClient)
	for _, location := range locations {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
		if err != nil {
			return metadata, fmt.Errorf("client: %w", err)
		}
		req.Header.Set("Accept", "application/json")
		got, err := send(h, req, maxResponseBytes)
		if err != nil {
			return metadata, err
		}
		if got.status >= 400 && got.status < 500 {
			continue
		}
		if got.status != http.StatusOK {
			return metadata, fmt.Errorf("%w: %s responded with status %d", ErrMetadata, location, got.status)
		}
		if err := json.Unmarshal(got.body, &metadata); err != nil {
			return metadata, fmt.Errorf("%w: %s: %w", ErrMetadata, location, err)
		}
		return metadata, nil
	}
	return metadata, fmt.Errorf("%w: there is none at %s", ErrMetadata, strings.Join(locations, " or "))
}

func metadataLocations(issuer string) ([]string, error) {
	if err := checkIssuer(issuer); err != nil {
		return nil, err
	}
	inserted, err := oauth.WellKnownURL(issuer, oauth.WellKnownAuthorizationServer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMetadata, err)
	}
	return []string{strings.TrimSuffix(issuer, "/") + oauth.WellKnownOpenIDConfiguration, inserted}, nil
}

// checkIssuer is like oauth.CheckIssuer, but accepts a trailing slash, which some providers
// use.
func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "" || u.User != nil:
		return fmt.Errorf("%w: the issuer must be a URL such as https://login.example.com", ErrMetadata)
	case strings.ContainsAny(issuer, "?#"):
		return fmt.Errorf("%w: the issuer must not have a query or fragment (RFC 8414, section 2)", ErrMetadata)
	case !secure(u):
		return fmt.Errorf("%w: the issuer must use https; http is allowed for loopback only", ErrMetadata)
	}
	return nil
}

// checkMetadata checks that the issuer is exactly the configured one, so that no other server
// can impersonate it (RFC 8414, section 3.3), and that all endpoints use https. http is
// accepted only if the issuer itself is on loopback: a provider on the network must not make
// the client send requests to its own machine.
func checkMetadata(m *oauth.ServerMetadata, issuer string) error {
	if err := checkIssuer(issuer); err != nil {
		return err
	}
	if m.Issuer != issuer {
		return fmt.Errorf("%w: its issuer is %q, but %q is configured", ErrMetadata, sanitize(m.Issuer, 200), issuer)
	}
	plainAllowed := strings.HasPrefix(issuer, "http:")
	endpoints := m.Endpoints()
	for name, alias := range m.MTLSEndpointAliases {
		endpoints["mtls_endpoint_aliases."+name] = alias
	}
	for _, name := range slices.Sorted(maps.Keys(endpoints)) {
		u, err := url.Parse(endpoints[name])
		if err != nil || u.Host == "" || u.User != nil || strings.Contains(endpoints[name], "#") {
			return fmt.Errorf("%w: %s is not a valid URL of an endpoint", ErrMetadata, name)
		}
		if u.Scheme != "https" && (!plainAllowed || !secure(u)) {
			return fmt.Errorf("%w: %s must use https", ErrMetadata, name)
		}
	}
	return nil
}

// secure reports whether u is https, or http on loopback.
func secure(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && oauth.IsLoopbackHost(u.Hostname())
}
