package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// issuerRelation is the link relation of a user's issuer (OpenID Connect Discovery, section
// 2).
const issuerRelation = "http://openid.net/specs/connect/1.0/issuer"

// maxIdentifier limits an identifier that a user enters.
const maxIdentifier = 2048

// FindIssuer returns the OpenID Provider for an identifier that a user has entered, such as
// alice@example.com or https://example.com/alice. It uses WebFinger at the host of the
// identifier (OpenID Connect Discovery, section 2; RFC 7033). Pass the result to Discover.
//
// The user chooses the host that gets the request. On a server, pass an httpClient that cannot
// reach internal hosts; nil means http.DefaultTransport.
func FindIssuer(ctx context.Context, identifier string, httpClient *http.Client) (string, error) {
	resource, host, err := normalizeIdentifier(identifier)
	if err != nil {
		return "", fmt.Errorf("client: identifier: %w", err)
	}
	location := url.URL{
		Scheme: "https", Host: host, Path: "/.well-known/webfinger",
		RawQuery: url.Values{"resource": {resource}, "rel": {issuerRelation}}.Encode(),
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	req.Header.Set("Accept", "application/jrd+json, application/json")
	got, err := send(restricted(httpClient), req, maxResponseBytes)
	if err != nil {
		return "", err
	}
	if got.status != http.StatusOK {
		return "", fmt.Errorf("%w: %s responded with status %d", ErrResponse, host, got.status)
	}
	var document struct {
		Links []struct {
			Relation string `json:"rel"`
			Href     string `json:"href"`
		} `json:"links"`
	}
	if err := json.Unmarshal(got.body, &document); err != nil {
		return "", fmt.Errorf("%w: %s sent %s, not JSON as in RFC 7033, section 4.4", ErrResponse, host, describe(got))
	}
	for _, link := range document.Links {
		if link.Relation != issuerRelation {
			continue
		}
		if err := checkIssuer(link.Href); err != nil {
			return "", err
		}
		if !strings.HasPrefix(link.Href, "https:") {
			return "", fmt.Errorf("%w: the issuer from %s must use https", ErrMetadata, host)
		}
		return link.Href, nil
	}
	return "", fmt.Errorf("%w: %s has no issuer for this user", ErrResponse, host)
}

// normalizeIdentifier returns the resource and the host for the request (OpenID Connect
// Discovery, section 2.1.2).
func normalizeIdentifier(identifier string) (resource, host string, err error) {
	identifier = strings.TrimSpace(identifier)
	if len(identifier) > maxIdentifier || strings.ContainsFunc(identifier, func(c rune) bool { return c <= ' ' || c == '\\' || c == 0x7f }) {
		return "", "", errors.New("it is too long or contains characters that are not allowed")
	}
	switch {
	case identifier == "" || strings.ContainsAny(identifier[:1], "=@!"):
		return "", "", errors.New("it is neither an email address nor a URL")
	case strings.HasPrefix(identifier, "acct:"), !strings.ContainsAny(identifier, "/?#") && strings.Contains(identifier, "@") && !strings.Contains(identifier, "://"):
		resource = "acct:" + strings.TrimPrefix(identifier, "acct:")
		host = resource[strings.LastIndex(resource, "@")+1:]
	case strings.Contains(identifier, "://"):
		resource = identifier
	default:
		resource = "https://" + identifier
	}
	if host == "" && !strings.HasPrefix(resource, "acct:") {
		u, err := url.Parse(resource)
		if err != nil || u.Scheme != "https" {
			return "", "", errors.New("a URL must use https")
		}
		u.Fragment, u.RawFragment = "", ""
		resource, host = u.String(), u.Host
	}
	// The host must not contain anything else.
	u, err := url.Parse("https://" + host + "/")
	if err != nil || host == "" || u.Host != host || u.User != nil || u.Hostname() == "" {
		return "", "", errors.New("it has no host")
	}
	return resource, host, nil
}
